"""Training speed against the usual padded script, each in a process of its own, on the same chains, in slices in turn.

    python benchmarks/throughput.py --data DIRECTORY [--json FILE] [--rounds 5] [--steps 20] [--precision bf16]

`base` and `plain` are trained as by the `train` command at crop 256, in optimizer steps of eight chains;
`benchmarks/naive.py` pads every chain to 1,200 and has dropout in its attention maps. All compute in one thread. A
round is a slice of each in turn, so that what else the machine does falls on all alike; figures are sums over the
rounds, ratios medians of the rounds' own, with the lowest and the highest. Preparation and evaluation do not count;
waiting for examples does, and so does what the process makes ahead in `cpu`.

Ratios: base_vs_naive and plain_vs_naive (samples a second of wall), the same of CPU time, memory_vs_naive (peak of
base), gemm_share (arithmetic of the real residues against what one large matrix product reaches here), loader_share (of
the wall) and pairs_real_share. Rounds x steps of 103 see every cluster of the training set once.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rnafold.config.settings import Config, resolve_config
from rnafold.model.products import linear
from rnafold.planner.memory.records import PHASES, TraceKey
from rnafold.planner.memory.trace import record
from rnafold.structure import FloatArray

HERE = Path(__file__).resolve().parent
MODELS = ("base", "plain")
SETTINGS = (
    "train.micro_batch=8",
    "train.accumulation=1",
    "train.log_every_steps=1000000",
    "train.patience=0",
    "train.epochs=1000",
    "data.crop_length=256",
    "data.max_validation=1",
)
# Lengths at which the arithmetic of a sample is counted: a polynomial of degree two in the length.
COUNTED_LENGTHS = (16, 48, 96)
GEMM_SIZE, GEMM_REPEATS = 1024, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What one training reached over all rounds; rates by the wall but for the one of CPU time, `inside` the passes
    alone. None: not known there."""

    samples_per_second: float
    samples_per_cpu_second: float
    samples_per_second_inside: float | None
    residues_per_second: float
    peak_memory_gib: float
    loader_share: float | None
    pairs_real_share: float | None
    gemm_share: float | None
    samples: int


class Child:
    """A training in a process of its own, which works when it is told to."""

    def __init__(self, name: str, data: Path, settings: Sequence[str], tree: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, str(HERE / "slices.py"), name, "--data", str(data), "--set", *settings]
        self.name = name
        self.process = subprocess.Popen(
            command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    def run(self, steps: int) -> dict[str, Any]:
        """The figures of a slice, as benchmarks/slices.py names them."""
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        found: dict[str, Any] = json.loads(self._read())
        return found

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended with status {self.process.wait()}")
        return line

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def measure_gemm() -> float:
    """Floating-point operations a second of one large float32 matrix product in this thread, the best of a few."""
    left, right = torch.randn(2, GEMM_SIZE, GEMM_SIZE)
    best = 0.0
    with torch.no_grad():
        for _ in range(GEMM_REPEATS):
            began = time.perf_counter()
            linear(left, right)
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


def sum_up(slices: Sequence[Mapping[str, Any]], flops: FloatArray | None, gemm: float) -> Speed:
    """The rates over some slices; without `flops` those of the naive script, whose passes are not metered."""
    total = {key: sum(s[key] for s in slices) for key in slices[0] if key not in ("lengths", "peak_gib")}
    lengths = np.array([n for s in slices for n in s["lengths"]], dtype=np.float64)
    metered = flops is not None
    return Speed(
        samples_per_second=total["samples"] / total["wall"],
        samples_per_cpu_second=total["samples"] / total["cpu"],
        samples_per_second_inside=total["samples"] / total["passes"] if metered else None,
        residues_per_second=total["residues"] / total["wall"],
        peak_memory_gib=max(s["peak_gib"] for s in slices),
        loader_share=total["loading"] / total["wall"] if metered else None,
        pairs_real_share=total["real_pairs"] / total["padded_pairs"] if metered else None,
        gemm_share=None if flops is None else float(np.polyval(flops, lengths).sum()) / total["wall"] / gemm,
        samples=total["samples"],
    )


def compare(slices: Mapping[str, Sequence[Mapping[str, Any]]], rows: Mapping[str, Speed]) -> dict[str, Any]:
    """The ratios that are looked at, of those that were run; of a rate the median, lowest and highest of the rounds."""
    ratios: dict[str, Any] = {}
    for name in MODELS:
        if name not in rows:
            continue
        for clock, suffix in (("wall", ""), ("cpu", "_cpu")):
            if "naive" in slices:
                by_round = [
                    (ours["samples"] / ours[clock]) / (naive["samples"] / naive[clock])
                    for ours, naive in zip(slices[name], slices["naive"])
                ]
                ratios[f"{name}_vs_naive{suffix}"] = statistics.median(by_round)
                ratios[f"{name}_vs_naive{suffix}_range"] = [min(by_round), max(by_round)]
        for key in ("gemm_share", "loader_share", "pairs_real_share"):
            ratios[f"{key}_{name}"] = getattr(rows[name], key)
    if "naive" in rows and "base" in rows:
        ratios["memory_vs_naive"] = rows["base"].peak_memory_gib / rows["naive"].peak_memory_gib
    return ratios


def show(name: str, speed: Speed) -> None:
    """One line."""
    cells = [f"{k} {v:.4g}" for k, v in asdict(speed).items() if v is not None]
    print(f"{name}: {', '.join(cells)}", flush=True)


def main() -> None:
    """Parse the command line, train in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--what", nargs="+", choices=(*MODELS, "naive"), default=[*MODELS, "naive"])
    parser.add_argument("--rounds", type=int, default=5, help="slices of each")
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps of a slice of base and plain")
    parser.add_argument("--naive-steps", type=int, default=1, help="of a slice of the naive script")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of ours; naive is float32")
    parser.add_argument("--cache", type=Path, default=Path(".cache/rnafold"))
    parser.add_argument("--tree", type=Path, default=HERE.parent, help="the checkout whose package trains")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = [*SETTINGS, f"data.cache={arguments.cache.resolve()}", f"train.precision={arguments.precision}"]
    slices: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.what}
    with ExitStack() as stack:
        children = {}
        for name in arguments.what:
            children[name] = Child(name, arguments.data.resolve(), settings, arguments.tree.resolve())
            stack.callback(children[name].close)
        for _ in range(arguments.rounds):
            for name, child in children.items():
                slices[name].append(child.run(arguments.naive_steps if name == "naive" else arguments.steps))
    gemm = measure_gemm()
    flops = {name: count_flops(resolve_config("cpu", name, settings)) for name in MODELS if name in slices}
    rows = {name: sum_up(found, flops.get(name), gemm) for name, found in slices.items()}
    for name, speed in rows.items():
        show(name, speed)
    ratios = compare(slices, rows)
    result = {"gemm_gflops": gemm / 1e9, "rows": {n: asdict(s) for n, s in rows.items()}, "ratios": ratios}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
