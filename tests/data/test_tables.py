"""Tables as programs write them: line ends, quotes, odd characters, blank lines, damaged and huge files."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from rnafold.data import tables
from rnafold.data.competition import read_labels, read_targets
from rnafold.data.tables import iter_blocks, parse_number, parse_whole, read_header, read_rows, read_text
from rnafold.errors import InputError
from rnafold.submission.rows import parse_column

LABELS = "ID,resname,resid,x_1,y_1,z_1\n" + "".join(f"T_{i},A,{i},{i}.5,0,{-i}\n" for i in range(1, 7))
QUOTED = "ID,resname,resid,x_1,y_1,z_1\n" + "".join(f'"T_{i}","A",{i},{i}.5,0,{-i}\n' for i in range(1, 7))


@pytest.mark.parametrize("block_bytes", [7, 64, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CR LF", "CR"])
@pytest.mark.parametrize("text", [LABELS, QUOTED], ids=["plain", "quoted"])
@pytest.mark.parametrize("tail", ["", "\n", "\n\n", "   \n", "\n \n"], ids=repr)
def test_labels_read_alike_whatever_ends_their_lines(
    tmp_path: Path, text: str, end: str, tail: str, block_bytes: int
) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes((text + tail).replace("\n", end).encode())
    header = read_header(path, ("ID",))
    assert sum(block.num_rows for block in iter_blocks(path, len(header), block_bytes)) == 6
    ((name, (structure,)),) = read_labels(path)
    assert name == "T" and structure.coords[:, 0, 0].tolist() == [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]


@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"], ids=ascii)
def test_what_unicode_calls_a_lines_end_is_part_of_the_cell(tmp_path: Path, letter: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(f"target_id,sequence,description\nT,ACG,two{letter}words\nU,ACG,\n", encoding="utf-8")
    _, rows = read_rows(path, ("target_id",))
    assert [row[0] for row in rows] == ["T", "U"] and rows[0][2] == f"two{letter}words"
    assert [target.description for target in read_targets(path)] == ["two words", ""]


@pytest.mark.parametrize("header", ['target_id,"seq"uence', 'target_id,"sequence'], ids=["out of place", "open"])
def test_a_bad_quote_in_a_header_is_one_line(tmp_path: Path, header: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(f"{header}\nT,ACG\n")
    with pytest.raises(InputError, match=r"s\.csv: header: "):
        read_rows(path, ("target_id",))
    with pytest.raises(InputError, match=r"s\.csv: header: "):
        read_header(path, ("target_id",))


def test_blank_first_lines_and_a_byte_order_mark_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n" + LABELS.encode())
    assert read_header(path, ("ID",))[0] == "ID" and len(list(read_labels(path))) == 1
    assert read_rows(path, ("ID",))[0][0] == "ID"


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_damaged_packed_table_is_one_line(tmp_path: Path, part: float) -> None:
    path = tmp_path / "l.csv.gz"
    data = gzip.compress((LABELS * 1).encode())
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError, match="cannot be unpacked"):
        list(read_labels(path))
    with pytest.raises(InputError, match="cannot be unpacked"):
        read_text(path)


def test_a_file_that_unpacks_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" * 1_000_000))
    monkeypatch.setattr(tables, "MOST_BYTES", 1 << 20)
    with pytest.raises(InputError, match="expected a table"):
        read_text(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.5", 1.5), (" -2 ", -2.0), ("+.5", 0.5), ("3.", 3.0), ("1e3", 1000.0), ("1_0", np.nan), ("١٢", np.nan),
     ("１", np.nan), ("0x1", np.nan), ("", np.nan), ("1,5", np.nan), ("--1", np.nan)],
)  # fmt: skip
def test_numbers_are_written_in_plain_digits(text: str, value: float) -> None:
    for found in (parse_number(text), parse_column([text])[0], parse_column([text, "x"])[0]):
        np.testing.assert_equal(found, value)


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), (" -7", -7), ("٧", None), ("7.0", None), ("²", None), ("", None)]
)
def test_whole_numbers_are_written_in_plain_digits(text: str, value: int | None) -> None:
    assert parse_whole(text) == value
