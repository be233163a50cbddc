"""Runs the runs of an experiment: what is finished is left alone, what is half done goes on, what fails is noted."""

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rnafold import machine
from rnafold.errors import ExitCode, InputError, parse_error
from rnafold.experiments.costs import describe_rest
from rnafold.experiments.results import find_progress, read_preparation_seconds, read_state
from rnafold.experiments.spec import PlannedRun
from rnafold.report import report_finished_run
from rnafold.training.run import train_model
from rnafold.training.schedule import TimeBudget

log = logging.getLogger(__name__)
NOT_FINITE = "loss or gradient were not finite for too many steps in a row"
# A run that would be cut off in its preparation is not begun.
PREPARATION_MARGIN = 1.5


@dataclass(slots=True)
class ExperimentCall:
    """One call of the command: its time budget, reasons of failed runs by (variant, seed), and whether it must stop."""

    data: Path
    budget: TimeBudget
    failures: dict[tuple[str, int], str] = field(default_factory=dict)
    stopped: bool = False

    def has_time_for(self, preparation_seconds: float) -> bool:
        """Whether a run that prepares for so long would come to train at all."""
        left = self.budget.hours_left
        return left is None or left * 3600.0 > PREPARATION_MARGIN * preparation_seconds + 2.0


def run_all(runs: Sequence[PlannedRun], call: ExperimentCall, jobs: int = 1) -> None:
    """Does what is left of the runs of one experiment, `jobs` at a time, until all are done or the time is up.

    With one job runs happen in this process; otherwise each is a `train` command of its own, with its log beside the
    run folder.
    """
    todo = []
    for run in runs:
        progress = find_progress(run)
        if progress == "not_finite":
            call.failures[run.variant, run.seed] = NOT_FINITE
        elif progress != "finished":
            todo.append(run)
    if len(todo) < len(runs):
        log.info("%s: %d of %d runs are there already", runs[0].experiment, len(runs) - len(todo), len(runs))
    if jobs == 1:
        for run in todo:
            _do(run, runs, call, in_process=True)
        return
    with ThreadPoolExecutor(jobs) as pool:
        # results are asked for, so that an error of a thread is not lost
        list(pool.map(lambda run: _do(run, runs, call, in_process=False, jobs=jobs), todo))


def _do(run: PlannedRun, runs: Sequence[PlannedRun], call: ExperimentCall, *, in_process: bool, jobs: int = 1) -> None:
    preparation = max(read_preparation_seconds(r.folder) for r in runs)
    if call.stopped or not call.has_time_for(preparation):
        call.stopped = True
        return
    log.info("%s: %s", run.label, run.folder)
    reason = train_here(run, call) if in_process else train_apart(run, call, jobs)
    if reason:
        log.error("%s failed: %s", run.label, reason)
        call.failures[run.variant, run.seed] = reason
    elif find_progress(run) != "finished":
        call.stopped = True
    log.info("%s", describe_rest(runs, call.failures))


def train_here(run: PlannedRun, call: ExperimentCall) -> str:
    """Trains in this process; returns why the run failed, "" if it did not. Anything but bad input or want of memory
    is a bug and is raised.
    """
    try:
        state = train_model(run.config, call.data, run.folder, resume=True, budget=call.budget.rest())
        report_finished_run(run.folder)
    except (InputError, RuntimeError, MemoryError) as error:
        return explain(error)
    return NOT_FINITE if state.finished == "not_finite" else ""


def explain(error: Exception) -> str:
    """Why a run failed, in one line.

    Raises:
        Exception: the error itself, if the user cannot mend it.
    """
    line = (str(error).splitlines() or [""])[0]
    if isinstance(error, InputError):
        return " ".join(str(error).split())
    if machine.is_out_of_memory(error):
        return f"out of memory ({line})" if line else "out of memory"
    raise error


def train_apart(run: PlannedRun, call: ExperimentCall, jobs: int) -> str:
    """Trains by a `train` command of its own; returns why it failed, "" if it did not."""
    command = [sys.executable, "-m", "rnafold", "train", "--gpu", run.gpu, "--model", run.choices.model, "--resume"]
    command += ["--data", str(call.data), "--out", str(run.folder)]
    left = call.budget.hours_left
    if left is not None:
        command += ["--max-hours", f"{left:.6f}"]
    threads = str(max((os.cpu_count() or 1) // jobs, 1))
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    output = run.folder.with_suffix(".log")
    with output.open("a", encoding="utf-8") as file:
        done = subprocess.run(
            [*command, "--set", *run.choices.overrides],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": threads, **os.environ},
            check=False,
        )
    state = read_state(run.folder)
    if state is not None and state.get("finished") == "not_finite":
        return NOT_FINITE
    if done.returncode == 0:
        return ""
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [reason for line in lines if (reason := parse_error(line)) is not None]
    if done.returncode == ExitCode.INPUT and said:
        return said[-1]
    if done.returncode < 0:
        return f"killed by signal {-done.returncode} (9: most likely out of memory); see {output}"
    return f"exit code {done.returncode}; see {output}"
