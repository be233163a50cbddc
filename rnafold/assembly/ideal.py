"""Loop proposals by ideal geometry alone: hairpin arcs, stacked internal loops and bulges, circular multiloops."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rnafold.assembly.curves import draw_arc, rotate
from rnafold.assembly.loops import Loop, Pair, anchor_residues
from rnafold.geometry import Helix, build_helix
from rnafold.structure import FloatArray, IntArray


class Proposal(NamedTuple):
    """Where residues (n,) of a loop could lie: coords (n, 3) in Å.

    `deviation` is what the known loop that they were taken from is expected to be off by, in Å, NaN where nobody says;
    `known_loop` is False for ideal geometry and linkers.
    """

    residues: IntArray
    coords: FloatArray
    deviation: float = np.nan
    known_loop: bool = False


PAIR_CHORD = 10.5
# With more branches a circle of stems would be far wider than any RNA: they are linked one by one instead.
CIRCLE_BRANCHES = 7


def _random_axis(rng: np.random.Generator) -> FloatArray:
    axis = rng.normal(size=3)
    return np.asarray(axis / np.linalg.norm(axis), dtype=np.float64)


class IdealFragments:
    """Proposals for loops when no library of real loops is at hand; `temperature` scales their random bends."""

    def propose(
        self, loop: Loop, tokens: IntArray, rng: np.random.Generator, temperature: float, count: int
    ) -> Iterator[Proposal]:
        """Yield `count` proposals for a closed loop, anchors included."""
        for _ in range(count if len(loop.branches) <= CIRCLE_BRANCHES else 0):
            if not loop.branches:
                yield self._hairpin(loop)
            elif len(loop.branches) == 1:
                yield self._internal(loop, rng, temperature)
            else:
                yield self._multiloop(loop, rng, temperature)

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
        """Yield `count` proposals for two neighbouring stems (k, l), (k', l') with `size` residues between them.

        The second stem is stacked on the first as if the strand ran on, bent the more the longer the linker is.
        """
        (k, end), (m, n) = first, second
        residues = np.array([end - 1, end, k + 1, k, m, m + 1, n, n - 1])
        for attempt in range(count):
            strand, other = build_helix(4)
            coords = np.vstack([strand[:2], other[:2], strand[2:], other[2:]])
            bend = rng.normal() * (0.3 * temperature * np.sqrt(size) + 0.4 * attempt) + min(size, 4) * 0.15
            origin = 0.5 * (strand[1] + strand[2])
            coords[4:] = rotate(coords[4:], _random_axis(rng), bend, origin) + [0.0, 0.0, 0.8 * min(size, 6)]
            yield Proposal(residues, coords)

    def _hairpin(self, loop: Loop) -> Proposal:
        strand, other = build_helix(2)
        assert loop.closing is not None
        i, j = loop.closing
        size = loop.sizes[0]
        arc = draw_arc(strand[1], other[1], size, np.array([0.0, 0.0, 1.0]))
        residues = np.array([i - 1, i, j + 1, j, *range(i + 1, i + 1 + size)])
        return Proposal(residues, np.vstack([strand, other, arc]))

    def _internal(self, loop: Loop, rng: np.random.Generator, temperature: float) -> Proposal:
        """The helix runs on through the matched residues as if they were paired; spare ones are left to arcs."""
        assert loop.closing is not None
        (i, j), (k, m) = loop.closing, loop.branches[0]
        shared = min(loop.sizes)
        strand, other = build_helix(shared + 4)
        head = (shared + 1) // 2
        five = [i - 1, i, *(i + 1 + s for s in range(head)), *(k - shared + s for s in range(head, shared)), k, k + 1]
        three = [j + 1, j, *(j - 1 - s for s in range(head)), *(m + shared - s for s in range(head, shared)), m, m - 1]
        extra = max(loop.sizes) - shared
        bend = temperature * 0.15 * rng.normal() * np.sqrt(1 + extra)
        pivot = strand[head + 1] * 0.5 + other[head + 1] * 0.5
        axis = _random_axis(rng)
        tail = slice(head + 2, None)
        for points in (strand, other):
            points[tail] = rotate(points[tail], axis, bend, pivot)
        return Proposal(np.array(five + three), np.vstack([strand, other]))

    def _multiloop(self, loop: Loop, rng: np.random.Generator, temperature: float) -> Proposal:
        """Stems point outwards from a circle whose circumference holds the pairs and the linkers between them."""
        num = len(loop.branches) + 1
        links = [PAIR_CHORD * min(1.0, 0.55 + 0.25 * size) for size in loop.sizes]
        chords = np.array([x for link in links for x in (PAIR_CHORD, link)])
        low, high = float(chords.max()) / 2 + 1e-6, float(chords.sum())
        for _ in range(60):
            radius = 0.5 * (low + high)
            angles = 2 * np.arcsin(chords / (2 * radius))
            low, high = (radius, high) if angles.sum() > 2 * np.pi else (low, radius)
        centres = np.cumsum(angles) - angles / 2
        residues: list[int] = []
        coords: list[FloatArray] = []
        for branch in range(num):
            at = float(centres[2 * branch])
            radial = np.array([np.cos(at), np.sin(at), 0.0])
            tilt = temperature * 0.35 * rng.normal() + 0.25 * (-1) ** branch
            points = _stem_end(
                radial, np.array([-np.sin(at), np.cos(at), 0.0]), radius * np.cos(angles[2 * branch] / 2)
            )
            residues += anchor_residues(loop, branch)
            coords.append(rotate(points, np.array([-np.sin(at), np.cos(at), 0.0]), tilt, points[[0, 2]].mean(0)))
        return Proposal(np.array(residues), np.vstack(coords))


def _stem_end(axis: FloatArray, tangent: FloatArray, distance: float) -> FloatArray:
    """(4, 3) first two pairs of a helix along `axis`, its first pair across `tangent`, `distance` from the origin."""
    strand, other = build_helix(2)
    points = np.vstack([strand, other])
    across = (points[2] - points[0]) * [1.0, 1.0, 0.0]
    across /= np.linalg.norm(across)
    own = np.stack([np.array([0.0, 0.0, 1.0]), across, np.cross([0.0, 0.0, 1.0], across)])
    target = np.stack([axis, tangent, np.cross(axis, tangent)])
    middle = 0.5 * (points[0] + points[2])
    return np.asarray((points - middle) @ own.T @ target + distance * axis, dtype=np.float64)


def vary_helix(rng: np.random.Generator, spread: float) -> Helix:
    """A helix whose shape differs from the mean by `spread` standard deviations of what stems were measured to differ.

    Five predictions with five shapes reach further into short targets, where d0 is 0.3-0.7 Å: 0.272 to 0.281 on later
    train chains of <= 30 residues with a spread of 0.6.
    """
    mean = Helix()
    return Helix(
        rise=mean.rise + 0.24 * spread * rng.normal(),
        twist_degrees=mean.twist_degrees + 1.12 * spread * rng.normal(),
        radius=mean.radius + 0.34 * spread * rng.normal(),
        partner_twist_degrees=mean.partner_twist_degrees + 2.0 * spread * rng.normal(),
        partner_rise=mean.partner_rise + 0.4 * spread * rng.normal(),
    )
