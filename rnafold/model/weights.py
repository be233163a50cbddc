"""Network weights as one safetensors file that says itself which network it is for.

Weights of a network with a pretrained encoder name the encoder's file with its sha256, and whether the encoder was
accepted: whether it beat the network without it on the validation targets (rnafold.training.comparison).
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rnafold.config.building import build
from rnafold.config.settings import ModelConfig
from rnafold.errors import ConfigError, InputError
from rnafold.files.mounts import file_sha256, find_mounted
from rnafold.files.shipped import find_shipped_weights
from rnafold.files.weights_header import WeightsDescription, parse_metadata
from rnafold.model.encoder import require_encoder
from rnafold.model.network import PairNetwork, PlainNetwork, build_network

__all__ = ["choose_weights", "find_shipped_weights", "load_network", "read_model_config"]

log = logging.getLogger(__name__)


def load_network(path: Path, device: torch.device | str = "cpu") -> PairNetwork | PlainNetwork:
    """The network of a weights file (best.safetensors of a run, or shipped weights), in evaluation mode.

    A pretrained encoder is read from its own file, which is looked for beside the weights too.

    Raises:
        InputError: no such file, no safetensors file, damaged, one that this project did not write, or one whose
            encoder is not mounted or is another.
    """
    described, tensors = _read(path)
    config = _parse_model(path, described)
    if config.encoder is not None:
        found = find_mounted(config.encoder.path, f"{path}: the encoder's file", path.parent)
        config = replace(config, encoder=replace(config.encoder, path=str(found)))
    network = build_network(config)
    require_encoder(network, described.get("encoder"), path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path}: does not fit this version's networks ({str(error).splitlines()[0]})") from None
    return network.to(device).eval()


def choose_weights(path: Path) -> Path | None:
    """The weights that `predict` may use in place of `path`: itself, unless its encoder is switched off.

    An encoder is switched off until it has beaten the network without it on the validation targets. Then the weights
    of that network are taken if they are still there, and None otherwise; a warning says so.

    Raises:
        InputError: as for `load_network`.
    """
    described = _read(path)[0]
    if _parse_model(path, described).encoder is None or described.get("encoder_accepted") is True:
        return path
    compared = described.get("compared_with")
    if compared is None:
        log.warning(
            "%s: the encoder is switched off: it was never compared with the network without it (model.encoder."
            "compare_with); going on without a network",
            path,
        )
        return None
    reason = (
        f"TM-score {described['compared_tm_score']:.4f} on the validation targets, {compared['tm_score']:.4f} without"
    )
    try:
        plain = find_mounted(
            compared["file"], "weights", path.parent, lambda found: file_sha256(found) == compared["sha256"]
        )
    except InputError:
        log.warning(
            "%s: the encoder is switched off (%s), and %s is not here: going on without a network",
            path,
            reason,
            compared["file"],
        )
        return None
    log.warning("%s: the encoder is switched off (%s); using %s", path, reason, plain)
    return plain


def read_model_config(path: Path) -> ModelConfig:
    """The configuration of the network that a weights file is for.

    Raises:
        InputError: as for `load_network`.
    """
    return _parse_model(path, _read(path)[0])


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of named tensors: their names, types, shapes and values. It stands in the description of weights, since a
    flipped bit would only make predictions worse, and nobody would know."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        value = tensor.detach().cpu()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _check_tensors(path: Path, described: WeightsDescription, tensors: Mapping[str, Tensor]) -> None:
    """Refuses weights that are not as they were written, or not finite.

    Raises:
        InputError: what is wrong with which of them.
    """
    if "tensors_sha256" in described and described["tensors_sha256"] != digest_tensors(tensors):
        raise InputError(f"{path}: damaged, the tensors do not match their sha256")
    wrong = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if wrong:
        raise InputError(f"{path}: {len(wrong)} of {len(tensors)} tensors are not finite, first {wrong[0]}")


def _read(path: Path) -> tuple[WeightsDescription, dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            described = parse_metadata(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({str(error).splitlines()[0]})") from None
    if described is None:
        raise InputError(f"{path}: no model configuration in its metadata; expected weights written by `train`")
    _check_tensors(path, described, tensors)
    return described, tensors


def _parse_model(path: Path, described: WeightsDescription) -> ModelConfig:
    try:
        return build(ModelConfig, described["model"], str(path))
    except (TypeError, AttributeError, ConfigError) as error:
        raise InputError(f"{path}: does not fit this version's networks ({str(error).splitlines()[0]})") from None
