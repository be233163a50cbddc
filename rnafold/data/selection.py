"""Which entries of a data folder a run trains on, and which it is watched on."""

import datetime
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from rnafold.config.settings import DataConfig
from rnafold.data.clusters import cluster_sequences
from rnafold.data.competition import read_entries, read_targets
from rnafold.data.files import CompetitionFiles, find_competition_files
from rnafold.data.splits import development_split, format_leaks, is_usable, report_leaks
from rnafold.errors import InputError
from rnafold.structure import Entry, Target

log = logging.getLogger(__name__)
Item = TypeVar("Item")


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
    entries = _read_usable(files, config)
    clusters = find_clusters(files, config)
    train, validation = _split(directory, files, entries, clusters, config)
    leaks = report_leaks(train, validation, config.cluster_identity, Path(config.cache))
    if leaks:
        log.warning("%s", format_leaks(leaks))
    return Entries(
        train=tuple(train),
        clusters=tuple(str(clusters[e.target.target_id]) for e in train),
        validation=tuple(_choose_watched(validation, config)),
        msa_folders=files.msa_folders,
    )


def _read_usable(files: CompetitionFiles, config: DataConfig) -> list[Entry]:
    """The newest `max_entries` that were released before the cutoff, are long enough and have a structure."""
    assert files.train_sequences is not None and files.train_labels is not None
    cutoff = datetime.date.fromisoformat(config.cutoff)
    everything = read_entries(files.train_sequences, files.train_labels)
    entries = [e for e in everything if is_usable(e.target, config) and e.references]
    if not entries:
        lengths = f"{config.min_length} to {config.max_length}" if config.max_length else f"{config.min_length} or more"
        raise InputError(
            f"{files.train_sequences}: none of {len(everything)} entries was released before {config.cutoff} with "
            f"{lengths} residues; see data.cutoff, data.min_length and data.max_length"
        )
    if config.max_length:
        left_out = sum(e.target.length > config.max_length for e in everything)
        log.info("data.max_length=%d leaves out %d longer entries", config.max_length, left_out)
    if not config.max_entries:
        return entries
    return sorted(entries, key=lambda e: (e.target.cutoff or cutoff, e.target.target_id))[-config.max_entries :]


def find_clusters(files: CompetitionFiles, config: DataConfig) -> dict[str, int]:
    """Cluster of each usable target of the training sequences: of the whole file, so that `plan` finds the same."""
    assert files.train_sequences is not None
    return cluster_usable(read_targets(files.train_sequences), config)


def cluster_usable(targets: Sequence[Target], config: DataConfig) -> dict[str, int]:
    """Cluster of each usable target among `targets`, kept in the cache."""
    usable = [t for t in targets if is_usable(t, config)]
    labels = cluster_sequences([t.sequence for t in usable], config.cluster_identity, Path(config.cache))
    return {t.target_id: int(label) for t, label in zip(usable, labels)}


def _choose_watched(validation: Sequence[Entry], config: DataConfig) -> list[Entry]:
    """The validation targets that are short enough, spread over the lengths so that none dominates the score."""
    ordered = sorted(validation, key=lambda e: (e.target.length, e.target.target_id))
    short = [e for e in ordered if fits_validation(e.target.length, config)]
    if len(short) < len(ordered):
        left_out, most = len(ordered) - len(short), config.max_validation_length
        log.info("data.max_validation_length=%d leaves out %d of %d validation targets", most, left_out, len(ordered))
    return spread_evenly(short, config.max_validation)


def fits_validation(length: int, config: DataConfig) -> bool:
    """Whether a target of `length` residues is short enough to be watched whole."""
    return not config.max_validation_length or length <= config.max_validation_length


def _split(
    directory: Path,
    files: CompetitionFiles,
    entries: Sequence[Entry],
    clusters: Mapping[str, int],
    config: DataConfig,
) -> tuple[Sequence[Entry], Sequence[Entry]]:
    """What trains and what validates: files of their own, or the youngest clusters."""
    if config.validation != "file":
        split = development_split(
            entries, None, config.development_fraction, config.cluster_identity, clusters=clusters
        )
        return split.train, split.dev
    if files.validation_sequences is None or files.validation_labels is None:
        raise InputError(f"{directory}: data.validation=file needs validation_{{sequences,labels}}.csv there")
    return entries, read_entries(files.validation_sequences, files.validation_labels)


def spread_evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` (0: all) of ordered items, evenly spread, the first and the last among them."""
    if not most or len(items) <= most:
        return list(items)
    return [items[int(k)] for k in np.linspace(0, len(items) - 1, most).round()]
