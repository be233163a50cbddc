"""Structures beside ViennaRNA's usual ones: by other sets of energies, and by SQUARNA where it is installed.

No set of energies is right for every RNA, so assemblies start from several. On 240 training chains of 40-300 residues
the best of ViennaRNA's structure and four samples agrees with the known pairs at F1 .73, the best of that structure,
the two by other energies and SQUARNA's five at .79. The expected best of five assemblies rises by .014 +- .003, with
the other energies alone by .008 +- .002 (docs/studies/arrangement.md).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest

import numpy as np

from rnafold.features.pair_choice import pairs_across_chains
from rnafold.features.secondary import ENERGIES, fold_by_energies
from rnafold.features.squarna import begin_with_squarna, fold_with_squarna
from rnafold.features.wishes import PairWishes
from rnafold.structure import Alternative, Chain, IntArray, Pairing, whole_chain

# What folds strands joined by & into structures, partners (L,) each.
Folder = Callable[[str], Sequence[IntArray]]


def add_alternatives(
    pairing: Pairing,
    sequence: str,
    chains: Sequence[Chain] | None = None,
    seconds: float = math.inf,
    wishes: PairWishes | None = None,
) -> Pairing:
    """The pairing with further structures, SQUARNA's and those by other energies in turn.

    Chains that the pairing joins are folded together, others alone, alike ones once.

    Args:
        pairing: predicted pairs.
        sequence: (L,) letters ACGU and N, chains concatenated.
        chains: where each chain lies; None means one chain.
        seconds: what SQUARNA may take.
        wishes: pairs that the alternatives must form or must not.
    """
    layout = tuple(chains) if chains else whole_chain(len(sequence))
    share = seconds / len({sequence[chain.start : chain.stop] for chain in layout})
    found = [
        Alternative(partner=partner, source=f"SQUARNA {number}")
        for number, partner in enumerate(
            _fold_chains(partial(fold_with_squarna, seconds=share), pairing, sequence, layout), start=1
        )
    ]
    others = [
        Alternative(partner=partner, source=name)
        for name in ENERGIES
        for partner in _fold_chains(partial(_fold_once, name), pairing, sequence, layout)
    ]
    in_turn = [one for pair in zip_longest(found, others) for one in pair if one is not None]
    if wishes:
        in_turn = [replace(one, partner=wishes.obey(one.partner)) for one in in_turn]
    return replace(pairing, alternatives=tuple(in_turn))


def foresee_alternatives(sequence: str, chains: Sequence[Chain], seconds: float = math.inf) -> None:
    """Lets SQUARNA begin with a sequence for which `add_alternatives` will be asked next, if it is of one chain.

    It runs beside whatever is done meanwhile; nothing else comes of it.
    """
    if len(chains) == 1:
        begin_with_squarna(sequence, seconds)


def _fold_once(energies: str, strands: str) -> Sequence[IntArray]:
    """The structure of strands by a set of energies, if there is one."""
    partner = fold_by_energies(energies, strands)
    return () if partner is None else (partner,)


def _fold_chains(fold: Folder, pairing: Pairing, sequence: str, chains: Sequence[Chain]) -> Sequence[IntArray]:
    """Structures (L,) of all chains, as many as the chain with most has; one without keeps that of the pairing."""
    if pairs_across_chains(pairing.partner, chains):
        return fold("&".join(sequence[chain.start : chain.stop] for chain in chains))
    found = {letters: fold(letters) for letters in dict.fromkeys(sequence[c.start : c.stop] for c in chains)}
    made = []
    for number in range(max(len(structures) for structures in found.values())):
        partner = pairing.partner.copy()
        for chain in chains:
            structures = found[sequence[chain.start : chain.stop]]
            if structures:
                own = structures[min(number, len(structures) - 1)]
                partner[chain.start : chain.stop] = np.where(own >= 0, own + chain.start, -1)
        made.append(partner)
    return made
