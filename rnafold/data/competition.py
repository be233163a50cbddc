"""The competition's sequences and labels, part 1 and part 2, as targets and reference structures.

Labels are read in blocks, so that part 2's 318 MB take little memory. Unresolved residues (empty cells and -1e18) are
masked; no NaN leaves this module. Source of the format: the competitions' data pages.
"""

import datetime
import io
import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from rnafold.data.files import CompetitionFiles, find_competition_files, find_file
from rnafold.data.stoichiometry import clean_sequence, split_chains
from rnafold.data.tables import BLOCK_BYTES, Block, iter_blocks, list_names, parse_whole, read_header, read_rows
from rnafold.errors import InputError
from rnafold.files.budget import Budget
from rnafold.structure import Chain, Entry, Structure, Target, structure_from_points

__all__ = [
    "CompetitionFiles",
    "LabelledRows",
    "find_competition_files",
    "find_file",
    "read_entries",
    "read_labelled_rows",
    "read_labels",
    "read_targets",
]

logger = logging.getLogger(__name__)

MIN_RESOLVED: Final = 3
# Labels say -1e18 where a coordinate is missing; structure_from_points masks what lies below this.
_LEAST_COORDINATE: Final = -1e6
_MISSING: Final = ["", "nan", "NaN", "NAN", "NA", "N/A", "null", "None"]
# Letters that no nucleotide code has; a sequence full of them is a protein's.
_PROTEIN_ONLY: Final = frozenset("EFJLOPQZ")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledRows:
    """The label rows of one target: residue names (L letters or names), chains if the file has them, references."""

    target_id: str
    resnames: tuple[str, ...]
    chains: tuple[Chain, ...] | None
    references: tuple[Structure, ...]


def read_targets(path: str | Path) -> list[Target]:
    """Targets of a sequences CSV (train, validation or test; part 1 or 2) in file order.

    An optional cell that cannot be read costs its row at most, and a warning names it: without a stoichiometry one
    chain, without a date no template (the cutoff lies before any release).

    Raises:
        InputError: no such file, empty, cut off, a missing column, a duplicate target_id, a letter outside A-Z and -;
            the message names file, row and column.
    """
    header, rows = read_rows(path, ("target_id", "sequence"))
    return [target for target, _ in _parse_sequence_rows(path, header, rows, datetime.date.min)]


def _parse_sequence_rows(
    path: str | Path, header: Sequence[str], rows: Sequence[Sequence[str]], undated: datetime.date | None
) -> list[tuple[Target, str]]:
    """(target, group) of each row; `undated` is the cutoff of one whose date cannot be read."""
    found: dict[str, int] = {}
    odd: dict[str, list[str]] = {}
    parsed: list[tuple[Target, str]] = []
    for number, row in enumerate(rows, start=1):
        cells = dict(zip(header, row, strict=True))
        target = _parse_target(path, number, cells, undated, odd)
        if target.target_id in found:
            first = found[target.target_id]
            raise InputError(f"{path}: row {number}, column target_id: {target.target_id!r} is already in row {first}")
        found[target.target_id] = number
        parsed.append((target, cells.get("seq_group", "")))
    for column, faults in odd.items():
        more = f" ({len(faults)} such rows in all)" if len(faults) > 1 else ""
        logger.warning("%s: %s%s", path, faults[0].replace(": ", f", column {column}: ", 1), more)
    return parsed


def _parse_target(
    path: str | Path, number: int, cells: Mapping[str, str], undated: datetime.date | None, odd: dict[str, list[str]]
) -> Target:
    """The target of one row; what is wrong with its optional cells goes into `odd`, by column."""
    place = f"{path}: row {number}"
    target_id = cells["target_id"].strip()
    if not target_id:
        raise InputError(f"{place}, column target_id: empty, expected a name")
    sequence = _parse_sequence(place, cells["sequence"])
    chains, fault = split_chains(sequence, cells.get("stoichiometry", ""), cells.get("all_sequences", ""))
    if fault:
        odd.setdefault("stoichiometry", []).append(f"row {number}: {fault}")
    stated = cells.get("temporal_cutoff", "").strip()
    cutoff = _parse_date(stated)
    if stated and cutoff is None:
        cutoff = undated
        odd.setdefault("temporal_cutoff", []).append(f"row {number}: {stated!r} is not a date YYYY-MM-DD; no templates")
    return Target(
        target_id=target_id,
        sequence=sequence,
        chains=chains,
        cutoff=cutoff,
        description=" ".join(cells.get("description", "").split()),
    )


def _parse_sequence(place: str, text: str) -> str:
    letters = text.strip().upper()
    if not letters:
        raise InputError(f"{place}, column sequence: empty, expected letters ACGU")
    wrong = re.search(r"[^A-Z-]", letters)
    if wrong:
        raise InputError(
            f"{place}, column sequence: {wrong.group()!r} at position {wrong.start() + 1}, expected letters ACGU"
        )
    if 5 * sum(letter in _PROTEIN_ONLY for letter in letters) > len(letters):
        raise InputError(f"{place}, column sequence: {letters[:12]!r} looks like a protein, expected letters ACGU")
    return clean_sequence(letters)


def _parse_date(text: str) -> datetime.date | None:
    """The date of an ISO date or time, None for anything else."""
    try:
        return datetime.datetime.fromisoformat(text).date() if text.isascii() else None
    except ValueError:
        return None


def read_labels(
    path: str | Path, targets: Iterable[Target] | None = None
) -> Iterator[tuple[str, tuple[Structure, ...]]]:
    """(target_id, references) in file order, one target in memory at a time.

    References with fewer than three resolved residues are dropped, so the tuple may be empty.

    Args:
        path: labels CSV with x_1, y_1, z_1 and up to 40 or more conformations.
        targets: when given, each labelled target must be among them and have as many residues.

    Raises:
        InputError: cut-off file, missing column, text in a coordinate, duplicate or scattered IDs, a gap in resid,
            an id that is not in the sequences, another length or letter than the sequence.
    """
    for rows in read_labelled_rows(path, targets):
        yield rows.target_id, rows.references


def read_labelled_rows(
    path: str | Path, targets: Iterable[Target] | None = None, block_bytes: int = BLOCK_BYTES
) -> Iterator[LabelledRows]:
    """As `read_labels`, with residue names and the `chain` and `copy` columns of part 2 (authoritative if present)."""
    header = read_header(path, ("ID", "resname", "resid", "x_1", "y_1", "z_1"))
    columns = _coordinate_columns(path, header)
    known = None if targets is None else {target.target_id: target for target in targets}
    seen: set[str] = set()
    open_parts: list[pd.DataFrame] = []
    partial: list[str] = []
    open_id, open_row = "", 1
    for block in iter_blocks(path, len(header), block_bytes):
        frame = _parse_block(path, block, header, columns)
        for start, stop, target_id in _runs(path, frame, block.first_row):
            if target_id != open_id:
                if open_parts:
                    yield _finish(path, open_id, open_row, open_parts, columns, known, partial)
                if target_id in seen:
                    row = block.first_row + start
                    raise InputError(
                        f"{path}: row {row}, column ID: rows of {target_id!r} stand in two places (duplicate IDs?)"
                    )
                seen.add(target_id)
                open_parts, open_id, open_row = [], target_id, block.first_row + start
            open_parts.append(frame.iloc[start:stop])
    if not open_parts:
        raise InputError(f"{path}: a header but no rows")
    yield _finish(path, open_id, open_row, open_parts, columns, known, partial)
    if partial:
        told = list_names(partial)
        logger.warning("%s: residues with a part of their coordinates are read as unresolved: %s", path, told)


def _coordinate_columns(path: str | Path, header: Sequence[str]) -> list[str]:
    """x_1, y_1, z_1, x_2, ... of as many conformations as the header has."""
    numbers = sorted({int(name[2:]) for name in header if re.fullmatch(r"[xyz]_[0-9]{1,4}", name)})
    names = [f"{axis}_{number}" for number in numbers for axis in "xyz"]
    missing = [name for name in names if name not in header]
    if missing:
        raise InputError(f"{path}: column {list_names(missing)} missing; found {list_names(header)}")
    return names


def _parse_block(path: str | Path, block: Block, header: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    text_columns = [name for name in ("ID", "resname", "chain") if name in header]
    numbers = [*columns, "resid", *(["copy"] if "copy" in header else [])]
    options = {"names": list(header), "header": None, "keep_default_na": False, "usecols": [*text_columns, *numbers]}
    try:
        parsed: pd.DataFrame = pd.read_csv(
            io.BytesIO(block.text),
            dtype={**dict.fromkeys(text_columns, "object"), **dict.fromkeys(numbers, "float64")},
            na_values=dict.fromkeys(numbers, _MISSING),
            **options,  # type: ignore[call-overload]
        )
        return parsed
    except ValueError as error:
        _require_text(path, block)
        frame = pd.read_csv(io.BytesIO(block.text), dtype="object", **options)  # type: ignore[call-overload]
        for name in numbers:
            cells = frame[name].str.strip()
            wrong = np.flatnonzero((pd.to_numeric(cells, errors="coerce").isna() & ~cells.isin(_MISSING)).to_numpy())
            if wrong.size:
                row, found = block.first_row + int(wrong[0]), frame[name].iloc[int(wrong[0])]
                raise InputError(f"{path}: row {row}, column {name}: {found!r}, expected a number") from error
        raise InputError(f"{path}: rows from {block.first_row}: {error}") from error


def _require_text(path: str | Path, block: Block) -> None:
    try:
        block.text.decode("utf-8")
    except UnicodeDecodeError as error:
        row = block.first_row + block.text.count(b"\n", 0, error.start)
        raise InputError(f"{path}: row {row}: not UTF-8 text; expected a CSV file") from error


def _runs(path: str | Path, frame: pd.DataFrame, first_row: int) -> Iterator[tuple[int, int, str]]:
    """(start, stop, target_id) of each run of rows with the same target; ID must end in _resid."""
    start, current = 0, ""
    resids = frame["resid"].to_numpy()
    for index, identifier in enumerate(frame["ID"]):
        target_id, bar, resid = str(identifier).rpartition("_")
        if not bar or not resid.isdigit() or parse_whole(resid) != resids[index]:
            raise InputError(
                f"{path}: row {first_row + index}, column ID: {identifier!r} with resid {resids[index]:g}, "
                "expected target_id + '_' + resid"
            )
        if target_id != current and index > 0:
            yield start, index, current
            start = index
        current = target_id
    if len(frame):
        yield start, len(frame), current


def _finish(
    path: str | Path,
    target_id: str,
    first_row: int,
    parts: Sequence[pd.DataFrame],
    columns: Sequence[str],
    known: Mapping[str, Target] | None,
    partial: list[str],
) -> LabelledRows:
    """One target's rows, checked; residues of which not all coordinates are there are told in `partial`."""
    frame = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    resids = frame["resid"].to_numpy(dtype=np.float64)
    gap = np.flatnonzero(resids != np.arange(1, len(resids) + 1))
    if gap.size:
        index = int(gap[0])
        word = "duplicate ID, " if index and resids[index] in resids[:index] else ""
        raise InputError(
            f"{path}: row {first_row + index}, column resid: {word}found {resids[index]:g} of {target_id!r}, "
            f"expected {index + 1}"
        )
    resnames = tuple(str(name).strip() for name in frame["resname"])
    if known is not None:
        _check_against(path, target_id, first_row, resnames, known)
    points = frame[list(columns)].to_numpy(dtype=np.float64).reshape(len(frame), -1, 3)
    with np.errstate(invalid="ignore"):
        real = np.isfinite(points) & (points > _LEAST_COORDINATE)
    broken = np.flatnonzero((real.any(2) & ~real.all(2)).any(1))
    if broken.size:
        more = f" and {broken.size - 1} more" if broken.size > 1 else ""
        partial.append(f"{target_id} (row {first_row + broken[0]}{more})")
    references = [structure_from_points(points[:, index]) for index in range(points.shape[1])]
    return LabelledRows(
        target_id=target_id,
        resnames=resnames,
        chains=_read_chains(path, first_row, frame) if {"chain", "copy"} <= set(frame.columns) else None,
        references=tuple(structure for structure in references if structure.mask.sum() >= MIN_RESOLVED),
    )


def _check_against(
    path: str | Path, target_id: str, first_row: int, resnames: Sequence[str], known: Mapping[str, Target]
) -> None:
    target = known.get(target_id)
    if target is None:
        raise InputError(f"{path}: row {first_row}, column ID: target {target_id!r} is not among the sequences")
    if len(resnames) != target.length:
        raise InputError(
            f"{path}: rows {first_row} to {first_row + len(resnames) - 1}: {target_id!r} has {len(resnames)} rows, "
            f"expected {target.length} as in its sequence"
        )
    for index, (name, letter) in enumerate(zip(resnames, target.sequence, strict=True)):
        found = name.upper().replace("T", "U")
        if found != letter and found in "ACGU" and letter != "N":
            raise InputError(
                f"{path}: row {first_row + index}, column resname: {name!r}, expected {letter!r} as in the sequence"
            )


def _read_chains(path: str | Path, first_row: int, frame: pd.DataFrame) -> tuple[Chain, ...]:
    """Chains from the `chain` and `copy` columns: a new one wherever either changes."""
    names = [str(name) for name in frame["chain"]]
    copies: npt.NDArray[np.float64] = frame["copy"].to_numpy(dtype=np.float64)
    if not (np.isfinite(copies) & (copies >= 1) & (copies == np.floor(copies))).all():
        index = int(np.flatnonzero(~((copies >= 1) & (copies == np.floor(copies))))[0])
        raise InputError(f"{path}: row {first_row + index}, column copy: {copies[index]:g}, expected 1, 2, ...")
    changes = [i for i in range(1, len(names)) if names[i] != names[i - 1] or copies[i] != copies[i - 1]]
    bounds = [0, *changes, len(names)]
    return tuple(
        Chain(chain_id=names[start], copy=int(copies[start]), start=start, stop=stop)
        for start, stop in itertools.pairwise(bounds)
    )


def read_entries(sequences_path: str | Path, labels_path: str | Path, *, budget: Budget | None = None) -> list[Entry]:
    """Targets joined with their references, in the order of the labels; `group` is the column seq_group if present.

    Sequences without labels and targets without a resolved reference are left out, with a log line that counts them.
    Labels that are not read before the `budget` is spent are left out as well.

    Raises:
        InputError: as `read_targets` and `read_labels`, or nothing left.
    """
    header, rows = read_rows(sequences_path, ("target_id", "sequence"))
    parsed = {
        target.target_id: (target, group) for target, group in _parse_sequence_rows(sequences_path, header, rows, None)
    }
    entries: list[Entry] = []
    for labelled in read_labelled_rows(labels_path, [target for target, _ in parsed.values()]):
        target, group = parsed[labelled.target_id]
        if labelled.chains is not None:
            target = replace(target, chains=labelled.chains)
        if labelled.references:
            entries.append(Entry(target=target, references=labelled.references, group=group))
        if budget is not None and budget.spent:
            return entries
    if not entries:
        raise InputError(f"{labels_path}: no target has a reference with {MIN_RESOLVED} or more resolved residues")
    if len(entries) < len(parsed):
        logger.info("%s: %d of %d targets have a resolved structure", labels_path, len(entries), len(parsed))
    return entries
