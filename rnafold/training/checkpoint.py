"""Checkpoints that survive a kill: written beside, verified by a manifest, renamed, then pointed to.

A checkpoint is a folder `step_<n>` with tensors as safetensors and numbers as JSON; `LATEST` names the newest. No
pickle anywhere. A folder whose manifest does not match is skipped and the one before it is used.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rnafold.errors import InputError
from rnafold.files.mounts import hash_file

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
LATEST = "LATEST"
STATE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Named groups of tensors ("model", "average", "optimizer") and a state for JSON (position, scaler, best score)."""

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def write_atomically(path: Path, text: str) -> None:
    """Text written to a temporary name beside `path`, synced and renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Safetensors file, atomically; tensors are copied to the CPU."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(
        {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},
        temporary,
        metadata=dict(metadata or {}),
    )
    temporary.replace(path)


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes checkpoint `step_<step>` in `folder` and removes all but the `keep` newest.

    Order: temporary folder, files synced, manifest with sizes and sha256, rename, LATEST, then pruning; at no moment
    is there no complete checkpoint once there was one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step_{step:08d}"
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for name, tensors in checkpoint.tensors.items():
        save_tensors(temporary / f"{name}.safetensors", tensors)
    write_atomically(temporary / STATE, json.dumps(checkpoint.state, indent=1))
    manifest = {path.name: _fingerprint(path) for path in sorted(temporary.iterdir())}
    write_atomically(temporary / MANIFEST, json.dumps(manifest, indent=1))
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    write_atomically(folder / LATEST, final.name)
    for old in sorted(folder.glob("step_*"))[:-keep]:
        if old != final:
            shutil.rmtree(old, ignore_errors=True)
    return final


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint in `folder`, None if there is none; incomplete ones are skipped with a warning."""
    names = [p.name for p in sorted(folder.glob("step_*"), reverse=True)] if folder.is_dir() else []
    pointer = folder / LATEST
    if pointer.is_file() and (latest := pointer.read_text(encoding="utf-8").strip()) in names:
        names.remove(latest)
        names.insert(0, latest)
    for name in names:
        problem = find_damage(folder / name)
        if problem is None:
            return _read(folder / name)
        log.warning("checkpoint %s skipped: %s", folder / name, problem)
    return None


def find_damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint folder, None if every file has the size and sha256 of the manifest."""
    path = folder / MANIFEST
    if not path.is_file():
        return "no manifest"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return "the manifest is cut off"
    for name, expected in manifest.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if _fingerprint(folder / name) != expected:
            return f"{name} does not match its sha256"
    return None


def _read(folder: Path) -> Checkpoint:
    tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    return Checkpoint(tensors=tensors, state=json.loads((folder / STATE).read_text(encoding="utf-8")))


def _fingerprint(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def flatten_optimizer(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """AdamW's moments and step counts as "<moment>.<parameter>" tensors."""
    flat = {}
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            flat[f"{key}.{names[parameter]}"] = value if isinstance(value, Tensor) else torch.tensor(float(value))
    return flat


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], flat: Mapping[str, Tensor]
) -> None:
    """The inverse of `flatten_optimizer`, in place.

    Raises:
        InputError: the tensors are of other parameters.
    """
    parameters = {name: parameter for parameter, name in names.items()}
    for key, value in flat.items():
        moment, _, name = key.partition(".")
        if name not in parameters:
            raise InputError(f"checkpoint: optimizer state of {name!r}, which this model does not have")
        target = parameters[name]
        device = "cpu" if moment == "step" else target.device
        optimizer.state[target][moment] = value.to(device, copy=True)
