"""Start structures of training chains: the candidates that prediction would make, behind an honest gate.

Each chain sees only entries released before it and of other sequence groups, or the network would learn to copy. The
ranker's own date is not asked for here: it only supplies a confidence, and cross-validation showed it calibrated.
"""

import datetime
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold.features.cache import digest, load_arrays, save_arrays
from rnafold.structure import Candidate, Entry, Pairing
from rnafold.templates.library import TemplateLibrary, gate_for
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.reading import load_models
from rnafold.templates.sources import Sources

log = logging.getLogger(__name__)
FloatArray = npt.NDArray[np.float64]
VERSION = 1
ORIGINS = ("assembly", "template")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Starts:
    """Candidates (K, L, 3) of a chain in Å and their expected TM-scores (K,), the most confident first."""

    coords: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]


class StartLibrary:
    """Start structures of entries from the templates and loops of other entries, cached on disk."""

    def __init__(
        self, entries: Sequence[Entry], cache: Path, *, num_templates: int, num_assemblies: int, seed: int
    ) -> None:
        ranker, _ = load_models()
        relaxed = None if ranker is None else replace(ranker, trained_before=datetime.date.min)
        self.library = TemplateLibrary.from_entries(entries)
        self.sources = Sources(self.library, relaxed)
        self.cache, self.seed = cache, seed
        self.counts = (num_templates, num_assemblies)
        ids = sorted(e.target.target_id for e in entries)
        self.key = digest(ids=ids, counts=self.counts, seed=seed, version=VERSION)

    def build(self, entries: Sequence[Entry], pairings: Mapping[str, Pairing]) -> dict[str, Starts]:
        """Starts of every entry; made where the cache does not hold them, with a progress bar.

        Entries of one sequence share those of the oldest among them, whose gate is the strictest.
        """
        oldest: dict[tuple[str, int], Entry] = {}
        for entry in sorted(entries, key=lambda e: (e.target.cutoff or datetime.date.max, e.target.target_id)):
            oldest.setdefault(_shape(entry), entry)
        made = {
            shape: self._load_or_build(entry, pairings[entry.target.target_id])
            for shape, entry in tqdm(oldest.items(), desc="start structures", disable=None)
        }
        return {entry.target.target_id: made[_shape(entry)] for entry in entries}

    def _load_or_build(self, entry: Entry, pairing: Pairing) -> Starts:
        target = entry.target
        path = self.cache / f"{digest(key=self.key, target=target.target_id, sequence=target.sequence)}.starts.npz"
        stored = load_arrays(path, ["coords", "confidence"])
        if stored is None:
            gate = gate_for(target, groups=(entry.group,) if entry.group else ())
            num_templates, num_assemblies = self.counts
            made = build_candidates(
                target,
                pairing,
                self.sources,
                gate,
                seed=self.seed,
                num_templates=num_templates,
                num_assemblies=num_assemblies,
            )
            stored = pack(made)
            save_arrays(path, stored)
        return Starts(coords=stored["coords"], confidence=stored["confidence"])


def _shape(entry: Entry) -> tuple[str, int]:
    return entry.target.sequence, len(entry.target.chains)


def pack(candidates: Sequence[Candidate]) -> dict[str, npt.NDArray[np.float32]]:
    """Coordinates and confidences as arrays, the most confident first."""
    ordered = sorted(candidates, key=lambda c: -c.confidence)
    return {
        "coords": np.stack([c.coords for c in ordered]).astype(np.float32),
        "confidence": np.array([c.confidence for c in ordered], np.float32),
    }
