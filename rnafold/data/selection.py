"""Which entries of a data folder a run trains on, and which it is watched on."""

import datetime
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from rnafold.config.settings import DataConfig
from rnafold.data.competition import read_entries
from rnafold.data.files import CompetitionFiles, find_competition_files
from rnafold.data.splits import cluster_sequences, development_split, format_leaks, report_leaks
from rnafold.errors import InputError
from rnafold.structure import Entry

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
    train, validation = _split(directory, files, _read_usable(files, config), config)
    leaks = report_leaks(train, validation, config.cluster_identity)
    if leaks:
        log.warning("%s", format_leaks(leaks))
    if config.max_validation:  # over the lengths, so that no length dominates the validation score
        ordered = sorted(validation, key=lambda e: (e.target.length, e.target.target_id))
        validation = spread_evenly(ordered, config.max_validation)
    clusters = cluster_sequences([e.target.sequence for e in train], config.cluster_identity)
    return Entries(
        train=tuple(train),
        clusters=tuple(map(str, clusters)),
        validation=tuple(validation),
        msa_folders=files.msa_folders,
    )


def _read_usable(files: CompetitionFiles, config: DataConfig) -> list[Entry]:
    """The newest `max_entries` that were released before the cutoff, are long enough and have a structure."""
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
    if not config.max_entries:
        return entries
    return sorted(entries, key=lambda e: (e.target.cutoff or cutoff, e.target.target_id))[-config.max_entries :]


def _split(
    directory: Path, files: CompetitionFiles, entries: Sequence[Entry], config: DataConfig
) -> tuple[Sequence[Entry], Sequence[Entry]]:
    """What trains and what validates: files of their own, or the youngest clusters."""
    if config.validation != "file":
        split = development_split(entries, None, config.development_fraction, config.cluster_identity)
        return split.train, split.dev
    if files.validation_sequences is None or files.validation_labels is None:
        raise InputError(f"{directory}: data.validation=file needs validation_{{sequences,labels}}.csv there")
    return entries, read_entries(files.validation_sequences, files.validation_labels)


def spread_evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` (0: all) of ordered items, evenly spread, the first and the last among them."""
    if not most or len(items) <= most:
        return list(items)
    return [items[int(k)] for k in np.linspace(0, len(items) - 1, most).round()]
