"""How far expected TM-scores can be trusted: correlation, error and bins of expected against achieved."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from rnafold.errors import InputError
from rnafold.structure import Score
from rnafold.submission.provenance import PredictionRecord

NUM_BINS: Final = 10
# Fewer pairs, or pairs without any spread, have no correlation.
_LEAST_FOR_CORRELATION: Final = 3
_LEAST_SPREAD: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPrediction:
    """Expected and achieved TM-score of one prediction that an expectation was recorded for."""

    target_id: str
    prediction: int
    origin: str
    expected: float
    achieved: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Predictions whose expected TM-score lies in [low, high): how many, and both means.

    `standard_error` is that of the achieved mean; None for a single prediction.
    """

    low: float
    high: float
    count: int
    expected: float
    achieved: float
    standard_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Expected against achieved over `count` predictions.

    Attributes:
        count: predictions compared.
        correlation: Pearson's r; None for fewer than three predictions or without spread.
        mean_absolute_error: mean of |expected - achieved|.
        bias: mean of expected - achieved; above 0 is too sure.
        bins: tenths of the expected TM-score that hold a prediction, from low to high.
    """

    count: int
    correlation: float | None
    mean_absolute_error: float
    bias: float
    bins: tuple[Bin, ...]


def pair_scores(scores: Sequence[Score], records: Mapping[str, Sequence[PredictionRecord]]) -> list[ScoredPrediction]:
    """Expected beside achieved of every scored prediction with an expectation, in the order of the scores.

    Raises:
        InputError: a scored target without records, or with another number of predictions.
    """
    pairs = []
    for score in scores:
        rows = records.get(score.target_id, ())
        if len(rows) != len(score.tm):
            raise InputError(f"{score.target_id}: {len(score.tm)} predictions are scored, {len(rows)} recorded")
        pairs += [
            ScoredPrediction(
                target_id=score.target_id,
                prediction=row.prediction,
                origin=row.origin,
                expected=row.confidence,
                achieved=tm,
            )
            for row, tm in zip(rows, score.tm)
            if row.confidence is not None
        ]
    return pairs


def measure_reliability(pairs: Sequence[ScoredPrediction]) -> Reliability | None:
    """The figures over all pairs; None without any."""
    if not pairs:
        return None
    expected = np.array([pair.expected for pair in pairs], dtype=np.float64)
    achieved = np.array([pair.achieved for pair in pairs], dtype=np.float64)
    correlation = None
    if len(pairs) >= _LEAST_FOR_CORRELATION and min(expected.std(), achieved.std()) > _LEAST_SPREAD:
        correlation = float(np.corrcoef(expected, achieved)[0, 1])
    # rounded first: 1 - 0.9 = 0.09999999999999998 belongs to the bin that begins at 0.1
    places = np.clip(np.floor(np.round(expected * NUM_BINS, 9)), 0, NUM_BINS - 1).astype(np.int64)
    bins = [_describe_bin(int(place), expected[places == place], achieved[places == place]) for place in set(places)]
    return Reliability(
        count=len(pairs),
        correlation=correlation,
        mean_absolute_error=float(np.abs(expected - achieved).mean()),
        bias=float((expected - achieved).mean()),
        bins=tuple(sorted(bins, key=lambda entry: entry.low)),
    )


def _describe_bin(place: int, expected: "np.ndarray[Any, Any]", achieved: "np.ndarray[Any, Any]") -> Bin:
    count = len(expected)
    return Bin(
        low=place / NUM_BINS,
        high=(place + 1) / NUM_BINS,
        count=count,
        expected=float(expected.mean()),
        achieved=float(achieved.mean()),
        standard_error=float(achieved.std(ddof=1) / np.sqrt(count)) if count > 1 else None,
    )


def format_reliability(reliability: Reliability) -> str:
    """One line: r, mean absolute error and bias."""
    r = "no r" if reliability.correlation is None else f"r {reliability.correlation:.3f}"
    return (
        f"expected against achieved TM-score: {r}, mean absolute error {reliability.mean_absolute_error:.3f}, "
        f"mean difference {reliability.bias:+.3f} over {reliability.count} predictions"
    )


def build_reliability_json(reliability: Reliability | None) -> dict[str, Any] | None:
    """The figures and bins as a JSON object; null where no prediction has an expectation."""
    return None if reliability is None else asdict(reliability)
