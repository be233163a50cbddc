"""All candidates of a target that need no network: hybrids on templates, assemblies from secondary structure.

Candidates are made in turns (first assembly, best template, next assembly, ..), so that whatever time there is, both
kinds are there. Chains of a complex are searched one by one and put together from a known complex where one covers
them, otherwise folded once each and placed without clashes.
"""

from rnafold.files.budget import Budget
from rnafold.structure import Candidate
from rnafold.templates.jury import measure_likeness, rate_candidates
from rnafold.templates.multichain import build_complex
from rnafold.templates.single import build_single
from rnafold.templates.sources import ModellingTask


def build_candidates(
    task: ModellingTask, *, budget_seconds: float = 1e9, num_templates: int = 12, num_assemblies: int = 24
) -> list[Candidate]:
    """Hybrids and assemblies of a target, whatever is done within the budget; at least one candidate.

    Args:
        task: the target, its pairs, and what the candidates are made from.
        budget_seconds: no candidate is started later than this.
        num_templates: most hybrids.
        num_assemblies: most assemblies.
    """
    build = build_complex if len(task.target.chains) > 1 else build_single
    return build(task, Budget(seconds=budget_seconds), (num_templates, num_assemblies))


def apply_jury(task: ModellingTask, candidates: list[Candidate]) -> list[Candidate]:
    """The candidates with the jury's confidences; as they are where the target may not ask it or one stands alone."""
    if task.jury is None or len(candidates) < 2:
        return candidates
    likeness = measure_likeness([candidate.coords for candidate in candidates])
    return rate_candidates(candidates, likeness, task.pairing, task.jury)
