"""`plan --calibrate`: twenty micro batches a length with the trainer's own step, and what else a run waits for."""

import dataclasses
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rnafold.config.settings import Config
from rnafold.data.selection import choose_entries
from rnafold.features.batch import Batch, collate
from rnafold.features.build import padded_length
from rnafold.planner.time.hours import default_machine
from rnafold.planner.time.measurements import Measurement, model_name, settings_name
from rnafold.training.dataset import TrainingExamples
from rnafold.training.loop import Trainer
from rnafold.training.prepare import prepare_entries
from rnafold.training.schedule import TimeBudget
from rnafold.training.state import Meter
from rnafold.training.step import draw_recycles

log = logging.getLogger(__name__)
STEPS_A_LENGTH = 20
MOST_LENGTHS = 6
# The first micro batches of a shape are slower: memory is fetched, kernels are chosen.
WARM_UP = 2
EXAMPLES_TIMED = 48


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured, and the entries that it was measured on."""

    measurements: tuple[Measurement, ...]
    num_entries: int


def calibrate(config: Config, data: Path, budget_seconds: float = 300.0) -> Calibration:
    """Measures micro batches by length, update, loading, evaluation and preparation on this machine.

    Args:
        config: of the run to be planned.
        data: its data folder.
        budget_seconds: for the micro batches; lengths that do not reach twenty of them get fewer.
    """
    began = time.monotonic()
    entries = choose_entries(data, config.data)
    reading = time.monotonic() - began
    prepare_entries(config, entries)
    # once more, with the cache warm, as every later run finds it
    began = time.monotonic()
    prepared = prepare_entries(config, entries)
    preparation = reading + time.monotonic() - began
    recorder = _Recorder(machine=default_machine(config), model=model_name(config), settings=settings_name(config))
    recorder.add("preparation", 0, 1.0, len(entries.train), preparation / len(entries.train))
    _time_loading(prepared.examples, recorder)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, prepared.examples, prepared.validation, Path(folder), TimeBudget(None))
        _time_steps(trainer, prepared.examples, recorder, budget_seconds)
        _time_evaluation(trainer, recorder)
        trainer.journal.close()
    return Calibration(measurements=tuple(recorder.found), num_entries=len(entries.train))


class _Recorder:
    def __init__(self, *, machine: str, model: str, settings: str) -> None:
        self.names = {"machine": machine, "model": model, "settings": settings}
        self.found: list[Measurement] = []

    def add(self, kind: str, length: int, batch: float, count: int, seconds: float) -> None:
        self.found.append(
            Measurement(**self.names, kind=kind, length=length, batch=batch, count=count, seconds=seconds)
        )


def _time_loading(examples: TrainingExamples, recorder: _Recorder) -> None:
    """Building an example the first time and again, over entries spread evenly over the lengths."""
    by_length = np.argsort(examples.lengths, kind="stable")
    chosen = by_length[np.linspace(0, len(by_length) - 1, min(EXAMPLES_TIMED, len(by_length))).round().astype(int)]
    for kind in ("first_loading", "loading"):
        began = time.monotonic()
        for index in chosen:
            collate([examples[0, int(index)]])
        recorder.add(kind, 0, 1.0, len(chosen), (time.monotonic() - began) / len(chosen))


def _time_steps(trainer: Trainer, examples: TrainingExamples, recorder: _Recorder, budget_seconds: float) -> None:
    trainer.learner.network.train()
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for micro in (passed for window in trainer.loader.windows(0) for passed in trainer.loader.passes(window)):
        by_length.setdefault(padded_length(max(examples.lengths[k] for k in micro)), []).append(micro)
    lengths = choose_lengths(by_length)
    steps = _balanced_steps(trainer)
    trained = []
    for length in tqdm(lengths, desc="lengths", unit="length", disable=None):
        batches = [collate([examples[0, k] for k in micro]) for micro in by_length[length][: STEPS_A_LENGTH // 2]]
        trained += batches[:1]
        meter, last = Meter(), time.monotonic() + budget_seconds / len(lengths)
        for count in range(WARM_UP + STEPS_A_LENGTH):
            if count == WARM_UP:
                meter = Meter()
            if count > WARM_UP + 2 and time.monotonic() > last:
                break
            trainer.state.step = steps[count % len(steps)]
            trainer.stepper.accumulate([batches[count % len(batches)]], meter)
        total, seconds, many = meter.seconds_by_length[length]
        recorder.add("micro_batch", length, many / total, int(total), seconds / total)
    _time_updates(trainer, trained[:1], recorder)


def choose_lengths(by_length: dict[int, list[tuple[int, ...]]]) -> list[int]:
    """At most six of the padded lengths that occur, among them the shortest and the longest."""
    known = sorted(by_length)
    places = np.linspace(0, len(known) - 1, min(MOST_LENGTHS, len(known))).round().astype(int)
    # half by rank and half by size: what is frequent and what is expensive both matter
    wanted = np.linspace(known[0], known[-1], MOST_LENGTHS)
    nearest = [min(known, key=lambda k, w=w: abs(k - w)) for w in wanted]  # type: ignore[misc]
    return sorted({known[k] for k in places} | set(nearest))


def _balanced_steps(trainer: Trainer) -> list[int]:
    """Step numbers whose random numbers of recycles take all values in turn, so that few steps give the right mean."""
    wanted = trainer.config.model.max_recycles + 1
    by_recycles: dict[int, int] = {}
    step = 0
    while len(by_recycles) < wanted:
        by_recycles.setdefault(draw_recycles(trainer.config, step, trainer.ranks.rank), step)
        step += 1
    return [by_recycles[k] for k in sorted(by_recycles)]


def _time_updates(trainer: Trainer, batches: Sequence[Batch], recorder: _Recorder) -> None:
    for count in range(2):
        trainer.state.step = count
        sums, residues = trainer.stepper.accumulate(batches, Meter())
        trainer.stepper.apply(sums, residues)
    began = time.monotonic()
    for count in range(5):
        trainer.state.step = count
        trainer.stepper.apply(sums, residues)
    recorder.add("update", 0, 0.0, 5, (time.monotonic() - began) / 5)


def _time_evaluation(trainer: Trainer, recorder: _Recorder) -> None:
    if not trainer.validation:
        return
    began = time.monotonic()
    trainer.evaluate()
    count = len(trainer.validation)
    recorder.add("evaluation", 0, 1.0, count, (time.monotonic() - began) / count)
