"""Which micro batches this rank gets next: the sampler's windows of the run's examples, through one set of workers."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch.utils.data import DataLoader

from rnafold.config.machine_use import count_accumulation
from rnafold.config.settings import Config
from rnafold.data.sampler import Window, plan_epoch
from rnafold.features.batch import Batch, collate
from rnafold.features.build import Example
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


class Loader:
    """Deals the examples of one run to its steps and ranks."""

    def __init__(self, examples: ExampleSource, config: Config, ranks: Ranks) -> None:
        self.examples, self.config, self.ranks = examples, config, ranks
        train = config.train
        self.effective_batch = count_accumulation(train, ranks.num_ranks) * train.micro_batch * ranks.num_ranks
        # every epoch draws equally many examples
        self.steps_per_epoch = len(self.windows(0))

    def windows(self, epoch: int) -> list[Window]:
        """The optimizer steps of an epoch."""
        train, examples = self.config.train, self.examples
        return plan_epoch(
            examples.lengths,
            examples.groups,
            train.seed,
            epoch,
            self.effective_batch,
            train.micro_batch,
            self.config.data.balance_length,
        )

    def of_rank(self, window: Window) -> tuple[tuple[int, ...], ...]:
        """The micro batches of a window that this rank works on."""
        return window.of_rank(self.ranks.rank, self.ranks.num_ranks)

    def batches(self, state: TrainState) -> Iterator[Batch]:
        """Micro batches of this rank from the current position to the last epoch, through one set of workers."""
        train, workers = self.config.train, self.config.train.loader_workers
        examples: Any = self.examples  # all that a DataLoader asks of a data set are length and items
        loader = DataLoader(
            examples,
            batch_sampler=list(self._keys(state)),
            collate_fn=collate,
            num_workers=workers,
            pin_memory=train.pin_memory and self.ranks.device.type == "cuda",
            prefetch_factor=train.prefetch_factor if workers else None,
        )
        return iter(loader)

    def _keys(self, state: TrainState) -> Iterator[list[tuple[int, int]]]:
        for epoch in range(state.epoch, self.config.train.epochs):
            first = state.window_index if epoch == state.epoch else 0
            for window in self.windows(epoch)[first:]:
                for micro_batch in self.of_rank(window):
                    yield [(epoch, index) for index in micro_batch]
