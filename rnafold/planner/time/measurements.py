"""Measured step times, one JSON line each, by machine, model and length: what corrects the roofline.

Every training run leaves its micro batch times by length in metrics.jsonl; `plan --calibrate` measures on purpose.
"""

import dataclasses
import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rnafold.config.building import build
from rnafold.config.settings import Config
from rnafold.config.strict_yaml import to_mapping
from rnafold.files.bounded import parse_json

MEASUREMENTS_FILE = "measurements.jsonl"
# Fewer micro batches than this at a length say little: their ratio counts only beside others.
ENOUGH = 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Micro batches of one padded length on one machine.

    `kind`: "micro_batch" (forward, loss, backward), "update" (optimizer step and what else a step needs beside its
    micro batches), "loading" (one example, its `length` the residues), "evaluation" (one target) or "start_up".
    `seconds` is the mean of `count` of them; `batch` the mean number of examples.
    """

    machine: str
    model: str
    settings: str
    kind: str
    length: int
    batch: float
    count: int
    seconds: float


def machine_name(device_type: str, threads: int | None = None, device_name: str | None = None) -> str:
    """Name of the machine that measurements hang on: the card, or the CPU with its number of threads."""
    if device_type != "cpu":
        return device_name or device_type
    model = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    count = threads or int(os.environ.get("OMP_NUM_THREADS", 0) or os.cpu_count() or 1)
    return f"{model} x {count} threads"


def model_name(config: Config) -> str:
    """Fingerprint of the network's configuration."""
    plain = {**to_mapping(config.model), "name": ""}
    return f"{config.model.name}-{hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]}"


def settings_name(config: Config) -> str:
    """What else makes a step slower or faster."""
    run = config.train
    recomputed = {False: "", "pairs": "checkpointing pairs", True: "checkpointing"}[run.gradient_checkpointing]
    flags = [run.precision, run.attention, "compile" * run.compile, recomputed]
    return " ".join(flag for flag in flags if flag)


def append_measurements(folder: Path, found: Iterable[Measurement]) -> None:
    """Adds lines to the store in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(dataclasses.asdict(m)) + "\n" for m in found)
    with (folder / MEASUREMENTS_FILE).open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_measurements(folder: Path) -> list[Measurement]:
    """All complete lines of the store."""
    path = folder / MEASUREMENTS_FILE
    if not path.is_file():
        return []
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            found.append(build(Measurement, parse_json(line.decode("utf-8"))))
        except (ValueError, AttributeError, TypeError):
            continue
    return found


def measurements_of_run(records: Sequence[dict[str, Any]], config: Config, machine: str) -> list[Measurement]:
    """What a run's metrics.jsonl says: micro batches by length, the rest of a step, evaluations.

    The first line of the run is left out: it holds warm-up and the building of start structures.
    """
    names = {"machine": machine, "model": model_name(config), "settings": settings_name(config)}
    trained = [r for r in records if r.get("kind") == "train"]
    trained = trained[1:] or trained
    sums: dict[int, list[float]] = {}
    step_seconds = micro_seconds = steps = 0.0
    previous = 0 if trained == [r for r in records if r.get("kind") == "train"] else None
    last = previous if previous is not None else _step_before(records, trained)
    for record in trained:
        for length, (count, seconds, examples) in record["micro_batch_seconds_by_length"].items():
            entry = sums.setdefault(int(length), [0.0, 0.0, 0.0])
            for k, value in enumerate((count, seconds, examples)):
                entry[k] += value
            micro_seconds += seconds
        taken = int(record["step"]) - last
        last = int(record["step"])
        steps += taken
        step_seconds += float(record["step_seconds"]) * taken
    found = [
        Measurement(
            **names,
            kind="micro_batch",
            length=length,
            batch=examples / count,
            count=int(count),
            seconds=seconds / count,
        )
        for length, (count, seconds, examples) in sorted(sums.items())
        if count
    ]
    if steps:
        rest = max(step_seconds - micro_seconds, 0.0) / steps
        found.append(Measurement(**names, kind="update", length=0, batch=0.0, count=int(steps), seconds=rest))
    tests = [r for r in records if r.get("kind") == "evaluation" and r.get("tm_by_target")]
    for record in tests[1:] or tests:
        targets = len(record["tm_by_target"])
        seconds = float(record["evaluation_seconds"]) / targets
        found.append(Measurement(**names, kind="evaluation", length=0, batch=1.0, count=targets, seconds=seconds))
    return found


def _step_before(records: Sequence[dict[str, Any]], trained: Sequence[dict[str, Any]]) -> int:
    steps = [int(r["step"]) for r in records if r.get("kind") == "train"]
    return steps[steps.index(int(trained[0]["step"])) - 1] if trained else 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Factors on the roofline by length, with their relative spread; `source` says what they rest on."""

    by_length: dict[int, float]
    spread: float
    source: str

    def at(self, length: int) -> float:
        """The factor at a length: linear in the logarithms between measured ones, constant beyond them."""
        points = sorted(self.by_length)
        if not points:
            return 1.0
        if length <= points[0]:
            return self.by_length[points[0]]
        if length >= points[-1]:
            return self.by_length[points[-1]]
        right = next(k for k, point in enumerate(points) if point >= length)
        a, b = points[right - 1], points[right]
        share = math.log(length / a) / math.log(b / a)
        return math.exp((1 - share) * math.log(self.by_length[a]) + share * math.log(self.by_length[b]))


def weighted_mean(found: Sequence[Measurement]) -> float:
    """Mean seconds weighted by count."""
    return sum(m.seconds * m.count for m in found) / sum(m.count for m in found)
