"""Differences between variants, their intervals, and what follows from them.

A variant is compared with the baseline run by run of the same seed and target by target. The interval draws targets and
seeds anew, both at once, so that neither a lucky target nor a lucky seed makes a finding.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from rnafold.errors import InputError
from rnafold.experiments.results import RunResult
from rnafold.experiments.spec import START, Measure

FloatArray = npt.NDArray[np.float64]
# Weights of seeds (R, S) and of targets (R, T), each row summing to 1 -> the figure of each row (R,).
Statistic = Callable[[FloatArray, FloatArray], FloatArray]
Verdict = Literal["yes", "no", "open"]
NUM_RESAMPLES: Final = 10_000
TAIL: Final = 0.025
# 97.5 % points of Student's t for 1, 2, .. degrees of freedom; more seeds take the last, which is the wider interval.
T_POINTS: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
# Differences are sums of rounded numbers: a gain of exactly the minimum must not fail in the last bit.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """The runs of one variant, a row a seed: TM-scores reached, expected, of the start and its confidence (S, T), and
    residues a second (S,).
    """

    tm: FloatArray
    expected_tm: FloatArray
    start_tm: FloatArray
    start_confidence: FloatArray
    speeds: FloatArray

    def split(self) -> list["Series"]:
        """One series of a single run for every seed."""
        fields = ("tm", "expected_tm", "start_tm", "start_confidence", "speeds")
        return [Series(**{f: getattr(self, f)[k : k + 1] for f in fields}) for k in range(len(self.tm))]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredGain:
    """A variant's gain over the baseline with its 95 % interval (NaN: none can be given) and the verdict."""

    gain: float
    low: float
    high: float
    verdict: Verdict


def collect(results: Sequence[RunResult], targets: Sequence[str]) -> Series:
    """Stacks the runs of a variant over the given targets.

    Raises:
        InputError: a run saw other targets.
    """
    for result in results:
        if sorted(result.tm) != sorted(targets):
            raise InputError(
                f"its runs saw other development targets than the rest ({len(result.tm)} against {len(targets)}): the "
                "data have changed, move the runs away"
            )

    def stack(name: str) -> FloatArray:
        return np.array([[getattr(r, name)[t] for t in targets] for r in results], dtype=np.float64)

    return Series(
        tm=stack("tm"),
        expected_tm=stack("expected_tm"),
        start_tm=stack("start_tm"),
        start_confidence=stack("start_confidence"),
        speeds=np.array([r.residues_per_second for r in results]),
    )


def decide(gain: float, low: float, high: float, minimum_gain: float) -> Verdict:
    """The verdict on a gain with its interval.

    yes: at least the minimum, and the whole interval above 0. no: the whole interval below the minimum, so that even a
    lucky reading is too little. open: the data do not tell; more seeds or more targets would.
    """
    if math.isnan(low) or math.isnan(high):
        return "open"
    if gain >= minimum_gain - _ROUNDING and low > 0:
        return "yes"
    return "no" if high < minimum_gain - _ROUNDING else "open"


def measure_gain(measure: Measure, variant: Series, baseline: Series | None, minimum_gain: float) -> MeasuredGain:
    """A variant against the baseline; `baseline` None: against the start structures of its own runs.

    Raises:
        InputError: a correlation that is not defined, because the network expects the same of every target; or a
            variant that is the baseline to the last digit, because its settings have no effect on these data.
    """
    if measure == "residues_per_second":
        assert baseline is not None, "the start structures have no speed (spec)"
        gain, low, high = estimate_paired(variant.speeds / baseline.speeds - 1.0)
    else:
        if baseline is not None and _are_equal(variant, baseline):
            raise InputError("gave the baseline's very figures on every target: its settings have no effect here")
        own = _statistic(measure, variant)
        other = _statistic(measure, variant, START) if baseline is None else _statistic(measure, baseline)
        gain, low, high = estimate(lambda s, t: own(s, t) - other(s, t), *variant.tm.shape)
    if math.isnan(gain):
        raise InputError("no correlation: the expected TM-score is the same for every target")
    return MeasuredGain(gain=gain, low=low, high=high, verdict=decide(gain, low, high, minimum_gain))


def _are_equal(variant: Series, baseline: Series) -> bool:
    return np.array_equal(variant.tm, baseline.tm) and np.array_equal(variant.expected_tm, baseline.expected_tm)


def measure_value(measure: Measure, series: Series, of: str = "") -> float:
    """The figure of a variant itself, the mean over its seeds; `of` START: of its runs' start structures."""
    if measure == "residues_per_second":
        return float(series.speeds.mean())
    num_seeds, num_targets = series.tm.shape
    return float(_statistic(measure, series, of)(*_even_weights(num_seeds, num_targets))[0])


def _statistic(measure: Measure, series: Series, of: str = "") -> Statistic:
    reached = series.start_tm if of == START else series.tm
    if measure == "expected_tm_r":
        # the rival judge rates the same predictions: the start's confidence against what the network reached
        judged = series.start_confidence if of == START else series.expected_tm
        return lambda s, t: weigh_correlation(judged, series.tm, s, t)
    values = reached - series.start_tm if measure == "gain_over_start" else reached
    return lambda s, t: np.einsum("rs,st,rt->r", s, values, t, optimize=True)


def weigh_correlation(x: FloatArray, y: FloatArray, seeds: FloatArray, targets: FloatArray) -> FloatArray:
    """(R,) Pearson's r over the targets under each row of weights, the weighted mean over the seeds.

    Args:
        x: (S, T) one variable.
        y: (S, T) the other.
        seeds: (R, S) weights of the seeds.
        targets: (R, T) weights of the targets.

    Returns:
        NaN where one of the variables is constant.
    """
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    mean_x, mean_y = targets @ x.T, targets @ y.T
    covariance = targets @ (x * y).T - mean_x * mean_y
    variance_x, variance_y = targets @ (x * x).T - mean_x**2, targets @ (y * y).T - mean_y**2
    constant = (variance_x < 1e-12) | (variance_y < 1e-12)
    r = np.where(constant, np.nan, covariance / np.sqrt(np.where(constant, 1.0, variance_x * variance_y)))
    # a seed of weight 0 must not spoil the row
    return np.asarray(np.where(seeds > 0, seeds * r, 0.0).sum(1))


def estimate(statistic: Statistic, num_seeds: int, num_targets: int, seed: int = 0) -> tuple[float, float, float]:
    """A figure and its 95 % percentile interval when seeds and targets are drawn again with replacement.

    One target gives no interval (NaN). One seed is taken as it is: the interval then says nothing about seeds.
    """
    value = float(statistic(*_even_weights(num_seeds, num_targets))[0])
    if num_targets < 2:
        return value, math.nan, math.nan
    rng = np.random.default_rng(seed)
    seeds = rng.multinomial(num_seeds, [1 / num_seeds] * num_seeds, NUM_RESAMPLES) / num_seeds
    targets = rng.multinomial(num_targets, [1 / num_targets] * num_targets, NUM_RESAMPLES) / num_targets
    drawn = statistic(seeds, targets)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < NUM_RESAMPLES // 2:
        return value, math.nan, math.nan
    low, high = np.quantile(drawn, (TAIL, 1.0 - TAIL))
    return value, float(low), float(high)


def estimate_paired(values: FloatArray) -> tuple[float, float, float]:
    """Mean (S,) and its 95 % interval by Student's t, for figures that have one value a seed; NaN for a single seed."""
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, math.nan, math.nan
    reach = T_POINTS[min(count - 1, len(T_POINTS)) - 1] * float(values.std(ddof=1)) / math.sqrt(count)
    return mean, mean - reach, mean + reach


def _even_weights(num_seeds: int, num_targets: int) -> tuple[FloatArray, FloatArray]:
    return np.full((1, num_seeds), 1 / num_seeds), np.full((1, num_targets), 1 / num_targets)
