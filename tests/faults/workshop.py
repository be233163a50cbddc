"""Runs of the command line that are disturbed: killed, stopped, out of disk; and what they leave behind."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KILLED = -9


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended.

    Attributes:
        code: exit code, or minus the signal that ended it.
        polls: how often it was looked at, the unit in which moments are chosen.
        versions: different files that stood in the watched place.
        defects: what was wrong with them.
        output: what the run printed.
    """

    code: int
    polls: int
    versions: int
    defects: tuple[str, ...]
    output: str

    @property
    def has_traceback(self) -> bool:
        """Whether it ended in a way that is a bug."""
        return "Traceback (most recent call last)" in self.output


class Workshop:
    """A zygote and the runs it makes."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self.process, self.counted = process, folder / "changes.txt"

    def warm_up(self, arguments: list[str]) -> None:
        """The first command, run once in the zygote itself."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"arguments": arguments}) + "\n")
        self.process.stdin.flush()

    def count_changes(self) -> int:
        """How often the last run with `kill_before_change=-1` changed the file system."""
        return int(self.counted.read_text(encoding="utf-8"))

    def run(self, arguments: list[str], **faults: Any) -> Ended:
        """One run of the command line.

        Args:
            arguments: of the command.
            faults: `signals` (poll -> name), `signal_when` (a file is there, name), `kill_before_change` and `below`
                (a kill before the change of that number to a folder), `largest_file` in bytes (writing beyond fails,
                with `kill_in_write` it kills), `watch` and `sample` (a submission looked at all the time),
                `write_always`, `folder` (to run in).
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        job = {"arguments": arguments, "counted": str(self.counted), **faults}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return Ended(**{**answer, "defects": tuple(answer["defects"])})


@contextmanager
def open_workshop(folder: Path) -> Iterator[Workshop]:
    """A workshop whose notes lie in `folder`; its process ends with the block."""
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.zygote"],
        cwd=ROOT,
        env={**os.environ, **one_thread},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Workshop(process, folder)
    finally:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        process.wait()


def read_tree(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder by its name in it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def find_half_written(folder: Path) -> list[str]:
    """Temporary files and folders that a write in progress left behind."""
    return [str(p) for p in folder.rglob(".*.tmp")]
