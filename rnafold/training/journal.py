"""What a run leaves for people to read: metrics.jsonl, TensorBoard, the progress bar and, if asked for, a profile."""

import warnings
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from rnafold import machine
from rnafold.files.metrics import MetricsFile
from rnafold.files.run_folder import RunFolder
from rnafold.training.evaluate import Evaluation
from rnafold.training.ranks import Ranks
from rnafold.training.state import Clock, Meter, StepResult, TrainState

# Besides the loss and its terms.
PLOTTED = ("learning_rate", "grad_norm", "residues_per_second", "peak_memory_gib")


class Journal:
    """Meters the steps of a run and writes them down; on other ranks than the main one it meters alone."""

    def __init__(self, folder: RunFolder, ranks: Ranks, clock: Clock, *, resume_step: int | None) -> None:
        """`resume_step` is that of the checkpoint a run goes on from: lines beyond it are dropped. None begins anew."""
        self.folder, self.clock, self.is_main = folder, clock, ranks.is_main
        self.device_type = ranks.device.type
        self.meter = Meter(clock())
        self.bar: Any = None
        self.profiler: Any = None
        if self.is_main:
            self.metrics = MetricsFile(folder.metrics_file, resume_step)
            self.board = SummaryWriter(str(folder.board_folder), purge_step=resume_step)

    def open(self, total: int, done: int, *, profile: bool) -> None:
        """Begins to meter and shows the bar: of `total` steps so many are `done`."""
        self.bar = tqdm(total=total, initial=done, unit="step", disable=None if self.is_main else True)
        self.meter = Meter(self.clock())
        self.profiler = start_profiler(self.folder) if profile and self.is_main else None

    def add(self, result: StepResult) -> None:
        """Takes one step into account."""
        self.meter.results.append(result)
        self.bar.update()
        if self.profiler is not None:
            self.profiler.step()

    def write_steps(self, state: TrainState, *, epoch: float, rate: float, elapsed_seconds: float) -> None:
        """Writes the means of the steps since the last line, if there were any, and meters anew.

        Args:
            state: where the run stands.
            epoch: the same in epochs and their fraction.
            rate: learning rate of the last step.
            elapsed_seconds: of the run, with the sessions before this one.
        """
        meter, seconds = self.meter, max(self.clock() - self.meter.started, 1e-9)
        if not meter.results:
            return
        if self.is_main:
            means = meter.means(tuple(meter.results[-1].terms))
            record = {
                "kind": "train",
                "step": state.step,
                "epoch": round(epoch, 4),
                **means,
                "learning_rate": rate,
                "grad_norm": meter.results[-1].grad_norm,
                "residues_per_second": meter.residues / seconds,
                "peak_memory_gib": machine.peak_memory_gib(self.device_type),
                "step_seconds": seconds / len(meter.results),
                "loading_seconds": meter.loading_seconds,
                "elapsed_seconds": elapsed_seconds,
                "micro_batch": state.micro_limit,
                "skipped_steps": sum(not r.applied for r in meter.results),
                "micro_batch_seconds_by_length": meter.seconds_by_length,
            }
            self.metrics.write(record)
            for name in (*means, *PLOTTED):
                self.board.add_scalar(f"train/{name}", record[name], state.step)
        self.bar.set_postfix(loss=f"{meter.means(())['loss']:.3f}", tm=f"{max(state.best_tm, 0):.3f}")
        self.meter = Meter(self.clock())

    def write_evaluation(self, state: TrainState, result: Evaluation, seconds: float) -> None:
        """Writes what the validation targets scored at the end of an epoch."""
        if not self.is_main:
            return
        record = {
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
        self.metrics.write(record)
        self.board.add_scalar("validation/tm_score", result.tm_score, state.step)

    def close(self) -> None:
        """Ends the bar, the profile and TensorBoard's file."""
        if self.bar is not None:
            self.bar.close()
        if self.profiler is not None:
            self.profiler.stop()
        if self.is_main:
            self.board.close()


def start_profiler(folder: RunFolder) -> Any:
    """A running torch profiler (wait 1, warm-up 1, active 3, repeat 2) whose traces TensorBoard reads."""
    # each cycle goes to its own file; keeping events across cycles takes minutes
    warnings.filterwarnings("ignore", message=".*Profiler clears events at the end of each cycle")
    profiler = torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=1, warmup=1, active=3, repeat=2),
        on_trace_ready=torch.profiler.tensorboard_trace_handler(str(folder.profile_folder)),
        record_shapes=True,
        profile_memory=True,
    )
    profiler.start()
    return profiler
