"""Base pairs: the built-in partition function against enumeration, ViennaRNA, choice of structures, cache."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafold.errors import InputError
from rnafold.features import secondary, stem_energy
from rnafold.features.pair_choice import choose_partners, vary_partners
from rnafold.features.secondary import predict_pairing, select_rows
from rnafold.rna import parse_dot_bracket
from rnafold.structure import Chain, Msa

HAIRPIN = "GGGACGCUUCGGCGUCCC"
PAIRS = {"AU", "UA", "GC", "CG", "GU", "UG"}


@pytest.fixture
def no_vienna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secondary, "load_vienna", lambda: None)


def list_structures(sequence: str, start: int, stop: int) -> list[list[tuple[int, int]]]:
    """All nested pair lists of residues start .. stop-1 with hairpins of at least three."""
    if stop - start < 5:
        return [[]]
    found = list_structures(sequence, start + 1, stop)
    for j in range(start + 4, stop):
        if sequence[start] + sequence[j] in PAIRS:
            for inside, outside in itertools.product(
                list_structures(sequence, start + 1, j), list_structures(sequence, j + 1, stop)
            ):
                found = [*found, [(start, j), *inside, *outside]]
    return found


def loop_energy(sequence: str, i: int, j: int, branches: list[tuple[int, int]]) -> float | None:
    """Energy in kcal/mol of the loop closed by (i, j), written anew from the tables; None if the model has it not."""
    weak = sequence[i] + sequence[j] not in ("GC", "CG")
    if not branches:
        size = j - i - 1
        loop = sequence[i + 1 : j]
        stable = size == 4 and (
            (loop[0] == "G" and loop[2] in "AG" and loop[3] == "A") or (loop[0] + loop[2:] == "UCG")
        )
        mismatch = 0.45 * weak if size == 3 else -0.8
        return stem_energy.hairpin_energy(size) + mismatch - 1.5 * stable
    if len(branches) == 1:
        ((p, q),) = branches
        left, right = p - i - 1, j - q - 1
        if left + right > 10:
            return None
        energy = stem_energy.interior_energy(left, right)
        if left + right <= 1:
            outer = stem_energy._PAIR_ORDER.index(sequence[i] + sequence[j])
            inner = stem_energy._PAIR_ORDER.index(sequence[q] + sequence[p])
            return energy + stem_energy._STACKS[outer][inner]
        weak_ends = weak + (sequence[p] + sequence[q] not in ("GC", "CG"))
        return energy + (0.45 if left == 0 or right == 0 else 0.7) * weak_ends
    weak_ends = weak + sum(sequence[p] + sequence[q] not in ("GC", "CG") for p, q in branches)
    return 3.4 + 0.4 * (len(branches) + 1) + 0.45 * weak_ends


def structure_energy(sequence: str, pairs: list[tuple[int, int]]) -> float | None:
    total = 0.0
    for i, j in pairs:
        inner = [(p, q) for p, q in pairs if i < p and q < j]
        branches = [(p, q) for p, q in inner if not any(a < p and q < b for a, b in inner)]
        energy = loop_energy(sequence, i, j, branches)
        if energy is None:
            return None
        total += energy
        if not any(a < i and j < b for a, b in pairs):
            total += 0.45 * (sequence[i] + sequence[j] not in ("GC", "CG"))
    return total


@pytest.mark.parametrize(
    "sequence",
    ["GGGAAACCC", "GGCGAAAGCC", "GCAAAGCAAGCAAAGCAGC", "GGAGAAACAGGAAACACC", "GUUCGCAGACUUCGAGU"],
    ids=["hairpin", "tetraloop", "two branches", "multiloop", "wobble"],
)
def test_the_partition_function_equals_enumeration(sequence: str) -> None:
    weights, counts = 0.0, np.zeros((len(sequence), len(sequence)))
    for pairs in list_structures(sequence, 0, len(sequence)):
        energy = structure_energy(sequence, pairs)
        if energy is None:
            continue
        weight = np.exp(-energy / stem_energy.RT_KCAL)
        weights += weight
        for i, j in pairs:
            counts[i, j] += weight
            counts[j, i] += weight
    energy, probabilities = stem_energy.fold_partition(sequence)
    assert energy == pytest.approx(-stem_energy.RT_KCAL * np.log(weights), abs=1e-9)
    assert np.abs(probabilities - counts / weights).max() < 1e-9


@settings(max_examples=15, deadline=None)
@given(st.text("ACGUN", min_size=1, max_size=40))
def test_probabilities_are_symmetric_and_sum_to_at_most_one(sequence: str) -> None:
    _, probabilities = stem_energy.fold_partition(sequence)
    assert (probabilities == probabilities.T).all()
    assert probabilities.sum(axis=1).max() <= 1 + 1e-9
    assert probabilities[[letter == "N" for letter in sequence]].sum() == 0


def test_four_hundred_residues_neither_overflow_nor_vanish() -> None:
    energy, probabilities = stem_energy.fold_partition("GC" * 100 + "UUCG" + "GC" * 98)
    assert np.isfinite(energy) and energy < -200
    assert np.isfinite(probabilities).all() and probabilities.sum() > 300


def test_without_viennarna_the_fallback_is_used_and_named(no_vienna: None) -> None:
    pairing = predict_pairing(HAIRPIN, num_samples=3)
    assert pairing.source == "stem-energy fallback"
    assert pairing.partner.tolist() == parse_dot_bracket("(((((((....)))))))").tolist()
    assert pairing.samples.shape == (3, len(HAIRPIN))
    assert pairing.probabilities.dtype == np.float32


def test_the_missing_library_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(name: str) -> None:
        raise ImportError(name)

    secondary.load_vienna.cache_clear()
    monkeypatch.setattr("importlib.import_module", refuse)
    assert secondary.load_vienna() is None and secondary.load_vienna() is None
    secondary.load_vienna.cache_clear()
    assert [
        record.message for record in caplog.records if "ViennaRNA is not installed" in record.message
    ].__len__() == 1


def test_the_fallback_folds_long_sequences_in_windows(no_vienna: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secondary, "FALLBACK_WINDOW", 40)
    sequence = "A" * 30 + HAIRPIN + "A" * 60 + HAIRPIN
    partner = predict_pairing(sequence, num_samples=0).partner
    # hairpins start at 30 and 108; each is 18 long
    assert [partner[30], partner[108]] == [47, 125]


def test_viennarna_folds_a_hairpin_and_samples_reproducibly() -> None:
    pytest.importorskip("RNA")
    first, second = (predict_pairing("ACGUACGAUCGAUUCGGAGC" + HAIRPIN, seed=seed) for seed in (1, 1))
    assert first.source == "viennarna"
    assert np.array_equal(first.samples, second.samples) and np.array_equal(first.probabilities, second.probabilities)
    assert (first.probabilities == first.probabilities.T).all() and (np.diag(first.probabilities) == 0).all()
    assert first.partner[20] == 37
    assert first.samples.shape == (4, 38)


def test_two_strands_pair_with_each_other() -> None:
    pytest.importorskip("RNA")
    chains = (Chain(chain_id="A", copy=1, start=0, stop=8), Chain(chain_id="B", copy=1, start=8, stop=16))
    pairing = predict_pairing("GGGACGCCGGCGUCCC", chains)
    assert pairing.partner.tolist() == parse_dot_bracket("(((((((())))))))").tolist()
    assert pairing.samples.shape == (4, 16)


def test_long_chains_are_folded_alone_and_copies_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("RNA")
    monkeypatch.setattr(secondary, "MAX_UNWINDOWED", 30)
    chains = tuple(Chain(chain_id="A", copy=i + 1, start=18 * i, stop=18 * i + 18) for i in range(2))
    pairing = predict_pairing(HAIRPIN * 2, chains)
    assert pairing.source == "viennarna, each chain alone"
    assert np.array_equal(pairing.probabilities[:18, :18], pairing.probabilities[18:, 18:])
    assert pairing.probabilities[:18, 18:].sum() == 0
    monkeypatch.setattr(secondary, "WINDOW", 30)
    monkeypatch.setattr(secondary, "MAX_SPAN", 25)
    windows = predict_pairing("A" * 20 + HAIRPIN)
    assert windows.source == "viennarna in windows" and windows.partner[20] == 37


def test_an_alignment_with_enough_rows_contributes_half(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("RNA")
    rows = [HAIRPIN, "GGCACGCUUCGGCGUGCC", "GAGACGCUUCGGCGUCUC", "GGGUCGCUUCGGCGACCC"]
    msa = Msa(tokens=np.array([["ACGUN-".index(letter) for letter in row] for row in rows], dtype=np.int8))
    assert select_rows(msa) == [0, 1, 2, 3]
    assert predict_pairing(HAIRPIN, msa=msa).source == "viennarna"
    monkeypatch.setattr(secondary, "MIN_CONSENSUS_ROWS", 4)
    pairing = predict_pairing(HAIRPIN, msa=msa)
    assert pairing.source == "viennarna with alignment"
    assert pairing.partner.tolist() == parse_dot_bracket("(((((((....)))))))").tolist()
    assert pairing.probabilities.max() <= 1


def test_sequences_beyond_the_limit_are_refused() -> None:
    with pytest.raises(InputError, match="20001 residues"):
        predict_pairing("A" * 20_001)


def test_the_chosen_structure_is_nested_and_best() -> None:
    probabilities = np.zeros((6, 6), dtype=np.float32)
    for i, j, value in ((0, 5, 0.9), (1, 4, 0.8), (2, 5, 0.3), (0, 3, 0.6)):
        probabilities[i, j] = probabilities[j, i] = value
    # (0,5) and (1,4) sum to 1.7; (0,3) crosses (1,4) and shares 0 with (0,5)
    assert choose_partners(probabilities).tolist() == [5, 4, -1, -1, 1, 0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(0, 25))
def test_variations_are_valid_structures_and_follow_the_seed(seed: int, length: int) -> None:
    values = np.random.default_rng(seed).random((length, length)).astype(np.float32) ** 4
    probabilities = np.triu(values, 4) + np.triu(values, 4).T
    one, two = (vary_partners(probabilities, 3, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(one, two)
    for partner in one:
        pairs = [(i, int(j)) for i, j in enumerate(partner) if j > i]
        assert all(partner[j] == i for i, j in pairs) and 2 * len(pairs) == (partner >= 0).sum()
        assert not any(a < i < b < j for a, b in pairs for i, j in pairs), "no pair crosses another"


def test_what_would_take_too_long_whole_is_folded_in_short_windows() -> None:
    pytest.importorskip("RNA")
    sequence = "A" * 200 + HAIRPIN + "A" * 200 + HAIRPIN + "A" * 150
    assert predict_pairing(sequence, seconds=60.0).source == "viennarna"
    hurried = predict_pairing(sequence, seconds=0.1)
    assert hurried.source == "viennarna in short windows"
    assert hurried.partner[200] == 217 and hurried.partner[418] == 435 and hurried.samples.shape == (4, len(sequence))
    far = "GGGCCCAGCC" + "A" * 290 + "GGCUGGGCCC"  # pairs 300 apart, beyond what windows see
    assert predict_pairing(far, seconds=60.0).partner[0] == 309 and predict_pairing(far, seconds=0.01).partner[0] != 309


def test_short_sequences_are_folded_whole_in_any_hurry() -> None:
    pytest.importorskip("RNA")
    assert predict_pairing(HAIRPIN, seconds=0.0).source == "viennarna"
