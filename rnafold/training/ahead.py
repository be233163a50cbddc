"""What a run computes before and beside its steps, made ahead on free CPU hours: clusters, pairs, profiles, starts.

All goes to the cache under the names by which training looks for it, the most useful first and within a budget, so that
a call that was stopped goes on and a run that finds a part makes the rest itself.
"""

import logging
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rnafold.config.settings import Config
from rnafold.data.selection import Entries, choose_entries
from rnafold.features.msa import ProfileCache
from rnafold.features.pairing_cache import FoldTask
from rnafold.features.source import FeatureSource
from rnafold.files.dealing import deal
from rnafold.files.mounts import find_made
from rnafold.structure import Target
from rnafold.training.assemblies import Assemblies
from rnafold.training.prepare import open_start_library
from rnafold.training.schedule import TimeBudget

log = logging.getLogger(__name__)
# Share of the budget after which starts are begun, whatever pairs are still wanting.
SHARE_OF_PAIRS = 0.6


@dataclass(slots=True, kw_only=True)
class Ahead:
    """What was made: tasks done and wanted by kind, and the seconds."""

    done: dict[str, int] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be made."""
        return self.done == self.wanted

    def describe(self) -> str:
        """One line."""
        parts = (f"{self.done[kind]} of {self.wanted[kind]} {kind}" for kind in self.wanted)
        return f"prepared in {self.seconds:.0f} s: {', '.join(parts)}"


def make_ahead(config: Config, data: Path, budget: TimeBudget) -> Ahead:
    """Fills the cache (data.cache) for a training run on `data`, in data.jobs processes, within the budget.

    Raises:
        InputError: the data folder does not allow the run, or the cache cannot be written to.
    """
    entries = choose_entries(data, config.data)
    made = Ahead()
    features = FeatureSource(config.data, entries.msa_folders)
    pairings = features.pairing_cache
    order = order_targets(entries)
    features.prepare([e.target for e in entries.validation])
    tasks = {path: task for target in order for task, path in pairings.tasks(target)}
    _fold_all(tasks, config.data.jobs, budget.part(SHARE_OF_PAIRS), made)
    profiles = ProfileCache(config.data.cache, features.msa_folders).compute(order, config.data.jobs)
    made.done["profiles"] = made.wanted["profiles"] = len(profiles)
    if config.data.start == "ideal":
        whole = [target for target in order if target.length <= config.data.crop_length]
        Assemblies(pairings, config.data.start_variants).build_ahead(whole, config.data.jobs)
    else:
        library = open_start_library(config, entries)
        library.build(entries.validation, pairings)
        left = budget.hours_left
        store = library.build(entries.train, pairings, None if left is None else 3600.0 * left)
        made.done["starts"], made.wanted["starts"] = store.count_ready(), len(store)
    made.seconds = budget.elapsed_seconds
    log.info("%s", made.describe())
    return made


def order_targets(entries: Entries) -> list[Target]:
    """Training targets, those first that an epoch draws most often for the time that their pairs take."""
    sizes: dict[str, int] = {}
    for cluster in entries.clusters:
        sizes[cluster] = sizes.get(cluster, 0) + 1
    ranked = sorted(
        zip(entries.train, entries.clusters, strict=True),
        key=lambda pair: (sizes[pair[1]] * pair[0].target.length, pair[0].target.target_id),
    )
    return [entry.target for entry, _ in ranked]


def _fold_all(tasks: Mapping[Path, FoldTask], jobs: int, budget: TimeBudget, made: Ahead) -> None:
    """Runs the tasks whose file is not there in `jobs` processes, as long as the budget allows another."""
    missing = [task for path, task in tasks.items() if find_made(path) is None]
    made.wanted["pairings"], made.done["pairings"] = len(tasks), len(tasks) - len(missing)
    if not missing:
        return
    bar: tqdm[Any]
    # spawn: a forked copy of a process that already runs threads (torch, BLAS) may hang
    with (
        ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool,
        tqdm(total=len(missing), desc="base pairs", disable=None) as bar,
    ):
        for _ in deal(pool, jobs, _fold, missing, budget.allows):
            made.done["pairings"] += 1
            bar.update()


def _fold(task: FoldTask) -> None:
    task.run()
