"""Which chains of a large library are aligned: stretches against hand counts, the cap, k-mers, MMseqs2."""

import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafold import rna
from rnafold.templates import prefilter as rules
from rnafold.templates import search
from rnafold.templates.index import LibraryIndex
from rnafold.templates.library import NUM_CODES, TemplateLibrary
from rnafold.templates.prefilter import find_with_mmseqs, prefilter, score_stretches, shortlist
from rnafold.templates.search import ProfileAligner, build_profile_scores, pairing_states, search_chain
from tests.pieces.folds import FOLDS, make_entries, make_entry, make_pairing


@pytest.fixture(scope="module")
def index() -> LibraryIndex:
    return LibraryIndex(TemplateLibrary.from_entries(make_entries()))


def _plain_stretch(profile: np.ndarray, codes: np.ndarray) -> float:
    """The best sum over any part of any diagonal, written out plainly."""
    best = 0.0
    for first_query in range(len(profile)):
        for first_code in range(len(codes)):
            total = 0.0
            for row, code in zip(profile[first_query:], codes[first_code:]):
                total += row[code]
                best = max(best, total)
    return best


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 9), seed=st.integers(0, 10**6), block=st.sampled_from([1, 40, 1 << 16]))
def test_stretches_are_those_of_a_plain_count_whatever_is_worked_on_at_once(rows: int, seed: int, block: int) -> None:
    index = LibraryIndex(TemplateLibrary.from_entries(make_entries()))
    profile = np.random.default_rng(seed).normal(size=(rows, NUM_CODES)).round(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "BLOCK_RESIDUES", block)
        found = score_stretches(index, profile, np.arange(index.library.num_chains))
    expected = [_plain_stretch(profile, index.codes_of(chain)) for chain in range(index.library.num_chains)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_stretch_never_runs_from_one_chain_into_the_next() -> None:
    # GGGG ends one chain and CCCC begins the next: GGGGCCCC is in neither.
    entries = [make_entry("1AAA_A", "AAAAGGGG", "........", "2001-01-01")]
    entries.append(make_entry("1BBB_A", "CCCCAAAA", "........", "2001-01-01"))
    index = LibraryIndex(TemplateLibrary.from_entries(entries))
    tokens = rna.encode_sequence("GGGGCCCC")
    profile = build_profile_scores(tokens, np.zeros((8, 3)), 0.0)
    # four matches of 2
    assert score_stretches(index, profile, np.arange(2)).tolist() == [8.0, 8.0]


def _grow(num_others: int) -> LibraryIndex:
    """A library of the folds and random hairpins beside them."""
    rng = np.random.default_rng(1)
    entries = make_entries()
    for number in range(num_others):
        stem = "".join(rng.choice(list("ACGU"), 8))
        other = stem[::-1].translate(str.maketrans("ACGU", "UGCA"))
        entries.append(make_entry(f"2{number:03d}_A", f"{stem}GAAA{other}", "((((((((....))))))))", "2001-01-01"))
    return LibraryIndex(TemplateLibrary.from_entries(entries))


def test_what_is_aligned_does_not_grow_with_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "ALIGNED_RESIDUES", 500)
    aligned: list[int] = []
    original = ProfileAligner.score

    def spy(self: ProfileAligner, target: np.ndarray) -> float:
        aligned.append(len(target))
        return original(self, target)

    monkeypatch.setattr(ProfileAligner, "score", spy)
    sequence, text, _ = FOLDS["1CCC_A"]
    found = []
    for others in (40, 160):
        aligned.clear()
        hits = search_chain(_grow(others), sequence, make_pairing(text).probabilities, None)
        found.append((sum(aligned), {hit.chain for hit in hits if hit.score > 1.0}))
    # at most a chain more than the cap, in each of four settings
    assert found[1][0] <= found[0][0] + 4 * 76 and found[0][0] <= 4 * (500 + 76)
    # the query's own chain, fourth in the library, is found in either
    assert all(3 in best for _, best in found)


def test_a_library_below_the_cap_is_aligned_whole(index: LibraryIndex) -> None:
    chains = index.searchable(None, 3)
    profile = np.zeros((20, NUM_CODES))
    np.testing.assert_array_equal(prefilter(index, profile, chains), chains)
    tokens = rna.encode_sequence("ACGUACGUACGUACGUACGU")
    np.testing.assert_array_equal(shortlist(index, tokens, chains), chains)


def test_of_a_large_library_the_chain_with_the_best_stretch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    index = _grow(60)
    monkeypatch.setattr(rules, "LEAST_CHAINS", 1)
    sequence, text, _ = FOLDS["1CCC_A"]
    states = pairing_states(make_pairing(text).probabilities)
    profile = build_profile_scores(rna.encode_sequence(sequence), states, 1.0)
    kept = prefilter(index, profile, index.searchable(None, 3), budget=1.0)
    assert [index.library.chain_id(chain) for chain in kept] == ["1CCC_A"]


def test_where_stretches_are_too_many_the_chain_that_shares_kmers_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    index = _grow(60)
    monkeypatch.setattr(rules, "LEAST_CHAINS", 1)
    tokens = rna.encode_sequence(FOLDS["1CCC_A"][0])
    kept = shortlist(index, tokens, index.searchable(None, 3), budget=1.0)
    assert [index.library.chain_id(chain) for chain in kept] == ["1CCC_A"]


def test_never_fewer_than_25_chains_are_aligned(index: LibraryIndex) -> None:
    chains = index.searchable(None, 3)
    profile = np.zeros((20, NUM_CODES))
    np.testing.assert_array_equal(prefilter(index, profile, chains, budget=1.0), chains)


def test_without_mmseqs_the_search_goes_on(
    index: LibraryIndex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert len(find_with_mmseqs(index, "ACGU", np.array([0, 1]))) == 0


def test_chains_that_mmseqs_finds_are_aligned_as_well(
    index: LibraryIndex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "mmseqs"
    program.write_text("#!/bin/sh\nprintf '3\\n1\\n3\\n77\\n' > \"$4\"\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    # 77 is no chain of the library.
    np.testing.assert_array_equal(find_with_mmseqs(index, "ACGU", np.arange(4)), [3, 1])
    monkeypatch.setattr(search, "shortlist", lambda *_: np.array([0]))
    sequence, text, _ = FOLDS["1AAA_A"]
    found = search_chain(index, sequence, make_pairing(text).probabilities, None)
    assert 1 in {hit.chain for hit in found}


def test_a_failing_mmseqs_costs_nothing(index: LibraryIndex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "mmseqs"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert len(find_with_mmseqs(index, "ACGU", np.arange(4))) == 0
