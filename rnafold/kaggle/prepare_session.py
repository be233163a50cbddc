"""What the preparation notebook calls, on a CPU kernel whose hours cost no GPU quota."""

import json
import os
import shutil
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnafold.errors import ExitCode, InputError, parse_error
from rnafold.files.atomic import replace_file, write_text
from rnafold.files.mounts import walk_files
from rnafold.kaggle.inputs import find_competition
from rnafold.kaggle.prepared_output import LIBRARY_FOLDER, PACKED_CACHE, PREPARED_FILE, unpack_prepared
from rnafold.kaggle.session import SESSION_FILE, Clock, run_until, start_logging
from rnafold.kaggle.train_session import CACHE_FOLDER
from rnafold.prediction.shards import read_last_line

# Of the hours, the part after which reading structures is stopped, to be gone on with by the next session, and what
# packing the output takes at most.
LIBRARY_SHARE, PACKING_SHARE = 0.5, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareSession:
    """One preparation session.

    Attributes:
        gpu: a name in configs/gpu, of the training to come.
        model: a name in configs/model, of the training to come.
        hours: wall-clock hours after which everything is written; Kaggle ends a CPU session at 12.
        settings: `--set` items of the training to come; those that name data count here too.
        starts: make candidate start structures, and let training use them.
        competition: folder name of the competition, needed only where several are mounted.
        inputs: where Kaggle mounts inputs.
        working: where output is written.
        jobs: processes; 0 takes one a core.
    """

    gpu: str = "t4x2"
    model: str = "base"
    hours: float = 11.0
    settings: tuple[str, ...] = ()
    starts: bool = True
    competition: str = ""
    inputs: Path = Path("/kaggle/input")
    working: Path = Path("/kaggle/working")
    jobs: int = 0

    @property
    def training_settings(self) -> tuple[str, ...]:
        """What a training run that is to find the output must be told."""
        chosen = tuple(text for text in self.settings if text.startswith("data."))
        # what is not there yet starts ideal: no GPU hour is spent on making it
        return (*chosen, *(("data.start=candidates", "data.start_hours=0.001") if self.starts else ()))


def run_prepare(session: PrepareSession, clock: Clock = time.monotonic) -> dict[str, Any]:
    """Makes the library and fills the cache until done or until the session must end; returns what session.json says.

    The output of an earlier version of the kernel, if attached, is gone on from.

    Raises:
        InputError: inputs are missing, or a step failed.
    """
    start_logging()
    began = clock()
    if session.hours <= 0:
        raise InputError(f"hours: found {session.hours}, expected more than 0")
    files = find_competition(session.inputs, ("train_sequences", "train_labels"), session.competition)
    assert files.train_sequences is not None
    data = files.train_sequences.parent
    cache = session.working / CACHE_FOLDER
    earlier = unpack_prepared(session.inputs, cache)
    library = session.working / LIBRARY_FOLDER
    if earlier is not None and (earlier / LIBRARY_FOLDER).is_dir() and not library.exists():
        shutil.copytree(earlier / LIBRARY_FOLDER, library, copy_function=shutil.copyfile)
    end = began + 3600.0 * session.hours * (1.0 - PACKING_SHARE)
    jobs = session.jobs or os.cpu_count() or 1
    if not library.exists():
        command = ["library", "--from", str(data), "--out", str(library), "--jobs", str(jobs)]
        _run(command, began + LIBRARY_SHARE * (end - began), session, clock)
    command = ["prepare", "--data", str(data), "--gpu", session.gpu, "--model", session.model]
    command += ["--max-hours", f"{max((end - clock()) / 3600.0, 1e-3):.5f}"]
    command += ["--set", f"data.cache={cache}", f"data.jobs={jobs}", *session.training_settings]
    # until done, the budget makes it stop by itself; starts are made as long as it lasts
    command += ["data.start_hours=0"] if session.starts else []
    said = _run(command, end, session, clock)
    pack_cache(cache, session.working / PACKED_CACHE)
    shutil.rmtree(cache, ignore_errors=True)
    summary: dict[str, Any] = {
        "kind": "prepare",
        "settings": list(session.training_settings),
        "gpu": session.gpu,
        "said": said,
    }
    write_text(session.working / PREPARED_FILE, json.dumps(summary, indent=1))
    summary |= {"seconds": round(clock() - began, 1), "hours_of_quota": 0.0, "library": library.is_dir()}
    write_text(session.working / SESSION_FILE, json.dumps(summary, indent=1))
    return summary


def _run(arguments: list[str], end: float, session: PrepareSession, clock: Clock) -> str:
    """One command of the kit, stopped at `end`; returns the last line it said.

    Raises:
        InputError: it failed.
    """
    log_file = session.working / "prepare.log"
    code = run_until([sys.executable, "-m", "rnafold", *arguments], end, log_file, dict(os.environ), clock)
    last = read_last_line(log_file)
    if code not in (ExitCode.DONE, None):
        raise InputError(f"{arguments[0]} ended with exit code {code}: {parse_error(last) or last}")
    return last


def pack_cache(cache: Path, out: Path) -> None:
    """The cache as one file: tens of thousands of them would not come through as a kernel's output.

    Raises:
        InputError: it cannot be written.
    """
    with replace_file(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(walk_files(cache)) if cache.is_dir() else ():
            archive.write(path, str(path.relative_to(cache)))


def check_preparation(working: Path) -> str:
    """One line about an output that training and prediction can use.

    Raises:
        InputError: naming what is wanting.
    """
    for name in (PREPARED_FILE, PACKED_CACHE):
        if not (working / name).is_file():
            raise InputError(f"{working / name}: no such file; the preparation did not end")
    with zipfile.ZipFile(working / PACKED_CACHE) as archive:
        count = len(archive.namelist())
    library = "with" if (working / LIBRARY_FOLDER).is_dir() else "without"
    return f"{working}: {count} prepared files, {library} a template library"
