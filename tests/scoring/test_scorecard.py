"""The score report: table, JSON, bootstrap interval, and two submissions side by side."""

import json

import numpy as np
import pytest

from rnafold.errors import InputError
from rnafold.scoring.scorecard import (
    bootstrap_interval,
    build_comparison_json,
    build_json,
    compare,
    format_comparison,
    format_table,
)
from rnafold.structure import Score

SCORES = [
    Score(target_id="R1107", length=69, tm=(0.1, 0.3, 0.2, 0.0, 0.25), reference=1),
    Score(target_id="R1117v2", length=30, tm=(0.5, 0.4, 0.5, 0.1, 0.1), reference=2),
]


def build_scores(*best: float) -> list[Score]:
    return [Score(target_id=f"t{index}", length=10, tm=(value,), reference=1) for index, value in enumerate(best)]


def test_the_json_object_is_the_documented_one() -> None:
    found = json.loads(json.dumps(build_json(SCORES, "part2"), allow_nan=False))
    assert set(found) == {"metric", "mean", "interval", "targets"}
    assert found["metric"] == "part2"
    assert found["mean"] == pytest.approx(0.4)  # (0.3 + 0.5) / 2
    # Two targets drawn with replacement: means 0.3, 0.4, 0.5 with chances 1/4, 1/2, 1/4.
    assert found["interval"] == pytest.approx([0.3, 0.5])
    assert found["targets"]["R1117v2"] == {"length": 30, "tm": [0.5, 0.4, 0.5, 0.1, 0.1], "best": 0.5, "reference": 2}


def test_the_table_shows_length_the_five_the_best_and_its_reference() -> None:
    lines = format_table(SCORES).splitlines()
    assert lines[0].split() == ["target", "length", "tm_1", "tm_2", "tm_3", "tm_4", "tm_5", "best", "ref"]
    assert lines[2].split() == ["R1107", "69", "0.10000", "0.30000*", "0.20000", "0.00000", "0.25000", "0.30000", "1"]
    assert lines[3].split() == ["R1117v2", "30", "0.50000*", "0.40000", "0.50000", "0.10000", "0.10000", "0.50000", "2"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[-1] == "mean of 2 targets (part2): 0.40000, 95 % interval 0.30000 .. 0.50000"


def test_one_target_has_a_mean_and_no_interval() -> None:
    assert build_json(SCORES[:1], "part1")["interval"] is None
    assert format_table(SCORES[:1], "part1").endswith("mean of 1 targets (part1): 0.30000, no interval from one target")


def test_no_target_is_an_error_not_a_score() -> None:
    for call in (build_json, format_table):
        with pytest.raises(InputError, match="found no scored target"):
            call([], "part2")
    with pytest.raises(InputError, match="found no scored target"):
        compare([], [])


def test_the_bootstrap_interval_is_that_of_the_normal_mean_and_repeats_with_its_seed() -> None:
    values = list(np.random.default_rng(0).normal(0.4, 0.1, 400))
    low, high = bootstrap_interval(values, seed=3)
    # Standard error 0.1 / sqrt(400) = 0.005; 1.96 of them either side, within the bootstrap's own noise.
    error = float(np.std(values)) / 20.0
    assert low == pytest.approx(np.mean(values) - 1.96 * error, abs=5e-4)
    assert high == pytest.approx(np.mean(values) + 1.96 * error, abs=5e-4)
    assert bootstrap_interval(values, seed=3) == (low, high)
    assert bootstrap_interval(values, seed=4) != (low, high)


def test_comparison_is_paired_target_by_target() -> None:
    found = compare(build_scores(0.1, 0.2, 0.3, 0.4), build_scores(0.2, 0.2, 0.2, 0.8)[::-1])
    # Differences 0.1, 0, -0.1, 0.4: mean 0.1, sum of squared deviations 0 + 0.01 + 0.04 + 0.09 = 0.14,
    # standard error sqrt(0.14 / 3 / 4) = 0.108012
    assert found.mean_difference == pytest.approx(0.1)
    assert found.standard_error == pytest.approx(0.108012, abs=1e-6)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.interval[0] < 0.1 < found.interval[1]
    assert [row[0] for row in found.rows] == ["t0", "t1", "t2", "t3"]
    record = json.loads(json.dumps(build_comparison_json(found), allow_nan=False))
    assert record["targets"]["t3"] == pytest.approx({"length": 10, "first": 0.4, "second": 0.8, "difference": 0.4})
    assert record["mean_second"] == pytest.approx(0.35)


def test_pairing_sees_a_small_steady_gain_that_the_spread_of_targets_hides() -> None:
    best = np.linspace(0.1, 0.9, 20)
    gain = 0.01 + 0.002 * np.resize([1.0, -1.0], 20)
    found = compare(build_scores(*best), build_scores(*(best + gain)))
    assert 0.008 < found.interval[0] < 0.01 < found.interval[1] < 0.012
    low, high = bootstrap_interval(list(best))
    assert high - low > 0.2


def test_the_comparison_reads_as_a_table() -> None:
    lines = format_comparison(compare(build_scores(0.1, 0.2), build_scores(0.2, 0.1)), "a.csv", "b.csv").splitlines()
    assert lines[0].split() == ["target", "length", "a.csv", "b.csv", "difference"]
    assert lines[2].split() == ["t0", "10", "0.10000", "0.20000", "+0.10000"]
    assert lines[3].split()[-1] == "-0.10000"
    assert lines[5] == "means: a.csv 0.15000, b.csv 0.15000"
    # Differences +0.1 and -0.1: deviation 0.141421, standard error 0.1.
    assert "± 0.10000 (standard error), 95 % interval -0.10000 .. +0.10000" in lines[6]
    assert lines[7] == "b.csv is better on 1, worse on 1, equal on 0"


def test_a_comparison_of_one_target_has_no_error() -> None:
    found = compare(build_scores(0.1), build_scores(0.3))
    assert np.isnan(found.standard_error)
    assert build_comparison_json(found)["standard_error"] is None
    assert "no interval from one target" in format_comparison(found)


def test_targets_that_only_one_submission_has_are_named() -> None:
    with pytest.raises(InputError, match="2 are in one only, first t2, t3"):
        compare(build_scores(0.1, 0.2), build_scores(0.1, 0.2, 0.3, 0.4))
