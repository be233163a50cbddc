"""Validation: the part-2 TM-score of one prediction a target, beside what trivial submissions reach."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rnafold.features.batch import collate
from rnafold.features.build import Example
from rnafold.folding import fold_example
from rnafold.losses import PHYSICS_TERMS, measure_physics
from rnafold.model.network import PairNetwork, PlainNetwork
from rnafold.scoring import score_target
from rnafold.structure import Entry

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Mean TM-score over the targets and the four physics terms of the predictions (means over targets)."""

    tm_score: float
    by_target: dict[str, float]
    physics: dict[str, float]


def straight_line(length: int) -> FloatArray:
    """(L, 3) residues 5.5 Å apart on a line: what a submission without any knowledge of folding looks like."""
    return np.asarray(np.arange(length)[:, None] * np.array([5.5, 0.0, 0.0]), dtype=np.float64)


def score_points(entry: Entry, coords: FloatArray) -> float:
    """Fast TM-score of one prediction (L, 3), the best over the entry's references."""
    target = entry.target
    return score_target(target.target_id, target.chains, coords[None], entry.references, "fast").best


def evaluate_baselines(entries: Sequence[Entry], starts: Sequence[FloatArray]) -> dict[str, float]:
    """Mean TM-scores of all zeros, of straight lines and of the start structures."""
    lists: dict[str, list[float]] = {"zeros": [], "straight_line": [], "start": []}
    for entry, start in zip(entries, starts):
        lists["zeros"].append(score_points(entry, np.zeros_like(start)))
        lists["straight_line"].append(score_points(entry, straight_line(len(start))))
        lists["start"].append(score_points(entry, start))
    return {name: float(np.mean(values)) if values else 0.0 for name, values in lists.items()}


@torch.inference_mode()
def evaluate(
    network: PairNetwork | PlainNetwork,
    entries: Sequence[Entry],
    examples: Sequence[Example],
    recycles: int,
    device: torch.device | str,
) -> Evaluation:
    """One prediction of every example, scored against its entry."""
    was_training = network.training
    network.eval()
    by_target, physics = {}, []
    for entry, example in zip(entries, examples):
        coords = fold_example(network, example, recycles, device).coords
        by_target[entry.target.target_id] = score_points(entry, coords)
        batch = collate([example], length=example.length)
        terms = measure_physics(torch.from_numpy(coords).float()[None], batch, batch.mask)
        physics.append([float(terms[name]) for name in PHYSICS_TERMS])
    network.train(was_training)
    means = np.mean(physics, axis=0) if physics else np.zeros(len(PHYSICS_TERMS))
    return Evaluation(
        tm_score=float(np.mean(list(by_target.values()))) if by_target else 0.0,
        by_target=by_target,
        physics=dict(zip(PHYSICS_TERMS, map(float, means))),
    )
