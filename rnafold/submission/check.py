"""Every defect of a submission.csv with its row and column, and a summary of them."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rnafold.data.tables import list_names
from rnafold.submission.rows import (
    COLUMNS,
    COORDINATE_MAXIMUM,
    COORDINATE_MINIMUM,
    COORDINATES,
    NUM_CONFORMATIONS,
    RawRows,
    Sample,
    group_rows,
    parse_column,
    parse_coordinates,
    read_raw,
    read_sample,
)

Severity = Literal["defect", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing wrong with a submission.

    Attributes:
        row: from 1 below the header, 0 for the whole file.
        column: of the header; "" where it is about a whole row.
        kind: what is wrong, the same words for all of a kind.
        detail: what was found here and what was expected.
        severity: a defect makes the file invalid; a warning costs only score.
    """

    row: int
    column: str
    kind: str
    detail: str
    severity: Severity = "defect"

    @property
    def message(self) -> str:
        """Kind and detail."""
        return f"{self.kind}: {self.detail}"


def check_submission(path: str | Path, sample_path: str | Path) -> list[Finding]:
    """Every defect of a submission, cell by cell, and warnings.

    Args:
        path: the submission.
        sample_path: the sample_submission.csv whose IDs and order it must have.

    Returns:
        Findings in order of row; row 0 means the whole file. An empty list means Kaggle will accept it.

    Raises:
        InputError: the submission is no file or is empty, or the sample cannot be read.
    """
    sample = read_sample(sample_path)
    raw = read_raw(path)
    findings = list(check_header(raw.header))
    if raw.broken:
        findings.append(Finding(row=len(raw.rows) + 1, column="", kind="cut off", detail=f"{raw.broken}"))
    if len(raw.rows) != len(sample.ids):
        detail = f"{len(raw.rows)} rows, expected {len(sample.ids)}"
        findings.append(Finding(row=0, column="", kind="row count", detail=detail))
    for number, row in enumerate(raw.rows, start=1):
        if len(row) != len(raw.header):
            detail = f"{len(row)}, expected {len(raw.header)} (cut off?)"
            findings.append(Finding(row=number, column="", kind="number of fields", detail=detail))
    if "ID" in raw.header:
        findings.extend(_check_ids(raw, sample))
    findings.extend(_check_cells(raw))
    if not any(name not in raw.header for name in COLUMNS):
        findings.extend(_check_points(raw))
    return sorted(findings, key=lambda finding: finding.row)


def list_defects(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that make a submission invalid, without the warnings."""
    return [finding for finding in findings if finding.severity == "defect"]


def format_findings(findings: Sequence[Finding], most: int = 3) -> str:
    """One line a kind of finding: its count and the first few with row and column; "" without findings."""
    kinds: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.kind), []).append(finding)
    lines = []
    for (severity, kind), members in kinds.items():
        shown = []
        for finding in members[:most]:
            place = f"row {finding.row}" if finding.row else "file"
            shown.append(" ".join(part for part in (place, finding.column, finding.detail) if part))
        rest = "; ..." if len(members) > most else ""
        said = "warning: " if severity == "warning" else ""
        lines.append(f"{said}{kind} ({len(members)}): {'; '.join(shown)}{rest}")
    return "\n".join(lines)


def check_header(header: Sequence[str]) -> Iterator[Finding]:
    missing = [name for name in COLUMNS if name not in header]
    extra = [name for name in header if name not in COLUMNS]
    for name in missing:
        yield Finding(row=0, column=name, kind="missing column", detail=f"found {list_names(header, 18)}")
    for name in extra:
        yield Finding(row=0, column=name, kind="column not expected", detail="there are 18, ID to z_5")
    for name in sorted({name for name in header if list(header).count(name) > 1}):
        yield Finding(row=0, column=name, kind="column twice", detail="in the header")
    if not missing and not extra and len(header) == len(COLUMNS) and tuple(header) != COLUMNS:
        place = next(i for i, (found, want) in enumerate(zip(header, COLUMNS, strict=True)) if found != want)
        detail = f"{header[place]!r} stands where {COLUMNS[place]!r} is expected"
        yield Finding(row=0, column=header[place], kind="column order", detail=detail)


def _check_ids(raw: RawRows, sample: Sample) -> Iterator[Finding]:
    """Unknown, duplicate, missing and misplaced IDs, and residue names and numbers other than the sample's."""
    position = {identifier: index for index, identifier in enumerate(sample.ids)}
    first_row: dict[str, int] = {}
    names = raw.column("resname") if "resname" in raw.header else None
    numbers = raw.column("resid") if "resid" in raw.header else None
    known: list[tuple[int, int]] = []
    for row, identifier in enumerate(raw.column("ID"), start=1):
        if identifier not in position:
            yield Finding(row=row, column="ID", kind="unknown ID", detail=f"{identifier!r} is not in the sample")
        elif identifier in first_row:
            detail = f"{identifier!r} is already in row {first_row[identifier]}"
            yield Finding(row=row, column="ID", kind="duplicate ID", detail=detail)
        else:
            first_row[identifier] = row
            known.append((row, position[identifier]))
    for row, index in known:
        if names is not None and names[row - 1] != sample.resnames[index]:
            detail = f"{names[row - 1]!r}, expected {sample.resnames[index]!r}"
            yield Finding(row=row, column="resname", kind="residue name", detail=detail)
        if numbers is not None and numbers[row - 1].strip() != str(sample.resids[index]):
            detail = f"{numbers[row - 1]!r}, expected {sample.resids[index]}"
            yield Finding(row=row, column="resid", kind="residue number", detail=detail)
    for index, identifier in enumerate(sample.ids):
        if identifier not in first_row:
            detail = f"{identifier!r}, row {index + 1} of the sample"
            yield Finding(row=0, column="ID", kind="missing ID", detail=detail)
    in_order = longest_increasing([index for _, index in known])
    for place, (row, index) in enumerate(known):
        if place not in in_order:
            detail = f"{sample.ids[index]!r} belongs in row {index + 1}"
            yield Finding(row=row, column="ID", kind="wrong order", detail=detail)


def longest_increasing(values: Sequence[int]) -> set[int]:
    """Places of a longest increasing subsequence: the rows that need not move."""
    tails: list[int] = []
    places: list[int] = []
    before = [-1] * len(values)
    for place, value in enumerate(values):
        length = bisect_left(tails, value)
        before[place] = places[length - 1] if length else -1
        tails[length : length + 1] = [value]
        places[length : length + 1] = [place]
    chosen = set()
    place = places[-1] if places else -1
    while place >= 0:
        chosen.add(place)
        place = before[place]
    return chosen


def _check_cells(raw: RawRows) -> Iterator[Finding]:
    """Cells of the coordinate columns that are empty, no number, not finite or out of range."""
    for name in COORDINATES:
        if name not in raw.header:
            continue
        cells = raw.column(name)
        values = parse_column(cells)
        inside = (values >= COORDINATE_MINIMUM) & (values <= COORDINATE_MAXIMUM)
        place = raw.header.index(name)
        for row in np.flatnonzero(~inside).tolist():
            # A row cut short is reported once, as a wrong number of fields.
            if place < len(raw.rows[row]):
                kind, detail = _describe_cell(cells[row].strip())
                yield Finding(row=row + 1, column=name, kind=kind, detail=detail)


def _describe_cell(text: str) -> tuple[str, str]:
    """Kind and detail."""
    if not text:
        return "empty cell", "expected a number"
    value = float(parse_column([text])[0])
    if text.lower().lstrip("+-") == "nan":
        return "NaN cell", f"{text!r}, expected a number"
    if np.isnan(value):
        return "text cell", f"{text!r}, expected a number"
    if np.isinf(value):
        return "infinite cell", f"{text!r}, expected a number"
    return "out of range", f"{text}, expected {COORDINATE_MINIMUM} to {COORDINATE_MAXIMUM}"


def _check_points(raw: RawRows) -> Iterator[Finding]:
    """Warnings about targets that score nothing: all zeros, or a conformation with every residue at one point."""
    coords = parse_coordinates(raw.header, raw.rows).reshape(-1, NUM_CONFORMATIONS, 3)
    ids = raw.column("ID")
    for target_id, rows in group_rows(ids, [0] * len(ids)).items():
        points = coords[rows]
        if (points == 0.0).all():
            detail = f"{target_id}"
            yield Finding(row=int(rows[0]) + 1, column="", kind="all-zero target", detail=detail, severity="warning")
            continue
        flat = (np.ptp(points, axis=0) < 1e-3).all(-1) if len(rows) > 1 else np.zeros(NUM_CONFORMATIONS, dtype=bool)
        for conformation in np.flatnonzero(flat):
            detail = f"{target_id}, conformation {conformation + 1}"
            yield Finding(
                row=int(rows[0]) + 1,
                column=f"x_{conformation + 1}",
                kind="residues at one point",
                detail=detail,
                severity="warning",
            )
