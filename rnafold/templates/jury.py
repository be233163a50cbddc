"""The jury: candidates judge each other. How alike a model is to the others tells more of it than its own features.

A second learned figure (the same kind of model as the ranker) re-estimates the TM-score of each template and assembly
candidate from the ranker's figure and the pairwise TM-scores. Within a target its order agrees with the true one at
r = 0.69 for templates, the ranker's alone at 0.47 (cross-validated on later train chains).

Source: the idea of consensus ranking is 3D-Jury's (Ginalski et al., Bioinformatics 19, 1015, 2003).
"""

from collections.abc import Sequence

import numpy as np

from rnafold.scoring import tm_score
from rnafold.structure import Candidate, FloatArray, Pairing, structure_from_points

# Pairwise TM-scores only tell alike from different: a long target's residues are thinned to at most this many.
LIKENESS_RESIDUES = 100

JURY_NAMES = (
    "expected_tm",
    "is_template",
    "likeness_to_templates",
    "likeness_to_assemblies",
    "likeness_to_expected_templates",
    "likeness_to_nearest",
    "likeness_to_best_template",
    "best_expected_tm",
    "spread",
    "log_length",
    "pair_content",
    "pair_confidence",
    "assemblies_alike",
)


def measure_likeness(candidates: Sequence[FloatArray]) -> FloatArray:
    """(P, P) pairwise TM-scores of candidates (L, 3), thinned to at most 100 residues, one on the diagonal."""
    count = len(candidates)
    likeness = np.eye(count)
    if count < 2:
        return likeness
    points = np.stack([candidate[:: -(-len(candidate) // LIKENESS_RESIDUES)] for candidate in candidates])
    if points.shape[1] < 3:
        return np.ones((count, count))
    for row in range(1, count):
        likeness[:row, row] = tm_score(points[:row], [structure_from_points(points[row])], "fast")[:, 0]
    return np.asarray(np.maximum(likeness, likeness.T), dtype=np.float64)


def _mean_of_others(likeness: FloatArray, weights: FloatArray) -> FloatArray:
    """(P,) weighted mean likeness of each candidate to the others; 0 where there are none."""
    total = np.maximum(weights.sum() - weights, 0.0)
    summed = likeness @ weights - weights  # the diagonal is one
    return np.asarray(np.where(total > 1e-9, summed / np.maximum(total, 1e-9), 0.0), dtype=np.float64)


def measure_consensus(candidates: Sequence[Candidate], likeness: FloatArray, pairing: Pairing) -> FloatArray:
    """(P, features) in the order of JURY_NAMES, for template and assembly candidates.

    Args:
        candidates: P candidates of one target, confidence = the ranker's figure for templates.
        likeness: (P, P) of `measure_likeness`.
        pairing: predicted pairs of the target.
    """
    count = len(candidates)
    length = len(pairing.partner)
    template = np.array([candidate.origin == "template" for candidate in candidates], dtype=np.float64)
    confidence = np.array([candidate.confidence for candidate in candidates])
    expected = confidence * template
    trust = np.maximum(expected - 0.1, 0.01) * template
    best = int(np.argmax(expected)) if template.any() else -1
    others = likeness - np.eye(count)
    spread = [float(np.sqrt(c.coords.var(0).sum())) / (5.0 * length ** (1 / 3)) for c in candidates]
    paired = np.flatnonzero(pairing.partner > np.arange(length))
    sure = float(pairing.probabilities[paired, pairing.partner[paired]].mean()) if len(paired) else 0.0
    to_assemblies = _mean_of_others(likeness, 1.0 - template)
    alike = float(to_assemblies[template == 0].mean()) if (template == 0).any() else 0.0
    columns = [
        confidence,
        template,
        _mean_of_others(likeness, template),
        to_assemblies,
        _mean_of_others(likeness, trust),
        others.max(1),
        likeness[:, best] if best >= 0 else np.zeros(count),
        np.full(count, expected.max()),
        np.array(spread),
        np.full(count, np.log(length)),
        np.full(count, float(pairing.probabilities.sum()) / length),
        np.full(count, sure),
        np.full(count, alike),
    ]
    return np.stack(columns, axis=1)
