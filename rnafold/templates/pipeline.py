"""All candidates of a target that need no network: hybrids on templates, assemblies from secondary structure.

Candidates are made in turns (best template, first assembly, next template, ..), so that whatever time there is, both
kinds are there. Chains of a complex are searched one by one and put together from a known complex where one covers
them, otherwise folded once each and placed without clashes.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rnafold.assembly import assemble
from rnafold.assembly.fill import separate
from rnafold.assembly.fragments import FragmentLibrary
from rnafold.features.pair_choice import choose_partners
from rnafold.features.secondary import fold_with_bonus, predict_pairing
from rnafold.structure import Candidate, Chain, FloatArray, Pairing, Target, Template, whole_chain
from rnafold.templates.complexes import Assignment, assign_chains, group_complexes, place_copies
from rnafold.templates.library import Gate, TemplateLibrary, gate_for
from rnafold.templates.ranker import Ranker, measure_features
from rnafold.templates.search import Hit, LibraryIndex, search_chain
from rnafold.templates.transfer import build_hybrid, carry_coords, pair_with_template, pair_with_templates

IntArray = npt.NDArray[np.int64]
# Refolding a template's query is cubic in length; beyond this the template's and the predicted pairs are merged.
MAX_REFOLD = 700
HITS_OF_EACH_SETTING = 25
ALIGNMENTS_OF_A_SEQUENCE = 2
TEMPLATES_THAT_VOTE = 8
# What templates' pairs add to an assembly's TM-score on average. Source: later train chains.
INFORMED_GAIN = 0.027


class Sources:
    """What candidates are made from, built once a run: the library with its index and loops, the two learned models."""

    def __init__(self, library: TemplateLibrary, ranker: Ranker | None, jury: Ranker | None = None) -> None:
        self.library, self.ranker, self.jury = library, ranker, jury
        self.index = LibraryIndex(library)
        self.complexes = group_complexes(library)
        self._fragments = library.build_fragments()
        self._gated = functools.lru_cache(maxsize=4)(self._restrict)

    def _restrict(self, gate: Gate) -> FragmentLibrary:
        return self._fragments.restrict(gate.before, gate.codes, gate.groups)

    def fragments(self, gate: Gate | None) -> FragmentLibrary:
        """The loops that the gate lets a target see."""
        return self._fragments if gate is None else self._gated(gate)

    def usable_ranker(self, gate: Gate | None) -> Ranker | None:
        """The ranker, or None where its own training saw structures that the gate hides."""
        return self.ranker if _was_trained_behind(self.ranker, gate) else None

    def usable_jury(self, gate: Gate | None) -> Ranker | None:
        """The jury for `slots.pick_five`, or None where its own training saw structures that the gate hides."""
        return self.jury if _was_trained_behind(self.jury, gate) else None


def _was_trained_behind(model: Ranker | None, gate: Gate | None) -> bool:
    return model is not None and (gate is None or gate.before is None or model.trained_before <= gate.before)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """A hit of one chain with the TM-score that its hybrid is expected to reach."""

    hit: Hit
    expected_tm: float


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


def rank_hits(sources: Sources, sequence: str, pairing: Pairing, gate: Gate | None) -> list[Ranked]:
    """Hits of one chain, best expected TM-score first: up to two alignments of each different library sequence."""
    hits = search_chain(sources.index, sequence, pairing.probabilities, gate, HITS_OF_EACH_SETTING)
    features = measure_features(sources.library, hits, sequence, pairing.probabilities, pairing.partner)
    ranker = sources.usable_ranker(gate)
    if ranker is not None:
        expected = ranker.predict(features)
    else:  # the score of a perfect match is about 1: as good an order, a worse confidence
        expected = np.clip(0.7 * np.array([hit.score for hit in hits]), 0.02, 0.9)
    ranked: list[Ranked] = []
    seen: dict[bytes, list[bytes]] = {}
    for row in np.argsort(-expected, kind="stable"):
        content = sources.library.tokens[sources.library.chain_rows(hits[row].chain)].tobytes()
        mappings = seen.setdefault(content, [])
        mapping = hits[row].mapping.tobytes()
        if len(mappings) < ALIGNMENTS_OF_A_SEQUENCE and mapping not in mappings:
            mappings.append(mapping)
            ranked.append(Ranked(hit=hits[row], expected_tm=float(expected[row])))
    return ranked


def describe_template(library: TemplateLibrary, ranked: Ranked, tokens: IntArray) -> Template:
    """A ranked hit as a Template: coordinates carried over, identity and coverage, date."""
    hit = ranked.hit
    coords = carry_coords(library, hit)
    aligned = hit.mapping >= 0
    same = tokens[aligned] == library.tokens[library.chain_rows(hit.chain)][hit.mapping[aligned]]
    return Template(
        template_id=library.ids[int(library.chain_entry[hit.chain])],
        coords=coords,
        identity=float(same.mean()) if aligned.any() else 0.0,
        coverage=float(np.isfinite(coords).all(1).mean()),
        released=library.chain_date(hit.chain),
        score=hit.score,
        expected_tm=ranked.expected_tm,
    )


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


def build_candidates(
    target: Target,
    pairing: Pairing,
    sources: Sources,
    gate: Gate | None,
    *,
    budget_seconds: float = 1e9,
    seed: int = 0,
    num_templates: int = 12,
    num_assemblies: int = 24,
) -> list[Candidate]:
    """Hybrids and assemblies of a target, whatever is done within the budget; at least one candidate.

    Args:
        target: sequence, chains.
        pairing: predicted pairs of the whole target.
        sources: library, loops, ranker.
        gate: what the target may see (`gate_for`); None switches every gate off, which leaks.
        budget_seconds: no candidate is started later than this.
        seed: of the assemblies.
        num_templates: most hybrids.
        num_assemblies: most assemblies.
    """
    budget = Budget(seconds=budget_seconds)
    if len(target.chains) > 1:
        return _build_complex(target, pairing, sources, gate, budget, seed, (num_templates, num_assemblies))
    return _build_single(target, pairing, sources, gate, budget, seed, (num_templates, num_assemblies))


def _build_single(
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
    templates = _hybrids(target.sequence, pairing, sources, gate, seed, ranked[:num_templates])
    assemblies = _assemblies(target, pairing, sources, gate, seed, num_assemblies, ranked)
    return _alternate(assemblies, templates, budget)


def _alternate(first: Iterator[Candidate], second: Iterator[Candidate], budget: Budget) -> list[Candidate]:
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


def _hybrids(
    sequence: str, pairing: Pairing, sources: Sources, gate: Gate | None, seed: int, ranked: Sequence[Ranked]
) -> Iterator[Candidate]:
    fragments = sources.fragments(gate)
    refold = fold_with_bonus if len(sequence) <= MAX_REFOLD else None
    chains = whole_chain(len(sequence))
    for number, entry in enumerate(ranked):
        partner = pair_with_template(sequence, sources.library, entry.hit, pairing.partner, refold)
        carried = carry_coords(sources.library, entry.hit)
        coords = build_hybrid(sequence, chains, carried, partner, fragments, seed + number)
        name = sources.library.ids[int(sources.library.chain_entry[entry.hit.chain])]
        yield Candidate(coords=coords, origin="template", confidence=entry.expected_tm, note=name)


def assembly_confidence(length: int) -> float:
    """Mean TM-score of an assembly of `length` residues. Source: later train chains, see benchmarks/templates.py."""
    return float(np.interp(np.log(max(length, 1)), np.log([10, 30, 80, 200, 600]), [0.28, 0.25, 0.33, 0.27, 0.2]))


def _assemblies(
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
        coords = assemble(
            target.sequence,
            partner,
            target.chains,
            sources.fragments(gate),
            seed=seed + number,
            temperature=1.0 if number else 0.0,
        )
        gain = INFORMED_GAIN if name.startswith("pairs of") else 0.0
        yield Candidate(coords=coords, origin="assembly", confidence=expected + gain, note=f"{name}, seed {number}")


def _build_complex(
    target: Target,
    pairing: Pairing,
    sources: Sources,
    gate: Gate | None,
    budget: Budget,
    seed: int,
    counts: tuple[int, int],
) -> list[Candidate]:
    """Candidates of a target of several chains."""
    num_templates, num_assemblies = counts
    sequences = [target.sequence[chain.start : chain.stop] for chain in target.chains]
    across = pairs_across_chains(pairing.partner, target.chains)
    whole = _assemblies(target, pairing, sources, gate, seed, num_assemblies if across else 0)
    folded: dict[str, list[Candidate]] = {}
    found: dict[str, list[Ranked]] = {}

    def from_parts() -> Iterator[Candidate]:
        singles = {sequence: _single_pairing(target, pairing, sequence) for sequence in dict.fromkeys(sequences)}
        for sequence, single in singles.items():
            found[sequence] = [] if budget.spent else rank_hits(sources, sequence, single, gate)
        hits = {sequence: [(entry.hit, entry.expected_tm) for entry in ranked] for sequence, ranked in found.items()}
        for assignment in assign_chains(sources.library, sources.complexes, target.chains, sequences, hits):
            yield _from_complex(target, pairing, sources, gate, assignment, seed)
        for sequence, single in singles.items():
            alone = Target(target_id=target.target_id, sequence=sequence, chains=whole_chain(len(sequence)))
            share = Budget(seconds=max(0.0, budget.seconds - (budget.clock() - budget.began)) / len(singles))
            parts = (num_templates, max(2, num_assemblies // 2))
            made = _build_single(alone, single, sources, gate, share, seed, parts, found[sequence])
            folded[sequence] = sorted(made, key=lambda candidate: -candidate.confidence)
        most = max(len(made) for made in folded.values())
        for number in range(most):
            yield _place_parts(target, sequences, folded, number, seed)

    if not across:
        return _alternate(from_parts(), iter(()), budget)
    return _alternate(whole, from_parts(), budget)


def pairs_across_chains(partner: IntArray, chains: Sequence[Chain]) -> int:
    """How many pairs join two chains."""
    owner = np.zeros(len(partner), dtype=np.int64)
    for number, chain in enumerate(chains):
        owner[chain.start : chain.stop] = number
    paired = np.flatnonzero(partner > np.arange(len(partner)))
    return int((owner[paired] != owner[partner[paired]]).sum())


def _single_pairing(target: Target, pairing: Pairing, sequence: str) -> Pairing:
    """Pairs of one chain on its own: cut out of the whole's where it pairs with nothing else, else folded again."""
    chain = next(c for c in target.chains if target.sequence[c.start : c.stop] == sequence)
    rows = slice(chain.start, chain.stop)
    inside = pairing.partner[rows]
    if ((inside >= 0) & ((inside < chain.start) | (inside >= chain.stop))).any():
        return predict_pairing(sequence, num_samples=max(len(pairing.samples), 1))

    def cut(partner: IntArray) -> IntArray:
        part = partner[..., rows]
        return np.where((part >= chain.start) & (part < chain.stop), part - chain.start, -1)

    return Pairing(
        probabilities=pairing.probabilities[rows, rows],
        partner=cut(pairing.partner),
        samples=cut(pairing.samples),
        source=pairing.source,
    )


def _from_complex(
    target: Target, pairing: Pairing, sources: Sources, gate: Gate | None, assignment: Assignment, seed: int
) -> Candidate:
    """All chains on their places in one known complex; pairs merged, what is missing built around them."""
    carried = np.full((target.length, 3), np.nan)
    partner = pairing.partner.copy()
    for chain, hit in zip(target.chains, assignment.hits):
        if hit is None:
            continue
        rows = slice(chain.start, chain.stop)
        carried[rows] = carry_coords(sources.library, hit)
        inside = pairing.partner[rows]
        own = np.where((inside >= chain.start) & (inside < chain.stop), inside - chain.start, -1)
        merged = pair_with_template(target.sequence[rows], sources.library, hit, own, None)
        outside = (inside >= 0) & (own < 0) & (merged < 0)
        partner[rows] = np.where(outside, inside, np.where(merged >= 0, merged + chain.start, -1))
    lost = np.flatnonzero(partner >= 0)
    partner[lost[partner[partner[lost]] != lost]] = -1
    coords = build_hybrid(target.sequence, target.chains, carried, partner, sources.fragments(gate), seed)
    return Candidate(coords=coords, origin="template", confidence=assignment.score, note=f"complex {assignment.code}")


def _place_parts(
    target: Target, sequences: Sequence[str], folded: dict[str, list[Candidate]], number: int, seed: int
) -> Candidate:
    """The number-th fold of each chain; copies in a ring, different chains beside each other."""
    rng = np.random.default_rng([seed, number])
    copies: dict[str, list[Chain]] = {}
    for chain, sequence in zip(target.chains, sequences):
        copies.setdefault(sequence, []).append(chain)
    picked = {sequence: made[min(number, len(made) - 1)] for sequence, made in folded.items()}
    rings = [place_copies(picked[sequence].coords, len(same), rng) for sequence, same in copies.items()]
    moved = separate([ring.reshape(-1, 3) for ring in rings], seed=seed + number)
    coords: FloatArray = np.zeros((target.length, 3))
    for same, ring, points in zip(copies.values(), rings, moved):
        for chain, part in zip(same, points.reshape(ring.shape)):
            coords[chain.start : chain.stop] = part
    share = sum(candidate.confidence * len(sequence) for sequence, candidate in picked.items()) / target.length
    origins = {candidate.origin for candidate in picked.values()}
    return Candidate(
        coords=coords,
        origin="template" if "template" in origins else "assembly",
        # Folded alone and set side by side: only about one chain's worth of residues can superpose.
        confidence=share / sum(len(same) for same in copies.values()) ** 0.5,
        note=", ".join(dict.fromkeys(candidate.note for candidate in picked.values())) + ", placed",
    )


__all__ = ["Budget", "Sources", "build_candidates", "describe_template", "gate_for", "rank_hits"]
