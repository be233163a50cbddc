"""Residues that no stem and no fragment placed: arcs over gaps, helical tails, and chains set beside each other."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from rnafold.assembly.curves import draw_arc, rotate
from rnafold.assembly.grid import cell_keys, count_clashes
from rnafold.geometry import build_helix, superpose, transform
from rnafold.structure import FloatArray, IntArray

TAIL_CHUNK = 12


def _best_arc(coords: FloatArray, start: int, stop: int, outward: FloatArray) -> FloatArray:
    """The arc over residues start < i < stop with the fewest clashes among eight directions around the chord."""
    count = stop - start - 1
    first, last = coords[start], coords[stop]
    placed = coords[np.isfinite(coords).all(1)]
    best, fewest = draw_arc(first, last, count, outward), None
    for turn in range(8):
        arc = rotate(draw_arc(first, last, count, outward), last - first, turn * np.pi / 4, first)
        clashes = count_clashes(arc, placed, 5.0)
        if fewest is None or clashes < fewest:
            best, fewest = arc, clashes
        if clashes <= 2:  # the two ends themselves
            break
    return best


def _grow_chunk(known: FloatArray, count: int, placed: FloatArray, rng: np.random.Generator, first: bool) -> FloatArray:
    """(count, 3) residues that continue `known` (K, 3), nearest last: a helical strand, kinked where it would clash."""
    strand = build_helix(len(known) + count)[0]
    if len(known) >= 3:
        moved = transform(strand, *superpose(strand[: len(known)], known))
        moved = moved + (known[-1] - moved[len(known) - 1])
    else:
        moved = strand + (known[-1] - strand[len(known) - 1])
    ahead = moved[len(known) :]
    best: FloatArray = ahead
    lowest = np.inf
    centre = placed.mean(0)
    for attempt in range(8):
        trial = ahead
        if attempt or not first:
            trial = rotate(ahead, rng.normal(size=3), float(rng.normal() * 0.9), known[-1])
        # Beyond the first chunk, coming back towards the rest keeps long unpaired stretches compact.
        cost = 3.0 * count_clashes(trial[1:], placed)
        cost += 0.0 if first else 0.05 * float(np.linalg.norm(trial[-1] - centre))
        if cost < lowest:
            best, lowest = trial, cost
        if first and not cost:
            break
    return best


def _grow_tail(coords: FloatArray, order: Sequence[int], known: Sequence[int], rng: np.random.Generator) -> None:
    """Place the residues `order` (nearest first) in place, continuing the placed residues `known` (nearest last)."""
    trail = list(known)
    for start in range(0, len(order), TAIL_CHUNK):
        chunk = list(order[start : start + TAIL_CHUNK])
        placed = coords[np.isfinite(coords).all(1)]
        coords[chunk] = _grow_chunk(coords[trail[-4:]], len(chunk), placed, rng, start == 0)
        trail += chunk


def fill_chain(coords: FloatArray, seed: int = 0) -> FloatArray:
    """A copy of one chain's coords (L, 3) in which every NaN row is filled.

    Gaps become arcs that bulge away from the middle of the placed residues, tails continue as an A-form strand. With
    nothing placed, the whole chain is such a strand, kinked every 12 residues once it is longer.
    """
    filled = coords.copy()
    length = len(filled)
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(np.isfinite(filled).all(1))
    if not len(known):
        filled[: min(TAIL_CHUNK, length)] = build_helix(min(TAIL_CHUNK, length))[0]
        known = np.arange(min(TAIL_CHUNK, length))
    centre = filled[known].mean(0)
    for a, b in pairwise(known):
        if b - a > 1:
            filled[a + 1 : b] = _best_arc(filled, int(a), int(b), 0.5 * (filled[a] + filled[b]) - centre)
    first, last = int(known[0]), int(known[-1])
    if last < length - 1:
        _grow_tail(filled, range(last + 1, length), range(max(first, last - 3), last + 1), rng)
    if first > 0:
        # Backwards the strand's mirror order is still the same helix: a right-handed helix read from its other end.
        _grow_tail(filled, range(first - 1, -1, -1), range(min(first + 3, length - 1), first - 1, -1), rng)
    return filled


def _any_in(keys: IntArray, ordered: IntArray) -> bool:
    """Is any of the keys among the ordered ones? (np.isin sorts both again at every call.)"""
    at = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    return bool((ordered[at] == keys).any())


def separate(groups: Sequence[FloatArray], gap: float = 8.0, seed: int = 0, most: int = 24) -> list[FloatArray]:
    """Groups of points moved apart, without rotation, until no two residues of different groups are nearer than `gap`.

    The first stays; each next one starts on the middle of those before and moves out along the direction, of `most`
    drawn at random, that frees it soonest. Whether it is free is asked of a grid of cubes, so it may end up to twice
    the gap away.
    """
    rng = np.random.default_rng(seed)
    done: list[FloatArray] = []
    for points in groups:
        if not done:
            done.append(points)
            continue
        placed = np.vstack(done)
        taken = np.sort(cell_keys(placed, gap, neighbours=True))
        start = points - points.mean(0) + placed.mean(0)
        best, shortest = start, np.inf
        for direction in rng.normal(size=(most, 3)):
            unit = direction / np.linalg.norm(direction)
            shift = 0.0
            while shift < shortest and _any_in(cell_keys(start + shift * unit, gap), taken):
                shift += 4.0
            if shift < shortest:
                best, shortest = start + shift * unit, shift
        done.append(best)
    return done
