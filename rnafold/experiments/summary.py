"""From runs to findings: a row a variant with its figure, its gain over the baseline, hours and verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rnafold import __version__
from rnafold.errors import InputError
from rnafold.experiments.results import find_progress, measure_hours, read_result
from rnafold.experiments.spec import START, Experiment, PlannedRun
from rnafold.experiments.statistics import MeasuredGain, Series, collect, measure_gain, measure_value

State = Literal["finished", "baseline", "failed", "unfinished", "alone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a variant stands: `alone` has no baseline to be compared with yet; `note` says why, for people."""

    state: State
    note: str = ""

    def __str__(self) -> str:
        if self.state == "failed":
            return f"failed: {self.note}"
        return self.note or self.state


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table. `value` None: not all seeds are finished; `comparison` None: nothing to compare (yet)."""

    variant: str
    is_baseline: bool
    value: float | None
    by_seed: tuple[float, ...]
    comparison: MeasuredGain | None
    hours: float
    status: Status

    @property
    def verdict(self) -> str:
        """yes, no or open; baseline; or what kept a variant from getting one."""
        return self.comparison.verdict if self.comparison is not None else str(self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An experiment's findings; `num_targets` 0 while no run is finished."""

    experiment: Experiment
    gpu: str
    num_targets: int
    rows: tuple[Row, ...]

    @property
    def has_failed(self) -> bool:
        """Whether a variant failed."""
        return any(row.status.state == "failed" for row in self.rows)

    @property
    def is_complete(self) -> bool:
        """Whether every variant is finished or failed: only then the table goes on record."""
        return not any(row.status.state == "unfinished" for row in self.rows)


def summarize(experiment: Experiment, runs: Sequence[PlannedRun], failures: Mapping[tuple[str, int], str]) -> Summary:
    """Reads the runs and compares every variant whose seeds are all finished with the baseline."""
    groups = {name: [r for r in runs if r.variant == name] for name in experiment.variants}
    series: dict[str, Series] = {}
    status: dict[str, Status] = {}
    targets: tuple[str, ...] = ()
    # the baseline first: its targets are those that all others must have
    for name in sorted(groups, key=lambda n: n != experiment.baseline):
        status[name] = _describe_progress(groups[name], failures)
        if status[name].state != "finished":
            continue
        try:
            results = [read_result(r.folder) for r in groups[name]]
            targets = targets or tuple(sorted(results[0].tm))
            series[name] = collect(results, targets)
            measure_value(experiment.measure, series[name])
        except InputError as error:
            status[name] = Status(state="failed", note=str(error))
    rows = [_build_row(experiment, name, groups[name], series, status[name]) for name in experiment.variants]
    return Summary(
        experiment=experiment,
        gpu=runs[0].gpu,
        num_targets=len(targets),
        rows=tuple(_add_start(experiment, rows, series)),
    )


def _describe_progress(runs: Sequence[PlannedRun], failures: Mapping[tuple[str, int], str]) -> Status:
    """Finished if all are, else failed or unfinished."""
    failed = {run.seed: failures[run.variant, run.seed] for run in runs if (run.variant, run.seed) in failures}
    if failed:
        seed, reason = next(iter(failed.items()))
        others = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return Status(state="failed", note=f"{reason} (seed {seed}{others})")
    finished = sum(find_progress(run) == "finished" for run in runs)
    if finished == len(runs):
        return Status(state="finished")
    return Status(state="unfinished", note=f"unfinished ({finished} of {len(runs)} runs)")


def _build_row(
    experiment: Experiment, name: str, runs: Sequence[PlannedRun], series: Mapping[str, Series], status: Status
) -> Row:
    is_baseline = name == experiment.baseline
    own, base = series.get(name), series.get(experiment.baseline)
    comparison = None
    if own is not None and is_baseline:
        status = Status(state="baseline")
    elif own is not None and (base is not None or experiment.baseline == START):
        try:
            comparison = measure_gain(experiment.measure, own, base, experiment.minimum_gain)
        except InputError as error:
            status = Status(state="failed", note=str(error))
    elif own is not None:
        status = Status(state="alone", note=f"no {experiment.baseline} to compare with")
    return Row(
        variant=name,
        is_baseline=is_baseline,
        value=None if own is None else measure_value(experiment.measure, own),
        by_seed=() if own is None else tuple(measure_value(experiment.measure, one) for one in own.split()),
        comparison=comparison,
        hours=sum(measure_hours(run.folder) for run in runs),
        status=status,
    )


def _add_start(experiment: Experiment, rows: list[Row], series: Mapping[str, Series]) -> list[Row]:
    """The line of the start structures before the others, from the first variant that has them."""
    if experiment.baseline != START or not series:
        return rows
    first = next(iter(series.values()))
    start = Row(
        variant=START,
        is_baseline=True,
        value=measure_value(experiment.measure, first, START),
        by_seed=tuple(measure_value(experiment.measure, one, START) for one in first.split()),
        comparison=None,
        hours=0.0,
        status=Status(state="baseline"),
    )
    return [start, *rows]


def summary_to_json(summary: Summary) -> dict[str, Any]:
    """results.json; NaN is null."""
    experiment = summary.experiment
    return {
        "name": experiment.name,
        "question": experiment.question,
        "expected": experiment.expected,
        "measure": experiment.measure,
        "minimum_gain": experiment.minimum_gain,
        "seeds": list(experiment.seeds),
        "baseline": experiment.baseline,
        "gpu": summary.gpu,
        "num_targets": summary.num_targets,
        "common": experiment.common,
        "rnafold": __version__,
        "variants": [_row_to_json(experiment, row) for row in summary.rows],
    }


def _row_to_json(experiment: Experiment, row: Row) -> dict[str, Any]:
    variant = experiment.variants.get(row.variant)
    found = row.comparison
    return {
        "variant": row.variant,
        "model": None if variant is None else variant.model or experiment.model,
        "settings": {} if variant is None else variant.settings,
        "value": _finite(row.value),
        "by_seed": [_finite(value) for value in row.by_seed],
        "gain": None if found is None else _finite(found.gain),
        "low": None if found is None else _finite(found.low),
        "high": None if found is None else _finite(found.high),
        "hours": round(row.hours, 5),
        "verdict": row.verdict,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 6)
