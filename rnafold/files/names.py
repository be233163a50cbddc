"""File names for targets, whose ids may be anything."""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

# A name that every file system takes as it is; those that Windows keeps for itself.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,99}(?<!\.)")
_RESERVED: Final = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))]
)
_MOST_LETTERS: Final = 60


def name_files(target_ids: Sequence[str]) -> dict[str, str]:
    """A file name without its ending for each target: the id where it is a plain name, else one made of its letters.

    Names that a file system takes for another place or cannot hold (../x, a/b, con, 300 letters) get a digest of the id
    instead of what is odd, and no two targets share a name, in upper or lower case.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for target_id in target_ids:
        name = target_id
        if not _PLAIN_NAME.fullmatch(name) or name.lower().split(".")[0] in _RESERVED or name.lower() in taken:
            letters = re.sub(r"[^A-Za-z0-9_-]+", "_", target_id)[:_MOST_LETTERS].strip("_") or "target"
            name = f"{letters}_{hashlib.sha256(target_id.encode()).hexdigest()[:8]}"
        taken.add(name.lower())
        names[target_id] = name
    return names
