"""Library loops laid over a query's: which residue stands for which, and where it lies.

The places of a query loop with S stems are, for each stem, the two pairs next to the loop (enter, enter + 1, leave,
leave - 1 as seen from inside), then the unpaired residues after each stem.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnafold.assembly.loops import Loop, Pair
from rnafold.assembly.rings import Residues, RingTable
from rnafold.structure import FloatArray, IntArray

# Places of each stem.
ANCHORS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlay:
    """K library loops laid over a query with P places: `tokens` (K, P), -1 where a loop is short of residues.

    `coords` (K, P, 3) in Å; what a loop is short of lies on a straight line between its neighbours.
    """

    tokens: IntArray
    coords: FloatArray


def inner_stems(loop: Loop) -> list[Pair]:
    """(enter, leave) of each stem of a closed loop, the closing one first."""
    assert loop.closing is not None
    return [(loop.closing[1], loop.closing[0]), *loop.branches]


def list_places(stems: Sequence[Pair], sizes: Sequence[int]) -> IntArray:
    """(P,) residues at the places of a loop."""
    places = [r for enter, leave in stems for r in (enter, enter + 1, leave, leave - 1)]
    places += [leave + 1 + k for (_, leave), size in zip(stems, sizes) for k in range(size)]
    return np.array(places, dtype=np.int64)


def match_places(table: RingTable, sizes: Sequence[int], residues: Residues) -> IntArray:
    """(K, P) residue of the library at each place of a query with these sizes, -1 where a loop is short of it.

    Segments of unequal size correspond from both ends.
    """
    stems = table.stems.astype(np.int64) + residues.first[table.chain][:, None, None]
    enter, leave = stems[:, :, 0], stems[:, :, 1]
    parts = [np.stack([enter, enter + 1, leave, leave - 1], axis=2).reshape(len(table), ANCHORS * len(sizes))]
    for k, wanted in enumerate(sizes):
        own = table.sizes[:, k].astype(np.int64)[:, None]
        shared = np.minimum(own, wanted)
        head = np.where(own == wanted, shared, (shared + 1) // 2)
        at = np.arange(wanted)
        source = np.where(at < head, at, own - wanted + at)
        missing = (at >= head) & (at < wanted - (shared - head))
        parts.append(np.where(missing, -1, leave[:, k : k + 1] + 1 + source))
    return np.concatenate(parts, axis=1)


def lay_over(table: RingTable, sizes: Sequence[int], residues: Residues) -> Overlay:
    """The loops of a table, all of them whole, over a query with these sizes."""
    rows = match_places(table, sizes, residues)
    lacking = rows < 0
    safe = np.where(lacking, 0, rows)
    coords = residues.coords[safe].astype(np.float64)
    start = ANCHORS * len(sizes)
    for k, size in enumerate(sizes):
        place = slice(start, start + size)
        if lacking[:, place].any():
            left, right = ANCHORS * k + 2, ANCHORS * ((k + 1) % len(sizes))
            _bridge(coords, lacking[:, place], place, coords[:, left], coords[:, right])
        start += size
    return Overlay(tokens=np.where(lacking, -1, residues.tokens[safe]), coords=coords)


def _bridge(
    coords: FloatArray, lacking: npt.NDArray[np.bool_], place: slice, left: FloatArray, right: FloatArray
) -> None:
    """Fills the one gap of each loop's segment in place, between the residues beside it or the stems' ends."""
    size = lacking.shape[1]
    gap = lacking.sum(1)
    begin = np.where(gap > 0, lacking.argmax(1), 0)
    stop = begin + gap
    row = np.arange(len(coords))
    segment = coords[:, place]
    before = np.where((begin > 0)[:, None], segment[row, np.maximum(begin - 1, 0)], left)
    after = np.where((stop < size)[:, None], segment[row, np.minimum(stop, size - 1)], right)
    share = (np.arange(size) - begin[:, None] + 1) / (gap[:, None] + 1)
    line = before[:, None] + share[..., None] * (after - before)[:, None]
    coords[:, place] = np.where(lacking[..., None], line, segment)
