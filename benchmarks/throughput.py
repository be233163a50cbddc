"""Training speed against the usual padded script, each in a process of its own, in turn, on the same chains.

    python benchmarks/throughput.py --data DIRECTORY [--json FILE] [--epochs 1] [--precision bf16] [--tree DIRECTORY]

Trains `base` and `plain` by the `train` command for whole epochs at crop 256, in optimizer steps of eight chains, and
`benchmarks/naive.py` (every chain padded to 1,200, dropout in the attention maps) for a few steps, all in one thread.
Seconds are by the wall, examples waited for included, preparation and evaluation not. `--tree` takes the
package from another checkout, to compare with an earlier state in one run. Prints a line for each and the ratios:
base_vs_naive and plain_vs_naive (samples a second), memory_vs_naive (peak of base), gemm_share (arithmetic of the real
residues against what one large matrix product reaches here), loader_share (of the wall) and pairs_real_share.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnafold.config.settings import Config, resolve_config
from rnafold.data.sampler import plan_epoch
from rnafold.data.selection import choose_entries
from rnafold.files.metrics import read_metrics
from rnafold.planner.memory.records import PHASES, TraceKey
from rnafold.planner.memory.trace import record
from rnafold.structure import FloatArray

HERE = Path(__file__).resolve().parent
MODELS = ("base", "plain")
SETTINGS = (
    "train.micro_batch=8",
    "train.accumulation=1",
    "train.log_every_steps=1",
    "train.checkpoint_every_epochs=1000",
    "train.patience=0",
    "data.crop_length=256",
    "data.max_validation=1",
)
# Lengths at which the arithmetic of a sample is counted: a polynomial of degree two in the length.
COUNTED_LENGTHS = (16, 48, 96)
GEMM_SIZE, GEMM_REPEATS = 1024, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What one training reached; rates by the wall, `inside` the micro batches alone. None: not recorded there."""

    samples_per_second: float
    samples_per_second_inside: float | None
    residues_per_second: float
    peak_memory_gib: float
    loader_share: float | None
    pairs_real_share: float | None
    gemm_share: float | None
    samples: int


def measure_gemm() -> float:
    """Floating-point operations a second of one large float32 matrix product in this thread, the best of a few."""
    left, right = torch.randn(2, GEMM_SIZE, GEMM_SIZE)
    best = 0.0
    for _ in range(GEMM_REPEATS):
        began = time.perf_counter()
        left @ right
        best = max(best, 2.0 * GEMM_SIZE**3 / (time.perf_counter() - began))
    return best


def count_flops(config: Config) -> FloatArray:
    """Polynomial in the length (highest power first): operations of one sample, a mean over the recycles drawn."""
    recycles = config.model.max_recycles / 2.0
    found = []
    for length in COUNTED_LENGTHS:
        # columns: phase, type, operations that do not grow with the batch and that each example adds, .., calls
        rows = record(TraceKey(model=config.model, loss=config.loss, length=length)).operations
        times = np.where(rows[:, 0] == PHASES.index("recycle"), recycles, rows[:, 0] != PHASES.index("update"))
        found.append(float((rows[:, 3] * rows[:, 6] * times).sum()))
    return np.asarray(np.polyfit(COUNTED_LENGTHS, found, 2), dtype=np.float64)


def plan_lengths(data: Path, config: Config, epochs: int) -> list[int]:
    """Length of every sample that the run sees, in its order."""
    chosen = choose_entries(data, config.data)
    lengths = [min(e.target.length, config.data.crop_length) for e in chosen.train]
    train = config.train
    batch = (train.effective_batch, train.micro_batch, config.data.balance_length)
    windows = [w for e in range(epochs) for w in plan_epoch(lengths, chosen.clusters, train.seed, e, *batch)]
    return [lengths[k] for w in windows for micro in w.micro_batches for k in micro]


def run_training(data: Path, model: str, settings: Sequence[str], tree: Path) -> list[dict[str, Any]]:
    """The metrics of the `train` command in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "rnafold", "train", "--gpu", "cpu", "--model", model, "--data", str(data)]
        run([*command, "--out", str(out), "--set", *settings], tree)
        return read_metrics(out / "metrics.jsonl")


def run(command: Sequence[str], tree: Path) -> None:
    """One thread, the package of `tree`; shows what was said where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr[-3000:]}")


def summarize(records: Sequence[Mapping[str, Any]], lengths: Sequence[int], flops: FloatArray, gemm: float) -> Speed:
    """Rates of a run from its metrics, one line an optimizer step."""
    steps = [r for r in records if r["kind"] == "train"]
    wall = sum(r["step_seconds"] for r in steps)
    passes = [(int(n), *v) for r in steps for n, v in r["micro_batch_seconds_by_length"].items()]
    padded = sum(examples * length**2 for length, _, _, examples in passes)
    real = np.array(lengths, dtype=np.float64)
    waited = [r["loading_seconds"] for r in steps if "loading_seconds" in r]
    return Speed(
        samples_per_second=len(lengths) / wall,
        samples_per_second_inside=len(lengths) / sum(seconds for _, _, seconds, _ in passes),
        residues_per_second=float(real.sum()) / wall,
        peak_memory_gib=max(r["peak_memory_gib"] for r in steps),
        loader_share=sum(waited) / wall if waited else None,
        pairs_real_share=float((real**2).sum()) / padded,
        gemm_share=float(np.polyval(flops, real).sum()) / wall / gemm,
        samples=len(lengths),
    )


def run_naive(data: Path, steps: int) -> Speed:
    """The naive script in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "naive.json"
        script = [sys.executable, str(HERE / "naive.py"), "--data", str(data)]
        run([*script, "--steps", str(steps), "--json", str(out)], HERE.parent)
        found = json.loads(out.read_text(encoding="utf-8"))
    return Speed(
        samples_per_second=found["samples_per_second"],
        samples_per_second_inside=None,
        residues_per_second=found["residues_per_second"],
        peak_memory_gib=found["peak_memory_gib"],
        loader_share=None,
        pairs_real_share=None,
        gemm_share=None,
        samples=int(found["samples"]),
    )


def compare(rows: Mapping[str, Speed]) -> dict[str, float | None]:
    """The ratios that are looked at, of those that were run."""
    naive, base, plain = (rows.get(name) for name in ("naive", *MODELS))
    ratios: dict[str, float | None] = {}
    if naive is not None:
        for name, row in (("base", base), ("plain", plain)):
            if row is not None:
                ratios[f"{name}_vs_naive"] = row.samples_per_second / naive.samples_per_second
        if base is not None:
            ratios["memory_vs_naive"] = base.peak_memory_gib / naive.peak_memory_gib
    for name, row in (("base", base), ("plain", plain)):
        if row is not None:
            ratios[f"gemm_share_{name}"] = row.gemm_share
            ratios[f"loader_share_{name}"] = row.loader_share
            ratios[f"pairs_real_share_{name}"] = row.pairs_real_share
    return ratios


def mean_speed(found: Sequence[Speed]) -> Speed:
    """The median of every figure over the rounds."""
    values = {name: [v for s in found if (v := asdict(s)[name]) is not None] for name in asdict(found[0])}
    return Speed(**{name: statistics.median(v) if v else None for name, v in values.items()})  # type: ignore[arg-type]


def show(name: str, speed: Speed) -> None:
    """One line."""
    cells = [f"{k} {v:.4g}" for k, v in asdict(speed).items() if v is not None]
    print(f"{name}: {', '.join(cells)}", flush=True)


def main() -> None:
    """Parse the command line, train in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--what", nargs="+", choices=(*MODELS, "naive"), default=[*MODELS, "naive"])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of ours; naive is float32")
    parser.add_argument("--rounds", type=int, default=1, help="each in turn so many times; medians are kept")
    parser.add_argument("--naive-steps", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path(".cache/rnafold"))
    parser.add_argument("--tree", type=Path, default=HERE.parent, help="the checkout whose package trains")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, epochs = arguments.data.resolve(), arguments.epochs
    settings = [*SETTINGS, f"train.epochs={epochs}", f"data.cache={arguments.cache.resolve()}"]
    settings += [f"train.precision={arguments.precision}"]
    gemm = measure_gemm()
    found: dict[str, list[Speed]] = {name: [] for name in arguments.what}
    for _ in range(arguments.rounds):
        for name in arguments.what:
            if name == "naive":
                speed = run_naive(data, arguments.naive_steps)
            else:
                config = resolve_config("cpu", name, settings)
                records = run_training(data, name, settings, arguments.tree.resolve())
                speed = summarize(records, plan_lengths(data, config, epochs), count_flops(config), gemm)
            show(name, speed)
            found[name].append(speed)
    rows = {name: mean_speed(speeds) for name, speeds in found.items()}
    ratios = compare(rows)
    result = {"gemm_gflops": gemm / 1e9, "rows": {n: asdict(s) for n, s in rows.items()}, "ratios": ratios}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
