"""The jury over all sources: an expected TM-score, with a spread, for every candidate, ours and other programs' alike.

No two programs' confidences can be compared, so likeness to *other* sources leads, each source counted once however
many models it has. A few further figures, a weight each, correct it: likeness within the source, what the program says
of its model against what it says otherwise, what our own models expect of ours, length, pairs formed, physics. The
weights are fitted on published models (benchmarks/candidates.py --write) and drawn to the naive rule, the first alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from rnafold import rna
from rnafold.candidates.likeness import join_sources, measure_pairwise, measure_source_likeness
from rnafold.config.building import build
from rnafold.errors import InputError
from rnafold.files.bounded import parse_json
from rnafold.scoring.measures import count_violations
from rnafold.structure import Candidate, Evidence, FloatArray, Pairing, Target

PARAMETERS_PATH: Final = Path(__file__).resolve().parent / "jury.json"
FEATURES: Final = (
    "likeness",
    "own_source",
    "own_confidence",
    "our_confidence",
    "log_length",
    "pairs",
    "bad_bonds",
    "clashes",
)
# What a candidate is taken to be like others where there is no other source: the mean over published models.
LONE_LIKENESS: Final = 0.3
# Lengths are measured from this one.
USUAL_LENGTH: Final = 80.0
# Pairs less likely than this are not looked for.
_LEAST_PROBABILITY: Final = 0.01
_MOST_BAD_BONDS, _MOST_CLASHES = 0.5, 0.3
_EXPECTED_RANGE: Final = (0.01, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class JuryParameters:
    """What the jury was fitted to.

    Attributes:
        intercept: of the expected TM-score.
        weights: of FEATURES, by name.
        spread: factor of c (1 - c) in the standard deviation of the TM-score around an expected c.
        kinship: least correlation of the errors of two models of one source.
        centres: mean confidence of known programs, 0 to 1.
        provenance: what the figures were fitted to, and how well they did on what was left out.
    """

    intercept: float
    weights: dict[str, float]
    spread: float
    kinship: float
    centres: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.weights) != set(FEATURES):
            raise ValueError(f"weights: found {', '.join(self.weights)}, expected {', '.join(FEATURES)}")


NAIVE: Final = JuryParameters(
    intercept=0.0, weights={**dict.fromkeys(FEATURES, 0.0), "likeness": 1.0}, spread=0.4, kinship=0.8
)


def load_parameters(path: Path = PARAMETERS_PATH) -> JuryParameters:
    """The shipped parameters, or those of another file.

    Raises:
        InputError: no such file, no JSON, or other keys than expected.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON ({str(error).splitlines()[0]})") from None
    return build(JuryParameters, content, str(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatesJury:
    """Rates the candidates of a target by its parameters."""

    parameters: JuryParameters

    def rate(
        self,
        target: Target,
        candidates: Sequence[Candidate],
        pairing: Pairing,
        likeness: FloatArray | None = None,
    ) -> tuple[list[Candidate], FloatArray]:
        """The candidates with expected TM-scores and their evidence, and (P, P) how their errors are correlated.

        Args:
            target: chains and length.
            candidates: of all sources, finite; ours with their own expected TM-scores.
            pairing: predicted pairs.
            likeness: (P, P) of `measure_pairwise`, where it is known.
        """
        if likeness is None:
            likeness = measure_pairwise([candidate.coords for candidate in candidates], target.chains)
        sources = join_sources(likeness, [name_source(candidate) for candidate in candidates])
        features = measure_features(target, candidates, sources, likeness, pairing)
        weights = np.array([self.parameters.weights[name] for name in FEATURES])
        expected = np.clip(self.parameters.intercept + features @ weights, *_EXPECTED_RANGE)
        others, within = measure_source_likeness(likeness, sources)
        rated = [
            replace(
                candidate,
                confidence=float(value),
                evidence=replace(
                    candidate.evidence or Evidence(),
                    likeness=_finite(to_others),
                    own_likeness=_finite(to_own),
                    spread=self.spread(float(value)),
                ),
            )
            for candidate, value, to_others, to_own in zip(candidates, expected, others, within)
        ]
        kin = np.array([[one == other for one in sources] for other in sources])
        return rated, np.where(kin, np.maximum(likeness, self.parameters.kinship), likeness)

    def spread(self, expected: float) -> float:
        """The standard deviation of the TM-score around an expected one."""
        return self.parameters.spread * expected * (1.0 - expected)


def name_source(candidate: Candidate) -> str:
    """The source that a candidate counts to: another program's by its name, ours by what made them."""
    return candidate.source or candidate.origin


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def measure_features(
    target: Target,
    candidates: Sequence[Candidate],
    sources: Sequence[str],
    likeness: FloatArray,
    pairing: Pairing,
) -> FloatArray:
    """(P, features) in the order of FEATURES.

    Args:
        target: chains and length.
        candidates: P candidates.
        sources: which source each counts to.
        likeness: (P, P) pairwise TM-scores.
        pairing: predicted pairs.
    """
    others, within = measure_source_likeness(likeness, sources)
    alike = np.where(np.isfinite(others), others, LONE_LIKENESS)
    formed = measure_formed([candidate.coords for candidate in candidates], pairing)
    physics = np.array([_measure_physics(candidate, target) for candidate in candidates]).reshape(-1, 2)
    ours = np.array([not candidate.source for candidate in candidates], dtype=np.bool_)
    expected = np.array([candidate.confidence for candidate in candidates])
    columns = (
        alike,
        _centre_by_source(within, sources),
        np.array([c.evidence.own_relative if c.evidence is not None else 0.0 for c in candidates]),
        np.where(ours & (expected > 0.0), expected - alike, 0.0),
        np.full(len(candidates), np.log(target.length / USUAL_LENGTH)),
        formed - formed.mean(),
        physics[:, 0],
        physics[:, 1],
    )
    return np.stack(columns, axis=1)


def _centre_by_source(within: FloatArray, sources: Sequence[str]) -> FloatArray:
    """(P,) likeness to the own source's other models, less its mean over the source: which is the most typical one.

    How alike a program's models are says little of how good they are: weak ones agree with themselves as well.
    """
    centred = np.zeros(len(sources))
    for name in set(sources):
        rows = [k for k, source in enumerate(sources) if source == name]
        if np.isfinite(within[rows]).all():
            centred[rows] = within[rows] - within[rows].mean()
    return centred


def measure_formed(candidates: Sequence[FloatArray], pairing: Pairing) -> FloatArray:
    """(P,) which part of the predicted pairs, by probability, each candidate forms."""
    first, second = np.nonzero(np.triu(pairing.probabilities, 1) > _LEAST_PROBABILITY)
    weights = pairing.probabilities[first, second].astype(np.float64)
    shares = []
    for coords in candidates:
        apart = np.linalg.norm(coords[first] - coords[second], axis=1)
        formed = (apart > rna.FORMED_RANGE[0]) & (apart < rna.FORMED_RANGE[1])
        shares.append(float(weights[formed].sum()) / (float(weights.sum()) + 1e-6))
    return np.array(shares, dtype=np.float64)


def _measure_physics(candidate: Candidate, target: Target) -> tuple[float, float]:
    """Share of bonds out of range, and hard clashes a residue, both up to where more says no more."""
    found = count_violations(candidate.coords, target.chains)
    bonds = found.bonds / max(found.num_bonds, 1)
    return min(bonds, _MOST_BAD_BONDS), min(found.clashes_hard / target.length, _MOST_CLASHES)
