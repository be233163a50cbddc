"""A pretrained encoder in front of the network: read strictly, kept frozen or thawed from the end, added as two inputs.

What never trains is neither in checkpoints nor in weights files: those name the encoder's file and its sha256 instead.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # the name of torch's own refusal; nothing is unpickled here
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rnafold.config.encoder import EncoderConfig
from rnafold.errors import InputError
from rnafold.features.batch import Batch
from rnafold.files.mounts import file_sha256, find_mounted
from rnafold.model.ribonanza import PAD_TOKEN, PARTS, RibonanzaNet, RibonanzaShape, read_shape

# What training scripts put around a state dict, and in front of its names.
WRAPPERS, PREFIXES = ("model", "state_dict"), ("module.", "model.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embeddings:
    """The encoder's embeddings in the network's channels: single (B, L, D), pair (B, L, L, C); zero where masked."""

    single: Tensor
    pair: Tensor


def locate(config: EncoderConfig) -> Path:
    """The file of the encoder's weights.

    Raises:
        InputError: it is not mounted.
    """
    return find_mounted(config.path, "model.encoder.path")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of the encoder's parts in a weights file (.safetensors, or what torch.save wrote), as float32.

    Raises:
        InputError: not a readable file of named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: not a readable file of encoder weights ({reason})") from None
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise InputError(f"{path}: found no named tensors, expected the state dict of an encoder")
    named = {_strip(str(name)): value for name, value in found.items()}
    return {name: value.float() for name, value in named.items() if name.split(".")[0] in PARTS}


def _strip(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def read_encoder_shape(config: EncoderConfig) -> RibonanzaShape:
    """The sizes of the encoder in a configuration's weights file.

    Raises:
        InputError: no such file, or none of this layout.
    """
    path = locate(config)
    return _parse_shape(path, read_tensors(path))


def _parse_shape(path: Path, tensors: Mapping[str, Tensor]) -> RibonanzaShape:
    try:
        return read_shape({name: tuple(value.shape) for name, value in tensors.items()})
    except ValueError as error:
        raise InputError(f"{path}: not RibonanzaNet's layout: {error}") from None


def load_trunk(path: Path) -> RibonanzaNet:
    """The encoder of a weights file; every name and every shape of the parts used must fit.

    Raises:
        InputError: the first names that are missing, unknown or of another shape.
    """
    tensors = read_tensors(path)
    with torch.device("meta"):
        trunk = RibonanzaNet(_parse_shape(path, tensors))
    expected = {name: tuple(value.shape) for name, value in trunk.state_dict().items()}
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in expected]
    wrong += [
        f"{name} is of shape {tuple(value.shape)}, expected {expected[name]}"
        for name, value in tensors.items()
        if name in expected and tuple(value.shape) != expected[name]
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise InputError(f"{path}: not RibonanzaNet's layout: {'; '.join(wrong[:3])}{more}")
    trunk.load_state_dict(tensors, assign=True)
    return trunk


class MountedEncoder(nn.Module):
    """The encoder and the two projections that bring it into the network; these start at zero, so it starts silent."""

    def __init__(self, config: EncoderConfig, width: int, channels: int, shape: RibonanzaShape | None = None) -> None:
        """Reads the weights, unless `shape` is given: then only the form is built, for the planner to trace."""
        super().__init__()
        self.config = config
        if shape is None:
            path = locate(config)
            self.file, self.sha256, self.trunk = path.name, file_sha256(path), load_trunk(path)
        else:
            self.file, self.sha256, self.trunk = Path(config.path).name, "", RibonanzaNet(shape)
        if config.unfreeze_last > self.trunk.shape.layers:
            raise InputError(
                f"model.encoder.unfreeze_last: found {config.unfreeze_last}, {self.file} has {self.trunk.shape.layers} "
                "layers"
            )
        self.single = nn.Linear(self.trunk.shape.width, width, bias=False)
        self.pair = nn.Linear(self.trunk.shape.pair_channels, channels, bias=False)
        nn.init.zeros_(self.single.weight)
        nn.init.zeros_(self.pair.weight)
        self.num_trained = 0
        self.thaw(config.count_trained(0))

    def thaw(self, num_trained: int) -> None:
        """Lets the last `num_trained` layers train and freezes all others."""
        self.num_trained = num_trained
        self.trunk.requires_grad_(False)
        for layer in self._last(num_trained):
            layer.requires_grad_(True)

    def _last(self, count: int) -> nn.ModuleList:
        layers = self.trunk.transformer_encoder
        return layers[len(layers) - count :]

    def trainable(self) -> list[nn.Parameter]:
        """Parameters of the encoder that train at any time of the run."""
        return list(self._last(self.config.unfreeze_last).parameters())

    def frozen_names(self) -> set[str]:
        """Names, below this module, of what never trains and so never enters a file."""
        trained = {id(p) for p in self.trainable()}
        return {f"trunk.{name}" for name, p in self.trunk.named_parameters() if id(p) not in trained}

    def forward(self, batch: Batch, recompute: bool = False) -> Embeddings:
        """Embeddings of a batch; each chain by itself, residues of one chain as far as `config.context` reaches."""
        chain = torch.where(batch.mask, batch.chain_index, -1)
        visible = see(chain, batch.residue_index, self.config.context)
        tokens = torch.where(batch.mask, batch.tokens, PAD_TOKEN)
        single, pair = self.trunk(
            tokens, chain, batch.residue_index, visible, self.num_trained, recompute and self.training
        )
        single = self.single(F.layer_norm(single, single.shape[-1:]))
        pair = self.pair(F.layer_norm(pair, pair.shape[-1:]))
        real = visible & batch.mask[:, None, :]
        return Embeddings(single=single * batch.mask[..., None], pair=pair * real[..., None])

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Without what never trains: it lies in the encoder's own file."""
        found: dict[str, Any] = super().state_dict(*args, **kwargs)
        prefix = str(kwargs.get("prefix", ""))
        for name in self.frozen_names():
            found.pop(prefix + name)
        return found

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # what `state_dict` leaves out is there already: it was read from the encoder's file
        own = dict(self.named_parameters())
        state_dict.update({prefix + name: own[name].detach() for name in self.frozen_names()})
        super()._load_from_state_dict(state_dict, prefix, *args)


def see(chain: Tensor, residue_index: Tensor, context: int) -> Tensor:
    """(B, L, L) bool: residues of one chain nearer than `context` see each other, and every position sees itself."""
    together = (chain[:, :, None] == chain[:, None, :]) & (chain >= 0)[:, :, None]
    near = (residue_index[:, :, None] - residue_index[:, None, :]).abs() < context
    own = torch.eye(chain.shape[1], dtype=torch.bool, device=chain.device)
    return (together & near) | own


def encoder_of(network: nn.Module) -> MountedEncoder | None:
    """The encoder of a network, None where it has none."""
    found = getattr(network, "encoder", None)
    return found if isinstance(found, MountedEncoder) else None


def thaw(network: nn.Module, epoch: float) -> None:
    """Freezes and unfreezes the layers of a network's encoder as an epoch (0-based) wants it; `math.inf` all."""
    encoder = encoder_of(network)
    if encoder is not None:
        config = encoder.config
        count = config.unfreeze_last if math.isinf(epoch) else config.count_trained(int(epoch))
        if count != encoder.num_trained:
            encoder.thaw(count)


def rate_groups(network: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
    """Parameters that train at any time and their share of the learning rate: the network's own, then the encoder's."""
    encoder = encoder_of(network)
    if encoder is None:
        return [(list(network.parameters()), 1.0)]
    inside = {id(p) for p in encoder.trunk.parameters()}
    own = [p for p in network.parameters() if id(p) not in inside]
    slow = encoder.trainable()
    return [(own, 1.0), (slow, encoder.config.learning_rate_share)] if slow else [(own, 1.0)]


def describe_encoder(network: nn.Module) -> dict[str, str] | None:
    """Name and sha256 of the encoder's file, as weights files and checkpoints carry them; None without an encoder."""
    encoder = encoder_of(network)
    return None if encoder is None else {"file": encoder.file, "sha256": encoder.sha256}


def require_encoder(network: nn.Module, expected: Mapping[str, str] | None, place: Path) -> None:
    """Refuses an encoder other than the one that the tensors at `place` were trained with.

    Raises:
        InputError: its sha256 differs.
    """
    found = describe_encoder(network)
    if (found or {}).get("sha256") != (expected or {}).get("sha256"):
        raise InputError(
            f"{place}: trained with the encoder {_name(expected)}, found {_name(found)}; mount the file it was trained "
            "with"
        )


def _name(described: Mapping[str, str] | None) -> str:
    return "none" if described is None else f"{described['file']} (sha256 {described['sha256'][:16]})"
