"""Where a run stands and what its steps measured: plain values that every part of the training passes on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Seconds that only ever rise; tests give one of their own.
Clock = Callable[[], float]


@dataclass(slots=True)
class TrainState:
    """Where a run stands; everything that a resume needs besides tensors. `step` counts optimizer steps."""

    epoch: int = 0
    window_index: int = 0
    step: int = 0
    best_tm: float = -1.0
    best_step: int = 0
    evaluations_without_gain: int = 0
    micro_limit: int = 0
    bad_steps: int = 0
    seconds: float = 0.0
    finished: str = ""

    def has_finished(self) -> bool:
        """Whether something has ended the run; `finished` says what."""
        return bool(self.finished)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one optimizer step measured: unweighted means of the terms over residues, and the norm before clipping."""

    loss: float
    terms: dict[str, float]
    grad_norm: float
    residues: int
    applied: bool


@dataclass(slots=True)
class Meter:
    """Sums between two lines of metrics.jsonl."""

    started: float = field(default_factory=time.monotonic)
    results: list[StepResult] = field(default_factory=list)
    seconds_by_length: dict[int, list[float]] = field(default_factory=dict)
    loading_seconds: float = 0.0

    @property
    def residues(self) -> int:
        """Resolved residues of all steps over all ranks."""
        return sum(r.residues for r in self.results)

    def add_time(self, length: int, seconds: float, examples: int) -> None:
        """Adds one pass of padded `length`: count, seconds, examples."""
        entry = self.seconds_by_length.setdefault(length, [0, 0.0, 0])
        entry[0] += 1
        entry[1] += seconds
        entry[2] += examples

    def means(self, terms: Sequence[str]) -> dict[str, float]:
        """Means of the loss and of these terms over the residues of all steps."""
        rows = [{"loss": r.loss, **r.terms} for r in self.results]
        total = max(self.residues, 1)
        return {
            name: sum(row[name] * r.residues for row, r in zip(rows, self.results)) / total for name in ("loss", *terms)
        }
