"""A library of real loops: what joins ideal stems. Hairpins, internal loops, bulges, junctions and linkers."""

import datetime
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from rnafold.assembly.ideal import IdealFragments, Proposal
from rnafold.assembly.loop_features import measure_differences, measure_loops
from rnafold.assembly.loop_judge import LoopJudge, LoopKind, kind_of
from rnafold.assembly.loops import Loop, Pair
from rnafold.assembly.overlay import inner_stems, lay_over, list_places
from rnafold.assembly.rings import (
    FragmentChain,
    Residues,
    RingTable,
    count_unresolved,
    cut_loops,
    join_residues,
    make_table,
)
from rnafold.assembly.shortlist import LoopIndex, Shortlist, choose_motifs
from rnafold.files.budget import Budget
from rnafold.structure import BoolArray, IntArray

# Pairs of each stem that a fragment brings along or is superposed on: 2 was worse by 0.009 on later train chains.
ANCHOR_DEPTH = 8
CACHE_SIZE = 20_000


class FragmentLibrary:
    """Loops of known structures, searched by segment sizes and sequence; a FragmentSource for `assemble`."""

    def __init__(
        self,
        chains: Sequence[FragmentChain],
        rings: dict[int, RingTable],
        linkers: RingTable,
        residues: Residues,
        judge: LoopJudge | None = None,
    ) -> None:
        """`residues` of the chains; with a judge loops are chosen by what it expects, without by sizes and letters."""
        self.chains, self.rings, self.linkers, self.residues = chains, rings, linkers, residues
        self.judge = judge
        self.anchor_depth = ANCHOR_DEPTH
        self._ideal = IdealFragments()
        self._indices: dict[str, LoopIndex] = {}
        self._shortlists: dict[tuple[object, ...], Shortlist] = {}

    @classmethod
    def build(
        cls, chains: Sequence[FragmentChain], residues: Residues | None = None, budget: Budget | None = None
    ) -> "FragmentLibrary":
        """Cut every loop whose anchors (two pairs of each stem) are resolved out of the chains, while there is time."""
        rings, linkers = cut_loops(chains, budget)
        place = join_residues(chains) if residues is None else residues
        unresolved = count_unresolved(place)
        tables = {size: make_table(found, size, place, unresolved) for size, found in rings.items()}
        return cls(chains, tables, make_table(linkers, 2, place, unresolved), place)

    def judged_by(self, judge: LoopJudge | None) -> "FragmentLibrary":
        """The same loops, chosen by a judge, or by sizes and letters without one."""
        return FragmentLibrary(self.chains, self.rings, self.linkers, self.residues, judge)

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
        linkers = self.linkers.select(allowed[self.linkers.chain])
        return FragmentLibrary(self.chains, rings, linkers, self.residues, self.judge)

    def count(self) -> dict[str, int]:
        """Number of loops by kind; an internal loop or junction is counted once for each of its stems."""
        names = {1: "hairpin", 2: "internal"}
        counts = {"linker": len(self.linkers)}
        for size, table in self.rings.items():
            name = names.get(size, "junction")
            counts[name] = counts.get(name, 0) + len(table)
        return counts

    def propose(
        self, loop: Loop, tokens: IntArray, rng: np.random.Generator, temperature: float, count: int
    ) -> Iterator[Proposal]:
        """Proposals for a closed loop, best first: low cost after adding Gumbel noise times `temperature`."""
        stems = inner_stems(loop)
        table = self.rings.get(len(stems))
        if table is None or not len(table):
            return
        found = self._look_up(f"ring{len(stems)}", kind_of(len(stems)), table, stems, loop.sizes, tokens)
        for at in found.draw(rng, temperature, count):
            query, source = self._map(found.table, int(found.rows[at]), stems, loop)
            points = self.residues.coords[source].astype(np.float64)
            known = np.isfinite(points).all(1)
            yield Proposal(query[known], points[known], float(found.deviation[at]), known_loop=True)

    def propose_linker(
        self,
        first: Pair,
        second: Pair,
        size: int,
        tokens: IntArray,
        rng: np.random.Generator,
        temperature: float,
        count: int,
    ) -> Iterator[Proposal]:
        """Proposals for two neighbouring stems with `size` residues between them."""
        if not len(self.linkers):
            yield from self._ideal.propose_linker(first, second, size, tokens, rng, temperature, count)
            return
        found = self._look_up("linker", "linker", self.linkers, [first, second], (size, 0), tokens)
        query = np.array([r for enter, leave in (first, second) for r in (leave - 1, leave, enter + 1, enter)])
        for at in found.draw(rng, temperature, count):
            row = int(found.rows[at])
            begin = self.residues.first[int(found.table.chain[row])]
            source = [r for enter, leave in found.table.stems[row] for r in (leave - 1, leave, enter + 1, enter)]
            yield Proposal(query, self.residues.coords[np.array(source) + begin].astype(np.float64))

    def _look_up(
        self,
        name: str,
        kind: LoopKind,
        table: RingTable,
        stems: list[Pair],
        sizes: tuple[int, ...],
        tokens: IntArray,
    ) -> Shortlist:
        """The loops that come into question; remembered for the next assembly."""
        letters = tokens[list_places(stems, sizes)]
        key = (name, sizes, letters.astype(np.uint8).tobytes())
        if key not in self._shortlists:
            if len(self._shortlists) >= CACHE_SIZE:
                self._shortlists.clear()
            self._shortlists[key] = self._rate(self._open(name, table), kind, sizes, letters)
        return self._shortlists[key]

    def _open(self, name: str, table: RingTable) -> LoopIndex:
        if name not in self._indices:
            self._indices[name] = LoopIndex(table, self.residues)
        return self._indices[name]

    def _rate(self, index: LoopIndex, kind: LoopKind, sizes: tuple[int, ...], letters: IntArray) -> Shortlist:
        rows, cost = index.find(sizes, letters)
        if self.judge is None or not len(rows):
            return Shortlist(index.table, rows, cost, np.full(len(rows), np.nan))
        near = index.table.select(rows)
        laid = lay_over(near, sizes, self.residues)
        distance = measure_differences(laid.coords)
        features = measure_loops(letters, sizes, near, laid, distance)
        verdict = self.judge.rate(kind, features)
        motifs, share = choose_motifs(features, verdict.expected, distance, self.judge.models[kind].certainty)
        return Shortlist(index.table, rows[motifs], verdict.expected[motifs], verdict.deviation[motifs], share)

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
        begin = int(self.residues.first[int(table.chain[row])])
        return np.array(query, dtype=np.int64), np.array(source, dtype=np.int64) + begin
