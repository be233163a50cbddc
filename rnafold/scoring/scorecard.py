"""The score report: a table a target, the mean with its bootstrap interval, two submissions side by side, JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from rnafold.errors import InputError
from rnafold.scoring.reliability import build_reliability_json, format_reliability, measure_reliability, pair_scores
from rnafold.structure import FloatArray, Score
from rnafold.submission.provenance import PredictionRecord

_NUM_RESAMPLES: Final = 10_000
_LEVEL: Final = 0.95
_BLOCK_ELEMENTS: Final = 1 << 20
_TIE: Final = 5e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two submissions scored on the same targets; differences are second minus first of the best of five.

    `rows` holds (target_id, length, first, second); `standard_error` and `interval` (95 %, bootstrap over targets)
    are those of the mean paired difference, NaN for a single target. Wins are the second's.
    """

    rows: tuple[tuple[str, int, float, float], ...]
    mean_first: float
    mean_second: float
    standard_error: float
    interval: tuple[float, float]
    wins: int
    ties: int
    losses: int

    @property
    def mean_difference(self) -> float:
        """Mean over targets of second minus first."""
        return self.mean_second - self.mean_first


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean when targets are drawn again with replacement; NaN for fewer than two."""
    data = np.asarray(values, dtype=np.float64)
    if len(data) < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    step = max(_BLOCK_ELEMENTS // len(data), 1)
    means: list[FloatArray] = []
    for first in range(0, _NUM_RESAMPLES, step):
        draws = generator.integers(0, len(data), (min(step, _NUM_RESAMPLES - first), len(data)))
        means.append(data[draws].mean(axis=1))
    tail = (1.0 - _LEVEL) / 2.0
    low, high = np.quantile(np.concatenate(means), (tail, 1.0 - tail))
    return float(low), float(high)


def average_scores(scores: Sequence[Score]) -> float:
    """Mean of the best scores, the competition's figure.

    Raises:
        InputError: no target.
    """
    if not scores:
        raise InputError("found no scored target, expected at least one")
    return float(np.mean([score.best for score in scores]))


Records = Mapping[str, Sequence[PredictionRecord]]


def build_json(scores: Sequence[Score], metric: str, seed: int = 0, records: Records | None = None) -> dict[str, Any]:
    """`{"metric", "mean", "interval", "targets": {id: {"length", "tm", "best", "reference"}}}`; no interval is null.

    With `records` each target has "expected" (null: nothing was expected) and "origin" beside "tm", and the whole
    "reliability": {"count", "correlation", "mean_absolute_error", "bias", "bins"}.

    Raises:
        InputError: no target, or records that do not match.
    """
    found: dict[str, Any] = {
        "metric": metric,
        "mean": average_scores(scores),
        "interval": _finite_interval(bootstrap_interval([score.best for score in scores], seed)),
        "targets": {
            score.target_id: {
                "length": score.length,
                "tm": list(score.tm),
                "best": score.best,
                "reference": score.reference,
            }
            for score in scores
        },
    }
    if records is not None:
        found["reliability"] = build_reliability_json(measure_reliability(pair_scores(scores, records)))
        for target_id, entry in found["targets"].items():
            entry["expected"] = [record.confidence for record in records[target_id]]
            entry["origin"] = [record.origin for record in records[target_id]]
    return found


def format_table(scores: Sequence[Score], metric: str = "part2", seed: int = 0, records: Records | None = None) -> str:
    """The table people read: a row a target, then the mean and its interval, and with `records` how far to trust them.

    The winning prediction of a row carries a star; `ref` is the 1-based reference it was reached on.

    Raises:
        InputError: no target, or records that do not match.
    """
    mean = average_scores(scores)
    width = max(len("target"), *(len(score.target_id) for score in scores))
    num_predictions = max(len(score.tm) for score in scores)
    names = "".join(f"{f'tm_{number}':>8} " for number in range(1, num_predictions + 1))
    header = f"{'target':<{width}}  {'length':>6}  {names} {'best':>7}  {'ref':>3}"
    lines = [header, "-" * len(header)]
    for score in scores:
        cells = [f"{value:8.5f}{'*' if index == _best_index(score) else ' '}" for index, value in enumerate(score.tm)]
        cells += [" " * 9] * (num_predictions - len(cells))
        lines.append(
            f"{score.target_id:<{width}}  {score.length:>6}  {''.join(cells)} {score.best:7.5f}  {score.reference:>3}"
        )
    lines.append("-" * len(header))
    interval = _format_interval(bootstrap_interval([score.best for score in scores], seed))
    lines.append(f"mean of {len(scores)} targets ({metric}): {mean:.5f}, {interval}")
    reliability = None if records is None else measure_reliability(pair_scores(scores, records))
    lines += [] if reliability is None else [format_reliability(reliability)]
    return "\n".join(lines)


def compare(first: Sequence[Score], second: Sequence[Score], seed: int = 0) -> Comparison:
    """The second submission against the first, target by target, in the first's order.

    Raises:
        InputError: no target, or targets that only one of them has.
    """
    others = {score.target_id: score for score in second}
    known = {score.target_id for score in first}
    lonely = sorted(known.symmetric_difference(others))
    if lonely:
        raise InputError(
            f"the submissions score different targets: {len(lonely)} are in one only, first {', '.join(lonely[:3])}"
        )
    average_scores(first)
    rows = tuple((score.target_id, score.length, score.best, others[score.target_id].best) for score in first)
    differences = np.array([row[3] - row[2] for row in rows])
    error = float(differences.std(ddof=1) / np.sqrt(len(rows))) if len(rows) > 1 else float("nan")
    return Comparison(
        rows=rows,
        mean_first=float(np.mean([row[2] for row in rows])),
        mean_second=float(np.mean([row[3] for row in rows])),
        standard_error=error,
        interval=bootstrap_interval(list(differences), seed),
        wins=int((differences > _TIE).sum()),
        ties=int((np.abs(differences) <= _TIE).sum()),
        losses=int((differences < -_TIE).sum()),
    )


def format_comparison(comparison: Comparison, first: str = "first", second: str = "second") -> str:
    """The comparison as text: a row a target, then means, the paired difference, its error and interval."""
    width = max(len("target"), *(len(row[0]) for row in comparison.rows))
    columns = [max(len(name), 7) for name in (first, second)]
    header = f"{'target':<{width}}  {'length':>6}  {first:>{columns[0]}}  {second:>{columns[1]}}  {'difference':>10}"
    lines = [header, "-" * len(header)]
    for target_id, length, one, other in comparison.rows:
        lines.append(
            f"{target_id:<{width}}  {length:>6}  {one:{columns[0]}.5f}  {other:{columns[1]}.5f}  {other - one:+10.5f}"
        )
    lines.append("-" * len(header))
    lines.append(f"means: {first} {comparison.mean_first:.5f}, {second} {comparison.mean_second:.5f}")
    error = "" if np.isnan(comparison.standard_error) else f" ± {comparison.standard_error:.5f} (standard error)"
    lines.append(
        f"{second} - {first}: {comparison.mean_difference:+.5f}{error}, {_format_interval(comparison.interval, '+')}"
    )
    lines.append(f"{second} is better on {comparison.wins}, worse on {comparison.losses}, equal on {comparison.ties}")
    return "\n".join(lines)


def build_comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as a JSON object; what one target cannot give (error, interval) is null."""
    error = comparison.standard_error
    return {
        "mean_first": comparison.mean_first,
        "mean_second": comparison.mean_second,
        "mean_difference": comparison.mean_difference,
        "standard_error": None if np.isnan(error) else error,
        "interval": _finite_interval(comparison.interval),
        "wins": comparison.wins,
        "ties": comparison.ties,
        "losses": comparison.losses,
        "targets": {
            target_id: {"length": length, "first": one, "second": other, "difference": other - one}
            for target_id, length, one, other in comparison.rows
        },
    }


def _best_index(score: Score) -> int:
    return int(np.argmax(score.tm)) if score.tm else -1


def _finite_interval(interval: tuple[float, float]) -> list[float] | None:
    return None if np.isnan(interval).any() else list(interval)


def _format_interval(interval: tuple[float, float], sign: str = "") -> str:
    if np.isnan(interval).any():
        return "no interval from one target"
    return f"95 % interval {interval[0]:{sign}.5f} .. {interval[1]:{sign}.5f}"
