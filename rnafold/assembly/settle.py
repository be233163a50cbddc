"""Bonds and clashes moved back into the range that real RNA shows: of what was built, or of a whole model."""

import numpy as np

from rnafold import rna
from rnafold.assembly.grid import near_pairs
from rnafold.structure import BoolArray, FloatArray, IntArray

# Most rounds, the rounds for which a list of neighbours serves, the farthest that a round moves a residue and how far
# inside the allowed range it aims, both in Å. Source: the best five hybrids of 99 training chains, with what was built
# settled already: settling all of them takes clashes from 0.10 to 0.00 and bad bonds from 4.0 to 0.003 a 100 residues
# (0.33 after 30 rounds) for -0.0008 +- 0.0004 in TM-score, of the best of them -0.0005 +- 0.0009. Settling what was
# built took 690 hybrids and assemblies from 1.4 and 0.35 clashes to 0.07 and 0.00 for -0.0011 +- 0.0002 and -0.0001.
ROUNDS, ROUNDS_PER_LIST, STEP, MARGIN = 100, 5, 0.5, 0.1


def settle(coords: FloatArray, free: BoolArray, breaks: BoolArray) -> FloatArray:
    """A copy of coords (L, 3) in which free residues have moved out of clashes and toward possible bonds.

    Position-based dynamics in its Jacobi form (Müller et al., J. Vis. Commun. Image Represent. 18, 109, 2007): each
    round shares what a bond or a pair is wanting among its free residues.

    Args:
        coords: (L, 3) in Å, all finite.
        free: (L,) True where a residue may move.
        breaks: (L - 1,) True where i and i + 1 are no neighbours in a chain.
    """
    low, high = rna.BOND_RANGE[0] + MARGIN, rna.BOND_SOFT_MAXIMUM - MARGIN
    least = rna.CLASH_HARD + MARGIN
    moved = coords.copy()
    mobile = free.astype(np.float64)
    bonds = np.flatnonzero(~breaks & (free[1:] | free[:-1]))
    pairs = np.zeros((2, 0), dtype=np.int64)
    for number in range(ROUNDS):
        if number % ROUNDS_PER_LIST == 0:
            pairs = near_pairs(moved, least + 2 * ROUNDS_PER_LIST * STEP)
            pairs = pairs[:, (pairs[1] - pairs[0] >= 2) & (free[pairs[0]] | free[pairs[1]])]
        shift = np.zeros_like(moved)
        wanting = _share(moved, bonds, bonds + 1, mobile, low, high, shift)
        wanting += _share(moved, pairs[0], pairs[1], mobile, least, np.inf, shift)
        if not wanting:
            break
        size = np.sqrt((shift * shift).sum(1, keepdims=True))
        moved += shift * np.minimum(1.0, STEP / np.maximum(size, 1e-9))
    return moved


def _share(
    coords: FloatArray,
    first: IntArray,
    second: IntArray,
    mobile: FloatArray,
    low: float,
    high: float,
    shift: FloatArray,
) -> int:
    """Adds to `shift` what brings pairs of residues into a range of distances; returns how many were out of it."""
    apart = coords[second] - coords[first]
    squares = apart * apart
    distance = np.sqrt(squares[:, 0] + squares[:, 1] + squares[:, 2])
    out = (distance < low) | (distance > high)
    if not out.any():  # as most often
        return 0
    first, second, apart, distance = first[out], second[out], apart[out], distance[out]
    wanting = distance - np.clip(distance, low, high)
    # two residues in one place part along an axis
    direction = np.where(distance[:, None] > 1e-6, apart / np.maximum(distance, 1e-6)[:, None], np.eye(3)[0])
    pull = (wanting / (mobile[first] + mobile[second]))[:, None] * direction
    np.add.at(shift, first, pull * mobile[first, None])
    np.add.at(shift, second, -pull * mobile[second, None])
    return len(first)
