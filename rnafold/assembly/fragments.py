"""A library of real loops: what joins ideal stems. Hairpins, internal loops, bulges, junctions and linkers.

Every closed loop is a ring of stems. Read from another of its stems the same ring is one more example, so an internal
loop counts twice and a three-way junction three times.
"""

import datetime
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnafold.assembly.ideal import IdealFragments, Proposal
from rnafold.assembly.loops import Loop, Pair, clean_pairing, find_loops
from rnafold.files.budget import Budget
from rnafold.structure import BoolArray, FloatArray, IntArray

# Cost of a residue more or less, of a segment whose size differs, and what full sequence identity is worth.
# Source: docs/studies/templates.md (weights 0 to 12 and other size terms were within noise of these).
SIZE_WEIGHT = 1.2
SEGMENT_WEIGHT = 0.6
IDENTITY_WEIGHT = 4.0
NEAREST = 160
# Pairs of each stem that a fragment brings along or is superposed on: 2 was worse by 0.009 on later train chains.
ANCHOR_DEPTH = 8
CACHE_SIZE = 20_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RingTable:
    """Loops with the same number S of stems: `stems` (F, S, 2) residues that enter and leave each stem from inside.

    `sizes` (F, S) unpaired residues after each stem, `depths` (F, S) pairs of each stem, `chain` (F,) its chain.
    """

    stems: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    depths: npt.NDArray[np.int16]
    chain: npt.NDArray[np.int32]

    def select(self, keep: BoolArray) -> "RingTable":
        """The rows where `keep` (F,) is True."""
        return RingTable(
            stems=self.stems[keep], sizes=self.sizes[keep], depths=self.depths[keep], chain=self.chain[keep]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FragmentChain:
    """One chain that fragments are cut from: tokens (L,), coords (L, 3) in Å, NaN where unresolved, partner (L,).

    `released` is datetime.date.max where nobody knows it; `codes` are the names by which a target is known to be it.
    """

    chain_id: str
    group: str
    codes: frozenset[str]
    released: datetime.date
    tokens: npt.NDArray[np.integer]
    coords: npt.NDArray[np.floating]
    partner: IntArray


@dataclass(frozen=True, slots=True)
class _Match:
    residues: IntArray
    coords: FloatArray


def _rings(chain: FragmentChain) -> Iterator[tuple[list[Pair], list[int], list[int], bool]]:
    """(stems from inside, sizes, depths, closed) of each loop of a chain; the exterior loop is not closed."""
    breaks = np.zeros(max(len(chain.tokens) - 1, 0), dtype=np.bool_)
    nested = clean_pairing(chain.partner, breaks)
    for loop in find_loops(nested, breaks):
        if loop.closing is None:
            yield list(loop.branches), list(loop.sizes[1:-1]), list(loop.depths[1:]), False
        else:
            i, j = loop.closing
            yield [(j, i), *loop.branches], list(loop.sizes), list(loop.depths), True


def _stem_known(known: BoolArray, stem: Pair) -> bool:
    enter, leave = stem
    rows = [enter, enter + 1, leave, leave - 1]
    return min(rows) >= 0 and max(rows) < len(known) and bool(known[rows].all())


class FragmentLibrary:
    """Loops of known structures, searched by segment sizes and sequence; a FragmentSource for `assemble`."""

    def __init__(self, chains: Sequence[FragmentChain], rings: dict[int, RingTable], linkers: RingTable) -> None:
        self.chains = chains
        self.rings = rings
        self.linkers = linkers
        self.anchor_depth = ANCHOR_DEPTH
        self._ideal = IdealFragments()
        self._matches: dict[tuple[object, ...], tuple[list[_Match], FloatArray]] = {}

    @classmethod
    def build(cls, chains: Sequence[FragmentChain], budget: Budget | None = None) -> "FragmentLibrary":
        """Cut every loop whose anchors (two pairs of each stem) are resolved out of the chains, while there is time."""
        rows: dict[int, list[tuple[list[Pair], list[int], list[int], int]]] = {}
        linkers: list[tuple[list[Pair], list[int], list[int], int]] = []
        for index, chain in enumerate(chains):
            if budget is not None and budget.spent:
                break
            known = np.asarray(np.isfinite(chain.coords).all(1), dtype=np.bool_)
            for stems, sizes, depths, closed in _rings(chain):
                fit = [_stem_known(known, stem) for stem in stems]
                if closed and all(fit):
                    for turn in range(len(stems)):
                        order = [(turn + k) % len(stems) for k in range(len(stems))]
                        rows.setdefault(len(stems), []).append(
                            ([stems[k] for k in order], [sizes[k] for k in order], [depths[k] for k in order], index)
                        )
                for k in range(len(stems) - (0 if closed and len(stems) > 1 else 1)):
                    n = (k + 1) % len(stems)
                    if fit[k] and fit[n]:
                        linkers.append(([stems[k], stems[n]], [sizes[k], 0], [depths[k], depths[n]], index))
        return cls(chains, {size: _table(found, size) for size, found in rows.items()}, _table(linkers, 2))

    def restrict(
        self,
        before: datetime.date | None,
        codes: Collection[str] = (),
        groups: Collection[str] = (),
        undated: bool = False,
    ) -> "FragmentLibrary":
        """The loops of chains released before a date, of other entries than `codes` and other groups than `groups`.

        `undated` keeps the chains of which nobody knows the release.
        """
        allowed = np.array(
            [
                (before is None or chain.released < before or (undated and chain.released == datetime.date.max))
                and chain.codes.isdisjoint(codes)
                and (not chain.group or chain.group not in groups)
                for chain in self.chains
            ],
            dtype=np.bool_,
        )
        return self.select(allowed)

    def select(self, allowed: BoolArray) -> "FragmentLibrary":
        """The loops of the chains where `allowed` (chains,) is True."""
        if allowed.all():
            return self
        rings = {size: table.select(allowed[table.chain]) for size, table in self.rings.items()}
        return FragmentLibrary(self.chains, rings, self.linkers.select(allowed[self.linkers.chain]))

    def count(self) -> dict[str, int]:
        """Number of loops by kind; an internal loop or junction is counted once for each of its stems."""
        names = {1: "hairpin", 2: "internal"}
        counts = {"linker": len(self.linkers.chain)}
        for size, table in self.rings.items():
            name = names.get(size, "junction")
            counts[name] = counts.get(name, 0) + len(table.chain)
        return counts

    def propose(
        self, loop: Loop, tokens: IntArray, rng: np.random.Generator, temperature: float, count: int
    ) -> Iterator[Proposal]:
        """Proposals for a closed loop, best first: low cost after adding Gumbel noise times `temperature`."""
        assert loop.closing is not None
        stems = [(loop.closing[1], loop.closing[0]), *loop.branches]
        table = self.rings.get(len(stems))
        if table is None or not len(table.chain):
            return
        matches, costs = self._match(table, stems, loop, tokens)
        noisy = costs + temperature * rng.gumbel(size=len(costs)) if temperature > 0 else costs
        for row in np.argsort(noisy, kind="stable")[:count]:
            yield Proposal(matches[row].residues, matches[row].coords, float(costs[row]))

    def propose_linker(
        self, first: Pair, second: Pair, size: int, rng: np.random.Generator, temperature: float, count: int
    ) -> Iterator[Proposal]:
        """Proposals for two neighbouring stems with `size` residues between them."""
        if not len(self.linkers.chain):
            yield from self._ideal.propose_linker(first, second, size, rng, temperature, count)
            return
        cost = np.abs(self.linkers.sizes[:, 0].astype(np.float64) - size)
        noisy = cost + 0.5 * temperature * rng.gumbel(size=len(cost)) if temperature > 0 else cost
        for row in np.argsort(noisy, kind="stable")[:count]:
            coords = self.chains[int(self.linkers.chain[row])].coords
            source = [r for enter, leave in self.linkers.stems[row] for r in (leave - 1, leave, enter + 1, enter)]
            query = [r for enter, leave in (first, second) for r in (leave - 1, leave, enter + 1, enter)]
            yield Proposal(np.array(query), coords[source].astype(np.float64))

    def _match(
        self, table: RingTable, stems: list[Pair], loop: Loop, tokens: IntArray
    ) -> tuple[list[_Match], FloatArray]:
        """The nearest loops mapped onto the query's residues, and their costs; remembered for the next assembly."""
        letters = tuple(int(t) for enter, leave in stems for t in (tokens[enter], tokens[leave]))
        unpaired = tuple(
            bytes(tokens[leave + 1 : leave + 1 + size].astype(np.uint8)) for (_, leave), size in zip(stems, loop.sizes)
        )
        key = (tuple(stems), loop.sizes, loop.depths, letters, unpaired)
        if key in self._matches:
            return self._matches[key]
        difference = np.abs(table.sizes.astype(np.float64) - np.array(loop.sizes))
        cost = SIZE_WEIGHT * difference.sum(1) + SEGMENT_WEIGHT * (difference > 0).sum(1)
        nearest = np.argsort(cost, kind="stable")[:NEAREST]
        matches, costs = [], []
        for row in nearest:
            query, source = self._map(table, int(row), stems, loop)
            chain = self.chains[int(table.chain[row])]
            points = chain.coords[source].astype(np.float64)
            known = np.isfinite(points).all(1)
            same = float((tokens[query] == chain.tokens[source]).mean())
            matches.append(_Match(query[known], points[known]))
            costs.append(cost[row] - IDENTITY_WEIGHT * same)
        if len(self._matches) >= CACHE_SIZE:
            self._matches.clear()
        self._matches[key] = matches, np.array(costs)
        return self._matches[key]

    def _map(self, table: RingTable, row: int, stems: list[Pair], loop: Loop) -> tuple[IntArray, IntArray]:
        """Residues of the query's loop and of a library loop that correspond, anchors first."""
        query: list[int] = []
        source: list[int] = []
        for k, (enter, leave) in enumerate(stems):
            other_enter, other_leave = (int(r) for r in table.stems[row, k])
            depth = max(2, min(self.anchor_depth, loop.depths[k], int(table.depths[row, k])))
            query += [enter + d for d in range(depth)] + [leave - d for d in range(depth)]
            source += [other_enter + d for d in range(depth)] + [other_leave - d for d in range(depth)]
        for k, (_, leave) in enumerate(stems):
            next_enter = stems[(k + 1) % len(stems)][0]
            other_leave = int(table.stems[row, k, 1])
            other_enter = int(table.stems[row, (k + 1) % len(stems), 0])
            shared = min(loop.sizes[k], int(table.sizes[row, k]))
            head = shared if loop.sizes[k] == table.sizes[row, k] else (shared + 1) // 2
            query += [leave + 1 + s for s in range(head)] + [next_enter - 1 - s for s in range(shared - head)]
            source += [other_leave + 1 + s for s in range(head)] + [other_enter - 1 - s for s in range(shared - head)]
        return np.array(query, dtype=np.int64), np.array(source, dtype=np.int64)


def _table(rows: list[tuple[list[Pair], list[int], list[int], int]], size: int) -> RingTable:
    return RingTable(
        stems=np.array([stems for stems, _, _, _ in rows], dtype=np.int32).reshape(-1, size, 2),
        sizes=np.array([sizes for _, sizes, _, _ in rows], dtype=np.int32).reshape(-1, size),
        depths=np.array([depths for _, _, depths, _ in rows], dtype=np.int16).reshape(-1, size),
        chain=np.array([chain for _, _, _, chain in rows], dtype=np.int32),
    )
