"""What a run has to work through: lengths and clusters of its examples, micro batches, validation targets."""

import dataclasses
import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rnafold.config.settings import Config, DataConfig
from rnafold.config.strict_yaml import to_mapping
from rnafold.data.competition import read_targets
from rnafold.data.files import find_competition_files
from rnafold.data.sampler import plan_epoch
from rnafold.data.selection import cluster_usable, fits_validation, spread_evenly
from rnafold.data.splits import is_usable
from rnafold.errors import InputError
from rnafold.features.build import padded_length
from rnafold.features.pairing_cache import TILE
from rnafold.features.passes import cut_passes, pass_rule
from rnafold.features.secondary import MAX_UNWINDOWED, WINDOW
from rnafold.files.atomic import write_text
from rnafold.files.bounded import parse_json
from rnafold.structure import Target
from rnafold.templates.pieces import cut_pieces, estimate_starts

# Epochs that are dealt in full to count micro batches; further ones are like them.
SIMULATED_EPOCHS = 4
# Folding on one core of this project's machine: 8 s of 1,460 residues whole, 10 s of 3,500 in windows, 0.1 s of 300.
FOLDING_SECONDS_WHOLE, FOLDING_POWER, FOLDING_SECONDS_PER_RESIDUE = 8.6, 2.8, 2.8e-3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLoad:
    """Cropped length and cluster of each training entry, lengths of the validation targets, and where they are from.

    `folding_seconds` is what the base pairs of the uncropped entries take on one core, `start_seconds` what their start
    structures take (0 where they start ideal); 0 where nobody knows.
    """

    lengths: tuple[int, ...]
    groups: tuple[str, ...]
    validation_lengths: tuple[int, ...]
    source: str
    folding_seconds: float = 0.0
    start_seconds: float = 0.0

    @property
    def longest(self) -> int:
        """The longest cropped length, padded."""
        return padded_length(max(self.lengths))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EpochWork:
    """Means over epochs: micro batches by (padded length, examples), optimizer steps, examples drawn."""

    micro_batches: dict[tuple[int, int], float]
    steps: float
    examples: float


def assume_load(config: Config, num_examples: int) -> TrainingLoad:
    """A load without data: so many examples, each of the crop length and a cluster of its own."""
    length = config.data.crop_length
    num_validation = min(config.data.max_validation or 24, max(num_examples // 10, 1))
    return TrainingLoad(
        lengths=(length,) * num_examples,
        groups=tuple(map(str, range(num_examples))),
        validation_lengths=(length,) * num_validation,
        source=f"assumed: {num_examples} examples of {length} residues",
    )


def load_of_targets(
    train: Sequence[Target], groups: Sequence[str], validation: Sequence[Target], crop_length: int, source: str
) -> TrainingLoad:
    """The load of given targets; validation targets are not cropped."""
    return TrainingLoad(
        lengths=tuple(min(t.length, crop_length) for t in train),
        groups=tuple(groups),
        validation_lengths=tuple(t.length for t in validation),
        source=source,
        folding_seconds=sum(estimate_folding(t.length) for t in train),
    )


def estimate_folding(length: int) -> float:
    """Seconds that the base pairs of a chain of `length` residues take on one core, whole or in tiles."""
    if length > MAX_UNWINDOWED:
        return FOLDING_SECONDS_PER_RESIDUE * length * (1 + 2 * WINDOW / TILE)
    return float(FOLDING_SECONDS_WHOLE * (length / MAX_UNWINDOWED) ** FOLDING_POWER)


def read_load(directory: Path, data: DataConfig, cache: Path) -> TrainingLoad:
    """The load of a data folder, from its sequences alone: labels of gigabytes are not read for a plan.

    Entries without any resolved residue are therefore counted though training drops them.

    Raises:
        InputError: no training sequences below the folder, or none before the cutoff.
    """
    files = find_competition_files(directory, required=("train_sequences",))
    assert files.train_sequences is not None
    paths = [p for p in (files.train_sequences, files.validation_sequences) if p is not None]
    stats = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
    key = hashlib.sha256(json.dumps([stats, to_mapping(data)], sort_keys=True).encode()).hexdigest()[:24]
    stored = cache / f"load-{key}.json"
    if stored.is_file():
        try:
            plain = parse_json(stored.read_text(encoding="utf-8"))
            return TrainingLoad(
                lengths=tuple(plain["lengths"]),
                groups=tuple(plain["groups"]),
                validation_lengths=tuple(plain["validation_lengths"]),
                source=plain["source"],
                folding_seconds=plain["folding_seconds"],
                start_seconds=plain["start_seconds"],
            )
        except (json.JSONDecodeError, KeyError):
            stored.unlink()
    load = _split_targets(read_targets(files.train_sequences), data, files.train_sequences)
    if data.validation == "file" and files.validation_sequences is not None:
        lengths = choose_watched([t.length for t in read_targets(files.validation_sequences)], data)
        load = dataclasses.replace(load, validation_lengths=tuple(lengths))
    write_text(stored, json.dumps(dataclasses.asdict(load)))
    return load


def _split_targets(targets: Sequence[Target], data: DataConfig, path: Path) -> TrainingLoad:
    """The date gate and the split of data.selection, with one clustering for both its uses."""
    cutoff = datetime.date.fromisoformat(data.cutoff)
    usable = [t for t in targets if is_usable(t, data)]
    if not usable:
        raise InputError(f"{path}: none of {len(targets)} entries was released before {data.cutoff}; see data.cutoff")
    if data.max_entries:
        usable = sorted(usable, key=lambda t: (t.cutoff or cutoff, t.target_id))[-data.max_entries :]
    clusters = cluster_usable(targets, data)
    labels = np.array([clusters[t.target_id] for t in usable])
    dates = np.array([t.cutoff for t in usable], dtype="datetime64[D]")
    young = np.zeros(len(usable), dtype=np.bool_)
    validation: list[int] = []
    if data.validation == "development":
        oldest = np.full(int(labels.max()) + 1, dates.max())
        np.minimum.at(oldest, labels, dates)
        ranked = np.sort(oldest[np.unique(labels)])
        limit = ranked[min(int((1 - data.development_fraction) * len(ranked)), len(ranked) - 1)]
        young = dates >= limit
        validation = [usable[int(k)].length for k in np.flatnonzero(oldest[labels] >= limit)]
    train = [k for k in range(len(usable)) if not young[k]]
    if not train:
        raise InputError(f"{path}: the development split leaves no entry to train on; see data.development_fraction")
    return TrainingLoad(
        lengths=tuple(min(usable[k].length, data.crop_length) for k in train),
        groups=tuple(str(labels[k]) for k in train),
        validation_lengths=tuple(choose_watched(validation, data)),
        source=f"{path.name}: {len(train)} entries in {len({labels[k] for k in train})} clusters",
        folding_seconds=sum(estimate_folding(usable[k].length) for k in train),
        start_seconds=_estimate_start_seconds([usable[k] for k in train], data),
    )


def _estimate_start_seconds(train: Sequence[Target], data: DataConfig) -> float:
    """Seconds of one core that the start structures of the targets take; those of one sequence share theirs."""
    if data.start == "ideal":
        return 0.0
    different = {(target.sequence, len(target.chains)) for target in train}
    lengths = (stop - first for sequence, _ in different for first, stop in cut_pieces(len(sequence)))
    return estimate_starts(lengths, (data.start_templates, data.start_assemblies))


def choose_watched(lengths: Sequence[int], data: DataConfig) -> list[int]:
    """Lengths of the validation targets that data.selection keeps."""
    return spread_evenly(sorted(n for n in lengths if fits_validation(n, data)), data.max_validation)


def deal_epochs(
    load: TrainingLoad, config: Config, micro_batch: int, effective_batch: int, num_ranks: int = 1
) -> EpochWork:
    """Passes, steps and examples of a mean epoch, dealt and cut as the training itself does."""
    epochs = min(config.train.epochs, SIMULATED_EPOCHS)
    rule = pass_rule(config, load.longest, micro_batch)
    counts: Counter[tuple[int, int]] = Counter()
    steps = examples = 0
    for epoch in range(epochs):
        seed, balance = config.train.seed, config.data.balance_length
        windows = plan_epoch(load.lengths, load.groups, seed, epoch, effective_batch, micro_batch, balance)
        steps += len(windows)
        for dealt in (w.of_rank(rank, num_ranks) for w in windows for rank in range(num_ranks)):
            lengths = [load.lengths[k] for indices in dealt for k in indices]
            examples += len(lengths)
            for places in cut_passes(lengths, rule):
                counts[padded_length(max(lengths[k] for k in places)), len(places)] += 1
    return EpochWork(
        micro_batches={key: count / epochs for key, count in sorted(counts.items())},
        steps=steps / epochs,
        examples=examples / epochs,
    )
