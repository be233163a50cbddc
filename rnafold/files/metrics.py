"""metrics.jsonl: one JSON object a line, units in the keys; after a resume there is neither a gap nor a repeat."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.files.bounded import parse_json


class MetricsFile:
    """Appends records and, on resume, drops those beyond the checkpoint and a line that a kill cut off."""

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        self.path = path
        records = read_metrics(path) if resume_step is not None and path.is_file() else []
        kept = [r for r in records if resume_step is not None and int(r["step"]) <= resume_step]
        write_text(path, "".join(json.dumps(r) + "\n" for r in kept))

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record and hands it to the operating system at once.

        Raises:
            InputError: the disk is full, or the folder not writable any more.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror or error})") from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All complete records of a metrics file; a last line without its end, and a damaged one, is left out."""
    records = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            record = parse_json(line.decode("utf-8"))
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
