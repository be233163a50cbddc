"""What the network adds: the full kit with and without it, the network alone, calibration, physics and cost.

    python benchmarks/network.py --data DIRECTORY --weights FILE [--weights FILE ...] [--sets validation recent]

Templates and loops come from train_* behind each target's own cutoff; part-2 metric, exact scorer. `development` is the
split of train_* by date and cluster on which a training run stops early; validation and recent are never tuned on.
Several weights (training seeds) give a row each and their mean.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold.data.competition import read_entries
from rnafold.data.files import find_competition_files, find_file
from rnafold.scoring import score_target
from rnafold.scoring.measures import count_violations
from rnafold.settings import DataConfig
from rnafold.shipped import find_slots
from rnafold.slots import SlotsConfig, load_slots, pick_five
from rnafold.solver import CandidateSolver
from rnafold.structure import Candidate, Entry
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.reading import load_sources
from rnafold.training.dataset import FeatureSource
from rnafold.training.run import choose_entries
from rnafold.weights import load_network

FloatArray = npt.NDArray[np.float64]


@dataclass(slots=True)
class Tally:
    """Results of one set of targets, a value a target."""

    scores: dict[str, list[float]] = field(default_factory=dict)
    expected: list[float] = field(default_factory=list)
    reached: list[float] = field(default_factory=list)
    violations: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        self.scores.setdefault(name, []).append(value)


def score(entry: Entry, candidates: Sequence[Candidate]) -> tuple[float, ...]:
    coords = np.stack([c.coords for c in candidates])
    target = entry.target
    return score_target(target.target_id, target.chains, coords, entry.references, "exact").tm


def describe(name: str, values: Sequence[float], against: Sequence[float] | None) -> str:
    line = f"  {name:34s} {np.mean(values):.4f}"
    if against is None:
        return line
    difference = np.array(values) - np.array(against)
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else float("nan")
    return f"{line}   paired {difference.mean():+.4f} +- {error:.4f}"


def measure(
    entries: Sequence[Entry], solver: CandidateSolver, networks: dict[str, object], slots: SlotsConfig
) -> Tally:
    tally = Tally()
    for entry in tqdm(entries, disable=None):
        target = entry.target
        solver.features.prepare([target])
        pairing = solver.features.pairings[target.target_id]
        gate = solver.gate(target)
        began = time.monotonic()
        made = build_candidates(target, pairing, solver.sources, gate, seed=0)
        jury = solver.sources.usable_jury(gate)
        base = pick_five(target, made, slots, pairing=pairing, jury=jury)
        tm = score(entry, base)
        tally.add("kit without network, five", max(tm))
        tally.add("kit without network, first", tm[0])
        rated = solver.rate(made, pairing, jury)
        starts = solver._starts(rated)
        start_tm = score(entry, starts)
        tally.add("starts of the network, first", start_tm[0])
        for name, network in networks.items():
            solver.network = network  # type: ignore[assignment]
            refined = solver.refine(target, pairing, rated, np.inf)
            refined_tm = score(entry, refined)
            tally.add(f"{name}: network alone, first", refined_tm[0])
            tally.add(f"{name}: mean gain over the starts", float(np.mean(refined_tm) - np.mean(start_tm)))
            five = pick_five(target, [*rated, *refined], slots, pairing=pairing)
            tally.add(f"{name}: kit with network, five", max(score(entry, five)))
            tally.expected += [c.confidence for c in refined]
            tally.reached += list(refined_tm)
            for kind, pool in (("starts", starts), (name, refined)):
                for candidate in pool:
                    found = count_violations(candidate.coords, target.chains, pairing.partner)
                    per = 100.0 / target.length
                    tally.violations.setdefault(f"{kind}: clashes a 100 nt", []).append(found.clashes_hard * per)
                    tally.violations.setdefault(f"{kind}: bad bonds a 100 nt", []).append(found.bonds * per)
                    tally.violations.setdefault(f"{kind}: wrong-handed stems", []).append(found.wrong_handed)
        tally.seconds.append(time.monotonic() - began)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, action="append", required=True)
    parser.add_argument("--sets", nargs="+", default=["validation", "recent"])
    parser.add_argument("--cache", type=Path, default=Path(".cache/rnafold"))
    parser.add_argument("--slots", default=None)
    parser.add_argument("--most", type=int, default=0, help="only the first so many targets of each set")
    arguments = parser.parse_args()
    networks = {path.parent.name or path.stem: load_network(path) for path in arguments.weights}
    data = DataConfig(cache=str(arguments.cache), max_validation=60)
    folders = find_competition_files(arguments.data).msa_folders
    sources = load_sources([arguments.data], arguments.cache)
    first = next(iter(networks.values()))
    slots = load_slots(find_slots(arguments.slots))
    solver = CandidateSolver(FeatureSource(data, folders), sources, first, first.max_recycles, slots, 0)
    for name in arguments.sets:
        if name == "development":
            entries = list(choose_entries(arguments.data, data).validation)
        else:
            files = [find_file(arguments.data, f"{name}_{kind}.csv") for kind in ("sequences", "labels")]
            entries = read_entries(*files)
        entries = [e for e in entries if e.references][: arguments.most or None]
        tally = measure(entries, solver, networks, slots)
        print(f"{name}: {len(entries)} targets")
        base = tally.scores["kit without network, five"]
        for row, values in tally.scores.items():
            against = base if row.endswith("with network, five") else None
            if row.endswith("alone, first"):
                against = tally.scores["starts of the network, first"]
            print(describe(row, values, against))
        correlation = np.corrcoef(tally.expected, tally.reached)[0, 1]
        print(f"  expected against reached TM-score: r {correlation:.3f} over {len(tally.reached)} candidates")
        for row, counts in tally.violations.items():
            print(f"  {row:34s} {np.mean(counts):.3f}")
        print(f"  seconds a target: median {np.median(tally.seconds):.1f}, most {max(tally.seconds):.1f}", flush=True)


if __name__ == "__main__":
    main()
