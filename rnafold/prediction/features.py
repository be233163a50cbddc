"""A target's pairs and alignment, whatever becomes of the alignment file and of the cache."""

import logging
import math
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rnafold.config.settings import DataConfig
from rnafold.errors import OutOfTime
from rnafold.features.alignment_files import ENDINGS, find_msa
from rnafold.features.msa import read_msa, write_msa
from rnafold.features.pairing_cache import is_stored
from rnafold.features.secondary import MAX_UNWINDOWED, estimate_folding, predict_pairing
from rnafold.features.source import FeatureSource
from rnafold.files.budget import Budget
from rnafold.prediction.losses import StepLosses
from rnafold.structure import Pairing, Target

log = logging.getLogger(__name__)
# Part of a target's time that one reading of its alignment may take; it is read three times more on the way.
ALIGNMENT_SHARE = 0.08
# Part of a target's time within which its base pairs must be expected to be had, since they cannot be interrupted.
PAIRING_SHARE = 0.15
Arrays = tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]


class TargetFeatures(Protocol):
    """What a prediction asks of features: see FeatureSource."""

    pairings: dict[str, Pairing]

    def prepare(self, targets: Sequence[Target], seconds: float = math.inf) -> None:
        """Computes what is not yet there; `seconds` is what all that follows may take as well."""

    def alignment(self, target: Target) -> Arrays:
        """Profile and covariation of a prepared target."""


class TolerantFeatures:
    """Features that leave an unreadable alignment out, and do without a cache that cannot be used.

    A cache that fails is replaced by a temporary folder, and if that fails too pairs are computed without any.
    """

    def __init__(
        self,
        config: DataConfig,
        msa_folders: Sequence[Path],
        losses: StepLosses,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.msa_folders, self.losses, self.clock = config, tuple(msa_folders), losses, clock
        self.pairings: dict[str, Pairing] = {}
        self._shortened = tempfile.mkdtemp(prefix="rnafold-alignments-")
        weakref.finalize(self, shutil.rmtree, self._shortened, ignore_errors=True)
        self._open(config.cache)
        self._aligned: set[str] = set()
        self._temporary = ""

    def _open(self, cache: str) -> None:
        config = replace(self.config, cache=cache)
        folders = (Path(self._shortened), *self.msa_folders)
        self._whole, self._plain = FeatureSource(config, folders), FeatureSource(config)

    def prepare(self, targets: Sequence[Target], seconds: float = math.inf) -> None:
        """Computes the pairs of each target, from its alignment where it has one that can be read.

        Of an alignment that takes too much of `seconds` to read, the rows that were read until then count.
        """
        budget = Budget(seconds, self.clock)
        for number, target in enumerate(targets):
            path = find_msa(self.msa_folders, target.target_id)
            if path is not None and target.target_id not in self.pairings:
                with self.losses.allow("alignment", target.target_id):
                    self._read(path, target, budget.part(ALIGNMENT_SHARE / (len(targets) - number)))
                    self._aligned.add(target.target_id)
            self._prepare(target, budget.left / (len(targets) - number))

    def _read(self, path: Path, target: Target, budget: Budget) -> None:
        """Reads an alignment to see whether it can be read; where its time is up, what was read takes its place."""
        msa = read_msa(path, target, budget=budget)
        if not budget.spent:
            return
        log.warning("%s: not read beyond row %d, to keep time for the target", path, len(msa.tokens))
        write_msa(Path(self._shortened) / f"{target.target_id}{ENDINGS[0]}", msa, target.target_id)

    def _prepare(self, target: Target, seconds: float) -> None:
        """One target's pairs: of the source, of one with a temporary cache, of none, or no pairs at all.

        Those that are neither in the cache nor to be had within their part of `seconds` are folded in short windows
        and not kept: a run with more time shall find none or better ones.
        """
        name = target.target_id
        if name in self.pairings:
            return
        folding = PAIRING_SHARE * seconds
        hurried = estimate_folding(min(target.length, MAX_UNWINDOWED)) > folding
        if hurried and not is_stored(self._source_of(target).pairing_cache.locate_for(target)):
            with self.losses.allow("base pairs", name):
                samples = self.config.pairing_samples
                self.pairings[name] = predict_pairing(target.sequence, target.chains, samples, seconds=folding)
                return
        try:
            self.pairings[name] = self._compute(target)
            return
        except OutOfTime:
            raise
        except Exception as error:  # noqa: BLE001 - told apart by what comes of the second try
            first = error
        with self.losses.allow("base pairs", name):
            self._replace_cache()
            self.pairings[name] = self._compute(target)
            self.losses.note("cache", name, first)
        if name not in self.pairings:
            with self.losses.allow("base pairs", name):
                self.pairings[name] = predict_pairing(target.sequence, target.chains, self.config.pairing_samples)
        if name not in self.pairings:
            self.pairings[name] = pair_nothing(target.length)

    def _source_of(self, target: Target) -> FeatureSource:
        return self._whole if target.target_id in self._aligned else self._plain

    def _compute(self, target: Target) -> Pairing:
        source = self._source_of(target)
        source.prepare([target])
        return source.pairings[target.target_id]

    def _replace_cache(self) -> None:
        """Goes on with a temporary folder, once."""
        if not self._temporary:
            self._temporary = tempfile.mkdtemp(prefix="rnafold-cache-")
            weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
            self._open(self._temporary)

    def alignment(self, target: Target) -> Arrays:
        """Profile (L, 6) and covariation (L, L) of a prepared target, None for both without a readable alignment."""
        if target.target_id in self._aligned:
            with self.losses.allow("alignment", target.target_id):
                self._whole.prepare([target])
                return self._whole.alignment(target)
            self._aligned.discard(target.target_id)
        return None, None


def pair_nothing(length: int) -> Pairing:
    """The pairing (L, L) of a sequence of which nothing is known."""
    return Pairing(
        probabilities=np.zeros((length, length), np.float32),
        partner=np.full(length, -1, np.int64),
        samples=np.zeros((0, length), np.int64),
        source="none",
    )
