"""Likeness by source, one scale for all, and the five that are picked on it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnafold.candidates.calibration import Calibration, calibrate
from rnafold.candidates.confidence import OwnConfidence
from rnafold.candidates.fitting import Pool, build_example, draw_scenarios, fit_parameters
from rnafold.candidates.jury import FEATURES, NAIVE, CandidatesJury, load_parameters, measure_features
from rnafold.candidates.likeness import join_sources, measure_pairwise, measure_source_likeness, thin_chains
from rnafold.candidates.source import OutsideModel, Source
from rnafold.errors import ConfigError, InputError
from rnafold.prediction.pick import choose_across
from rnafold.prediction.slots import SlotsConfig, load_slots
from rnafold.scoring import tm_score
from rnafold.structure import Candidate, Evidence, FloatArray, structure_from_points
from tests.pieces.folds import make_pairing
from tests.pieces.models import LENGTH, TEXT, make_outside_target, make_points

TARGET = make_outside_target()
PAIRING = make_pairing(TEXT)
JURY = CandidatesJury(parameters=NAIVE)


def outside(source: str, coords: FloatArray, relative: float = 0.0) -> Candidate:
    """A candidate of another program."""
    evidence = Evidence(own_relative=relative)
    return Candidate(coords=coords, origin="other", confidence=0.0, source=source, note=source, evidence=evidence)


def ours(coords: FloatArray, confidence: float) -> Candidate:
    """One of our own."""
    return Candidate(coords=coords, origin="template", confidence=confidence, note="ours")


def near(seed: int, noise: float = 1.0) -> FloatArray:
    """A fold near the first one."""
    return make_points(0) + np.random.default_rng(seed).normal(size=(LENGTH, 3)) * noise


def test_each_source_counts_once_however_many_models_it_has() -> None:
    likeness = np.array([[1.0, 0.8, 0.2, 0.4], [0.8, 1.0, 0.2, 0.2], [0.2, 0.2, 1.0, 0.6], [0.4, 0.2, 0.6, 1.0]])
    to_others, within = measure_source_likeness(likeness, ["A", "A", "B", "C"])
    # the first: (0.2 to B + 0.4 to C) / 2; B: (0.2 to A + 0.6 to C) / 2; C: ((0.4 + 0.2) / 2 to A + 0.6 to B) / 2
    np.testing.assert_allclose(to_others, [0.3, 0.2, 0.4, 0.45])
    np.testing.assert_allclose(within, [0.8, 0.8, np.nan, np.nan])


def test_a_lone_source_is_like_nobody() -> None:
    to_others, _ = measure_source_likeness(np.eye(2), ["A", "A"])
    assert np.isnan(to_others).all()
    rated, _ = JURY.rate(TARGET, [outside("A", near(1)), outside("A", near(2))], PAIRING)
    assert all(c.evidence is not None and c.evidence.likeness is None for c in rated)


def test_one_source_under_two_names_is_one() -> None:
    coords = [near(1), near(2), near(1) @ np.diag([-1.0, -1.0, 1.0]) + 5.0, near(2) + 9.0, make_points(7)]
    names = ["A", "A", "B", "B", "C"]
    assert join_sources(measure_pairwise(coords), names) == ["A", "A", "A", "A", "C"]


def test_pairwise_likeness_is_the_metrics_own_also_where_it_is_thinned() -> None:
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(600, 3)) * 3.0, axis=0)
    other = walk + rng.normal(size=walk.shape) * 3.0
    found = measure_pairwise([walk, other])[0, 1]
    assert found == pytest.approx(tm_score(walk[None], [structure_from_points(other)])[0, 0], abs=0.02)


def test_swapped_copies_are_alike() -> None:
    target = make_outside_target(copies=2)
    one, two = make_points(0), make_points(1) + 40.0
    straight, swapped = np.concatenate([one, two]), np.concatenate([two, one])
    assert measure_pairwise([straight, swapped], target.chains)[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert measure_pairwise([straight, swapped])[0, 1] < 0.9


def test_thinned_chains_keep_their_bounds() -> None:
    target = make_outside_target(copies=20)
    rows, chains = thin_chains(target.chains, target.length)
    assert len(rows) == 20 * 10  # 600 residues, every third
    assert [(c.start, c.stop) for c in chains[:2]] == [(0, 10), (10, 20)]
    assert list(rows[9:12]) == [27, 30, 33]


def test_the_naive_rule_expects_what_a_candidate_is_like_to_others() -> None:
    pool = [outside("A", near(1)), outside("B", near(2)), outside("C", make_points(9))]
    rated, _ = JURY.rate(TARGET, pool, PAIRING)
    assert [c.confidence for c in rated] == [c.evidence.likeness for c in rated if c.evidence]
    assert min(rated[0].confidence, rated[1].confidence) > rated[2].confidence


def test_a_weight_moves_the_expectation_by_its_feature() -> None:
    weights = {**NAIVE.weights, "own_confidence": 0.5}
    jury = CandidatesJury(parameters=replace(NAIVE, weights=weights))
    pool = [outside("A", near(1), 0.2), outside("B", near(2)), outside("C", make_points(9))]
    plain, raised = JURY.rate(TARGET, pool, PAIRING)[0], jury.rate(TARGET, pool, PAIRING)[0]
    assert raised[0].confidence - plain[0].confidence == pytest.approx(0.1)
    assert raised[1].confidence == plain[1].confidence


def test_features_are_named_and_of_the_own_source_only_the_most_typical_counts() -> None:
    pool = [outside("A", near(1)), outside("A", near(2)), outside("A", make_points(9)), outside("B", near(3))]
    likeness = measure_pairwise([c.coords for c in pool])
    rows = measure_features(TARGET, pool, [c.source for c in pool], likeness, PAIRING)
    values = dict(zip(FEATURES, rows.T))
    assert values["own_source"][:3].sum() == pytest.approx(0.0)
    assert values["own_source"][2] == values["own_source"][:3].min()
    assert values["own_source"][3] == 0.0
    np.testing.assert_allclose(values["log_length"], np.log(LENGTH / 80))


def test_errors_of_one_source_go_together() -> None:
    pool = [outside("A", near(1)), outside("A", make_points(9)), outside("B", near(3))]
    _, correlation = JURY.rate(TARGET, pool, PAIRING)
    assert correlation[0, 1] == NAIVE.kinship > measure_pairwise([c.coords for c in pool])[0, 1]
    assert correlation[0, 0] == 1.0


def test_ten_names_for_one_source_change_no_expectation() -> None:
    pool = [outside("A", near(1)), outside("B", near(2)), outside("C", make_points(9))]
    copies = [outside(f"C{number}", make_points(9)) for number in range(10)]
    before = [c.confidence for c in JURY.rate(TARGET, pool, PAIRING)[0]]
    after = [c.confidence for c in JURY.rate(TARGET, [*pool, *copies], PAIRING)[0]]
    np.testing.assert_allclose(after[:3], before, atol=1e-9)


def test_more_than_usual_speaks_for_a_model_on_any_scale() -> None:
    def model(value: float, scaled: bool = True) -> OutsideModel:
        own = OwnConfidence(name="x", value=value, scaled=scaled)
        return OutsideModel(points=near(0), note="", own=own)

    known = Source(name="mine", program="RhoFold", models={"T1": [model(0.7)]})
    found = calibrate([known], {"RhoFold": 0.5})
    # five published targets of 0.5 and one at hand of 0.7: 3.2 / 6
    assert found.centres["mine"] == pytest.approx(3.2 / 6)
    assert found.compare(known, known.models["T1"][0], known.models["T1"]) == pytest.approx(0.7 - 3.2 / 6)
    fresh = Source(name="new", models={"T1": [model(0.9), model(0.7)]})
    models = fresh.models["T1"]
    assert "new" not in calibrate([fresh], {}).centres
    assert Calibration().compare(fresh, models[0], models) == pytest.approx(0.1)
    energies = [model(100.0, False), model(300.0, False)]
    source = Source(name="e", models={"T1": energies})
    assert calibrate([source] * 9, {}).centres == {}
    assert Calibration().compare(source, energies[1], energies) == pytest.approx(0.1)


def test_the_choice_takes_one_of_each_source_where_all_are_alike() -> None:
    pool = [outside(name, near(10 * at + k, 2.5)) for at, name in enumerate("ABCDE") for k in range(3)]
    five = choose_across(TARGET, pool, PAIRING, JURY, SlotsConfig()).five
    assert sorted(c.source for c in five) == list("ABCDE")


def test_limits_by_source_are_kept() -> None:
    pool = [outside(name, near(10 * at + k, 2.5)) for at, name in enumerate("AB") for k in range(4)]
    pool += [ours(make_points(30 + k), 0.01) for k in range(3)]
    five = choose_across(TARGET, pool, PAIRING, JURY, SlotsConfig(sources={"A": (0, 1), "template": (2, 3)})).five
    names = [c.source or c.origin for c in five]
    assert names.count("A") <= 1 and names.count("template") >= 2


def test_what_fails_quality_control_fills_a_place_only_where_nothing_else_is_left() -> None:
    pool = [outside(name, near(at, 0.5)) for at, name in enumerate("AB")]
    spoiled = outside("C", np.cumsum(np.full((LENGTH, 3), 9.0), axis=0))
    five = choose_across(TARGET, [*pool, spoiled], PAIRING, JURY, SlotsConfig()).five
    assert {c.source for c in five[:2]} == {"A", "B"} and five[2].source == "C"
    assert five[2].confidence == 0.0 and "straight line" in five[2].note
    assert [c.origin for c in five[3:]] == ["fallback", "fallback"]


@pytest.mark.parametrize("limits", ["[3, 1]", "[0, 6]", "[1]"], ids=["least above most", "six places", "one number"])
def test_wrong_limits_are_named(limits: str, tmp_path: Path) -> None:
    path = tmp_path / "slots.yaml"
    path.write_text(f"sources: {{Boltz: {limits}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"sources\.Boltz"):
        load_slots(path)


def test_shipped_parameters_lead_with_likeness_and_name_their_making() -> None:
    parameters = load_parameters()
    assert parameters.weights["likeness"] > 2 * max(abs(v) for k, v in parameters.weights.items() if k != "likeness")
    assert 0 < parameters.spread < 1 and 0 < parameters.kinship <= 1
    assert all(0 < centre < 1 for centre in parameters.centres.values())


def test_odd_parameters_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "jury.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not readable JSON"):
        load_parameters(path)
    path.write_text(
        json.dumps({"intercept": 0, "weights": {"likeness": 1}, "spread": 0.4, "kinship": 0.8}), encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="weights"):
        load_parameters(path)


def _pool(number: int, gain: float) -> Pool:
    """A pool where TM = likeness + gain x own confidence."""
    rng = np.random.default_rng(number)
    coords = [near(100 * number + k, 3.0) for k in range(8)]
    relative = rng.normal(size=8) * 0.2
    candidates = tuple(outside("ABCDEFGH"[k], coords[k], float(relative[k])) for k in range(8))
    likeness = measure_pairwise(coords)
    to_others, _ = measure_source_likeness(likeness, list("ABCDEFGH"))
    return Pool(
        target=TARGET,
        group=f"group {number}",
        pairing=PAIRING,
        candidates=candidates,
        sources=tuple("ABCDEFGH"),
        likeness=likeness,
        tm=np.clip(to_others + gain * relative, 0.0, 1.0),
    )


def test_the_fit_finds_what_helps_and_stays_with_the_naive_rule_where_nothing_does() -> None:
    for gain in (0.3, 0.0):
        pools = [_pool(number, gain) for number in range(12)]
        examples = [build_example(pool, 0.5) for pool in draw_scenarios(pools, 2)]
        fitted = fit_parameters(examples)
        assert fitted.weights["likeness"] == pytest.approx(1.0, abs=0.1)
        assert fitted.weights["own_confidence"] == pytest.approx(gain, abs=0.12)


def test_a_group_left_out_leaves_no_trace() -> None:
    pools = [_pool(number, 0.3) for number in range(4)]
    odd = replace(pools[3], tm=1.0 - pools[3].tm)
    first, second = ([build_example(p, 1.0) for p in [*pools[:3], last]] for last in (pools[3], odd))
    assert fit_parameters(first, "group 3") == fit_parameters(second, "group 3")
    assert fit_parameters(first) != fit_parameters(second)
