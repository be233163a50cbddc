"""One prediction by several processes, on several cards or machines: `accelerate launch .. predict`.

Accelerate's state says who takes part. The targets lie in a folder that all see, beside the submission: who begins one
claims it there by a file that only one can make, and leaves its result there. So work is dealt as it is done, and a
process that dies takes along the one target that it was at. The main process writes the submission of all results.
"""

import contextlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from rnafold.files.atomic import replace_file, write_text
from rnafold.structure import FloatArray
from rnafold.submission.provenance import PredictionRecord

log = logging.getLogger(__name__)
# A process that has not shown itself for so long is dead.
SILENT_SECONDS, HEARTBEAT_SECONDS = 30.0, 3.0
# Set by accelerate's and torch's launchers for each of several processes.
_COUNT_VARIABLE: Final = "WORLD_SIZE"
# How often the launcher has started the processes anew.
_RESTARTS_VARIABLE: Final = "TORCHELASTIC_RESTART_COUNT"


class Team(Protocol):
    """Who works on the targets."""

    is_main: bool
    count: int

    def claim(self, target_id: str) -> bool:
        """Whether this process is to work on a target: it is nobody else's and not done."""

    def put(self, target_id: str, coords: FloatArray, records: Sequence[PredictionRecord]) -> None:
        """Leaves the result of a target for the main process."""

    def collect(self) -> Iterator[tuple[str, FloatArray, tuple[PredictionRecord, ...]]]:
        """Results of other processes that were not collected before."""

    def is_waiting(self) -> bool:
        """Whether living processes still work on targets."""


class Alone:
    """One process: every target is its own, and it has nothing to wait for."""

    is_main, count = True, 1

    def claim(self, target_id: str) -> bool:
        """Always."""
        return True

    def put(self, target_id: str, coords: FloatArray, records: Sequence[PredictionRecord]) -> None:
        """Nobody else wants it."""

    def collect(self) -> Iterator[tuple[str, FloatArray, tuple[PredictionRecord, ...]]]:
        """Nothing."""
        return iter(())

    def is_waiting(self) -> bool:
        """Never."""
        return False


class SharedFolder:
    """Several processes that see one folder; see the module."""

    def __init__(self, folder: Path, rank: int, count: int, attempt: int = 0) -> None:
        """`attempt` counts how often all processes were started; results of earlier attempts stay."""
        self.folder, self.rank, self.count, self.attempt = folder, rank, count, attempt
        self.is_main = rank == 0
        self._collected: set[str] = set()
        self._stop = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)
        self._thread.start()

    def claim(self, target_id: str) -> bool:
        """Makes the claim's file; False where it is there already, or the target done."""
        if self._result(target_id).exists():
            return False
        try:
            with self._claim(target_id).open("x", encoding="ascii") as file:
                file.write(str(self.rank))
        except FileExistsError:
            return False
        return True

    def put(self, target_id: str, coords: FloatArray, records: Sequence[PredictionRecord]) -> None:
        """Writes records, then coordinates: a result that is there is whole."""
        self._collected.add(target_id)
        write_text(self._result(target_id).with_suffix(".json"), json.dumps([asdict(record) for record in records]))
        with replace_file(self._result(target_id)) as temporary, temporary.open("wb") as file:
            np.save(file, coords)

    def collect(self) -> Iterator[tuple[str, FloatArray, tuple[PredictionRecord, ...]]]:
        """Reads the others' results; one that cannot be read is left out."""
        for path in sorted(self.folder.glob("result-*.npy")):
            target_id = path.stem.removeprefix("result-")
            if target_id in self._collected:
                continue
            try:
                coords = np.load(path, allow_pickle=False)
                records = tuple(PredictionRecord(**r) for r in json.loads(path.with_suffix(".json").read_text("utf-8")))
            except (OSError, ValueError, TypeError) as error:
                log.warning("%s: not used (%s)", path, error)
                continue
            self._collected.add(target_id)
            yield target_id, coords, records

    def is_waiting(self) -> bool:
        """Whether a claim of this attempt by a living process has no result yet."""
        for path in self.folder.glob(f"claim-{self.attempt}-*"):
            if self._result(path.name.split("-", 2)[2]).exists():
                continue
            with contextlib.suppress(OSError, ValueError):
                rank = int(path.read_text("ascii") or self.rank)
                if rank != self.rank and self._is_alive(rank):
                    return True
        return False

    def leave(self) -> None:
        """Ends the heartbeat: nobody waits for this process any more."""
        self._stop.set()
        self._thread.join()
        self._pulse(self.rank).unlink(missing_ok=True)

    def _claim(self, target_id: str) -> Path:
        return self.folder / f"claim-{self.attempt}-{target_id}"

    def _result(self, target_id: str) -> Path:
        return self.folder / f"result-{target_id}.npy"

    def _pulse(self, rank: int) -> Path:
        return self.folder / f"alive-{self.attempt}-{rank}"

    def _beat(self) -> None:
        self._pulse(self.rank).write_text(repr(time.time()), encoding="ascii")

    def _keep_beating(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                self._beat()

    def _is_alive(self, rank: int) -> bool:
        try:
            return time.time() - self._pulse(rank).stat().st_mtime < SILENT_SECONDS
        except OSError:
            return False


@contextlib.contextmanager
def join_team(out: Path, on_cpu: bool, environment: Mapping[str, str] = os.environ) -> Iterator[Team]:
    """The team that this process was launched in: alone, or with others around a folder beside `out`.

    The folder is emptied before the first attempt and removed by the main process at the end.
    """
    if int(environment.get(_COUNT_VARIABLE, "1")) < 2:
        yield Alone()
        return
    from accelerate import PartialState  # brings torch, which a single process may do without

    state = PartialState(cpu=on_cpu)
    folder = out.with_name(f".{out.name}.ranks")
    attempt = int(environment.get(_RESTARTS_VARIABLE, "0"))
    if state.is_main_process:
        if not attempt:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    state.wait_for_everyone()
    team = SharedFolder(folder, state.process_index, state.num_processes, attempt)
    log.info("process %d of %d, on %s", state.process_index + 1, state.num_processes, state.device)
    try:
        yield team
    finally:
        team.leave()
        if team.is_main:
            shutil.rmtree(folder, ignore_errors=True)
