"""A run folder: the name of everything in it, its checkpoints, and its records as the report reads them.

Any part may be missing, since a run may be young or cut off. A checkpoint is a folder `step_<n>` with tensors as
safetensors, numbers as JSON and a manifest with the size and sha256 of each file; `LATEST` names the newest.
"""

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from rnafold.config.strict_yaml import load_yaml
from rnafold.errors import InputError
from rnafold.files.atomic import is_temporary, write_text
from rnafold.files.bounded import parse_json, read_json
from rnafold.files.metrics import read_metrics
from rnafold.files.mounts import hash_file
from rnafold.structure import FloatArray

_LATEST: Final = "LATEST"
_MANIFEST: Final = "manifest.json"
_STATE: Final = "state.json"
_STEP: Final = re.compile(r"step_([0-9]{1,18})")
WEIGHTS_NAME: Final = "best.safetensors"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run keeps what; nothing needs to be there yet."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def summary_file(self) -> Path:
        """Data, baselines, start structures and versions."""
        return self.path / "run.json"

    @property
    def plan_file(self) -> Path:
        """What the planner expected of memory and time."""
        return self.path / "plan.json"

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line: training and evaluations."""
        return self.path / "metrics.jsonl"

    @property
    def weights_file(self) -> Path:
        """The moving average with the best validation score."""
        return self.path / WEIGHTS_NAME

    @property
    def report_file(self) -> Path:
        """The report as one HTML page."""
        return self.path / "report.html"

    @property
    def card_file(self) -> Path:
        """The model card."""
        return self.path / "best.md"

    @property
    def board_folder(self) -> Path:
        """TensorBoard's events."""
        return self.path / "tensorboard"

    @property
    def profile_folder(self) -> Path:
        """Traces of torch's profiler."""
        return self.path / "profile"

    @property
    def checkpoints(self) -> "CheckpointFolder":
        """What a resume goes on from."""
        return CheckpointFolder(self.path / "checkpoints")

    @property
    def holds_run(self) -> bool:
        """Whether a run was begun here."""
        return self.config_file.is_file() and self.metrics_file.is_file()


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """The checkpoints of a run, by their step."""

    path: Path

    def at(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.path / f"step_{step:08d}"

    def steps(self) -> list[int]:
        """The steps that have a folder, complete or not, rising."""
        names = [p.name for p in self.path.iterdir()] if self.path.is_dir() else []
        return sorted(int(match[1]) for name in names if (match := _STEP.fullmatch(name)))

    def candidates(self) -> list[int]:
        """The steps in the order in which a resume tries them: the one that LATEST names, then the highest first."""
        steps = self.steps()[::-1]
        latest = self._read_latest()
        return [latest, *(s for s in steps if s != latest)] if latest in steps else steps

    def newest(self) -> int | None:
        """The step that a resume goes on from; None without a complete checkpoint."""
        return next((step for step in self.candidates() if find_damage(self.at(step)) is None), None)

    def state(self, step: int) -> Mapping[str, Any]:
        """The numbers of a checkpoint; "train" has the position. Tensors are not read.

        Raises:
            InputError: they are not there, or no JSON object.
        """
        return read_object(self.at(step) / _STATE)

    def list_files(self, step: int) -> list[str]:
        """The names of a complete checkpoint's files, without the manifest that names them."""
        return list(read_object(self.at(step) / _MANIFEST))

    def write_state(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Writes the numbers of a checkpoint that is being made in `folder`, then its manifest: the last file of it."""
        write_text(folder / _STATE, json.dumps(state, indent=1))
        manifest = {path.name: _fingerprint(path) for path in sorted(folder.iterdir()) if path.name != _MANIFEST}
        write_text(folder / _MANIFEST, _format_manifest(manifest))

    def announce(self, step: int, keep: int) -> None:
        """Makes a step the latest one, and removes all but the `keep` newest and what kills left half-written."""
        write_text(self.path / _LATEST, self.at(step).name)
        for old in self.steps()[:-keep]:
            if old != step:
                shutil.rmtree(self.at(old), ignore_errors=True)
        self.sweep()

    def sweep(self) -> None:
        """Removes what kills left half-written; only while nobody writes here."""
        for left in filter(is_temporary, self.path.iterdir() if self.path.is_dir() else ()):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def _read_latest(self) -> int | None:
        pointer = self.path / _LATEST
        text = pointer.read_text(encoding="utf-8", errors="replace") if pointer.is_file() else ""
        match = _STEP.fullmatch(text.strip())
        return int(match[1]) if match else None


def find_damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's folder, None if every file has the size and sha256 of the manifest."""
    path = checkpoint / _MANIFEST
    if not path.is_file():
        return "no manifest"
    text = path.read_bytes()
    try:
        manifest = parse_json(text)
    except ValueError:
        return "the manifest is cut off or damaged"
    if not isinstance(manifest, dict) or _format_manifest(manifest).encode() != text:
        return "the manifest is damaged"
    for name, expected in manifest.items():
        if Path(name).name != name or not (checkpoint / name).is_file():
            return f"{name} is missing"
        if _fingerprint(checkpoint / name) != expected:
            return f"{name} does not match its sha256"
    return None


def _format_manifest(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=1)


def _fingerprint(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run folder's records: `train` and `evaluations` lines of metrics.jsonl, config.yaml, run.json, plan.json."""

    name: str
    config: Mapping[str, Any]
    config_text: str
    summary: Mapping[str, Any]
    plan: Mapping[str, Any]
    train: tuple[Mapping[str, Any], ...]
    evaluations: tuple[Mapping[str, Any], ...]

    def setting(self, *keys: str) -> Any:
        """A value of config.yaml by its keys, None where it is not there."""
        return look_up(self.config, *keys)


def read_run(folder: Path) -> RunRecord:
    """Reads a run folder.

    Raises:
        InputError: no such folder, none of a run's files in it, or one that is no JSON or YAML mapping.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected a run folder")
    run = RunFolder(folder)
    needed = (run.config_file, run.metrics_file, run.summary_file)
    if not any(path.is_file() for path in needed):
        raise InputError(f"{folder}: holds no run (found none of {', '.join(path.name for path in needed)})")
    records = read_metrics(run.metrics_file) if run.metrics_file.is_file() else []
    records = [record for record in records if isinstance(record, dict) and read_number(record.get("step")) is not None]
    return RunRecord(
        name=_name_run(folder.resolve()),
        config=load_yaml(run.config_file) if run.config_file.is_file() else {},
        config_text=run.config_file.read_text(encoding="utf-8") if run.config_file.is_file() else "",
        summary=read_object(run.summary_file) if run.summary_file.is_file() else {},
        plan=read_object(run.plan_file) if run.plan_file.is_file() else {},
        train=tuple(record for record in records if record.get("kind") == "train"),
        evaluations=tuple(record for record in records if record.get("kind") == "evaluation"),
    )


def _name_run(folder: Path) -> str:
    """The folder's name, with its parent's where that is needed to tell runs apart (`demo/run`)."""
    return f"{folder.parent.name}/{folder.name}" if folder.name == "run" and folder.parent.name else folder.name


def read_object(path: Path) -> Mapping[str, Any]:
    """A file that holds one JSON object.

    Raises:
        InputError: it is not there, or holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: found a {type(value).__name__}, expected a JSON object")
    return value


def look_up(mapping: Any, *keys: str) -> Any:
    """The value under nested keys, None as soon as one is not there."""
    for key in keys:
        if not isinstance(mapping, Mapping) or key not in mapping:
            return None
        mapping = mapping[key]
    return mapping


def read_number(value: Any) -> float | None:
    """A finite number as float, None for anything else (NaN, None, text, True)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_curve(records: Sequence[Mapping[str, Any]], key: str) -> tuple[FloatArray, FloatArray]:
    """Steps (n,) and values (n,) of the records that have a finite `key`."""
    pairs = [(float(record["step"]), read_number(record.get(key))) for record in records]
    kept = np.array([(step, value) for step, value in pairs if value is not None], dtype=np.float64).reshape(-1, 2)
    return kept[:, 0], kept[:, 1]


def thin_curve(steps: FloatArray, values: FloatArray, most: int = 1500) -> tuple[FloatArray, FloatArray]:
    """At most `most` points: means of equal runs of neighbours, so that long runs keep the page small."""
    if len(steps) <= most:
        return steps, values
    bounds = np.linspace(0, len(steps), most + 1).astype(int)[:-1]
    counts = np.diff([*bounds, len(steps)])
    return np.add.reduceat(steps, bounds) / counts, np.add.reduceat(values, bounds) / counts
