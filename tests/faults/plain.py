"""Plain readings of the formats: as short as they can be, on nothing of the kit's, to hold its readers against.

Each takes the bytes of a file and gives what it says, or raises ValueError where a plain reading makes no sense of it.
"""

import csv
import datetime
import io
import json
import math
import re
from typing import Any

import yaml

Point = tuple[float, float, float]
PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_table(data: bytes) -> list[dict[str, str]]:
    """Rows of a CSV by the names of its header."""
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    try:
        rows = [
            row
            for row in csv.reader(io.StringIO(text.lstrip("\n"), newline="\n"), strict=True)
            if any(x.strip() for x in row)
        ]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if not rows:
        raise ValueError("no header")
    header = [name.strip() for name in rows[0]]
    if len(set(header)) < len(header) or any(len(row) != len(header) for row in rows[1:]):
        raise ValueError("not a table")
    return [dict(zip(header, row)) for row in rows[1:]]


def read_number(text: str) -> float:
    """A number in plain digits, else NaN."""
    return float(text) if PLAIN_NUMBER.fullmatch(text.strip()) else math.nan


def read_sequences(data: bytes) -> list[tuple[str, str, str]]:
    """(id, letters, cutoff) of each row; the cutoff as a date, "" for none, "0001-01-01" for what is none."""
    return [
        (row["target_id"].strip(), read_letters(row["sequence"]), read_date(row.get("temporal_cutoff", "")))
        for row in read_table(data)
    ]


def read_letters(text: str) -> str:
    """ACGU, N for all others."""
    return re.sub("[^ACGU]", "N", text.strip().upper().replace("T", "U"))


def read_date(text: str) -> str:
    """A day as YYYY-MM-DD."""
    text = text.strip()
    if not text:
        return ""
    try:
        return datetime.datetime.fromisoformat(text).date().isoformat() if text.isascii() else "0001-01-01"
    except ValueError:
        return "0001-01-01"


def read_points(data: bytes) -> dict[str, list[list[Point | None]]]:
    """Each target's conformations that have three residues, each residue a point or None."""
    rows = read_table(data)
    counts = sorted({int(name[2:]) for name in rows[0] if re.fullmatch(r"[xyz]_[0-9]{1,4}", name)}) if rows else []
    found: dict[str, list[list[Point | None]]] = {}
    for row in rows:
        target = found.setdefault(row["ID"].rpartition("_")[0], [[] for _ in counts])
        for place, number in enumerate(counts):
            x, y, z = (read_coordinate(row[f"{axis}_{number}"]) for axis in "xyz")
            target[place].append((x, y, z) if all(math.isfinite(v) and v > -1e6 for v in (x, y, z)) else None)
    return {name: [c for c in sets if sum(p is not None for p in c) >= 3] for name, sets in found.items()}


def read_coordinate(text: str) -> float:
    """A label's coordinate: NaN where it says that there is none."""
    return read_number(text)


def read_submission(data: bytes) -> list[tuple[str, str, str, list[float]]]:
    """(id, name, number, 15 coordinates) of each row."""
    names = [f"{axis}_{number}" for number in range(1, 6) for axis in "xyz"]
    return [
        (row["ID"], row["resname"], str(int(row["resid"])), [read_number(row[name]) for name in names])
        for row in read_table(data)
    ]


def read_alignment(data: bytes) -> list[str]:
    """Letters of each record of a FASTA or a3m file, insertions (lower case, dots) of all but the first left out."""
    text = data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines or not lines[0].startswith(">"):
        raise ValueError("no FASTA")
    records: list[str] = []
    for line in lines:
        if line.startswith(">"):
            records.append("")
        else:
            records[-1] += "".join(line.split())
    return fit_records(records)


def read_blocks(data: bytes, letters: str) -> list[str]:
    """Letters of each row of a Stockholm file, in the columns of the row with these letters, which comes first."""
    text = data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    if not text.lstrip().startswith("# STOCKHOLM"):
        return read_alignment(data)
    rows: dict[str, str] = {}
    for line in text.split("//")[0].split("\n"):
        words = line.split()
        if words and not line.startswith("#"):
            rows[words[0]] = rows.get(words[0], "") + "".join(words[1:])
    records = sorted(rows.values(), key=lambda row: bare(row) != letters)
    return fit_records(records)


def bare(row: str) -> str:
    """A row without gaps, in the letters of RNA."""
    return re.sub(r"[-.]", "", row).upper().replace("T", "U")


def fit_records(records: list[str]) -> list[str]:
    """The query's columns of all records: where it has gaps, those without; else by `fit_record`."""
    query = records[0]
    if len(bare(query)) != len(query):
        records = [record if len(record) == len(query) else "" for record in records]
        return ["".join(x for x, q in zip(record, query) if q not in "-.").upper() for record in records]
    return [query.upper(), *(fit_record(record, len(query)) for record in records[1:])]


def fit_record(record: str, length: int) -> str:
    """Without insertions; a record that has the query's length only with them is no a3m: case means nothing there."""
    row = re.sub(r"[a-z.]", "", record)
    return record.upper() if len(row) != length == len(record) else row


def read_json_lines(data: bytes) -> list[Any]:
    """The lines that are JSON objects."""
    found = []
    for line in data.decode("utf-8", errors="replace").split("\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def read_yaml_leaves(data: bytes) -> dict[str, str]:
    """The text of every value by its dotted key, as it stands in the file."""
    leaves: dict[str, str] = {}

    def visit(node: Any, key: str) -> None:
        if isinstance(node, dict):
            for name, value in node.items():
                visit(value, f"{key}.{name}")
        elif isinstance(node, list):
            for index, value in enumerate(node):
                visit(value, f"{key}[{index}]")
        else:
            leaves[key] = "" if node is None else str(node)

    try:
        visit(yaml.load(data.decode("utf-8"), Loader=yaml.BaseLoader), "")
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return leaves


def read_pdb_points(data: bytes) -> list[tuple[str, Point]]:
    """(residue name, point) of each C1' in the columns of an ATOM or HETATM line."""
    text = data.decode("ascii", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    found = []
    for line in text.split("\n"):
        if line[:4].upper() in ("ATOM", "HETA") and line[12:16].strip() in ("C1'", "C1*"):
            point = tuple(read_number(line[first : first + 8]) for first in (30, 38, 46))
            found.append((line[17:20].strip(), (point[0], point[1], point[2])))
    return found


def read_cif_points(data: bytes) -> list[tuple[str, Point]]:
    """(residue name, point) of each C1' row of the _atom_site loop, a token at a time."""
    text = data.decode("ascii", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    found = []
    names: list[str] = []
    for line in text.split("\n"):
        word = line.strip()
        if word.startswith("_"):
            names = [*names, word.split()[0].lower()]
        elif word == "loop_" or word.startswith("data_"):
            names = []
        elif not word.startswith("#") and any(name.startswith("_atom_site.") for name in names):
            cells = [a or b or c for a, b, c in re.findall(r'"([^"]*)"|\'([^\']*)\'(?=\s|$)|(\S+)', word)]
            row = dict(zip([name.removeprefix("_atom_site.") for name in names], cells))
            if row.get("label_atom_id", row.get("auth_atom_id")) in ("C1'", "C1*") and len(cells) == len(names):
                x, y, z = (read_number(row.get(f"cartn_{axis}", "")) for axis in "xyz")
                found.append((row.get("label_comp_id", row.get("auth_comp_id", "")), (x, y, z)))
    return found
