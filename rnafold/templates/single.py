"""Candidates of one chain: hybrids on its templates and assemblies from its secondary structures, in turns."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rnafold.assembly import build_model
from rnafold.features.pair_choice import choose_partners
from rnafold.features.secondary import fold_with_bonus
from rnafold.structure import Candidate, Pairing, Target, whole_chain
from rnafold.templates.library import Gate
from rnafold.templates.sources import Ranked, Sources, rank_hits
from rnafold.templates.transfer import build_hybrid, carry_coords, pair_with_template, pair_with_templates

IntArray = npt.NDArray[np.int64]
# Refolding a template's query is cubic in length; beyond this the template's and the predicted pairs are merged.
MAX_REFOLD = 700
TEMPLATES_THAT_VOTE = 8
# What templates' pairs add to an assembly's TM-score on average. Source: later train chains.
INFORMED_GAIN = 0.027


@dataclass(slots=True, kw_only=True)
class Budget:
    """Seconds that a target may use; `spent` is True once they are gone."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    began: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def spent(self) -> bool:
        """True when nothing more should be started."""
        return self.clock() - self.began > self.seconds


def structures_to_assemble(
    sequence: str, pairing: Pairing, sources: Sources, ranked: Sequence[Ranked], count: int
) -> Iterator[tuple[IntArray, str]]:
    """`count` partner arrays and what they are: predicted ones, and the query refolded with templates' pairs.

    Pairs of templates raise the mean TM-score of assemblies from 0.266 to 0.293 (later train chains), so these come
    first after the best predicted structure.
    """
    yield pairing.partner, "best"
    informed = _informed_structures(sequence, pairing, sources, ranked)
    likeliest = choose_partners(pairing.probabilities)
    pool = [*informed, (likeliest, "likeliest"), (pairing.partner, "best")]
    pool += [(sample, f"sample {number}") for number, sample in enumerate(pairing.samples)] + informed[:2]
    for number in range(count - 1):
        yield pool[number % len(pool)]


def _informed_structures(
    sequence: str, pairing: Pairing, sources: Sources, ranked: Sequence[Ranked]
) -> list[tuple[IntArray, str]]:
    """The query's structures given all templates together, and each of the best three."""
    library = sources.library
    distinct: dict[bytes, Ranked] = {}
    for entry in ranked:
        distinct.setdefault(library.tokens[library.chain_rows(entry.hit.chain)].tobytes(), entry)
    best = list(distinct.values())[:TEMPLATES_THAT_VOTE]
    refold = fold_with_bonus if len(sequence) <= MAX_REFOLD else None
    made = []
    if best and refold is not None:
        voted = pair_with_templates(sequence, library, [(entry.hit, entry.expected_tm) for entry in best], refold)
        made.append((voted, "pairs of templates"))
    for entry in best[:3]:
        partner = pair_with_template(sequence, library, entry.hit, pairing.partner, refold)
        made.append((partner, f"pairs of {library.ids[int(library.chain_entry[entry.hit.chain])]}"))
    return made


def build_single(
    target: Target,
    pairing: Pairing,
    sources: Sources,
    gate: Gate | None,
    budget: Budget,
    seed: int,
    counts: tuple[int, int],
    ranked: list[Ranked] | None = None,
) -> list[Candidate]:
    """Candidates of one chain; its hits are searched for unless given."""
    num_templates, num_assemblies = counts
    if ranked is None:
        ranked = rank_hits(sources, target.sequence, pairing, gate) if num_templates and not budget.spent else []
    templates = build_hybrids(target.sequence, pairing, sources, gate, seed, ranked[:num_templates])
    assemblies = build_assemblies(target, pairing, sources, gate, seed, num_assemblies, ranked)
    return alternate(assemblies, templates, budget)


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


def build_hybrids(
    sequence: str, pairing: Pairing, sources: Sources, gate: Gate | None, seed: int, ranked: Sequence[Ranked]
) -> Iterator[Candidate]:
    fragments = sources.fragments(gate)
    refold = fold_with_bonus if len(sequence) <= MAX_REFOLD else None
    chains = whole_chain(len(sequence))
    for number, entry in enumerate(ranked):
        partner = pair_with_template(sequence, sources.library, entry.hit, pairing.partner, refold)
        carried = carry_coords(sources.library, entry.hit)
        coords, grounds = build_hybrid(sequence, chains, carried, partner, fragments, seed + number)
        name = sources.library.ids[int(sources.library.chain_entry[entry.hit.chain])]
        yield Candidate(coords=coords, origin="template", confidence=entry.expected_tm, note=name, grounds=grounds)


def assembly_confidence(length: int) -> float:
    """Mean TM-score of an assembly of `length` residues. Source: later train chains, see benchmarks/templates.py."""
    return float(np.interp(np.log(max(length, 1)), np.log([10, 30, 80, 200, 600]), [0.28, 0.25, 0.33, 0.27, 0.2]))


def build_assemblies(
    target: Target,
    pairing: Pairing,
    sources: Sources,
    gate: Gate | None,
    seed: int,
    count: int,
    ranked: Sequence[Ranked] = (),
) -> Iterator[Candidate]:
    if not count:
        return
    expected = assembly_confidence(target.length)
    structures = structures_to_assemble(target.sequence, pairing, sources, ranked, count)
    for number, (partner, name) in enumerate(structures):
        coords, grounds = build_model(
            target.sequence,
            partner,
            target.chains,
            sources.fragments(gate),
            seed=seed + number,
            temperature=1.0 if number else 0.0,
        )
        gain = INFORMED_GAIN if name.startswith("pairs of") else 0.0
        note = f"{name}, seed {number}"
        yield Candidate(coords=coords, origin="assembly", confidence=expected + gain, note=note, grounds=grounds)
