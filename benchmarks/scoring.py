"""Seconds, memory and deviation of the scorer by length, exact and fast side by side.

Run it on one thread: OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/scoring.py [--data FOLDER]. FOLDER
holds usalign_reference/ and validation_labels.csv; without it only the synthetic targets run. Seconds are those of the
processor, so that other work on the machine counts little.
"""

import argparse
import csv
import gzip
import os
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from rnafold.data.competition import read_labelled_rows
from rnafold.scoring import Mode, score_target, tm_score
from rnafold.structure import Chain, FloatArray, Structure, structure_from_points

MODES: tuple[Mode, Mode] = ("fast", "exact")
StoredPair = tuple[FloatArray, Structure, float]
LENGTHS = (69, 124, 238, 374, 720, 1500, 2900, 4640)
# US-align on one pair, files and process included: mean of the 98 stored pairs; a 4,640-nt pair; 8 copies of 580.
USALIGN_PAIR_SECONDS, USALIGN_LONG_SECONDS, USALIGN_COPIES_SECONDS = 5.96 / 98, 17.7, 156.0


def build_walk(length: int, seed: int) -> FloatArray:
    """A compact chain (L, 3) of 5.5 Å steps."""
    generator = np.random.default_rng(seed)
    points = np.zeros((length, 3))
    direction = generator.normal(size=3)
    for index in range(1, length):
        direction = 0.8 * direction + 0.6 * generator.normal(size=3) - 0.001 * points[index - 1]
        direction /= np.linalg.norm(direction)
        points[index] = points[index - 1] + 5.5 * direction
    return points


def build_predictions(native: FloatArray, seed: int) -> dict[str, FloatArray]:
    """What predictions look like to the search: near, far, in pieces, mirrored, unrelated."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=native.shape)
    pieces = [part @ np.linalg.qr(generator.normal(size=(3, 3)))[0] for part in np.array_split(native, 5)]
    return {
        "noise 3 Å": native + 3.0 * noise,
        "noise 10 Å": native + 10.0 * noise,
        "five pieces": np.concatenate(pieces) + noise,
        "mirror": native * np.array([1.0, 1.0, -1.0]),
        "unrelated": build_walk(len(native), seed + 1),
    }


def measure_seconds(call: Callable[[], object], repeats: int) -> float:
    """Least seconds of some repeats."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def measure_peak_mib(call: Callable[[], object]) -> float:
    """Peak of what the call allocates, in MiB."""
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


def print_lengths() -> None:
    """The table by length: worst of five kinds of prediction."""
    print("by length, worst of five kinds of prediction, one pair a call")
    print(
        f"{'length':>7} {'exact s':>9} {'fast s':>9} {'ratio':>6} {'exact MiB':>10} {'fast - exact':>13}  slowest exact"
    )
    for length in LENGTHS:
        native = build_walk(length, 1)
        predictions = build_predictions(native, 2)
        references = [structure_from_points(native)]
        exact, fast, below = {}, {}, 0.0
        for kind, points in predictions.items():
            repeats = 3 if length < 1000 else 1
            exact[kind] = measure_seconds(partial(tm_score, points[None], references), repeats)
            fast[kind] = measure_seconds(partial(tm_score, points[None], references, "fast"), repeats)
            quick, full = (tm_score(points[None], references, mode)[0, 0] for mode in MODES)
            below = min(below, float(quick - full))
        slowest = max(exact, key=lambda kind: exact[kind])
        peak = measure_peak_mib(partial(tm_score, predictions[slowest][None], references))
        long, short = max(exact.values()), max(fast.values())
        print(f"{length:7d} {long:9.4f} {short:9.4f} {long / short:6.1f} {peak:10.1f} {below:13.5f}  {slowest}")
    print(f"        US-align at 4640: {USALIGN_LONG_SECONDS} s; wanted: exact < 3 s, fast < 0.5 s\n")


def print_copies() -> None:
    """Eight copies of 580 residues, mapped and scored."""
    base = build_walk(580, 3)
    generator = np.random.default_rng(4)
    turns = [np.linalg.qr(generator.normal(size=(3, 3)))[0] for _ in range(8)]
    turns = [turn * np.sign(np.linalg.det(turn)) for turn in turns]
    native = np.concatenate([base @ turn + generator.normal(size=3) * 60.0 for turn in turns])
    chains = [Chain(chain_id="A", copy=k + 1, start=580 * k, stop=580 * (k + 1)) for k in range(8)]
    shuffled = native.reshape(8, 580, 3)[generator.permutation(8)].reshape(-1, 3)
    print(f"8 copies of 580, mapped and scored (US-align: {USALIGN_COPIES_SECONDS} s; wanted: < 10 s)")
    for kind, points in build_predictions(shuffled, 5).items():
        start = time.process_time()
        score = score_target("x", chains, points[None], [structure_from_points(native)])
        print(f"  {kind:<12} {time.process_time() - start:6.2f} s   TM {score.best:.5f}")
    print()


def print_validation(path: Path) -> None:
    """Every validation target with five predictions, all references."""
    seconds: dict[str, float] = defaultdict(float)
    num_targets = num_pairs = 0
    for rows in read_labelled_rows(path):
        native = np.nan_to_num(rows.references[0].c1)
        points = np.stack(list(build_predictions(native, 6).values()))
        num_targets += 1
        num_pairs += len(points) * len(rows.references)
        for mode in MODES:
            start = time.process_time()
            score_target(rows.target_id, rows.chains or (), points, rows.references, mode)
            seconds[mode] += time.process_time() - start
    print(
        f"{num_targets} validation targets x 5 predictions, {num_pairs} pairs: exact {seconds['exact']:.2f} s, "
        f"fast {seconds['fast']:.2f} s (wanted: exact < 20 s)\n"
    )


def read_points(path: Path, columns: tuple[str, str, str]) -> dict[tuple[str, str], FloatArray]:
    """Points by (target, variant); the variant is empty for natives."""
    points: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    with gzip.open(path, "rt", newline="") as handle:
        for row in csv.DictReader(handle):
            key = (row["ID"].rpartition("_")[0], row.get("variant", ""))
            points[key].append([float(row[column] or "nan") for column in columns])
    return {key: np.array(rows) for key, rows in points.items()}


def score_pairs(pairs: list[StoredPair], mode: Mode) -> list[float]:
    """TM-score of each pair, one call a pair as US-align is called."""
    return [float(tm_score(points[None], [native], mode)[0, 0]) for points, native, _ in pairs]


def print_usalign(folder: Path) -> None:
    """Both modes against US-align's stored figures, single-chain pairs."""
    natives = read_points(folder / "natives.csv.gz", ("x_1", "y_1", "z_1"))
    predictions = read_points(folder / "predictions.csv.gz", ("x", "y", "z"))
    with (folder / "scores.csv").open(newline="") as handle:
        figures = [row for row in csv.DictReader(handle) if row["part1"]]
    pairs: list[StoredPair] = [
        (
            predictions[row["target"], row["variant"]],
            structure_from_points(natives[row["target"], ""]),
            float(row["part2"]),
        )
        for row in figures
    ]
    print(f"{len(pairs)} single-chain pairs against US-align ({USALIGN_PAIR_SECONDS * 1e3:.0f} ms a call on its part)")
    for mode in MODES:
        found = score_pairs(pairs, mode)
        seconds = measure_seconds(partial(score_pairs, pairs, mode), 3)
        deviation = np.abs(np.array(found) - [figure for *_, figure in pairs])
        ratio = USALIGN_PAIR_SECONDS * len(pairs) / seconds
        print(
            f"  {mode:<5} {seconds / len(pairs) * 1e3:6.2f} ms a call, {ratio:5.1f}x; "
            f"deviation mean {deviation.mean():.1e}, maximum {deviation.max():.1e}"
        )
    print()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    parser.add_argument("--data", type=Path, default=beside, help="folder with the reference figures")
    arguments = parser.parse_args()
    threads = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or "not limited"
    print(f"numpy {np.__version__}, threads: {threads}\n")
    if (arguments.data / "usalign_reference" / "scores.csv").exists():
        print_usalign(arguments.data / "usalign_reference")
        print_validation(arguments.data / "validation_labels.csv")
    else:
        print(f"{arguments.data}: no usalign_reference/, synthetic lengths only\n")
    print_copies()
    print_lengths()


if __name__ == "__main__":
    main()
