"""JSON from files that anyone may have written: bounded in size and depth before it is believed."""

import json
from pathlib import Path
from typing import Any, Final

from rnafold.errors import InputError

# The record of 30,000 predictions takes 10 MB.
MOST_BYTES: Final = 256 << 20


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: no JSON, not UTF-8, a number of thousands of digits, or nested beyond reason.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested beyond reason") from None


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: it cannot be read, is no JSON, is nested beyond reason or larger than `most` bytes.
    """
    try:
        if path.stat().st_size > most:
            raise InputError(f"{path}: larger than {most >> 20} MiB, expected a record in JSON")
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({' '.join(str(error).split())})") from None
