"""Checkpoints that survive a kill: written beside, verified by a manifest, renamed, then pointed to.

A checkpoint is a folder with tensors as safetensors and numbers as JSON (`files.run_folder` has the names). No pickle
anywhere. A folder whose manifest does not match is skipped and the one before it is used.
"""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rnafold.errors import InputError
from rnafold.files.atomic import replace_file, replace_folder
from rnafold.files.run_folder import CheckpointFolder, find_damage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Named groups of tensors ("model", "average", "optimizer") and a state for JSON (position, scaler, best score)."""

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Safetensors file, atomically; tensors are copied to the CPU."""
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replace_file(path) as temporary:
        try:
            save_file(copies, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:
            raise _as_os_error(error) from error


def _as_os_error(error: SafetensorError) -> Exception:
    """What the system said (a full disk), where that is what safetensors tells; the error itself otherwise."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(told[1]), os.strerror(int(told[1]))) if told else error


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes checkpoint `step_<step>` in `folder` and removes all but the `keep` newest.

    Order: temporary folder, files synced, manifest with sizes and sha256, rename, LATEST, then pruning; at no moment
    is there no complete checkpoint once there was one.
    """
    checkpoints = CheckpointFolder(folder)
    with replace_folder(checkpoints.at(step)) as temporary:
        for name, tensors in checkpoint.tensors.items():
            if not tensors:  # the optimizer's before the first step: safetensors writes an empty file but reads none
                continue
            save_tensors(temporary / f"{name}.safetensors", tensors)
        checkpoints.write_state(temporary, checkpoint.state)
    checkpoints.announce(step, keep)
    return checkpoints.at(step)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint in `folder`, None if there is none; incomplete ones are skipped with a warning."""
    checkpoints = CheckpointFolder(folder)
    for step in checkpoints.candidates():
        problem = find_damage(checkpoints.at(step))
        if problem is None:
            try:
                names = [name for name in checkpoints.list_files(step) if name.endswith(".safetensors")]
                tensors = {Path(name).stem: load_file(checkpoints.at(step) / name) for name in sorted(names)}
                return Checkpoint(tensors=tensors, state=dict(checkpoints.state(step)))
            except (SafetensorError, InputError, OSError, ValueError) as error:
                problem = " ".join(str(error).split())
        log.warning("checkpoint %s skipped: %s", checkpoints.at(step), problem)
    return None


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
