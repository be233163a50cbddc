"""Expected against achieved TM-scores: r, error, bias and bins by hand."""

import json

import pytest

from rnafold.errors import InputError
from rnafold.scoring.reliability import (
    ScoredPrediction,
    build_reliability_json,
    format_reliability,
    measure_reliability,
    pair_scores,
)
from rnafold.structure import Origin, Score
from rnafold.submission import PredictionRecord


def make_pairs(*values: tuple[float, float]) -> list[ScoredPrediction]:
    return [
        ScoredPrediction(target_id="T", prediction=k, origin="template", expected=expected, achieved=achieved)
        for k, (expected, achieved) in enumerate(values, start=1)
    ]


def make_record(prediction: int, confidence: float | None, origin: Origin = "template") -> PredictionRecord:
    return PredictionRecord(target_id="T", prediction=prediction, origin=origin, confidence=confidence)


def test_figures_and_bins_are_those_worked_out_by_hand() -> None:
    found = measure_reliability(make_pairs((0.25, 0.2), (0.25, 0.4), (0.45, 0.5), (0.85, 0.7)))
    assert found is not None
    # differences 0.05, -0.15, -0.05, 0.15: mean absolute 0.4 / 4, mean 0 / 4
    assert found.mean_absolute_error == pytest.approx(0.1)
    assert found.bias == pytest.approx(0.0)
    # from the means 0.45 and 0.45: x -0.2 -0.2 0 0.4, y -0.25 -0.05 0.05 0.25
    # products 0.05 + 0.01 + 0 + 0.1 = 0.16; squares 0.24 and 0.13; r = 0.16 / sqrt(0.0312)
    assert found.correlation == pytest.approx(0.16 / 0.0312**0.5)
    assert [(b.low, b.high, b.count) for b in found.bins] == [(0.2, 0.3, 2), (0.4, 0.5, 1), (0.8, 0.9, 1)]
    first = found.bins[0]
    # achieved 0.2 and 0.4: mean 0.3, deviation 0.141421, standard error 0.1
    assert (first.expected, first.achieved, first.standard_error) == pytest.approx((0.25, 0.3, 0.1))
    assert found.bins[1].standard_error is None
    assert format_reliability(found).endswith(
        "r 0.906, mean absolute error 0.100, mean difference +0.000 over 4 predictions"
    )


def test_a_score_on_the_edge_belongs_to_the_bin_that_begins_there_and_1_to_the_last() -> None:
    found = measure_reliability(make_pairs((0.1, 0.3), (1 - 0.9, 0.3), (1.0, 1.0), (0.0, 0.0)))
    assert found is not None
    assert [(b.low, b.count) for b in found.bins] == [(0.0, 1), (0.1, 2), (0.9, 1)]


@pytest.mark.parametrize(
    "pairs",
    [make_pairs((0.1, 0.2), (0.3, 0.4)), make_pairs((0.3, 0.2), (0.3, 0.4), (0.3, 0.5))],
    ids=["two", "no spread"],
)
def test_without_enough_or_without_spread_there_is_no_r(pairs: list[ScoredPrediction]) -> None:
    found = measure_reliability(pairs)
    assert found is not None and found.correlation is None
    assert "no r," in format_reliability(found)
    assert json.loads(json.dumps(build_reliability_json(found), allow_nan=False))["correlation"] is None


def test_predictions_of_which_nothing_was_expected_are_left_out() -> None:
    score = Score(target_id="T", length=9, tm=(0.4, 0.2), reference=1)
    pairs = pair_scores([score], {"T": [make_record(1, 0.5, "network"), make_record(2, None, "fallback")]})
    assert pairs == [ScoredPrediction(target_id="T", prediction=1, origin="network", expected=0.5, achieved=0.4)]
    assert measure_reliability([]) is None and build_reliability_json(None) is None


@pytest.mark.parametrize("records", [{}, {"T": [make_record(1, 0.5)]}], ids=["no target", "one of two"])
def test_scores_and_records_of_different_counts_are_refused(records: dict[str, list[PredictionRecord]]) -> None:
    score = Score(target_id="T", length=9, tm=(0.4, 0.2), reference=1)
    with pytest.raises(InputError, match=f"T: 2 predictions are scored, {len(records)} recorded"):
        pair_scores([score], records)
