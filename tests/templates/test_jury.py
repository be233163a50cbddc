"""The jury's features by hand, and its place in the choice of five; folding with favoured pairs."""

import datetime
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from rnafold import rna
from rnafold.assembly import assemble
from rnafold.features import secondary
from rnafold.features.secondary import fold_with_bonus
from rnafold.prediction.slots import pick_five
from rnafold.scoring import tm_score
from rnafold.scoring.tm import Mode
from rnafold.structure import (
    CARRIED,
    FILLED,
    LINKER,
    LOOP,
    STEM,
    Alternative,
    Candidate,
    FloatArray,
    Grounds,
    Origin,
    Pairing,
    Structure,
)
from rnafold.templates import jury as jury_module
from rnafold.templates.jury import (
    JURY_NAMES,
    NO_LOOP_DEVIATION,
    measure_jury_features,
    measure_likeness,
    rate_candidates,
)
from rnafold.templates.ranker import Ranker, train_ranker
from tests.pieces.folds import FOLDS, make_pairing, make_target

SEQUENCE, TEXT, _ = FOLDS["1AAA_A"]
LIKENESS = np.array([[1.0, 0.4, 0.3, 0.2], [0.4, 1.0, 0.5, 0.1], [0.3, 0.5, 1.0, 0.6], [0.2, 0.1, 0.6, 1.0]])
HAIRPIN = "GGGAAACCCAAAGGGAAACCC"


def _candidate(seed: int, origin: Origin, confidence: float) -> Candidate:
    coords = assemble(SEQUENCE, rna.parse_dot_bracket(TEXT), seed=seed)
    return Candidate(coords=coords, origin=origin, confidence=confidence, note=f"seed {seed}")


@pytest.fixture(scope="module")
def candidates() -> list[Candidate]:
    return [
        _candidate(0, "template", 0.6),
        _candidate(1, "template", 0.3),
        _candidate(2, "assembly", 0.25),
        _candidate(3, "assembly", 0.25),
    ]


def _features_by_name(candidates: list[Candidate], likeness: np.ndarray) -> dict[str, np.ndarray]:
    rows = measure_jury_features(candidates, likeness, make_pairing(TEXT))
    return {name: rows[:, k] for k, name in enumerate(JURY_NAMES)}


def test_features_of_the_jury_by_hand(candidates: list[Candidate]) -> None:
    value = _features_by_name(candidates, LIKENESS)
    np.testing.assert_allclose(value["expected_tm"], [0.6, 0.3, 0.25, 0.25])
    np.testing.assert_allclose(value["is_template"], [1, 1, 0, 0])
    # A template is not compared with itself: 0.4 for both; assemblies with both templates.
    np.testing.assert_allclose(value["likeness_to_templates"], [0.4, 0.4, 0.4, 0.15])
    np.testing.assert_allclose(value["likeness_to_assemblies"], [0.25, 0.3, 0.6, 0.6])
    # Weights 0.5 and 0.2 (expected - 0.1): for the first assembly (0.5 * 0.3 + 0.2 * 0.5) / 0.7.
    np.testing.assert_allclose(value["likeness_to_expected_templates"], [0.4, 0.4, 0.25 / 0.7, 0.12 / 0.7])
    np.testing.assert_allclose(value["likeness_to_nearest"], [0.4, 0.5, 0.6, 0.6])
    np.testing.assert_allclose(value["likeness_to_best_template"], LIKENESS[0])
    np.testing.assert_allclose(value["best_expected_tm"], 0.6)
    np.testing.assert_allclose(value["assemblies_alike"], 0.6)
    np.testing.assert_allclose(value["log_length"], np.log(76))
    # 20 certain pairs in 76 residues, counted from both ends.
    np.testing.assert_allclose(value["pair_content"], 40 / 76)
    np.testing.assert_allclose(value["pair_confidence"], 1.0)


def test_features_of_the_spread_by_hand(candidates: list[Candidate]) -> None:
    value = _features_by_name(candidates, LIKENESS)
    # The diagonal counts as 0: the median of (0.3, 0.2), (0.5, 0.1), (0, 0.6), (0.6, 0).
    np.testing.assert_allclose(value["likeness_to_median_assembly"], [0.25, 0.3, 0.3, 0.3])
    np.testing.assert_allclose(value["likeness_to_best_templates"], [0.36, 0.36, 0.48, 0.19])
    # Weights 0.36 and 0.09.
    np.testing.assert_allclose(value["likeness_to_surest_templates"], [0.08, 0.32, 0.34, 0.18])
    np.testing.assert_allclose(value["second_expected_tm"], 0.3)
    np.testing.assert_allclose(value["mean_expected_tm"], 0.45)
    np.testing.assert_allclose(value["best_templates_alike"], 0.4)
    np.testing.assert_allclose(value["templates_alike"], 0.4)
    np.testing.assert_allclose(value["best_template_to_assemblies"], 0.25)
    np.testing.assert_allclose(value["share_alike"], [0.25, 0.5, 0.75, 0.5])
    np.testing.assert_allclose(value["share_akin"], [0.5, 0.75, 0.75, 0.5])
    np.testing.assert_allclose(value["unanimity"], np.linalg.eigvalsh(LIKENESS)[-1] / 4)
    assert value["centrality"].argmax() == 2
    np.testing.assert_allclose(value["centrality"].sum(), 4.0)


def test_features_of_a_candidate_by_itself() -> None:
    """An assembly of the predicted pairs, and the same one with its second half laid upon the first."""
    whole = _candidate(0, "assembly", 0.25)
    folded = whole.coords.copy()
    folded[38:] = whole.coords[:38] + 1.0
    value = _features_by_name([whole, Candidate(coords=folded, origin="assembly", confidence=0.2)], np.eye(2))
    assert value["pairs_formed"][0] > 0.99 > value["pairs_formed"][1]
    assert value["contacts"][1] > value["contacts"][0] > value["near_contacts"][0] > 0.0
    np.testing.assert_allclose(value["paired"], 40 / 76)
    np.testing.assert_allclose(value["pair_entropy"], 0.0, atol=1e-6)
    by_hand = np.linalg.norm(whole.coords[:, None] - whole.coords[None], axis=-1)
    np.testing.assert_allclose(value["median_distance"][0], np.median(by_hand) / 76 ** (1 / 3))


def test_what_a_candidate_rests_on_by_hand() -> None:
    kinds = np.array([CARRIED] * 3 + [FILLED] * 2 + [LOOP] * 2 + [STEM] * 2 + [LINKER])
    deviation = np.where(kinds == LOOP, np.arange(10.0), np.nan)  # 5 and 6
    line = 5.5 * np.arange(10)[:, None] * np.eye(3)[0]
    candidates = [
        Candidate(coords=line, origin="template", confidence=0.4, grounds=Grounds(kinds=kinds, deviation=deviation)),
        Candidate(coords=line, origin="assembly", confidence=0.2),
        Candidate(
            coords=line,
            origin="assembly",
            confidence=0.2,
            grounds=Grounds(kinds=np.full(10, STEM), deviation=np.full(10, np.nan)),
        ),
    ]
    rows = measure_jury_features(candidates, np.eye(3), make_pairing("." * 10))
    value = {name: rows[:, JURY_NAMES.index(name)] for name in JURY_NAMES}
    shares = np.stack([value[name] for name in ("carried", "stems", "loops", "linkers", "filled")], axis=1)
    # Without grounds nothing is known of the second.
    known = np.array([[0.3, 0.2, 0.2, 0.1, 0.2], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0]])
    np.testing.assert_allclose(shares, known)
    np.testing.assert_allclose(value["longest_filled"], [0.2, 1.0, 0.0])
    np.testing.assert_allclose(value["longest_built"], [0.7, 1.0, 1.0])
    np.testing.assert_allclose(value["loop_deviation"], [5.5, NO_LOOP_DEVIATION, NO_LOOP_DEVIATION])
    np.testing.assert_allclose(value["worst_loop_deviation"], [6.0, NO_LOOP_DEVIATION, NO_LOOP_DEVIATION])
    np.testing.assert_allclose(value["best_loop_deviation"], [5.0, NO_LOOP_DEVIATION, NO_LOOP_DEVIATION])
    # The mean of the two assemblies, told to all.
    np.testing.assert_allclose(value["assemblies_stems"], 0.5)
    np.testing.assert_allclose(value["assemblies_filled"], 0.5)


def test_without_an_assembly_nothing_is_known_of_the_assemblies() -> None:
    value = _features_by_name([_candidate(0, "template", 0.5)], np.eye(1))
    names = ("filled", "stems", "loop_deviation")
    assert [value[f"assemblies_{name}"][0] for name in names] == [1.0, 0.0, NO_LOOP_DEVIATION]


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_handful_of_residues_has_features_too(length: int) -> None:
    pairing = make_pairing("." * length)
    candidates = [
        Candidate(coords=5.5 * np.arange(length)[:, None] * np.eye(3)[k], origin="assembly", confidence=0.2)
        for k in range(3)
    ]
    rows = measure_jury_features(candidates, measure_likeness([c.coords for c in candidates]), pairing)
    assert rows.shape == (3, len(JURY_NAMES)) and np.isfinite(rows).all()


@pytest.mark.parametrize("origin", ["template", "assembly"])
def test_a_single_candidate_has_nobody_to_be_like(origin: Origin) -> None:
    rows = measure_jury_features([_candidate(0, origin, 0.5)], np.eye(1), make_pairing(TEXT))
    assert np.isfinite(rows).all()
    value = dict(zip(JURY_NAMES, rows[0]))
    assert value["likeness_to_nearest"] == value["likeness_to_templates"] == value["likeness_to_assemblies"] == 0.0


def test_long_candidates_are_thinned_before_they_are_compared() -> None:
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(3000, 3)) * 3, axis=0)
    likeness = measure_likeness([walk, walk[:, ::-1], walk + rng.normal(size=walk.shape) * 0.1])
    assert likeness[0, 2] > 0.99
    assert likeness[0, 1] < 0.9


def _jury_for_likeness() -> Ranker:
    """A jury that has learned: the TM-score is the likeness to the nearest other candidate."""
    rng = np.random.default_rng(0)
    features = rng.random(size=(3000, len(JURY_NAMES)))
    tm = features[:, JURY_NAMES.index("likeness_to_nearest")]
    return train_ranker(features, tm, np.repeat(np.arange(300), 10), JURY_NAMES, datetime.date(2015, 1, 1))


def test_the_jury_raises_who_is_like_others_and_leaves_the_network_alone(candidates: list[Candidate]) -> None:
    jury = _jury_for_likeness()
    pool = [*candidates, _candidate(9, "network", 0.77)]
    likeness = np.full((5, 5), 0.1) + 0.9 * np.eye(5)
    likeness[2, 3] = likeness[3, 2] = 0.9
    rated = rate_candidates(pool, likeness, make_pairing(TEXT), jury)
    assert rated[4].confidence == 0.77
    assert min(rated[2].confidence, rated[3].confidence) > max(rated[0].confidence, rated[1].confidence) + 0.3
    assert [c.note for c in rated] == [c.note for c in pool]


def test_five_are_picked_by_the_jurys_figures(candidates: list[Candidate]) -> None:
    pool = [*candidates, *(_candidate(seed, "assembly", 0.25) for seed in range(4, 9))]
    target = make_target("1AAA_A")
    pairing = make_pairing(TEXT)
    rated = {c.note: c.confidence for c in pick_five(target, pool, pairing=pairing, jury=_jury_for_likeness())}
    plain = {c.note: c.confidence for c in pick_five(target, pool, pairing=pairing)}
    assert set(plain.values()) <= {0.6, 0.3, 0.25}
    assert not set(rated.values()) & {0.6, 0.3, 0.25}


@pytest.mark.parametrize("vienna", [True, False], ids=["with ViennaRNA", "without"])
def test_a_bonus_makes_a_fold_take_the_pairs_it_is_given(vienna: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not vienna:
        monkeypatch.setattr(secondary, "load_vienna", lambda: None)
    elif secondary.load_vienna() is None:
        pytest.skip("ViennaRNA is not installed")
    wanted = [(0, 8), (1, 7), (2, 6)]
    assert fold_with_bonus(HAIRPIN, [], 0.0)[0] != 8
    given = fold_with_bonus(HAIRPIN, wanted, -6.0)
    assert [int(given[i]) for i, _ in wanted] == [8, 7, 6]
    # A pair given three times counts three times.
    np.testing.assert_array_equal(fold_with_bonus(HAIRPIN, wanted * 3, -2.0), given)


def test_candidates_that_were_compared_before_are_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    walks = [rng.normal(size=(40, 3)).cumsum(0) * 3.0 for _ in range(6)]
    calls: list[int] = []

    def count(predictions: FloatArray, references: Sequence[Structure], mode: Mode) -> FloatArray:
        calls.append(len(predictions))
        return tm_score(predictions, references, mode)

    jury_module._MEASURED.clear()
    monkeypatch.setattr(jury_module, "tm_score", count)
    first = measure_likeness(walks[:4])
    calls.clear()
    second = measure_likeness(walks)
    # 4 + 5 comparisons with the two that are new, none among the four
    assert calls == [4, 5]
    np.testing.assert_array_equal(second[:4, :4], first)
    monkeypatch.setattr(jury_module, "MOST_MEASURED", 0)
    np.testing.assert_allclose(measure_likeness(walks), second)
    assert measure_likeness(walks) is not second and len(calls) == 7, "what was forgotten is measured anew"


def test_the_jury_heeds_alternatives_as_much_as_probabilities(candidates: list[Candidate]) -> None:
    length = len(candidates[0].coords)
    bare, other = np.full(length, -1, np.int64), np.full(length, -1, np.int64)
    other[0], other[length - 1] = length - 1, 0
    pairing = Pairing(
        probabilities=np.zeros((length, length), np.float32), partner=bare, samples=bare[None], source="test"
    )
    likeness = measure_likeness([candidate.coords for candidate in candidates])
    at = JURY_NAMES.index("pair_content")
    assert (measure_jury_features(candidates, likeness, pairing)[:, at] == 0).all()
    heeding = replace(pairing, alternatives=(Alternative(partner=other, source="test"),))
    assert measure_jury_features(candidates, likeness, heeding)[0, at] == pytest.approx(2 * 0.5 / length)
