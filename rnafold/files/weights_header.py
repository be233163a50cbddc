"""The header of a weights file: which network it is, how it was trained and how well it validated. No torch needed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

# The longest header that a safetensors file may have. Source: the format's own limit of 100 MB.
MAX_HEADER_BYTES: Final = 100_000_000


def read_weights_description(path: Path) -> Mapping[str, Any] | None:
    """What `train` wrote into the header of a weights file; None for any other file. Reads the header alone.

    Source: safetensors format: 8 bytes header length, little-endian, then JSON with an optional "__metadata__".
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= MAX_HEADER_BYTES:
                return None
            described: Any = json.loads(json.loads(file.read(length))["__metadata__"]["rnafold"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return described if isinstance(described, dict) and "model" in described else None
