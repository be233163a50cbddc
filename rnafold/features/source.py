"""What the network is told of a target beside its start: pairing, profile and covariation, from the cache."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rnafold.config.settings import DataConfig
from rnafold.features.build import Example, StartPoint, build_example
from rnafold.features.msa import ProfileCache, covariation, find_msa, read_msa
from rnafold.features.secondary import PairingCache
from rnafold.structure import Pairing, Target


class FeatureSource:
    """Pairings, profiles and covariation of targets, computed once, cached on disk."""

    def __init__(self, config: DataConfig, msa_folders: Sequence[Path] = ()) -> None:
        self.config = config
        self.msa_folders = tuple(msa_folders) if config.msa else ()
        self.pairings: dict[str, Pairing] = {}
        self.profiles: dict[str, npt.NDArray[np.float32]] = {}

    def prepare(self, targets: Sequence[Target]) -> None:
        """Computes pairings and profiles of `targets` in parallel, with a progress bar; what is cached is read."""
        cache = PairingCache(Path(self.config.cache), self.config.pairing_samples, msa_folders=self.msa_folders)
        missing = [t for t in targets if t.target_id not in self.pairings]
        self.pairings.update(cache.compute(missing, jobs=self.config.jobs))
        profiles = ProfileCache(self.config.cache, self.msa_folders)
        self.profiles.update(profiles.compute(missing, jobs=self.config.jobs))

    def alignment(self, target: Target) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]:
        """Profile (L, 6) and covariation (L, L) of a prepared target's alignment, None for both without one."""
        path = find_msa(self.msa_folders, target.target_id)
        if path is None:
            return None, None
        return self.profiles[target.target_id], covariation(read_msa(path, target))


def prediction_example(target: Target, features: FeatureSource, start: StartPoint) -> Example:
    """Example of a prepared target to be predicted from one start."""
    profile, scores = features.alignment(target)
    return build_example(target, features.pairings[target.target_id], start, profile=profile, covariation=scores)
