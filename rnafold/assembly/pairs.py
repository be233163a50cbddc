"""Base pairs of a known structure from its C1' atoms alone."""

import numpy as np

from rnafold import rna
from rnafold.assembly.grid import near_pairs
from rnafold.structure import FloatArray, IntArray

# A canonical pair's C1'-C1' distance, the wider range of a stacked neighbour that supports it, the ideal, and the most
# a pair's three deviations may add up to. Source: docs/studies/templates.md (48 % of train residues come out paired).
PAIR_RANGE = (9.0, 12.2)
SUPPORT_RANGE = (8.7, 12.6)
IDEAL_DISTANCE = 10.5
MINIMUM_SEPARATION = 4
WORST_SUM = 6.0


def _near_pairs(coords: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """All (i, j, distance) with j - i >= 4 and a distance in SUPPORT_RANGE, in order of i and j."""
    known = np.flatnonzero(np.isfinite(coords).all(1))
    if not len(known):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    i, j = known[near_pairs(coords[known], SUPPORT_RANGE[1])]
    far = j - i >= MINIMUM_SEPARATION
    i, j = i[far], j[far]
    order = np.lexsort((j, i))
    i, j = i[order], j[order]
    distance = np.linalg.norm(coords[i] - coords[j], axis=1)
    inside = (distance > SUPPORT_RANGE[0]) & (distance < SUPPORT_RANGE[1])
    return i[inside], j[inside], distance[inside]


def pairs_from_coords(tokens: IntArray, coords: FloatArray) -> IntArray:
    """Partner (L,) of each residue, -1 = none, from tokens (L,) and C1' coords (L, 3), NaN where unresolved.

    A pair is canonical, 9.0-12.2 Å apart and stacked on another such pair; the best fitting are taken first, and pairs
    left alone in the end are dropped. Pseudoknots are kept.
    """
    length = len(tokens)
    partner = np.full(length, -1, dtype=np.int64)
    i, j, distance = _near_pairs(np.asarray(coords, dtype=np.float64))
    if not len(i):
        return partner
    canonical = rna.canonical_pair_matrix()[tokens[i], tokens[j]]
    good = canonical & (distance > PAIR_RANGE[0]) & (distance < PAIR_RANGE[1])
    deviation = np.abs(distance - IDEAL_DISTANCE)
    key = i * length + j
    order = np.argsort(key)
    sorted_key = key[order]

    def neighbour(shift: int) -> tuple[FloatArray, IntArray]:
        """Deviation of the pair (i + shift, j - shift), 3 where there is none, and whether it is a good pair."""
        wanted = key + shift * (length - 1)
        at = np.minimum(np.searchsorted(sorted_key, wanted), len(key) - 1)
        found = (sorted_key[at] == wanted) & (i + shift < j - shift)
        row = order[at]
        return np.where(found, np.minimum(deviation[row], 3.0), 3.0), (found & good[row]).astype(np.int64)

    (dev_in, good_in), (dev_out, good_out) = neighbour(1), neighbour(-1)
    total = deviation + 0.5 * dev_in + 0.5 * dev_out
    rows = np.flatnonzero(good & ((good_in + good_out) > 0) & (total < WORST_SUM))
    for row in rows[np.argsort(total[rows], kind="stable")]:
        a, b = i[row], j[row]
        if partner[a] < 0 and partner[b] < 0:
            partner[a], partner[b] = b, a
    for start, stop, size in rna.find_stems(partner):
        if size == 1:
            partner[start] = partner[stop] = -1
    return partner
