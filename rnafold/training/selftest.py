"""`selftest`: whether this machine computes what it should, as fast and in as much memory as was planned.

Each check is one figure against what is expected of it; one that the machine cannot make (no second card, no compiler)
is skipped and says why. `doctor` and the kernels' preflight run the short form: device, precisions, attention.
"""

import dataclasses
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F

from rnafold import machine
from rnafold.config.machine_use import Checkpointing, Precision
from rnafold.config.settings import Config, resolve_config
from rnafold.data.demo import write_demo_data
from rnafold.errors import ConfigError, InputError
from rnafold.files.metrics import read_metrics
from rnafold.files.run_folder import RunFolder
from rnafold.planner.memory.estimate import GIB, TraceStore, estimate_memory, trace_key
from rnafold.planner.time.roofline import estimate_step, rate_tflops
from rnafold.training.probe import Probe, build_random_batch

# Steps of a loss curve, and how far its last loss may lie from float32's, as a share of it.
CURVE_STEPS, CURVE_TOLERANCE = 12, 0.05
# Largest difference of an attention kernel from plain arithmetic in float32, and in half precision.
KERNEL_TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
# Planned against allocated memory: what is held to be right.
MEMORY_TOLERANCE = 0.05
SHORT_CASES = (("minimal", 64),)
CASES = tuple((model, length) for model in ("minimal", "base", "plain") for length in (64, 256, 512))
TIMED_STEPS = 5

Status = Literal["ok", "failed", "skipped"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: its name, how it went, one line about it, and its figures (units in the keys)."""

    name: str
    status: Status
    detail: str
    figures: dict[str, float | list[float]] = dataclasses.field(default_factory=dict)


def run_selftest(gpu: str, cache: Path, *, short: bool = False) -> Iterator[Check]:
    """The checks of a machine, one by one, as they are done.

    Args:
        gpu: a file in configs/gpu.
        cache: where traces of the planner are kept.
        short: device, precisions and attention alone.
    """
    config = resolve_config(gpu, "minimal", _single(1))
    checks: list[Callable[[], Iterator[Check]]] = [
        lambda: check_device(config),
        lambda: check_precisions(gpu, config),
        lambda: check_attention(config),
    ]
    if not short:
        store = TraceStore(cache)
        checks += [
            lambda: check_compile(config),
            lambda: check_ranks(config),
            lambda: check_cases(gpu, store, CASES if config.hardware.device_type == "cuda" else SHORT_CASES),
        ]
    for check in checks:
        yield from check()


def _single(batch: int, *more: str) -> list[str]:
    """Overrides for one card and one micro batch a step."""
    sizes = [f"train.micro_batch={batch}", "train.accumulation=1", f"train.effective_batch={batch}"]
    return ["hardware.num_gpus=1", *sizes, "train.warmup_epochs=0", *more]


def check_device(config: Config) -> Iterator[Check]:
    """Whether the device computes at all."""
    try:
        machine.check_device(config.hardware)
    except InputError as error:
        yield Check(name="device", status="failed", detail=str(error))
        return
    found = machine.describe_machine()
    yield Check(name="device", status="ok", detail=f"{found[0] or 'CPU'}, torch {torch.__version__}")


def check_precisions(gpu: str, config: Config) -> Iterator[Check]:
    """Loss curves of each precision that the card offers against float32's, from the same weights on the same batch."""
    curves: dict[Precision, list[float]] = {}
    for precision in config.hardware.kernels.precisions:
        settings = _single(4, f"train.precision={precision}", "train.lr_rule=fixed", "train.learning_rate=1e-3")
        probe = Probe(resolve_config(gpu, "minimal", [*settings, "model.max_recycles=0"]))
        curves[precision] = probe.losses(build_random_batch(48, 4), CURVE_STEPS)
    reference = curves["fp32"]
    for precision, curve in curves.items():
        off = abs(curve[-1] / reference[-1] - 1.0)
        sound = all(map(math.isfinite, curve)) and off <= CURVE_TOLERANCE and curve[-1] < curve[0]
        yield Check(
            name=f"precision {precision}",
            status="ok" if sound else "failed",
            detail=f"loss {curve[0]:.4f} to {curve[-1]:.4f} in {CURVE_STEPS} steps, {off:.2%} from fp32",
            figures={"losses": curve, "relative_difference": off},
        )


def check_attention(config: Config) -> Iterator[Check]:
    """Each attention kernel with a bias and padded keys against the same written out."""
    hardware = config.hardware
    device = hardware.device_type
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 4, 64, 16, generator=generator) for _ in range(3))
    bias = torch.randn(2, 4, 64, 64, generator=generator)
    bias[1, :, :, 50:] = float("-inf")
    wanted = (query @ key.transpose(2, 3) / 4.0 + bias).softmax(-1) @ value
    half = torch.float16 if device == "cuda" else torch.float32
    for kernel in hardware.kernels.attention:
        with machine.attention_kernels(kernel, device):
            q, k, v, mask = (t.to(device, half) for t in (query, key, value, bias))
            found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).float().cpu()
        off = float((found - wanted).abs().max())
        limit = HALF_TOLERANCE if half == torch.float16 else KERNEL_TOLERANCE
        yield Check(
            name=f"attention {kernel}",
            status="ok" if off <= limit else "failed",
            detail=f"{off:.1e} from plain arithmetic, at most {limit:g}",
            figures={"largest_difference": off},
        )


def check_compile(config: Config) -> Iterator[Check]:
    """Whether the compiled network gives what the network gives."""
    if not config.hardware.kernels.compile:
        yield Check(name="compile", status="skipped", detail=f"not offered on {config.hardware.name}")
        return
    probe = Probe(config)
    network = probe.learner.network.eval()
    batch = build_random_batch(48, 2).to(probe.ranks.device)
    with torch.no_grad():
        wanted = network(batch).coords
        found = torch.compile(network, dynamic=True)(batch).coords
    off = float((found - wanted).abs().max())
    yield Check(
        name="compile",
        status="ok" if off < 1e-2 else "failed",
        detail=f"coordinates {off:.1e} Å from the network's",
        figures={"largest_difference_angstrom": off},
    )


def check_ranks(config: Config) -> Iterator[Check]:
    """A short run of two processes, one a card, on embedded data."""
    cards = machine.describe_machine()[3]
    if cards < 2:
        yield Check(name="two ranks", status="skipped", detail=f"{cards} card(s) here")
        return
    with tempfile.TemporaryDirectory() as folder:
        write_demo_data(Path(folder) / "data", num_train=18, num_test=2)
        out = Path(folder) / "run"
        settings = ["data.cutoff=2022-01-01", "data.validation=file", "data.jobs=1", f"data.cache={folder}/cache"]
        settings += ["train.epochs=2", "train.micro_batch=2", "train.accumulation=auto", "train.effective_batch=8"]
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            "-m",
            "rnafold",
        ]
        train = ["train", "--gpu", "auto", "--model", "minimal", "--data", f"{folder}/data", "--out", str(out)]
        command = [*launch, *train, "--set", *settings]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
        if done.returncode:
            yield Check(name="two ranks", status="failed", detail=done.stderr.strip()[-500:])
            return
        losses = [r["loss"] for r in read_metrics(RunFolder(out).metrics_file) if r["kind"] == "train"]
    sound = bool(losses) and all(map(math.isfinite, losses))
    detail = f"{len(losses)} lines of finite losses" if sound else f"losses {losses}"
    yield Check(name="two ranks", status="ok" if sound else "failed", detail=detail, figures={"losses": losses})


def check_cases(gpu: str, store: TraceStore, cases: tuple[tuple[str, int], ...]) -> Iterator[Check]:
    """Of each network and length: memory against the plan, seconds against the roofline, share of the card's peak."""
    for model, length in cases:
        ways: tuple[Checkpointing, ...] = (False,) if length < 256 else (False, "pairs")
        for way in ways:
            try:
                yield _check_case(gpu, store, model, length, way)
            except ConfigError as error:
                yield Check(name=f"{model} {length}", status="skipped", detail=str(error))


def _check_case(gpu: str, store: TraceStore, model: str, length: int, recomputed: Checkpointing) -> Check:
    batch = 2
    settings = _single(batch, f"data.crop_length={length}", f"train.gradient_checkpointing={str(recomputed).lower()}")
    config = resolve_config(gpu, model, settings)
    name = f"{model} {length}" + (" recomputing pairs" if recomputed else "")
    trace = store.get(trace_key(config, length))
    planned = estimate_memory(trace, config.hardware, config.train, batch, 1)
    if not planned.fits:
        return Check(name=name, status="skipped", detail=f"planned not to fit: {planned.peak_gib:.2f} GiB")
    probe = Probe(config)
    batches = [build_random_batch(length, batch)]
    try:
        seconds = probe.seconds(batches[0], TIMED_STEPS)
        allocated = probe.peak_bytes(batches) / GIB
    except (RuntimeError, MemoryError, InputError) as error:
        if isinstance(error, RuntimeError) and not machine.is_out_of_memory(error):
            raise
        return Check(name=name, status="failed", detail=f"planned to fit in {planned.peak_gib:.2f} GiB, yet ran out")
    tensors = sum(v for k, v in planned.parts.items() if k not in ("context", "workspace", "allocator"))
    off = tensors / allocated - 1.0
    roofline = estimate_step(trace, config.hardware, config.train.precision, batch, config.model.max_recycles)
    share = trace.flops(batch, config.model.max_recycles / 2.0) / seconds / 1e12
    share /= rate_tflops(config.hardware, config.train.precision)
    expected = roofline.micro_batch + roofline.update
    return Check(
        name=name,
        status="ok" if abs(off) <= MEMORY_TOLERANCE else "failed",
        detail=(
            f"{allocated:.3f} GiB, planned {off:+.1%}; {seconds * 1e3:.0f} ms a step, roofline {expected * 1e3:.0f}; "
            f"{share:.1%} of peak"
        ),
        figures={
            "allocated_gib": allocated,
            "planned_gib": tensors,
            "relative_difference": off,
            "step_seconds": seconds,
            "roofline_seconds": expected,
            "share_of_peak": share,
        },
    )
