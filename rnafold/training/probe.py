"""The trainer's own steps on random chains, without data or a run folder: what they lose, take and hold."""

import dataclasses
import gc
import time

import torch
from torch.profiler import ProfilerActivity, profile

from rnafold.config.settings import Config
from rnafold.features.batch import Batch
from rnafold.planner.memory.trace import build_batch
from rnafold.training.learner import Learner
from rnafold.training.ranks import Ranks
from rnafold.training.state import Meter, StepResult, TrainState
from rnafold.training.step import Stepper

STEPS_PER_EPOCH = 10


def build_random_batch(length: int, size: int, seed: int = 0) -> Batch:
    """`size` random chains of `length` residues."""
    generator = torch.Generator().manual_seed(seed)
    one = build_batch(length)
    fields = {f.name: getattr(one, f.name) for f in dataclasses.fields(one)}
    many = {name: value.expand(size, *value.shape[1:]).clone() for name, value in fields.items()}
    for name in ("start", "coords"):
        many[name] = torch.randn(many[name].shape, generator=generator).cumsum(1) * 4.0
    many["pairing"] = torch.rand(many["pairing"].shape, generator=generator) * 0.1
    return Batch(**many)


class Probe:
    """Everything that steps need, of one configuration."""

    def __init__(self, config: Config) -> None:
        self.ranks = Ranks(config)
        self.learner = Learner(config, self.ranks)
        self.learner.network.train()
        self.state = TrainState(micro_limit=config.train.micro_batch)
        self.stepper = Stepper(
            config, self.learner, self.state, steps_per_epoch=STEPS_PER_EPOCH, clock=time.perf_counter
        )

    def step(self, batches: list[Batch]) -> StepResult:
        """One optimizer step."""
        result = self.stepper.take(batches, Meter())
        self.state.step += 1
        return result

    def losses(self, batch: Batch, count: int) -> list[float]:
        """The loss of each of `count` steps on one batch."""
        return [self.step([batch]).loss for _ in range(count)]

    def seconds(self, batch: Batch, count: int) -> float:
        """Mean seconds of a step, after one to warm up."""
        self.step([batch])
        self._finish()
        began = time.perf_counter()
        for _ in range(count):
            self.step([batch])
        self._finish()
        return (time.perf_counter() - began) / count

    def _finish(self) -> None:
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_bytes(self, batches: list[Batch]) -> int:
        """Bytes at the highest point of the second step: of the allocator on a card, of its events on a CPU."""
        self.step(batches)
        gc.collect()
        if self.ranks.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.step(batches)
            return int(torch.cuda.max_memory_allocated())
        parameters = list(self.learner.network.parameters())
        weights = sum(p.numel() * p.element_size() for p in parameters)
        trained = sum(p.numel() * p.element_size() for p in parameters if p.requires_grad)
        inputs = sum(getattr(batches[0], f.name).nbytes for f in dataclasses.fields(batches[0]))
        # weights, moving average and two moments; the gradients of the step before are dropped first thing, and the
        # profiler does not report the end of what it did not see begin. Of the batches only one would be in memory.
        held = 2 * weights + 2 * trained + inputs
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            self.step(batches)
        events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
        current = peak = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            current += event.nbytes()
            peak = max(peak, current)
        return int(held + peak)
