"""A valid submission.csv out of a defective one, with a line for each kind of change."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from rnafold.data.tables import list_names
from rnafold.errors import InputError
from rnafold.structure import FloatArray
from rnafold.submission.check import check_header, longest_increasing
from rnafold.submission.filling import RULE, fill_conformations
from rnafold.submission.rows import (
    COORDINATE_MAXIMUM,
    COORDINATE_MINIMUM,
    NUM_CONFORMATIONS,
    RawRows,
    Sample,
    parse_coordinates,
    read_raw,
    read_sample,
    write_rows,
)


def repair_submission(path: str | Path, sample_path: str | Path, out: str | Path) -> list[str]:
    """Writes a valid submission from a defective one; returns one line for each kind of change, none if there was none.

    Rows are put into the sample's order; unknown rows and second rows of an ID are dropped; residue names and numbers
    are the sample's; missing, unreadable or not finite coordinates are filled by `filling.RULE`; coordinates are
    clipped to the allowed range and rounded to 3 decimals.

    Raises:
        InputError: no ID column, or no ID in common with the sample; or the sample cannot be read.
    """
    sample = read_sample(sample_path)
    raw = read_raw(path)
    if "ID" not in raw.header:
        raise InputError(f"{path}: column ID missing, cannot be repaired; found {list_names(raw.header)}")
    position = {identifier: index for index, identifier in enumerate(sample.ids)}
    source = np.full(len(sample.ids), -1)
    num_unknown = num_twice = 0
    for row, identifier in enumerate(raw.column("ID")):
        index = position.get(identifier, -1)
        num_unknown += index < 0
        num_twice += index >= 0 and source[index] >= 0
        if index >= 0 and source[index] < 0:
            source[index] = row
    if (source < 0).all():
        raise InputError(
            f"{path}: none of its {len(raw.rows)} IDs is in {sample_path}, cannot be repaired; "
            f"expected IDs such as {sample.ids[0]!r}"
        )
    notes = [f"{finding.message} ({finding.column})" for finding in check_header(raw.header)]
    if raw.broken:
        notes.append("the file's end was cut off")
    present = source[source >= 0]
    for count, text in (
        (num_unknown, "rows with an ID that is not in the sample dropped"),
        (num_twice, "rows with an ID seen before dropped"),
        (int((source < 0).sum()), "missing rows added"),
        (len(present) - len(longest_increasing(present.tolist())), "rows moved to their place in the sample's order"),
        (_count_renamed(raw, sample, source), "residue names or numbers set to the sample's"),
    ):
        if count:
            notes.append(f"{count} {text}")
    coords, filled = _fill_from(raw, sample, source)
    notes.extend(filled)
    num_clipped = int(((coords < COORDINATE_MINIMUM) | (coords > COORDINATE_MAXIMUM)).sum())
    if num_clipped:
        notes.append(f"{num_clipped} coordinates clipped to {COORDINATE_MINIMUM} .. {COORDINATE_MAXIMUM}")
    write_rows(out, sample, coords)
    return notes


def _count_renamed(raw: RawRows, sample: Sample, source: npt.NDArray[np.int64]) -> int:
    """Rows whose residue name or number differs from the sample's."""
    wrong = np.zeros(len(source), dtype=bool)
    for column, expected in (("resname", sample.resnames), ("resid", [str(number) for number in sample.resids])):
        if column in raw.header:
            cells = raw.column(column)
            wrong |= np.array([row >= 0 and cells[row] != want for row, want in zip(source, expected, strict=True)])
    return int(wrong.sum())


def _fill_from(raw: RawRows, sample: Sample, source: npt.NDArray[np.int64]) -> tuple[FloatArray, list[str]]:
    """Coordinates (N, 5, 3) in the sample's order without gaps, and one line for each target that had some."""
    read = parse_coordinates(raw.header, raw.rows).reshape(-1, NUM_CONFORMATIONS, 3)
    # -1e18 means unresolved in the labels; copied into a submission it is a gap, not a place.
    read[np.abs(read) > 1e6] = np.nan
    coords = np.where((source >= 0)[:, None, None], read[np.maximum(source, 0)], np.nan)
    notes: list[str] = []
    for target_id, rows in sample.groups.items():
        points = coords[rows].transpose(1, 0, 2)
        if not np.isfinite(points).all():
            points, filled = fill_conformations(points)
            coords[rows] = points.transpose(1, 0, 2)
            notes.extend(f"{target_id}: {line}" for line in filled)
    if notes:
        notes.insert(0, f"filled by this rule: {RULE}")
    return coords, notes
