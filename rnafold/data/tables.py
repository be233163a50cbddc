"""CSV files as rows or blocks of text, refused with file and row where they are cut off or lack a column."""

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

import numpy as np

from rnafold.errors import InputError

BLOCK_BYTES: Final = 4 << 20
# all_sequences of a ribosome is longer than the csv module's default of 131,072 characters a field.
csv.field_size_limit(1 << 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Whole lines of a CSV: `text` starts with data row `first_row` (counted from 1 below the header)."""

    first_row: int
    num_rows: int
    text: bytes


def open_binary(path: str | Path) -> IO[bytes]:
    """The file's bytes, unpacked when the name ends in .gz.

    Raises:
        InputError: no such file, or a folder.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, expected a file")
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def read_text(path: str | Path) -> str:
    """The whole file as text; a byte-order mark is dropped, line ends become newlines.

    Raises:
        InputError: no such file, empty, not UTF-8, or a damaged .gz.
    """
    with open_binary(path) as handle:
        try:
            data = handle.read()
        except (OSError, EOFError) as error:
            raise InputError(f"{path}: cannot be unpacked ({error})") from error
    if not data.strip():
        raise InputError(f"{path}: the file is empty, expected a header and rows")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start + 1} is not UTF-8 text; expected a CSV file") from error


def list_names(names: Sequence[str], most: int = 12) -> str:
    """The first names, comma separated, with the number left out."""
    rest = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def require_columns(path: str | Path, header: Sequence[str], required: Sequence[str]) -> None:
    """Refuses a header that lacks a required column or names one twice.

    Raises:
        InputError: naming the file, the missing columns and those found.
    """
    missing = [name for name in required if name not in header]
    if missing:
        word = "column" if len(missing) == 1 else "columns"
        raise InputError(f"{path}: {word} {list_names(missing)} missing; found {list_names(header)}")
    twice = sorted({name for name in header if list(header).count(name) > 1})
    if twice:
        raise InputError(f"{path}: column {list_names(twice)} stands in the header more than once")


def read_rows(path: str | Path, required: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and data rows of a CSV with quoted line breaks; every row has as many fields as the header.

    Raises:
        InputError: empty file, no rows, a missing column, a row cut off, or a quote never closed.
    """
    lines = csv.reader(read_text(path).splitlines(keepends=True), strict=True)
    header = [name.strip() for name in next(lines)]
    require_columns(path, header, required)
    rows: list[list[str]] = []
    try:
        for row in lines:
            if not row:
                continue
            rows.append(row)
            if len(row) != len(header):
                raise InputError(f"{path}: row {len(rows)} has {len(row)} fields, expected {len(header)} (cut off?)")
    except csv.Error as error:
        raise InputError(f"{path}: row {len(rows) + 1}: {error} (a quote never closed, or cut off)") from error
    if not rows:
        raise InputError(f"{path}: a header but no rows")
    return header, rows


def read_header(path: str | Path, required: Sequence[str]) -> list[str]:
    """Column names of a CSV.

    Raises:
        InputError: empty file or a required column missing.
    """
    with open_binary(path) as handle:
        line = handle.readline().decode("utf-8-sig", errors="replace")
    if not line.strip():
        raise InputError(f"{path}: the file is empty, expected a header and rows")
    header = [name.strip() for name in next(csv.reader([line]))]
    require_columns(path, header, required)
    return header


def iter_blocks(path: str | Path, num_fields: int, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The data rows in blocks of whole lines, so that memory does not grow with the file.

    Raises:
        InputError: a row with fewer or more than `num_fields` fields, or a quote left open.
    """
    row = 1
    with open_binary(path) as handle:
        handle.readline()
        rest = b""
        try:
            while data := handle.read(block_bytes):
                cut = data.rfind(b"\n") + 1
                if not cut:
                    rest += data
                    continue
                block = _check_block(path, rest + data[:cut], row, num_fields)
                rest = data[cut:]
                row += block.num_rows
                yield block
        except (gzip.BadGzipFile, EOFError) as error:
            raise InputError(f"{path}: cannot be unpacked after row {row - 1} ({error})") from error
        if rest.strip():
            yield _check_block(path, rest + b"\n", row, num_fields)


def _check_block(path: str | Path, text: bytes, first_row: int, num_fields: int) -> Block:
    """The block with blank lines dropped, refused when a row has another number of fields."""
    if b'"' in text:
        counts = _count_quoted(path, text, first_row)
    else:
        codes = np.frombuffer(text, dtype=np.uint8)
        ends = np.flatnonzero(codes == ord("\n"))
        commas = np.searchsorted(np.flatnonzero(codes == ord(",")), ends)
        counts = np.diff(commas, prepend=0) + 1
        if (np.diff(ends, prepend=-1) <= 2).any():
            text = b"".join(line for line in text.splitlines(keepends=True) if line.strip())
            return (
                _check_block(path, text, first_row, num_fields)
                if b"\n" in text
                else Block(first_row=first_row, num_rows=0, text=b"")
            )
    wrong = np.flatnonzero(counts != num_fields)
    if wrong.size:
        found = int(counts[wrong[0]])
        raise InputError(f"{path}: row {first_row + wrong[0]} has {found} fields, expected {num_fields} (cut off?)")
    return Block(first_row=first_row, num_rows=len(counts), text=text)


def _count_quoted(path: str | Path, text: bytes, first_row: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Number of fields of each row where quotes occur."""
    counts: list[int] = []
    try:
        for fields in csv.reader(text.decode("utf-8", errors="replace").splitlines(keepends=True), strict=True):
            counts.append(len(fields))
    except csv.Error as error:
        raise InputError(f"{path}: row {first_row + len(counts)}: {error} (a quote never closed?)") from error
    return np.asarray(counts, dtype=np.int64)
