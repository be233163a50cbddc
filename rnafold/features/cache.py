"""Arrays computed once for each target, in parallel, and kept on disk under the digest of what they depend on."""

import functools
import hashlib
import json
import math
import multiprocessing
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold.files.atomic import replace_file
from rnafold.files.dealing import deal
from rnafold.files.mounts import find_made

# What zipfile, zlib and numpy raise where a file was cut or flipped: a length beyond the memory, a lock never set.
_DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    MemoryError,
    RuntimeError,
    TypeError,
    IndexError,
    SyntaxError,
    zlib.error,
    struct.error,
    zipfile.BadZipFile,
)

Arrays = Mapping[str, npt.NDArray[Any]]


def digest(**parts: object) -> str:
    """SHA-256 (hexadecimal) of named values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Writes an .npz under a temporary name and renames it, so that concurrent runs never read half a file.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    with replace_file(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, **dict(arrays))


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]] | None:
    """The named arrays of an .npz, None where the file is absent or damaged (it will be made again).

    What the cache's folder does not hold is looked for in the prepared ones.
    """
    try:
        with (find_made(path) or path).open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except _DAMAGE:
        return None


def compute_all(
    work: Callable[[Any, Path], None],
    items: Sequence[tuple[Any, Path]],
    jobs: int,
    description: str,
    limit_seconds: float = math.inf,
) -> None:
    """Calls `work(item, path)` for each, in `jobs` processes, with a progress bar on a terminal.

    Args:
        work: a module-level function that writes its result to the path.
        items: (argument, path) in the order they are to be started: the longest first keeps all processes busy.
        jobs: processes; 1 works in this one.
        description: the progress bar's label.
        limit_seconds: nothing is begun later than this; what is left out is made when it is asked for.
    """
    end = time.monotonic() + limit_seconds
    if jobs <= 1 or len(items) <= 1:
        for item, path in tqdm(items, desc=description, disable=None):
            if time.monotonic() > end:
                break
            work(item, path)
        return
    # spawn: a forked copy of a process that already runs threads (torch, BLAS) may hang.
    context = multiprocessing.get_context("spawn")
    count = min(jobs, len(items))
    with ProcessPoolExecutor(max_workers=count, mp_context=context) as pool:
        done = deal(pool, count, functools.partial(_call, work), items, lambda: time.monotonic() <= end)
        for _ in tqdm(done, total=len(items), desc=description, disable=None):
            pass


def _call(work: Callable[[Any, Path], None], pair: tuple[Any, Path]) -> None:
    work(*pair)
