"""How far each residue of a model is expected to be off: from where the candidates disagree, to what is expected of it.

Where independent candidates put a residue in different places at most one can be right; so the profile along the chain
is the spread of the others around the model. Its level is the one at which the model has the TM-score expected of it.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from rnafold.geometry import transform
from rnafold.scoring.tm import match_residues, measure_d0, superpose_pairs
from rnafold.structure import Candidate, FloatArray, structure_from_points

# So many others a model is compared with: fewer for a long one, since a search grows with the square of its length.
_MOST_OTHERS: Final = 16
_LEAST_OTHERS: Final = 4
_PAIRS_OF_OTHERS: Final = 16 * 150**2
# No residue is expected nearer than this: about what two structures of one RNA differ by.
_LEAST_ERROR: Final = 0.5
# Beyond this a residue is wrong, however far; one stray tail must not tell of the rest.
_MOST_ERROR: Final = 60.0
_STEPS: Final = 40


def expect_errors(model: Candidate, pool: Sequence[Candidate]) -> FloatArray:
    """(L,) expected distance in Å of each residue from its true place, the whole superposed for the best TM-score.

    Args:
        model: with its expected TM-score as confidence.
        pool: all candidates of the target; the most confident others are compared with.
    """
    length = len(model.coords)
    count = int(np.clip(_PAIRS_OF_OTHERS // length**2, _LEAST_OTHERS, _MOST_OTHERS))
    others = sorted((c for c in pool if c.coords is not model.coords), key=lambda c: -c.confidence)[:count]
    spread = _measure_spread(model.coords, others)
    return _scale_to(spread, float(np.clip(model.confidence, 0.02, 0.98)), measure_d0(length))


def _measure_spread(coords: FloatArray, others: Sequence[Candidate]) -> FloatArray:
    """(L,) root mean square distance of others' residues to a model's, by confidence; one value without others."""
    reference = structure_from_points(coords)
    total, weights = np.full(len(coords), _LEAST_ERROR**2), 1.0
    for other in others:
        pair = match_residues(other.coords, reference)
        if pair is None:
            continue
        found = superpose_pairs([pair], "fast")[0]
        distance = np.linalg.norm(transform(other.coords, found.rotation, found.translation) - coords, axis=1)
        weight = max(other.confidence, 0.01)
        total += weight * np.minimum(distance, _MOST_ERROR) ** 2
        weights += weight
    return np.asarray(np.sqrt(total / weights), dtype=np.float64)


def _scale_to(spread: FloatArray, tm: float, d0: float) -> FloatArray:
    """The profile times the factor that gives it a TM-score, found by halving the interval of its logarithm."""
    low, high = -7.0, 7.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        reached = float((1.0 / (1.0 + (np.exp(middle) * spread / d0) ** 2)).mean())
        low, high = (middle, high) if reached > tm else (low, middle)
    return np.asarray(np.clip(np.exp(low) * spread, _LEAST_ERROR, _MOST_ERROR), dtype=np.float64)
