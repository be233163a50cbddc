"""Splits by date and by sequence cluster, never at random, and the report of leaks between training and validation.

Identity of two sequences = identical letters in their best global alignment / length of the longer one.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from rnafold.errors import InputError
from rnafold.rna import UNKNOWN_TOKEN, encode_sequence
from rnafold.structure import Entry

KMER: Final = 8
LONG: Final = 200
MAX_ALIGNED: Final = 3000
MATCH: Final = 2
MISMATCH: Final = -1
GAP: Final = -2
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


def count_identical(query: npt.NDArray[np.int64], others: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Identical letters (K,) in the best global alignment (match 2, mismatch -1, gap -2) of a query with each other.

    All K alignments run at once: row by row of the query, with the gap along the row as a running maximum. Score and
    number of identities travel in one integer, so that ties go to more identities. Unknown letters match nothing.
    """
    if not others:
        return np.zeros(0, dtype=np.int64)
    lengths = np.array([len(other) for other in others])
    width = int(lengths.max())
    padded = np.full((len(others), width), -1, dtype=np.int64)
    for row, other in zip(padded, others, strict=True):
        row[: len(other)] = other
    # One unit of score is worth more than all identities together.
    unit = 1 << 20
    slope = GAP * unit * np.arange(width + 1)
    best = np.broadcast_to(slope, (len(others), width + 1)).copy()
    for letter in query.tolist():
        equal = (padded == letter) & (letter != UNKNOWN_TOKEN)
        diagonal = best[:, :-1] + np.where(equal, MATCH * unit + 1, MISMATCH * unit)
        fresh = best + GAP * unit
        np.maximum(fresh[:, 1:], diagonal, out=fresh[:, 1:])
        best = np.maximum.accumulate(fresh - slope, axis=1) + slope
    final = best[np.arange(len(others)), lengths]
    return np.asarray(final - (final >> 20 << 20), dtype=np.int64)


def _list_kmers(tokens: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Sorted codes of the different k-mers without unknown letters."""
    if len(tokens) < size:
        return np.zeros(0, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, size)
    codes: npt.NDArray[np.int64] = windows @ (4 ** np.arange(size))
    return np.unique(codes[(windows < 4).all(axis=1)])


class IdentityIndex:
    """Sequences ready to be asked which of them are at least so identical to another.

    Three steps, each cheaper than the next. Lengths and letter counts: identical letters cannot exceed the shared
    letters (exact). From 200 residues on, different 8-mers in common: at least a quarter of those that evenly spread
    differences leave (a heuristic). Then all alignments of one query at once; above 3,000 residues identity is
    estimated as the 8th root of the share of common 8-mers instead, since an alignment would take minutes.
    Sequences of equal text are found whatever their letters.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self._texts = list(sequences)
        self._tokens = [encode_sequence(sequence) for sequence in sequences]
        self._lengths = np.array([len(tokens) for tokens in self._tokens], dtype=np.int64)
        self._letters = np.array([np.bincount(tokens, minlength=5)[:4] for tokens in self._tokens]).reshape(-1, 4)
        self._kmers: dict[int, npt.NDArray[np.int64]] = {}

    def find(
        self, sequence: str, identity: float, within: npt.NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """(index, identity) of sequences at least `identity` (0-1) identical, of all or of those listed."""
        tokens = encode_sequence(sequence)
        index = np.arange(len(self._tokens)) if within is None else within
        equal = [int(i) for i in index if self._texts[i] == sequence]
        needed = identity * np.maximum(self._lengths[index], len(tokens))
        letters = np.bincount(tokens, minlength=5)[:4]
        shared = np.minimum(self._letters[index], letters).sum(axis=1)
        index = np.setdiff1d(index[shared >= needed], np.array(equal, dtype=np.int64))
        found = [(i, 1.0) for i in equal]
        kmers = _list_kmers(tokens, KMER)
        to_align = []
        for i in index.tolist():
            longer = max(int(self._lengths[i]), len(tokens))
            if longer < LONG:
                to_align.append(i)
                continue
            common = self._count_common(i, kmers) / longer
            if longer > MAX_ALIGNED and common ** (1 / KMER) >= identity:
                found.append((i, float(min(common, 1.0) ** (1 / KMER))))
            elif longer <= MAX_ALIGNED and common >= identity**KMER / 4:
                to_align.append(i)
        return sorted(found + self._align(tokens, to_align, identity))

    def _count_common(self, index: int, kmers: npt.NDArray[np.int64]) -> int:
        if index not in self._kmers:
            self._kmers[index] = _list_kmers(self._tokens[index], KMER)
        return len(np.intersect1d(self._kmers[index], kmers, assume_unique=True))

    def _align(
        self, tokens: npt.NDArray[np.int64], candidates: Sequence[int], identity: float
    ) -> list[tuple[int, float]]:
        found = []
        for start in range(0, len(candidates), 256):
            part = candidates[start : start + 256]
            same = count_identical(tokens, [self._tokens[i] for i in part])
            for i, count in zip(part, same.tolist(), strict=True):
                share = count / max(len(self._tokens[i]), len(tokens))
                if share >= identity:
                    found.append((i, share))
        return found


def cluster_sequences(sequences: Sequence[str], identity: float = 0.8) -> npt.NDArray[np.int64]:
    """Cluster number (N,) of each sequence, 0 for the first met; linked pairs are at least `identity` identical.

    Single linkage: two sequences of different clusters are never that identical, so no cluster can leak into another.

    Raises:
        ValueError: an identity outside (0, 1].
    """
    if not 0 < identity <= 1:
        raise ValueError(f"identity {identity} must lie in (0, 1]")
    unique = {sequence: index for index, sequence in enumerate(dict.fromkeys(sequences))}
    texts = list(unique)
    parent = list(range(len(texts)))

    def find_root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    index = IdentityIndex(texts)
    for number, text in enumerate(texts):
        roots = np.array([find_root(other) for other in range(number)], dtype=np.int64)
        # Members of the own cluster need no second look.
        for other, _ in index.find(text, identity, within=np.flatnonzero(roots != find_root(number))):
            parent[find_root(number)] = find_root(other)
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(find_root(unique[sequence]), len(numbers)) for sequence in sequences])


def development_split(
    entries: Sequence[Entry],
    cutoff: datetime.date | None = None,
    fraction: float = 0.1,
    identity: float = 0.8,
    max_dev: int | None = None,
    seed: int = 0,
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

    Raises:
        InputError: one side would be empty.
    """
    dated = [entry for entry in entries if entry.target.cutoff is not None]
    dates = np.array([entry.target.cutoff for entry in dated], dtype="datetime64[D]")
    labels = cluster_sequences([entry.target.sequence for entry in dated], identity)
    if not dated:
        raise InputError(f"none of {len(entries)} entries has a date: no split by date is possible")
    oldest = np.full(int(labels.max()) + 1, dates.max())
    np.minimum.at(oldest, labels, dates)
    if cutoff is None:
        ranked = np.sort(oldest)
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


def report_leaks(train: Sequence[Entry], validation: Sequence[Entry], identity: float = 0.8) -> list[Leak]:
    """Pairs of a validation and a training target identical or at least `identity` identical, worst first.

    A training target strictly older than the validation target's cutoff is listed as "similar but older"; without a
    date on either side it counts as not older.
    """
    sequences = list(dict.fromkeys(entry.target.sequence for entry in train))
    index = IdentityIndex(sequences)
    members: dict[str, list[Entry]] = {}
    for entry in train:
        members.setdefault(entry.target.sequence, []).append(entry)
    leaks: list[Leak] = []
    for entry in validation:
        for number, share in index.find(entry.target.sequence, identity):
            for other in members[sequences[number]]:
                leaks.append(_judge(entry, other, share))
    return sorted(leaks, key=lambda leak: (leak.allowed, -leak.identity, leak.validation_id, leak.train_id))


def _judge(validation: Entry, train: Entry, identity: float) -> Leak:
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
