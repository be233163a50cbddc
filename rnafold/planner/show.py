"""Plans as text and as JSON."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from rnafold.planner.plan import Choice, Plan
from rnafold.planner.quota.rules import PlannedSession, state_to_json


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values; `memory`, `hours`, `sessions`, `launch` are those of the chosen way."""
    chosen = plan.chosen
    return {
        "gpu": plan.gpu,
        "model": plan.model,
        "num_parameters": plan.num_parameters,
        "num_frozen": plan.num_frozen,
        "length": plan.length,
        "load": plan.load,
        "fits": plan.fits,
        "reasons": list(plan.reasons),
        "suggestion": plan.suggestion,
        "way": chosen.name,
        "micro_batch": chosen.micro_batch,
        "accumulation": chosen.accumulation,
        "largest_micro_batch": plan.largest_micro_batch,
        "memory": {
            "peak_gib": round(chosen.memory.peak_gib, 4),
            "limit_gib": round(chosen.memory.limit_gib, 4),
            "parts": {k: round(v, 5) for k, v in chosen.memory.parts.items()},
            "modules": {k: round(v, 5) for k, v in _by_size(chosen.memory.modules)},
        },
        "hours": _hours(chosen),
        "sessions": [dataclasses.asdict(s) for s in plan.sessions],
        "schedule": [dataclasses.asdict(s) for s in plan.schedule],
        "runs_possible": plan.runs_possible,
        "runs_recommended": plan.runs_recommended,
        "usd": plan.usd,
        "launch": "\n".join(plan.launch),
        "kernel": plan.kernel,
        "quota": None if plan.state is None else state_to_json(plan.state),
        "alternatives": [{"way": c.name, "hours": _hours(c)} for c in plan.alternatives],
        "prediction": plan.prediction,
        "notes": list(plan.notes),
    }


def _hours(choice: Choice) -> dict[str, Any]:
    hours = choice.hours
    return {
        "expected": round(hours.expected, 5),
        "expected_prepared": round(hours.expected_prepared, 5),
        "ahead_cpu_hours": round(hours.ahead_cpu_hours, 5),
        "low": round(hours.low, 5),
        "high": round(hours.high, 5),
        "parts": {k: round(v, 6) for k, v in hours.parts.items()},
        "per_run": round(choice.hours_per_run, 5),
        "source": hours.source,
        "seconds_per_epoch": round(hours.seconds_per_epoch, 3),
        "steps_per_epoch": round(hours.steps_per_epoch, 2),
    }


# Hours that preparation ahead must spare to be mentioned, and the cores of Kaggle's CPU kernel.
WORTH_PREPARING_HOURS, KERNEL_CORES = 0.05, 4


def format_hours(hours: float) -> str:
    """Hours above one, minutes below."""
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def _by_size(values: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(values.items(), key=lambda item: -item[1])


def format_plan(plan: Plan, *, by_module: bool = False) -> str:
    """The plan as text for a terminal; `by_module` says which parts of the network take the memory."""
    chosen = plan.chosen
    frozen = f", {plan.num_frozen:,} more frozen" if plan.num_frozen else ""
    lines = [
        f"{plan.model} ({plan.num_parameters:,} parameters{frozen}) on {plan.gpu}: "
        f"{'fits' if plan.fits else 'DOES NOT FIT'}",
        f"  data      {plan.load}; crops of {plan.length}",
    ]
    lines += [f"  because   {reason}" for reason in plan.reasons]
    if plan.suggestion:
        lines.append(f"  nearest   {plan.suggestion}")
    parts = ", ".join(f"{k} {v:.2f}" for k, v in sorted(chosen.memory.parts.items(), key=lambda i: -i[1]) if v >= 0.005)
    lines += [
        f"  memory    {chosen.memory.peak_gib:.2f} of {chosen.memory.limit_gib:.2f} GiB a card: {parts}",
        f"  batch     {chosen.micro_batch} x {chosen.accumulation} x {chosen.cards} card(s) = "
        f"{chosen.micro_batch * chosen.accumulation * chosen.cards}; at most {plan.largest_micro_batch} is safe",
    ]
    if by_module:
        named = ", ".join(f"{name} {value:.3f}" for name, value in _by_size(chosen.memory.modules))
        lines.append(f"  modules   of attention, activations and output, in GiB: {named}")
    if plan.prediction:
        found = plan.prediction
        lines.append(
            f"  predict   {found['peak_gib']:.2f} of {found['limit_gib']:.2f} GiB at {found['length']:.0f} residues"
        )
    hours = chosen.hours
    spent = ", ".join(f"{name} {format_hours(value)}" for name, value in hours.parts.items() if value > 1e-4)
    lines += [
        f"  hours     {format_hours(hours.expected)} ({format_hours(hours.low)} - {format_hours(hours.high)}): {spent}",
        f"            {hours.steps_per_epoch:.0f} steps and {format_hours(hours.seconds_per_epoch / 3600)} an epoch",
    ]
    if hours.expected - hours.expected_prepared > WORTH_PREPARING_HOURS:
        lines.append(
            f"  ahead     {format_hours(hours.expected_prepared)} with the output of kernels/prepare attached, which "
            f"takes {format_hours(hours.ahead_cpu_hours / KERNEL_CORES)} of a CPU kernel and no GPU quota"
        )
    for other in (chosen, *plan.alternatives) if plan.alternatives else ():
        mark = "*" if other is chosen else " "
        fits = "" if other.memory.fits else ", does not fit"
        lines.append(f"  {mark} way     {other.name}: {format_hours(other.hours_per_run)} of the machine a run{fits}")
    if plan.usd is not None:
        lines.append(f"  cost      {plan.usd:.2f} $ a run")
    lines += _quota_lines(plan)
    lines += [f"  {'launch' if k == 0 else '':<8}  {line}" for k, line in enumerate(plan.launch)]
    if plan.kernel:
        lines.append(f"  kernel    {json.dumps(plan.kernel)}")
    lines += [f"  note      {note}" for note in plan.notes]
    return "\n".join(lines)


def _quota_lines(plan: Plan) -> list[str]:
    if plan.state is None:
        return [f"  session   {_session(s)}" for s in plan.sessions[:1]] if len(plan.sessions) > 1 else []
    state = plan.state
    lines = [
        f"  quota     {state.left:.1f} h left of {state.total:g} ({state.source}: {state.used:.1f} used, "
        f"{state.reserved:.1f} reserved by running sessions) until {state.resets_at:%a %d %b %H:%M} UTC",
        f"  runs      {plan.runs_possible} possible, {plan.runs_recommended} recommended (different seeds or settings; "
        "the reserve is kept for the final training and export)",
    ]
    lines += [f"  session   {_session(s)}" for s in plan.sessions]
    for session in plan.schedule if plan.runs_recommended > plan.chosen.runs else ():
        lines.append(f"  schedule  run {session.run} in slot {session.slot + 1}: {_session(session)}")
    return lines


def _session(session: PlannedSession) -> str:
    begins = f"from hour {session.starts_after_hours:.1f}"
    if session.resumes_at_hours <= 0:
        return f"{begins}, {format_hours(session.hours)}, from the start"
    return (
        f"{begins}, {format_hours(session.hours)}, resumes after {session.resumes_at_hours:.1f} h of training "
        f"(epoch {session.resumes_at_epoch:.1f})"
    )
