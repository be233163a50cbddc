"""A training run from a folder of competition files to weights: data, splits, leaks, baselines, training, records."""

import datetime
import json
import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from rnafold import __version__, machine
from rnafold.config.machine_use import count_accumulation, describe_learning_rates
from rnafold.config.settings import Config, DataConfig, ModelConfig, load_config
from rnafold.config.strict_yaml import dump
from rnafold.data.competition import read_entries
from rnafold.data.files import find_competition_files
from rnafold.data.splits import cluster_sequences, development_split, format_leaks, report_leaks
from rnafold.errors import InputError
from rnafold.features.build import Others
from rnafold.features.source import FeatureSource, prediction_example
from rnafold.files.atomic import write_text
from rnafold.files.metrics import read_metrics
from rnafold.files.run_folder import RunFolder
from rnafold.planner.time.load import load_of_targets
from rnafold.structure import Entry
from rnafold.templates.folds import load_folds
from rnafold.training.comparison import check_comparison, judge_encoder
from rnafold.training.dataset import TrainingExamples, build_start, describe_entries
from rnafold.training.evaluate import average_baselines, score_baselines
from rnafold.training.guard import RunGuard
from rnafold.training.loop import Trainer, TrainState
from rnafold.training.schedule import TimeBudget
from rnafold.training.starts import StartLibrary

log = logging.getLogger(__name__)
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Entries that train, the cluster of each, entries that validate, and where their alignments lie."""

    train: tuple[Entry, ...]
    clusters: tuple[str, ...]
    validation: tuple[Entry, ...]
    msa_folders: tuple[Path, ...]


def choose_entries(directory: Path, config: DataConfig) -> Entries:
    """Reads a data folder and splits it by date and cluster; leaks are logged, never silently kept.

    Raises:
        InputError: a file is missing or malformed, or no entry is left.
    """
    files = find_competition_files(directory, required=("train_sequences", "train_labels"))
    assert files.train_sequences is not None and files.train_labels is not None
    cutoff = datetime.date.fromisoformat(config.cutoff)
    everything = read_entries(files.train_sequences, files.train_labels)
    entries = [e for e in everything if e.target.cutoff is not None and e.target.cutoff < cutoff]
    entries = [e for e in entries if e.target.length >= config.min_length and e.references]
    if not entries:
        raise InputError(
            f"{files.train_sequences}: none of {len(everything)} entries was released before {config.cutoff} with at "
            f"least {config.min_length} residues; see data.cutoff and data.min_length"
        )
    if config.max_entries:
        entries = sorted(entries, key=lambda e: (e.target.cutoff or cutoff, e.target.target_id))[-config.max_entries :]
    if config.validation == "file":
        if files.validation_sequences is None or files.validation_labels is None:
            raise InputError(f"{directory}: data.validation=file needs validation_{{sequences,labels}}.csv there")
        train, validation = entries, read_entries(files.validation_sequences, files.validation_labels)
    else:
        split = development_split(entries, None, config.development_fraction, config.cluster_identity)
        train, validation = list(split.train), list(split.dev)
    leaks = report_leaks(train, validation, config.cluster_identity)
    if leaks:
        log.warning("%s", format_leaks(leaks))
    chosen = _spread(validation, config.max_validation) if config.max_validation else validation
    clusters = cluster_sequences([e.target.sequence for e in train], config.cluster_identity)
    return Entries(
        train=tuple(train),
        clusters=tuple(map(str, clusters)),
        validation=tuple(chosen),
        msa_folders=files.msa_folders,
    )


def _spread(entries: Sequence[Entry], most: int) -> list[Entry]:
    """At most `most` entries, evenly spread over the lengths, so that no length dominates the validation score."""
    ordered = sorted(entries, key=lambda e: (e.target.length, e.target.target_id))
    if len(ordered) <= most:
        return ordered
    return [ordered[int(k)] for k in np.linspace(0, len(ordered) - 1, most).round()]


def find_run(config: Config, out: Path, resume: bool) -> bool:
    """Whether the run folder holds something to resume; writes nothing.

    Raises:
        InputError: the folder holds a run and `resume` is not set, or a run of another model.
    """
    run = RunFolder(out)
    saved, has_run = run.config_file, run.holds_run
    if has_run and not resume:
        raise InputError(f"{out}: holds a run already; continue it with --resume or choose another --out")
    if has_run and _without_places(load_config(saved).model) != _without_places(config.model):
        raise InputError(f"{out}: the run there is of model {load_config(saved).model.name}, not {config.model.name}")
    return has_run


def _without_places(model: ModelConfig) -> ModelConfig:
    """The model without where its encoder's files lie: a mount may move between two sessions."""
    return model if model.encoder is None else replace(model, encoder=model.encoder.without_places())


def build_examples(
    entries: Entries, features: FeatureSource, config: Config
) -> tuple[TrainingExamples, list[tuple[FloatArray, float, Others | None]]]:
    """Training examples; and of each validation entry the start (L, 3), its confidence and the other candidates."""
    if config.data.start == "ideal":
        examples = TrainingExamples(entries.train, features, config.train.seed, groups=entries.clusters)
        pairings = features.pairings
        return examples, [(*build_start(e.target, pairings[e.target.target_id], 0), None) for e in entries.validation]
    if not config.data.start_models:
        log.warning("data.start_models is not set: the shipped ranker and jury saw the training chains")
    library = StartLibrary(
        entries.train,
        Path(config.data.cache),
        num_templates=config.data.start_templates,
        num_assemblies=config.data.start_assemblies,
        seed=0,  # the same starts for every training seed: they are made once
        folds=load_folds(config.data.start_models) if config.data.start_models else None,
        jobs=config.data.jobs,
    )
    starts = library.build(entries.train, features.pairings)
    examples = TrainingExamples(entries.train, features, config.train.seed, groups=entries.clusters, starts=starts)
    validation = library.build(entries.validation, features.pairings)
    found = [validation[e.target.target_id] for e in entries.validation]
    firsts = [(s, s.first_assembly()) for s in found]
    return examples, [(s.coords[k].astype(np.float64), float(s.confidence[k]), s.others(k)) for s, k in firsts]


def write_summary(
    out: Path,
    entries: Entries,
    baselines: dict[str, float],
    starts: dict[str, dict[str, float]],
    preparation_seconds: float,
    config: Config,
) -> None:
    """run.json: data, baselines, the start of each validation target, machine and versions of a run."""
    summary = {
        "train": describe_entries(entries.train),
        "validation": describe_entries(entries.validation),
        "baselines_tm_score": baselines,
        "start_by_target": starts,
        "preparation_seconds": round(preparation_seconds, 2),
        "gpu": config.hardware.name,
        "versions": {
            "rnafold": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    write_text(RunFolder(out).summary_file, json.dumps(summary, indent=1))


def describe_rates(config: Config, num_ranks: int) -> str:
    """What each learning-rate rule would give for this run's batch."""
    train = config.train
    return describe_learning_rates(train, train.micro_batch, count_accumulation(train, num_ranks), num_ranks)


def train_model(
    config: Config,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    max_hours: float | None = None,
    profile: bool = False,
    force: bool = False,
) -> TrainState:
    """Trains a network on the entries below `data`; everything about the run is left in `out`.

    Args:
        config: resolved configuration.
        data: folder with the competition's files (searched, so a mount will do).
        out: run folder: config.yaml, run.json, metrics.jsonl, checkpoints, best.safetensors, TensorBoard events.
        resume: continue from the newest complete checkpoint if there is one.
        max_hours: stop cleanly, with a checkpoint, before this many hours from now.
        profile: write torch profiler traces of a few steps.
        force: start although the planner says that the run does not fit.

    Raises:
        InputError: the data, the run folder or the machine does not allow the run.
    """
    budget = TimeBudget(max_hours)
    machine.check_device(config.hardware)
    machine.keep_freed_memory()
    has_run = find_run(config, out, resume)
    check_comparison(config)
    guard = RunGuard(config, out, force=force)
    guard.check_memory()
    entries = choose_entries(data, config.data)
    features = FeatureSource(config.data, entries.msa_folders)
    features.prepare([e.target for e in (*entries.train, *entries.validation)])
    examples, starts = build_examples(entries, features, config)
    validation = [
        (entry, prediction_example(entry.target, features, start, confidence, others))
        for entry, (start, confidence, others) in zip(entries.validation, starts)
    ]
    write_text(RunFolder(out).config_file, dump(config))
    trainer = Trainer(config, examples, validation, out, budget, resume=has_run, profile=profile)
    preparation_seconds = budget.elapsed_seconds
    if trainer.is_main:
        scores = score_baselines(entries.validation, [start for start, _, _ in starts])
        baselines = average_baselines(scores)
        by_target = {
            name: {"tm_score": tm, "confidence": confidence}
            for (name, tm), (_, confidence, _) in zip(scores["start"].items(), starts)
        }
        write_summary(out, entries, baselines, by_target, preparation_seconds, config)
        log.info("%s", trainer.describe())
        log.info("%s", describe_rates(config, trainer.num_ranks))
        log.info(
            "validation: %d targets; TM-score of zeros %.3f, straight lines %.3f, start structures %.3f",
            len(validation),
            *(baselines[name] for name in ("zeros", "straight_line", "start")),
        )
    load = load_of_targets(
        [e.target for e in entries.train],
        list(entries.clusters),
        [e.target for e in entries.validation],
        config.data.crop_length,
        f"{data.name}: {len(entries.train)} entries",
    )
    guard.begin(load, preparation_seconds)
    first_step = trainer.state.step
    state = trainer.run()
    if not trainer.is_main:
        return state
    records = [r for r in read_metrics(RunFolder(out).metrics_file) if int(r["step"]) > first_step]
    guard.finish(state.finished, records)
    log.info(
        "stopped after %d steps (%s): best validation TM-score %.4f at step %d; weights in %s",
        state.step,
        state.finished,
        max(state.best_tm, 0.0),
        state.best_step,
        RunFolder(out).weights_file,
    )
    judge_encoder(config, RunFolder(out).weights_file, validation, trainer.device, budget)
    return state
