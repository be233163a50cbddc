"""From a secondary structure to C1' coordinates: ideal A-form stems joined breadth-first by loop fragments.

Longest stem first, then any loop that touches a placed stem, superposed on the anchors it shares, the least clashing of
several tries; what is left becomes arcs and tails, and what still clashes or breaks is
settled. Source: docs/studies/templates.md, Assembly.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from rnafold import rna
from rnafold.assembly.fill import fill_chain, separate
from rnafold.assembly.grid import count_clashes
from rnafold.assembly.ideal import IdealFragments, Proposal, vary_helix
from rnafold.assembly.loops import Loop, Pair, anchor_residues, clean_pairing, find_loops, stem_residues
from rnafold.assembly.settle import settle
from rnafold.geometry import superpose, transform
from rnafold.structure import (
    CARRIED,
    FILLED,
    LINKER,
    LOOP,
    STEM,
    BoolArray,
    Chain,
    FloatArray,
    Grounds,
    IntArray,
    crossing_chains,
    whole_chain,
)

HELIX_SPREAD = 0.6


class FragmentSource(Protocol):
    """Where proposals for loops come from: ideal geometry or a library of real loops."""

    def propose(
        self, loop: Loop, tokens: IntArray, rng: np.random.Generator, temperature: float, count: int
    ) -> Iterator[Proposal]:
        """Proposals for a closed loop, in the order in which to try them."""

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


class Builder:
    """One assembly under construction: coordinates (L, 3), NaN where not yet placed."""

    def __init__(
        self,
        tokens: IntArray,
        partner: IntArray,
        breaks: BoolArray,
        source: FragmentSource,
        rng: np.random.Generator,
        temperature: float = 1.0,
        tries: int = 6,
    ) -> None:
        self.tokens, self.source, self.rng = tokens, source, rng
        self.temperature, self.tries = temperature, tries
        self.helix = vary_helix(rng, HELIX_SPREAD * min(temperature, 1.0))
        self.coords: FloatArray = np.full((len(tokens), 3), np.nan)
        self.kinds: IntArray = np.full(len(tokens), FILLED, dtype=np.int64)
        self.deviation: FloatArray = np.full(len(tokens), np.nan)
        self.stems = rna.find_stems(partner)
        self.loops = find_loops(partner, breaks)
        self._stem_of = {(i, j): (i, j, n) for i, j, n in self.stems}

    def placed(self, residues: Sequence[int] | IntArray) -> BoolArray:
        """(n,) True for residues that have coordinates."""
        return np.asarray(np.isfinite(self.coords[residues]).all(-1), dtype=np.bool_)

    def run(self) -> None:
        """Place stems and loops until nothing can be joined to what is placed; start components as needed."""
        self._complete_stems(self.stems)
        waiting = sorted(self.stems, key=lambda stem: -stem[2])
        self._walk(range(1, len(self.loops)))
        for stem in waiting:
            if not self.placed(stem_residues(stem)).all():
                if self.placed(np.arange(len(self.tokens))).sum() < 3:
                    self._seed_stem(stem)
                    self._walk(range(1, len(self.loops)))
                    continue
                # Not joined to anything: a component of its own, moved beside the rest.
                before = self.placed(np.arange(len(self.tokens)))
                held, kinds, deviation = self.coords.copy(), self.kinds.copy(), self.deviation.copy()
                self.coords[:] = np.nan
                self._seed_stem(stem)
                self._walk(range(1, len(self.loops)))
                new = self.placed(np.arange(len(self.tokens))) & ~before
                moved = separate([held[before], self.coords[new]], gap=7.0, seed=int(self.rng.integers(2**31)))
                self.coords[:] = held
                self.kinds[before], self.deviation[before] = kinds[before], deviation[before]
                self.coords[new] = moved[1]

    def _seed_stem(self, stem: tuple[int, int, int]) -> None:
        self.coords[stem_residues(stem)] = self.helix.build(stem[2])
        self.kinds[stem_residues(stem)] = STEM

    def _complete_stems(self, stems: Iterable[tuple[int, int, int]]) -> None:
        """Superpose ideal helices on stems of which at least three residues are placed."""
        for stem in stems:
            residues = stem_residues(stem)
            known = self.placed(residues)
            if known.all() or known.sum() < 3:
                continue
            ideal = self.helix.build(stem[2])
            moved = transform(ideal, *superpose(ideal[known], self.coords[residues[known]]))
            self.coords[residues[~known]] = moved[~known]
            self.kinds[residues[~known]] = STEM

    def _walk(self, loop_indices: Iterable[int]) -> None:
        """Breadth-first over the loops that touch something placed, and over the exterior loop's linkers."""
        todo = deque(loop_indices)
        stalled = 0
        while todo and stalled < len(todo):
            index = todo.popleft()
            if self._close_loop(self.loops[index]):
                stalled = 0
            else:
                todo.append(index)
                stalled += 1
            if stalled >= len(todo) and self._link_exterior():
                stalled = 0

    def _anchored(self, loop: Loop) -> list[bool]:
        """For the closing stem and each branch: are its two pairs next to the loop placed?"""
        return [bool(self.placed(anchor_residues(loop, branch)).all()) for branch in range(len(loop.branches) + 1)]

    def _close_loop(self, loop: Loop) -> bool:
        """Place one closed loop and the stems behind it; False while nothing of it is placed."""
        anchored = self._anchored(loop)
        if not any(anchored):
            return False
        if not loop.whole:
            return self._link_branches(loop, anchored)
        if all(anchored) and self.placed(_loop_residues(loop)).all():
            return True
        best = self._choose(self.source.propose(loop, self.tokens, self.rng, self.temperature, self.tries), loop)
        if best is None:
            return self._link_branches(loop, anchored)
        self._adopt(best)
        self._complete_stems([self._stem_of[branch] for branch in loop.branches] + self._closing_stem(loop))
        return all(self._anchored(loop)) or self._link_branches(loop, self._anchored(loop))

    def _closing_stem(self, loop: Loop) -> list[tuple[int, int, int]]:
        if loop.closing is None:
            return []
        (i, j), n = loop.closing, loop.depths[0]
        return [(i - n + 1, j + n - 1, n)]

    def _choose(self, proposals: Iterable[Proposal], loop: Loop | None) -> Proposal | None:
        """The proposal, moved onto what is placed, that clashes least (its loop and the stems it brings)."""
        best, lowest = None, np.inf
        for proposal in proposals:
            residues, coords = proposal.residues, proposal.coords
            known = self.placed(residues)
            if known.sum() < 3:
                continue
            moved = transform(coords, *superpose(coords[known], self.coords[residues[known]]))
            misfit = np.sqrt(((moved[known] - self.coords[residues[known]]) ** 2).sum(-1).mean())
            clashes = self._clashes(residues, moved, known, loop)
            if clashes + 2 * misfit < lowest:
                best, lowest = proposal._replace(coords=moved), clashes + 2 * misfit
            if clashes == 0 and misfit < 2.0:
                break
        return best

    def _clashes(self, residues: IntArray, moved: FloatArray, known: BoolArray, loop: Loop | None) -> int:
        """Clashes with placed residues outside the proposal, of its new residues and the stems that would follow."""
        others = self.placed(np.arange(len(self.tokens)))
        others[residues] = False
        total = count_clashes(moved[~known], self.coords[others])
        position = {int(r): p for r, p in zip(residues, moved)}
        for branch in loop.branches if loop is not None else ():
            stem = self._stem_of[branch]
            rows = stem_residues(stem)
            if self.placed(rows).any() or stem[2] <= 2:
                continue
            shared = [at for at, row in enumerate(rows) if int(row) in position]
            if len(shared) >= 3:
                ideal = self.helix.build(stem[2])
                goal = np.array([position[int(rows[at])] for at in shared])
                total += count_clashes(transform(ideal, *superpose(ideal[shared], goal)), self.coords[others])
        return total

    def _adopt(self, proposal: Proposal) -> None:
        new = ~self.placed(proposal.residues)
        rows = proposal.residues[new]
        self.coords[rows] = proposal.coords[new]
        self.kinds[rows] = LOOP if proposal.known_loop else LINKER
        self.deviation[rows] = proposal.deviation

    def _link_branches(self, loop: Loop, anchored: list[bool]) -> bool:
        """Place the missing stems of a loop one after the other, each linked to its placed neighbour.

        The closing pair (i, j), seen from inside, is the neighbour before the first branch and after the last.
        """
        order: list[tuple[Pair, int]] = [((loop.closing[1], loop.closing[0]), 0)] if loop.closing else []
        order += [(branch, index + 1) for index, branch in enumerate(loop.branches)]
        done = dict(enumerate(anchored)) if loop.closing else dict(enumerate([False, *anchored]))
        progress = False
        for _ in range(len(order)):
            for at in range(len(loop.sizes)):
                if loop.nicked[at]:
                    continue
                if not loop.closing and at in (0, len(loop.sizes) - 1):
                    continue
                left, right = at, (at + 1) % (len(loop.branches) + 1)
                if done.get(left, False) == done.get(right, False):
                    continue
                if self._link(loop, left, right, loop.sizes[at]):
                    done[left] = done[right] = progress = True
        return progress or all(done.values())

    def _link(self, loop: Loop, left: int, right: int, size: int) -> bool:
        first, second = (_inner_pair(loop, branch) for branch in (left, right))
        best = self._choose(
            self.source.propose_linker(first, second, size, self.tokens, self.rng, self.temperature, self.tries), loop
        )
        if best is None:
            return False
        self._adopt(best)
        touched = [loop.branches[branch - 1] for branch in (left, right) if branch > 0]
        self._complete_stems([self._stem_of[branch] for branch in touched] + self._closing_stem(loop))
        return True

    def _link_exterior(self) -> bool:
        """Link one unplaced stem of the exterior loop to a placed neighbour; False when there is none."""
        loop = self.loops[0]
        anchored = [bool(self.placed(anchor_residues(loop, b)).all()) for b in range(1, len(loop.branches) + 1)]
        for at in range(1, len(loop.branches)):
            if (
                not loop.nicked[at]
                and anchored[at - 1] != anchored[at]
                and self._link(loop, at, at + 1, loop.sizes[at])
            ):
                return True
        return False


def _inner_pair(loop: Loop, branch: int) -> Pair:
    """A stem's pair next to the loop as (entering, leaving) residue; the closing pair seen from inside is (j, i)."""
    if branch == 0:
        assert loop.closing is not None
        return loop.closing[1], loop.closing[0]
    return loop.branches[branch - 1]


def _loop_residues(loop: Loop) -> IntArray:
    """Unpaired residues of a closed loop."""
    assert loop.closing is not None
    starts = [loop.closing[0], *(stop for _, stop in loop.branches)]
    return np.array([start + 1 + k for start, size in zip(starts, loop.sizes) for k in range(size)], dtype=np.int64)


def assemble(
    sequence: str,
    partner: IntArray,
    chains: Sequence[Chain] | None = None,
    fragments: FragmentSource | None = None,
    fixed: FloatArray | None = None,
    seed: int = 0,
    temperature: float = 1.0,
) -> FloatArray:
    """Coordinates (L, 3) in Å, all finite, of an RNA with a given secondary structure; see `build_model`."""
    return build_model(sequence, partner, chains, fragments, fixed, seed, temperature)[0]


def build_model(
    sequence: str,
    partner: IntArray,
    chains: Sequence[Chain] | None = None,
    fragments: FragmentSource | None = None,
    fixed: FloatArray | None = None,
    seed: int = 0,
    temperature: float = 1.0,
) -> tuple[FloatArray, Grounds]:
    """Coordinates (L, 3) in Å, all finite, of an RNA with a given secondary structure, and what they rest on.

    Args:
        sequence: L letters, all chains one after the other.
        partner: (L,) index of each residue's partner, -1 = unpaired. Crossing pairs and lone pairs are left out.
        chains: where chains begin and end; None means one chain.
        fragments: proposals for loops, such as a FragmentLibrary; None means ideal geometry.
        fixed: (L, 3) coordinates to keep as they are, NaN where free; None means all free.
        seed: the same seed gives the same coordinates.
        temperature: how freely fragments are chosen; 0 takes the best match every time.

    Raises:
        ValueError: the lengths of sequence, partner and fixed differ.
    """
    length = len(sequence)
    if len(partner) != length or (fixed is not None and fixed.shape != (length, 3)):
        raise ValueError(
            f"assemble: {length} letters, {len(partner)} partners, fixed {None if fixed is None else fixed.shape}"
        )
    layout = tuple(chains) if chains else whole_chain(length)
    breaks = crossing_chains(layout, length)
    nested = clean_pairing(np.asarray(partner, dtype=np.int64), breaks)
    rng = np.random.default_rng(seed)
    builder = Builder(rna.encode_sequence(sequence), nested, breaks, fragments or IdealFragments(), rng, temperature)
    kept = np.zeros(length, dtype=np.bool_) if fixed is None else np.asarray(np.isfinite(fixed).all(1), dtype=np.bool_)
    if fixed is not None and kept.sum() >= 3:
        builder.coords[kept] = fixed[kept]
    builder.run()
    coords = _fill_chains(builder.coords, layout, seed)
    if fixed is not None and kept.any():
        if kept.sum() < 3:  # too few to build around: built freely, then moved to them
            coords += (fixed[kept] - coords[kept]).mean(0)
        coords[kept] = fixed[kept]
    kinds = np.where(kept, CARRIED, builder.kinds)
    deviation = np.where(kept, np.nan, builder.deviation)
    return settle(coords, ~kept, breaks), Grounds(kinds=kinds, deviation=deviation)


def _fill_chains(coords: FloatArray, chains: Sequence[Chain], seed: int) -> FloatArray:
    """Fill every chain; chains of which nothing was placed are set beside the rest."""
    filled = coords.copy()
    loose = []
    for index, chain in enumerate(chains):
        rows = slice(chain.start, chain.stop)
        empty = not np.isfinite(coords[rows]).all(-1).any()
        filled[rows] = fill_chain(coords[rows], seed + index)
        if empty:
            loose.append(rows)
    if loose and len(chains) > 1:
        free = np.zeros(len(filled), dtype=np.bool_)
        for rows in loose:
            free[rows] = True
        groups = ([filled[~free]] if (~free).any() else []) + [filled[rows] for rows in loose]
        moved = separate(groups, seed=seed)
        for rows, points in zip(loose, moved[len(groups) - len(loose) :]):
            filled[rows] = points
    return filled
