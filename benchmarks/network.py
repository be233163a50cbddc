"""What the network adds: the full kit with and without it, the network alone, calibration, physics and cost.

    python benchmarks/network.py --data DIRECTORY --weights FILE [--weights FILE ...] [--sets validation recent]

Templates and loops come from train_* behind each target's own cutoff; part-2 metric, exact scorer (fast for the many
candidates of the calibration). `development` is the split of train_* by date and cluster on which a training run stops
early, rated by the fold models of `--folds`; validation and recent are never tuned on. Several weights (training seeds)
give a row each and their mean. `--json` keeps every row by target, for the model card.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold.config.settings import DataConfig
from rnafold.data.competition import read_entries
from rnafold.data.files import find_competition_files, find_file
from rnafold.data.selection import choose_entries
from rnafold.files.shipped import find_slots
from rnafold.model.network import PairNetwork, PlainNetwork
from rnafold.model.weights import load_network
from rnafold.prediction.features import TolerantFeatures
from rnafold.prediction.losses import StepLosses
from rnafold.prediction.slots import SlotsConfig, keep_formed, load_slots, pick_five
from rnafold.prediction.solver import CandidateSolver
from rnafold.report.model_card import Result, summarize_result, write_results
from rnafold.scoring import score_target, tm_score
from rnafold.scoring.measures import count_violations
from rnafold.structure import Candidate, Entry, Pairing
from rnafold.templates.folds import FoldModels, load_folds
from rnafold.templates.library import gate_for_training
from rnafold.templates.pipeline import apply_jury, build_candidates
from rnafold.templates.reading import load_sources

FloatArray = npt.NDArray[np.float64]
Network = PairNetwork | PlainNetwork
WITHOUT, FIRST_START, ASSEMBLY_START = "kit without network, five", "first candidate", "first assembly"
MEAN = "mean of the weights"
# What each row is compared with, by the end of its name.
AGAINST = {
    "kit with network, five": WITHOUT,
    "rated only, five": WITHOUT,
    "alone, first assembly refined": ASSEMBLY_START,
}


@dataclass(slots=True)
class Tally:
    """Results of one set of targets: row -> target -> TM-score; pairs (expected, reached); violations a 100 nt."""

    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    pairs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    violations: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def add(self, row: str, target: str, value: float) -> None:
        """One target's value of a row."""
        self.rows.setdefault(row, {})[target] = value

    def add_pairs(self, row: str, candidates: Sequence[Candidate], reached: FloatArray) -> None:
        """Expected and reached TM-scores of candidates."""
        found = self.pairs.setdefault(row, [])
        found += [(c.confidence, float(tm)) for c, tm in zip(candidates, reached)]

    def add_violations(self, row: str, entry: Entry, pairing: Pairing, candidates: Sequence[Candidate]) -> None:
        """Clashes and bad bonds a 100 residues and wrong-handed stems, means over candidates."""
        per = 100.0 / entry.target.length
        formed = [keep_formed(c.coords, pairing.partner) for c in candidates]
        found = [count_violations(c.coords, entry.target.chains, f) for c, f in zip(candidates, formed)]
        values = [(v.clashes_hard * per, v.bonds * per, float(v.wrong_handed)) for v in found]
        if values:
            clashes, bonds, stems = np.mean(values, axis=0)
            self.violations.setdefault(row, []).append((float(clashes), float(bonds), float(stems)))


def score(entry: Entry, candidates: Sequence[Candidate]) -> tuple[float, ...]:
    """Exact TM-scores."""
    coords = np.stack([c.coords for c in candidates])
    return score_target(entry.target.target_id, entry.target.chains, coords, entry.references, "exact").tm


def score_fast(entry: Entry, candidates: Sequence[Candidate]) -> FloatArray:
    """Fast TM-scores, the best over references, of single-chain candidates."""
    found = tm_score(np.stack([c.coords for c in candidates]), entry.references, "fast")
    return np.asarray(found.max(1), dtype=np.float64)


def measure(
    tally: Tally,
    entry: Entry,
    solver: CandidateSolver,
    networks: dict[str, Network],
    slots: SlotsConfig,
    folds: FoldModels | None,
) -> None:
    """Adds everything about one target to the tally."""
    target, name = entry.target, entry.target.target_id
    task = solver.prepare(target)
    pairing = task.pairing
    if folds is not None:
        sources = solver.sources.rated_by(*folds.models_of(entry))
        task = replace(task, sources=sources, gate=gate_for_training(entry))
    began = time.monotonic()
    made = build_candidates(task)
    base = pick_five(target, made, slots, pairing=pairing, jury=task.jury)
    base_seconds = time.monotonic() - began
    tm = score(entry, base)
    tally.add(WITHOUT, name, max(tm))
    tally.add("kit without network, first", name, tm[0])
    tally.add_violations("kit without network, five", entry, pairing, base)
    rated = apply_jury(task, made)
    assemblies = [c for c in rated if c.origin == "assembly"]
    tally.add_violations("assemblies", entry, pairing, assemblies)
    tally.add_pairs("jury", rated, score_fast(entry, rated))
    tally.add("best of all candidates", name, float(score_fast(entry, rated).max()))
    first, assembly = max(rated, key=lambda c: c.confidence), max(assemblies, key=lambda c: c.confidence)
    for row, start in ((FIRST_START, first), (ASSEMBLY_START, assembly)):
        tally.add(row, name, score(entry, [start])[0])
    without = replace(slots, bands=tuple(replace(band, network=(0, 0)) for band in slots.bands))
    for label, network in networks.items():
        solver.network = network
        began = time.monotonic()
        weighed, refined = solver.refine(task, rated, np.inf)
        five = pick_five(target, [*weighed, *refined], slots, pairing=pairing)
        tally.seconds.append(base_seconds + time.monotonic() - began)
        tally.add(f"{label}: kit with network, five", name, max(score(entry, five)))
        rated_only = pick_five(target, weighed, without, pairing=pairing)
        tally.add(f"{label}: rated only, five", name, max(score(entry, rated_only)))
        result = next((r for r in refined if r.note == f"from {assembly.origin} {assembly.note}"), assembly)
        tally.add(f"{label}: alone, {ASSEMBLY_START} refined", name, score(entry, [result])[0])
        tally.add_pairs(f"{label}: rated candidates", weighed, score_fast(entry, weighed))
        if refined:
            tally.add_pairs(f"{label}: refined candidates", refined, score_fast(entry, refined))
        tally.add_violations(f"{label}: kit with network, five", entry, pairing, five)
        tally.add_violations(f"{label}: refined", entry, pairing, refined)


def average_weights(tally: Tally, labels: Sequence[str]) -> None:
    """Adds the mean over the weights of every row that there is for each."""
    if len(labels) < 2:
        return
    for ending in AGAINST:
        found = [tally.rows[f"{label}: {ending}"] for label in labels]
        tally.rows[f"{MEAN}: {ending}"] = {name: float(np.mean([f[name] for f in found])) for name in found[0]}


def describe(row: str, values: dict[str, float], rows: dict[str, dict[str, float]]) -> str:
    """A row's mean, and the paired difference with its standard error where there is something to compare with."""
    line = f"  {row:52s} {np.mean(list(values.values())):.4f}"
    against = AGAINST.get(row.partition(": ")[2])
    if against is None:
        return line
    difference = np.array([values[name] - rows[against][name] for name in values])
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else float("nan")
    won, lost = int((difference > 0.005).sum()), int((difference < -0.005).sum())
    return f"{line}   paired {difference.mean():+.4f} +- {error:.4f} ({won} won, {lost} lost) against {against}"


def print_calibration(found: dict[str, list[tuple[float, float]]]) -> None:
    """How expected TM-scores of candidates agree with those reached."""
    for row, pairs in found.items():
        expected, reached = np.array(pairs).T
        error = np.abs(expected - reached).mean()
        r = np.corrcoef(expected, reached)[0, 1]
        print(f"  expected against reached, {row:36s} r {r:.3f}, mean absolute error {error:.3f} over {len(pairs)}")


def print_tally(title: str, tally: Tally) -> None:
    """Everything about one set of targets."""
    print(f"{title}: {len(tally.rows[WITHOUT])} targets")
    for row, values in tally.rows.items():
        print(describe(row, values, tally.rows))
    print_calibration(tally.pairs)
    for row, found in tally.violations.items():
        clashes, bonds, stems = np.mean(found, axis=0)
        print(f"  {row:52s} clashes {clashes:.3f}, bad bonds {bonds:.3f} a 100 nt; wrong-handed stems {stems:.3f}")
    print(f"  seconds a target: median {np.median(tally.seconds):.1f}, most {max(tally.seconds):.1f}", flush=True)


def read_set(name: str, data: Path, config: DataConfig) -> list[Entry]:
    """The entries of a set that have references."""
    if name == "development":
        return list(choose_entries(data, config).validation)
    files = [find_file(data, f"{name}_{kind}.csv") for kind in ("sequences", "labels")]
    return [e for e in read_entries(*files) if e.references]


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, action="append", required=True)
    parser.add_argument("--sets", nargs="+", default=["validation", "recent"])
    parser.add_argument("--cache", type=Path, default=Path(".cache/rnafold"))
    parser.add_argument("--folds", type=Path, help="fold models, needed for the development set")
    parser.add_argument("--development", type=int, default=60, help="most development targets, 0: all")
    parser.add_argument("--slots", default=None)
    parser.add_argument("--most", type=int, default=0, help="only every n-th target, about so many of each set")
    parser.add_argument("--json", type=Path, help="keep the rows by target here")
    arguments = parser.parse_args()
    networks = {path.parent.name or path.stem: load_network(path) for path in arguments.weights}
    data = DataConfig(cache=str(arguments.cache), max_validation=arguments.development)
    folders = find_competition_files(arguments.data).msa_folders
    sources = load_sources([arguments.data], arguments.cache)
    first = next(iter(networks.values()))
    slots = load_slots(find_slots(arguments.slots))
    solver = CandidateSolver(
        TolerantFeatures(data, folders, StepLosses()), sources, first, first.max_recycles, slots, 0
    )
    results: list[Result] = []
    pooled: dict[str, list[tuple[float, float]]] = {}
    for name in arguments.sets:
        entries = read_set(name, arguments.data, data)
        entries = entries[:: max(1, len(entries) // arguments.most)] if arguments.most else entries
        folds = load_folds(arguments.folds) if name == "development" else None
        tally = Tally()
        for entry in tqdm(entries, disable=None):
            measure(tally, entry, solver, networks, slots, folds)
        average_weights(tally, list(networks))
        print_tally(name, tally)
        for row, pairs in tally.pairs.items():
            pooled.setdefault(row, []).extend(pairs)
        results += [summarize_result(name, row, values) for row, values in tally.rows.items()]
        if arguments.json:
            write_results(arguments.json, results)
    print("all sets together")
    print_calibration(pooled)


if __name__ == "__main__":
    main()
