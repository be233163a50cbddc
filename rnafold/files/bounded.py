"""JSON from files that anyone may have written: bounded in size and depth before it is believed."""

import json
from pathlib import Path
from typing import Any, Final

from rnafold.errors import InputError

# The record of 30,000 predictions takes 10 MB.
MOST_BYTES: Final = 256 << 20


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: it cannot be read, is no JSON, is nested beyond reason or larger than `most` bytes.
    """
    try:
        if path.stat().st_size > most:
            raise InputError(f"{path}: larger than {most >> 20} MiB, expected a record in JSON")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({' '.join(str(error).split())})") from None
