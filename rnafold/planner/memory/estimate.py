"""Peak memory of a step on a card: traced on this machine's CPU, allocator and context of the card added."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rnafold.config.hardware import HardwareConfig, parse_capability
from rnafold.config.machine_use import AttentionKernel, RunConfig
from rnafold.config.settings import Config
from rnafold.features.build import NUM_OTHERS
from rnafold.planner.memory.allocator import reserve
from rnafold.planner.memory.records import Mode, Trace, TracedKernel, TraceKey, load_trace

GIB = 2**30
# CUDA context with torch's kernels loaded: 0.3-0.4 GiB seen, the higher is taken.
CUDA_CONTEXT_GIB = 0.4
# The process before the first tensor: interpreter, torch, pandas, the data set.
CPU_PROCESS_GIB = 0.6
# Workspaces of cuBLAS: 8.1 MiB, from capability 9.0 on 32 MiB. Source: torch's defaults of CUBLAS_WORKSPACE_CONFIG.
WORKSPACE_GIB, WORKSPACE_GIB_HOPPER = 8.1 / 1024, 32.0 / 1024
DEFAULT_CACHE = Path(".cache/rnafold/planner")


class PlannerError(RuntimeError):
    """The tracing process failed: a fault of the program, not of the user."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Peak of one card in GiB and what it consists of at that moment.

    `modules`: which parts of the network (or phases outside it) made attention, activations and output.
    `parts`: weights, average, optimizer, gradients, batch, attention, activations, output, context, workspace and
    allocator (what the caching allocator reserves beyond the tensors).
    """

    peak_gib: float
    limit_gib: float
    parts: dict[str, float]
    modules: dict[str, float]

    @property
    def fits(self) -> bool:
        """Whether the peak stays within the share of the memory that the run may fill."""
        return self.peak_gib <= self.limit_gib


def trace_kernel(hardware: HardwareConfig, attention: AttentionKernel) -> TracedKernel:
    """The attention kernel that really runs: every network here has a mask, which flash does not take."""
    if hardware.device_type == "cpu":
        return "stock"
    return "math" if attention == "math" or hardware.device_type == "mps" else "memory_efficient"


def trace_key(config: Config, length: int, mode: Mode = "train") -> TraceKey:
    """The trace that answers for a configuration at a length; fp16 and bf16 on CUDA share theirs."""
    run = config.train
    on_cpu = config.hardware.device_type == "cpu"
    precision = run.precision if on_cpu or run.precision == "fp32" else "fp16"
    # predictions run without autocast
    return TraceKey(
        model=config.model,
        loss=config.loss,
        length=length,
        mode=mode,
        device="cpu" if on_cpu else "cuda",
        precision=precision if mode == "train" else "fp32",
        attention=trace_kernel(config.hardware, run.attention),
        candidates=NUM_OTHERS if mode == "predict" or config.data.start == "candidates" else 0,
        gradient_checkpointing=mode == "train" and run.gradient_checkpointing,
    )


class TraceStore:
    """Traces from the cache; those that are missing are made by one process, started by `request`."""

    def __init__(self, folder: Path = DEFAULT_CACHE) -> None:
        self.folder = folder
        self.known: dict[str, Trace] = {}
        self.running: subprocess.Popen[str] | None = None

    def request(self, keys: Iterable[TraceKey]) -> bool:
        """Starts tracing what the cache lacks, beside whatever the caller does next; returns whether anything does."""
        self.wait()
        missing = {k.fingerprint(): k for k in keys if self._look(k) is None}
        if not missing:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        self.running = subprocess.Popen(
            [sys.executable, "-m", "rnafold.planner.memory.worker", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=_worker_environment(),
        )
        assert self.running.stdin is not None
        self.running.stdin.write("\n".join(key.to_json() for key in missing.values()))
        self.running.stdin.close()
        return True

    def wait(self) -> None:
        """Until the running process, if any, is done.

        Raises:
            PlannerError: it failed.
        """
        if self.running is None:
            return
        process, self.running = self.running, None
        assert process.stderr is not None
        with process.stderr:
            said = process.stderr.read()
        if process.wait() != 0:
            raise PlannerError(f"tracing the network failed:\n{said[-2000:]}")

    def get(self, key: TraceKey) -> Trace:
        """A trace, made now if need be."""
        self.wait()
        found = self._look(key)
        if found is None:
            self.request([key])
            self.wait()
            found = self._look(key)
        if found is None:
            raise PlannerError(f"{self.folder}: the trace was made but cannot be read back")
        return found

    def _look(self, key: TraceKey) -> Trace | None:
        name = key.fingerprint()
        if name not in self.known:
            found = load_trace(key, self.folder)
            if found is None:
                return None
            self.known[name] = found
        return self.known[name]


def _worker_environment() -> dict[str, str]:
    package_root = str(Path(__file__).resolve().parents[3])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    # no device is wanted: a CUDA context would cost a second and memory
    hidden = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    return {**os.environ, **hidden}


def memory_limit_gib(hardware: HardwareConfig, memory_share: float) -> float:
    """What a run may fill: the share of the card's memory; on a CPU of this machine's, not of the file's."""
    total = machine_memory_gib() if hardware.device_type == "cpu" else hardware.memory.total_gib
    return memory_share * total


def machine_memory_gib() -> float:
    """Memory that this process may use: of the machine, or of its control group if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(name)
        if path.is_file() and (text := path.read_text(encoding="ascii").strip()).isdigit():
            total = min(total, int(text))
    return total / GIB


def estimate_memory(
    trace: Trace, hardware: HardwareConfig, run: RunConfig, batch: int, accumulation: int, *, exact: bool = True
) -> MemoryEstimate:
    """Peak of an optimizer step (or of a prediction) on one card.

    Args:
        trace: of the step at its length.
        hardware: the card.
        run: for its memory share.
        batch: examples of a micro batch.
        accumulation: micro batches of a step.
        exact: also run the caching allocator over the step; otherwise its share is estimated as 2 %.
    """
    peak = trace.peak(batch, accumulation)
    parts = {name: value / GIB for name, value in peak.parts.items()}
    parts.update(context=0.0, workspace=0.0, allocator=0.0)
    if hardware.device_type == "cpu":
        parts["context"] = CPU_PROCESS_GIB
    else:
        parts["context"] = CUDA_CONTEXT_GIB
        capability = parse_capability(hardware.capability or "0.0")
        parts["workspace"] = WORKSPACE_GIB_HOPPER if capability >= (9, 0) else WORKSPACE_GIB
        if exact:
            reserved = reserve(trace.timeline(accumulation).tolist(), np.tile(trace.sizes(batch), 2).tolist())
            parts["allocator"] = (reserved - peak.total_bytes) / GIB
        else:
            parts["allocator"] = 0.02 * peak.total_bytes / GIB
        if hardware.num_gpus > 1 and trace.key.mode == "train":
            # the flat gradient, its copy in the collective and the parts copied back; the peak may be elsewhere
            parts["allocator"] += _reduction_gib(trace, peak.total_bytes, batch, accumulation)
    return MemoryEstimate(
        peak_gib=sum(parts.values()),
        limit_gib=memory_limit_gib(hardware, run.memory_share),
        parts=parts,
        modules={name: value / GIB for name, value in peak.modules.items()},
    )


def _reduction_gib(trace: Trace, peak_bytes: int, batch: int, accumulation: int) -> float:
    # weights, average, gradients and two moments are there, the reduction takes three more copies of the gradient
    at_update = (5 + 3) * 4 * trace.num_parameters
    return max(0.0, (at_update - peak_bytes) / GIB)


def largest_micro_batch(trace: Trace, hardware: HardwareConfig, run: RunConfig, most: int) -> int:
    """The largest micro batch up to `most` whose step fits; 0 where not even one example does."""

    def fits(batch: int, exact: bool = False) -> bool:
        accumulation = 1 if batch * hardware.num_gpus >= run.effective_batch else 2
        return estimate_memory(trace, hardware, run, batch, accumulation, exact=exact).fits

    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    while low > 0 and not fits(low, exact=True):
        low -= 1
    return low


def choose_micro_batch(largest: int, effective_batch: int, num_gpus: int) -> int:
    """The largest micro batch up to `largest` that divides each card's share of the effective batch; 0 if none does."""
    share, rest = divmod(effective_batch, num_gpus)
    if rest:
        return 0
    return max((size for size in range(1, min(largest, share) + 1) if share % size == 0), default=0)
