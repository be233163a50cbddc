"""A recorded step as arrays: the memory it holds at its peak for any batch, and what it computes. No torch here."""

import dataclasses
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from rnafold.config.building import build
from rnafold.config.machine_use import Checkpointing
from rnafold.config.settings import LossConfig, ModelConfig
from rnafold.config.strict_yaml import to_mapping
from rnafold.features.cache import load_arrays, save_arrays
from rnafold.files.mounts import file_sha256, find_mounted

Mode = Literal["train", "predict"]
Device = Literal["cpu", "cuda"]
TracedKernel = Literal["stock", "math", "memory_efficient"]

TAGS = ("weights", "average", "optimizer", "gradients", "batch", "attention", "activations", "output")
# What comes and goes with a pass.
PASSING_TAGS = ("attention", "activations", "output")
PHASES = ("setup", "forward", "recycle", "loss", "backward", "update", "predict", "done")
DTYPES = ("fp32", "fp16", "bf16")
# The CUDA caching allocator rounds every block to this; the CPU allocator hands out what is asked for.
CUDA_BLOCK = 512
_ARRAYS = (
    "num_parameters",
    "num_frozen",
    "fixed_bytes",
    "example_bytes",
    "tags",
    "owners",
    "events",
    "event_phases",
    "operations",
)
# Below data.cache: traces and measured steps, of `plan` and of `train` alike.
PLANNER_FOLDER = "planner"
# Whatever these files say shapes a step, so a cached trace is good only as long as they do not change.
_SOURCES = (
    *("model", "features/batch.py", "features/build.py"),
    *("planner/memory/trace.py", "planner/memory/records.py", "planner/memory/autocast.py"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TraceKey:
    """What a trace is of. `precision` is that of autocast; one trace serves fp16 and bf16 on CUDA (same sizes).

    `attention`: "stock" is torch's own choice on the CPU. `candidates`: shown beside each start.
    """

    model: ModelConfig
    loss: LossConfig
    length: int
    mode: Mode = "train"
    device: Device = "cpu"
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    attention: TracedKernel = "stock"
    candidates: int = 0
    gradient_checkpointing: Checkpointing = False

    def to_json(self) -> str:
        """The key as JSON, for the worker and the cache."""
        return json.dumps(to_mapping(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "TraceKey":
        """The inverse of `to_json`."""
        return build(TraceKey, json.loads(text), "trace")

    def fingerprint(self) -> str:
        """Name of the trace in the cache: the key, the code it was traced from and the torch release."""
        weights = self.loss.pairs_per_residue if self.mode == "train" else 0
        plain = {**json.loads(self.to_json()), "loss": weights}
        plain["model"].pop("name")
        if self.model.encoder is not None:
            # which file it is shapes a step, not where it lies
            digest = file_sha256(find_mounted(self.model.encoder.path, "model.encoder.path"))
            plain["model"]["encoder"] |= {"path": digest, "compare_with": None}
        text = json.dumps([plain, _hash_sources(), importlib.metadata.version("torch")], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def _hash_sources() -> str:
    package = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for name in _SOURCES:
        path = package / name
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Peak:
    """The highest memory of a step in bytes, and what it consists of there.

    `parts` by what it is (keys of TAGS); `modules` the attention, activations and output of it by who made them.
    """

    total_bytes: int
    parts: dict[str, int]
    modules: dict[str, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Storages, their order of birth and death, and the operations of one step.

    Attributes:
        fixed_bytes, example_bytes: (S,) size of a storage = fixed + batch x example.
        num_parameters, num_frozen: weights that train at any time of a run, and those that never do.
        tags: (S,) index into TAGS.
        owners: (S,) the network's part that made a storage, or the phase of the step outside it.
        events: (E,) s + 1 when storage s is made, -(s + 1) when it is freed.
        event_phases: (E,) index into PHASES.
        operations: (K, 7) phase, dtype, fixed and per-example FLOPs, fixed and per-example bytes, count.
    """

    key: TraceKey
    num_parameters: int
    fixed_bytes: npt.NDArray[np.int64]
    example_bytes: npt.NDArray[np.int64]
    tags: npt.NDArray[np.int8]
    owners: npt.NDArray[np.str_]
    events: npt.NDArray[np.int32]
    event_phases: npt.NDArray[np.int8]
    operations: npt.NDArray[np.float64]
    num_frozen: int

    def sizes(self, batch: int) -> npt.NDArray[np.int64]:
        """(S,) bytes that each storage takes in the allocator at a batch size."""
        exact = self.fixed_bytes + batch * self.example_bytes
        return -(-exact // CUDA_BLOCK) * CUDA_BLOCK if self.key.device == "cuda" else exact

    def timeline(self, accumulation: int) -> npt.NDArray[np.int64]:
        """Events of a micro batch and the update; above one micro batch, of a later one.

        That finds the gradients of the ones before (storage s again as S + s) and adds its own to them one by one; the
        output of the one before is gone.
        """
        events = self.events.astype(np.int64)
        if accumulation <= 1:
            return events
        count = len(self.tags)
        owner = np.abs(events) - 1
        gradients = np.flatnonzero(self.tags == TAGS.index("gradients")) + 1
        fresh = self.tags[owner] == TAGS.index("gradients")
        begin = int(np.argmax(self.event_phases == PHASES.index("forward")))
        kept = ~(fresh & (events < 0))
        # a fresh gradient is gone one event after it was made: it was added to the one that is there
        places = np.minimum(np.flatnonzero(fresh & (events > 0)) + 2, len(events))
        freed = -events[fresh & (events > 0)]
        extra = np.concatenate([gradients + count, freed])
        at = np.concatenate([np.full(len(gradients), begin), places])
        order = np.concatenate([np.flatnonzero(kept) + 0.5, at])
        merged = np.concatenate([events[kept], extra])[np.argsort(order, kind="stable")]
        return np.asarray(merged, dtype=np.int64)

    def peak(self, batch: int, accumulation: int = 1) -> Peak:
        """Peak of an optimizer step of `accumulation` micro batches of `batch` examples."""
        events = self.timeline(accumulation)
        sizes = np.tile(self.sizes(batch), 2)
        owner = np.abs(events) - 1
        signs = np.sign(events)
        live = np.cumsum(signs * sizes[owner])
        at = int(np.argmax(live))
        alive = np.zeros(len(sizes), dtype=np.int64)
        np.add.at(alive, owner[: at + 1], signs[: at + 1])
        held, tags = sizes * alive, np.tile(self.tags, 2)
        parts = {name: int(held[tags == index].sum()) for index, name in enumerate(TAGS)}
        passing = np.isin(tags, [TAGS.index(name) for name in PASSING_TAGS])
        owners = np.tile(self.owners, 2)
        modules = {str(name): int(held[passing & (owners == name)].sum()) for name in np.unique(self.owners)}
        return Peak(total_bytes=int(live[at]), parts=parts, modules={k: v for k, v in modules.items() if v})

    def flops(self, batch: int, recycles: float = 0.0) -> float:
        """Multiply-adds x 2 of a step, matrix products alone; `recycles` is their mean number."""
        rows = self.operations
        scale = np.where(rows[:, 0] == PHASES.index("recycle"), recycles, 1.0) * rows[:, 6]
        return float(((rows[:, 2] + batch * rows[:, 3]) * scale).sum())

    def save(self, folder: Path) -> None:
        """Writes the trace into the cache, atomically."""
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        save_arrays(folder / f"{self.key.fingerprint()}.npz", arrays)


def load_trace(key: TraceKey, folder: Path) -> Trace | None:
    """The trace from the cache, None if it is not there or cannot be read (it is then made again)."""
    values = load_arrays(folder / f"{key.fingerprint()}.npz", _ARRAYS)
    if values is None:
        return None
    trained, frozen = (int(values.pop(name)) for name in ("num_parameters", "num_frozen"))
    return Trace(key=key, num_parameters=trained, num_frozen=frozen, **values)
