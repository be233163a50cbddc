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
from pathlib import Path

from tqdm import tqdm

from rnafold.features.cache import digest, load_arrays, save_arrays
from rnafold.structure import Entry, Pairing
from rnafold.templates.folds import FoldModels
from rnafold.templates.library import TemplateLibrary, gate_for_training
from rnafold.templates.pipeline import apply_jury, build_candidates
from rnafold.templates.ranker import Ranker
from rnafold.templates.reading import load_models
from rnafold.templates.sources import ModellingTask, Sources
from rnafold.training.starts import Starts

log = logging.getLogger(__name__)
VERSION = 4
# Starting processes costs seconds: fewer chains are built in this one.
LEAST_FOR_PROCESSES = 64
# The library of a worker process, set when it begins.
_OPEN: list["StartLibrary"] = []


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
        self.shipped = tuple(None if model is None else model.exempt("in sample") for model in shipped)
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
        task = ModellingTask(
            target=entry.target,
            pairing=pairing,
            sources=self.sources.rated_by(*self._models_of(entry)),
            gate=gate_for_training(entry),
            seed=self.seed,
        )
        num_templates, num_assemblies = self.counts
        made = build_candidates(task, num_templates=num_templates, num_assemblies=num_assemblies)
        made = apply_jury(task, made)
        save_arrays(self._path(entry), Starts.of(made).arrays())


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
