"""The loops of a library that come into question for a query: few of a hundred thousand, in milliseconds.

Tables are ordered by sizes, so the sizes that occur are looked at instead of the loops; of one loop solved many times
only a few are kept; of what has the nearest sizes the letters decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnafold.assembly.loop_features import LOOP_FEATURES
from rnafold.assembly.overlay import match_places
from rnafold.assembly.rings import Residues, RingTable
from rnafold.structure import FloatArray, IntArray

# Cost of a residue more or less, of a segment whose size differs, and what letters are worth that are all equal.
# Source: docs/studies/templates.md (weights 0 to 12 and other size terms were within noise of these).
SIZE_WEIGHT, SEGMENT_WEIGHT, IDENTITY_WEIGHT = 1.2, 0.6, 4.0
# What an equal letter is worth for a loop to come into question.
LETTER_WEIGHT = 0.4
# Loops whose letters are looked at, the most that are kept, and how often one loop solved many times may be among them.
NEAREST_BY_SIZE, NEAREST, COPIES = 1000, 160, 3
# Loops proposed for a query, and how much likeness of letters says beside the expected deviation of what is likely.
# Source: docs/studies/arrangement.md (best of six 1.23 -> 1.09 Å for hairpins, 1.61 -> 1.40 for internal loops).
MOTIFS, LIKENESS_SHARE = 8, 1.0
LEAST_SHARE = 1e-6


class LoopIndex:
    """The whole loops of a table, found by sizes and letters."""

    def __init__(self, table: RingTable, residues: Residues) -> None:
        """`table` in the order of `rings.order_rows`."""
        self.residues = residues
        rows = np.flatnonzero(table.whole)
        kin = table.kin[rows]
        begins = np.flatnonzero(np.concatenate([[True], kin[1:] != kin[:-1]])[: len(rows)])
        copy = np.arange(len(rows)) - np.repeat(begins, np.diff(np.append(begins, len(rows))))
        self.table = table.select(rows[copy < COPIES])
        sizes = self.table.sizes
        new = np.concatenate([[True], (sizes[1:] != sizes[:-1]).any(1)])[: len(sizes)]
        self._begin = np.append(np.flatnonzero(new), len(sizes))
        self._sizes = sizes[self._begin[:-1]].astype(np.float64)

    def find(self, sizes: Sequence[int], letters: IntArray) -> tuple[IntArray, FloatArray]:
        """Rows (K,) of `table`, cheapest first, and their costs, for a query with these sizes and letters (P,)."""
        apart = np.abs(self._sizes - np.asarray(sizes))
        size_cost = SIZE_WEIGHT * apart.sum(1) + SEGMENT_WEIGHT * (apart > 0).sum(1)
        order = np.argsort(size_cost, kind="stable")
        count = np.cumsum((self._begin[1:] - self._begin[:-1])[order])
        order = order[: int(np.searchsorted(count, NEAREST_BY_SIZE)) + 1]
        ranges = [np.arange(self._begin[bucket], self._begin[bucket + 1]) for bucket in order]
        rows = np.concatenate([np.zeros(0, np.int64), *ranges])
        cost = np.repeat(size_cost[order], [len(found) for found in ranges])
        places = match_places(self.table.select(rows), sizes, self.residues)
        present = places >= 0
        equal = (present & (self.residues.tokens[np.maximum(places, 0)] == letters)).sum(1)
        best = np.argsort(cost - LETTER_WEIGHT * equal, kind="stable")[:NEAREST]
        cost = (cost - IDENTITY_WEIGHT * equal / np.maximum(present.sum(1), 1))[best]
        order = np.argsort(cost, kind="stable")
        return rows[best][order], cost[order]


@dataclass(frozen=True, slots=True, eq=False)
class Shortlist:
    """Loops to try for one query, best first.

    `rows` (K,) of `table`, what each costs (K,), low is good, the expected deviation (K,) in Å, NaN where nobody says.
    `share` (K,) is how likely a judge finds it that the query's loop is more like this one than like the others; None
    without a judge.
    """

    table: RingTable
    rows: IntArray
    cost: FloatArray
    deviation: FloatArray
    share: FloatArray | None = None

    def draw(self, rng: np.random.Generator, temperature: float, count: int) -> IntArray:
        """`count` of the loops in the order in which to try them, drawn the more freely the higher the temperature."""
        if temperature <= 0:
            return np.arange(min(count, len(self.rows)))
        likely = -self.cost if self.share is None else np.log(self.share + LEAST_SHARE)
        return np.argsort(-likely - temperature * rng.gumbel(size=len(likely)), kind="stable")[:count]


def choose_motifs(
    features: npt.NDArray[np.floating], expected: FloatArray, distance: FloatArray, certainty: float
) -> tuple[IntArray, FloatArray]:
    """Rows (M,) of loops, one for each geometry that is likely, and the share (M,) of what is likely that each has.

    One by one comes the loop that leaves the least distance to be expected between the query's loop and the nearest of
    them (greedy facility location): the first is the most central of what is likely.

    Args:
        features: (K, F) of `measure_loops`.
        expected: (K,) logarithm of the deviation of each.
        distance: (K, K) of `measure_differences`.
        certainty: difference in `expected` by which a loop becomes e times less likely.
    """
    likeness, vote = (features[:, LOOP_FEATURES.index(name)] for name in ("likeness_behind_best", "vote"))
    weight = vote * np.exp(LIKENESS_SHARE * likeness - (expected - expected.min()) / certainty)
    chosen: list[int] = []
    nearest = np.full(len(expected), np.inf)
    while len(chosen) < min(MOTIFS, len(expected)):
        left = np.minimum(nearest, distance) @ weight
        left[chosen] = np.inf
        chosen.append(int(np.argmin(left)))
        nearest = np.minimum(nearest, distance[chosen[-1]])
    motifs = np.array(chosen)
    share = np.bincount(distance[motifs].argmin(0), weight, len(motifs))
    return motifs, share / share.sum()
