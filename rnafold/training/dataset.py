"""From entries to training examples: start structures, noise and crops."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch.utils.data import Dataset

from rnafold import rna
from rnafold.assembly.pairs import pairs_from_coords
from rnafold.features.build import Example, StartPoint, build_example
from rnafold.features.source import FeatureSource
from rnafold.structure import Entry, Pairing, Structure, cut_structure, cut_target
from rnafold.training.starts import StartStore, build_start


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
    ) -> None:
        """`groups` (clusters) default to the entries' own; where `starts` has none an ideal assembly is built."""
        self.entries = list(entries)
        self.groups = list(groups) if groups is not None else [e.group or e.target.sequence for e in entries]
        self.candidates = starts
        self.features = features
        self.seed = seed
        self.assemblies: dict[tuple[int, int], StartPoint] = {}

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def lengths(self) -> list[int]:
        """Residues of each example after cropping."""
        return [min(e.target.length, self.features.config.crop_length) for e in self.entries]

    def __getitem__(self, key: tuple[int, int]) -> Example:
        epoch, index = key
        entry = self.entries[index]
        rng = np.random.default_rng([self.seed, epoch, index, 1])
        reference = entry.references[int(rng.integers(len(entry.references)))]
        # the stretch is chosen before anything is made that grows with the square of the length
        size = min(entry.target.length, self.features.config.crop_length)
        first = int(rng.integers(entry.target.length - size + 1))
        return self._build(index, first, cut_structure(reference, first, first + size), rng)

    def _build(self, index: int, first: int, reference: Structure, rng: np.random.Generator) -> Example:
        """The example of the stretch of an entry that begins at `first` and is as long as its reference."""
        target, stop = self.entries[index].target, first + len(reference.mask)
        features = self.features.window(target, first, stop)
        start = self._start(index, first, stop, features.pairs.pairing, rng)
        noise = rng.normal(scale=self.features.config.start_noise, size=start.coords.shape)
        tokens = rna.encode_sequence(target.sequence[first:stop])
        return build_example(
            target,
            features.pairs.pairing,
            replace(start, coords=start.coords + noise),
            profile=features.profile,
            covariation=features.covariation,
            reference=reference,
            reference_partner=pairs_from_coords(tokens, reference.c1),
            first=first,
            pairs_beyond=(features.pairs.opening, features.pairs.closing),
        )

    def _start(self, index: int, first: int, stop: int, pairing: Pairing, rng: np.random.Generator) -> StartPoint:
        """Where the stretch starts: at a candidate, or at an ideal assembly where none was made."""
        target = self.entries[index].target
        found = None if self.candidates is None else self.candidates.window(target, first, stop)
        if found is not None:
            return found.for_training(rng)
        variant = int(rng.integers(self.features.config.start_variants))
        if stop - first < target.length:
            return build_start(cut_target(target, first, stop), pairing, variant)
        if (index, variant) not in self.assemblies:
            self.assemblies[index, variant] = build_start(target, pairing, variant)
        return self.assemblies[index, variant]


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
