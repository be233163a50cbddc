"""Further measures of a prediction: lDDT, RMSD, and counts of what a real RNA does not do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from rnafold import rna
from rnafold.geometry import build_helix, measure_angles_degrees, measure_bonds, measure_rmsd
from rnafold.structure import BoolArray, Chain, FloatArray, Structure, crossing_chains, structure_from_points

IntArray = npt.NDArray[np.int64]

LDDT_RADIUS: Final = 15.0
LDDT_THRESHOLDS: Final = (0.5, 1.0, 2.0, 4.0)
# Two pairs are too near their own mirror image to call; of 123 measured stems of three pairs or more none is miscalled.
_SMALLEST_STEM: Final = 3
_SMALLEST_SET: Final = 3
_BLOCK_ELEMENTS: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Violations:
    """What a prediction does that real RNA does not, as counts out of the bonds, angles and stems looked at.

    A bond is C1'(i)-C1'(i+1) within one chain, outside 4.7-9.5 Å; an angle three in a row, outside 70-170 degrees;
    clashes are pairs with |i-j| >= 2 nearer than 3.5 Å (`clashes_hard`) and 4.0 Å (`clashes_soft`, these included).
    """

    num_bonds: int
    bonds: int
    num_angles: int
    angles: int
    clashes_hard: int
    clashes_soft: int
    num_stems: int = 0
    wrong_handed: int = 0


def measure_lddt(points: FloatArray, reference: Structure) -> float:
    """lDDT of C1' atoms in [0, 1]: share of reference distances under 15 Å kept within 0.5, 1, 2 and 4 Å, averaged.

    A distance to a residue the prediction (L, 3) lacks counts as lost. NaN where the reference has no such distance.

    Source: Mariani et al., Bioinformatics 29, 2722 (2013).
    """
    resolved = reference.residue_mask
    native, model = reference.coords[resolved, 0], points[resolved]
    valid = structure_from_points(model).residue_mask
    model = np.where(valid[:, None], model, 0.0)
    kept, total = np.zeros(len(LDDT_THRESHOLDS)), 0
    for first, stop in _iterate_rows(len(native)):
        true = _distances(native[first:stop], native)
        row, column = np.nonzero(true < LDDT_RADIUS)
        row, column = row[row + first != column], column[row + first != column]
        total += len(row)
        known = valid[row + first] & valid[column]
        row, column = row[known], column[known]
        found = np.sqrt(((model[row + first] - model[column]) ** 2).sum(-1))
        error = np.abs(found - true[row, column])
        kept += [np.count_nonzero(error < threshold) for threshold in LDDT_THRESHOLDS]
    return float(kept.mean() / total) if total else float("nan")


def measure_superposed_rmsd(points: FloatArray, reference: Structure) -> float:
    """RMSD in Å over the residues that prediction (L, 3) and reference share, superposed; NaN for fewer than three."""
    common = structure_from_points(points).residue_mask & reference.residue_mask
    if common.sum() < _SMALLEST_SET:
        return float("nan")
    return measure_rmsd(points[common], reference.coords[common, 0])


def count_violations(points: FloatArray, chains: Sequence[Chain] = (), partner: IntArray | None = None) -> Violations:
    """Bonds, angles and clashes of a prediction (L, 3) in Å that lie outside what real RNA shows, missing ones skipped.

    Args:
        points: (L, 3) coordinates.
        chains: no bond or angle is looked at across their ends.
        partner: (L,) pair partners, -1 for none; when given, stems of three pairs or more are tested for handedness.
    """
    valid = structure_from_points(points).residue_mask
    known = np.where(valid[:, None], points, 0.0)
    bonded = valid[1:] & valid[:-1] & ~crossing_chains(chains, len(points))
    bonds = measure_bonds(known)[bonded]
    angles = np.zeros(0)
    if len(points) >= 3:
        angles = measure_angles_degrees(known)[bonded[1:] & bonded[:-1]]
    low, high = rna.ANGLE_RANGE_DEGREES
    hard, soft = _count_clashes(known, valid)
    num_stems, wrong = (0, 0) if partner is None else _count_wrong_handed(known, valid, partner)
    return Violations(
        num_bonds=len(bonds),
        bonds=int(((bonds < rna.BOND_RANGE[0]) | (bonds > rna.BOND_SOFT_MAXIMUM)).sum()),
        num_angles=len(angles),
        angles=int(((angles < low) | (angles > high)).sum()),
        clashes_hard=hard,
        clashes_soft=soft,
        num_stems=num_stems,
        wrong_handed=wrong,
    )


def is_wrong_handed(strand: FloatArray, partners: FloatArray) -> bool:
    """True where a stem, strand (n, 3) and each residue's partner (n, 3), fits a mirrored A-form helix better."""
    helix = np.concatenate(build_helix(len(strand)))
    stem = np.concatenate([strand, partners])
    return measure_rmsd(stem, helix * np.array([1.0, 1.0, -1.0])) < measure_rmsd(stem, helix) - 1e-9


def _count_wrong_handed(points: FloatArray, valid: BoolArray, partner: IntArray) -> tuple[int, int]:
    """Stems long enough and wholly known, and how many of them turn the wrong way."""
    num_stems = wrong = 0
    for i, j, n in rna.find_stems(partner):
        strand, partners = np.arange(i, i + n), np.arange(j, j - n, -1)
        if n >= _SMALLEST_STEM and valid[strand].all() and valid[partners].all():
            num_stems += 1
            wrong += is_wrong_handed(points[strand], points[partners])
    return num_stems, wrong


def _count_clashes(points: FloatArray, valid: BoolArray) -> tuple[int, int]:
    """Pairs with |i-j| >= 2 under the hard and under the soft limit, each pair once."""
    index = np.flatnonzero(valid)
    known = points[index]
    hard = soft = 0
    for first, stop in _iterate_rows(len(known)):
        distance = _distances(known[first:stop], known[first:])
        row, column = np.nonzero(distance < rna.CLASH_SOFT)
        apart = index[column + first] - index[row + first] >= 2
        near = distance[row[apart], column[apart]]
        soft += len(near)
        hard += int((near < rna.CLASH_HARD).sum())
    return hard, soft


def _distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """(N, M) distances in Å, one axis at a time so that no (N, M, 3) array arises."""
    squared = np.zeros((len(first), len(second)))
    for axis in range(3):
        squared += (first[:, axis, None] - second[None, :, axis]) ** 2
    return np.sqrt(squared)


def _iterate_rows(count: int) -> Iterator[tuple[int, int]]:
    """Row ranges that keep rows x count within a block of memory."""
    step = max(_BLOCK_ELEMENTS // max(count, 1), 1)
    for first in range(0, count, step):
        yield first, min(first + step, count)
