"""What a Kaggle notebook calls: one function for a training session, one for a prediction session.

Both look before they spend (preflight), know when the session ends, use every card, and leave a session.json that says
what happened. Training goes on from the output of the kernel's own earlier version, if that is attached.
"""

import datetime
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import torch

from rnafold.candidates.source import parse_source
from rnafold.config.hardware import load_gpu
from rnafold.config.settings import load_config
from rnafold.data.files import CompetitionFiles
from rnafold.errors import ExitCode, InputError, parse_error
from rnafold.files.atomic import write_text
from rnafold.files.metrics import read_metrics
from rnafold.files.run_folder import RunFolder
from rnafold.kaggle.inputs import copy_earlier_run, find_competition, find_earlier_run, find_weights
from rnafold.kaggle.preflight import LEAST_FREE_DISK_GIB, check_test_inputs, check_training_inputs
from rnafold.kaggle.prepared_output import PreparedTraining, find_library, use_prepared
from rnafold.planner.quota.ledger import LEDGER_FILE, LedgerSession, read_sessions
from rnafold.prediction.shards import ShardedPrediction, ShardOutcome, Worker, read_last_line, stop_process
from rnafold.submission import check_submission, format_findings, list_defects
from rnafold.training.guard import KERNEL_VARIABLE

log = logging.getLogger(__name__)
Clock = Callable[[], float]
RERUN_VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
RUN_FOLDER, CACHE_FOLDER, SESSION_FILE = "run", "cache", "session.json"
# Time that training leaves for what comes after it, and that it gets to write its checkpoint when told to stop.
FINISH_SHARE, FINISH_SECONDS, GRACE_SECONDS = 0.02, 300.0, 180.0
# Loading torch is not part of a trainer's own budget: so much is held back, or this share of the time.
STARTUP_SECONDS, STARTUP_SHARE = 60.0, 0.2
PREFLIGHT_SECONDS = 600.0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictSession:
    """One prediction session.

    Attributes:
        gpu: a name in configs/gpu, checked by the preflight; each card gets a process of its own.
        hours: deadline of the scored rerun; Kaggle stops it at 8.
        commit_hours: deadline outside the rerun, on the public targets, where hours come out of the quota.
        competition: folder name of the competition, needed only where several are mounted.
        weights: weights file; None takes the best of those mounted.
        options: further arguments of `predict`.
        candidates: other programs' models, [NAME[@DATE]=]PATH each; PATH as it is, below `working` (an earlier cell's
            output) or below `inputs` (a mounted dataset). One that is not there is left out with a warning.
        inputs: where Kaggle mounts inputs.
        working: where submission.csv is written.
        processes: in place of the number of cards; 0 takes that.
    """

    gpu: str = "t4x2"
    hours: float = 7.5
    commit_hours: float = 1.0
    competition: str = ""
    weights: Path | None = None
    options: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    inputs: Path = Path("/kaggle/input")
    working: Path = Path("/kaggle/working")
    processes: int = 0
    least_disk_gib: float = 1.0


def is_rerun(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is Kaggle's scored rerun on the hidden test set."""
    return bool(environment.get(RERUN_VARIABLE, ""))


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
    _preflight("train", session.gpu, session.inputs, session.working, session.competition, session.least_disk_gib)
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


def run_until(
    command: Sequence[str],
    end: float,
    log_file: Path,
    environment: Mapping[str, str],
    clock: Clock = time.monotonic,
    grace_seconds: float = GRACE_SECONDS,
) -> int | None:
    """Runs a command, its output shown and kept in `log_file`; asks it to stop at `end` and kills it after a grace.

    Returns:
        The exit code; None if it had to be stopped.
    """
    process = subprocess.Popen(
        list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(environment), start_new_session=True
    )
    assert process.stdout is not None
    reader = threading.Thread(target=_copy_lines, args=(process.stdout, log_file), daemon=True)
    reader.start()
    stopped = False
    try:
        while process.poll() is None:
            if clock() > end:
                log.warning("out of time: asking the process to stop")
                stop_process(process, grace_seconds)
                stopped = True
            time.sleep(0.1)
    finally:
        stop_process(process, grace_seconds)
        reader.join(timeout=10.0)
    return None if stopped else process.returncode


def _copy_lines(stream: IO[bytes], log_file: Path) -> None:
    with stream, log_file.open("ab") as kept:
        for line in stream:
            kept.write(line)
            kept.flush()
            print(line.decode("utf-8", errors="replace"), end="", flush=True)


def _copy_cache(source: Path, target: Path) -> None:
    if source.is_dir() and not target.exists():
        shutil.copytree(source, target, copy_function=shutil.copyfile)


def _copy_ledger(source: Path, target: Path) -> None:
    if source.is_file() and not target.exists():
        shutil.copyfile(source, target)


def takes_quota(gpu: str) -> bool:
    """Whether this session comes out of the weekly quota: a card, on Kaggle, and not the scored rerun."""
    return load_gpu(gpu).hardware.device_type == "cuda" and KERNEL_VARIABLE in os.environ and not is_rerun()


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
        **_describe_session(seconds),
    }


def _describe_session(seconds: float) -> dict[str, Any]:
    return {
        # a session is billed by wall clock, not by card
        "seconds": round(seconds, 1),
        "hours_of_quota": round(seconds / 3600.0, 4),
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": str(torch.__version__),
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


def run_predict(session: PredictSession, clock: Clock = time.monotonic) -> ShardOutcome:
    """Writes a valid submission.csv, then improves it on every card until done or until the session must end.

    In the scored rerun a machine fault is no reason to stop: prediction goes on without the card, for a late or
    plain submission scores more than none. Outside it, the fault is raised before hours are spent.

    Raises:
        InputError: inputs are missing, malformed or do not match; outside the rerun any preflight fault.
    """
    start_logging()
    began = clock()
    rerun = is_rerun()
    hours = session.hours if rerun else session.commit_hours
    if hours <= 0:
        raise InputError(f"hours: found {hours}, expected more than 0")
    check_test_inputs(session.inputs, session.competition).require()
    files = find_competition(session.inputs, ("test_sequences", "sample_submission"), session.competition)
    assert files.test_sequences is not None and files.sample_submission is not None
    weights = session.weights or find_weights(session.inputs)
    log.info("%s; weights: %s", "scored rerun" if rerun else "not the scored rerun: public targets only", weights)
    scratch = Path(tempfile.mkdtemp(prefix="rnafold-"))
    options = _predict_options(session, files, scratch)
    out = session.working / "submission.csv"
    sharded = ShardedPrediction(files.test_sequences, files.sample_submission, out, scratch / "parts", clock=clock)
    workers = choose_workers(session)
    ledger_file = session.working / LEDGER_FILE
    ledger = LedgerSession(ledger_file, "predict", session.gpu, counts=takes_quota(session.gpu), planned_hours=hours)
    try:
        _preflight("predict", session.gpu, session.inputs, session.working, session.competition, session.least_disk_gib)
    except InputError as error:
        if not rerun:
            raise
        log.warning("%s; going on without the cards", error)
        workers = [Worker(card="", gpu="cpu")]
    left = hours * 3600.0 - (clock() - began)
    try:
        outcome = sharded.run(workers, left, [*options, *_weights_option(weights)])
    except InputError as error:
        if not rerun:
            raise
        log.warning("%s; once more without weights and further options", error)
        outcome = sharded.run(
            workers, left, _predict_options(replace(session, options=(), candidates=()), files, scratch)
        )
    finally:
        _keep_logs(scratch, session.working / "predict.log")
        shutil.rmtree(scratch, ignore_errors=True)
    ledger.end(f"{len(outcome.improved)} targets predicted")
    _write_prediction_summary(session, outcome, clock() - began, weights, rerun)
    return outcome


def _keep_logs(scratch: Path, out: Path) -> None:
    """What the processes said, one after the other; a log that cannot be kept is no reason to fail."""
    try:
        with out.open("wb") as kept:
            for path in sorted(scratch.rglob("log.txt")):
                kept.write(f"--- {path.parent.name}\n".encode() + path.read_bytes())
    except OSError as error:
        log.warning("%s: the processes' logs are not kept (%s)", out, error)


def _weights_option(weights: Path | None) -> list[str]:
    return [] if weights is None else ["--weights", str(weights)]


def _predict_options(session: PredictSession, files: CompetitionFiles, scratch: Path) -> list[str]:
    options = [*session.options, *find_candidates(session)]
    for folder in files.msa_folders:
        options += ["--msa", str(folder)]
    library = find_library(session.inputs)
    if library is not None:
        options += ["--templates", str(library)]
    elif files.train_sequences is not None and files.train_labels is not None:
        # the two files alone: the thousands of structures that lie beside them would take an hour to read
        folder = scratch / "templates"
        folder.mkdir(exist_ok=True)
        for path in (files.train_sequences, files.train_labels):
            link = folder / path.name
            if not link.is_symlink():
                link.symlink_to(path.resolve())
        options += ["--templates", str(folder)]
    return options


def find_candidates(session: PredictSession) -> list[str]:
    """The `--candidates` options of what is there; what is not costs a warning, and no target."""
    options = []
    for text in session.candidates:
        name, equals, path = text.rpartition("=")
        places = (Path(path), session.working / path, session.inputs / path, *_find_folders(session.inputs, path))
        found = next((place for place in places if path and place.exists()), None)
        try:
            if found is None:
                raise InputError(f"candidates {text}: no such folder here, below {session.working} or {session.inputs}")
            option = f"{name}{equals}{found}"
            parse_source(option)
            options += ["--candidates", option]
        except InputError as error:
            log.warning("%s; going on without", error)
    return options


def _find_folders(inputs: Path, name: str) -> list[Path]:
    """Folders of that name below the mounted inputs: where a dataset is mounted varies."""
    return sorted(path for path in inputs.rglob(name) if path.is_dir()) if "/" not in name and name else []


def choose_workers(session: PredictSession) -> list[Worker]:
    """One worker a card of the config, as many as there are; processes on the CPU where the config has no card."""
    hardware = load_gpu(session.gpu).hardware
    if hardware.device_type != "cuda":
        return [Worker(card="", gpu=session.gpu, index=index) for index in range(max(session.processes, 1))]
    # counts the cards without taking memory on any of them
    count = session.processes or min(torch.cuda.device_count(), hardware.num_gpus)
    return [Worker(card=str(index), gpu="auto", index=index) for index in range(count)] or [Worker(card="", gpu="cpu")]


def _write_prediction_summary(
    session: PredictSession, outcome: ShardOutcome, seconds: float, weights: Path | None, rerun: bool
) -> None:
    summary = {
        "kind": "predict",
        "gpu": session.gpu,
        "rerun": rerun,
        "weights": None if weights is None else str(weights),
        "targets": len(outcome.improved) + len(outcome.fallback),
        "improved": len(outcome.improved),
        "fallback": list(outcome.fallback[:20]),
        "processes_that_died": outcome.deaths,
        **_describe_session(seconds),
    }
    write_text(session.working / SESSION_FILE, json.dumps(summary, indent=1))
    log.info("%d of %d targets predicted in %.0f s", summary["improved"], summary["targets"], seconds)


def _preflight(kind: str, gpu: str, inputs: Path, working: Path, competition: str, least_disk_gib: float) -> None:
    """Runs the preflight in a process of its own: a card that fails must not take the notebook along.

    Raises:
        InputError: with the faults.
    """
    command = [sys.executable, "-m", "rnafold", "kaggle", "preflight", "--for", kind, "--gpu", gpu]
    command += ["--input", str(inputs), "--working", str(working), "--least-disk-gib", str(least_disk_gib)]
    command += ["--competition", competition] if competition else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PREFLIGHT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(f"preflight: no answer in {PREFLIGHT_SECONDS:.0f} s; a card hangs") from None
    if done.stdout:
        print(done.stdout, end="", flush=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with exit code {done.returncode}"])[-1]
        raise InputError(parse_error(last) or last)


def start_logging() -> None:
    """Lines of the log go to the notebook as they are."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)


def check_prediction(session: PredictSession) -> str:
    """One line about a submission that is valid against the mounted sample.

    Raises:
        InputError: naming the defects.
    """
    files = find_competition(session.inputs, ("test_sequences", "sample_submission"), session.competition)
    assert files.sample_submission is not None
    out = session.working / "submission.csv"
    findings = check_submission(out, files.sample_submission)
    if list_defects(findings):
        raise InputError(f"{out}: {format_findings(findings)}")
    return f"{out}: valid against {files.sample_submission}"
