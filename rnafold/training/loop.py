"""The training loop on Accelerate: exact resume, honest accumulation, a time budget, and answers to OOM and NaN.

Gradients are reduced by hand once a window instead of by DDP once a backward pass: so the loss is divided by the
resolved residues of the whole window over all ranks, a rank may run out of memory without leaving the others waiting,
and a rank without a micro batch takes part all the same.
"""

import json
import logging
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from rnafold import machine
from rnafold.config.machine_use import count_accumulation, learning_rate
from rnafold.config.settings import Config
from rnafold.data.sampler import Window, plan_epoch
from rnafold.errors import InputError
from rnafold.features.batch import Batch, collate, padded_length
from rnafold.features.build import Example
from rnafold.files.metrics import MetricsFile
from rnafold.files.run_folder import RunFolder
from rnafold.model.encoder import describe_encoder, rate_groups, require_encoder, thaw
from rnafold.model.losses import TERMS, compute_losses
from rnafold.model.network import PairNetwork, PlainNetwork, build_network, count_parameters
from rnafold.structure import Entry
from rnafold.training import checkpoint
from rnafold.training.dataset import TrainingExamples
from rnafold.training.evaluate import Evaluation, evaluate
from rnafold.training.schedule import TimeBudget, rate_at

log = logging.getLogger(__name__)
MIXED_PRECISION = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}


@dataclass(slots=True)
class TrainState:
    """Where a run stands; everything that a resume needs besides tensors. `step` counts optimizer steps."""

    epoch: int = 0
    window_index: int = 0
    step: int = 0
    best_tm: float = -1.0
    best_step: int = 0
    evaluations_without_gain: int = 0
    micro_limit: int = 0
    bad_steps: int = 0
    seconds: float = 0.0
    finished: str = ""

    def has_finished(self) -> bool:
        """Whether something has ended the run; `finished` says what."""
        return bool(self.finished)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one optimizer step measured: unweighted means of the terms over residues, and the norm before clipping."""

    loss: float
    terms: dict[str, float]
    grad_norm: float
    residues: int
    applied: bool


@dataclass(slots=True)
class Meter:
    """Sums between two lines of metrics.jsonl."""

    results: list[StepResult] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    seconds_by_length: dict[int, list[float]] = field(default_factory=dict)

    def add_time(self, length: int, seconds: float, examples: int) -> None:
        """Adds one micro batch of padded `length`: count, seconds, examples."""
        entry = self.seconds_by_length.setdefault(length, [0, 0.0, 0])
        entry[0] += 1
        entry[1] += seconds
        entry[2] += examples


class Trainer:
    """One training run: owns the network, its moving average, the optimizer and the run folder."""

    def __init__(
        self,
        config: Config,
        examples: TrainingExamples,
        validation: Sequence[tuple[Entry, Example]],
        out: Path,
        budget: TimeBudget,
        *,
        resume: bool = False,
        profile: bool = False,
    ) -> None:
        self.config, self.examples, self.validation, self.out, self.budget = config, examples, validation, out, budget
        self.folder = RunFolder(out)
        train = config.train
        # Accelerate keeps the precision of the first run of a process and refuses another; the process group stays
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision=MIXED_PRECISION[train.precision],
            cpu=config.hardware.device_type == "cpu",
            step_scheduler_with_optimizer=False,
        )
        self.device, self.is_main = self.accelerator.device, self.accelerator.is_main_process
        self.rank, self.num_ranks = self.accelerator.process_index, self.accelerator.num_processes
        if self.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(train.memory_share)
            torch.backends.cudnn.benchmark = True
        torch.manual_seed(train.seed)
        self.network: PairNetwork | PlainNetwork = build_network(config.model).to(self.device)
        self.network.use_checkpointing = train.gradient_checkpointing
        self.forward = torch.compile(self.network, dynamic=True) if train.compile else self.network
        self.average = AveragedModel(self.network, multi_avg_fn=_moving_average(train.ema_decay))
        self.names: dict[torch.Tensor, str] = {p: name for name, p in self.network.named_parameters()}
        self.optimizer = self.accelerator.prepare_optimizer(
            torch.optim.AdamW(_parameter_groups(self.network, train.weight_decay), lr=1.0, foreach=True)
        )
        accumulation = count_accumulation(train, self.num_ranks)
        self.effective_batch = accumulation * train.micro_batch * self.num_ranks
        self.peak_rate = learning_rate(train, train.micro_batch, accumulation, self.num_ranks)
        self.state = TrainState(micro_limit=train.micro_batch)
        self.profile, self.stop_requested = profile, False
        resumed = self._restore() if resume else False
        self.steps_per_epoch = len(self._windows(0))
        if self.is_main:
            resume_step = self.state.step if resumed else None
            self.metrics = MetricsFile(self.folder.metrics_file, resume_step)
            self.board = SummaryWriter(str(self.folder.board_folder), purge_step=resume_step)

    def describe(self) -> str:
        """One line about what the run will do."""
        train = self.config.train
        return (
            f"{self.config.model.name}: {count_parameters(self.network):,} parameters; {len(self.examples)} entries, "
            f"{self.steps_per_epoch} steps an epoch, {train.epochs} epochs; effective batch {self.effective_batch} = "
            f"{train.micro_batch} x {self.effective_batch // (train.micro_batch * self.num_ranks)} x {self.num_ranks}; "
            f"peak learning rate {self.peak_rate:.3g} ({train.lr_rule} on {train.lr_rule_on}); {train.precision} on "
            f"{self.device}"
        )

    def run(self) -> TrainState:
        """Trains until the last epoch, early stopping, the time budget or a signal; returns the final state."""
        state, train = self.state, self.config.train
        if state.finished == "patience" or state.epoch >= train.epochs:
            return state
        state.finished = ""
        previous = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop_requested", True))
        last_saved = time.monotonic()
        bar = tqdm(
            total=train.epochs * self.steps_per_epoch,
            initial=state.step,
            unit="step",
            disable=None if self.is_main else True,
        )
        meter, profiler = Meter(), self._profiler()
        self.network.train()
        batches = self._load()
        try:
            while state.epoch < train.epochs and not state.has_finished():
                windows = self._windows(state.epoch)
                for window in windows[state.window_index :]:
                    if self._must_stop("step"):
                        state.finished = "signal" if self.stop_requested else "time"
                        break
                    began = time.monotonic()
                    own = [next(batches) for _ in window.of_rank(self.rank, self.num_ranks)]
                    result = self._step(own, len(windows), meter)
                    self.budget.record("step", time.monotonic() - began)
                    self._count(result)
                    meter.results.append(result)
                    bar.update()
                    if profiler is not None:
                        profiler.step()
                    if state.step % train.log_every_steps == 0:
                        meter = self._log(meter, bar)
                    if state.has_finished():
                        break
                    due = time.monotonic() - last_saved > train.checkpoint_every_minutes * 60
                    if self._agree(due) and state.window_index < len(windows):
                        self._save()
                        last_saved = time.monotonic()
                else:
                    state.epoch, state.window_index = state.epoch + 1, 0
                    if meter.results:
                        meter = self._log(meter, bar)
                    self._finish_epoch()
                    if state.epoch % train.checkpoint_every_epochs == 0 or state.has_finished():
                        self._save()
                        last_saved = time.monotonic()
            state.finished = state.finished or "epochs"
            if meter.results:
                self._log(meter, bar)
            if not self.folder.weights_file.is_file():
                self._save_weights(None)  # no evaluation yet: the average so far is better than nothing
            self._save()
        finally:
            signal.signal(signal.SIGTERM, previous)
            bar.close()
            if profiler is not None:
                profiler.stop()
            if self.is_main:
                self.board.close()
        return state

    def _windows(self, epoch: int) -> list[Window]:
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

    def _load(self) -> Iterator[Batch]:
        """Micro batches of this rank from the current position to the last epoch, through one set of workers."""
        train, state = self.config.train, self.state

        def keys() -> Iterator[list[tuple[int, int]]]:
            for epoch in range(state.epoch, train.epochs):
                first = state.window_index if epoch == state.epoch else 0
                for window in self._windows(epoch)[first:]:
                    for micro_batch in window.of_rank(self.rank, self.num_ranks):
                        yield [(epoch, index) for index in micro_batch]

        plan = list(keys())
        workers = train.loader_workers
        loader = DataLoader(
            self.examples,
            batch_sampler=plan,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=train.pin_memory and self.device.type == "cuda",
            prefetch_factor=train.prefetch_factor if workers else None,
        )
        return iter(loader)

    def _step(self, batches: Sequence[Batch], windows_in_epoch: int, meter: Meter) -> StepResult:
        """One optimizer step; a window that runs out of memory is done again with half the micro batch."""
        while True:
            exhausted = False
            self.optimizer.zero_grad(set_to_none=True)
            try:
                sums, residues = self._accumulate(batches, windows_in_epoch, meter)
            except (RuntimeError, MemoryError) as error:
                if not machine.is_out_of_memory(error):
                    raise
                exhausted = True
            if not self._agree(exhausted):
                break
            if self.state.micro_limit <= 1:
                raise InputError(
                    f"out of memory at a micro batch of 1 (length up to {max(b.mask.shape[1] for b in batches)}): "
                    "lower data.crop_length, set train.gradient_checkpointing=true, or take a smaller --model"
                )
            self.state.micro_limit //= 2
            log.warning("out of memory: micro batch halved to %d at the same effective batch", self.state.micro_limit)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return self._apply(sums, residues)

    def _accumulate(self, batches: Sequence[Batch], windows_in_epoch: int, meter: Meter) -> tuple[torch.Tensor, int]:
        """Backward passes of a window; returns sums over residues of (loss, terms..) and the residues of all ranks."""
        state, train = self.state, self.config.train
        thaw(self.network, state.epoch)
        # dropout, sampled pairs and recycles hang on (seed, step, rank) alone: a resume needs no random state
        torch.manual_seed((train.seed * 1_000_003 + state.step) * 64 + self.rank)
        recycles = int(torch.randint(self.config.model.max_recycles + 1, ()))
        epoch = state.epoch + state.window_index / max(windows_in_epoch, 1)
        own = sum(int(b.coord_mask[..., 0].sum()) for b in batches)
        residues = int(self._sum(torch.tensor(float(own))))
        sums = torch.zeros(1 + len(TERMS), dtype=torch.float64)
        for whole in batches:
            for batch in whole.split(state.micro_limit):
                began = time.monotonic()
                moved = batch.to(self.device)
                with machine.attention_kernels(train.attention, self.device.type):
                    with self.accelerator.autocast():
                        output = self.forward(moved, recycles)
                    losses = compute_losses(output, moved, self.config.loss, epoch)
                    weights = losses.residues.to(losses.total.dtype)
                    self.accelerator.backward((losses.total * weights).sum() / max(residues, 1))
                values = torch.stack(
                    [losses.total, *(losses.terms.get(t, torch.zeros_like(losses.total)) for t in TERMS)]
                )
                sums += (values.detach() * weights).sum(1).double().cpu()
                meter.add_time(padded_length(batch.mask.shape[1]), time.monotonic() - began, len(batch.mask))
        return sums, residues

    def _apply(self, sums: torch.Tensor, residues: int) -> StepResult:
        """Reduces and clips the gradient, sets the rate and steps, unless the gradient is not finite."""
        state, train = self.state, self.config.train
        self._reduce_gradients()
        norm = float(self.accelerator.clip_grad_norm_(self.network.parameters(), train.clip_norm))
        means = (self._sum(sums) / max(residues, 1)).tolist()
        finite = bool(torch.isfinite(torch.tensor(norm)))
        applied = False
        if finite or self.accelerator.scaler is not None:
            rate = rate_at(state.step, self.steps_per_epoch, self.peak_rate, train)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["share"]
            # under fp16 the scaler leaves the step out by itself and lowers its scale
            self.optimizer.step()
            applied = finite and not self.optimizer.step_was_skipped
        if applied:
            self.average.update_parameters(self.network)
        if (
            train.empty_cache_every_steps
            and self.device.type == "cuda"
            and state.step % train.empty_cache_every_steps == 0
        ):
            torch.cuda.empty_cache()
        present = {name: means[k + 1] for k, name in enumerate(TERMS)}
        return StepResult(loss=means[0], terms=present, grad_norm=norm, residues=residues, applied=applied)

    def _reduce_gradients(self) -> None:
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.num_ranks > 1:
            flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
            flat = self.accelerator.reduce(flat, reduction="sum")
            for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters])):
                parameter.grad = part.view_as(parameter).clone()

    def _count(self, result: StepResult) -> None:
        """Moves the position on and answers steps that were not finite: skipped, then, if they go on, a stop."""
        state = self.state
        state.step, state.window_index = state.step + 1, state.window_index + 1
        state.bad_steps = 0 if result.applied else state.bad_steps + 1
        if not result.applied:
            log.warning("step %d skipped: loss %.4g, gradient norm %.4g", state.step, result.loss, result.grad_norm)
        if state.bad_steps >= self.config.train.max_bad_steps:
            state.finished = "not_finite"
            good = checkpoint.load_checkpoint(self.folder.checkpoints.path)
            log.error("%d steps in a row were not finite: stopping; the last good weights stay", state.bad_steps)
            if good is not None:
                self._load_tensors(good)

    def _finish_epoch(self) -> None:
        """Evaluates the moving average, keeps the best weights and decides on early stopping."""
        state, train = self.state, self.config.train
        due = state.epoch % train.evaluate_every_epochs == 0 or state.epoch == train.epochs
        if not due or not self.validation:
            return
        if self._must_stop("evaluation"):
            # back to the end of the epoch, so that a resume begins with this evaluation
            state.epoch, state.window_index = state.epoch - 1, len(self._windows(state.epoch - 1))
            state.finished = "signal" if self.stop_requested else "time"
            return
        began = time.monotonic()
        result = self._evaluate()
        seconds = time.monotonic() - began
        self.budget.record("evaluation", seconds)
        better = result.tm_score > state.best_tm
        state.evaluations_without_gain = 0 if better else state.evaluations_without_gain + 1
        if better:
            state.best_tm, state.best_step = result.tm_score, state.step
            self._save_weights(result)
        if train.patience and state.evaluations_without_gain >= train.patience:
            state.finished = "patience"
        if self.is_main:
            self.metrics.write(
                {
                    "kind": "evaluation",
                    "step": state.step,
                    "epoch": state.epoch,
                    "tm_score": result.tm_score,
                    "best_tm_score": state.best_tm,
                    "tm_by_target": result.by_target,
                    "expected_tm_by_target": result.expected_tm_by_target,
                    **{f"validation_{name}": value for name, value in result.physics.items()},
                    "evaluation_seconds": seconds,
                }
            )
            self.board.add_scalar("validation/tm_score", result.tm_score, state.step)

    def _evaluate(self) -> Evaluation:
        """The main rank evaluates; the others get its numbers, so that all stop together."""
        network: Any = self.average.module
        pairs = self.validation if self.is_main else []
        result = evaluate(
            network, [e for e, _ in pairs], [x for _, x in pairs], self.config.model.max_recycles, self.device
        )
        tm = float(self._sum(torch.tensor(result.tm_score if self.is_main else 0.0, dtype=torch.float64)))
        return replace(result, tm_score=tm)

    def _log(self, meter: Meter, bar: Any) -> Meter:
        """Writes the means of the steps since the last line; returns a fresh meter."""
        state, seconds = self.state, max(time.monotonic() - meter.started, 1e-9)
        residues = sum(r.residues for r in meter.results)
        terms = {n: sum(r.terms[n] * r.residues for r in meter.results) / max(residues, 1) for n in TERMS}
        loss = sum(r.loss * r.residues for r in meter.results) / max(residues, 1)
        last = self.budget.elapsed_seconds
        if self.is_main:
            record = {
                "kind": "train",
                "step": state.step,
                "epoch": round(state.epoch + state.window_index / max(self.steps_per_epoch, 1), 4),
                "loss": loss,
                **terms,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "grad_norm": meter.results[-1].grad_norm,
                "residues_per_second": residues / seconds,
                "peak_memory_gib": machine.peak_memory_gib(self.device.type),
                "step_seconds": seconds / len(meter.results),
                "elapsed_seconds": state.seconds + last,
                "micro_batch": state.micro_limit,
                "skipped_steps": sum(not r.applied for r in meter.results),
                "micro_batch_seconds_by_length": meter.seconds_by_length,
            }
            self.metrics.write(record)
            for name in ("loss", *TERMS, "learning_rate", "grad_norm", "residues_per_second", "peak_memory_gib"):
                self.board.add_scalar(f"train/{name}", record[name], state.step)
        bar.set_postfix(loss=f"{loss:.3f}", tm=f"{max(state.best_tm, 0):.3f}")
        return Meter()

    def _must_stop(self, *kinds: str) -> bool:
        """Whether a signal came or the time is up, on any rank."""
        return self._agree(self.stop_requested or not self.budget.allows(*kinds))

    def _agree(self, flag: bool) -> bool:
        """True on all ranks if it is on one."""
        return bool(self._sum(torch.tensor(float(flag))) > 0) if self.num_ranks > 1 else flag

    def _sum(self, value: torch.Tensor) -> torch.Tensor:
        """Sum over the ranks, on the CPU."""
        if self.num_ranks == 1:
            return value
        reduced: torch.Tensor = self.accelerator.reduce(value.to(self.device), reduction="sum")
        return reduced.cpu()

    def _save(self) -> None:
        began = time.monotonic()
        self.accelerator.wait_for_everyone()
        if self.is_main:
            scaler = self.accelerator.scaler
            state = asdict(self.state)
            state["seconds"] = self.state.seconds + self.budget.elapsed_seconds
            tensors = {
                "model": dict(self.network.state_dict()),
                "average": dict(self.average.module.state_dict()),
                "optimizer": checkpoint.flatten_optimizer(self.optimizer.optimizer, self.names),
            }
            content = {
                "train": state,
                "scaler": None if scaler is None else scaler.state_dict(),
                "averaged": int(self.average.n_averaged),
                "ranks": self.num_ranks,
                "effective_batch": self.effective_batch,
                "encoder": describe_encoder(self.network),
            }
            saved = checkpoint.Checkpoint(tensors=tensors, state=content)
            checkpoint.save_checkpoint(
                self.folder.checkpoints.path, self.state.step, saved, self.config.train.keep_checkpoints
            )
        self.accelerator.wait_for_everyone()
        self.budget.record("checkpoint", time.monotonic() - began)

    def _save_weights(self, result: Evaluation | None) -> None:
        if not self.is_main:
            return
        metadata = {
            "model": asdict(self.config.model),
            "cutoff": self.config.data.cutoff,
            "validation_tm_score": None if result is None else round(result.tm_score, 6),
            "step": self.state.step,
            "seed": self.config.train.seed,
        }
        if encoder := describe_encoder(self.network):
            metadata |= {"encoder": encoder, "encoder_accepted": False}  # until training.comparison says otherwise
        # one key: safetensors writes several in an order that differs from run to run
        text = {"rnafold": json.dumps(metadata, sort_keys=True)}
        checkpoint.save_tensors(self.folder.weights_file, self.average.module.state_dict(), text)

    def _restore(self) -> bool:
        saved = checkpoint.load_checkpoint(self.folder.checkpoints.path)
        if saved is None:
            return False
        require_encoder(self.network, saved.state.get("encoder"), self.out)
        self._load_tensors(saved)
        if saved.state["effective_batch"] != self.effective_batch:
            raise InputError(
                f"{self.out}: the checkpoint has an effective batch of {saved.state['effective_batch']}, this run "
                f"{self.effective_batch}: resume with the same"
            )
        self.state = TrainState(**saved.state["train"])
        return True

    def _load_tensors(self, saved: checkpoint.Checkpoint) -> None:
        try:
            self.network.load_state_dict(saved.tensors["model"])
            self.average.module.load_state_dict(saved.tensors["average"])
        except RuntimeError as error:
            raise InputError(f"{self.out}: the checkpoint is of another model ({str(error).splitlines()[0]})") from None
        checkpoint.restore_optimizer(self.optimizer.optimizer, self.names, saved.tensors["optimizer"])
        self.average.n_averaged.fill_(saved.state["averaged"])
        if self.accelerator.scaler is not None and saved.state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(saved.state["scaler"])

    def _profiler(self) -> Any:
        """A torch profiler (wait 1, warm-up 1, active 3, repeat 2) that writes TensorBoard traces, if asked for."""
        if not self.profile or not self.is_main:
            return None
        # each cycle goes to its own file; keeping events across cycles takes minutes
        warnings.filterwarnings("ignore", message=".*Profiler clears events at the end of each cycle")
        profiler = torch.profiler.profile(
            schedule=torch.profiler.schedule(wait=1, warmup=1, active=3, repeat=2),
            on_trace_ready=torch.profiler.tensorboard_trace_handler(str(self.folder.profile_folder)),
            record_shapes=True,
            profile_memory=True,
        )
        profiler.start()
        return profiler


def _moving_average(decay: float) -> Any:
    """Exponential moving average whose decay rises with the count of updates, so that early weights are forgotten."""

    @torch.no_grad()
    def update(averages: Sequence[torch.Tensor], current: Sequence[torch.Tensor], count: torch.Tensor | int) -> None:
        keep = min(decay, (1.0 + float(count)) / (10.0 + float(count)))
        torch._foreach_lerp_(list(averages), list(current), 1.0 - keep)

    return update


def _parameter_groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices, none for biases, norms and embeddings' single rows; `share` of the learning rate."""
    groups: list[dict[str, Any]] = []
    for parameters, share in rate_groups(network):
        matrices = [p for p in parameters if p.dim() > 1]
        rest = [p for p in parameters if p.dim() <= 1]
        groups += [
            {"params": matrices, "weight_decay": weight_decay, "share": share},
            {"params": rest, "weight_decay": 0.0, "share": share},
        ]
    return groups
