"""Trains the two shipped models of the template part: `ranker.json` and `jury.json` (half an hour with two jobs).

    python scripts/train_ranker.py --data DIRECTORY [--out rnafold/templates] [--folds FOLDER] [--jobs 2]

DIRECTORY holds train_sequences.csv and train_labels.csv. Queries are training chains, the first of each sequence group,
and for the jury domains of long ones too (`templates.queries`); each sees only structures released before it, of other
entries and other groups, loops included.
The jury is trained on what the pipeline makes with a ranker that was trained without the query's fifth of the time, and
both with a loop judge that saw nothing of that fifth; so the shipped loop judge comes first (scripts/train_loops.py).
"""

import argparse
import datetime
import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold.assembly.loop_judge import LOOP_KINDS, LoopJudge
from rnafold.data.competition import find_file, read_entries
from rnafold.features.secondary import fold_with_bonus
from rnafold.prediction.slots import Band, SlotsConfig, find_band, load_slots, pick_indices
from rnafold.scoring import tm_score
from rnafold.structure import Candidate, Entry, whole_chain
from rnafold.templates.alignment import Hit
from rnafold.templates.folds import fold_by_date, save_folds
from rnafold.templates.jury import JURY_NAMES, measure_jury_features, measure_likeness
from rnafold.templates.library import TemplateLibrary
from rnafold.templates.loop_training import cluster_chains, gather_rows, leave_out
from rnafold.templates.loops import build_fragments
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.queries import NUM_FOLDS, Query, select_queries
from rnafold.templates.ranker import FEATURE_NAMES, Ranker, measure_features, train_ranker
from rnafold.templates.search import search_chain
from rnafold.templates.single import MAX_REFOLD
from rnafold.templates.sources import ModellingTask, Sources
from rnafold.templates.transfer import build_hybrid, pair_with_template

log = logging.getLogger(__name__)

BEST_HITS, OTHER_HITS = 14, 10
# Best of five of 400 cross-validated queries 0.4040 to 0.4062 with one forest, by seed, 0.4064 with the mean of these.
JURY_FORESTS = 4

Job = tuple[Query, Ranker | None, LoopJudge, int]
# The library of this process, for the rows that it makes.
_OPEN: list[Sources] = []


@dataclass(frozen=True)
class Rows:
    """Training rows of one query; for the jury also its candidates, without coordinates, and their likeness."""

    features: npt.NDArray[np.float64]
    tm: npt.NDArray[np.float64]
    candidates: tuple[Candidate, ...] = ()
    likeness: npt.NDArray[np.float64] | None = None


def pick_hits(sources: Sources, hits: list[Hit], rng: np.random.Generator) -> list[int]:
    """The best hits by score, one for each different sequence and setting, and some of the others."""
    order = sorted(range(len(hits)), key=lambda k: -(hits[k].score - (0.0 if hits[k].setting == 1 else 0.05)))
    seen: set[tuple[bytes, int]] = set()
    distinct = []
    for k in order:
        content = sources.library.tokens[sources.library.chain_rows(hits[k].chain)].tobytes()
        if (content, hits[k].setting) not in seen:
            seen.add((content, hits[k].setting))
            distinct.append(k)
    rest = distinct[BEST_HITS:]
    others: Iterable[int] = rng.choice(rest, min(OTHER_HITS, len(rest)), replace=False) if rest else []
    return distinct[:BEST_HITS] + [int(k) for k in others]


def read_training(data: Path) -> list[Entry]:
    """The training entries of a folder."""
    return read_entries(*(find_file(data, name) for name in ("train_sequences.csv", "train_labels.csv")))


def read_sources(data: Path) -> Sources:
    """The training entries as library."""
    return Sources(TemplateLibrary.from_entries(read_training(data)), None)


def _open(data: Path) -> None:
    if not _OPEN:
        _OPEN.append(read_sources(data))


def make_all(make: Callable[[Job], Rows], jobs: Sequence[Job], data: Path, processes: int, name: str) -> list[Rows]:
    """The rows of every query, in order."""

    def run() -> Iterator[Rows]:
        if processes < 2:
            _open(data)
            yield from map(make, jobs)
            return
        # spawn: a forked copy of a process that already runs threads (OpenMP of scikit-learn) may hang
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, _open, (data,)) as pool:
            yield from pool.map(make, jobs, chunksize=2)

    return list(tqdm(run(), desc=name, total=len(jobs), disable=None))


def make_ranker_rows(job: Job) -> Rows:
    """Features of hits of a query, and the TM-scores of the hybrids built on them."""
    query, _, judge, seed = job
    sources = _OPEN[-1].rated_by(None, None, judge)
    target, pairing = query.entry.target, query.pairing
    hits = search_chain(sources.index, target.sequence, pairing.probabilities, query.gate)
    features = measure_features(sources.library, hits, target.sequence, pairing.probabilities, pairing.partner)
    picked = pick_hits(sources, hits, np.random.default_rng(seed))
    refold = fold_with_bonus if target.length <= MAX_REFOLD else None
    models = []
    for k in picked:
        partner = pair_with_template(target.sequence, sources.library, hits[k], pairing.partner, refold)
        carried = sources.library.carry_coords(hits[k])
        chains = whole_chain(target.length)
        models.append(build_hybrid(target.sequence, chains, carried, partner, sources.fragments(query.gate), seed)[0])
    if not models:
        return Rows(np.zeros((0, len(FEATURE_NAMES))), np.zeros(0))
    return Rows(features[picked], tm_score(np.stack(models), query.entry.references, "fast").max(1))


def make_jury_rows(job: Job) -> Rows:
    """Consensus features of the pipeline's candidates of a query, and their TM-scores."""
    query, ranker, judge, seed = job
    target, pairing = query.entry.target, query.pairing
    sources = _OPEN[-1].rated_by(ranker, None, judge)
    task = ModellingTask(target=target, pairing=pairing, sources=sources, gate=query.gate, seed=seed)
    candidates = build_candidates(task)
    coords = np.stack([candidate.coords for candidate in candidates])
    likeness = measure_likeness(list(coords))
    features = measure_jury_features(candidates, likeness, pairing)
    light = tuple(replace(candidate, coords=candidate.coords[:0], grounds=None) for candidate in candidates)
    return Rows(features, tm_score(coords, query.entry.references, "fast").max(1), light, likeness)


def train_judges(
    library: TemplateLibrary, groups: Mapping[str, int], begins: Sequence[datetime.date], seed: int
) -> list[LoopJudge]:
    """For each fold the shipped loop judge with trees that saw no loop of the fold's chains or of chains like them."""
    fragments = build_fragments(library)
    clusters = cluster_chains(fragments)
    fold = np.array([groups.get(chain.group, fold_by_date(begins, chain.released)) for chain in fragments.chains])
    rows = {kind: gather_rows(fragments, kind, clusters, seed) for kind in LOOP_KINDS}
    shipped = replace(LoopJudge.load(), exempt=True)
    numbers = tqdm(range(NUM_FOLDS), desc="loop judges", disable=None)
    return [leave_out(shipped, rows, set(clusters[fold == number].tolist()), seed) for number in numbers]


def fit(
    rows: list[Rows],
    queries: list[Query],
    leave_out: int | None,
    names: tuple[str, ...],
    before: datetime.date,
    seed: int,
) -> Ranker:
    """A model of the rows of all queries but those of one fold."""
    used = [(r, query) for r, query in zip(rows, queries) if query.fold != leave_out and len(r.tm)]
    index = np.repeat(np.arange(len(used)), [len(r.tm) for r, _ in used])
    features, tm = np.concatenate([r.features for r, _ in used]), np.concatenate([r.tm for r, _ in used])
    importance = np.array([query.weight for _, query in used])
    count = JURY_FORESTS if names == JURY_NAMES else 1
    return train_ranker(features, tm, index, names, before, seed, importance=importance, num_forests=count)


def report(name: str, rows: list[Rows], queries: list[Query], models: list[Ranker]) -> None:
    """Cross-validated correlation over all rows and within queries, and the mean absolute error."""
    predicted = [models[query.fold].predict(r.features) for r, query in zip(rows, queries)]
    expected, reached = np.concatenate(predicted), np.concatenate([r.tm for r in rows])
    overall, error = np.corrcoef(expected, reached)[0, 1], np.abs(expected - reached).mean()
    inside = [
        np.corrcoef(p, r.tm)[0, 1]
        for p, r in zip(predicted, rows)
        if len(p) > 2 and p.std() > 1e-6 and r.tm.std() > 1e-6
    ]
    text = "%s: cross-validated r %.3f over all of %d queries, %.3f within one (mean); mean absolute error %.4f"
    log.info(text, name, overall, len(queries), float(np.mean(inside)), error)


def report_slots(rows: list[Rows], queries: list[Query], folds: list[Ranker], config: SlotsConfig) -> None:
    """Cross-validated best of five on the queries: what slots.yaml is chosen by."""
    trials: dict[str, SlotsConfig] = {
        "slots.yaml": config,
        "no bands": replace(config, bands=(Band(),)),
        "templates alone": replace(config, bands=(Band(assembly=(0, 0)),)),
        "assemblies alone": replace(config, bands=(Band(template=(0, 0)),)),
        "3 templates, 2 assemblies": replace(config, bands=(Band(template=(3, 3), assembly=(2, 2)),)),
        "power 1": replace(config, likeness_power=1.0),
        "power 4": replace(config, likeness_power=4.0),
        "spreads x 0.6": replace(config, spread={key: 0.6 * value for key, value in config.spread.items()}),
        "spreads x 1.5": replace(config, spread={key: 1.5 * value for key, value in config.spread.items()}),
    }
    for name, trial in trials.items():
        best = []
        for r, query in zip(rows, queries):
            band = find_band(query.entry.target.length, r.candidates, trial)
            usable = [k for k, c in enumerate(r.candidates) if band.limits(c.origin)[1] > 0] or [0]
            assert r.likeness is not None
            means = folds[query.fold].predict(r.features)[usable]
            origins = [r.candidates[k].origin for k in usable]
            picked = pick_indices(means, origins, r.likeness[np.ix_(usable, usable)], trial, band)
            best.append(max(r.tm[usable[k]] for k in picked))
        log.info("%-28s best of five %.4f", name, np.mean(best))
    log.info("%-28s best of all  %.4f", "oracle", np.mean([r.tm.max() for r in rows]))


def main() -> None:
    """Parse the command line, train, write two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train_sequences.csv, train_labels.csv")
    parser.add_argument("--out", type=Path, default=Path("rnafold/templates"), help="folder for the two JSON files")
    parser.add_argument("--folds", type=Path, help="folder for the five folds' models, for data.start_models")
    parser.add_argument("--slots", type=Path, default=Path("submission/slots.yaml"), help="choice of five to report on")
    parser.add_argument("--queries", type=int, default=10_000, help="for a trial: every (entries / N)-th query")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data, seed = arguments.data, arguments.seed
    entries = read_training(data)
    library = TemplateLibrary.from_entries(entries)
    before = datetime.date.fromordinal(int(library.released.max()) + 1)
    step = max(1, len(entries) // arguments.queries)
    queries = select_queries(library, entries, seed, step)
    common = [query for query in queries if query.common]
    domains = sum(not query.whole for query in queries)
    text = "%d library entries before %s; %d queries for the ranker, %d for the jury, %d of them domains"
    log.info(text, library.num_entries, before, len(common), len(queries), domains)
    groups = {q.entry.group: q.fold for q in queries if q.entry.group}
    dates = [(q.fold, q.entry.target.cutoff or datetime.date.max) for q in common]
    firsts = [min(date for of, date in dates if of == fold) for fold in range(NUM_FOLDS)]
    judges = train_judges(library, groups, firsts, seed)
    rows = make_all(
        make_ranker_rows, [(q, None, judges[q.fold], seed) for q in common], data, arguments.jobs, "hybrids"
    )
    rankers = [fit(rows, common, fold, FEATURE_NAMES, before, seed) for fold in range(NUM_FOLDS)]
    report("ranker", rows, common, rankers)
    fit(rows, common, None, FEATURE_NAMES, before, seed).save(arguments.out / "ranker.json")
    jobs: list[Job] = [(q, rankers[q.fold].exempt("out of fold"), judges[q.fold], seed) for q in queries]
    jury_rows = make_all(make_jury_rows, jobs, data, arguments.jobs, "candidates")
    folds = [fit(jury_rows, queries, fold, JURY_NAMES, before, seed) for fold in range(NUM_FOLDS)]
    if arguments.folds:
        save_folds(arguments.folds, firsts, groups, rankers, folds, judges)
    # The common queries come first; figures are theirs, whatever the jury learns from besides.
    report("jury", jury_rows[: len(common)], common, folds)
    report_slots(jury_rows[: len(common)], common, folds, load_slots(arguments.slots))
    fit(jury_rows, queries, None, JURY_NAMES, before, seed).save(arguments.out / "jury.json")


if __name__ == "__main__":
    main()
