"""Validation: the part-2 TM-score of one prediction a target, beside what trivial submissions reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from rnafold.features.batch import collate
from rnafold.features.build import Example, StartPoint
from rnafold.model.folding import fold_example
from rnafold.model.losses import PHYSICS_TERMS, measure_physics
from rnafold.model.network import PairNetwork, PlainNetwork
from rnafold.scoring import score_target
from rnafold.structure import Entry

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Mean TM-score over the targets and the four physics terms of the predictions (means over targets).

    `expected_tm_by_target` is what the network itself expects of each prediction, 0 where it has no such head.
    """

    tm_score: float
    by_target: dict[str, float]
    physics: dict[str, float]
    expected_tm_by_target: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValidationTarget:
    """A target on which a run is watched: its references, what the network is shown, and where that starts."""

    entry: Entry
    example: Example
    start: StartPoint


def straight_line(length: int) -> FloatArray:
    """(L, 3) residues 5.5 Å apart on a line: what a submission without any knowledge of folding looks like."""
    return np.asarray(np.arange(length)[:, None] * np.array([5.5, 0.0, 0.0]), dtype=np.float64)


def score_points(entry: Entry, coords: FloatArray) -> float:
    """Fast TM-score of one prediction (L, 3), the best over the entry's references."""
    target = entry.target
    return score_target(target.target_id, target.chains, coords[None], entry.references, "fast").best


def score_baselines(entries: Sequence[Entry], starts: Sequence[FloatArray]) -> dict[str, dict[str, float]]:
    """TM-score by target of all zeros, of straight lines and of the start structures."""
    scores: dict[str, dict[str, float]] = {"zeros": {}, "straight_line": {}, "start": {}}
    for entry, start in zip(entries, starts):
        name = entry.target.target_id
        scores["zeros"][name] = score_points(entry, np.zeros_like(start))
        scores["straight_line"][name] = score_points(entry, straight_line(len(start)))
        scores["start"][name] = score_points(entry, start)
    return scores


def average_baselines(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean over the targets of each baseline of `score_baselines`, 0 without a target."""
    return {name: float(np.mean(list(by.values()))) if by else 0.0 for name, by in scores.items()}


@torch.inference_mode()
def evaluate(
    network: PairNetwork | PlainNetwork,
    targets: Sequence[ValidationTarget],
    recycles: int,
    device: torch.device | str,
) -> Evaluation:
    """One prediction of every target, scored against its references."""
    was_training = network.training
    network.eval()
    by_target, expected, physics = {}, {}, []
    for target in targets:
        name, example = target.entry.target.target_id, target.example
        fold = fold_example(network, example, recycles, device)
        coords = fold.coords
        by_target[name] = score_points(target.entry, coords)
        expected[name] = fold.expected_tm
        batch = collate([example], length=example.length)
        terms = measure_physics(torch.from_numpy(coords).float()[None], batch, batch.mask)
        physics.append([float(terms[name]) for name in PHYSICS_TERMS])
    network.train(was_training)
    means = np.mean(physics, axis=0) if physics else np.zeros(len(PHYSICS_TERMS))
    return Evaluation(
        tm_score=float(np.mean(list(by_target.values()))) if by_target else 0.0,
        by_target=by_target,
        physics=dict(zip(PHYSICS_TERMS, map(float, means))),
        expected_tm_by_target=expected,
    )
