"""From entries to training examples: start structures, noise and crops."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from rnafold import rna
from rnafold.assembly.pairs import pairs_from_coords
from rnafold.features.build import Example, StartPoint, build_example
from rnafold.features.pairing_cache import WindowPairing
from rnafold.features.source import FeatureSource, WindowFeatures
from rnafold.structure import Entry, Pairing, Structure, cut_structure, cut_target
from rnafold.training.assemblies import Assemblies
from rnafold.training.starts import StartStore, build_start

# Seconds that pairings, and then assemblies, may be made for before the first step.
AHEAD_SECONDS = 60.0
# Pairs of residues whose features a process keeps between epochs: half a GiB.
MOST_KEPT_PAIRS = 2**27


class TrainingExamples(Dataset[Example]):
    """Examples of the training entries; `index` is (epoch, entry) so that workers need no state."""

    def __init__(
        self,
        entries: Sequence[Entry],
        features: FeatureSource,
        seed: int,
        *,
        groups: Sequence[str] | None = None,
        starts: StartStore | None = None,
        tokens_alone: bool = False,
    ) -> None:
        """`groups` (clusters) default to the entries' own; where `starts` has none an ideal assembly is built.

        `tokens_alone` is for a network that reads nothing else: zeros stand for start and features, and none are made.
        """
        self.entries = list(entries)
        self.groups = list(groups) if groups is not None else [e.group or e.target.sequence for e in entries]
        self.candidates = starts
        self.features = features
        self.seed = seed
        self.tokens_alone = tokens_alone
        self.assemblies = Assemblies(features.pairing_cache, features.config.start_variants)
        # of chains that are never cropped: what they are told beside their start, and the pairs of each reference
        self._features: dict[int, WindowFeatures] = {}
        self._partners: dict[tuple[int, int], npt.NDArray[np.int64]] = {}
        self._kept_pairs = 0

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def lengths(self) -> list[int]:
        """Residues of each example after cropping."""
        return [min(e.target.length, self.features.config.crop_length) for e in self.entries]

    def build_ahead(self, jobs: int) -> None:
        """Makes the pairings and assemblies of the chains that are never cropped, so that no step waits for them."""
        if self.tokens_alone:
            return
        whole = [e.target for e in self.entries if e.target.length <= self.features.config.crop_length]
        # thousands of chains would keep a run from its first step: the rest is made as it is drawn
        self.features.pairing_cache.compute(whole, jobs, AHEAD_SECONDS)
        if self.candidates is None:
            self.assemblies.build_ahead(whole, jobs, AHEAD_SECONDS)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        epoch, index = key
        entry = self.entries[index]
        rng = np.random.default_rng([self.seed, epoch, index, 1])
        number = int(rng.integers(len(entry.references)))
        # the stretch is chosen before anything is made that grows with the square of the length
        size = min(entry.target.length, self.features.config.crop_length)
        first = int(rng.integers(entry.target.length - size + 1))
        return self._build(index, number, first, first + size, rng)

    def _build(self, index: int, number: int, first: int, stop: int, rng: np.random.Generator) -> Example:
        """The example of residues first <= i < stop of an entry, with its reference of a number."""
        entry = self.entries[index]
        features = self._read_features(index, first, stop)
        reference = cut_structure(entry.references[number], first, stop)
        start = self._start(index, first, stop, features.pairs.pairing, rng)
        noise = rng.normal(scale=self.features.config.start_noise, size=start.coords.shape)
        return build_example(
            entry.target,
            features.pairs.pairing,
            replace(start, coords=start.coords + noise),
            profile=features.profile,
            covariation=features.covariation,
            reference=reference,
            reference_partner=self._read_partners(index, number, first, reference),
            first=first,
            pairs_beyond=(features.pairs.opening, features.pairs.closing),
        )

    def _read_features(self, index: int, first: int, stop: int) -> WindowFeatures:
        """Pairs, profile and covariation; of whole chains they are kept as long as there is room."""
        if self.tokens_alone:
            return blank_features(stop - first)
        if index in self._features:
            return self._features[index]
        target = self.entries[index].target
        found = self.features.window(target, first, stop)
        if stop - first == target.length and self._kept_pairs + target.length**2 <= MOST_KEPT_PAIRS:
            self._kept_pairs += target.length**2
            self._features[index] = found
        return found

    def _read_partners(self, index: int, number: int, first: int, reference: Structure) -> npt.NDArray[np.int64]:
        """Partner of each residue of a reference's stretch; of whole chains they are kept."""
        if (index, number) in self._partners:
            return self._partners[index, number]
        target, stop = self.entries[index].target, first + len(reference.mask)
        found = pairs_from_coords(rna.encode_sequence(target.sequence[first:stop]), reference.c1)
        if stop - first == target.length:
            self._partners[index, number] = found
        return found

    def _start(self, index: int, first: int, stop: int, pairing: Pairing, rng: np.random.Generator) -> StartPoint:
        """Where the stretch starts: at a candidate, or at an ideal assembly where none was made."""
        target = self.entries[index].target
        if self.tokens_alone:
            return StartPoint(coords=np.zeros((stop - first, 3)))
        found = None if self.candidates is None else self.candidates.window(target, first, stop)
        if found is not None:
            return found.for_training(rng)
        variant = int(rng.integers(self.features.config.start_variants))
        if stop - first < target.length:
            return build_start(cut_target(target, first, stop), pairing, variant)
        return self.assemblies.point(target, variant)


def blank_features(length: int) -> WindowFeatures:
    """Features of which nothing is known."""
    nothing = np.zeros(length, np.float32)
    pairing = Pairing(
        probabilities=np.zeros((length, length), np.float32),
        partner=np.full(length, -1, np.int64),
        samples=np.zeros((0, length), np.int64),
        source="none",
    )
    pairs = WindowPairing(pairing=pairing, opening=nothing, closing=nothing)
    return WindowFeatures(pairs=pairs, profile=None, covariation=None)


def describe_entries(entries: Sequence[Entry]) -> Mapping[str, float]:
    """Counts that a run's log begins with: entries, clusters, residues, resolved share, longest."""
    residues = sum(e.target.length for e in entries)
    resolved = sum(int(e.references[0].residue_mask.sum()) for e in entries)
    return {
        "entries": len(entries),
        "clusters": len({e.group or e.target.sequence for e in entries}),
        "residues": residues,
        "resolved_share": round(resolved / max(residues, 1), 4),
        "longest": max((e.target.length for e in entries), default=0),
    }
