"""All candidates of a target that need no network: hybrids on templates, assemblies from secondary structure.

Candidates are made in turns (first assembly, best template, next assembly, ..), so that whatever time there is, both
kinds are there. Chains of a complex are searched one by one and put together from a known complex where one covers
them, otherwise folded once each and placed without clashes.
"""

from rnafold.structure import Candidate, Pairing, Target
from rnafold.templates.library import Gate
from rnafold.templates.multichain import build_complex
from rnafold.templates.single import Budget, build_single
from rnafold.templates.sources import Sources


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
        return build_complex(target, pairing, sources, gate, budget, seed, (num_templates, num_assemblies))
    return build_single(target, pairing, sources, gate, budget, seed, (num_templates, num_assemblies))
