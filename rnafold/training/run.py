"""A training run from a folder of competition files to weights: preparation, baselines, training, records."""

import json
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from rnafold import __version__, machine
from rnafold.config.machine_use import count_accumulation, describe_learning_rates
from rnafold.config.settings import Config, DataConfig, ModelConfig, load_config
from rnafold.config.strict_yaml import dump
from rnafold.errors import InputError
from rnafold.features.cache import digest
from rnafold.files.atomic import write_text
from rnafold.files.bounded import parse_json
from rnafold.files.metrics import read_metrics
from rnafold.files.run_folder import RunFolder
from rnafold.training.comparison import check_comparison, judge_encoder
from rnafold.training.dataset import describe_entries
from rnafold.training.evaluate import average_baselines, score_baselines
from rnafold.training.guard import RunGuard
from rnafold.training.loop import Trainer
from rnafold.training.prepare import PreparedRun, prepare_run
from rnafold.training.schedule import TimeBudget
from rnafold.training.state import TrainState

log = logging.getLogger(__name__)


# Of the data section: where things lie and how fast they are made, not what the run learns from.
_PLACES: Final = frozenset({"cache", "jobs", "start_models", "start_hours"})


def find_run(config: Config, out: Path, resume: bool, force: bool = False) -> bool:
    """Whether the run folder holds something to resume; writes nothing.

    Raises:
        InputError: the folder holds a run and `resume` is not set; a run of another model; or, without `force`, one
            that learns from other data or by another seed.
    """
    run = RunFolder(out)
    saved, has_run = run.config_file, run.holds_run
    if has_run and not resume:
        raise InputError(f"{out}: holds a run already; continue it with --resume or choose another --out")
    if has_run and _without_places(load_config(saved).model) != _without_places(config.model):
        raise InputError(f"{out}: the run there is of model {load_config(saved).model.name}, not {config.model.name}")
    if has_run:
        _refuse(out, list_changes(load_config(saved), config), force)
    return has_run


def list_changes(saved: Config, config: Config) -> list[str]:
    """The settings by which a run would go on with other examples than it began with."""
    pairs = [
        (f"data.{key}", getattr(saved.data, key), getattr(config.data, key))
        for key in (field.name for field in fields(DataConfig))
    ]
    pairs.append(("train.seed", saved.train.seed, config.train.seed))
    return [f"{key} {was}, now {now}" for key, was, now in pairs if was != now and key[5:] not in _PLACES]


def list_other_data(summary: Mapping[str, Any], earlier: Path) -> list[str]:
    """How the data differ from those that run.json tells of; nothing without one that can be read."""
    try:
        was = parse_json(earlier.read_text(encoding="utf-8"))
        return [
            f"{part} {key} {was[part][key]}, now {now}"
            for part in ("train", "validation")
            for key, now in summary[part].items()
            if was[part].get(key, now) != now
        ]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return []


def _refuse(out: Path, changes: Sequence[str], force: bool) -> None:
    """Stops where a run to go on with differs; with `force` says so and goes on."""
    if changes and not force:
        raise InputError(f"{out}: the run there has {'; '.join(changes)}; --force goes on all the same")
    if changes:
        log.warning("%s: going on although the run there has %s", out, "; ".join(changes))


def _without_places(model: ModelConfig) -> ModelConfig:
    """The model without where its encoder's files lie: a mount may move between two sessions."""
    return model if model.encoder is None else replace(model, encoder=model.encoder.without_places())


def check_start(config: Config, out: Path, guard: RunGuard, resume: bool, force: bool = False) -> bool:
    """All that can be known before any data are read; returns whether there is a run to resume.

    Raises:
        InputError: the machine, its memory, the run folder or the encoder's rival does not allow the run.
    """
    machine.check_device(config.hardware)
    machine.keep_freed_memory()
    has_run = find_run(config, out, resume, force)
    check_comparison(config)
    guard.check_memory()
    return has_run


def train_model(
    config: Config,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    budget: TimeBudget | None = None,
    profile: bool = False,
    force: bool = False,
) -> TrainState:
    """Trains a network on the entries below `data`; everything about the run is left in `out`.

    Args:
        config: resolved configuration.
        data: folder with the competition's files (searched, so a mount will do).
        out: run folder: config.yaml, run.json, metrics.jsonl, checkpoints, best.safetensors, TensorBoard events.
        resume: continue from the newest complete checkpoint if there is one.
        budget: stop cleanly, with a checkpoint, before it is used up; None for as long as it takes.
        profile: write torch profiler traces of a few steps.
        force: start although the planner says that the run does not fit, or the run to resume saw other data.

    Raises:
        InputError: the data, the run folder or the machine does not allow the run.
    """
    budget = budget or TimeBudget(None)
    guard = RunGuard(config, out, force=force)
    has_run = check_start(config, out, guard, resume, force)
    prepared = prepare_run(config, data)
    if has_run:
        _refuse(out, list_other_data(describe_data(prepared), RunFolder(out).summary_file), force)
    write_text(RunFolder(out).config_file, dump(config))
    trainer = Trainer(config, prepared.examples, prepared.validation, out, budget, resume=has_run, profile=profile)
    preparation_seconds = budget.elapsed_seconds
    if trainer.ranks.is_main:
        introduce_run(trainer, prepared, preparation_seconds)
    guard.begin(prepared.load(data.name), preparation_seconds)
    first_step = trainer.state.step
    state = trainer.run()
    if trainer.ranks.is_main:
        close_run(trainer, guard, first_step)
    return state


def introduce_run(trainer: Trainer, prepared: PreparedRun, preparation_seconds: float) -> None:
    """Writes run.json and says what the run will do and from where it starts."""
    summary = summarize_data(prepared) | {
        "preparation_seconds": round(preparation_seconds, 2),
        "gpu": trainer.config.hardware.name,
        "versions": describe_versions(),
    }
    write_text(trainer.folder.summary_file, json.dumps(summary, indent=1))
    baselines = summary["baselines_tm_score"]
    log.info("%s", trainer.describe())
    log.info("%s", describe_rates(trainer.config, trainer.ranks.num_ranks))
    log.info(
        "validation: %d targets; TM-score of zeros %.3f, straight lines %.3f, start structures %.3f",
        len(prepared.validation),
        *(baselines[name] for name in ("zeros", "straight_line", "start")),
    )


def summarize_data(prepared: PreparedRun) -> dict[str, Any]:
    """What a run learns from and is watched on, and what its validation targets score before anything is learned."""
    starts = [target.start for target in prepared.validation]
    scores = score_baselines(prepared.entries.validation, [start.coords for start in starts])
    by_target = {
        name: {"tm_score": tm, "confidence": start.confidence}
        for (name, tm), start in zip(scores["start"].items(), starts)
    }
    return {
        **describe_data(prepared),
        "baselines_tm_score": average_baselines(scores),
        "start_by_target": by_target,
    }


def describe_data(prepared: PreparedRun) -> dict[str, Mapping[str, float | str]]:
    """What a run learns from and is watched on, in counts and a digest."""
    parts = {"train": prepared.entries.train, "validation": prepared.entries.validation}
    return {
        name: {
            **describe_entries(entries),
            "digest": digest(entries=[[e.target.target_id, e.target.sequence] for e in entries])[:12],
        }
        for name, entries in parts.items()
    }


def describe_versions() -> Mapping[str, str]:
    """What the run's numbers depend on beside its configuration."""
    return {
        "rnafold": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def describe_rates(config: Config, num_ranks: int) -> str:
    """What each learning-rate rule would give for this run's batch."""
    train = config.train
    return describe_learning_rates(train, train.micro_batch, count_accumulation(train, num_ranks), num_ranks)


def close_run(trainer: Trainer, guard: RunGuard, first_step: int) -> None:
    """Settles with the ledger what was trained after `first_step`, says how it ended, and compares an encoder."""
    state, weights = trainer.state, trainer.folder.weights_file
    records: list[dict[str, Any]] = read_metrics(trainer.folder.metrics_file)
    guard.finish(state.finished, [r for r in records if int(r["step"]) > first_step])
    log.info(
        "stopped after %d steps (%s): best validation TM-score %.4f at step %d; weights in %s",
        state.step,
        state.finished,
        max(state.best_tm, 0.0),
        state.best_step,
        weights,
    )
    judge_encoder(trainer.config, weights, trainer.validation, trainer.ranks.device, trainer.budget)
