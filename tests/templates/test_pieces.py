"""Start structures of long chains: pieces, how many candidates each gets, what they cost, which come first."""

import logging
from pathlib import Path

import pytest

from rnafold.features.pairing_cache import PairingCache
from rnafold.templates.pieces import LONGEST_WHOLE, PIECE, cut_pieces, estimate_starts, scale_count
from rnafold.training.start_library import StartLibrary
from tests.pieces.folds import make_entries


def test_any_crop_of_half_a_piece_lies_in_a_piece_and_short_chains_stay_whole() -> None:
    pieces = cut_pieces(4321)
    for first in range(4321 - PIECE // 2 + 1):
        assert any(begin <= first and first + PIECE // 2 <= end for begin, end in pieces)
    assert cut_pieces(LONGEST_WHOLE) == [(0, LONGEST_WHOLE)]


@pytest.mark.parametrize(("length", "count"), [(10, 8), (400, 8), (800, 4), (1000, 3), (5000, 2)])
def test_long_chains_get_fewer_candidates(length: int, count: int) -> None:
    # 8 up to 400 residues; 8 x 400 / 800 = 4; 8 x 400 / 1000 = 3.2; never fewer than two
    assert scale_count(8, length) == count


def test_what_starts_take_by_hand() -> None:
    # 300 residues: 16 candidates of 300 x 1 ms x 1.2; 1,500: 2 x 2 of 1500 x 1 ms x 2
    assert estimate_starts([300], (8, 8)) == pytest.approx(5.76)
    assert estimate_starts([1500], (8, 8)) == pytest.approx(12.0)
    assert estimate_starts([300, 1500], (8, 8)) == pytest.approx(17.76)


def test_what_is_made_first_is_drawn_most_for_its_time_and_the_cost_is_said_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = make_entries()
    # two chains of 76 letters are of one sequence and share their starts; one of 25 stands for a cluster of two
    clusters = {entry.target.target_id: entry.target.target_id for entry in entries} | {"1CCC_A": "x", "1DDD_A": "x"}
    library = StartLibrary(entries, tmp_path, num_templates=1, num_assemblies=2, seed=0, clusters=clusters)
    jobs = library.list_jobs(entries)
    assert [job.entry.target.target_id for job in jobs] == ["1BBB_B", "1BBB_A", "1AAA_A", "1DDD_A", "1CCC_A"]
    seconds = sum(estimate_starts([job.entry.target.length], (1, 2)) for job in jobs)
    assert library.estimate_seconds(jobs) == pytest.approx(seconds)
    with caplog.at_level(logging.INFO):
        store = library.build(entries, PairingCache(tmp_path), budget_seconds=0.0)
    assert "start structures: 5 pieces to make, about 0.0 CPU hours in 1 processes; after 0.00 h" in caplog.text
    assert "0 of 5 made in time" in caplog.text and store.count_ready() == 0
