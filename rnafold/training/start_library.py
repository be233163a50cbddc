"""Start structures of training chains: the candidates that prediction would make, behind an honest gate.

Each chain sees only entries released before it and of other sequence groups, or the network would learn to copy. Ranker
and jury are those of the chain's fold (templates.folds); the shipped ones saw the training chains and are surer of them
than they will be of a new target.
"""

import datetime
import functools
import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from rnafold.assembly.loop_judge import LoopJudge
from rnafold.features.cache import digest, save_arrays
from rnafold.features.pairing_cache import PairingCache
from rnafold.files.dealing import deal
from rnafold.files.mounts import find_made
from rnafold.structure import Entry, cut_target
from rnafold.templates.folds import FoldModels
from rnafold.templates.index import LibraryIndex
from rnafold.templates.library import TemplateLibrary, gate_for_training
from rnafold.templates.loops import build_fragments
from rnafold.templates.pieces import cut_pieces, estimate_starts, scale_count
from rnafold.templates.pipeline import apply_jury, build_candidates
from rnafold.templates.prepared import PreparedLibrary, describe, load_prepared, save_prepared
from rnafold.templates.ranker import Ranker
from rnafold.templates.reading import load_models
from rnafold.templates.sources import ModellingTask, Sources
from rnafold.training.starts import Starts, StartStore

log = logging.getLogger(__name__)
VERSION = 6
# Starting processes costs seconds: fewer chains are built in this one.
LEAST_FOR_PROCESSES = 64
# What the starts of a chain cost besides its length, in residues.
EFFORT_OF_ANY_CHAIN = 100
# What a library is opened from: entries, cache, numbers of templates and assemblies, seed, fold models.
StartArguments = tuple[tuple[Entry, ...], Path, int, int, int, FoldModels | None]
Models = tuple[Ranker | None, Ranker | None, LoopJudge | None]
# The library of a worker process and its pairings, set when it begins.
_OPEN: list[tuple["StartLibrary", PairingCache]] = []


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
        clusters: Mapping[str, str] | None = None,
    ) -> None:
        """`clusters` (of each target_id) say how often training draws a chain; without, each is its own."""
        self.clusters = clusters or {}
        self.arguments: StartArguments = (tuple(entries), cache, num_templates, num_assemblies, seed, folds)
        ranker, jury, judge = load_models()
        self.folds = folds
        self.shipped: Models = (
            None if ranker is None else ranker.exempt("in sample"),
            None if jury is None else jury.exempt("in sample"),
            None if judge is None else replace(judge, exempt=True),
        )
        self._entries = tuple(entries)
        self.cache, self.seed, self.jobs = cache, seed, jobs
        self.counts = (num_templates, num_assemblies)
        ids = sorted(e.target.target_id for e in entries)
        models = [digest(model=m.to_json()) for m in self._all_models() if m is not None]
        self.key = digest(ids=ids, counts=self.counts, seed=seed, version=VERSION, models=models)

    @functools.cached_property
    def sources(self) -> Sources:
        """The library of the entries, made once and kept in the cache: processes and later runs map it into memory."""
        ids = [[e.target.target_id, e.target.sequence, str(e.target.cutoff)] for e in self._entries]
        place = self.cache / f"start-library-{digest(entries=ids, version=VERSION)[:24]}"
        made = find_made(place)
        if made is None:
            library = TemplateLibrary.from_entries(self._entries)
            prepared = PreparedLibrary(library=library, index=LibraryIndex(library), fragments=build_fragments(library))
            save_prepared(place, prepared, describe(library, {}))
        else:
            prepared = load_prepared(made)[0]
        return Sources(prepared.library, None, None, None, prepared.index, prepared.fragments)

    def _all_models(self) -> Sequence[Ranker | LoopJudge | None]:
        folds = self.folds
        return self.shipped if folds is None else (*folds.rankers, *folds.juries, *folds.loop_judges)

    def _models_of(self, entry: Entry) -> Models:
        """Ranker, jury and loop judge for one entry."""
        return self.shipped if self.folds is None else self.folds.models_of(entry)

    def build(
        self, entries: Sequence[Entry], pairings: PairingCache, budget_seconds: float | None = None
    ) -> StartStore:
        """Starts of every entry; made where the cache does not hold them, with a progress bar, within the budget.

        Entries of one sequence share those of the oldest among them, whose gate is the strictest. The pieces that
        training will draw most often for the time they take are made first; beyond the budget none is begun.
        """
        jobs = self.list_jobs(entries)
        self._build_all([job for job in jobs if find_made(self.path(job)) is None], pairings, budget_seconds)
        oldest = _find_oldest(entries)
        return StartStore(
            {
                entry.target.target_id: [
                    (piece, self.path(Job(entry=oldest[_shape(entry)], piece=piece)))
                    for piece in cut_pieces(entry.target.length)
                ]
                for entry in entries
            }
        )

    def list_jobs(self, entries: Sequence[Entry]) -> list["Job"]:
        """The pieces that starts are to be built for, those first that an epoch draws most often for their time."""
        members = Counter(self.clusters.get(e.target.target_id, e.target.target_id) for e in entries)
        oldest = sorted(_find_oldest(entries).values(), key=lambda entry: -self._worth(entry, members))
        return [Job(entry=entry, piece=piece) for entry in oldest for piece in cut_pieces(entry.target.length)]

    def estimate_seconds(self, jobs: Sequence["Job"]) -> float:
        """Seconds of one core that the candidates of pieces take."""
        return estimate_starts((stop - first for first, stop in (job.piece for job in jobs)), self.counts)

    def _worth(self, entry: Entry, members: Mapping[str, int]) -> float:
        """How often an epoch draws the entry for the time that its starts take, in arbitrary units."""
        drawn = 1.0 / members[self.clusters.get(entry.target.target_id, entry.target.target_id)]
        return drawn / (entry.target.length + EFFORT_OF_ANY_CHAIN)

    def _build_all(self, jobs: Sequence["Job"], pairings: PairingCache, budget_seconds: float | None) -> None:
        """In `self.jobs` processes, which share the library."""
        if not jobs:
            return
        log.info(
            "start structures: %d pieces to make, about %.1f CPU hours in %d processes%s",
            len(jobs),
            self.estimate_seconds(jobs) / 3600.0,
            self.jobs,
            "" if budget_seconds is None else f"; after {budget_seconds / 3600.0:.2f} h the rest starts ideal",
        )
        began = time.monotonic()
        _ = self.sources

        def spent() -> bool:
            return budget_seconds is not None and time.monotonic() - began > budget_seconds

        done = 0
        with tqdm(total=len(jobs), desc="start structures", disable=None) as bar:
            if self.jobs <= 1 or len(jobs) < LEAST_FOR_PROCESSES:
                for job in jobs:
                    if spent():
                        break
                    self.build_one(job, pairings)
                    done += 1
                    bar.update()
            else:
                # spawn: a forked copy of a process that already runs threads (torch, BLAS) may hang
                context = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(self.jobs, context, _open_library, (self.arguments, pairings)) as pool:
                    for _ in deal(pool, self.jobs, _build_one, jobs, lambda: not spent()):
                        done += 1
                        bar.update()
        if done < len(jobs):
            log.info("start structures: %d of %d made in time, the others start ideal", done, len(jobs))

    def path(self, job: "Job") -> Path:
        """Where the starts of a piece are or will be kept."""
        target = job.entry.target
        name = digest(key=self.key, target=target.target_id, sequence=target.sequence, piece=job.piece)
        return self.cache / f"{name}.starts.npz"

    def build_one(self, job: "Job", pairings: PairingCache) -> None:
        """Builds and rates the candidates of one piece and puts them into the cache."""
        first, stop = job.piece
        task = ModellingTask(
            target=cut_target(job.entry.target, first, stop),
            pairing=pairings.window(job.entry.target, first, stop).pairing,
            sources=self.sources.rated_by(*self._models_of(job.entry)),
            gate=gate_for_training(job.entry),
            seed=self.seed,
        )
        num_templates, num_assemblies = (scale_count(count, stop - first) for count in self.counts)
        made = build_candidates(task, num_templates=num_templates, num_assemblies=num_assemblies)
        save_arrays(self.path(job), Starts.of(apply_jury(task, made)).arrays())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """A piece (first, stop) of an entry that starts are to be built for."""

    entry: Entry
    piece: tuple[int, int]


def _open_library(arguments: StartArguments, pairings: PairingCache) -> None:
    """In a worker process: the library it builds from."""
    entries, cache, num_templates, num_assemblies, seed, folds = arguments
    library = StartLibrary(
        entries, cache, num_templates=num_templates, num_assemblies=num_assemblies, seed=seed, folds=folds
    )
    _OPEN.append((library, pairings))


def _build_one(job: Job) -> None:
    library, pairings = _OPEN[-1]
    library.build_one(job, pairings)


def _find_oldest(entries: Sequence[Entry]) -> dict[tuple[str, int], Entry]:
    """Of the entries of one sequence the oldest, whose gate is the strictest: its starts serve all of them."""
    oldest: dict[tuple[str, int], Entry] = {}
    for entry in sorted(entries, key=lambda e: (e.target.cutoff or datetime.date.max, e.target.target_id)):
        oldest.setdefault(_shape(entry), entry)
    return oldest


def _shape(entry: Entry) -> tuple[str, int]:
    return entry.target.sequence, len(entry.target.chains)
