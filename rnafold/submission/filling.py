"""Coordinates for residues that have none, by one stated rule, so that no cell of a submission stays empty."""

from typing import Final

import numpy as np

from rnafold import geometry
from rnafold.structure import FloatArray

TAIL_STEP: Final = 5.5
RULE: Final = (
    "gaps interpolated along the chain, ends continued straight in steps of 5.5 Å, an empty conformation copied from "
    "the first that has coordinates, an empty target built as an ideal A-form helix"
)


def fill_points(points: FloatArray) -> FloatArray:
    """(L, 3) points in Å with rows that are not finite filled; at least one row must be finite.

    Gaps are interpolated linearly between their neighbours; ends go on in the direction of the last two resolved
    residues (along x where there is only one) in steps of 5.5 Å.
    """
    real = np.flatnonzero(np.isfinite(points).all(-1))
    index = np.arange(len(points))
    filled = np.stack([np.interp(index, real, points[real, axis]) for axis in range(3)], axis=1)
    for end, inner, step in ((real[0], real[min(1, len(real) - 1)], -1), (real[-1], real[max(-2, -len(real))], 1)):
        direction = points[end] - points[inner]
        length = float(np.linalg.norm(direction))
        unit = direction / length if length > 1e-6 else np.array([float(step), 0.0, 0.0])
        beyond = index[:end] if step < 0 else index[end + 1 :]
        filled[beyond] = points[end] + unit * (TAIL_STEP * np.abs(beyond - end))[:, None]
    return filled


def fill_conformations(points: FloatArray) -> tuple[FloatArray, list[str]]:
    """(P, L, 3) coordinates in Å without gaps, and what was filled, one line a kind; finite ones are not touched."""
    filled = points.copy()
    missing = np.asarray(~np.isfinite(points).all(axis=-1))
    empty = np.asarray(missing.all(axis=-1))
    if empty.all():
        filled[:] = geometry.build_helix(points.shape[1])[0]
        return filled, ["no coordinates at all: ideal A-form helix"]
    notes: list[str] = []
    partial = np.flatnonzero(np.asarray(missing.any(axis=-1)) & ~empty)
    for conformation in partial:
        filled[conformation] = fill_points(points[conformation])
    if partial.size:
        count = int(np.asarray(missing)[partial].sum())
        notes.append(f"{count} residues without coordinates interpolated or continued at {TAIL_STEP} Å")
    if bool(empty.any()):
        source = int(np.flatnonzero(~empty)[0])
        filled[empty] = filled[source]
        names = ", ".join(str(index + 1) for index in np.flatnonzero(empty))
        notes.append(f"conformation {names} copied from conformation {source + 1}")
    return filled, notes
