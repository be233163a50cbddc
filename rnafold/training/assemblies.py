"""Ideal assemblies of training chains, built ahead in parallel and kept, on disk for later runs and in memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rnafold.features.build import StartPoint
from rnafold.features.cache import compute_all, digest, load_arrays, save_arrays
from rnafold.features.pairing_cache import PairingCache
from rnafold.files.mounts import find_made
from rnafold.structure import FloatArray, Target
from rnafold.training.starts import build_start

VERSION = 1
# Starting processes costs seconds: fewer chains are built in this one.
LEAST_FOR_PROCESSES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    target: Target
    pairings: PairingCache
    num_variants: int


class Assemblies:
    """Starts of whole chains by target and variant; those that are not on disk are built when asked for."""

    def __init__(self, pairings: PairingCache, num_variants: int) -> None:
        self.pairings, self.num_variants = pairings, num_variants
        self._kept: dict[str, FloatArray] = {}

    def build_ahead(self, targets: Sequence[Target], jobs: int, limit_seconds: float = math.inf) -> None:
        """Builds what is not on disk, the longest first, with a progress bar."""
        missing = {path: target for target in targets if find_made(path := self._locate(target)) is None}
        ordered = sorted(((self._job(t), path) for path, t in missing.items()), key=lambda item: -item[0].target.length)
        count = jobs if len(ordered) >= LEAST_FOR_PROCESSES else 1
        compute_all(_build, ordered, count, "start structures", limit_seconds)

    def point(self, target: Target, variant: int) -> StartPoint:
        """Where a chain starts in one of the variants."""
        if target.target_id not in self._kept:
            self._kept[target.target_id] = self._read(target)
        return StartPoint(coords=self._kept[target.target_id][variant])

    def _read(self, target: Target) -> FloatArray:
        """(V, L, 3) coordinates in Å."""
        path = self._locate(target)
        stored = load_arrays(path, ["coords"])
        if stored is None:
            _build(self._job(target), path)
            stored = load_arrays(path, ["coords"]) or {}
        return np.asarray(stored["coords"], dtype=np.float64)

    def _job(self, target: Target) -> _Job:
        return _Job(target=target, pairings=self.pairings, num_variants=self.num_variants)

    def _locate(self, target: Target) -> Path:
        """The file of a target's assemblies, under the name of the pairing that they are built from."""
        pairing = self.pairings.locate_for(target).name
        return (
            self.pairings.directory / f"{digest(pairing=pairing, count=self.num_variants, version=VERSION)}.ideal.npz"
        )


def _build(job: _Job, path: Path) -> None:
    pairing = job.pairings.window(job.target, 0, job.target.length).pairing
    coords = [build_start(job.target, pairing, variant).coords for variant in range(job.num_variants)]
    save_arrays(path, {"coords": np.stack(coords)})
