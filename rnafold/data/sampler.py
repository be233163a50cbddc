"""Which examples each optimizer step sees: a pure function of seed, epoch and step, so a position is two integers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Windows whose examples are sorted by length together: more of them waste less padding and shuffle less.
SORTED_WINDOWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The examples of one optimizer step: micro batches of indices, dealt to the ranks in turn."""

    micro_batches: tuple[tuple[int, ...], ...]

    def of_rank(self, rank: int, num_ranks: int) -> tuple[tuple[int, ...], ...]:
        """The micro batches that one rank works on."""
        return self.micro_batches[rank::num_ranks]


def plan_epoch(
    lengths: Sequence[int],
    groups: Sequence[str],
    seed: int,
    epoch: int,
    effective_batch: int,
    micro_batch: int,
    balance_length: int = 0,
) -> list[Window]:
    """Optimizer steps of one epoch: one example of each group at most, in micro batches of similar length.

    Args:
        lengths: residues of each example after cropping.
        groups: cluster of each example; each epoch draws one member of each.
        seed: of the run.
        epoch: 0-based.
        effective_batch: examples of one step.
        micro_batch: examples of one forward pass.
        balance_length: groups shorter than this many residues are drawn less often, in proportion to their length, so
            that the many short chains do not outweigh the rest; 0 takes every group in every epoch.
    """
    rng = np.random.default_rng([seed, epoch, 0])
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group or f"#{index}", []).append(index)
    chosen = [found[int(rng.integers(len(found)))] for found in members.values()]
    order = _draw([max(lengths[k] for k in found) for found in members.values()], balance_length, rng)
    order = [chosen[k] for k in order]
    windows: list[Window] = []
    for first in range(0, len(order), effective_batch * SORTED_WINDOWS):
        # a random key breaks ties, so that equal lengths are dealt anew each epoch
        chunk = sorted(order[first : first + effective_batch * SORTED_WINDOWS], key=lambda k: lengths[k])
        micro = [tuple(chunk[k : k + micro_batch]) for k in range(0, len(chunk), micro_batch)]
        micro = [micro[k] for k in rng.permutation(len(micro))]
        per_window = max(1, effective_batch // micro_batch)
        # a window holds micro batches of all lengths, so that its gradient is not that of one length
        windows += [Window(micro_batches=tuple(micro[k : k + per_window])) for k in range(0, len(micro), per_window)]
    return windows


def _draw(lengths: Sequence[int], balance_length: int, rng: np.random.Generator) -> list[int]:
    """Indices in random order; each epoch draws equally many, so that the count of steps is known beforehand."""
    if not balance_length or not lengths:
        return [int(k) for k in rng.permutation(len(lengths))]
    chance = np.minimum(1.0, np.array(lengths) / balance_length)
    count = max(1, int(chance.sum()))
    # the smallest exponential clocks: a weighted draw without replacement
    clocks = rng.exponential(size=len(lengths)) / chance
    return [int(k) for k in np.argsort(clocks, kind="stable")[:count]]
