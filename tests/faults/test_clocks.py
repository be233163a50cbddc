"""A clock that jumps breaks no run: durations come from one that cannot, the ledger never books less than nothing."""

import ast
import datetime
from pathlib import Path

from rnafold.planner.quota.ledger import LedgerSession, read_sessions
from rnafold.planner.quota.rules import load_rules, state_of_ledger

PACKAGE = Path(__file__).resolve().parents[2] / "rnafold"
START = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)


def test_a_clock_set_back_a_day_books_no_hours_less_than_none(tmp_path: Path) -> None:
    now = [START]
    session = LedgerSession(tmp_path / "ledger.jsonl", "run", "t4x2", counts=True, host="h", clock=lambda: now[0])
    for hours in (1, -24, 2):
        now[0] = START + datetime.timedelta(hours=hours)
        session.progress()
    (found,) = read_sessions(tmp_path / "ledger.jsonl")
    assert found.hours == 2.0
    assert state_of_ledger([found], load_rules(), START + datetime.timedelta(hours=3)).used >= 2.0


def test_a_session_from_the_future_is_not_taken_for_running(tmp_path: Path) -> None:
    LedgerSession(tmp_path / "ledger.jsonl", "run", "t4x2", counts=True, host="h", clock=lambda: START)
    (found,) = read_sessions(tmp_path / "ledger.jsonl")
    assert found.is_running(START, 12.0)
    assert not found.is_running(START - datetime.timedelta(days=1), 12.0)


def test_no_duration_is_measured_by_a_clock_that_can_be_set() -> None:
    """`time.time` tells the date; what takes how long is asked of `time.monotonic` and its like.

    The processes of a team share no such clock: they look at how old each other's claims are.
    """
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "time" and isinstance(node.value, ast.Name):
                found += [f"{path.relative_to(PACKAGE)}:{node.lineno}"] if node.value.id == "time" else []
    assert {place.partition(":")[0] for place in found} <= {"prediction/team.py"}
