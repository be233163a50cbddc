"""Seconds of a traced step by the roofline: each operation takes as long as its arithmetic, its traffic or its launch.

A prior only: what a card reaches of its peak depends on shapes and libraries, so measured steps correct it
(planner.measurements) and without them the interval is wide.
"""

import dataclasses

import numpy as np

from rnafold.config.hardware import HardwareConfig
from rnafold.config.machine_use import Precision
from rnafold.planner.memory.records import DTYPES, PHASES, Trace

# Shares of peak rate and bandwidth that well-shaped products and elementwise kernels reach; rule of thumb.
COMPUTE_SHARE, BANDWIDTH_SHARE = 0.55, 0.75
# Seconds to launch one kernel from Python, and to run one small operation on a CPU.
LAUNCH_SECONDS = {"cuda": 8e-6, "mps": 2e-5, "cpu": 6e-6}
MICRO_PHASES = ("forward", "recycle", "loss", "backward")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StepSeconds:
    """Seconds of one micro batch (mean over the recycles), of the update, and of a forward pass without gradient."""

    micro_batch: float
    update: float
    forward: float


def rate_tflops(hardware: HardwareConfig, dtype: str) -> float:
    """Peak rate for a type; one that the card lacks runs as float32."""
    peak = hardware.peak_tflops
    return {"fp32": peak.fp32, "fp16": peak.fp16, "bf16": peak.bf16}[dtype] or peak.fp32


def estimate_step(
    trace: Trace, hardware: HardwareConfig, precision: Precision, batch: int, max_recycles: int
) -> StepSeconds:
    """Roofline seconds of a traced step for a batch size on a card.

    Args:
        trace: of a training step.
        hardware: the card.
        precision: the run's; a trace in half precision serves fp16 and bf16.
        batch: examples of the micro batch.
        max_recycles: a step draws 0 .. this many passes without gradient, each as traced once.
    """
    rows = trace.operations
    flops, traffic = rows[:, 2] + batch * rows[:, 3], rows[:, 4] + batch * rows[:, 5]
    names = [precision if name != "fp32" and precision != "fp32" else name for name in DTYPES]
    rates = np.array([rate_tflops(hardware, name) for name in names])[rows[:, 1].astype(int)]
    seconds = np.maximum(
        flops / (rates * 1e12 * COMPUTE_SHARE), traffic / (hardware.memory.bandwidth_gb_per_s * 1e9 * BANDWIDTH_SHARE)
    )
    seconds = np.maximum(seconds, LAUNCH_SECONDS[hardware.device_type]) * rows[:, 6]
    by_phase = {name: float(seconds[rows[:, 0] == index].sum()) for index, name in enumerate(PHASES)}
    recycles = max_recycles / 2.0
    micro = sum(by_phase[name] * (recycles if name == "recycle" else 1.0) for name in MICRO_PHASES)
    forward = by_phase["recycle"] if max_recycles else by_phase["forward"]
    return StepSeconds(micro_batch=micro, update=by_phase["update"], forward=forward)


def interpolate(length: float, known: dict[int, float]) -> float:
    """A positive quantity at a length from known ones: by powers between them, beyond the ends by the nearest power."""
    points = sorted(known)
    if length in known:
        return known[int(length)]
    if len(points) == 1:
        return known[points[0]] * length / points[0]
    right = min(max(int(np.searchsorted(points, length)), 1), len(points) - 1)
    a, b = points[right - 1], points[right]
    power = np.log(known[b] / known[a]) / np.log(b / a)
    # below the shortest length the launches remain, so that seconds do not fall faster than the length
    power = min(power, 1.0) if length < points[0] else power
    return float(known[a] * (length / a) ** power)
