"""Network weights as one safetensors file that says itself which network it is for."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rnafold.building import build
from rnafold.errors import ConfigError, InputError
from rnafold.model.network import PairNetwork, PlainNetwork, build_network
from rnafold.settings import ModelConfig
from rnafold.shipped import find_shipped_weights

__all__ = ["find_shipped_weights", "load_network"]


def load_network(path: Path, device: torch.device | str = "cpu") -> PairNetwork | PlainNetwork:
    """The network of a weights file (best.safetensors of a run, or shipped weights), in evaluation mode.

    Raises:
        InputError: no such file, no safetensors file, or one that this project did not write.
    """
    metadata, tensors = _read(path)
    try:
        network = build_network(_parse_model(path, metadata))
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path}: does not fit this version's networks ({str(error).splitlines()[0]})") from None
    return network.to(device).eval()


def read_model_config(path: Path) -> ModelConfig:
    """The configuration of the network that a weights file is for.

    Raises:
        InputError: as for `load_network`.
    """
    return _parse_model(path, _read(path)[0])


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({str(error).splitlines()[0]})") from None
    if "rnafold" not in metadata:
        raise InputError(f"{path}: no model configuration in its metadata; expected weights written by `train`")
    return metadata, tensors


def _parse_model(path: Path, metadata: dict[str, str]) -> ModelConfig:
    try:
        return build(ModelConfig, json.loads(metadata["rnafold"])["model"], str(path))
    except (json.JSONDecodeError, KeyError, ConfigError) as error:
        raise InputError(f"{path}: does not fit this version's networks ({str(error).splitlines()[0]})") from None
