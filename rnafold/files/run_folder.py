"""What a run folder holds, read for the report; any part may be missing, since a run may be young or cut off."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rnafold.config.strict_yaml import load_yaml
from rnafold.errors import InputError
from rnafold.files.metrics import read_metrics
from rnafold.structure import FloatArray


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
    names = ("config.yaml", "metrics.jsonl", "run.json")
    if not any((folder / name).is_file() for name in names):
        raise InputError(f"{folder}: holds no run (found none of {', '.join(names)})")
    config_path, metrics_path = folder / names[0], folder / names[1]
    records = read_metrics(metrics_path) if metrics_path.is_file() else []
    records = [record for record in records if isinstance(record, dict) and read_number(record.get("step")) is not None]
    return RunRecord(
        name=_name_run(folder.resolve()),
        config=load_yaml(config_path) if config_path.is_file() else {},
        config_text=config_path.read_text(encoding="utf-8") if config_path.is_file() else "",
        summary=_read_json(folder / names[2]),
        plan=_read_json(folder / "plan.json"),
        train=tuple(record for record in records if record.get("kind") == "train"),
        evaluations=tuple(record for record in records if record.get("kind") == "evaluation"),
    )


def _name_run(folder: Path) -> str:
    """The folder's name, with its parent's where that is needed to tell runs apart (`demo/run`)."""
    return f"{folder.parent.name}/{folder.name}" if folder.name == "run" and folder.parent.name else folder.name


def _read_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
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
