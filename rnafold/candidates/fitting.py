"""The jury's weights from targets with known structures: least squares, drawn to the naive rule, scenario by scenario.

A target gives many examples: users have three to seven sources at hand, so sources are drawn at random. Within a target
every source weighs the same, every target the same; differences within a target count in full, its level by a part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rnafold.candidates.jury import FEATURES, NAIVE, JuryParameters, measure_features
from rnafold.candidates.likeness import join_sources
from rnafold.structure import Candidate, FloatArray, IntArray, Pairing, Target

# How strongly the weights are drawn to the naive rule: as much as this part of a target's variance; what the level of a
# target weighs beside the differences within it; the kinship, by best of five over random sources.
RIDGE: Final = 0.05
LEVEL_WEIGHT: Final = 0.3
KINSHIP: Final = 0.85
_FEWEST_SOURCES, _MOST_SOURCES = 3, 7
_RESIDUAL_RANGE: Final = (0.05, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pool:
    """All candidates of one target of which the TM-score is known.

    Attributes:
        target: which one.
        group: targets of one group (one sequence, one family) are left out together.
        pairing: predicted pairs.
        candidates: P candidates; ours with their own expected TM-scores.
        sources: what each counts to.
        likeness: (P, P) pairwise TM-scores.
        tm: (P,) reached.
    """

    target: Target
    group: str
    pairing: Pairing
    candidates: tuple[Candidate, ...]
    sources: tuple[str, ...]
    likeness: FloatArray
    tm: FloatArray

    def take(self, rows: IntArray) -> "Pool":
        """The pool with some of its candidates."""
        return Pool(
            target=self.target,
            group=self.group,
            pairing=self.pairing,
            candidates=tuple(self.candidates[k] for k in rows),
            sources=tuple(self.sources[k] for k in rows),
            likeness=self.likeness[np.ix_(rows, rows)],
            tm=self.tm[rows],
        )

    def without(self, *names: str) -> "Pool":
        """The pool without the sources whose name begins with one of `names`."""
        return self.take(np.array([k for k, source in enumerate(self.sources) if not source.startswith(names)], int))


def measure_pool(pool: Pool) -> FloatArray:
    """(P, features) of a pool's candidates."""
    sources = join_sources(pool.likeness, pool.sources)
    return measure_features(pool.target, pool.candidates, sources, pool.likeness, pool.pairing)


def draw_scenarios(pools: Sequence[Pool], count: int, seed: int = 0) -> list[Pool]:
    """`count` pools of each target: ours, where there are any, with three to seven other sources drawn at random."""
    rng = np.random.default_rng(seed)
    drawn = []
    for pool in pools:
        outside = sorted({s for s, c in zip(pool.sources, pool.candidates) if c.source})
        ours = [k for k, candidate in enumerate(pool.candidates) if not candidate.source]
        for number in range(count):
            size = min(len(outside), int(rng.integers(_FEWEST_SOURCES, _MOST_SOURCES + 1)))
            chosen = set(rng.choice(outside, size, replace=False)) if outside else set()
            rows = [k for k, source in enumerate(pool.sources) if source in chosen]
            if (ours and number % 2 == 0) or not outside:
                rows += ours
            drawn.append(pool.take(np.array(sorted(rows), dtype=np.int64)))
    return drawn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One scenario: its features and TM-scores, and its share of the normal equations of intercept and features."""

    group: str
    features: FloatArray
    tm: FloatArray
    moments: FloatArray
    products: FloatArray


def build_example(pool: Pool, weight: float) -> Example:
    """What a scenario adds to the normal equations; `weight` is its part of the target's."""
    features = measure_pool(pool)
    rows = np.concatenate([np.ones((len(features), 1)), features], axis=1)
    weights = np.array([1.0 / pool.sources.count(source) for source in pool.sources])
    weights = weight * weights / weights.sum()
    mean = (weights[:, None] * rows).sum(0) / weight
    level = float((weights * pool.tm).sum()) / weight
    centred, reached = rows - mean, pool.tm - level
    return Example(
        group=pool.group,
        features=features,
        tm=pool.tm,
        moments=(centred * weights[:, None]).T @ centred + LEVEL_WEIGHT * weight * np.outer(mean, mean),
        products=(centred * weights[:, None]).T @ reached + LEVEL_WEIGHT * weight * mean * level,
    )


def solve_weights(examples: Sequence[Example], left_out: str | None = None) -> FloatArray:
    """(1 + features,) intercept and weights from all groups but one."""
    used = [example for example in examples if example.group != left_out]
    moments = np.sum([example.moments for example in used], axis=0)
    products = np.sum([example.products for example in used], axis=0)
    prior = np.array([NAIVE.intercept, *(NAIVE.weights[name] for name in FEATURES)])
    ridge = np.diag([1e-6, *([RIDGE] * len(FEATURES))])
    return np.asarray(prior + np.linalg.solve(moments + ridge, products - moments @ prior), dtype=np.float64)


def fit_parameters(
    examples: Sequence[Example], left_out: str | None = None, centres: dict[str, float] | None = None
) -> JuryParameters:
    """Parameters fitted to all groups but one; the spread is what is left of the TM-scores within targets."""
    solved = solve_weights(examples, left_out)
    residuals = []
    for example in examples:
        if example.group != left_out:
            expected = np.clip(solved[0] + example.features @ solved[1:], *_RESIDUAL_RANGE)
            within = (example.tm - expected) - (example.tm - expected).mean()
            residuals.append(float(np.sqrt(np.mean((within / (expected * (1.0 - expected))) ** 2))))
    return JuryParameters(
        intercept=round(float(solved[0]), 4),
        weights={name: round(float(value), 4) for name, value in zip(FEATURES, solved[1:])},
        spread=round(float(np.mean(residuals)), 3),
        kinship=KINSHIP,
        centres=dict(centres or {}),
    )
