"""A process that has loaded everything once and forks a child for each job: the kit's own command line, disturbed.

Loading torch takes seconds, a fork takes milliseconds, so hundreds of runs can be killed in minutes. One JSON object a
line comes in (a `Job`), one goes out (what became of it). Run as `python -m tests.faults.zygote`, in one thread.
"""

import contextlib
import fcntl
import json
import logging
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rnafold.submission import check_submission, list_defects

POLL_SECONDS = 0.004
PIPE_BYTES = 1 << 20
# Events of the file system after which nothing is as before: a kill stands before each of them.
CHANGES = frozenset(
    {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "os.link", "os.symlink"}
)


def serve() -> None:
    """Answers jobs until standard input ends. The first, which is not forked, loads what all others need."""
    for number, line in enumerate(sys.stdin):
        if number == 0:
            warm_up(json.loads(line))
            continue
        print(json.dumps(run_job(json.loads(line))), flush=True)


def warm_up(job: dict[str, Any]) -> None:
    """Runs a command in this process, quietly: whatever it imports and sets up, children need not."""
    from rnafold.cli.main import main

    logging.disable(logging.INFO)
    main(job["arguments"])
    logging.disable(logging.NOTSET)


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Forks a child for the job and waits for it, sending signals at the polls asked for."""
    sys.stdout.flush()
    reading, writing = os.pipe()  # no file: limits on the size of files must not cut what is said about them
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    child = os.fork()
    if child == 0:
        become(job, writing)
    os.close(writing)
    watched = Watch(job)
    polls, status = 0, 0
    signals = {int(at): name for at, name in job.get("signals", {}).items()}
    heard = Ear(reading)
    asked = list(job.get("signal_when", []))
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        watched.look()
        heard.listen()
        if asked and Path(asked[0][0]).exists():
            os.kill(child, signal.Signals[asked.pop(0)[1]])
        if polls in signals:
            os.kill(child, signal.Signals[signals[polls]])
        polls += 1
        time.sleep(POLL_SECONDS)
    watched.look()
    heard.listen()
    os.close(reading)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "polls": polls, "output": heard.text.decode("utf-8", errors="replace"), **watched.found()}


class Ear:
    """What a child says."""

    def __init__(self, reading: int) -> None:
        self.reading, self.text = reading, b""
        os.set_blocking(reading, False)

    def listen(self) -> None:
        """Takes in what was said."""
        with contextlib.suppress(BlockingIOError):
            while said := os.read(self.reading, PIPE_BYTES):
                self.text += said


class Watch:
    """Looks at a submission whenever it is another file than before: each must be complete and valid."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.path = Path(job["watch"]) if "watch" in job else None
        self.sample = job.get("sample", "")
        self.seen: set[tuple[int, int]] = set()
        self.defects: list[str] = []

    def look(self) -> None:
        """Checks the file if it changed."""
        if self.path is None or not self.path.exists():
            return
        stat = self.path.stat()
        if (stat.st_ino, stat.st_mtime_ns) not in self.seen:
            self.seen.add((stat.st_ino, stat.st_mtime_ns))
            self.defects += [finding.message for finding in list_defects(check_submission(self.path, self.sample))]

    def found(self) -> dict[str, Any]:
        """How many different files there were, and what was wrong with them."""
        return {"versions": len(self.seen), "defects": self.defects}


def become(job: dict[str, Any], output: int) -> None:
    """Makes this process the job's child: its output goes to a pipe, its faults are set, the command runs, it ends."""
    code = 70
    try:
        for stream in (1, 2):
            os.dup2(output, stream)
        logging.getLogger().handlers.clear()
        if "folder" in job:
            os.chdir(job["folder"])
        set_faults(job)
        from rnafold.cli.main import main

        code = int(main(job["arguments"]))
        sys.stdout.flush()
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 1
    except BaseException:  # noqa: BLE001 - a traceback is what the parent looks for
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        os._exit(code)


def set_faults(job: dict[str, Any]) -> None:
    """Sets the disturbances of a job: see `tests.faults.workshop.Workshop.run`."""
    from rnafold.prediction import deadline

    if job.get("write_always"):
        deadline.WRITE_EVERY_SECONDS = 0.0
    if "kill_before_change" in job:
        kill_before_change(job["kill_before_change"], job["below"], job["counted"])
    if "largest_file" in job:
        # the kernel's own doing: the write that would pass the size is cut there
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if job.get("kill_in_write") else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"], resource.RLIM_INFINITY))


def kill_before_change(number: int, below: str, counted: str) -> None:
    """kill -9 right before the change of that number (from 0) to the file system below a folder; -1 only counts."""
    count = 0

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in CHANGES or not arguments or not str(arguments[0]).startswith(below):
            return
        if event == "open" and not writes(arguments):
            return
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        if number < 0:
            os.pwrite(note, str(count).encode(), 0)

    note = os.open(counted, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    sys.addaudithook(audit)


def writes(arguments: tuple[Any, ...]) -> bool:
    """Whether an `open` is for writing."""
    mode, flags = arguments[1], arguments[2]
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or (
        isinstance(mode, str) and bool(set(mode) & set("wax+"))
    )


if __name__ == "__main__":
    serve()
