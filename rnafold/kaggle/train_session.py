"""What the training notebook calls: trains on every card until done or until the session must end.

Training goes on from the output of the kernel's own earlier version, if that is attached.
"""

import datetime
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnafold.config.hardware import load_gpu
from rnafold.config.settings import load_config
from rnafold.data.files import CompetitionFiles
from rnafold.errors import ExitCode, InputError, parse_error
from rnafold.files.atomic import write_text
from rnafold.files.metrics import read_metrics
from rnafold.files.run_folder import RunFolder
from rnafold.kaggle.inputs import copy_earlier_run, find_competition, find_earlier_run
from rnafold.kaggle.preflight import LEAST_FREE_DISK_GIB, check_training_inputs
from rnafold.kaggle.prepared_output import PreparedTraining, use_prepared
from rnafold.kaggle.session import (
    SESSION_FILE,
    Clock,
    describe_session,
    require_preflight,
    run_until,
    start_logging,
    takes_quota,
)
from rnafold.planner.quota.ledger import LEDGER_FILE, LedgerSession, read_sessions
from rnafold.prediction.shards import read_last_line

log = logging.getLogger(__name__)
RUN_FOLDER, CACHE_FOLDER = "run", "cache"
# Time that training leaves for what comes after it.
FINISH_SHARE, FINISH_SECONDS = 0.02, 300.0
# Loading torch is not part of a trainer's own budget: so much is held back, or this share of the time.
STARTUP_SECONDS, STARTUP_SHARE = 60.0, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSession:
    """One training session.

    Attributes:
        gpu: a name in configs/gpu; its number of cards is the number of processes.
        model: a name in configs/model.
        hours: wall-clock hours after which everything is written; below Kaggle's limit of 12 (9 was seen).
        settings: `--set` items.
        competition: folder name of the competition, needed only where several are mounted.
        inputs: where Kaggle mounts inputs.
        working: where output is written.
        processes: in place of the config's number of cards; 0 takes that.
    """

    gpu: str = "t4x2"
    model: str = "base"
    hours: float = 11.0
    settings: tuple[str, ...] = ()
    competition: str = ""
    inputs: Path = Path("/kaggle/input")
    working: Path = Path("/kaggle/working")
    processes: int = 0
    least_disk_gib: float = LEAST_FREE_DISK_GIB


def run_train(session: TrainSession, clock: Clock = time.monotonic) -> dict[str, Any]:
    """Trains until done or until the session must end; returns and writes session.json.

    Raises:
        InputError: the preflight found a fault, or training failed; nothing was spent in the first case.
    """
    start_logging()
    began = clock()
    if session.hours <= 0:
        raise InputError(f"hours: found {session.hours}, expected more than 0")
    check_training_inputs(session.inputs, session.competition).require()
    require_preflight(
        "train", session.gpu, session.inputs, session.working, session.competition, session.least_disk_gib
    )
    files = find_competition(session.inputs, ("train_sequences", "train_labels"), session.competition)
    run = session.working / RUN_FOLDER
    earlier = None if run.exists() else find_earlier_run(session.inputs, session.model)
    if earlier is not None:
        log.info("going on from %s at step %d", earlier.folder, earlier.step)
        copy_earlier_run(earlier, run)
        _copy_cache(earlier.folder.parent / CACHE_FOLDER, session.working / CACHE_FOLDER)
        _copy_ledger(earlier.folder.parent / LEDGER_FILE, session.working / LEDGER_FILE)
    ledger = session.working / LEDGER_FILE
    known = {entry.session_id for entry in read_sessions(ledger)}
    seconds = session.hours * 3600.0
    left = seconds - (clock() - began) - min(FINISH_SECONDS, FINISH_SHARE * seconds)
    max_seconds = max(left - min(STARTUP_SECONDS, STARTUP_SHARE * left), 1.0)
    scratch = Path(tempfile.mkdtemp(prefix="rnafold-prepared-"))
    prepared = use_prepared(session.inputs, scratch)
    command, environment = build_train_command(session, files, max_seconds / 3600.0, prepared)
    # a trainer that does not stop by itself is told to, early enough to write its checkpoint
    log_file = session.working / "train.log"
    try:
        code = run_until(command, clock() + left, log_file, environment, clock)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    summary = _summarize_training(run, code, clock() - began, session)
    _note_overhead(ledger, known, session.gpu, (clock() - began) / 3600.0)
    summary["resumed_from_step"] = 0 if earlier is None else earlier.step
    write_text(session.working / SESSION_FILE, json.dumps(summary, indent=1))
    if code not in (ExitCode.DONE, None):
        last = read_last_line(session.working / "train.log")
        raise InputError(f"training ended with exit code {code}: {parse_error(last) or last}")
    return summary


def build_train_command(
    session: TrainSession, files: CompetitionFiles, max_hours: float, prepared: PreparedTraining | None = None
) -> tuple[list[str], dict[str, str]]:
    """The command that trains on every card, and its environment.

    Several CUDA cards go through `accelerate launch` (a launched file or module, not notebook_launcher, which fails
    once CUDA was touched in the notebook); several CPU processes through torch's own launcher.
    """
    assert files.train_sequences is not None
    hardware = load_gpu(session.gpu).hardware
    count = session.processes or hardware.num_gpus
    prepared = prepared or PreparedTraining()
    environment = {**os.environ, **prepared.environment}
    if count == 1:
        launcher = [sys.executable, "-m", "rnafold"]
    elif hardware.device_type == "cpu":
        environment["ACCELERATE_USE_CPU"] = "1"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        launcher += ["--nproc_per_node", str(count), "-m", "rnafold"]
    else:
        launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
        launcher += [
            "--num_processes",
            str(count),
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            "-m",
            "rnafold",
        ]
    settings = [f"data.cache={session.working / CACHE_FOLDER}", *prepared.settings, *session.settings]
    arguments = ["train", "--gpu", session.gpu, "--model", session.model]
    arguments += ["--data", str(files.train_sequences.parent), "--out", str(session.working / RUN_FOLDER), "--resume"]
    return [*launcher, *arguments, "--max-hours", f"{max_hours:.5f}", "--set", *settings], environment


def _copy_cache(source: Path, target: Path) -> None:
    if source.is_dir() and not target.exists():
        shutil.copytree(source, target, copy_function=shutil.copyfile)


def _copy_ledger(source: Path, target: Path) -> None:
    if source.is_file() and not target.exists():
        shutil.copyfile(source, target)


def _note_overhead(path: Path, known: set[str], gpu: str, hours: float) -> None:
    """Adds to the ledger what the session took besides what training itself noted: start-up, preparation, report."""
    noted = sum(entry.hours for entry in read_sessions(path) if entry.session_id not in known)
    now = datetime.datetime.now(datetime.UTC)
    moments = [now - datetime.timedelta(hours=max(hours - noted, 0.0))]
    overhead = LedgerSession(path, "start-up and preparation", gpu, counts=takes_quota(gpu), clock=lambda: moments[0])
    moments[0] = now
    overhead.end("session over")


def _summarize_training(run: Path, code: int | None, seconds: float, session: TrainSession) -> dict[str, Any]:
    checkpoints = RunFolder(run).checkpoints
    newest = checkpoints.newest()
    state: Mapping[str, Any] = {} if newest is None else checkpoints.state(newest)["train"]
    return {
        "kind": "train",
        "gpu": session.gpu,
        "model": session.model,
        "exit_code": code,
        "finished": state.get("finished", ""),
        "epoch": state.get("epoch", 0),
        "step": newest or 0,
        "best_tm_score": max(float(state.get("best_tm", 0.0)), 0.0),
        **describe_session(seconds),
    }


def check_training(working: Path) -> str:
    """One line about a run whose metrics have neither gap nor repeat and whose weights and checkpoint are there.

    Raises:
        InputError: naming what is wrong.
    """
    run = RunFolder(working / RUN_FOLDER)
    metrics = run.metrics_file
    if not metrics.is_file():
        raise InputError(f"{metrics}: no such file; training did not begin")
    steps = [int(record["step"]) for record in read_metrics(metrics) if record["kind"] == "train"]
    saved = run.checkpoints.newest()
    jumps = [after - before for before, after in zip([0, *steps], steps)]
    if not steps or saved is None:
        found = "no complete checkpoint" if saved is None else f"a checkpoint of step {saved}"
        raise InputError(f"{run.path}: {len(steps)} lines of metrics and {found}, expected some of both")
    if min(jumps) < 1:
        raise InputError(f"{metrics}: step {steps[jumps.index(min(jumps))]} follows a step as high or higher")
    every = load_config(run.config_file).train.log_every_steps
    if max(jumps) > every:
        at = steps[jumps.index(max(jumps))]
        raise InputError(f"{metrics}: {max(jumps)} steps before step {at} are in no line, expected at most {every}")
    if steps[-1] != saved:
        raise InputError(f"{run.path}: metrics end at step {steps[-1]}, the newest checkpoint at {saved}")
    if not run.weights_file.is_file():
        raise InputError(f"{run.weights_file}: no such file")
    return f"{run.path}: {len(steps)} lines of metrics without gap or repeat, up to step {steps[-1]}; weights are there"
