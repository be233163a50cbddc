"""Candidates of one chain: hybrids on its templates and assemblies from its secondary structures, in turns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from rnafold.assembly import build_model
from rnafold.features.pair_choice import choose_partners
from rnafold.features.secondary import fold_with_bonus
from rnafold.files.budget import Budget
from rnafold.structure import Candidate, IntArray, whole_chain
from rnafold.templates.sources import ModellingTask, Ranked, rank_hits
from rnafold.templates.transfer import Refold, build_hybrid, pair_with_template, pair_with_templates

# Refolding a template's query is cubic in length; beyond this the template's and the predicted pairs are merged.
MAX_REFOLD = 700
TEMPLATES_THAT_VOTE = 8
# So many samples are assembled: with more, each structure gets one assembly of 24 instead of two.
MOST_SAMPLES = 4
# What templates' pairs add to an assembly's TM-score on average. Source: later train chains.
INFORMED_GAIN = 0.027


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SecondaryStructure:
    """Partners (L,) to assemble, what they are, and whether templates had a say in them."""

    partner: IntArray
    name: str
    informed: bool = False


def structures_to_assemble(task: ModellingTask, ranked: Sequence[Ranked], count: int) -> Iterator[SecondaryStructure]:
    """`count` structures: predicted ones, and the query refolded with templates' pairs.

    Pairs of templates raise the mean TM-score of assemblies from 0.266 to 0.293 (later train chains), so these come
    first after the best predicted structure. Then those by other energies and another program take turns with the
    samples.
    """
    pairing = task.pairing
    best = SecondaryStructure(partner=pairing.partner, name="best")
    yield best
    informed = _informed_structures(task, ranked)
    predicted = [SecondaryStructure(partner=choose_partners(pairing.probabilities), name="likeliest"), best]
    samples = pairing.samples[:MOST_SAMPLES]
    predicted += [SecondaryStructure(partner=sample, name=f"sample {k}") for k, sample in enumerate(samples)]
    others = [SecondaryStructure(partner=a.partner, name=a.source) for a in pairing.alternatives]
    in_turn = (one for pair in zip_longest(others, predicted) for one in pair if one is not None)
    pool = [*informed, *in_turn, *informed[:2]]
    for number in range(count - 1):
        yield pool[number % len(pool)]


def _informed_structures(task: ModellingTask, ranked: Sequence[Ranked]) -> list[SecondaryStructure]:
    """The query's structures given all templates together, and each of the best three."""
    sequence, library = task.target.sequence, task.sources.library
    distinct: dict[bytes, Ranked] = {}
    for entry in ranked:
        distinct.setdefault(library.tokens[library.chain_rows(entry.hit.chain)].tobytes(), entry)
    best = list(distinct.values())[:TEMPLATES_THAT_VOTE]
    refold = choose_refold(sequence)
    made = []
    if best and refold is not None:
        voted = pair_with_templates(sequence, library, [(entry.hit, entry.expected_tm) for entry in best], refold)
        made.append(SecondaryStructure(partner=voted, name="pairs of templates", informed=True))
    for entry in best[:3]:
        partner = pair_with_template(sequence, library, entry.hit, task.pairing.partner, refold)
        name = f"pairs of {library.chain_id(entry.hit.chain)}"
        made.append(SecondaryStructure(partner=partner, name=name, informed=True))
    return made


def choose_refold(sequence: str) -> Refold | None:
    """What folds a query anew around a template's pairs; None for one so long that pairs are merged instead."""
    return fold_with_bonus if len(sequence) <= MAX_REFOLD else None


def build_single(
    task: ModellingTask, budget: Budget, counts: tuple[int, int], ranked: Sequence[Ranked] | None = None
) -> list[Candidate]:
    """Candidates of one chain, at most `counts` hybrids and assemblies; its hits are searched for unless given."""
    num_templates, num_assemblies = counts
    if ranked is None:
        ranked = rank_hits(task, budget.left) if num_templates and not budget.spent else []
    hybrids = build_hybrids(task, ranked[:num_templates])
    return alternate(build_assemblies(task, num_assemblies, ranked), hybrids, budget)


def alternate(first: Iterator[Candidate], second: Iterator[Candidate], budget: Budget) -> list[Candidate]:
    """One of each in turn until both end or the time is spent; the first one is always made."""
    made: list[Candidate] = []
    sources = [first, second]
    while sources:
        for source in list(sources):
            if made and budget.spent:
                return made
            candidate = next(source, None)
            if candidate is None:
                sources.remove(source)
            else:
                made.append(candidate)
    return made


def build_hybrids(task: ModellingTask, ranked: Sequence[Ranked]) -> Iterator[Candidate]:
    """One candidate a hit: its atoms carried over, the rest built around them."""
    sequence, library = task.target.sequence, task.sources.library
    refold = choose_refold(sequence)
    chains = whole_chain(len(sequence))
    for number, entry in enumerate(ranked):
        partner = pair_with_template(sequence, library, entry.hit, task.pairing.partner, refold)
        carried = task.release(library.carry_coords(entry.hit))
        partner, seed = task.obey(partner), task.seed + number
        coords, grounds = build_hybrid(sequence, chains, carried, partner, task.fragments, seed)
        name = library.chain_id(entry.hit.chain)
        yield Candidate(coords=coords, origin="template", confidence=entry.expected_tm, note=name, grounds=grounds)


def assembly_confidence(length: int) -> float:
    """Mean TM-score of an assembly of `length` residues. Source: later train chains, see benchmarks/templates.py."""
    return float(np.interp(np.log(max(length, 1)), np.log([10, 30, 80, 200, 600]), [0.28, 0.25, 0.33, 0.27, 0.2]))


def build_assemblies(task: ModellingTask, count: int, ranked: Sequence[Ranked] = ()) -> Iterator[Candidate]:
    """`count` candidates from secondary structures alone, the first as its fragments fit best, the others freer."""
    if not count:
        return
    target = task.target
    expected = assembly_confidence(target.length)
    for number, structure in enumerate(structures_to_assemble(task, ranked, count)):
        coords, grounds = build_model(
            target.sequence,
            task.obey(structure.partner),
            target.chains,
            task.fragments,
            seed=task.seed + number,
            temperature=1.0 if number else 0.0,
        )
        yield Candidate(
            coords=coords,
            origin="assembly",
            confidence=expected + (INFORMED_GAIN if structure.informed else 0.0),
            note=f"{structure.name}, seed {number}",
            grounds=grounds,
        )
