"""From entries to training examples: start structures, noise and crops."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from rnafold import rna
from rnafold.assembly import assemble
from rnafold.assembly.pairs import pairs_from_coords
from rnafold.features.build import Example, Others, build_example, crop_example
from rnafold.features.source import FeatureSource
from rnafold.structure import Entry, Pairing, Structure, Target
from rnafold.training.starts import Starts

FloatArray = npt.NDArray[np.float64]


def build_start(target: Target, pairing: Pairing, variant: int) -> tuple[FloatArray, float]:
    """A start structure (L, 3) from the predicted pairs, and its expected TM-score (0: unknown).

    Variant 0 takes the best secondary structure, further variants its samples in turn, each with its own seed.
    """
    options = [pairing.partner, *pairing.samples]
    partner = options[variant % len(options)]
    return assemble(target.sequence, partner, target.chains, seed=variant), 0.0


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
        self.starts: dict[tuple[int, int], tuple[FloatArray, float]] = {}
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
        start, confidence, others = self._start(index, rng)
        reference = entry.references[int(rng.integers(len(entry.references)))]
        noisy = start + rng.normal(scale=config.start_noise, size=start.shape)
        example = self._build(index, noisy, confidence, reference, others)
        spare = example.length - config.crop_length
        return example if spare <= 0 else crop_example(example, int(rng.integers(spare + 1)), config.crop_length)

    def _start(self, index: int, rng: np.random.Generator) -> tuple[FloatArray, float, Others | None]:
        target = self.entries[index].target
        if self.candidates is not None:
            found = self.candidates[target.target_id]
            k, templates = found.draw(rng)
            others = found.others(k, templates=templates, rng=rng)
            return found.coords[k].astype(np.float64), float(found.confidence[k]), others
        key = (index, int(rng.integers(self.features.config.start_variants)))
        if key not in self.starts:
            self.starts[key] = build_start(target, self.features.pairings[target.target_id], key[1])
        return *self.starts[key], None

    def _build(
        self, index: int, start: FloatArray, confidence: float, reference: Structure, others: Others | None
    ) -> Example:
        entry = self.entries[index]
        if index not in self.alignments:
            self.alignments[index] = self.features.alignment(entry.target)
        profile, scores = self.alignments[index]
        return build_example(
            entry.target,
            self.features.pairings[entry.target.target_id],
            start,
            start_confidence=confidence,
            profile=profile,
            covariation=scores,
            reference=reference,
            others=others,
            reference_partner=pairs_from_coords(rna.encode_sequence(entry.target.sequence), reference.c1),
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
