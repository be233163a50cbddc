"""A user's wishes about pairs: models pulled together to meet them, chosen by them, and what they leave unmet."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from rnafold import rna
from rnafold.assembly.pairs import pairs_from_coords
from rnafold.assembly.pull import pull_together
from rnafold.features.wishes import PairWishes, is_formed
from rnafold.prediction.slots import NUM_SLOTS
from rnafold.structure import STEM, Candidate, FloatArray, Grounds, Target, crossing_chains

log = logging.getLogger(__name__)
# Candidates that are pulled together at most: two for each of the five places.
_PULLED: Final = 2 * NUM_SLOTS


def meet_wishes(target: Target, candidates: Sequence[Candidate], wishes: PairWishes) -> list[Candidate]:
    """The candidates, the best of them pulled together where wished pairs are apart (pseudoknots, lone pairs).

    A pulled model stands in for its candidate where it meets more wishes.
    """
    if not wishes.formed:
        return list(candidates)
    tokens, breaks = rna.encode_sequence(target.sequence), crossing_chains(target.chains, target.length)
    found = list(candidates)
    for k in sorted(range(len(found)), key=lambda k: -found[k].confidence)[:_PULLED]:
        if all(is_formed(found[k].coords, pair) for pair in wishes.formed):
            continue
        coords = pull_together(tokens, found[k].coords, wishes.formed, breaks)
        if len(list_unmet(target, coords, wishes)) < len(list_unmet(target, found[k].coords, wishes)):
            note = f"{found[k].note}, wished pairs pulled together".lstrip(", ")
            found[k] = replace(found[k], coords=coords, note=note, grounds=_ground(found[k].grounds, wishes))
    return found


def _ground(grounds: Grounds | None, wishes: PairWishes) -> Grounds | None:
    """What a pulled model rests on: residues of wished pairs on ideal stems."""
    if grounds is None:
        return None
    kinds, deviation = grounds.kinds.copy(), grounds.deviation.copy()
    paired = [k for pair in wishes.formed for k in pair]
    kinds[paired], deviation[paired] = STEM, np.nan
    return Grounds(kinds=kinds, deviation=deviation)


def keep_obedient(target: Target, candidates: Sequence[Candidate], wishes: PairWishes) -> list[Candidate]:
    """The candidates that meet most of the wishes, at least five where there are as many."""
    if not wishes:
        return list(candidates)
    counts = [len(list_unmet(target, candidate.coords, wishes)) for candidate in candidates]
    limit = sorted(counts)[min(NUM_SLOTS, len(counts)) - 1]
    return [candidate for candidate, count in zip(candidates, counts) if count <= limit]


def list_unmet(target: Target, coords: FloatArray, wishes: PairWishes) -> list[str]:
    """The wishes that a model (L, 3) does not meet, in words, positions from 1 over all chains."""
    if not wishes:
        return []
    partner = pairs_from_coords(rna.encode_sequence(target.sequence), coords)
    letters = target.sequence
    unmet = [
        f"{letters[i]}{i + 1} and {letters[j]}{j + 1} do not pair"
        for i, j in wishes.formed
        if not is_formed(coords, (i, j))
    ]
    unmet += [f"{letters[i]}{i + 1} and {letters[j]}{j + 1} pair" for i, j in wishes.forbidden if partner[i] == j]
    return unmet + [
        f"{letters[i]}{i + 1} pairs with {letters[partner[i]]}{partner[i] + 1}"
        for i in wishes.unpaired
        if partner[i] >= 0
    ]


def check_wishes(targets: Sequence[Target], wishes: Mapping[str, PairWishes]) -> None:
    """Warns of wishes that no model can meet: loops too short to close, pairs that are not canonical.

    Nothing is refused: what can be met of the rest is.
    """
    matrix = rna.canonical_pair_matrix()
    for target in targets:
        tokens = rna.encode_sequence(target.sequence)
        for i, j in wishes.get(target.target_id, PairWishes()).formed:
            same = any(chain.start <= i and j < chain.stop for chain in target.chains)
            if same and j - i <= 3:
                log.warning("%s: positions %d and %d are too near to pair", target.target_id, i + 1, j + 1)
            elif not matrix[tokens[i], tokens[j]]:
                pair = f"{target.sequence[i]}{i + 1} and {target.sequence[j]}{j + 1}"
                log.warning(
                    "%s: %s make no canonical pair; the models are built as if they did", target.target_id, pair
                )
