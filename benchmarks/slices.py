"""The far end of `throughput.py`: a training that takes some steps whenever it is told to, and says what they cost.

    python benchmarks/slices.py MODEL --data DIRECTORY --set KEY=VALUE ..      (MODEL: base, plain, .. or naive)

A line of standard input holds a number of steps; after them a line of standard output holds their figures as JSON. The
first LEAD steps of a slice are not counted: what was made ready while it waited is used up, and caches are warm again.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import naive
import torch

from rnafold import machine
from rnafold.config.settings import resolve_config
from rnafold.training.loop import Trainer
from rnafold.training.prepare import prepare_run
from rnafold.training.schedule import TimeBudget

# Steps of a training that a slice begins with uncounted.
LEAD = 2


@dataclass(slots=True, kw_only=True)
class Slice:
    """What the counted steps of a slice did and took.

    Attributes:
        wall, cpu: seconds by the clock and of the process, all threads.
        samples, residues: chains and their residues after cropping.
        loading, passes: seconds of the wall waiting for examples, and inside the forward and backward passes.
        padded_pairs, real_pairs: pairs of residues in the passes, with and without padding.
        lengths: of the samples.
        peak_gib: highest memory of the process so far.
    """

    wall: float = 0.0
    cpu: float = 0.0
    samples: int = 0
    residues: int = 0
    loading: float = 0.0
    passes: float = 0.0
    padded_pairs: int = 0
    real_pairs: int = 0
    lengths: list[int] = field(default_factory=list)
    peak_gib: float = 0.0

    def add_lengths(self, lengths: list[int]) -> None:
        """Counts the samples of a step."""
        self.lengths += lengths
        self.samples += len(lengths)
        self.residues += sum(lengths)
        self.real_pairs += sum(n * n for n in lengths)


def measure(step: Callable[[], list[int]], steps: int) -> Slice:
    """Takes some steps, each of which returns the lengths of its samples."""
    found = Slice()
    began, own = time.perf_counter(), time.process_time()
    for _ in range(steps):
        found.add_lengths(step())
    found.wall, found.cpu = time.perf_counter() - began, time.process_time() - own
    found.peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


class Training:
    """The trainer of the `train` command on its data, in a folder of its own."""

    def __init__(self, model: str, data: Path, out: Path, settings: list[str]) -> None:
        config = resolve_config("cpu", model, settings)
        machine.keep_freed_memory()
        prepared = prepare_run(config, data)
        self.trainer = Trainer(config, prepared.examples, (), out, TimeBudget(None))
        self.trainer.journal.open(10**6, 0, profile=False)
        self.trainer.learner.network.train()
        self.batches = self.trainer.loader.steps(self.trainer.state)
        self.windows = self._follow_windows()

    def _follow_windows(self) -> Iterator[list[int]]:
        """Lengths of the samples of each step, in the order of the run."""
        loader, epoch = self.trainer.loader, 0
        while True:
            for window in loader.windows(epoch):
                yield [loader.lengths[k] for micro_batch in window.micro_batches for k in micro_batch]
            epoch += 1

    def step(self) -> list[int]:
        """One optimizer step of the run; evaluations and checkpoints are left out."""
        state, windows = self.trainer.state, self.trainer.loader.steps_per_epoch
        self.trainer._take_step(self.batches)
        if state.window_index == windows:
            state.epoch, state.window_index = state.epoch + 1, 0
        return next(self.windows)

    def run(self, steps: int) -> Slice:
        """A slice, with what the run's own meter says of it."""
        for _ in range(LEAD):
            self.step()
        meter = self.trainer.journal.meter
        meter.loading_seconds = 0.0
        meter.seconds_by_length.clear()
        found = measure(self.step, steps)
        found.loading = meter.loading_seconds
        found.passes = sum(seconds for _, seconds, _ in meter.seconds_by_length.values())
        found.padded_pairs = int(sum(count * n**2 for n, (_, _, count) in meter.seconds_by_length.items()))
        return found


def serve(run: Callable[[int], Slice]) -> None:
    """Answers each line of standard input."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(run(int(line)))), flush=True)


def main() -> None:
    """Parse the command line, then do as told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", nargs="*", default=[], dest="settings")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.model == "naive":
        steps = naive.take_steps(arguments.data)
        next(steps)  # one to warm up
        serve(lambda count: measure(lambda: next(steps), count))
        return
    with tempfile.TemporaryDirectory() as folder:
        training = Training(arguments.model, arguments.data, Path(folder) / "run", arguments.settings)
        training.run(1)
        serve(training.run)


if __name__ == "__main__":
    main()
