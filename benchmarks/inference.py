"""What a prediction costs: seconds and peak memory by length for each network, and `predict` of one target by phase.

    python benchmarks/inference.py [--models base plain] [--lengths 128 256 512 1024 2048 4640] [--json FILE]
    python benchmarks/inference.py --data DIRECTORY --target ID [--json FILE]
    python benchmarks/inference.py --data DIRECTORY --mixture [--json FILE]

The first form folds one random chain of each length from a straight start, in a process of its own each, one recycle,
in one thread; beyond folding's MAX_WHOLE residues in chunks, as `predict` does. The second predicts one target of the
data folder's recent or validation set with everything that `predict` uses, and shows where its seconds went; the third
does the same for 65 targets of mixed lengths, one after the other.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnafold.config.settings import DataConfig, resolve_config
from rnafold.data.competition import read_targets
from rnafold.data.files import find_competition_files, find_file
from rnafold.features.build import Others, StartPoint, build_example
from rnafold.files.shipped import find_shipped_weights, find_slots
from rnafold.machine import keep_freed_memory
from rnafold.model.folding import fold_example
from rnafold.model.network import build_network
from rnafold.model.weights import load_network
from rnafold.prediction import solver as solver_module
from rnafold.prediction.deadline import list_following, put_in_order
from rnafold.prediction.features import TolerantFeatures
from rnafold.prediction.losses import StepLosses
from rnafold.prediction.slots import load_slots
from rnafold.prediction.solver import CandidateSolver
from rnafold.structure import Chain, Pairing, Target
from rnafold.templates.reading import load_sources

MODELS = ("minimal", "base", "large", "plain")
LENGTHS = (128, 256, 512, 1024, 2048, 4640)
# Of the mixture: so many validation targets of at most so many residues, beside the recent ones.
NUM_OTHERS, MOST_OF_OTHERS = 5, 160
GIB = 2**20  # ru_maxrss is in KiB
# Steps of the solver that are timed, in their order.
PHASES = ("prepare", "build", "apply_jury", "refine", "pick_five")


def fold_once(model: str, length: int) -> dict[str, float]:
    """Seconds of one prediction and what it added to the process's peak memory, in GiB."""
    config = resolve_config("cpu", model).model
    torch.manual_seed(0)
    network = build_network(config).eval()
    rng = np.random.default_rng(0)
    target = Target(
        target_id="random",
        sequence="".join(rng.choice(list("ACGU"), length)),
        chains=(Chain(chain_id="A", copy=1, start=0, stop=length),),
    )
    pairing = Pairing(
        probabilities=np.zeros((length, length), np.float32),
        partner=np.full(length, -1, np.int64),
        samples=np.zeros((0, length), np.int64),
        source="none",
    )
    coords = rng.normal(size=(length, 3)).cumsum(0) * 3.0
    others = Others(
        coords=(coords + rng.normal(size=(8, length, 3))).astype(np.float32),
        confidence=np.full(8, 0.3, np.float32),
        is_template=np.arange(8) < 4,
    )
    example = build_example(target, pairing, StartPoint(coords=coords, confidence=0.3, others=others))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    fold_example(network, example, min(1, config.max_recycles))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_memory_gib": peak / GIB, "added_memory_gib": (peak - before) / GIB}


def compare_lengths(models: list[str], lengths: list[int]) -> list[dict[str, Any]]:
    """A row for each network and length, measured in a process of its own."""
    print("| model | length | seconds | peak GiB | of it the pass |\n" + "|---" * 5 + "|")
    rows = []
    for model in models:
        for length in lengths:
            command = [sys.executable, __file__, "one", model, str(length)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row = {"model": model, "length": length, **json.loads(done.stdout.splitlines()[-1])}
            figures = f"{row['seconds']:.2f} | {row['peak_memory_gib']:.2f} | {row['added_memory_gib']:.2f}"
            print(f"| {model} | {length} | {figures} |", flush=True)
            rows.append(row)
    return rows


def open_solver(data: Path, cache: Path) -> CandidateSolver:
    """Everything that `predict` uses on the data folder's library."""
    folders = find_competition_files(data).msa_folders
    path = find_shipped_weights()
    network = None if path is None else load_network(path)
    features = TolerantFeatures(DataConfig(cache=str(cache)), folders, StepLosses())
    recycles = 0 if network is None else network.max_recycles
    return CandidateSolver(features, load_sources([data], cache), network, recycles, load_slots(find_slots(None)), 0)


def time_mixture(data: Path, cache: Path) -> dict[str, Any]:
    """Seconds of wall and of this process for 65 targets of 10 to 426 residues: the recent ones and five others."""
    began, own = time.perf_counter(), time.process_time()
    solver = open_solver(data, cache)
    others = [t for t in read_targets(find_file(data, "validation_sequences.csv")) if t.length <= MOST_OF_OTHERS]
    targets = put_in_order([*read_targets(find_file(data, "recent_sequences.csv")), *others[:NUM_OTHERS]])
    solver.following = list_following(targets)
    for target in targets:
        solver(target, 3600.0)
    wall, own = time.perf_counter() - began, time.process_time() - own
    residues = sum(target.length for target in targets)
    return {"targets": len(targets), "residues": residues, "wall_seconds": wall, "cpu_seconds": own}


def time_phases(data: Path, name: str, cache: Path) -> dict[str, Any]:
    """Seconds of wall and of this process for one target, as a whole and for each step."""
    began, imports = time.perf_counter(), time.process_time()
    solver = open_solver(data, cache)
    opening, opening_cpu = time.perf_counter() - began, time.process_time() - imports
    target = find_target(data, name)
    spent = {phase: {"wall_seconds": 0.0, "cpu_seconds": 0.0} for phase in PHASES}

    def timed(phase: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start, own = time.perf_counter(), time.process_time()
            try:
                return work(*arguments, **options)
            finally:
                spent[phase]["wall_seconds"] += time.perf_counter() - start
                spent[phase]["cpu_seconds"] += time.process_time() - own

        return run

    for phase in PHASES:
        owner: Any = solver_module if hasattr(solver_module, phase) else CandidateSolver
        setattr(owner, phase, timed(phase, getattr(owner, phase)))
    began, own = time.perf_counter(), time.process_time()
    solver(target, 3600.0)
    wall, own = time.perf_counter() - began, time.process_time() - own
    return {
        "target": name,
        "length": target.length,
        "imports_cpu_seconds": imports,
        "opening_seconds": opening,
        "opening_cpu_seconds": opening_cpu,
        "wall_seconds": wall,
        "cpu_seconds": own,
        "phases": spent,
    }


def find_target(data: Path, name: str) -> Target:
    """A target of the recent or the validation set."""
    for kind in ("recent_sequences.csv", "validation_sequences.csv"):
        for target in read_targets(find_file(data, kind)):
            if target.target_id == name:
                return target
    raise SystemExit(f"{data}: no target {name!r} in recent_sequences.csv or validation_sequences.csv")


def required(parser: argparse.ArgumentParser, data: Path | None) -> Path:
    """The data folder, or a usage error."""
    if data is None:
        parser.error("--target and --mixture need --data")
    return data


def main(argv: list[str]) -> None:
    """Parse the command line, measure, print."""
    torch.set_num_threads(1)
    keep_freed_memory()
    if argv[:1] == ["one"]:
        print(json.dumps(fold_once(argv[1], int(argv[2]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--lengths", nargs="+", type=int, default=list(LENGTHS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--target")
    parser.add_argument("--mixture", action="store_true")
    parser.add_argument("--cache", type=Path, default=Path(".cache/rnafold"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.mixture:
        result: Any = time_mixture(required(parser, arguments.data), arguments.cache)
        print(json.dumps(result, indent=1))
    elif arguments.target is None:
        result = compare_lengths(arguments.models, arguments.lengths)
    else:
        result = time_phases(required(parser, arguments.data), arguments.target, arguments.cache)
        print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
