"""Which passes this rank makes next: the sampler's windows of the run's examples, cut by length, through one set of
workers."""

import os
from collections.abc import Iterator, Sequence
from typing import Protocol

from torch.utils.data import DataLoader, Dataset

from rnafold.config.machine_use import count_accumulation
from rnafold.config.settings import Config
from rnafold.data.sampler import Window, plan_epoch
from rnafold.features.batch import Batch, collate
from rnafold.features.build import Example
from rnafold.features.passes import cut_passes, pass_rule
from rnafold.training.lookahead import Lookahead
from rnafold.training.ranks import Ranks
from rnafold.training.state import TrainState


class ExampleSource(Protocol):
    """Examples by (epoch, index), with the cropped length and the cluster of each."""

    @property
    def lengths(self) -> Sequence[int]:
        """Residues of each example after cropping."""

    @property
    def groups(self) -> Sequence[str]:
        """Cluster of each example."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int], /) -> Example: ...


# The epoch and the passes of one step: what a worker is asked for.
StepKey = tuple[int, tuple[tuple[int, ...], ...]]


class StepBatches(Dataset[list[Batch]]):
    """The batches of a step by its epoch and its passes of example indices, so that workers need no state."""

    def __init__(self, examples: ExampleSource) -> None:
        self.examples = examples

    def __getitem__(self, key: StepKey) -> list[Batch]:
        epoch, passes = key
        return [collate([self.examples[epoch, index] for index in indices]) for indices in passes]


class Loader:
    """Deals the examples of one run to its steps, ranks and passes."""

    def __init__(self, examples: ExampleSource, config: Config, ranks: Ranks) -> None:
        self.examples, self.config, self.ranks = examples, config, ranks
        self.lengths = list(examples.lengths)
        train = config.train
        self.effective_batch = count_accumulation(train, ranks.num_ranks) * train.micro_batch * ranks.num_ranks
        self.rule = pass_rule(config, max(self.lengths))
        # every epoch draws equally many examples
        self.steps_per_epoch = len(self.windows(0))

    def windows(self, epoch: int) -> list[Window]:
        """The optimizer steps of an epoch."""
        train = self.config.train
        return plan_epoch(
            self.lengths,
            self.examples.groups,
            train.seed,
            epoch,
            self.effective_batch,
            train.micro_batch,
            self.config.data.balance_length,
        )

    def passes(self, window: Window) -> tuple[tuple[int, ...], ...]:
        """Examples of each pass that this rank makes for a window."""
        dealt = window.of_rank(self.ranks.rank, self.ranks.num_ranks)
        own = [index for micro_batch in dealt for index in micro_batch]
        cut = cut_passes([self.lengths[index] for index in own], self.rule)
        return tuple(tuple(own[place] for place in places) for places in cut)

    def steps(self, state: TrainState) -> Iterator[list[Batch]]:
        """The batches of each step from the current position to the last epoch, through one set of workers.

        Without workers they are made ahead in a thread, where there is a core for it.
        """
        train, workers = self.config.train, self.config.train.loader_workers
        loader: DataLoader[list[Batch]] = DataLoader(
            StepBatches(self.examples),
            batch_size=None,
            sampler=list(self._keys(state)),
            collate_fn=as_it_is,
            num_workers=workers,
            pin_memory=train.pin_memory and self.ranks.device.type == "cuda",
            prefetch_factor=train.prefetch_factor if workers else None,
        )
        if workers or count_cores() < 2:
            yield from loader
            return
        ahead = Lookahead(iter(loader), train.prefetch_factor)
        try:
            yield from ahead
        finally:
            ahead.close()

    def _keys(self, state: TrainState) -> Iterator[StepKey]:
        for epoch in range(state.epoch, self.config.train.epochs):
            first = state.window_index if epoch == state.epoch else 0
            for window in self.windows(epoch)[first:]:
                yield epoch, self.passes(window)


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_it_is(batches: list[Batch]) -> list[Batch]:
    """A step's batches are collated already."""
    return batches
