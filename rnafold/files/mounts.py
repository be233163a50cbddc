"""Files that a user mounts, found by name wherever the mount lies, and the digest that tells them from others."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rnafold.errors import InputError

# Names further folders with computed files, as PATH does.
PREPARED_VARIABLE: Final = "RNAFOLD_PREPARED"
# Of a file's contents so many bytes at each end tell it from others of its size.
SAMPLED_BYTES: Final = 1 << 16
# Where Kaggle mounts a kernel's inputs; $RNAFOLD_INPUTS names another folder.
DEFAULT_INPUTS: Final = "/kaggle/input"


def inputs_folder() -> Path:
    """The folder below which mounted files are searched."""
    return Path(os.environ.get("RNAFOLD_INPUTS") or DEFAULT_INPUTS)


def find_mounted(path: str, what: str, near: Path | None = None, accept: Callable[[Path], bool] = Path.is_file) -> Path:
    """The file itself if it is there, else one of its name in the folder `near`, else below the mounted inputs.

    Args:
        path: as the user typed it.
        what: what the file is, for the message, such as "model.encoder.path".
        near: a further folder to look into.
        accept: which of the files that are there will do.

    Raises:
        InputError: there is none; the message says how to mount it.
    """
    typed = Path(path)
    beside = [] if near is None else [near / typed.name]
    below = (file for file in walk_files(inputs_folder()) if file.name == typed.name)
    for candidate in (typed, *beside, *below):
        if candidate.is_file() and accept(candidate):
            return candidate
    raise InputError(
        f"{what} {path}: no such file here or below {inputs_folder()}; add the dataset that holds {typed.name} to the "
        f"kernel's inputs, or give the file's full path"
    )


def prepared_folders() -> list[Path]:
    """Folders that $RNAFOLD_PREPARED names: caches made elsewhere, mounted read-only."""
    return [Path(part) for part in os.environ.get(PREPARED_VARIABLE, "").split(os.pathsep) if part]


def find_made(path: Path) -> Path | None:
    """A file of the cache where it lies: in its folder, else under its name in a prepared one; None if in none."""
    places = (path, *(folder / path.name for folder in prepared_folders()))
    return next((place for place in places if place.exists()), None)


def walk_files(root: str | Path) -> Iterator[Path]:
    """Every file below a folder, following links (mounts may be links) but no folder twice; hidden folders are left
    out, folders come in order of their names."""
    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = sorted(x for x in below if not x.startswith("."))
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        for name in names:
            yield Path(folder, name)


def file_sha256(path: Path) -> str:
    """The `hash_file` of a file; computed once as long as size and time of change stay."""
    status = path.stat()
    return _digest(str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest(path: str, _size: int, _changed: int) -> str:
    return hash_file(Path(path))


def sample_digest(path: Path) -> str:
    """What tells a file's contents from others without reading them all: a digest of its size and both its ends.

    The same wherever the file is mounted and whenever it was copied.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _sample(str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=65536)
def _sample(path: str, size: int, _changed: int) -> str:
    with Path(path).open("rb") as file:
        ends = file.read(SAMPLED_BYTES)
        file.seek(max(size - SAMPLED_BYTES, 0))
        return hashlib.sha256(f"{size}|".encode() + ends + file.read(SAMPLED_BYTES)).hexdigest()


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes as 64 hexadecimal digits.

    Raises:
        InputError: no such file, or not readable.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
