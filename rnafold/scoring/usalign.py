"""Part 1's metric, the sequence-independent TM-score, through a US-align binary where the user has one."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from rnafold.errors import InputError
from rnafold.rna import ATOM_NAME
from rnafold.structure import BoolArray, FloatArray, Score, Structure, structure_from_points

_VARIABLE: Final = "USALIGN"
_NAMES: Final = ("USalign", "usalign", "US-align")
_HELP: Final = (
    "give --usalign PATH or set $USALIGN (source: https://zhanggroup.org/US-align); --metric part2 needs none"
)
# What a PDB file's columns hold: coordinates %8.3f, serial %5d, residue number %4d.
_LOWEST, _HIGHEST = -999.999, 9999.999
_NUM_SERIALS, _NUM_RESIDUES = 100_000, 10_000
_SMALLEST: Final = 3
_TM_LINE = re.compile(r"^TM-score=\s*([0-9.]+)", re.MULTILINE)


def find_usalign(path: str | Path | None = None) -> Path:
    """The US-align binary: `path` where given (a file, or a name on the PATH), else $USALIGN, else the one on the PATH.

    Raises:
        InputError: none found, or the one named is not an executable file.
    """
    named, origin = (str(path), "--usalign") if path else (os.environ.get(_VARIABLE, ""), f"${_VARIABLE}")
    if named:
        # a file of that name comes first: Path drops the ./ by which the user named it
        found = shutil.which(Path(named).absolute()) if Path(named).is_file() else shutil.which(named)
        if found is None:
            raise InputError(f"{origin}: {named} is not an executable file, expected the US-align binary")
        return Path(found).absolute()
    for name in _NAMES:
        found = shutil.which(name)
        if found is not None:
            return Path(found).absolute()
    raise InputError(f"part 1's metric needs the US-align program, found none: {_HELP}")


def score_with_usalign(
    binary: Path,
    target_id: str,
    sequence: str,
    predictions: FloatArray,
    references: Sequence[Structure],
    timeout_seconds: float = 3600.0,
) -> Score:
    """Part 1's score of a target: US-align on C1' atoms, no residue matching, best over the references.

    Args:
        binary: the US-align program, see `find_usalign`.
        target_id: the target's name.
        sequence: L letters; other letters than ACGU are written as N.
        predictions: (P, L, 3) coordinates in Å; missing residues are left out, two or fewer valid ones score 0.
        references: structures of L residues.
        timeout_seconds: longest wait for one call.

    Raises:
        InputError: no reference, shapes that do not fit, or a call that fails, takes too long or prints no score.
    """
    predictions = np.asarray(predictions, dtype=np.float64)
    length = len(sequence)
    shapes = {predictions.shape[1:], *((len(reference.coords), 3) for reference in references)}
    if not references or shapes != {(length, 3)}:
        raise InputError(f"target {target_id}: found shapes {sorted(shapes)}, expected ({length}, 3) and a reference")
    tm = np.zeros((len(predictions), len(references)))
    with tempfile.TemporaryDirectory(prefix="rnafold-usalign-") as name:
        folder = Path(name)
        natives = [
            _write_points(folder / f"reference_{number}.pdb", sequence, reference.coords[:, 0], reference.residue_mask)
            for number, reference in enumerate(references, start=1)
        ]
        for p, points in enumerate(predictions):
            valid = structure_from_points(points).residue_mask
            if valid.sum() < _SMALLEST:
                continue
            model = _write_points(folder / f"prediction_{p + 1}.pdb", sequence, points, valid)
            for r, native in enumerate(natives):
                tm[p, r] = _call(binary, target_id, model, native, timeout_seconds)
    return Score(
        target_id=target_id,
        length=length,
        tm=tuple(float(value) for value in tm.max(axis=1)),
        reference=int(np.argmax(tm.max(axis=0, initial=0.0))) + 1,
    )


def format_pdb(sequence: str, points: FloatArray, mask: BoolArray) -> str:
    """PDB text of the C1' atoms (L, 3) that `mask` keeps, as chain A, moved to fit the columns and clipped to them.

    Residue numbers start again after 9999: the alignment that reads this goes by order, not by number.
    """
    kept = np.flatnonzero(mask)
    lines = []
    if len(kept):
        centred = np.clip(points[kept] - np.round(np.median(points[kept], axis=0), 3), _LOWEST, _HIGHEST)
        for index, (x, y, z) in zip(kept, centred):
            letter = sequence[index] if sequence[index] in "ACGU" else "N"
            serial, number = (index + 1) % _NUM_SERIALS, (index + 1) % _NUM_RESIDUES
            lines.append(
                f"ATOM  {serial:5d}  {ATOM_NAME:<3s} {letter:>3s} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                "  1.00  0.00           C\n"
            )
    return "".join(lines) + "TER\nEND\n"


def parse_tm_score(output: str) -> float:
    """The TM-score normalised by the second structure (the native) in US-align's text.

    Raises:
        ValueError: the text does not hold the two TM-score lines.
    """
    found = _TM_LINE.findall(output)
    if len(found) < 2:
        raise ValueError(f"found {len(found)} lines 'TM-score=', expected 2")
    return float(found[1])


def _write_points(path: Path, sequence: str, points: FloatArray, mask: BoolArray) -> Path:
    path.write_text(format_pdb(sequence, points, mask), encoding="ascii")
    return path


def _call(binary: Path, target_id: str, model: Path, native: Path, timeout_seconds: float) -> float:
    command = [str(binary), str(model), str(native), "-atom", f" {ATOM_NAME}"]
    where = f"target {target_id}: {binary} on {model.stem} and {native.stem}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{where}: no answer within {timeout_seconds:g} seconds") from error
    except OSError as error:
        raise InputError(f"{where}: cannot be run ({error.strerror})") from error
    message = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no output"]
    if done.returncode != 0:
        raise InputError(f"{where}: exit code {done.returncode}: {message[0]}")
    try:
        return parse_tm_score(done.stdout)
    except ValueError as error:
        raise InputError(f"{where}: {error}: {message[0]}") from error
