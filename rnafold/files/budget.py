"""Seconds that a piece of work may use: asked between its steps, so that what is done when they are gone counts."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Budget:
    """Seconds from now on that a piece of work may use; `spent` is True once they are gone."""

    seconds: float = math.inf
    clock: Callable[[], float] = time.monotonic
    began: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def spent(self) -> bool:
        """True when nothing more should be started."""
        return self.clock() - self.began > self.seconds

    @property
    def left(self) -> float:
        """Seconds that are not used yet."""
        return max(0.0, self.seconds - (self.clock() - self.began))

    def part(self, share: float) -> "Budget":
        """A share of what is left, from now on."""
        return Budget(share * self.left, self.clock)
