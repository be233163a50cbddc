"""Learning rate and time budget: both pure functions of step and clock, so that a resume needs no state of theirs."""

import math
import time

from rnafold.config.settings import TrainConfig
from rnafold.training.state import Clock


def rate_at(step: int, steps_per_epoch: int, peak: float, train: TrainConfig) -> float:
    """Learning rate of step `step` (0-based): linear warm-up, then a cosine down to `final_rate_share` of the peak."""
    total = max(train.epochs * steps_per_epoch, 1)
    warm = min(train.warmup_epochs * steps_per_epoch, total - 1)
    if step < warm:
        return train.warmup_start_learning_rate + (peak - train.warmup_start_learning_rate) * (step + 1) / warm
    progress = min((step - warm) / max(total - 1 - warm, 1), 1.0)
    return peak * (train.final_rate_share + (1 - train.final_rate_share) * 0.5 * (1 + math.cos(math.pi * progress)))


class TimeBudget:
    """Tells when to stop so that the work still to be done at the end fits: the longest of each kind seen so far."""

    def __init__(self, max_hours: float | None, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.start = clock()
        self.seconds = None if max_hours is None else max_hours * 3600.0
        self.longest: dict[str, float] = {}

    def record(self, kind: str, seconds: float) -> None:
        """Notes how long a piece of work took ("step", "checkpoint", "evaluation")."""
        self.longest[kind] = max(self.longest.get(kind, 0.0), seconds)

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the budget began."""
        return self.clock() - self.start

    @property
    def hours_left(self) -> float | None:
        """Hours until the budget is used up, None without a limit."""
        return None if self.seconds is None else max(self.seconds - self.elapsed_seconds, 0.0) / 3600.0

    def rest(self) -> "TimeBudget":
        """A budget of what is left, for one piece of work among several."""
        return TimeBudget(self.hours_left, self.clock)

    def part(self, share: float) -> "TimeBudget":
        """A budget of a share of what is left."""
        left = self.hours_left
        return TimeBudget(None if left is None else share * left, self.clock)

    def allows(self, *kinds: str) -> bool:
        """Whether one more piece of each kind and a final checkpoint fit, with half as much again for safety."""
        if self.seconds is None:
            return True
        needed = sum(self.longest.get(kind, 0.0) for kind in (*kinds, "checkpoint"))
        return self.elapsed_seconds + 1.5 * needed + 2.0 <= self.seconds
