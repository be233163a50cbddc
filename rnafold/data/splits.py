"""Splits by date and by sequence cluster, never at random, and the report of leaks between training and validation."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from rnafold.config.settings import DataConfig
from rnafold.data.clusters import cluster_sequences, find_relatives
from rnafold.errors import InputError
from rnafold.structure import Entry, Target

LeakKind = Literal["identical", "similar", "similar but older"]
IDENTICAL: Final = "identical"
SIMILAR: Final = "similar"
OLDER: Final = "similar but older"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A training target too like a validation target.

    `kind` is "identical" or "similar" when the training target is not older (a leak), "similar but older" when it was
    released before the validation target's cutoff (allowed). `identity` is a fraction 0-1.
    """

    validation_id: str
    train_id: str
    identity: float
    kind: LeakKind
    validation_cutoff: datetime.date | None
    train_cutoff: datetime.date | None

    @property
    def allowed(self) -> bool:
        """True where the training target is strictly older, as a template at prediction time would be."""
        return self.kind == OLDER


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Entries to train on and to validate on; `num_dropped` stand in neither (too like, or undated)."""

    train: tuple[Entry, ...]
    dev: tuple[Entry, ...]
    cutoff: datetime.date
    num_dropped: int


def format_leaks(leaks: Sequence[Leak]) -> str:
    """One line: how many validation targets leak, how many have only older relatives, and the first three leaks."""
    bad = [leak for leak in leaks if not leak.allowed]
    older = {leak.validation_id for leak in leaks if leak.allowed} - {leak.validation_id for leak in bad}
    if not bad:
        return f"no leak: {len(older)} validation targets are like an older training sequence"
    shown = "; ".join(f"{leak.validation_id} = {leak.train_id} ({leak.identity:.0%})" for leak in bad[:3])
    return (
        f"LEAK: {len({leak.validation_id for leak in bad})} validation targets are identical or similar to training "
        f"sequences that are not older ({len(bad)} pairs: {shown}{'; ...' if len(bad) > 3 else ''}); "
        f"{len(older)} more only to older ones"
    )


def is_usable(target: Target, data: DataConfig) -> bool:
    """Whether a training target is released before the cutoff and of a length that the configuration lets train."""
    early = target.cutoff is not None and target.cutoff < datetime.date.fromisoformat(data.cutoff)
    return early and data.min_length <= target.length <= (data.max_length or target.length)


def development_split(
    entries: Sequence[Entry],
    cutoff: datetime.date | None = None,
    fraction: float = 0.1,
    identity: float = 0.8,
    max_dev: int | None = None,
    seed: int = 0,
    clusters: Mapping[str, int] | None = None,
) -> Split:
    """Entries released from the cutoff on whose whole sequence cluster is that young become the development set.

    So no development target is `identity` identical to a training target, and each is younger than every training
    target. Young entries with an older relative are dropped.

    Args:
        entries: to be split; those without a date are dropped.
        cutoff: first date of the development set; None takes the date that leaves `fraction` of the clusters to it.
        fraction: share of clusters for development, when no cutoff is given.
        identity: clusters are linked from this identity on.
        max_dev: keep at most so many development entries, one of each cluster first, chosen with the seed.
        seed: of that choice.
        clusters: cluster of each target_id, where they are known; None finds them.

    Raises:
        InputError: one side would be empty.
    """
    dated = [entry for entry in entries if entry.target.cutoff is not None]
    dates = np.array([entry.target.cutoff for entry in dated], dtype="datetime64[D]")
    if clusters is None:
        labels = cluster_sequences([entry.target.sequence for entry in dated], identity)
    else:
        labels = np.array([clusters[entry.target.target_id] for entry in dated], dtype=np.int64)
    if not dated:
        raise InputError(f"none of {len(entries)} entries has a date: no split by date is possible")
    oldest = np.full(int(labels.max()) + 1, dates.max())
    np.minimum.at(oldest, labels, dates)
    if cutoff is None:
        ranked = np.sort(oldest[np.unique(labels)])
        place = min(int(np.floor((1 - fraction) * len(ranked))), len(ranked) - 1)
        cutoff = ranked[place].astype(datetime.date)
    limit = np.datetime64(cutoff, "D")
    train = [entry for entry, date in zip(dated, dates, strict=True) if date < limit]
    chosen = np.flatnonzero(oldest[labels] >= limit)
    if max_dev is not None and len(chosen) > max_dev:
        shuffled = np.random.default_rng(seed).permutation(chosen)
        _, first = np.unique(labels[shuffled], return_index=True)
        rest = np.setdiff1d(np.arange(len(shuffled)), first)
        chosen = np.sort(shuffled[np.concatenate([np.random.default_rng(seed).permutation(first), rest])[:max_dev]])
    dev = [dated[i] for i in chosen]
    if not train or not dev:
        raise InputError(
            f"cutoff {cutoff}: {len(train)} entries to train on and {len(dev)} to validate on, expected some of both "
            f"(dates run from {dates.min()} to {dates.max()})"
        )
    return Split(train=tuple(train), dev=tuple(dev), cutoff=cutoff, num_dropped=len(entries) - len(train) - len(dev))


def report_leaks(
    train: Sequence[Entry], validation: Sequence[Entry], identity: float = 0.8, cache: Path | None = None
) -> list[Leak]:
    """Pairs of a validation and a training target identical or at least `identity` identical, worst first.

    A training target strictly older than the validation target's cutoff is listed as "similar but older"; without a
    date on either side it counts as not older. `cache` is a folder in which the pairs are kept under their content.
    """
    sequences = list(dict.fromkeys(entry.target.sequence for entry in train))
    members: dict[str, list[Entry]] = {}
    for entry in train:
        members.setdefault(entry.target.sequence, []).append(entry)
    relatives = find_relatives([entry.target.sequence for entry in validation], sequences, identity, cache)
    leaks = [
        _describe_leak(entry, other, share)
        for entry, found in zip(validation, relatives, strict=True)
        for number, share in found
        for other in members[sequences[number]]
    ]
    return sorted(leaks, key=lambda leak: (leak.allowed, -leak.identity, leak.validation_id, leak.train_id))


def _describe_leak(validation: Entry, train: Entry, identity: float) -> Leak:
    ours, theirs = validation.target.cutoff, train.target.cutoff
    older = ours is not None and theirs is not None and theirs < ours
    same = validation.target.sequence == train.target.sequence
    return Leak(
        validation_id=validation.target.target_id,
        train_id=train.target.target_id,
        identity=identity,
        kind=OLDER if older else IDENTICAL if same else SIMILAR,
        validation_cutoff=ours,
        train_cutoff=theirs,
    )
