"""The command `experiment`: variants on one split with several seeds, and a table of what came out."""

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnafold.errors import ExitCode, InputError

if TYPE_CHECKING:
    from rnafold.experiments.spec import Experiment, PlannedRun
    from rnafold.experiments.summary import Summary

log = logging.getLogger(__name__)
DEFAULT_OUT = Path("runs") / "experiments"

_DESCRIPTION = """\
Trains every variant of every experiment with every seed on one development split, compares the variants with the
baseline target by target, and prints a table: result, gain with its 95 % interval, hours, verdict. Says first what it
will cost. Finished runs are not repeated and half-done ones go on, so the same command continues after --max-hours.
"""
_EPILOG = """\
verdicts: yes (gain of at least minimum_gain, interval above 0), no (interval below minimum_gain), open (the data do
not tell), failed: reason (the others go on)

exit codes: 0 done, or out of time with all well so far; 2 a file or an option is at fault; 3 a run failed
"""


def add_experiment(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `experiment`."""
    experiment = commands.add_parser(
        "experiment",
        help="compare ways to train: several seeds, one split, intervals, a verdict",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = experiment.add_argument
    add("experiments", type=Path, nargs="+", metavar="YAML", help="files like experiments/*.yaml")
    add("--data", required=True, type=Path, metavar="DIR", help="folder with train_sequences.csv etc.")
    add("--gpu", metavar="NAME", help="a file in configs/gpu, or auto (default: what the experiment says)")
    add("--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help=f"runs and results (default: {DEFAULT_OUT})")
    add("--max-hours", type=float, metavar="H", help="stop cleanly before H hours, all experiments together")
    add("--jobs", type=int, default=1, metavar="N", help="runs at the same time, on a CPU (default: 1)")
    add("--record", type=Path, metavar="FILE", help="put the tables into this Markdown file (experiments/README.md)")
    add("--json", action="store_true", help="print JSON: a list with one entry an experiment, as in results.json")
    experiment.set_defaults(call=run_experiments)


def run_experiments(arguments: argparse.Namespace) -> int:
    """Runs `experiment`; returns the exit code."""
    if arguments.max_hours is not None and arguments.max_hours <= 0:
        raise InputError(f"--max-hours {arguments.max_hours}: expected a number above 0")
    if arguments.jobs < 1:
        raise InputError(f"--jobs {arguments.jobs}: expected 1 or more")
    from rnafold.experiments.costs import describe_costs, estimate_costs
    from rnafold.experiments.runs import ExperimentCall, run_all
    from rnafold.experiments.spec import index_by_name
    from rnafold.experiments.summary import summarize
    from rnafold.experiments.table import check_record
    from rnafold.training.schedule import TimeBudget

    budget = TimeBudget(arguments.max_hours)
    experiments = [experiment for _, experiment in index_by_name(arguments.experiments).values()]
    if arguments.record is not None:
        check_record(arguments.record, experiments)
    # everything that can be refused is refused before the first hour is spent
    plans = [(experiment, _plan(experiment, arguments)) for experiment in experiments]
    for _, runs in plans:
        costs = describe_costs(runs, estimate_costs(runs, arguments.data), arguments.max_hours)
        log.info("%s", costs) if arguments.json else print(costs, flush=True)
    failed = stopped = False
    published = []
    for experiment, runs in plans:
        call = ExperimentCall(data=arguments.data, budget=budget, stopped=stopped)
        # runs side by side would slow each other down: a speed is measured alone
        run_all(runs, call, 1 if experiment.measure == "residues_per_second" else arguments.jobs)
        summary = summarize(experiment, runs, call.failures)
        published.append(_publish(summary, arguments))
        failed = failed or summary.has_failed
        stopped = call.stopped
        if stopped:
            log.info("%s: stopped before its end; the same command goes on from here", experiment.name)
    if arguments.json:
        print(json.dumps(published))
    return ExitCode.LOSSES if failed else ExitCode.DONE


def _plan(experiment: "Experiment", arguments: argparse.Namespace) -> "tuple[PlannedRun, ...]":
    from rnafold.experiments.spec import plan_runs
    from rnafold.machine import resolve_gpu

    gpu, note = resolve_gpu(arguments.gpu or experiment.gpu)
    if note:
        log.info("%s: %s (%s)", experiment.name, gpu, note)
    runs = plan_runs(experiment, gpu, arguments.out)
    if arguments.jobs > 1 and runs[0].config.hardware.device_type != "cpu":
        raise InputError(f"--jobs {arguments.jobs}: on {gpu} runs would share the card, expected 1")
    return runs


def _publish(summary: "Summary", arguments: argparse.Namespace) -> dict[str, Any]:
    """Prints the table, writes results.json (which is returned) and results.md, and records a complete one."""
    from rnafold.experiments.summary import summary_to_json
    from rnafold.experiments.table import format_summary, put_block
    from rnafold.files.atomic import write_text

    text, folder = format_summary(summary), arguments.out / summary.experiment.name
    plain = summary_to_json(summary)
    if not arguments.json:
        print(f"\n{text}\n", flush=True)
    write_text(folder / "results.json", json.dumps(plain, indent=1) + "\n")
    write_text(folder / "results.md", text + "\n")
    if arguments.record is None:
        return plain
    if not summary.is_complete:
        log.info("%s: not recorded in %s before all runs are done", summary.experiment.name, arguments.record)
        return plain
    old = arguments.record.read_text(encoding="utf-8")
    write_text(arguments.record, put_block(old, summary.experiment.name, text, str(arguments.record)))
    log.info("%s: recorded in %s", summary.experiment.name, arguments.record)
    return plain
