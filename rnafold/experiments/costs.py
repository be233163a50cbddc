"""What an experiment will cost: the planner's hours before the first run, measured ones as soon as there are some."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rnafold.experiments.results import find_progress, measure_hours
from rnafold.experiments.spec import PlannedRun
from rnafold.planner.memory.estimate import TraceStore
from rnafold.planner.plan import Request, build_plan
from rnafold.planner.quota.rules import load_rules
from rnafold.planner.show import format_hours
from rnafold.planner.time.load import read_load
from rnafold.planner.time.measurements import read_measurements
from rnafold.training.guard import RunGuard

PLANNED: Final = "the planner"
MEASURED: Final = "finished runs of the same variant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Hours of one run of a variant and what the figure rests on; `hours` None: nothing is known before it runs."""

    hours: float | None
    source: str


def estimate_costs(runs: Sequence[PlannedRun], data: Path) -> dict[str, Cost]:
    """The cost of one run of each variant that has runs left to do.

    Raises:
        InputError: the data cannot be read.
    """
    costs: dict[str, Cost] = {}
    for run in runs:
        if run.variant not in costs and find_progress(run) != "finished":
            measured = _mean_hours([r for r in runs if r.variant == run.variant])
            costs[run.variant] = _plan(run, data) if measured is None else Cost(hours=measured, source=MEASURED)
    return costs


def _mean_hours(runs: Sequence[PlannedRun]) -> float | None:
    hours = [measure_hours(r.folder) for r in runs if find_progress(r) == "finished"]
    return sum(hours) / len(hours) if hours else None


def _plan(run: PlannedRun, data: Path) -> Cost:
    guard = RunGuard(run.config, run.folder)
    load = read_load(data, run.config.data, guard.cache)
    if guard.is_trial:
        return Cost(hours=None, source="a small model on a CPU is not planned")
    request = Request(
        gpu=run.gpu,
        model=run.choices.model,
        config=run.config,
        load=load,
        rules=load_rules(),
        state=None,
        measurements=tuple(read_measurements(guard.cache)),
    )
    hours = build_plan(request, TraceStore(guard.cache)).chosen.hours
    return Cost(hours=hours.expected, source=f"{PLANNED}: {hours.source}")


def describe_costs(runs: Sequence[PlannedRun], costs: Mapping[str, Cost], max_hours: float | None = None) -> str:
    """What is printed before the first run: runs left, hours by variant and in total, and where they are from."""
    name = runs[0].experiment
    todo = [r for r in runs if r.variant in costs and find_progress(r) not in ("finished", "not_finite")]
    if not todo:
        return f"{name}: all {len(runs)} runs are finished, nothing to train"
    lines, total, unknown = [], 0.0, 0
    for variant, cost in costs.items():
        own = [r for r in todo if r.variant == variant]
        if cost.hours is None:
            unknown += len(own)
            lines.append(f"  {variant}: {_count(own)}, hours not known ({cost.source}); the first run will tell")
            continue
        hours = sum(max(cost.hours - measure_hours(r.folder), 0.0) for r in own)
        total += hours
        lines.append(f"  {variant}: {_count(own)}, about {format_hours(hours)} ({cost.source})")
    tail = f", and {unknown} of unknown length" if unknown else ""
    first = f"{name}: {len(todo)} of {len(runs)} runs to do, about {format_hours(total)}{tail}"
    if max_hours is not None and total > max_hours:
        lines.append(f"  more than the {format_hours(max_hours)} allowed: the same command goes on next time")
    return "\n".join([first, *lines])


def _count(runs: Sequence[PlannedRun]) -> str:
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"


def describe_rest(runs: Sequence[PlannedRun], failures: Mapping[tuple[str, int], str]) -> str:
    """One line after a run: how many are done and how long the rest takes, from what the finished ones took."""
    todo = [
        r for r in runs if (r.variant, r.seed) not in failures and find_progress(r) not in ("finished", "not_finite")
    ]
    done = len(runs) - len(todo)
    line = f"{runs[0].experiment}: {done} of {len(runs)} runs done"
    overall = _mean_hours(runs)
    if not todo or overall is None:
        return line
    hours = 0.0
    for run in todo:
        own = _mean_hours([r for r in runs if r.variant == run.variant])
        hours += max((overall if own is None else own) - measure_hours(run.folder), 0.0)
    return f"{line}, about {format_hours(hours)} to go (measured on finished runs)"
