"""What every session of a Kaggle notebook does: look before hours are spent, know when it ends, say what happened."""

import datetime
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from rnafold.config.hardware import load_gpu
from rnafold.errors import InputError, parse_error
from rnafold.prediction.shards import stop_process
from rnafold.training.guard import KERNEL_VARIABLE

log = logging.getLogger(__name__)
Clock = Callable[[], float]
RERUN_VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
SESSION_FILE = "session.json"
# Time that a process gets to write what it has when told to stop.
GRACE_SECONDS = 180.0
PREFLIGHT_SECONDS = 600.0


def is_rerun(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is Kaggle's scored rerun on the hidden test set."""
    return bool(environment.get(RERUN_VARIABLE, ""))


def takes_quota(gpu: str) -> bool:
    """Whether this session comes out of the weekly quota: a card, on Kaggle, and not the scored rerun."""
    return load_gpu(gpu).hardware.device_type == "cuda" and KERNEL_VARIABLE in os.environ and not is_rerun()


def start_logging() -> None:
    """Lines of the log go to the notebook as they are."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)


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


def describe_session(seconds: float) -> dict[str, Any]:
    """What session.json says of any session."""
    return {
        # a session is billed by wall clock, not by card
        "seconds": round(seconds, 1),
        "hours_of_quota": round(seconds / 3600.0, 4),
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": str(torch.__version__),
    }


def require_preflight(
    kind: str, gpu: str, inputs: Path, working: Path, competition: str, least_disk_gib: float
) -> None:
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
