"""From a data folder to what a run trains on: entries, features, starts, examples, validation targets."""

import logging
from dataclasses import dataclass
from pathlib import Path

from rnafold.config.settings import Config
from rnafold.data.selection import Entries, choose_entries
from rnafold.data.tables import list_names
from rnafold.features.build import StartPoint
from rnafold.features.secondary import MAX_UNWINDOWED
from rnafold.features.source import FeatureSource, prediction_example
from rnafold.planner.time.load import TrainingLoad, load_of_targets
from rnafold.structure import Entry
from rnafold.templates.folds import load_folds
from rnafold.training.dataset import TrainingExamples
from rnafold.training.evaluate import ValidationTarget
from rnafold.training.start_library import StartLibrary
from rnafold.training.starts import StartStore, build_start

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedRun:
    """Everything that a run reads before its first step."""

    entries: Entries
    examples: TrainingExamples
    validation: tuple[ValidationTarget, ...]

    def load(self, source: str) -> TrainingLoad:
        """What the run has to work through, for the planner; `source` names the data."""
        entries, crop_length = self.entries, self.examples.features.config.crop_length
        return load_of_targets(
            [e.target for e in entries.train],
            entries.clusters,
            [e.target for e in entries.validation],
            crop_length,
            f"{source}: {len(entries.train)} entries",
        )


def prepare_run(config: Config, data: Path) -> PreparedRun:
    """Reads and computes it all, with progress bars; what the cache holds is not computed again.

    Raises:
        InputError: the data folder does not allow the run.
    """
    return prepare_entries(config, choose_entries(data, config.data))


def prepare_entries(config: Config, entries: Entries) -> PreparedRun:
    """The same from chosen entries."""
    features = FeatureSource(config.data, entries.msa_folders)
    features.prepare([e.target for e in entries.validation])
    long = [f"{e.target.target_id} ({e.target.length:,})" for e in entries.train if e.target.length > MAX_UNWINDOWED]
    if long:
        log.info("chains of more than %d residues are learned window by window: %s", MAX_UNWINDOWED, list_names(long))
    if config.data.start == "ideal":
        return _start_at_assemblies(config, entries, features)
    return _start_at_candidates(config, entries, features)


def _start_at_assemblies(config: Config, entries: Entries, features: FeatureSource) -> PreparedRun:
    """Starts at the ideal assembly of the predicted pairs, built ahead unless the network reads none."""
    examples = TrainingExamples(
        entries.train,
        features,
        config.train.seed,
        groups=entries.clusters,
        tokens_alone=config.model.kind == "plain",
    )
    examples.build_ahead(config.data.jobs)
    starts = [build_start(e.target, features.pairings[e.target.target_id], 0) for e in entries.validation]
    watched = tuple(watch(entry, features, start) for entry, start in zip(entries.validation, starts))
    return PreparedRun(entries=entries, examples=examples, validation=watched)


def _start_at_candidates(config: Config, entries: Entries, features: FeatureSource) -> PreparedRun:
    """Starts at the candidates that prediction would make; of training chains at those that are made in time."""
    library = open_start_library(config, entries)
    found = library.build(entries.validation, features.pairing_cache)
    starts = library.build(entries.train, features.pairing_cache, config.data.start_hours * 3600.0 or None)
    log.info("candidate starts of %d of %d training chains", starts.count_ready(), len(starts))
    examples = TrainingExamples(entries.train, features, config.train.seed, groups=entries.clusters, starts=starts)
    examples.build_ahead(config.data.jobs)
    watched = tuple(watch(e, features, _start_of(e, features, found)) for e in entries.validation)
    return PreparedRun(entries=entries, examples=examples, validation=watched)


def _start_of(entry: Entry, features: FeatureSource, found: StartStore) -> StartPoint:
    """Where a validation target starts: as prediction would begin."""
    starts = found.window(entry.target, 0, entry.target.length)
    if starts is not None:
        return starts.for_prediction()
    # beyond the length of whole starts, which only data.max_validation_length lets in
    return build_start(entry.target, features.pairings[entry.target.target_id], 0)


def watch(entry: Entry, features: FeatureSource, start: StartPoint) -> ValidationTarget:
    """A validation target whose features are prepared, begun at `start`."""
    return ValidationTarget(entry=entry, example=prediction_example(entry.target, features, start), start=start)


def open_start_library(config: Config, entries: Entries) -> StartLibrary:
    """The library that start structures of a run's chains are built from."""
    settings = config.data
    if not settings.start_models:
        log.warning("data.start_models is not set: the shipped ranker and jury saw the training chains")
    return StartLibrary(
        entries.train,
        Path(settings.cache),
        num_templates=settings.start_templates,
        num_assemblies=settings.start_assemblies,
        seed=0,  # the same starts for every training seed: they are made once
        folds=load_folds(settings.start_models) if settings.start_models else None,
        jobs=settings.jobs,
        clusters={e.target.target_id: cluster for e, cluster in zip(entries.train, entries.clusters)},
    )
