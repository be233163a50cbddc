"""What the preparation kernel left among a kernel's inputs, and how training and prediction use it.

Its output is one folder: `library/` (templates of the competition's structures and tables), `cache.zip` (clusters,
pairs, profiles, start structures under the names by which training looks for them) and `prepared.json`.
"""

import json
import logging
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rnafold.files.mounts import PREPARED_VARIABLE, walk_files
from rnafold.templates.prepared import MANIFEST

log = logging.getLogger(__name__)
PREPARED_FILE: Final = "prepared.json"
PACKED_CACHE: Final = "cache.zip"
LIBRARY_FOLDER: Final = "library"


def find_output(inputs: Path) -> Path | None:
    """The folder of a preparation kernel's output among the inputs; None without one."""
    found = sorted(path.parent for path in walk_files(inputs) if path.name == PREPARED_FILE)
    return found[0] if found else None


def unpack_prepared(inputs: Path, out: Path) -> Path | None:
    """Unpacks the prepared cache among the inputs, if any, into `out`; returns the folder of the output it is of."""
    folder = find_output(inputs)
    if folder is None or not (folder / PACKED_CACHE).is_file():
        return folder
    began = time.monotonic()
    try:
        with zipfile.ZipFile(folder / PACKED_CACHE) as archive:
            archive.extractall(out)
    except (OSError, zipfile.BadZipFile) as error:
        # what is not there is computed
        log.warning("%s: the prepared cache cannot be used (%s)", folder / PACKED_CACHE, error)
        return folder
    log.info("%s: prepared cache unpacked in %.0f s", folder, time.monotonic() - began)
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTraining:
    """What a preparation adds to a training: settings and environment; blank without one."""

    settings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def use_prepared(inputs: Path, scratch: Path) -> PreparedTraining:
    """Unpacks what a preparation left among the inputs and says how training finds it."""
    folder = unpack_prepared(inputs, scratch)
    if folder is None:
        return PreparedTraining()
    try:
        settings = tuple(map(str, json.loads((folder / PREPARED_FILE).read_text(encoding="utf-8"))["settings"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: not used (%s)", folder / PREPARED_FILE, error)
        return PreparedTraining()
    return PreparedTraining(settings=settings, environment={PREPARED_VARIABLE: str(scratch)})


def find_library(inputs: Path) -> Path | None:
    """The template library that the preparation left among the inputs; None without one."""
    folder = find_output(inputs)
    if folder is None or not (folder / LIBRARY_FOLDER / MANIFEST).is_file():
        return None
    return folder / LIBRARY_FOLDER
