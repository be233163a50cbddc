"""One optimizer step: accumulate the gradient of a window, reduce it over the ranks, apply it.

A step asks nothing of the run but its state: what it draws at random hangs on (seed, step, rank) alone.
"""

import logging
import math
from collections.abc import Sequence

import torch

from rnafold import machine
from rnafold.config.machine_use import count_accumulation, learning_rate
from rnafold.config.settings import Config
from rnafold.errors import InputError
from rnafold.features.batch import Batch
from rnafold.features.build import padded_length
from rnafold.model.encoder import thaw
from rnafold.model.losses import compute_losses, list_terms
from rnafold.training.learner import Learner
from rnafold.training.schedule import rate_at
from rnafold.training.state import Clock, Meter, StepResult, TrainState

log = logging.getLogger(__name__)
NO_ROOM = "lower data.crop_length, set train.gradient_checkpointing=pairs or true, or take a smaller --model"


def draw_recycles(config: Config, step: int, rank: int) -> int:
    """Seeds torch for a step and draws its recycles: dropout and sampled pairs need no random state for a resume."""
    torch.manual_seed((config.train.seed * 1_000_003 + step) * 64 + rank)
    return int(torch.randint(config.model.max_recycles + 1, ()))


class Stepper:
    """Takes the steps of one run and answers a lack of memory; `state` says where the run is and is not moved here."""

    def __init__(
        self, config: Config, learner: Learner, state: TrainState, *, steps_per_epoch: int, clock: Clock
    ) -> None:
        self.config, self.learner, self.ranks, self.state = config, learner, learner.ranks, state
        self.steps_per_epoch, self.clock = steps_per_epoch, clock
        self.terms = list_terms(config.loss)
        train, num_ranks = config.train, self.ranks.num_ranks
        self.peak_rate = learning_rate(train, train.micro_batch, count_accumulation(train, num_ranks), num_ranks)

    def take(self, batches: Sequence[Batch], meter: Meter) -> StepResult:
        """One optimizer step; a window that runs out of memory is done again with half the micro batch.

        Args:
            batches: what each pass of this rank takes.
            meter: gets the seconds of each pass.

        Raises:
            InputError: not even one example at a time fits.
        """
        while True:
            sums = self._try_window(batches, meter)
            if sums is not None:
                return self.apply(*sums)
            self._halve(batches)

    def _try_window(self, batches: Sequence[Batch], meter: Meter) -> tuple[torch.Tensor, int] | None:
        """What `accumulate` gives; None if the memory of any rank is exhausted."""
        found = None
        self.learner.optimizer.zero_grad(set_to_none=True)
        try:
            found = self.accumulate(batches, meter)
        except (RuntimeError, MemoryError) as error:
            if not machine.is_out_of_memory(error):
                raise
        return None if self.ranks.agree(found is None) else found

    def _halve(self, batches: Sequence[Batch]) -> None:
        if self.state.micro_limit <= 1:
            longest = max(b.mask.shape[1] for b in batches)
            raise InputError(f"out of memory at a micro batch of 1 (length up to {longest}): {NO_ROOM}")
        self.state.micro_limit //= 2
        log.warning("out of memory: micro batch halved to %d at the same effective batch", self.state.micro_limit)
        self.ranks.free_memory()

    def accumulate(self, batches: Sequence[Batch], meter: Meter) -> tuple[torch.Tensor, int]:
        """Backward passes of a window; returns sums over residues of (loss, terms..) and the residues of all ranks."""
        state = self.state
        thaw(self.learner.network, state.epoch)
        recycles = draw_recycles(self.config, state.step, self.ranks.rank)
        own = sum(int(b.coord_mask[..., 0].sum()) for b in batches)
        residues = int(self.ranks.sum(torch.tensor(float(own))))
        sums = torch.zeros(1 + len(self.terms), dtype=torch.float64)
        for whole in batches:
            for batch in self._within_limit(whole):
                began = self.clock()
                sums += self._backward(batch.to(self.ranks.device), recycles, max(residues, 1))
                meter.add_time(padded_length(batch.mask.shape[1]), self.clock() - began, len(batch.mask))
        return sums, residues

    def _within_limit(self, batch: Batch) -> list[Batch]:
        """The batch; once memory ran out, parts of it. Until then a pass may hold more examples than a micro batch."""
        limit = self.state.micro_limit
        return [batch] if limit >= self.config.train.micro_batch else batch.split(limit)

    def _backward(self, batch: Batch, recycles: int, residues: int) -> torch.Tensor:
        """Adds the gradient of one micro batch's share of the window; returns its sums of (loss, terms..)."""
        state = self.state
        epoch = state.epoch + state.window_index / max(self.steps_per_epoch, 1)
        with machine.attention_kernels(self.config.train.attention, self.ranks.device.type):
            with self.ranks.autocast():
                output = self.learner.forward(batch, recycles)
            losses = compute_losses(output, batch, self.config.loss, epoch)
            weights = losses.residues.to(losses.total.dtype)
            self.ranks.backward((losses.total * weights).sum() / residues)
        absent = torch.zeros_like(losses.total)
        values = torch.stack([losses.total, *(losses.terms.get(name, absent) for name in self.terms)])
        return (values.detach() * weights).sum(1).cpu().to(torch.float64)

    def apply(self, sums: torch.Tensor, residues: int) -> StepResult:
        """Reduces and clips the gradient, sets the rate and steps, unless the gradient is not finite."""
        learner, ranks = self.learner, self.ranks
        ranks.reduce_gradients(learner.trained_parameters())
        norm = ranks.clip_gradients(list(learner.network.parameters()), self.config.train.clip_norm)
        means = (ranks.sum(sums) / max(residues, 1)).tolist()
        applied = self._update(math.isfinite(norm))
        every = self.config.train.empty_cache_every_steps
        if every and self.state.step % every == 0:
            ranks.free_memory()
        terms = {name: means[k + 1] for k, name in enumerate(self.terms)}
        return StepResult(loss=means[0], terms=terms, grad_norm=norm, residues=residues, applied=applied)

    def _update(self, finite: bool) -> bool:
        """Steps with a finite gradient; returns whether weights changed."""
        learner = self.learner
        if not finite and self.ranks.scaler is None:
            return False
        learner.set_rate(rate_at(self.state.step, self.steps_per_epoch, self.peak_rate, self.config.train))
        # under fp16 the scaler leaves the step out by itself and lowers its scale
        learner.optimizer.step()
        applied = finite and not learner.optimizer.step_was_skipped
        if applied:
            learner.average.update_parameters(learner.network)
        return applied
