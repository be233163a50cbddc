"""Pairings on disk under the digest of what they depend on; of long chains tile by tile, read by window.

A chain of more than MAX_UNWINDOWED residues is folded in windows of WINDOW residues, so the probabilities of a pair
depend on nothing farther away: tiles with a margin of a window give what the whole chain gives, and an array of L x L
is never needed. Only the tiles that a window touches are folded, each once.
"""

import logging
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from rnafold.errors import InputError
from rnafold.features.alignment_files import find_msa
from rnafold.features.build import crop_partners
from rnafold.features.cache import compute_all, digest, load_arrays, save_arrays
from rnafold.features.msa import try_read_msa
from rnafold.features.pair_choice import choose_partners, vary_partners
from rnafold.features.secondary import (
    MAX_SPAN,
    MAX_UNWINDOWED,
    METHOD_VERSION,
    WINDOW,
    fold_stretch,
    load_vienna,
    predict_pairing,
)
from rnafold.files.mounts import sample_digest
from rnafold.structure import Pairing, Target, whole_chain

logger = logging.getLogger(__name__)
IntArray = npt.NDArray[np.int64]
FloatArray32 = npt.NDArray[np.float32]

# Residues of a tile; its margins on both sides come on top, so longer tiles waste less and make the first crop wait.
TILE: Final = 1200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowPairing:
    """Base pairs of residues `first` .. `first + W` of a target.

    `pairing` holds the pairs inside the window; `opening` and `closing` (W,) the probability of each residue to pair
    with a later and with an earlier one, wherever that is.
    """

    pairing: Pairing
    opening: FloatArray32
    closing: FloatArray32


@dataclass(frozen=True, slots=True, kw_only=True)
class _PairingJob:
    target: Target
    num_samples: int
    seed: int
    msa_path: Path | None


class StoredPairings(Mapping[str, Pairing]):
    """Pairings by target_id, each read from disk when asked for, so that thousands of targets take no memory."""

    def __init__(self, paths: Mapping[str, Path], lengths: Mapping[str, int]) -> None:
        self._paths = dict(paths)
        self._lengths = dict(lengths)

    def __getitem__(self, target_id: str) -> Pairing:
        pairing = _load_pairing(self._paths[target_id], self._lengths[target_id])
        if pairing is None:
            raise InputError(f"{self._paths[target_id]}: the stored base pairs are damaged; delete the file and rerun")
        return pairing

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def is_stored(path: Path) -> bool:
    """Whether a file holds a pairing."""
    return load_arrays(path, ["version"]) is not None


class PairingCache:
    """Pairings on disk, one .npz a target, keyed by sequence, chains, alignment file, method and its parameters."""

    def __init__(
        self, directory: str | Path, num_samples: int = 4, seed: int = 0, msa_folders: Sequence[str | Path] = ()
    ) -> None:
        self.directory = Path(directory)
        self.num_samples = num_samples
        self.seed = seed
        self.msa_folders = tuple(msa_folders)

    def compute(self, targets: Sequence[Target], jobs: int = 1, limit_seconds: float = math.inf) -> StoredPairings:
        """Pairings of the targets, folded in `jobs` processes (longest first) where not yet on disk.

        None is begun after `limit_seconds`: those that are wanting then cannot be read from what is returned.

        Raises:
            InputError: a target of more than 20,000 residues (for which there is `window`), or a folder that cannot be
                written to.
        """
        work = {
            target.target_id: _PairingJob(
                target=target,
                num_samples=self.num_samples,
                seed=self.seed,
                msa_path=find_msa(self.msa_folders, target.target_id),
            )
            for target in targets
        }
        paths = {target_id: self.locate(job.target, job.msa_path) for target_id, job in work.items()}
        # Targets with the same chains share a file: it is made once.
        todo = {path: work[target_id] for target_id, path in paths.items() if not is_stored(path)}
        ordered = sorted(((job, path) for path, job in todo.items()), key=lambda item: -item[0].target.length)
        compute_all(_compute_pairing, ordered, jobs, "base pairs", limit_seconds)
        return StoredPairings(paths, {target.target_id: target.length for target in targets})

    def window(self, target: Target, first: int, stop: int) -> WindowPairing:
        """Pairs of residues `first` <= i < `stop`; what is not yet on disk is folded first.

        Up to MAX_UNWINDOWED residues the target's stored pairing is cut. Of longer ones the pairs come from chains
        folded alone or from tiles, `partner` and samples are chosen within the window, and alignments add nothing.
        """
        if target.length <= MAX_UNWINDOWED:
            path = self._ensure(target, find_msa(self.msa_folders, target.target_id))
            return _cut(path, first, stop)
        parts = [_no_pairs()]
        for chain in target.chains:
            if chain.start < stop and first < chain.stop:
                own = target.sequence[chain.start : chain.stop]
                begin, end = max(first - chain.start, 0), min(stop, chain.stop) - chain.start
                left, right, values = self._chain_pairs(own, begin, end)
                parts.append((left + chain.start, right + chain.start, values))
        left, right, values = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        opening, closing = _sums(left, right, values, first, stop)
        probabilities = _dense(left, right, values, first, stop)
        rng = np.random.default_rng([self.seed, zlib.crc32(target.sequence.encode()), first, stop])
        pairing = Pairing(
            probabilities=probabilities,
            partner=choose_partners(probabilities),
            samples=vary_partners(probabilities, self.num_samples, rng),
            source="windows",
        )
        return WindowPairing(pairing=pairing, opening=opening, closing=closing)

    def tasks(self, target: Target) -> "list[tuple[FoldTask, Path]]":
        """What `window` may ever ask for of a target, each with its file: the whole, or chains and tiles."""
        if target.length <= MAX_UNWINDOWED:
            path = self.locate(target, find_msa(self.msa_folders, target.target_id))
            return [(FoldTask(cache=self, target=target), path)]
        found = []
        for sequence in {target.sequence[chain.start : chain.stop] for chain in target.chains}:
            alone = Target(target_id="", sequence=sequence, chains=whole_chain(len(sequence)))
            if len(sequence) <= MAX_UNWINDOWED:
                found.append((FoldTask(cache=self, target=alone), self.locate(alone)))
                continue
            for number in range(count_tiles(len(sequence))):
                task = FoldTask(cache=self, target=alone, tile=number)
                found.append((task, self.tile_path(sequence, number)))
        return found

    def _ensure(self, target: Target, msa_path: Path | None) -> Path:
        """The file of a target's pairing, made if it is not there."""
        path = self.locate(target, msa_path)
        if not is_stored(path):
            job = _PairingJob(target=target, num_samples=self.num_samples, seed=self.seed, msa_path=msa_path)
            _compute_pairing(job, path)
        return path

    def make_whole(self, target: Target) -> None:
        """Folds a target whole unless it is on disk."""
        self._ensure(target, find_msa(self.msa_folders, target.target_id))

    def _chain_pairs(self, sequence: str, first: int, stop: int) -> tuple[IntArray, IntArray, FloatArray32]:
        """Pairs of one chain with an end in the window, and perhaps others."""
        if len(sequence) <= MAX_UNWINDOWED:
            alone = Target(target_id="", sequence=sequence, chains=whole_chain(len(sequence)))
            stored = load_arrays(self._ensure(alone, None), ["left", "right", "values"]) or {}
            return stored["left"].astype(np.int64), stored["right"].astype(np.int64), stored["values"]
        numbers = range(max(first - MAX_SPAN, 0) // TILE, (stop - 1) // TILE + 1)
        tiles = [self._tile(sequence, number) for number in numbers]
        left, right, values = (np.concatenate(columns) for columns in zip(*tiles, strict=True))
        return left, right, values

    def tile_path(self, sequence: str, number: int) -> Path:
        """The file of a long chain's tile; alike stretches share it."""
        key = digest(region=list(_region(sequence, number)), version=METHOD_VERSION, method=_method(), tile=TILE)
        return self.directory / f"{key}.tile.npz"

    def make_tile(self, sequence: str, number: int) -> None:
        """Folds a tile unless it is on disk."""
        path = self.tile_path(sequence, number)
        if load_arrays(path, ["values"]) is None:
            _compute_tile(_region(sequence, number), path)

    def _tile(self, sequence: str, number: int) -> tuple[IntArray, IntArray, FloatArray32]:
        """Pairs (left, right, probability) of a chain whose left end lies in a tile."""
        self.make_tile(sequence, number)
        stored = load_arrays(self.tile_path(sequence, number), ["left", "right", "values"]) or {}
        shift = number * TILE
        return stored["left"].astype(np.int64) + shift, stored["right"].astype(np.int64) + shift, stored["values"]

    def locate_for(self, target: Target) -> Path:
        """The file that holds, or will hold, a target's pairing, with its alignment if there is one."""
        return self.locate(target, find_msa(self.msa_folders, target.target_id))

    def locate(self, target: Target, msa_path: Path | None = None) -> Path:
        """The file that holds, or will hold, a target's pairing."""
        key = digest(
            sequence=target.sequence,
            chains=[[chain.start, chain.stop] for chain in target.chains],
            version=METHOD_VERSION,
            method=_method(),
            num_samples=self.num_samples,
            seed=self.seed,
            msa=sample_digest(msa_path) if msa_path else None,
        )
        return self.directory / f"{key}.pairing.npz"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldTask:
    """One file to be made: the pairing of a target, or a tile of a long chain."""

    cache: PairingCache
    target: Target
    tile: int | None = None

    def run(self) -> None:
        """Makes the file unless it is there."""
        if self.tile is None:
            self.cache.make_whole(self.target)
        else:
            self.cache.make_tile(self.target.sequence, self.tile)


def _compute_pairing(job: _PairingJob, path: Path) -> None:
    msa = try_read_msa(job.msa_path, job.target) if job.msa_path else None
    pairing = predict_pairing(job.target.sequence, job.target.chains, job.num_samples, job.seed, msa)
    left, right = np.nonzero(np.triu(pairing.probabilities))
    save_arrays(
        path,
        {
            "left": left.astype(np.int32),
            "right": right.astype(np.int32),
            "values": pairing.probabilities[left, right],
            "partner": pairing.partner.astype(np.int32),
            "samples": pairing.samples.astype(np.int32),
            "source": np.array(pairing.source),
            "version": np.array(METHOD_VERSION),
        },
    )


def _load_pairing(path: Path, length: int) -> Pairing | None:
    stored = load_arrays(path, ["left", "right", "values", "partner", "samples", "source"])
    if stored is None or len(stored["partner"]) != length:
        return None
    probabilities = np.zeros((length, length), dtype=np.float32)
    probabilities[stored["left"], stored["right"]] = stored["values"]
    probabilities[stored["right"], stored["left"]] = stored["values"]
    return Pairing(
        probabilities=probabilities,
        partner=stored["partner"].astype(np.int64),
        samples=stored["samples"].astype(np.int64),
        source=str(stored["source"]),
    )


def _method() -> str:
    """What folds, and its version."""
    vienna = load_vienna()
    return f"viennarna {vienna.__version__}" if vienna else "stem-energy"


def count_tiles(length: int) -> int:
    """Tiles of a chain of `length` residues."""
    return -(-length // TILE)


def _region(sequence: str, number: int) -> tuple[int, str]:
    """Residues of the margin in front of a tile, and the letters of the tile with both margins."""
    margin = min(WINDOW, number * TILE)
    start = number * TILE - margin
    return margin, sequence[start : (number + 1) * TILE + WINDOW]


def _compute_tile(region: tuple[int, str], path: Path) -> None:
    """Folds a region and keeps the pairs whose left end lies in its tile, counted from the tile's first residue."""
    margin, letters = region
    left, right, values = fold_stretch(letters)
    own = (left >= margin) & (left < margin + TILE)
    save_arrays(
        path,
        {
            "left": (left[own] - margin).astype(np.int32),
            "right": (right[own] - margin).astype(np.int32),
            "values": values[own].astype(np.float32),
        },
    )


def _no_pairs() -> tuple[IntArray, IntArray, FloatArray32]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)


def _sums(
    left: IntArray, right: IntArray, values: FloatArray32, first: int, stop: int
) -> tuple[FloatArray32, FloatArray32]:
    """(W,) probabilities of pairing with a later and with an earlier residue."""
    sums = []
    for ends in (left, right):
        inside = (ends >= first) & (ends < stop)
        sums.append(np.bincount(ends[inside] - first, values[inside], stop - first).astype(np.float32))
    return sums[0], sums[1]


def _dense(left: IntArray, right: IntArray, values: FloatArray32, first: int, stop: int) -> FloatArray32:
    """(W, W) probabilities of the pairs inside a window."""
    inside = (left >= first) & (right < stop)
    i, j = left[inside] - first, right[inside] - first
    probabilities = np.zeros((stop - first, stop - first), dtype=np.float32)
    probabilities[i, j] = probabilities[j, i] = values[inside]
    return probabilities


def _cut(path: Path, first: int, stop: int) -> WindowPairing:
    """A window of a stored pairing."""
    stored = load_arrays(path, ["left", "right", "values", "partner", "samples", "source"])
    if stored is None:
        raise InputError(f"{path}: the stored base pairs are damaged; delete the file and rerun")
    left, right, values = stored["left"].astype(np.int64), stored["right"].astype(np.int64), stored["values"]
    opening, closing = _sums(left, right, values, first, stop)
    pairing = Pairing(
        probabilities=_dense(left, right, values, first, stop),
        partner=crop_partners(stored["partner"].astype(np.int64), first, stop),
        samples=crop_partners(stored["samples"].astype(np.int64), first, stop),
        source=str(stored["source"]),
    )
    return WindowPairing(pairing=pairing, opening=opening, closing=closing)
