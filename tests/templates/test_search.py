"""Template search: alignments against hand counts and a plain dynamic programme, the gate, copies."""

import datetime
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafold import rna
from rnafold.structure import structure_from_points
from rnafold.templates.alignment import SETTINGS
from rnafold.templates.index import LibraryIndex
from rnafold.templates.library import NUM_CODES, TemplateLibrary, gate_for
from rnafold.templates.search import (
    MINIMUM_COVERAGE,
    ProfileAligner,
    build_profile_scores,
    pairing_states,
    search_chain,
)
from tests.pieces.folds import FOLDS, make_entries, make_pairing, make_target


@pytest.fixture(scope="module")
def index() -> LibraryIndex:
    return LibraryIndex(TemplateLibrary.from_entries(make_entries()))


def _global_score(profile: np.ndarray, codes: np.ndarray, opening: float, extension: float) -> float:
    """Gotoh's three-state global alignment, written out plainly; a gap may follow a gap in the other sequence."""
    rows, columns = len(profile), len(codes)
    match = np.full((rows + 1, columns + 1), -1e9)
    skip_query, skip_codes = match.copy(), match.copy()
    match[0, 0] = 0.0
    for i in range(rows + 1):
        for j in range(columns + 1):
            if i and j:
                before = max(match[i - 1, j - 1], skip_query[i - 1, j - 1], skip_codes[i - 1, j - 1])
                match[i, j] = before + profile[i - 1, codes[j - 1]]
            if i:
                opened = max(match[i - 1, j], skip_codes[i - 1, j]) + opening
                skip_query[i, j] = max(opened, skip_query[i - 1, j] + extension)
            if j:
                opened = max(match[i, j - 1], skip_query[i, j - 1]) + opening
                skip_codes[i, j] = max(opened, skip_codes[i, j - 1] + extension)
    return float(max(match[-1, -1], skip_query[-1, -1], skip_codes[-1, -1]))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_the_aligner_reaches_the_optimum_of_a_plain_dynamic_programme(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    profile = np.round(rng.normal(size=(rows, 15)) * 3, 2)
    codes = rng.integers(0, 15, columns)
    aligner = ProfileAligner(profile, SETTINGS[1])
    encoded = aligner.encode(codes)
    expected = _global_score(profile, codes, SETTINGS[1].opening, SETTINGS[1].extension)
    assert aligner.score(encoded) == pytest.approx(expected, abs=1e-6)
    mapping = aligner.align(encoded)
    assert (np.diff(mapping[mapping >= 0]) > 0).all()


def test_scores_of_letters_and_states_by_hand() -> None:
    # G with probability 0.8 of opening a pair and 0.2 of being unpaired.
    profile = build_profile_scores(rna.encode_sequence("G"), np.array([[0.2, 0.8, 0.0]]), 1.0)
    # Against an opening G, code 2*3+1: match 2 + 1.3*0.8 - 0.5*0.2 = 2.94.
    assert profile[0, 7] == pytest.approx(2.94)
    # Against an unpaired A, code 0: mismatch -1.5 + 0.2 - 0.5*0.8 = -1.7.
    assert profile[0, 0] == pytest.approx(-1.7)
    # Against a closing unknown letter, code 4*3+2: -0.5 - 0.5*0.2 - 1.0*0.8 = -1.4.
    assert profile[0, 14] == pytest.approx(-1.4)


def test_states_sum_the_probabilities_on_either_side() -> None:
    probabilities = np.zeros((4, 4), dtype=np.float32)
    probabilities[0, 3] = probabilities[3, 0] = 0.75
    states = pairing_states(probabilities)
    np.testing.assert_allclose(states[0], [0.25, 0.75, 0.0])
    np.testing.assert_allclose(states[3], [0.25, 0.0, 0.75])
    np.testing.assert_allclose(states[1], [1.0, 0.0, 0.0])


def test_a_sequence_finds_itself_with_every_residue_in_place(index: LibraryIndex) -> None:
    sequence, text, _ = FOLDS["1AAA_A"]
    hits = search_chain(index, sequence, make_pairing(text).probabilities, None)
    best = max((hit for hit in hits if hit.setting == 0), key=lambda hit: hit.score)
    # Sequence alone: L matches of 2 over 2 L.
    assert best.score == pytest.approx(1.0)
    np.testing.assert_array_equal(best.mapping, np.arange(len(sequence)))


def test_a_deletion_is_bridged(index: LibraryIndex) -> None:
    sequence, text, _ = FOLDS["1AAA_A"]
    cut = sequence[:16] + sequence[19:]
    hits = search_chain(index, cut, make_pairing(text[:16] + text[19:]).probabilities, None)
    best = max((hit for hit in hits if hit.setting == 0), key=lambda hit: hit.score)
    # 73 matches of 2, one gap of three (-8 - 0.4 - 0.4), over 2 * 73.
    assert best.score == pytest.approx((2 * 73 - 8.8) / 146)
    # GUUGGGAG without three letters from position 16 on: the gap may slide, but its flanks may not.
    np.testing.assert_array_equal(best.mapping[:14], np.arange(14))
    np.testing.assert_array_equal(best.mapping[20:], np.arange(23, 76))


@pytest.mark.parametrize("cutoff", ["2001-05-01", "2005-05-01", "2010-05-01", "2020-05-01", "2020-05-02"])
def test_no_hit_is_dated_at_or_after_the_cutoff(index: LibraryIndex, cutoff: str) -> None:
    target = make_target("1AAA_A", cutoff=cutoff)
    # 1AAA has the content of 1EEE and would stand for it
    gate = replace(gate_for(target), codes=frozenset({"1AAA"}))
    hits = search_chain(index, target.sequence, make_pairing(FOLDS["1AAA_A"][1]).probabilities, gate)
    dates = [index.library.chain_date(hit.chain) for hit in hits]
    assert all(date < datetime.date.fromisoformat(cutoff) for date in dates)
    if cutoff == "2020-05-02":
        assert datetime.date(2020, 5, 1) in dates


def test_a_query_far_longer_than_every_chain_has_no_hits(index: LibraryIndex) -> None:
    probabilities = np.zeros((300, 300), dtype=np.float32)
    assert search_chain(index, "A" * 300, probabilities, None) == []


def test_a_search_scores_each_content_once_a_setting_and_traces_only_the_best(
    index: LibraryIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def spy(name: str) -> None:
        original = getattr(ProfileAligner, name)

        def call(self: ProfileAligner, target: np.ndarray) -> Any:
            done.append(name)
            return original(self, target)

        monkeypatch.setattr(ProfileAligner, name, call)

    spy("score")
    spy("align")
    sequence, text, _ = FOLDS["1AAA_A"]
    search_chain(index, sequence, make_pairing(text).probabilities, None, top=2)
    chains = index.distinct(index.searchable(None, MINIMUM_COVERAGE * len(sequence)))
    assert done.count("score") == len(SETTINGS) * len(chains) and len(chains) >= 3
    assert done.count("align") == len(SETTINGS) * 2


def test_codes_of_a_mapped_library_serve_queries_of_many_different_residues() -> None:
    # a profile row of its own for each residue: the library's letters come after 300 of the query's, beyond one byte
    profile = np.random.default_rng(0).normal(size=(300, NUM_CODES)).round(2)
    aligner = ProfileAligner(profile, SETTINGS[0])
    codes = np.arange(NUM_CODES, dtype=np.int8)
    assert aligner.encode(codes).tolist() == [300 + k for k in range(NUM_CODES)]


def test_a_search_out_of_time_gives_what_it_has_and_one_without_a_limit_everything(
    index: LibraryIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequence = next(iter(FOLDS.values()))[0]
    flat = np.zeros((len(sequence), len(sequence)), np.float32)
    whole = search_chain(index, sequence, flat, None)
    assert len(whole) > 2 and search_chain(index, sequence, flat, None, seconds=0.0) == []
    aligned: list[int] = []
    monkeypatch.setattr("rnafold.templates.search.time.monotonic", lambda: float(len(aligned)))
    original = ProfileAligner.align

    def spy(aligner: ProfileAligner, target: np.ndarray) -> np.ndarray:
        aligned.append(len(target))
        return original(aligner, target)

    monkeypatch.setattr(ProfileAligner, "align", spy)
    # each alignment takes a second of the clock; half of 4.2 s may pass before the last is begun
    search_chain(index, sequence, flat, None, seconds=4.2)
    assert len(aligned) == 3


def test_chains_of_one_content_are_aligned_once_and_the_most_resolved_is_shown() -> None:
    entry = make_entries()[0]
    points = entry.references[0].c1.copy()
    points[10:20] = np.nan
    torn = replace(entry, references=(structure_from_points(points),))
    names = ("1AAA_A", "1XXX_A", "1YYY_A")
    copies = [
        replace(one, target=replace(entry.target, target_id=name)) for one, name in zip((torn, entry, entry), names)
    ]
    library = TemplateLibrary.from_entries(copies)
    # pairs are found in coordinates: let the torn chain have them too, as another crystal of the same RNA would
    library.partner[library.chain_rows(0)] = library.partner[library.chain_rows(1)]
    index = LibraryIndex(library)
    assert index.contents.tolist() == [0, 0, 0]
    sequence, text, _ = FOLDS["1AAA_A"]
    hits = search_chain(index, sequence, make_pairing(text).probabilities, None)
    assert len(hits) == len(SETTINGS) and {hit.chain for hit in hits} == {1}
    # behind a gate that hides the whole ones, the torn chain is shown: the gate comes before the choice
    gate = gate_for(make_target("1AAA_A"))
    hidden = replace(gate, codes=gate.codes | {"1XXX", "1YYY"})
    assert {hit.chain for hit in search_chain(index, sequence, make_pairing(text).probabilities, hidden)} == {0}
