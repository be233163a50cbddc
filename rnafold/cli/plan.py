"""The commands `plan` and `quota`: what fits, how long it takes, what to run this week. No torch in this process
unless it measures (`--calibrate`) or looks at the machine (`--gpu auto`).
"""

import argparse
import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from rnafold.errors import ExitCode, InputError
from rnafold.planner.quota.ledger import LEDGER_FILE, Session, read_sessions
from rnafold.planner.quota.rules import (
    QuotaRules,
    QuotaState,
    load_rules,
    state_to_json,
)

DEFAULT_LEDGER = Path("runs") / LEDGER_FILE


def add_plan(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `plan`."""
    plan = commands.add_parser(
        "plan",
        help="does a run fit, how long does it take, what to run this week",
        description="Predicts memory and hours of a run without the GPU; exits with 1 if it does not fit.",
    )
    plan.add_argument("--gpu", default="auto", metavar="NAME", help="a file in configs/gpu, or auto (default)")
    plan.add_argument("--data", type=Path, metavar="DIR", help="folder with train_sequences.csv etc.")
    plan.add_argument("--examples", type=int, default=800, metavar="N", help="without --data: clusters of crop length")
    plan.add_argument("--model", default="base", metavar="NAME", help="a file in configs/model (default: base)")
    plan.add_argument("--predict-length", type=int, default=0, metavar="L", help="also the memory of predicting L")
    plan.add_argument("--by-module", action="store_true", help="also which parts of the network take the memory")
    plan.add_argument("--matrix", action="store_true", help="every model on every card")
    plan.add_argument("--calibrate", action="store_true", help="measure step times on this machine first (minutes)")
    plan.add_argument("--workload", metavar="NAME", help="another job: a file in configs/workloads, set by --set")
    plan.add_argument("--ledger", type=Path, default=DEFAULT_LEDGER, metavar="FILE", help=f"default: {DEFAULT_LEDGER}")
    plan.add_argument(
        "--cache", type=Path, metavar="DIR", help="traces, measurements (default: where `train` keeps them, data.cache)"
    )
    plan.add_argument("--offline", action="store_true", help="do not ask Kaggle for the quota")
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="any configuration key, quota.KEY, or an input of --workload",
    )
    plan.set_defaults(call=run_plan)


def add_quota(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `quota`."""
    quota = commands.add_parser("quota", help="hours used, reserved and left this week; planned and actual")
    quota.add_argument("--ledger", type=Path, default=DEFAULT_LEDGER, metavar="FILE", help=f"default: {DEFAULT_LEDGER}")
    quota.add_argument("--offline", action="store_true", help="do not ask Kaggle")
    quota.add_argument("--json", action="store_true", help="print JSON")
    quota.add_argument("--set", nargs="+", action="extend", default=[], metavar="quota.KEY=VALUE")
    quota.set_defaults(call=run_quota)


def run_plan(arguments: argparse.Namespace) -> int:
    """Runs `plan`; returns the exit code."""
    if arguments.workload is not None:
        return _plan_workload(arguments)
    overrides = [text for text in arguments.set if not text.startswith("quota.")]
    rules = load_rules(overrides=[text for text in arguments.set if text.startswith("quota.")])
    if arguments.matrix:
        return _plan_matrix(arguments, overrides, rules)
    return _plan_run(arguments, overrides, rules)


def _plan_run(arguments: argparse.Namespace, overrides: list[str], rules: QuotaRules) -> int:
    from rnafold.config.settings import resolve_config
    from rnafold.planner.memory.estimate import TraceStore
    from rnafold.planner.memory.records import PLANNER_FOLDER
    from rnafold.planner.plan import Request, build_plan, needed_traces
    from rnafold.planner.show import format_plan, plan_to_json
    from rnafold.planner.time.load import assume_load, read_load
    from rnafold.planner.time.measurements import read_measurements

    gpu = arguments.gpu
    if gpu == "auto" or arguments.calibrate:
        from rnafold.machine import resolve_gpu

        gpu, _ = resolve_gpu(gpu)
    config = resolve_config(gpu, arguments.model, overrides)
    if arguments.examples < 1:
        raise InputError(f"--examples {arguments.examples}: expected 1 or more")
    arguments.cache = arguments.cache or Path(config.data.cache) / PLANNER_FOLDER
    store = TraceStore(arguments.cache)
    if arguments.calibrate:
        _calibrate(arguments, gpu, overrides)
    # most data sets fill the crop, so tracing can begin while the data are read
    store.request(needed_traces(config, config.data.crop_length, arguments.predict_length))
    if arguments.data is None:
        load = assume_load(config, arguments.examples)
    else:
        load = read_load(arguments.data, config.data, arguments.cache)
    state = None
    if config.hardware.kaggle.machine_shape is not None:
        state, _ = _read_state(arguments, rules)
    request = Request(
        gpu=gpu,
        model=arguments.model,
        config=config,
        load=load,
        rules=rules,
        state=state,
        measurements=tuple(read_measurements(arguments.cache)),
        overrides=tuple(overrides),
        data="DIR" if arguments.data is None else str(arguments.data),
        predict_length=arguments.predict_length,
    )
    plan = build_plan(request, store)
    print(json.dumps(plan_to_json(plan)) if arguments.json else format_plan(plan, by_module=arguments.by_module))
    return ExitCode.DONE if plan.fits else ExitCode.FAULT


def _calibrate(arguments: argparse.Namespace, gpu: str, overrides: Sequence[str]) -> None:
    from rnafold.config.settings import resolve_config
    from rnafold.planner.time.measurements import append_measurements
    from rnafold.training.calibrate import calibrate

    if arguments.data is None:
        raise InputError(
            "--calibrate: give the data to measure on with --data DIR (`python -m rnafold demo` leaves some)"
        )
    found = calibrate(resolve_config(gpu, arguments.model, overrides), arguments.data)
    append_measurements(arguments.cache, found.measurements)


def _plan_matrix(arguments: argparse.Namespace, overrides: list[str], rules: QuotaRules) -> int:
    from rnafold.config.settings import resolve_config
    from rnafold.planner.matrix import build_matrix, format_matrix, matrix_to_json
    from rnafold.planner.memory.estimate import TraceStore
    from rnafold.planner.memory.records import PLANNER_FOLDER
    from rnafold.planner.time.load import assume_load, read_load
    from rnafold.planner.time.measurements import read_measurements

    config = resolve_config("cpu", "base", [o for o in overrides if o.startswith("data.")])
    arguments.cache = arguments.cache or Path(config.data.cache) / PLANNER_FOLDER
    if arguments.data is None:
        load = assume_load(config, arguments.examples)
    else:
        load = read_load(arguments.data, config.data, arguments.cache)
    measurements = read_measurements(arguments.cache)
    cells, impossible = build_matrix(load, TraceStore(arguments.cache), rules, measurements, overrides)
    print(json.dumps(matrix_to_json(cells, impossible)) if arguments.json else format_matrix(cells, impossible))
    return ExitCode.DONE


def _plan_workload(arguments: argparse.Namespace) -> int:
    from rnafold.config.hardware import load_gpus
    from rnafold.planner.workloads.plan import format_workload, plan_workload, workload_to_json

    gpu = None if arguments.gpu == "auto" else arguments.gpu
    plan = plan_workload(arguments.workload, arguments.set, load_gpus(), gpu)
    print(json.dumps(workload_to_json(plan)) if arguments.json else format_workload(plan))
    fits = plan.fits if gpu is None else any(c.fits for c in plan.cards if c.gpu == gpu)
    return ExitCode.DONE if fits else ExitCode.FAULT


def _read_state(arguments: argparse.Namespace, rules: QuotaRules) -> tuple[QuotaState, str]:
    from rnafold.kaggle.quota import read_state

    now = datetime.datetime.now(datetime.UTC)
    return read_state(read_sessions(arguments.ledger), rules, now, offline=arguments.offline)


def run_quota(arguments: argparse.Namespace) -> int:
    """Runs `quota`; returns the exit code."""
    outside = [text for text in arguments.set if not text.startswith("quota.")]
    if outside:
        raise InputError(f"--set {outside[0]}: quota takes quota.KEY=VALUE only")
    rules = load_rules(overrides=arguments.set)
    state, note = _read_state(arguments, rules)
    sessions = read_sessions(arguments.ledger)
    if arguments.json:
        plain = [{**_session_json(s)} for s in sessions]
        print(json.dumps({**state_to_json(state), "note": note, "reserve": rules.reserve_hours, "sessions": plain}))
        return ExitCode.DONE
    free = max(state.left - rules.reserve_hours, 0.0)
    print(
        f"GPU hours this week: {state.used:.2f} used, {state.reserved:.2f} reserved by running sessions, "
        f"{state.left:.2f} left of {state.total:g} until {state.resets_at:%a %d %b %H:%M} UTC\n"
        f"{free:.2f} h beyond the reserve of {rules.reserve_hours:g} h for the final training and export; {note}"
    )
    for session in sessions:
        print(format_session(session))
    return ExitCode.DONE


def _session_json(session: Session) -> dict[str, object]:
    return {
        "run": session.run,
        "gpu": session.gpu,
        "counts": session.counts,
        "started": session.started.isoformat(),
        "hours": session.hours,
        "predicted_hours": session.predicted_hours,
        "peak_gib": session.peak_gib,
        "predicted_peak_gib": session.predicted_peak_gib,
        "ended": session.ended,
        "outcome": session.outcome,
    }


def format_session(session: Session) -> str:
    """One line: when, what, hours and memory as planned and as they came."""
    planned = "no plan" if session.predicted_hours is None else f"planned {session.predicted_hours:.3f} h"
    memory = ""
    if session.peak_gib is not None and session.predicted_peak_gib is not None:
        memory = f"; memory {session.peak_gib:.2f} GiB, planned {session.predicted_peak_gib:.2f}"
    outcome = session.outcome or ("ended" if session.ended else "no end noted")
    quota = "" if session.counts else ", not under the quota"
    return (
        f"  {session.started:%Y-%m-%d %H:%M}  {session.run:<24} {session.gpu:<10} {session.hours:.3f} h "
        f"({planned}{quota}){memory}  {outcome}"
    )
