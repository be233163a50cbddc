"""The one way in which the kit writes files: under a temporary name in the same folder, synced, then renamed.

A reader, a second process or a kill at any moment sees the old file or the new one, never a part. Temporary names
begin with a dot and end in `.tmp`; whatever searches or copies folders passes over them.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rnafold.errors import InputError

# Of the file's own name in the temporary one: a file system takes names of 255 bytes at most.
_NAME_LETTERS: Final = 40


@contextlib.contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Gives the name of an empty file to write; at the block's end it is synced and takes the place of `path`.

    The folder is made where it is missing. A block that fails leaves what was at `path` and no temporary file.

    Raises:
        InputError: the folder cannot be made or written to, or the disk is full.
    """
    path = Path(path)
    temporary = _temporary_name(path)
    try:
        with _as_input_error(path, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            # made here: the process's umask decides who may read it, whatever the block's writer thinks
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode & 0o777
            yield temporary
            temporary.chmod(mode)
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replace_folder(path: str | Path) -> Iterator[Path]:
    """Gives an empty folder to fill; at the block's end it takes the place of the folder `path` with all it held.

    Raises:
        InputError: as for `replace_file`.
    """
    path = Path(path)
    temporary, old = _temporary_name(path), _temporary_name(path)
    try:
        with _as_input_error(path, temporary):
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.rglob("*"):
                _sync(file)
            if path.is_dir():
                path.replace(old)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file in one step.

    Raises:
        InputError: as for `replace_file`.
    """
    with replace_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes text as UTF-8, line ends as they are, in one step.

    Raises:
        InputError: as for `replace_file`.
    """
    write_bytes(path, text.encode("utf-8"))


def is_temporary(path: Path) -> bool:
    """Whether a name is one that a write in progress, or one that was killed, uses."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name[:_NAME_LETTERS]}.{uuid.uuid4().hex[:12]}.tmp")


@contextlib.contextmanager
def _as_input_error(path: Path, temporary: Path) -> Iterator[None]:
    """One line that names the file meant, for faults of writing it; those of other files that a block reads pass."""
    try:
        yield
    except OSError as error:
        about = error.filename
        if about is None or Path(os.fsdecode(about)).is_relative_to(temporary) or _is_on_the_way(about, path):
            raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
        raise


def _is_on_the_way(about: str | bytes, path: Path) -> bool:
    return path.is_relative_to(os.fsdecode(about))


def _sync(path: Path) -> None:
    """Hands a file or folder to the disk; some file systems cannot sync a folder, which costs no data."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
