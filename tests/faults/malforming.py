"""How a file goes wrong: hypothesis strategies that take a good file and cut, flip, mix up or rewrite parts of it."""

import gzip
import random
from collections.abc import Callable
from typing import Final

from hypothesis import strategies as st

# What people and programs really put where a number, a name or a date is expected.
ODD: Final = (
    "", " ", "nan", "NaN", "inf", "1e999", "-1e18", "1,5", "1_000", "0x10", "１２", "٣", "²", "#DIV/0!", "NULL", "None",
    "true", "-0", "+1", "1.", ".5", "1e-3", "9" * 400, "=1+1", '"', "''", '""', "\u2028", "\x0b", "\x0c", "\x85",
    "\ufeff", "Å", "\ud7ff", "a b", "../../x", "/etc/passwd", "{}", "[]", "~", "2024-13-45", "2024-01-01T00:00:00Z",
    "[" * 3000, "{\"a\":" * 3000, "A:1;B:1", "A1B1", "-", "*", ">", "#", "data_", "loop_", "ATOM", "END",
    "!!python/none", "\x00",
)  # fmt: skip
SEPARATORS: Final = (b",", b" ", b":", b"\t", b";")


def cut(data: bytes, rng: random.Random) -> bytes:
    """Ends somewhere: a copy that broke off."""
    return data[: rng.randrange(len(data) + 1)]


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit is another."""
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def drop_span(data: bytes, rng: random.Random) -> bytes:
    """A stretch is missing."""
    first = rng.randrange(len(data))
    return data[:first] + data[first + rng.randrange(1, 200) :]


def insert_bytes(data: bytes, rng: random.Random) -> bytes:
    """Rubbish in the middle."""
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.randrange(1, 9)) + data[place:]


def repeat_line(data: bytes, rng: random.Random) -> bytes:
    """A line stands twice."""
    lines = data.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    return b"".join([*lines[: place + 1], lines[place], *lines[place + 1 :]])


def drop_line(data: bytes, rng: random.Random) -> bytes:
    """A line is missing."""
    lines = data.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def swap_lines(data: bytes, rng: random.Random) -> bytes:
    """Two lines have changed places."""
    lines = data.splitlines(keepends=True)
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines)


def replace_cell(data: bytes, rng: random.Random) -> bytes:
    """A cell or word is something that nobody expects there."""
    separator = rng.choice([mark for mark in SEPARATORS if mark in data] or [b"\n"])
    cells = data.split(separator)
    cells[rng.randrange(len(cells))] = rng.choice(ODD).encode("utf-8", errors="surrogatepass")
    return separator.join(cells)


def change_line_ends(data: bytes, rng: random.Random) -> bytes:
    """Another system's line ends, in all of the file or in a part."""
    place = rng.choice((0, rng.randrange(len(data))))
    return data[:place] + data[place:].replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\r\r\n")))


def double(data: bytes, _rng: random.Random) -> bytes:
    """The file twice in one."""
    return data + data


def rewrite(data: bytes, rng: random.Random) -> bytes:
    """Another encoding, or a byte-order mark."""
    text = data.decode("latin-1")
    return rng.choice((text.encode("utf-16"), b"\xef\xbb\xbf" + data, text.encode("utf-8"), b"\xff\xfe" + data))


WAYS: Final[tuple[Callable[[bytes, random.Random], bytes], ...]] = (
    cut, flip, flip, drop_span, insert_bytes, repeat_line, drop_line, swap_lines, replace_cell, replace_cell,
    replace_cell, change_line_ends, double, rewrite,
)  # fmt: skip


@st.composite
def malformed(draw: st.DrawFn, good: bytes, packed: bool = False) -> bytes:
    """The good file after one to three ways of going wrong; a packed one goes wrong before or after it is packed."""
    rng = random.Random(draw(st.integers(min_value=0, max_value=2**48)))
    data = good
    for _ in range(draw(st.integers(min_value=1, max_value=3))):
        data = rng.choice(WAYS)(data, rng) if data else data
    if not packed:
        return data
    return (
        gzip.compress(data, mtime=0)
        if draw(st.booleans())
        else rng.choice((cut, flip, drop_span))(gzip.compress(good, mtime=0), rng)
    )
