"""The header of a weights file: which network it is, how it was trained and how well it validated. No torch needed.

The description is one JSON text under one key of the file's metadata: safetensors writes several keys in an order that
differs from run to run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Required, TypedDict, cast

from rnafold.files.bounded import parse_json

# The longest header that a safetensors file may have. Source: the format's own limit of 100 MB.
MAX_HEADER_BYTES: Final = 100_000_000
_KEY: Final = "rnafold"


class ComparedWeights(TypedDict):
    """The weights without an encoder that an encoder was compared with."""

    file: str
    sha256: str
    tm_score: float


class WeightsDescription(TypedDict, total=False):
    """What `train` says of its weights.

    Attributes:
        model: the network's configuration.
        cutoff: its training entries were released before this date (ISO).
        validation_tm_score: mean over the validation targets; None without any.
        step: optimizer step of the weights.
        seed: of the run.
        tensors_sha256: model.weights.digest_tensors of the tensors beside it; absent in files of older versions.
        encoder: name and sha256 of the pretrained encoder's file; absent without one, as are all that follow.
        encoder_accepted: whether the encoder beat the network without it; until then it is switched off.
        compared_tm_score: mean over the targets that both predicted.
        compared_with: the network without it.
        compared_standard_error: of the mean difference; None with a single target.
    """

    model: Required[dict[str, Any]]
    cutoff: str
    validation_tm_score: float | None
    step: int
    seed: int
    tensors_sha256: str
    encoder: dict[str, Any]
    encoder_accepted: bool
    compared_tm_score: float
    compared_with: ComparedWeights
    compared_standard_error: float | None


def format_metadata(description: WeightsDescription) -> dict[str, str]:
    """The metadata of a weights file; equal descriptions give equal bytes."""
    return {_KEY: json.dumps(description, sort_keys=True)}


def parse_metadata(metadata: Mapping[str, str]) -> WeightsDescription | None:
    """The description in a file's metadata, None where `train` wrote none."""
    try:
        described: Any = parse_json(metadata[_KEY])
    except (ValueError, KeyError, TypeError):
        return None
    return cast(WeightsDescription, described) if isinstance(described, dict) and "model" in described else None


def read_weights_description(path: Path) -> WeightsDescription | None:
    """What `train` wrote into the header of a weights file; None for any other file. Reads the header alone.

    Source: safetensors format: 8 bytes header length, little-endian, then JSON with an optional "__metadata__".
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= MAX_HEADER_BYTES:
                return None
            return parse_metadata(parse_json(file.read(length))["__metadata__"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
