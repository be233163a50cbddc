"""Pairs brought together in a finished model: pseudoknots and lone pairs, which no nested assembly can build.

Shape matching (Müller, Heidelberger, Teschner & Gross, ACM Trans. Graph. 24, 471, 2005): stems, and pieces of five
residues of each chain, are shapes; each round superposes every shape on where its residues are, and every residue moves
to where its shapes want it. Shapes are only turned, so that no helix becomes its mirror image on the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnafold import rna
from rnafold.assembly.loops import Pair, stem_residues
from rnafold.assembly.pairs import pairs_from_coords
from rnafold.assembly.settle import settle
from rnafold.geometry import Helix, superpose, transform
from rnafold.structure import BoolArray, FloatArray, IntArray

# Rounds, residues of a piece, and how much more than a piece a stem counts. Source: chosen so that H-type pseudoknots
# of 20 to 60 nt close from assemblies of their first stem; more rounds change nothing that `is_formed` sees.
# A round that moves no residue by STILL Å is the last.
ROUNDS, PIECE, STEM_WEIGHT, STILL = 400, 5, 4.0, 0.005


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """Shapes of one size: residues (n, k), their places (n, k, 3) in Å and what each counts (n,)."""

    residues: IntArray
    places: FloatArray
    weights: FloatArray

    def pull(self, coords: FloatArray, goal: FloatArray, total: FloatArray) -> None:
        """Adds to `goal` (L, 3) where the shapes want their residues, and to `total` (L,) with what weight."""
        wanted = transform(self.places, *superpose(self.places, coords[self.residues]))
        np.add.at(goal, self.residues, wanted * self.weights[:, None, None])
        np.add.at(total, self.residues, np.broadcast_to(self.weights[:, None], self.residues.shape))


def pull_together(
    tokens: IntArray, coords: FloatArray, wished: Sequence[Pair], breaks: BoolArray, rounds: int = ROUNDS
) -> FloatArray:
    """A copy of a model (L, 3) in Å in which wished pairs lie as in a helix, the rest bent as little as that takes.

    Pairs of the model that share no residue with a wished one stay. Bonds and clashes are settled at the end; a wish
    that the chain cannot meet is left as near as it gets.

    Args:
        tokens: (L,) letters.
        coords: (L, 3) in Å, all finite.
        wished: pairs (i, j), i < j, no residue twice.
        breaks: (L - 1,) True where i and i + 1 are no neighbours in a chain.
        rounds: of shape matching.
    """
    partner = pairs_from_coords(tokens, coords)
    for k in [k for pair in wished for k in (*pair, *(int(partner[x]) for x in pair))]:
        if k >= 0:
            partner[k] = -1
    asked = np.full(len(tokens), -1, dtype=np.int64)
    for i, j in wished:
        asked[i], asked[j] = j, i
    groups = [*_stems(asked, None), *_stems(partner, coords), *_pieces(coords, breaks, asked)]
    moved = coords.copy()
    for _ in range(rounds):
        goal, total = np.zeros_like(moved), np.zeros(len(moved))
        for group in groups:
            group.pull(moved, goal, total)
        before, moved = moved, np.where(total[:, None] > 0, goal / np.maximum(total, 1e-9)[:, None], moved)
        if np.abs(moved - before).max() < STILL:
            break
    return settle(moved, np.ones(len(tokens), dtype=np.bool_), breaks)


def _stems(partner: IntArray, coords: FloatArray | None) -> list[_Shapes]:
    """The stems of a pairing, each in the shape that it has in a model, or that of the mean helix."""
    shapes = []
    for stem in rna.find_stems(partner):
        residues = stem_residues(stem)
        places = Helix().build(stem[2]) if coords is None else coords[residues]
        shapes.append(_Shapes(residues[None], places[None], np.array([STEM_WEIGHT])))
    return shapes


def _pieces(coords: FloatArray, breaks: BoolArray, asked: IntArray) -> list[_Shapes]:
    """All stretches of PIECE residues of a chain but those that lie whole in a wished strand."""
    size = min(PIECE, len(coords))
    starts = np.arange(len(coords) - size + 1)
    residues = starts[:, None] + np.arange(size)
    broken = np.concatenate([[0], np.cumsum(breaks)])
    whole = broken[residues[:, -1]] == broken[residues[:, 0]]
    kept = residues[whole & ~(asked[residues] >= 0).all(1)]
    return [_Shapes(kept, coords[kept], np.ones(len(kept)))] if len(kept) else []
