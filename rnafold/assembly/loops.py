"""Stems and loops of a secondary structure: what the assembler walks through."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnafold import rna
from rnafold.structure import BoolArray, IntArray

Pair = tuple[int, int]

MINIMUM_HAIRPIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A loop: the pair that closes it (None = exterior) and the outermost pairs of the stems that branch off.

    `sizes` are the unpaired residues of each segment: closing..branch 1, branch 1..2, .., last branch..closing.
    `nicked` tells for each segment whether a chain ends inside it (no bond to bridge). `depths` are the lengths in
    pairs of the closing stem (0 for the exterior loop) and of each branch's stem.
    """

    closing: Pair | None
    branches: tuple[Pair, ...]
    sizes: tuple[int, ...]
    nicked: tuple[bool, ...]
    depths: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """True for a closed loop without a chain end in it: the kind that fragments exist of."""
        return self.closing is not None and not any(self.nicked)


def find_pairs(partner: Sequence[int] | IntArray) -> list[Pair]:
    """Pairs (i, j) with i < j of a partner array, in order of i."""
    return [(i, int(j)) for i, j in enumerate(partner) if j > i]


def split_knots(partner: IntArray) -> tuple[IntArray, list[tuple[int, int, int]]]:
    """A partner array without crossing pairs, and the stems (i, j, n) that were taken out.

    Longer stems stay: they are taken greedily, each whole, as long as they nest with those already taken.
    """
    nested = np.full(len(partner), -1, dtype=np.int64)
    knots = []
    kept: list[tuple[int, int, int]] = []
    for i, j, n in sorted(rna.find_stems(partner), key=lambda stem: -stem[2]):
        # Stems are contiguous, so their outermost pairs tell whether two of them cross.
        if any((a < i < b) != (a < j < b) for a, b, _ in kept):
            knots.append((i, j, n))
            continue
        kept.append((i, j, n))
        for k in range(n):
            nested[i + k], nested[j - k] = j - k, i + k
    return nested, knots


def clean_pairing(partner: IntArray, breaks: BoolArray, minimum: int = 2) -> IntArray:
    """Nested partner array with stems of at least `minimum` pairs and hairpin loops of at least 3 residues.

    Args:
        partner: (L,) partner of each residue, -1 = none.
        breaks: (L-1,) True where residue i and i+1 are in different chains.
        minimum: shortest stem kept.
    """
    nested, _ = split_knots(partner)
    for i, j in find_pairs(nested):
        if j - i <= MINIMUM_HAIRPIN and not breaks[i:j].any():
            nested[i] = nested[j] = -1
    for i, j, n in rna.find_stems(nested):
        if n < minimum:
            for k in range(n):
                nested[i + k] = nested[j - k] = -1
    return nested


def _branches(partner: IntArray, start: int, stop: int) -> list[Pair]:
    found = []
    k = start
    while k < stop:
        if partner[k] > k:
            found.append((k, int(partner[k])))
            k = int(partner[k])
        k += 1
    return found


def find_loops(partner: IntArray, breaks: BoolArray) -> list[Loop]:
    """All loops of a nested partner array, the exterior one first, then in order of their closing stem."""
    stems = rna.find_stems(partner)
    length_of = {(i, j): n for i, j, n in stems}
    nicks = np.concatenate([[0], np.cumsum(breaks)])

    def make(closing: Pair | None, depth: int, start: int, stop: int) -> Loop:
        branches = _branches(partner, start, stop)
        edges = [start - 1] + [end for _, end in branches], [begin for begin, _ in branches] + [stop]
        inner = [(max(a, 0), min(b, len(partner) - 1)) for a, b in zip(*edges)]
        return Loop(
            closing=closing,
            branches=tuple(branches),
            sizes=tuple(b - a - 1 for a, b in zip(*edges)),
            nicked=tuple(bool(nicks[b] - nicks[a]) for a, b in inner),
            depths=(depth, *(length_of[branch] for branch in branches)),
        )

    loops = [make(None, 0, 0, len(partner))]
    for i, j, n in stems:
        loops.append(make((i + n - 1, j - n + 1), n, i + n, j - n + 1))
    return loops


def stem_residues(stem: tuple[int, int, int]) -> IntArray:
    """(2n,) residues of a stem (i, j, n): i, i+1, .. then their partners j, j-1, .."""
    i, j, n = stem
    step = np.arange(n)
    return np.concatenate([i + step, j - step])


def anchor_residues(loop: Loop, branch: int, depth: int = 2) -> list[int]:
    """Residues of the `depth` pairs of a stem that lie next to the loop; branch 0 is the closing stem.

    Order: the strand that enters the stem from the loop, away from the loop, then its partners. For the closing pair
    (i, j) that is j, j+1, .. then i, i-1, ..; for a branch (k, l) it is k, k+1, .. then l, l-1, ..
    """
    if branch == 0:
        assert loop.closing is not None
        i, j = loop.closing
        return [j + k for k in range(depth)] + [i - k for k in range(depth)]
    k0, l0 = loop.branches[branch - 1]
    return [k0 + k for k in range(depth)] + [l0 - k for k in range(depth)]
