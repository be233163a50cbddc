"""The jury: candidates speak for each other. How alike a model is to the others tells more than its own features.

A second learned figure (the same kind of model as the ranker) re-estimates the TM-score of each template and assembly
candidate from the ranker's figure, the pairwise TM-scores, a look at each and what its residues rest on. Over the
candidates of one target it agrees with the true one at r = 0.66, over all candidates at 0.86 (cross-validated on 400
later train chains).

Source: the idea of consensus ranking is 3D-Jury's (Ginalski et al., Bioinformatics 19, 1015, 2003).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rnafold import rna
from rnafold.features.pair_choice import heed_alternatives
from rnafold.scoring import tm_score
from rnafold.structure import (
    CARRIED,
    FILLED,
    LINKER,
    LOOP,
    STEM,
    Candidate,
    FloatArray,
    Grounds,
    IntArray,
    Pairing,
    structure_from_points,
)
from rnafold.templates.ranker import Ranker, longest_run

# Whose confidences the jury re-estimates: those that it was trained on.
RATED_ORIGINS = ("template", "assembly")
# Pairwise TM-scores only tell alike from different: a long target's residues are thinned to at most this many.
LIKENESS_RESIDUES = 100
_POWER_STEPS = 20
# A target's candidates are compared for the jury and once more, with the network's beside them, for the choice of five:
# what two models scored is remembered under the digests of their points, the oldest forgotten first.
MOST_MEASURED = 2**15
_MEASURED: dict[tuple[bytes, bytes], float] = {}

# What a candidate rests on (shares of residues), and the mean, greatest and least expected deviation of its residues in
# loops.
GROUND_NAMES = (
    "carried",
    "stems",
    "loops",
    "linkers",
    "filled",
    "longest_filled",
    "longest_built",
    "loop_deviation",
    "worst_loop_deviation",
    "best_loop_deviation",
)
# What assemblies differ in: nothing of theirs is carried over.
ASSEMBLY_GROUND_NAMES = tuple(name for name in GROUND_NAMES if name not in ("carried", "longest_built"))
# Expected deviation in Å of a candidate without a loop that was judged: above that of most, so that trees can tell.
NO_LOOP_DEVIATION = 15.0
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
    "likeness_to_best_assemblies",
    "likeness_to_median_assembly",
    "likeness_to_median_template",
    "likeness_to_best_templates",
    "likeness_to_surest_templates",
    "second_expected_tm",
    "mean_expected_tm",
    "best_templates_alike",
    "best_template_to_assemblies",
    "templates_alike",
    "share_alike",
    "share_akin",
    "centrality",
    "unanimity",
    "pairs_formed",
    "contacts",
    "near_contacts",
    "median_distance",
    "smallest_axis",
    "pair_entropy",
    "paired",
    *GROUND_NAMES,
    *(f"assemblies_{name}" for name in ASSEMBLY_GROUND_NAMES),
)
# Likeness from which two candidates count as alike (0.45: the threshold of one Rfam family, Gong et al., Bioinformatics
# 35, 4459, 2019) and, more loosely, as akin.
ALIKE, AKIN = 0.45, 0.3
# Distances in Å of contacts and the residues between them; a longer candidate is thinned to about CONTACT_RESIDUES.
CONTACT, NEAR_CONTACT, CONTACT_SEPARATION, CONTACT_RESIDUES = 20.0, 12.0, 8, 400
# Pairs less likely than this are not looked for in a candidate.
LEAST_PROBABILITY = 0.01


def measure_likeness(candidates: Sequence[FloatArray]) -> FloatArray:
    """(P, P) pairwise TM-scores of candidates (L, 3), thinned to at most 100 residues, one on the diagonal."""
    count = len(candidates)
    likeness = np.eye(count)
    if count < 2:
        return likeness
    points = np.stack([candidate[:: -(-len(candidate) // LIKENESS_RESIDUES)] for candidate in candidates])
    if points.shape[1] < 3:
        return np.ones((count, count))
    names = [hashlib.sha256(one.tobytes()).digest() for one in points]
    for row in range(1, count):
        new = [k for k in range(row) if (names[k], names[row]) not in _MEASURED]
        if new:
            found = tm_score(points[new], [structure_from_points(points[row])], "fast")[:, 0]
            _MEASURED.update(zip(((names[k], names[row]) for k in new), found.tolist()))
        likeness[:row, row] = [_MEASURED[name, names[row]] for name in names[:row]]
    while len(_MEASURED) > MOST_MEASURED:
        _MEASURED.pop(next(iter(_MEASURED)))
    return np.asarray(np.maximum(likeness, likeness.T), dtype=np.float64)


def _mean_of_others(likeness: FloatArray, weights: FloatArray) -> FloatArray:
    """(P,) weighted mean likeness of each candidate to the others; 0 where there are none."""
    total = np.maximum(weights.sum() - weights, 0.0)
    summed = likeness @ weights - weights  # the diagonal is one
    return np.asarray(np.where(total > 1e-9, summed / np.maximum(total, 1e-9), 0.0), dtype=np.float64)


def measure_jury_features(candidates: Sequence[Candidate], likeness: FloatArray, pairing: Pairing) -> FloatArray:
    """(P, features) in the order of JURY_NAMES, for template and assembly candidates.

    Args:
        candidates: P candidates of one target, confidence = the ranker's figure for templates.
        likeness: (P, P) of `measure_likeness`.
        pairing: predicted pairs of the target; alternatives have as much say as the probabilities.
    """
    pairing = replace(pairing, probabilities=heed_alternatives(pairing))
    columns = [*_compare(candidates, likeness, pairing), *_survey(candidates, likeness)]
    return np.concatenate(
        [np.stack(columns, axis=1), _inspect(candidates, pairing), _weigh_grounds(candidates)], axis=1
    )


def rate_candidates(
    candidates: Sequence[Candidate], likeness: FloatArray, pairing: Pairing, jury: Ranker
) -> list[Candidate]:
    """The candidates with template and assembly confidences re-estimated by the jury; others keep theirs."""
    rows = [k for k, candidate in enumerate(candidates) if candidate.origin in RATED_ORIGINS]
    rated = list(candidates)
    if rows:
        members = [candidates[k] for k in rows]
        expected = jury.predict(measure_jury_features(members, likeness[np.ix_(rows, rows)], pairing))
        for k, value in zip(rows, expected):
            rated[k] = replace(candidates[k], confidence=float(value))
    return rated


def _compare(candidates: Sequence[Candidate], likeness: FloatArray, pairing: Pairing) -> list[FloatArray]:
    """The features up to "assemblies_alike": likeness of each candidate to the kinds, and what the target is like."""
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
    return [
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


def _survey(candidates: Sequence[Candidate], likeness: FloatArray) -> list[FloatArray]:
    """The features from "likeness_to_best_assemblies" to "unanimity": how the candidates' likeness is spread."""
    count = len(candidates)
    is_template = np.array([candidate.origin == "template" for candidate in candidates], dtype=np.bool_)
    expected = np.array([candidate.confidence for candidate in candidates]) * is_template
    others = likeness - np.eye(count)
    templates, assemblies = np.flatnonzero(is_template), np.flatnonzero(~is_template)
    first, second = (*np.argsort(-expected, kind="stable")[:2], 0)[:2]
    two = len(templates) > 1
    among = others[np.ix_(templates, templates)]
    weights = expected**2
    centrality = np.full(count, 1.0 / count)
    for _ in range(_POWER_STEPS):
        centrality = others @ centrality
        centrality /= centrality.sum() + 1e-9
    figures = (
        expected[second] if two else 0.0,
        expected[templates].mean() if len(templates) else 0.0,
        likeness[first, second] if two else 0.0,
        likeness[first, assemblies].mean() if len(templates) and len(assemblies) else 0.0,
        among.sum() / (len(templates) * (len(templates) - 1)) if two else 0.0,
    )
    return [
        _quantile(others, assemblies, 0.9),
        _quantile(others, assemblies, 0.5),
        _quantile(others, templates, 0.5),
        _quantile(others, templates, 0.9),
        others @ weights / max(float(weights.sum()), 1e-9),
        *(np.full(count, float(value)) for value in figures),
        (likeness > ALIKE).mean(1),
        (likeness > AKIN).mean(1),
        centrality * count,
        np.full(count, float(np.linalg.eigvalsh(likeness)[-1]) / count),
    ]


def _quantile(likeness: FloatArray, columns: IntArray, at: float) -> FloatArray:
    """(P,) quantile over some columns of (P, P); 0 where there are none."""
    if not len(columns):
        return np.zeros(len(likeness))
    return np.asarray(np.quantile(likeness[:, columns], at, axis=1), dtype=np.float64)


def _inspect(candidates: Sequence[Candidate], pairing: Pairing) -> FloatArray:
    """(P, features) from "pairs_formed" to "paired": each candidate by itself, against predicted pairs."""
    length = len(pairing.partner)
    first, second = np.nonzero(np.triu(pairing.probabilities, 1) > LEAST_PROBABILITY)
    probabilities = pairing.probabilities[first, second].astype(np.float64)
    known = pairing.probabilities[pairing.probabilities > 0].astype(np.float64)
    entropy = -float((known * np.log(known)).sum()) / length
    paired = float((pairing.partner >= 0).mean())
    rows = []
    for candidate in candidates:
        coords = candidate.coords
        apart = np.linalg.norm(coords[first] - coords[second], axis=1)
        formed = (apart > rna.FORMED_RANGE[0]) & (apart < rna.FORMED_RANGE[1])
        rows.append(
            [
                float(probabilities[formed].sum()) / (float(probabilities.sum()) + 1e-6),
                *_look_at(coords),
                entropy,
                paired,
            ]
        )
    return np.array(rows, dtype=np.float64)


def _weigh_grounds(candidates: Sequence[Candidate]) -> FloatArray:
    """(P, features) in the order of GROUND_NAMES: of each candidate, then the mean of the assemblies in most of them.

    Without an assembly, as if there were one of which nothing is known.
    """
    own = np.array([_weigh(c.grounds, len(c.coords)) for c in candidates])
    assemblies = own[[c.origin == "assembly" for c in candidates]]
    length = len(candidates[0].coords)
    mean = assemblies.mean(0) if len(assemblies) else np.array(_weigh(None, length))
    told = mean[[GROUND_NAMES.index(name) for name in ASSEMBLY_GROUND_NAMES]]
    return np.concatenate([own, np.tile(told, (len(candidates), 1))], axis=1)


def _weigh(grounds: Grounds | None, length: int) -> list[float]:
    """What one candidate of `length` residues rests on; without grounds as if nothing were known of it."""
    kinds = np.full(length, FILLED) if grounds is None else grounds.kinds
    known = np.zeros(0) if grounds is None else grounds.deviation[kinds == LOOP]
    known = known[np.isfinite(known)]
    deviation = known if len(known) else np.array([NO_LOOP_DEVIATION])
    return [
        *(float((kinds == kind).mean()) for kind in (CARRIED, STEM, LOOP, LINKER, FILLED)),
        longest_run(kinds == FILLED) / length,
        longest_run(kinds != CARRIED) / length,
        float(deviation.mean()),
        float(deviation.max()),
        float(deviation.min()),
    ]


def _look_at(coords: FloatArray) -> list[float]:
    """Contacts a residue, median distance and smallest axis over length ** (1/3)."""
    length = len(coords)
    size = length ** (1 / 3)
    step = -(-length // CONTACT_RESIDUES)
    thin = coords[::step]
    distance = np.sqrt(((thin[:, None] - thin[None]) ** 2).sum(-1))
    far = np.abs(np.subtract.outer(np.arange(len(thin)), np.arange(len(thin)))) * step > CONTACT_SEPARATION
    axis = float(np.linalg.eigvalsh(np.cov(coords.T))[0]) if length > 3 else 0.0
    return [
        *(step * int(((distance < limit) & far).sum()) / len(thin) for limit in (CONTACT, NEAR_CONTACT)),
        float(np.median(distance)) / size,
        float(np.sqrt(max(axis, 0.0))) / size,
    ]
