"""Start structures of training chains: the candidates that prediction would make, behind an honest gate.

Each chain sees only entries released before it and of other sequence groups, or the network would learn to copy. Ranker
and jury are those of the chain's fold (templates.folds); the shipped ones saw the training chains and are surer of them
than they will be of a new target.
"""

import datetime
import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold.features.build import Others, choose_others
from rnafold.features.cache import digest, load_arrays, save_arrays
from rnafold.prediction.slots import judge
from rnafold.structure import Candidate, Entry, Pairing
from rnafold.templates.folds import FoldModels
from rnafold.templates.jury import measure_likeness
from rnafold.templates.library import TemplateLibrary, gate_for_training
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.ranker import Ranker
from rnafold.templates.reading import load_models
from rnafold.templates.sources import Sources

log = logging.getLogger(__name__)
FloatArray = npt.NDArray[np.float64]
VERSION = 4
# Training: share of starts drawn from the best, how many those are, and how often no template is to be seen.
SHARE_OF_BEST, NUM_BEST = 0.5, 8
SHARE_WITHOUT_TEMPLATES = 0.15
# Training: of the starts beside which templates are seen, the share drawn among assemblies alone.
SHARE_OF_ASSEMBLIES = 0.75
# Training: each candidate beside a start is hidden with a probability drawn between 0 and this.
MOST_HIDDEN = 0.8
# Starting processes costs seconds: fewer chains are built in this one.
LEAST_FOR_PROCESSES = 64
# The library of a worker process, set when it begins.
_OPEN: list["StartLibrary"] = []


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Starts:
    """Candidates (K, L, 3) of a chain in Å, their expected TM-scores (K,) and which are of templates (K,), the most
    confident first."""

    coords: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    is_template: npt.NDArray[np.bool_]

    def others(self, start: int, *, templates: bool = True, rng: np.random.Generator | None = None) -> Others:
        """What the network sees beside candidate `start`; without templates where a chain is to do without.

        With `rng` (training) each is hidden with a probability of its own draw, so that each epoch sees others.
        """
        usable = np.arange(len(self.coords)) != start
        if rng is not None:
            usable &= rng.random(len(usable)) >= rng.random() * MOST_HIDDEN
        if not templates:
            usable &= ~self.is_template
        return choose_others(self.coords[usable], self.confidence[usable], self.is_template[usable])

    def first_assembly(self) -> int:
        """The most confident assembly, which prediction refines first; a template where there is none."""
        return int(np.argmin(self.is_template))

    def draw(self, rng: np.random.Generator) -> tuple[int, bool]:
        """A start for training and whether templates are to be seen beside it.

        Poor ones as well as the best; mostly assemblies, since prediction refines no templates.
        """
        templates = bool(rng.random() >= SHARE_WITHOUT_TEMPLATES) or bool(self.is_template.all())
        mixed = templates and bool(rng.random() >= SHARE_OF_ASSEMBLIES)
        usable = np.arange(len(self.coords)) if mixed else np.flatnonzero(~self.is_template)
        if not len(usable):
            usable = np.arange(len(self.coords))
        best = usable[: NUM_BEST if rng.random() < SHARE_OF_BEST else None]
        return int(best[int(rng.integers(len(best)))]), templates


class StartLibrary:
    """Start structures of entries from the templates and loops of other entries, cached on disk."""

    def __init__(
        self,
        entries: Sequence[Entry],
        cache: Path,
        *,
        num_templates: int,
        num_assemblies: int,
        seed: int,
        folds: FoldModels | None = None,
        jobs: int = 1,
    ) -> None:
        self.arguments = (tuple(entries), cache, num_templates, num_assemblies, seed, folds)
        shipped = load_models()
        self.folds = folds
        self.shipped = tuple(None if m is None else replace(m, trained_before=datetime.date.min) for m in shipped)
        self.library = TemplateLibrary.from_entries(entries)
        self.sources = Sources(self.library, None)
        self.cache, self.seed, self.jobs = cache, seed, jobs
        self.counts = (num_templates, num_assemblies)
        ids = sorted(e.target.target_id for e in entries)
        models = [digest(model=m.to_json()) for m in self._all_models() if m is not None]
        self.key = digest(ids=ids, counts=self.counts, seed=seed, version=VERSION, models=models)

    def _all_models(self) -> Sequence[Ranker | None]:
        return self.shipped if self.folds is None else (*self.folds.rankers, *self.folds.juries)

    def _models_of(self, entry: Entry) -> tuple[Ranker | None, Ranker | None]:
        """Ranker and jury for one entry."""
        if self.folds is None:
            return self.shipped[0], self.shipped[1]
        return self.folds.ranker_of(entry), self.folds.jury_of(entry)

    def build(self, entries: Sequence[Entry], pairings: Mapping[str, Pairing]) -> dict[str, Starts]:
        """Starts of every entry; made where the cache does not hold them, with a progress bar.

        Entries of one sequence share those of the oldest among them, whose gate is the strictest.
        """
        oldest: dict[tuple[str, int], Entry] = {}
        for entry in sorted(entries, key=lambda e: (e.target.cutoff or datetime.date.max, e.target.target_id)):
            oldest.setdefault(_shape(entry), entry)
        missing = [(e, pairings[e.target.target_id]) for e in oldest.values() if self._load(e) is None]
        missing.sort(key=lambda pair: -pair[0].target.length)
        self._build_all(missing)
        made = {shape: self._load(entry) for shape, entry in oldest.items()}
        found = {entry.target.target_id: made[_shape(entry)] for entry in entries}
        return {name: starts for name, starts in found.items() if starts is not None}

    def _build_all(self, items: Sequence[tuple[Entry, Pairing]]) -> None:
        """In `jobs` processes, each with a library of its own."""
        bar = tqdm(total=len(items), desc="start structures", disable=None)
        with bar:
            if self.jobs <= 1 or len(items) < LEAST_FOR_PROCESSES:
                for item in items:
                    self.build_one(item)
                    bar.update()
                return
            # spawn: a forked copy of a process that already runs threads (torch, BLAS) may hang
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(self.jobs, context, _open_library, self.arguments) as pool:
                for _ in pool.map(_build_one, items):
                    bar.update()

    def _path(self, entry: Entry) -> Path:
        name = digest(key=self.key, target=entry.target.target_id, sequence=entry.target.sequence)
        return self.cache / f"{name}.starts.npz"

    def _load(self, entry: Entry) -> Starts | None:
        stored = load_arrays(self._path(entry), ["coords", "confidence", "is_template"])
        return None if stored is None else Starts(**stored)

    def build_one(self, job: tuple[Entry, Pairing]) -> None:
        """Builds and rates the candidates of one entry and puts them into the cache."""
        entry, pairing = job
        gate = gate_for_training(entry)
        self.sources.ranker, jury = self._models_of(entry)
        num_templates, num_assemblies = self.counts
        made = build_candidates(
            entry.target,
            pairing,
            self.sources,
            gate,
            seed=self.seed,
            num_templates=num_templates,
            num_assemblies=num_assemblies,
        )
        if jury is not None and len(made) > 1:
            made = judge(made, measure_likeness([c.coords for c in made]), pairing, jury, entry.target.chains)
        save_arrays(self._path(entry), pack(made))


def _open_library(
    entries: Sequence[Entry], cache: Path, num_templates: int, num_assemblies: int, seed: int, folds: FoldModels | None
) -> None:
    """In a worker process: the library it builds from."""
    _OPEN.append(
        StartLibrary(entries, cache, num_templates=num_templates, num_assemblies=num_assemblies, seed=seed, folds=folds)
    )


def _build_one(job: tuple[Entry, Pairing]) -> None:
    _OPEN[-1].build_one(job)


def _shape(entry: Entry) -> tuple[str, int]:
    return entry.target.sequence, len(entry.target.chains)


def pack(candidates: Sequence[Candidate]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of `Starts`, the most confident first."""
    ordered = sorted(candidates, key=lambda c: -c.confidence)
    return {
        "coords": np.stack([c.coords for c in ordered]).astype(np.float32),
        "confidence": np.array([c.confidence for c in ordered], np.float32),
        "is_template": np.array([c.origin == "template" for c in ordered], np.bool_),
    }
