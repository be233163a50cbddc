"""metrics.jsonl: one JSON object a line, units in the keys; after a resume there is neither a gap nor a repeat."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnafold.files.atomic import write_text


class MetricsFile:
    """Appends records and, on resume, drops those beyond the checkpoint and a line that a kill cut off."""

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        self.path = path
        records = read_metrics(path) if resume_step is not None and path.is_file() else []
        kept = [r for r in records if resume_step is not None and int(r["step"]) <= resume_step]
        write_text(path, "".join(json.dumps(r) + "\n" for r in kept))

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record and hands it to the operating system at once."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All complete records of a metrics file; a last line without its end is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return records
