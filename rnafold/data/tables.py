"""CSV files as rows or blocks of text, refused with file and row where they are cut off or lack a column."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

import numpy as np

from rnafold.errors import InputError

BLOCK_BYTES: Final = 4 << 20
# More than any header, and more than any table that is held whole: what unpacks beyond is a trap, no table.
_HEADER_BYTES: Final = 1 << 20
MOST_BYTES: Final = 2 << 30
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
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
    """The whole file as text; a byte-order mark is dropped, line ends (CR LF, CR) become newlines.

    Raises:
        InputError: no such file, empty, not UTF-8, a damaged .gz, or more than 2 GiB.
    """
    data = b"".join(_iter_bytes(path, BLOCK_BYTES, MOST_BYTES))
    if not data.strip():
        raise InputError(f"{path}: the file is empty, expected a header and rows")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start + 1} is not UTF-8 text; expected a CSV file") from error


def _iter_bytes(path: str | Path, size: int, most: int | None = None) -> Iterator[bytes]:
    """The file in parts of about `size` bytes, unpacked, line ends as newlines.

    Raises:
        InputError: no such file, a damaged .gz, or more than `most` bytes.
    """
    held, total = b"", 0
    with open_binary(path) as handle:
        try:
            while data := handle.read(size):
                total += len(data)
                if most is not None and total > most:
                    raise InputError(f"{path}: more than {most >> 30} GiB, expected a table")
                data = held + data
                held = b"\r" if data.endswith(b"\r") else b""  # a line feed may follow
                data = data.removesuffix(b"\r")
                yield data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be unpacked after {total} bytes ({error})") from error
    if held:
        yield b"\n"


def iter_csv(text: str) -> Iterator[list[str]]:
    """Fields of each row; only a newline ends one, whatever else Unicode calls a line's end.

    Raises:
        csv.Error: a quote out of place or never closed.
    """
    return csv.reader(io.StringIO(text, newline="\n"), strict=True)


def parse_number(text: str) -> float:
    """The number of a cell as every program writes it; NaN for anything else (1_000, other scripts' digits)."""
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) else float("nan")


def parse_whole(text: str) -> int | None:
    """The whole number of a cell in plain digits, None for anything else."""
    text = text.strip()
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None


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
    lines = iter_csv(read_text(path).lstrip("\n"))
    header = _parse_header(path, lines)
    require_columns(path, header, required)
    rows: list[list[str]] = []
    try:
        for row in lines:
            if _is_blank(row):
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
    start = b""
    for data in _iter_bytes(path, _HEADER_BYTES):
        start = (start + data).removeprefix(b"\xef\xbb\xbf").lstrip(b"\n")
        if b"\n" in start or len(start) > _HEADER_BYTES:
            break
    if not start.strip():
        raise InputError(f"{path}: the file is empty, expected a header and rows")
    header = _parse_header(path, iter_csv(start.partition(b"\n")[0].decode("utf-8", errors="replace")))
    require_columns(path, header, required)
    return header


def _parse_header(path: str | Path, rows: Iterator[list[str]]) -> list[str]:
    """Names of the first row."""
    try:
        return [name.strip() for name in next(rows)]
    except csv.Error as error:
        raise InputError(f"{path}: header: {error} (a quote out of place or never closed?)") from error


def _is_blank(row: Sequence[str]) -> bool:
    """True for a line without fields, or of white space alone where fields are expected."""
    return not row or (len(row) == 1 and not row[0].strip())


def iter_blocks(path: str | Path, num_fields: int, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The data rows in blocks of whole lines, so that memory does not grow with the file.

    Raises:
        InputError: a row with fewer or more than `num_fields` fields, or a quote left open.
    """
    row, rest, in_header = 1, b"", True
    for data in _iter_bytes(path, block_bytes):
        rest += data
        if in_header:
            start = rest.removeprefix(b"\xef\xbb\xbf").lstrip(b"\n")
            if b"\n" not in start:
                continue
            rest, in_header = start.partition(b"\n")[2], False
        cut = rest.rfind(b"\n") + 1
        if cut:
            block = _check_block(path, rest[:cut], row, num_fields)
            rest = rest[cut:]
            row += block.num_rows
            yield block
    if rest.strip() and not in_header:
        yield _check_block(path, rest + b"\n", row, num_fields)


def _check_block(path: str | Path, text: bytes, first_row: int, num_fields: int) -> Block:
    """The block with blank lines dropped, refused when a row has another number of fields."""
    if b'"' in text:
        rows = _parse_quoted(path, text, first_row)
        kept = [row for row in rows if not _is_blank(row)]
        if len(kept) < len(rows):
            text = _format_rows(kept)
        counts = np.array([len(row) for row in kept], dtype=np.int64)
    else:
        codes = np.frombuffer(text, dtype=np.uint8)
        ends = np.flatnonzero(codes == ord("\n"))
        commas = np.searchsorted(np.flatnonzero(codes == ord(",")), ends)
        counts = np.diff(commas, prepend=0) + 1
        if ((np.diff(ends, prepend=-1) <= 2) | (counts < num_fields)).any():
            filled = b"".join(line for line in text.splitlines(keepends=True) if line.strip())
            if filled != text:
                return _check_block(path, filled, first_row, num_fields)
    wrong = np.flatnonzero(counts != num_fields)
    if wrong.size:
        found = int(counts[wrong[0]])
        raise InputError(f"{path}: row {first_row + wrong[0]} has {found} fields, expected {num_fields} (cut off?)")
    return Block(first_row=first_row, num_rows=len(counts), text=text)


def _parse_quoted(path: str | Path, text: bytes, first_row: int) -> list[list[str]]:
    """Fields of each row where quotes occur."""
    rows: list[list[str]] = []
    try:
        rows.extend(iter_csv(text.decode("utf-8", errors="replace")))
    except csv.Error as error:
        raise InputError(f"{path}: row {first_row + len(rows)}: {error} (a quote never closed?)") from error
    return rows


def _format_rows(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows as lines of a CSV."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return lines.getvalue().encode()
