"""What the network is told of a target beside its start: pairing, profile and covariation, from the cache.

Whole for a target to be predicted, by window for training chains, of which nothing is held that grows with the square
of the length.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from rnafold.config.settings import DataConfig
from rnafold.features.alignment_files import find_msa
from rnafold.features.build import Example, StartPoint, build_example
from rnafold.features.msa import MAX_COVARIATION_ROWS, ProfileCache, covariation, read_msa
from rnafold.features.pairing_cache import PairingCache, WindowPairing
from rnafold.structure import Pairing, Target

# Bytes of covariation that a process keeps of windows it may be asked for again.
KEPT_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowFeatures:
    """Of residues first .. first + W of a target: pairs, profile (W, 6) and covariation (W, W), None without MSA."""

    pairs: WindowPairing
    profile: npt.NDArray[np.float32] | None
    covariation: npt.NDArray[np.float32] | None


class FeatureSource:
    """Pairings, profiles and covariation of targets, computed once, cached on disk."""

    def __init__(self, config: DataConfig, msa_folders: Sequence[Path] = ()) -> None:
        self.config = config
        self.msa_folders = tuple(msa_folders) if config.msa else ()
        self.pairings: dict[str, Pairing] = {}
        self.profiles: dict[str, npt.NDArray[np.float32]] = {}
        self.pairing_cache = PairingCache(Path(config.cache), config.pairing_samples, msa_folders=self.msa_folders)
        self._kept: OrderedDict[tuple[str, int, int], npt.NDArray[np.float32]] = OrderedDict()

    def prepare(self, targets: Sequence[Target]) -> None:
        """Computes pairings and profiles of `targets` in parallel, with a progress bar; what is cached is read."""
        missing = [t for t in targets if t.target_id not in self.pairings]
        self.pairings.update(self.pairing_cache.compute(missing, jobs=self.config.jobs))
        profiles = ProfileCache(self.config.cache, self.msa_folders)
        self.profiles.update(profiles.compute(missing, jobs=self.config.jobs))

    def alignment(self, target: Target) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]:
        """Profile (L, 6) and covariation (L, L) of a prepared target's alignment, None for both if it has none."""
        path = find_msa(self.msa_folders, target.target_id)
        if path is None or target.target_id not in self.profiles:
            return None, None
        return self.profiles[target.target_id], covariation(read_msa(path, target))

    def window(self, target: Target, first: int, stop: int) -> WindowFeatures:
        """Features of residues first <= i < stop of a training chain; what is not on disk is computed first."""
        pairs = self.pairing_cache.window(target, first, stop)
        path = find_msa(self.msa_folders, target.target_id)
        profile = None if path is None else ProfileCache(self.config.cache, self.msa_folders).get(target, path)
        if path is None or profile is None:
            return WindowFeatures(pairs=pairs, profile=None, covariation=None)
        scores = self._covariation(path, target, first, stop)
        return WindowFeatures(pairs=pairs, profile=profile[first:stop], covariation=scores)

    def _covariation(self, path: Path, target: Target, first: int, stop: int) -> npt.NDArray[np.float32]:
        """(W, W) covariation of the window's columns; the latest are kept in memory."""
        key = (target.target_id, first, stop)
        if key not in self._kept:
            self._kept[key] = covariation(read_msa(path, target, MAX_COVARIATION_ROWS, (first, stop)))
            held = sum(array.nbytes for array in self._kept.values())
            while held > KEPT_BYTES and len(self._kept) > 1:
                held -= self._kept.popitem(last=False)[1].nbytes
        self._kept.move_to_end(key)
        return self._kept[key]


def prediction_example(target: Target, features: FeatureSource, start: StartPoint) -> Example:
    """Example of a prepared target to be predicted from one start."""
    profile, scores = features.alignment(target)
    return build_example(target, features.pairings[target.target_id], start, profile=profile, covariation=scores)
