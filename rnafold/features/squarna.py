"""Further structures of a sequence by SQUARNA, which maximises weighted base pairs and knows pseudoknots.

SQUARNA is pure Python, its time grows with the cube of the length and it cannot be interrupted. So it runs in a process
of its own, which is stopped where it takes too long; without it, or without the time, there are no further structures.

Source: Bohdan et al., bioRxiv 2023.08.28.555103; Serdakov et al., bioRxiv 2026.06.30.735492; pip install squarna.
"""

import atexit
import contextlib
import functools
import importlib.metadata
import io
import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Final

from rnafold.errors import OutOfTime
from rnafold.rna import parse_dot_bracket
from rnafold.structure import IntArray

if TYPE_CHECKING:
    from loky import ProcessPoolExecutor

logger = logging.getLogger(__name__)

NUM_STRUCTURES: Final = 5
# Its configuration for long RNAs: as good as the one for short ones (F1 of the first .681, of the best of five .781,
# with the other .676 and .776; the same 240 chains) in a quarter of the time.
CONFIGURATION: Final = "1000"
# Beyond this it is asked for nothing: a minute and a half.
MAX_LENGTH: Final = 1000
# 0.2 s at 120 residues, 0.8 s at 201, 1.9 s at 268, 6 s at 412, 16 s at 568, 22 s at 602, on one core.
SECONDS_PER_CUBE: Final = 1e-7
# What starting the process takes at least and at most, and how much slower than expected it may be till it is stopped.
LEAST_STARTING_SECONDS: Final = 2.0
STARTING_SECONDS: Final = 20.0
PATIENCE: Final = 5.0
# After so many stops and failures it is not asked again.
MOST_STOPS: Final = 3
# Without a limit of time a chain of more than 460 residues is not asked about.
USUAL_SECONDS: Final = 10.0
# An idle process ends by itself, also where the one that asked was killed.
IDLE_SECONDS = 60
MOST_REMEMBERED: Final = 512
# So many sequences are begun with ahead.
MOST_BEGUN: Final = 2
# The process that runs SQUARNA, once it is asked; what it has begun with beside other work; what it found, the last
# asked for at the end; what it was stopped at.
_RUNNING: "list[ProcessPoolExecutor]" = []
_BEGUN: "dict[str, Future[list[str]]]" = {}
_FOUND: OrderedDict[str, Sequence[IntArray]] = OrderedDict()
_STOPPED: list[str] = []


@functools.cache
def find_squarna() -> str | None:
    """What folds and its version, None where SQUARNA or loky, which watches over it, is not installed."""
    try:
        versions = [importlib.metadata.version(name) for name in ("squarna", "loky")]
    except importlib.metadata.PackageNotFoundError:
        return None
    return f"squarna {versions[0]}"


def estimate_seconds(length: int) -> float:
    """Seconds of one core that the structures of a sequence take."""
    return SECONDS_PER_CUBE * float(length) ** 3


def fold_with_squarna(strands: str, seconds: float = math.inf) -> Sequence[IntArray]:
    """Up to five structures of strands, best first; none without SQUARNA or where they take longer than they may.

    Args:
        strands: letters ACGU and N, strands joined by &.
        seconds: what may be spent; infinite stands for `USUAL_SECONDS`. Whether strands are folded depends on their
            length alone, so that an unhurried run gives the same each time.

    Returns:
        (L,) partners each, the strands one after the other, -1 where unpaired.
    """
    if strands in _FOUND:
        _FOUND.move_to_end(strands)
        return _FOUND[strands]
    if not _may_fold(strands, seconds):
        _BEGUN.pop(strands, None)
        return ()
    structures = _ask(strands, min(STARTING_SECONDS + PATIENCE * estimate_seconds(len(strands)), seconds))
    if structures:
        _FOUND[strands] = structures
        while len(_FOUND) > MOST_REMEMBERED:
            _FOUND.popitem(last=False)
    return structures


def begin_with_squarna(strands: str, seconds: float = math.inf) -> None:
    """Lets SQUARNA begin with strands that `fold_with_squarna` will be asked for next, beside this process's work."""
    if strands in _FOUND or strands in _BEGUN or len(_BEGUN) >= MOST_BEGUN or not _may_fold(strands, seconds):
        return
    with _forgiving(strands):
        _BEGUN[strands] = _open_process().submit(run_squarna, strands)


def _may_fold(strands: str, seconds: float) -> bool:
    """Whether SQUARNA is there and can be expected to be done with strands in time."""
    if find_squarna() is None or len(strands) > MAX_LENGTH or len(_STOPPED) >= MOST_STOPS:
        return False
    expected = estimate_seconds(len(strands))
    starting = 0.0 if _RUNNING else LEAST_STARTING_SECONDS
    return expected <= USUAL_SECONDS if math.isinf(seconds) else expected + starting <= seconds


def _ask(strands: str, patience: float) -> Sequence[IntArray]:
    """SQUARNA's structures of strands; none where it takes longer than `patience` seconds or fails."""
    structures: list[IntArray] = []
    with _forgiving(strands):
        begun = _BEGUN.pop(strands, None) or _open_process().submit(run_squarna, strands)
        texts = begun.result(timeout=patience)
        structures += [parse_dot_bracket(text.replace("&", "")) for text in texts]
    return structures


@contextlib.contextmanager
def _forgiving(strands: str) -> Iterator[None]:
    """Whatever befalls a program of others costs its structures alone; then its process is stopped."""
    try:
        yield
        return
    except OutOfTime:
        _stop_process()
        raise
    except FutureTimeoutError:
        why = "was not done in time"
    except Exception as error:  # noqa: BLE001 - whatever it is
        why = f"failed ({error})"
    _stop_process()
    _STOPPED.append(strands)
    rest = "; it is not asked again" if len(_STOPPED) >= MOST_STOPS else ""
    logger.warning("SQUARNA %s with a sequence of %d residues%s", why, len(strands), rest)


def _open_process() -> "ProcessPoolExecutor":
    """The process that runs SQUARNA, started when it is asked first."""
    from loky import ProcessPoolExecutor

    if not _RUNNING:
        _RUNNING.append(ProcessPoolExecutor(max_workers=1, timeout=IDLE_SECONDS))
        atexit.register(_stop_process)
    return _RUNNING[0]


def _stop_process() -> None:
    _BEGUN.clear()
    while _RUNNING:
        _RUNNING.pop().shutdown(wait=False, kill_workers=True)


def run_squarna(strands: str) -> list[str]:
    """Up to five dot-bracket strings of strands joined by &, best first; runs in the process of its own."""
    from SQUARNA import Predict

    out = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        Predict(inputseq=strands, configfile=CONFIGURATION, threads=1, toplim=NUM_STRUCTURES, write_to=out)
    lines = out.getvalue().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("=")) + 1
    return [line.split("\t")[0] for line in lines[begin:] if line.strip()][:NUM_STRUCTURES]
