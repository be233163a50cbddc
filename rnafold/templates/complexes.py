"""Complexes: which library chains stand together for a target, and how copies are placed without a template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rnafold.assembly.grid import count_clashes
from rnafold.structure import BoolArray, Chain, FloatArray
from rnafold.templates.alignment import Hit
from rnafold.templates.library import TemplateLibrary

CONTACT_DISTANCE = 8.0
# A chain counts as found in a complex from this expected TM-score on.
LEAST_EXPECTED = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assignment:
    """One known complex for a target: for each target chain a hit on one of its chains, None where it has none.

    `frame` names the structure; `score` is the sum of the hits' expected TM-scores weighted by chain length.
    """

    frame: str
    hits: tuple[Hit | None, ...]
    score: float


def group_complexes(library: TemplateLibrary) -> dict[str, list[int]]:
    """Chains by the structure whose coordinate frame they share."""
    groups: dict[str, list[int]] = {}
    for chain in range(library.num_chains):
        groups.setdefault(library.frames[int(library.chain_entry[chain])], []).append(chain)
    return groups


def assign_chains(
    library: TemplateLibrary,
    complexes: Mapping[str, Sequence[int]],
    chains: Sequence[Chain],
    sequences: Sequence[str],
    hits: Mapping[str, Sequence[tuple[Hit, float]]],
    allowed: BoolArray,
    top: int = 5,
) -> list[Assignment]:
    """The known structures that cover at least two of the target's chains, best first.

    Args:
        library: where the chains are.
        complexes: of `group_complexes`.
        chains: of the target.
        sequences: of each of `chains`.
        hits: for each different sequence its hits and their expected TM-scores.
        allowed: (library chains,) what the target's gate lets through.
        top: how many to return.
    """
    best: dict[str, dict[tuple[str, bytes], tuple[Hit, float]]] = {}
    for sequence, found in hits.items():
        for hit, expected in found:
            if expected < LEAST_EXPECTED:
                continue
            frame = library.frames[int(library.chain_entry[hit.chain])]
            content = library.tokens[library.chain_rows(hit.chain)].tobytes()
            rows = best.setdefault(frame, {})
            if (sequence, content) not in rows or rows[sequence, content][1] < expected:
                rows[sequence, content] = hit, expected
    total = sum(len(sequence) for sequence in sequences)
    assignments = []
    for frame, rows in best.items():
        members = [chain for chain in complexes.get(frame, []) if allowed[chain]]
        if len(members) < 2:
            continue
        free = {chain: library.tokens[library.chain_rows(chain)].tobytes() for chain in members}
        given: list[Hit | None] = []
        score = 0.0
        for sequence in sequences:
            options = [
                (rows[sequence, content][1], chain) for chain, content in free.items() if (sequence, content) in rows
            ]
            if not options:
                given.append(None)
                continue
            expected, chain = max(options, key=lambda option: (option[0], -option[1]))
            given.append(replace(rows[sequence, free.pop(chain)][0], chain=chain))
            score += expected * len(sequence) / total
        if sum(hit is not None for hit in given) >= 2:
            assignments.append(Assignment(frame=frame, hits=tuple(given), score=score))
    return sorted(assignments, key=lambda assignment: -assignment.score)[:top]


def place_copies(points: FloatArray, count: int, rng: np.random.Generator, gap: float = CONTACT_DISTANCE) -> FloatArray:
    """(count, L, 3) copies of points (L, 3) around an axis (cyclic symmetry), turned at random, just not touching.

    Of six orientations the one that packs closest is kept.
    """
    centred = points - points.mean(0)
    if count == 1:
        return points[None].copy()
    best: FloatArray = np.zeros((count, *points.shape))
    tightest = np.inf
    for _ in range(6):
        turn, upper = np.linalg.qr(rng.normal(size=(3, 3)))
        turn = turn * np.sign(np.diag(upper))
        turn[:, 0] *= np.sign(np.linalg.det(turn))
        turned = centred @ turn.T
        low, high = 0.0, float(np.linalg.norm(centred, axis=1).max()) * 2 / max(np.sin(np.pi / count), 0.1) + gap
        for _ in range(12):
            radius = 0.5 * (low + high)
            ring = _ring(turned, count, radius)
            touching = any(count_clashes(ring[0], ring[k], gap) for k in {1, count // 2})
            low, high = (radius, high) if touching else (low, radius)
        if high < tightest:
            best, tightest = _ring(turned, count, high), high
    return best


def _ring(points: FloatArray, count: int, radius: float) -> FloatArray:
    angle = 2 * np.pi * np.arange(count) / count
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros(count), np.ones(count)
    rotation = np.stack(
        [np.stack([cos, -sin, zero], 1), np.stack([sin, cos, zero], 1), np.stack([zero, zero, one], 1)], 1
    )
    return np.asarray((points + [radius, 0.0, 0.0]) @ np.swapaxes(rotation, 1, 2), dtype=np.float64)
