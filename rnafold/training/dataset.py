"""From entries to training examples: start structures, noise and crops."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from rnafold import rna
from rnafold.assembly.pairs import pairs_from_coords
from rnafold.features.build import Example, StartPoint, build_example, crop_example
from rnafold.features.source import FeatureSource
from rnafold.structure import Entry, Structure
from rnafold.training.starts import Starts, build_start


class TrainingExamples(Dataset[Example]):
    """Examples of the training entries; `index` is (epoch, entry) so that workers need no state."""

    def __init__(
        self,
        entries: Sequence[Entry],
        features: FeatureSource,
        seed: int,
        *,
        groups: Sequence[str] | None = None,
        starts: Mapping[str, Starts] | None = None,
    ) -> None:
        """`groups` (clusters) default to the entries' own; without `starts` ideal assemblies are built on demand."""
        self.entries = list(entries)
        self.groups = list(groups) if groups is not None else [e.group or e.target.sequence for e in entries]
        self.candidates = starts
        self.features = features
        self.seed = seed
        self.assemblies: dict[tuple[int, int], StartPoint] = {}
        self.alignments: dict[int, tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]] = {}

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def lengths(self) -> list[int]:
        """Residues of each example after cropping."""
        return [min(e.target.length, self.features.config.crop_length) for e in self.entries]

    def __getitem__(self, key: tuple[int, int]) -> Example:
        epoch, index = key
        config = self.features.config
        entry = self.entries[index]
        rng = np.random.default_rng([self.seed, epoch, index, 1])
        start = self._start(index, rng)
        reference = entry.references[int(rng.integers(len(entry.references)))]
        noise = rng.normal(scale=config.start_noise, size=start.coords.shape)
        example = self._build(index, replace(start, coords=start.coords + noise), reference)
        spare = example.length - config.crop_length
        return example if spare <= 0 else crop_example(example, int(rng.integers(spare + 1)), config.crop_length)

    def _start(self, index: int, rng: np.random.Generator) -> StartPoint:
        target = self.entries[index].target
        if self.candidates is not None:
            return self.candidates[target.target_id].for_training(rng)
        key = (index, int(rng.integers(self.features.config.start_variants)))
        if key not in self.assemblies:
            self.assemblies[key] = build_start(target, self.features.pairings[target.target_id], key[1])
        return self.assemblies[key]

    def _build(self, index: int, start: StartPoint, reference: Structure) -> Example:
        target = self.entries[index].target
        if index not in self.alignments:
            self.alignments[index] = self.features.alignment(target)
        profile, scores = self.alignments[index]
        return build_example(
            target,
            self.features.pairings[target.target_id],
            start,
            profile=profile,
            covariation=scores,
            reference=reference,
            reference_partner=pairs_from_coords(rna.encode_sequence(target.sequence), reference.c1),
        )


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
