"""Predicted against real peak memory of the trainer's own step on this CPU: `python benchmarks/planner.py memory`.
`python benchmarks/planner.py brief` prints the four cards of the brief (docs/studies/gpu.md) at 1,200 residues.

The real figure is the sum of the CPU allocator's events (torch.profiler, profile_memory) in one optimizer step of
rnafold.training.step.Stepper, added to what is held before it. Nothing is scaled or fitted.
"""

import argparse
import dataclasses
import logging
import subprocess
import sys

import torch

from rnafold.config.settings import resolve_config
from rnafold.planner.memory.estimate import TraceStore, estimate_memory, largest_micro_batch, trace_key
from rnafold.planner.memory.records import TraceKey
from rnafold.planner.memory.trace import record
from rnafold.training.probe import Probe, build_random_batch

STORE = TraceStore()


def measure_real_peak(model: str, precision: str, length: int, batch: int, micro_batches: int) -> int:
    """Bytes at the highest point of the second optimizer step of a real trainer."""
    overrides = [f"train.precision={precision}", f"train.micro_batch={batch}", "train.accumulation=auto"]
    overrides += [f"train.effective_batch={batch * micro_batches}"]
    config = resolve_config("cpu", model, overrides)
    return Probe(config).peak_bytes([build_random_batch(length, batch, seed) for seed in range(micro_batches)])


def measure_in_new_process(model: str, precision: str, length: int, batch: int, micro_batches: int) -> int:
    """`measure_real_peak` in a fresh process: a second profile in one process meets stale entries of the first."""
    arguments = [model, precision, str(length), str(batch), str(micro_batches)]
    done = subprocess.run([sys.executable, __file__, "real", *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def compare_memory(models: list[str], lengths: list[int], batch: int) -> float:
    """Prints a table row for each combination; returns the largest error as a fraction."""
    print(
        "| model | precision | length | batch x micro batches | real MiB | predicted MiB | error |\n" + "|---" * 7 + "|"
    )
    worst = 0.0
    for model in models:
        config = resolve_config("cpu", model)
        for precision in ("fp32", "bf16"):
            for length in lengths:
                key = TraceKey(model=config.model, loss=config.loss, length=length, precision=precision)
                trace = record(key)
                for micro_batches in (1, 2):
                    predicted = trace.peak(batch, micro_batches).total_bytes
                    real = measure_in_new_process(model, precision, length, batch, micro_batches)
                    error = predicted / real - 1
                    worst = max(worst, abs(error))
                    cells = (model, precision, length, f"{batch} x {micro_batches}")
                    figures = f"{real / 2**20:.2f} | {predicted / 2**20:.2f} | {error:+.2%}"
                    print(f"| {' | '.join(map(str, cells))} | {figures} |", flush=True)
    return worst


# The brief's micro batch on each of its cards, and what it says that takes (GB, in two places).
BRIEF = {
    "v100": (48, "20-25 and ~3"),
    "p100": (24, "12-14 and 1.5"),
    "t4": (16, "10-12 and 1"),
    "k80": (12, "8-10 and 0.8"),
}


def print_brief(models: list[str], length: int) -> None:
    """Prints predicted memory of the brief's cards at its batches, naive and memory-efficient attention."""
    names = (
        "card",
        "batch",
        "brief (GB)",
        "model",
        "naive (GiB)",
        "memory-efficient (GiB)",
        "card (GiB)",
        "largest batch",
    )
    print(f"| {' | '.join(names)} |\n{'|---' * len(names)}|")
    for gpu, (batch, claim) in BRIEF.items():
        for model in models:
            cells, largest = [], []
            for kernel in ("math", "memory_efficient"):
                # a K80 has no memory-efficient kernel: what it would take is shown all the same
                config = resolve_config(gpu if gpu != "k80" else "p100", model, [f"train.attention={kernel}"])
                if gpu == "k80":
                    config = resolve_config("k80", model)
                key = dataclasses.replace(trace_key(config, length), attention=kernel)
                trace = STORE.get(key)
                estimate = estimate_memory(trace, config.hardware, config.train, batch, 48 // batch)
                cells.append(f"{estimate.peak_gib:.1f}")
                largest.append(str(largest_micro_batch(trace, config.hardware, config.train, 256)))
            total = f"{config.hardware.memory.total_gib:.1f}"
            print(
                f"| {gpu} | {batch} | {claim} | {model} | {' | '.join(cells)} | {total} | {' / '.join(largest)} |",
                flush=True,
            )


def main(argv: list[str]) -> None:
    """Parses and prints."""
    if argv[:1] == ["real"]:
        torch.set_num_threads(1)
        print(measure_real_peak(argv[1], argv[2], *map(int, argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("memory", "brief"))
    parser.add_argument("--models", nargs="+", default=["minimal", "base", "large", "plain"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--batch", type=int, default=2)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    if arguments.what == "brief":
        print_brief(arguments.models, 1200)
        return
    worst = compare_memory(arguments.models, arguments.lengths, arguments.batch)
    print(f"largest error {worst:.2%}")


if __name__ == "__main__":
    main(sys.argv[1:])
