"""What the prediction notebook calls: a valid submission at once, then a better one on every card until time is up."""

import json
import logging
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rnafold.candidates.source import parse_source
from rnafold.config.hardware import load_gpu
from rnafold.data.files import CompetitionFiles
from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.kaggle.inputs import find_competition, find_weights
from rnafold.kaggle.preflight import check_test_inputs
from rnafold.kaggle.prepared_output import find_library
from rnafold.kaggle.session import (
    SESSION_FILE,
    Clock,
    describe_session,
    is_rerun,
    require_preflight,
    start_logging,
    takes_quota,
)
from rnafold.planner.quota.ledger import LEDGER_FILE, LedgerSession
from rnafold.prediction.shards import ShardedPrediction, ShardOutcome, Worker
from rnafold.submission import check_submission, format_findings, list_defects

log = logging.getLogger(__name__)


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
        require_preflight(
            "predict", session.gpu, session.inputs, session.working, session.competition, session.least_disk_gib
        )
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
        **describe_session(seconds),
    }
    write_text(session.working / SESSION_FILE, json.dumps(summary, indent=1))
    log.info("%d of %d targets predicted in %.0f s", summary["improved"], summary["targets"], seconds)


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
