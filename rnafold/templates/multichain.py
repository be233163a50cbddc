"""Candidates of a target of several chains: on a known complex, as one paired structure, or folded apart and placed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from rnafold.assembly.fill import separate
from rnafold.features.pair_choice import pairs_across_chains
from rnafold.features.secondary import predict_pairing
from rnafold.files.budget import Budget
from rnafold.structure import FILLED, Candidate, Chain, FloatArray, Grounds, IntArray, Pairing, Target
from rnafold.templates.complexes import Assignment, assign_chains, place_copies
from rnafold.templates.single import alternate, build_assemblies, build_single
from rnafold.templates.sources import ModellingTask, rank_hits
from rnafold.templates.transfer import build_hybrid, pair_with_template

# Known complexes of this expected TM-score are tried before chains folded apart, others after two of those.
SURE_COMPLEX = 0.25


def build_complex(task: ModellingTask, budget: Budget, counts: tuple[int, int]) -> list[Candidate]:
    """Candidates of a target of several chains, at most `counts` hybrids a chain and assemblies."""
    across = pairs_across_chains(task.pairing.partner, task.target.chains)
    from_parts = _build_from_parts(task, budget, counts)
    if not across:
        return alternate(from_parts, iter(()), budget)
    return alternate(build_assemblies(task, counts[1]), from_parts, budget)


def _build_from_parts(task: ModellingTask, budget: Budget, counts: tuple[int, int]) -> Iterator[Candidate]:
    """Candidates on known complexes, the sure ones first, and chains folded apart and placed."""
    target, library = task.target, task.sources.library
    sequences = [target.sequence[chain.start : chain.stop] for chain in target.chains]
    singles = {s: task.for_chain(s, _single_pairing(target, task.pairing, s)) for s in dict.fromkeys(sequences)}
    found = {
        sequence: [] if budget.spent else rank_hits(single, budget.left / len(singles))
        for sequence, single in singles.items()
    }
    hits = {sequence: [(entry.hit, entry.expected_tm) for entry in ranked] for sequence, ranked in found.items()}
    allowed = library.allowed(task.gate)
    complexes = assign_chains(library, task.sources.complexes, target.chains, sequences, hits, allowed)
    sure = [assignment for assignment in complexes if assignment.score >= SURE_COMPLEX]
    for assignment in sure:
        yield _from_complex(task, assignment)
    folded: dict[str, list[Candidate]] = {}
    for sequence, single in singles.items():
        # The rest is for placing them: what is never put together is worth nothing.
        share = Budget(seconds=0.6 * budget.left / len(singles))
        made = build_single(single, share, (counts[0], max(2, counts[1] // 2)), found[sequence])
        folded[sequence] = sorted(made, key=lambda candidate: -candidate.confidence)
    for number in range(max(len(made) for made in folded.values())):
        yield _place_parts(target, sequences, folded, number, task.seed)
        if number == 1:
            for assignment in complexes[len(sure) :]:
                yield _from_complex(task, assignment)


def _single_pairing(target: Target, pairing: Pairing, sequence: str) -> Pairing:
    """Pairs of one chain on its own: cut out of the whole's where it pairs with nothing else, else folded again."""
    chain = next(c for c in target.chains if target.sequence[c.start : c.stop] == sequence)
    rows = slice(chain.start, chain.stop)
    inside = pairing.partner[rows]

    def cut(partner: IntArray) -> IntArray:
        part = partner[..., rows]
        return np.where((part >= chain.start) & (part < chain.stop), part - chain.start, -1)

    alternatives = tuple(replace(a, partner=cut(a.partner)) for a in pairing.alternatives)
    if ((inside >= 0) & ((inside < chain.start) | (inside >= chain.stop))).any():
        alone = predict_pairing(sequence, num_samples=max(len(pairing.samples), 1))
        return replace(alone, alternatives=alternatives)
    return Pairing(
        probabilities=pairing.probabilities[rows, rows],
        partner=cut(pairing.partner),
        samples=cut(pairing.samples),
        source=pairing.source,
        alternatives=alternatives,
    )


def _from_complex(task: ModellingTask, assignment: Assignment) -> Candidate:
    """All chains on their places in one known complex; pairs merged, what is missing built around them."""
    target, pairing, library = task.target, task.pairing, task.sources.library
    carried = np.full((target.length, 3), np.nan)
    partner = pairing.partner.copy()
    for chain, hit in zip(target.chains, assignment.hits):
        if hit is None:
            continue
        rows = slice(chain.start, chain.stop)
        carried[rows] = library.carry_coords(hit)
        inside = pairing.partner[rows]
        own = np.where((inside >= chain.start) & (inside < chain.stop), inside - chain.start, -1)
        merged = pair_with_template(target.sequence[rows], library, hit, own, None)
        outside = (inside >= 0) & (own < 0) & (merged < 0)
        partner[rows] = np.where(outside, inside, np.where(merged >= 0, merged + chain.start, -1))
    lost = np.flatnonzero(partner >= 0)
    partner[lost[partner[partner[lost]] != lost]] = -1
    carried, partner = task.release(carried), task.obey(partner)
    coords, grounds = build_hybrid(target.sequence, target.chains, carried, partner, task.fragments, task.seed)
    note = f"complex {assignment.frame}"
    return Candidate(coords=coords, origin="template", confidence=assignment.score, note=note, grounds=grounds)


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
    kinds, deviation = np.full(target.length, FILLED), np.full(target.length, np.nan)
    for (sequence, same), ring, points in zip(copies.items(), rings, moved):
        grounds = picked[sequence].grounds
        for chain, part in zip(same, points.reshape(ring.shape)):
            rows = slice(chain.start, chain.stop)
            coords[rows] = part
            if grounds is not None:
                kinds[rows], deviation[rows] = grounds.kinds, grounds.deviation
    share = sum(candidate.confidence * len(sequence) for sequence, candidate in picked.items()) / target.length
    origins = {candidate.origin for candidate in picked.values()}
    return Candidate(
        coords=coords,
        origin="template" if "template" in origins else "assembly",
        # Folded alone and set side by side: only about one chain's worth of residues can superpose.
        confidence=share / sum(len(same) for same in copies.values()) ** 0.5,
        note=", ".join(dict.fromkeys(candidate.note for candidate in picked.values())) + ", placed",
        grounds=Grounds(kinds=kinds, deviation=deviation),
    )
