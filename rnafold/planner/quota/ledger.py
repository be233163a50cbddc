"""The ledger of runs: an append-only file of JSON lines, each written in one piece and synced, that survives a kill.

A session writes "start", then "progress" at its checkpoints, then "end"; a session without an end counts up to its last
word. Predicted figures stand beside the actual ones.
"""

import dataclasses
import datetime
import json
import os
import platform
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rnafold.files.bounded import parse_json

UTC = datetime.UTC
LEDGER_FILE = "ledger.jsonl"
_FIGURES: Final = ("planned_hours", "predicted_hours", "predicted_peak_gib", "peak_gib")
# A session that has not said anything for so long is taken to be dead.
STALE_HOURS = 1.5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session of a run as the ledger knows it; hours are wall hours, which is what a quota counts."""

    session_id: str
    run: str
    gpu: str
    counts: bool
    host: str
    started: datetime.datetime
    last: datetime.datetime
    hours: float
    ended: bool
    planned_hours: float | None = None
    predicted_hours: float | None = None
    predicted_peak_gib: float | None = None
    peak_gib: float | None = None
    outcome: str = ""

    def is_running(self, now: datetime.datetime, session_hours: float) -> bool:
        """Whether it may still run: not ended, within a session's length, and heard of lately."""
        age = (now - self.started).total_seconds() / 3600.0
        silence = (now - self.last).total_seconds() / 3600.0
        return not self.ended and 0 <= age < session_hours and silence < STALE_HOURS


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Adds one line, synced to the disk; a line that a kill cut off is closed first, so that it spoils no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        broken = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        line = ("\n" if broken else "") + json.dumps(record, sort_keys=True) + "\n"
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """All complete records; lines that are none, or name no session, time or hours, are left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = parse_json(line.decode("utf-8"))
        except ValueError:
            continue
        if isinstance(record, dict) and _is_sound(record):
            records.append(record)
    return records


def _is_sound(record: Mapping[str, Any]) -> bool:
    """Whether a line says which session it is of, what happened, when (with a zone) and after how many hours."""
    if not {"session", "event", "time", "hours"} <= record.keys() or not isinstance(record["session"], str):
        return False
    figures = [record[name] for name in ("hours", *_FIGURES) if record.get(name) is not None]
    if any(isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6 for value in figures):
        return False
    try:
        return datetime.datetime.fromisoformat(record["time"]).utcoffset() is not None
    except (ValueError, TypeError):
        return False


def read_sessions(path: Path) -> list[Session]:
    """The sessions of a ledger in order of their start."""
    by_id: dict[str, dict[str, Any]] = {}
    for record in read_ledger(path):
        merged = by_id.setdefault(record["session"], {"hours": 0.0, "first": record["time"], "ended": False})
        merged.update({k: v for k, v in record.items() if k != "hours" and v is not None})
        merged["hours"] = max(merged["hours"], float(record["hours"]))
        merged["ended"] = merged["ended"] or record["event"] == "end"
    sessions = [
        Session(
            session_id=name,
            run=str(merged.get("run", "")),
            gpu=str(merged.get("gpu", "")),
            counts=bool(merged.get("counts", False)),
            host=str(merged.get("host", "")),
            started=datetime.datetime.fromisoformat(merged["first"]),
            last=datetime.datetime.fromisoformat(merged["time"]),
            hours=merged["hours"],
            ended=merged["ended"],
            planned_hours=merged.get("planned_hours"),
            predicted_hours=merged.get("predicted_hours"),
            predicted_peak_gib=merged.get("predicted_peak_gib"),
            peak_gib=merged.get("peak_gib"),
            outcome=str(merged.get("outcome", "")),
        )
        for name, merged in by_id.items()
    ]
    return sorted(sessions, key=lambda s: s.started)


class LedgerSession:
    """Writes the lines of one session; `clock` gives the current time, aware."""

    def __init__(
        self,
        path: Path,
        run: str,
        gpu: str,
        *,
        counts: bool,
        host: str | None = None,
        planned_hours: float | None = None,
        predicted_hours: float | None = None,
        predicted_peak_gib: float | None = None,
        clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(UTC),
    ) -> None:
        self.path, self.clock = path, clock
        self.session_id = uuid.uuid4().hex[:12]
        self.started = clock()
        self.facts = {"run": run, "gpu": gpu, "counts": counts, "host": host or platform.node()}
        self._write(
            "start",
            planned_hours=planned_hours,
            predicted_hours=predicted_hours,
            predicted_peak_gib=predicted_peak_gib,
        )

    @property
    def hours(self) -> float:
        """Wall hours since the start; none while a clock that was set back says that it lies ahead."""
        return max((self.clock() - self.started).total_seconds(), 0.0) / 3600.0

    def progress(self) -> None:
        """Notes the hours so far: what a kill after this loses is not in the ledger."""
        self._write("progress")

    def end(self, outcome: str, peak_gib: float | None = None) -> None:
        """Notes the end, why it came, and the highest memory."""
        self._write("end", outcome=outcome, peak_gib=peak_gib)

    def _write(self, event: str, **facts: Any) -> None:
        now = self.clock()
        known = {key: value for key, value in facts.items() if value is not None}
        base = {"session": self.session_id, "event": event, "time": now.isoformat(), "hours": round(self.hours, 5)}
        append_record(self.path, {**base, **self.facts, **known})
