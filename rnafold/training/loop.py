"""The training loop: epochs of steps, evaluations, exact resume, a time budget, and a stop where nothing is finite."""

import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

import torch

from rnafold.config.settings import Config
from rnafold.errors import InputError
from rnafold.features.batch import Batch
from rnafold.files.run_folder import RunFolder
from rnafold.files.weights_header import WeightsDescription, format_metadata
from rnafold.model.encoder import describe_encoder
from rnafold.model.network import count_parameters
from rnafold.model.weights import digest_tensors
from rnafold.training.checkpoint import load_checkpoint, save_checkpoint, save_tensors
from rnafold.training.evaluate import Evaluation, ValidationTarget, evaluate
from rnafold.training.journal import Journal
from rnafold.training.learner import Learner
from rnafold.training.loading import ExampleSource, Loader
from rnafold.training.ranks import Ranks
from rnafold.training.schedule import TimeBudget
from rnafold.training.state import TrainState
from rnafold.training.step import Stepper

log = logging.getLogger(__name__)
STOPS = (signal.SIGTERM, signal.SIGINT)


class Trainer:
    """One training run: what learns, what it learns from, its steps, its budget and its folder."""

    def __init__(
        self,
        config: Config,
        examples: ExampleSource,
        validation: Sequence[ValidationTarget],
        out: Path,
        budget: TimeBudget,
        *,
        resume: bool = False,
        profile: bool = False,
    ) -> None:
        self.config, self.validation, self.folder = config, validation, RunFolder(out)
        self.budget, self.clock = budget, budget.clock
        self.ranks = Ranks(config)
        self.learner = Learner(config, self.ranks)
        self.loader = Loader(examples, config, self.ranks)
        self.state = TrainState(micro_limit=config.train.micro_batch)
        self.profile, self.stop_requested = profile, False
        resumed = self._restore() if resume else False
        steps = self.loader.steps_per_epoch
        self.stepper = Stepper(config, self.learner, self.state, steps_per_epoch=steps, clock=self.clock)
        self.journal = Journal(self.folder, self.ranks, self.clock, resume_step=self.state.step if resumed else None)
        self.saved_at = self.clock()

    def describe(self) -> str:
        """One line about what the run will do."""
        train, loader, num_ranks = self.config.train, self.loader, self.ranks.num_ranks
        return (
            f"{self.config.model.name}: {count_parameters(self.learner.network):,} parameters; "
            f"{len(loader.examples)} entries, {loader.steps_per_epoch} steps an epoch, {train.epochs} epochs; "
            f"effective batch {loader.effective_batch} = {train.micro_batch} x "
            f"{loader.effective_batch // (train.micro_batch * num_ranks)} x {num_ranks}; peak learning rate "
            f"{self.stepper.peak_rate:.3g} ({train.lr_rule} on {train.lr_rule_on}); {train.precision} on "
            f"{self.ranks.device}"
        )

    def run(self) -> TrainState:
        """Trains until the last epoch, early stopping, the time budget or a signal; returns the final state."""
        state, train = self.state, self.config.train
        if state.finished == "patience" or state.epoch >= train.epochs:
            return state
        state.finished = ""
        self.saved_at = self.clock()
        with self._listen_to_signals():
            try:
                self.journal.open(train.epochs * self.loader.steps_per_epoch, state.step, profile=self.profile)
                self.learner.network.train()
                batches = self.loader.steps(state)
                while state.epoch < train.epochs and not state.has_finished():
                    self._train_epoch(batches)
                self._end()
            finally:
                self.journal.close()
        return state

    @contextmanager
    def _listen_to_signals(self) -> Iterator[None]:
        """SIGTERM or SIGINT asks for a stop after the step at hand, with a checkpoint; a second one ends it at once."""
        previous = {number: signal.signal(number, self._answer_signal) for number in STOPS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _answer_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.stop_requested:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.stop_requested = True
        log.warning(
            "%s: stopping after this step, with a checkpoint; a second ends at once", signal.Signals(number).name
        )

    def _train_epoch(self, batches: Iterator[list[Batch]]) -> None:
        """The steps of one epoch from where the run stands, up to a reason to stop."""
        state = self.state
        windows = self.loader.windows(state.epoch)
        for _ in windows[state.window_index :]:
            if self._must_stop("step"):
                return
            self._take_step(batches)
            if state.has_finished():
                return
            due = self.clock() - self.saved_at > self.config.train.checkpoint_every_minutes * 60
            if self.ranks.agree(due) and state.window_index < len(windows):
                self._save()
        self._end_epoch(len(windows))

    def _take_step(self, batches: Iterator[list[Batch]]) -> None:
        """One step with the next batches, noted in the budget, the state and the journal."""
        began = self.clock()
        own = next(batches)
        self.journal.meter.loading_seconds += self.clock() - began
        result = self.stepper.take(own, self.journal.meter)
        self.budget.record("step", self.clock() - began)
        state = self.state
        state.step, state.window_index = state.step + 1, state.window_index + 1
        state.bad_steps = 0 if result.applied else state.bad_steps + 1
        if not result.applied:
            log.warning("step %d skipped: loss %.4g, gradient norm %.4g", state.step, result.loss, result.grad_norm)
        if state.bad_steps >= self.config.train.max_bad_steps:
            self._give_up()
        self.journal.add(result)
        if state.step % self.config.train.log_every_steps == 0:
            self._write_steps()

    def _give_up(self) -> None:
        """Too many steps in a row were not finite: back to the last good weights."""
        self.state.finished = "not_finite"
        good = load_checkpoint(self.folder.checkpoints.path)
        log.error("%d steps in a row were not finite: stopping; the last good weights stay", self.state.bad_steps)
        if good is not None:
            self.learner.load(good, self.folder.path)

    def _end_epoch(self, num_windows: int) -> None:
        """Evaluates and saves where either is due."""
        state, train = self.state, self.config.train
        state.epoch, state.window_index = state.epoch + 1, 0
        self._write_steps()
        due = state.epoch % train.evaluate_every_epochs == 0 or state.epoch == train.epochs
        if due and self.validation:
            if self._must_stop("evaluation"):
                # back to the end of the epoch, so that a resume begins with this evaluation
                state.epoch, state.window_index = state.epoch - 1, num_windows
            else:
                self._validate()
        if state.epoch % train.checkpoint_every_epochs == 0 or state.has_finished():
            self._save()

    def _validate(self) -> None:
        """Evaluates the moving average, keeps the best weights and decides on early stopping."""
        state, patience = self.state, self.config.train.patience
        began = self.clock()
        result = self.evaluate()
        seconds = self.clock() - began
        self.budget.record("evaluation", seconds)
        better = result.tm_score > state.best_tm
        state.evaluations_without_gain = 0 if better else state.evaluations_without_gain + 1
        if better:
            state.best_tm, state.best_step = result.tm_score, state.step
            self._save_weights(result)
        if patience and state.evaluations_without_gain >= patience:
            state.finished = "patience"
        self.journal.write_evaluation(state, result, seconds)

    def evaluate(self) -> Evaluation:
        """The main rank evaluates; the others get its score, so that all stop together."""
        targets = self.validation if self.ranks.is_main else []
        result = evaluate(self.learner.averaged, targets, self.config.model.max_recycles, self.ranks.device)
        own = result.tm_score if self.ranks.is_main else 0.0
        return replace(result, tm_score=float(self.ranks.sum(torch.tensor(own, dtype=torch.float64))))

    def _end(self) -> None:
        """Leaves a run that stopped for any reason with its last line, weights and a checkpoint."""
        self.state.finished = self.state.finished or "epochs"
        self._write_steps()
        if not self.folder.weights_file.is_file():
            self._save_weights(None)  # no evaluation yet: the average so far is better than nothing
        self._save()

    def _write_steps(self) -> None:
        state = self.state
        self.journal.write_steps(
            state,
            epoch=state.epoch + state.window_index / max(self.loader.steps_per_epoch, 1),
            rate=self.learner.rate,
            elapsed_seconds=state.seconds + self.budget.elapsed_seconds,
        )

    def _must_stop(self, kind: str) -> bool:
        """Whether a signal came or the time is up for such work, on any rank; the state says why."""
        stop = self.ranks.agree(self.stop_requested or not self.budget.allows(kind))
        if stop:
            self.state.finished = "signal" if self.stop_requested else "time"
        return stop

    def _save(self) -> None:
        began = self.clock()
        self.ranks.wait()
        if self.ranks.is_main:
            position = asdict(self.state) | {"seconds": self.state.seconds + self.budget.elapsed_seconds}
            saved = self.learner.save(position, self.loader.effective_batch)
            save_checkpoint(self.folder.checkpoints.path, self.state.step, saved, self.config.train.keep_checkpoints)
        self.ranks.wait()
        self.saved_at = self.clock()
        self.budget.record("checkpoint", self.saved_at - began)

    def _save_weights(self, result: Evaluation | None) -> None:
        if not self.ranks.is_main:
            return
        tensors = self.learner.averaged.state_dict()
        described: WeightsDescription = {
            "model": asdict(self.config.model),
            "cutoff": self.config.data.cutoff,
            "validation_tm_score": None if result is None else round(result.tm_score, 6),
            "step": self.state.step,
            "seed": self.config.train.seed,
            "tensors_sha256": digest_tensors(tensors),
        }
        if encoder := describe_encoder(self.learner.network):
            described["encoder"] = encoder
            described["encoder_accepted"] = False  # until training.comparison says otherwise
        save_tensors(self.folder.weights_file, tensors, format_metadata(described))

    def _restore(self) -> bool:
        """Goes to the newest checkpoint; False if there is none."""
        if self.ranks.is_main:
            self.folder.checkpoints.sweep()
        saved = load_checkpoint(self.folder.checkpoints.path)
        if saved is None:
            return False
        self.learner.load(saved, self.folder.path)
        there, here = saved.state["effective_batch"], self.loader.effective_batch
        if there != here:
            place = self.folder.path
            raise InputError(
                f"{place}: the checkpoint has an effective batch of {there}, this run {here}: resume with the same"
            )
        self.state = TrainState(**saved.state["train"])
        return True
