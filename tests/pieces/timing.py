"""How work grows with its input, measured side by side: the one place where tests read a clock.

No test compares a clock with a number of seconds: a busy or a slow machine would fail it.
"""

import os
from collections.abc import Callable


def measure_growth(small: Callable[[], object], large: Callable[[], object], turns: int = 2) -> float:
    """Processor seconds of `large`, started processes included, over those of `small`: the least of some turns."""
    seconds: dict[Callable[[], object], list[float]] = {small: [], large: []}
    for _ in range(turns):
        for work, spent in seconds.items():
            began = sum(os.times()[:4])
            work()
            spent.append(sum(os.times()[:4]) - began)
    return min(seconds[large]) / max(min(seconds[small]), 0.01)
