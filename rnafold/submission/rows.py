"""submission.csv: written in the exact order of the sample, read back, checked cell by cell, and repaired.

Format: ID,resname,resid,x_1,y_1,z_1,...,x_5,y_5,z_5 with exactly the IDs and the order of sample_submission.csv; an
empty or NaN cell, a wrong row count, order or column fails the whole file on Kaggle.
"""

import contextlib
import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from rnafold.data.tables import iter_csv, list_names, parse_number, parse_whole, read_rows, read_text
from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.structure import FloatArray
from rnafold.submission.filling import fill_conformations

logger = logging.getLogger(__name__)

NUM_CONFORMATIONS: Final = 5
COORDINATES: Final = tuple(f"{axis}_{number}" for number in range(1, NUM_CONFORMATIONS + 1) for axis in "xyz")
COLUMNS: Final = ("ID", "resname", "resid", *COORDINATES)
COORDINATE_MINIMUM: Final = -999.999
COORDINATE_MAXIMUM: Final = 9999.999
_INFINITE: Final = {f"{sign}{word}": float(f"{sign}inf") for sign in ("", "+", "-") for word in ("inf", "infinity")}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """The sample's rows in file order: N ids, residue names and residue numbers.

    `groups` maps each target_id, in order of first appearance, to its row indices (L,) in order of residue number.
    """

    ids: tuple[str, ...]
    resnames: tuple[str, ...]
    resids: tuple[int, ...]
    groups: Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Submission:
    """A submission's rows in file order with coordinates (N, 5, 3) in Å; `groups` as in Sample."""

    ids: tuple[str, ...]
    resnames: tuple[str, ...]
    resids: tuple[int, ...]
    coords: FloatArray
    groups: Mapping[str, npt.NDArray[np.int64]]

    def predictions(self, target_id: str) -> FloatArray:
        """(5, L, 3) coordinates of one target in order of residue number."""
        return np.ascontiguousarray(self.coords[self.groups[target_id]].transpose(1, 0, 2))


def group_rows(ids: Sequence[str], resids: Sequence[int]) -> dict[str, npt.NDArray[np.int64]]:
    """Row indices of each target in order of residue number; ids are split at the last underscore."""
    rows: dict[str, list[int]] = {}
    for index, identifier in enumerate(ids):
        rows.setdefault(identifier.rpartition("_")[0], []).append(index)
    numbers = np.asarray(resids, dtype=np.int64)
    groups = {}
    for target_id, members in rows.items():
        index_array = np.asarray(members, dtype=np.int64)
        groups[target_id] = index_array[np.argsort(numbers[index_array], kind="stable")]
    return groups


def _parse_keys(
    path: str | Path, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    """IDs, residue names and numbers of rows; refuses duplicate IDs and numbers that are none."""
    at_id, at_name, at_resid = (header.index(name) for name in ("ID", "resname", "resid"))
    seen: dict[str, int] = {}
    resids = []
    for number, row in enumerate(rows, start=1):
        identifier = row[at_id]
        if "_" not in identifier:
            raise InputError(f"{path}: row {number}, column ID: {identifier!r}, expected target_id + '_' + resid")
        if identifier in seen:
            raise InputError(f"{path}: row {number}, column ID: {identifier!r} is already in row {seen[identifier]}")
        seen[identifier] = number
        resid = parse_whole(row[at_resid])
        if resid is None:
            raise InputError(f"{path}: row {number}, column resid: {row[at_resid]!r}, expected a whole number")
        resids.append(resid)
    return tuple(seen), tuple(row[at_name] for row in rows), tuple(resids)


def read_sample(path: str | Path) -> Sample:
    """IDs, residue names and numbers of a sample_submission.csv; its coordinates are not looked at.

    Raises:
        InputError: no such file, empty, no rows, cut off, one of the 18 columns missing, a duplicate ID.
    """
    header, rows = read_rows(path, COLUMNS)
    ids, resnames, resids = _parse_keys(path, header, rows)
    return Sample(ids=ids, resnames=resnames, resids=resids, groups=group_rows(ids, resids))


def read_submission(path: str | Path) -> Submission:
    """A complete submission, for scoring.

    Raises:
        InputError: as `read_sample`, or a cell that is not a finite number.
    """
    header, rows = read_rows(path, COLUMNS)
    ids, resnames, resids = _parse_keys(path, header, rows)
    coords = parse_coordinates(header, rows)
    wrong = np.argwhere(~np.isfinite(coords))
    if len(wrong):
        row, column = int(wrong[0, 0]), int(wrong[0, 1])
        found = rows[row][header.index(COORDINATES[column])]
        raise InputError(
            f"{path}: row {row + 1}, column {COORDINATES[column]}: {found!r}, expected a number "
            f"({len(wrong)} such cells in all)"
        )
    shaped = coords.reshape(len(rows), NUM_CONFORMATIONS, 3)
    return Submission(ids=ids, resnames=resnames, resids=resids, coords=shaped, groups=group_rows(ids, resids))


def parse_coordinates(header: Sequence[str], rows: Sequence[Sequence[str]]) -> FloatArray:
    """(N, 15) coordinates; NaN where a column is absent, a row too short or a cell not a number."""
    places = [header.index(name) if name in header else -1 for name in COORDINATES]
    coords = np.full((len(rows), len(places)), np.nan)
    for column, place in enumerate(places):
        if place >= 0:
            coords[:, column] = parse_column([row[place] if place < len(row) else "" for row in rows])
    return coords


def parse_column(cells: Sequence[str]) -> FloatArray:
    """Numbers (N,) of text cells, NaN for a cell that is none, infinity kept as such."""
    together = "".join(cells)
    if together.isascii() and "_" not in together:  # float() reads 1_0 and the digits of all scripts
        with contextlib.suppress(ValueError):
            return np.array(cells, dtype=np.float64)
    return np.array([_INFINITE.get(cell.strip().lower()) or parse_number(cell) for cell in cells], dtype=np.float64)


def write_submission(path: str | Path, sample: Sample, predictions: Mapping[str, FloatArray]) -> None:
    """Writes the submission in the sample's exact order, to a temporary name first.

    Coordinates are clipped to [-999.999, 9999.999] and written with 3 decimals. Residues that are not finite are
    filled by the rule of `fill_conformations` with a log line: an empty cell would fail the whole file.

    Args:
        path: file to write.
        sample: rows to write.
        predictions: (5, L, 3) coordinates in Å of each target, residues in order of residue number.

    Raises:
        InputError: a target of the sample has no prediction, or one of another shape.
    """
    missing = [target_id for target_id in sample.groups if target_id not in predictions]
    if missing:
        raise InputError(f"{path}: no prediction for {len(missing)} targets of the sample: {list_names(missing, 3)}")
    coords = np.zeros((len(sample.ids), NUM_CONFORMATIONS, 3))
    for target_id, rows in sample.groups.items():
        points = np.asarray(predictions[target_id], dtype=np.float64)
        expected = (NUM_CONFORMATIONS, len(rows), 3)
        if points.shape != expected:
            raise InputError(f"{path}: prediction of {target_id} has shape {points.shape}, expected {expected}")
        if not np.isfinite(points).all():
            points, notes = fill_conformations(points)
            logger.warning("%s: %s", target_id, "; ".join(notes))
        coords[rows] = points.transpose(1, 0, 2)
    write_rows(path, sample, coords)


def write_rows(path: str | Path, sample: Sample, coords: FloatArray) -> None:
    """Rows of the sample with coordinates (N, 5, 3), clipped, through a temporary file in the same folder."""
    clipped = np.clip(coords, COORDINATE_MINIMUM, COORDINATE_MAXIMUM).reshape(len(sample.ids), -1) + 0.0
    template = ",".join(["%.3f"] * len(COORDINATES))
    text = io.StringIO()
    keys = csv.writer(text, lineterminator="")
    text.write(",".join(COLUMNS) + "\n")
    for identifier, resname, resid, row in zip(
        sample.ids, sample.resnames, sample.resids, clipped.tolist(), strict=True
    ):
        keys.writerow((identifier, resname, resid))
        text.write("," + template % tuple(row) + "\n")
    write_text(path, text.getvalue())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawRows:
    """A submission as it stands: possibly ragged rows below a possibly wrong header; `broken` names a cut quote."""

    header: list[str]
    rows: list[list[str]]
    broken: str = ""

    def column(self, name: str) -> list[str]:
        """Cells of one column, "" where a row is too short."""
        place = self.header.index(name)
        return [row[place] if place < len(row) else "" for row in self.rows]


def read_raw(path: str | Path) -> RawRows:
    """Header and rows, unchecked.

    Raises:
        InputError: no such file, empty, or not text.
    """
    reader = iter_csv(read_text(path).lstrip("\n"))
    header: list[str] = []
    rows: list[list[str]] = []
    try:
        header = [name.strip() for name in next(reader)]
        rows.extend(row for row in reader if any(cell.strip() for cell in row))
    except csv.Error as error:
        return RawRows(header=header, rows=rows, broken=str(error))
    return RawRows(header=header, rows=rows)
