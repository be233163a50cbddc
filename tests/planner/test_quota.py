"""Weeks, sessions, slots, reserve and the ledger, all on a fake clock; Kaggle's client is a stand-in."""

import datetime
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafold.cli.main import main
from rnafold.errors import ConfigError, InputError
from rnafold.kaggle.quota import has_credentials, read_kaggle_quota, read_state
from rnafold.planner.quota.ledger import LedgerSession, Session, append_record, read_ledger, read_sessions
from rnafold.planner.quota.rules import (
    QuotaState,
    count_runs,
    cut_sessions,
    load_rules,
    schedule_runs,
    state_of_ledger,
    week_start,
)

UTC = datetime.UTC
RULES = load_rules()
# 2026-11-21 is a Saturday: the week begins there at 00:00 UTC.
SATURDAY = datetime.datetime(2026, 11, 21, tzinfo=UTC)


def hours(count: float) -> datetime.timedelta:
    return datetime.timedelta(hours=count)


def session(start: datetime.datetime, length: float, *, ended: bool = True, host: str = "a", **more: object) -> Session:
    values = {"session_id": "s", "run": "r", "gpu": "t4x2", "counts": True, **more}
    return Session(host=host, started=start, last=start + hours(length), hours=length, ended=ended, **values)  # type: ignore[arg-type]


class FakeClock:
    def __init__(self, now: datetime.datetime) -> None:
        self.now = now

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.mark.parametrize(
    ("now", "start"),
    [
        (SATURDAY, SATURDAY),
        (SATURDAY - datetime.timedelta(seconds=1), SATURDAY - datetime.timedelta(days=7)),
        (SATURDAY + datetime.timedelta(days=6, hours=23), SATURDAY),
        # 01:00 at UTC+2 on Saturday is still Friday in UTC
        (datetime.datetime(2026, 11, 21, 1, tzinfo=datetime.timezone(hours(2))), SATURDAY - datetime.timedelta(days=7)),
    ],
    ids=["at the reset", "a second before", "friday evening", "another zone"],
)
def test_the_week_begins_on_saturday_in_utc(now: datetime.datetime, start: datetime.datetime) -> None:
    assert week_start(now, RULES) == start


def test_a_reset_in_the_middle_of_the_day_belongs_to_the_week_before_until_its_hour() -> None:
    rules = load_rules(overrides=["quota.reset_hour_utc=12"])
    assert week_start(SATURDAY + hours(11), rules) == SATURDAY - datetime.timedelta(days=7) + hours(12)
    assert week_start(SATURDAY + hours(12), rules) == SATURDAY + hours(12)


def test_a_session_over_the_reset_counts_with_its_part_of_this_week() -> None:
    # 22:00 on Friday, 5 hours: 3 of them after midnight
    found = state_of_ledger([session(SATURDAY - hours(2), 5.0)], RULES, SATURDAY + hours(10))
    assert found.used == pytest.approx(3.0)
    assert found.left == pytest.approx(27.0)
    assert found.resets_at == SATURDAY + datetime.timedelta(days=7)


def test_after_the_reset_nothing_is_used() -> None:
    old = session(SATURDAY - hours(30), 11.0)
    assert state_of_ledger([old], RULES, SATURDAY - hours(1)).used == pytest.approx(11.0)
    assert state_of_ledger([old], RULES, SATURDAY).used == 0.0


def test_sessions_on_two_slots_add_up_and_those_on_one_machine_are_one_bill() -> None:
    both = [session(SATURDAY + hours(1), 4.0, host="a"), session(SATURDAY + hours(3), 4.0, host="b")]
    assert state_of_ledger(both, RULES, SATURDAY + hours(20)).used == pytest.approx(8.0)
    # on one machine 1..5 and 3..7 are the six hours 1..7
    one = [session(SATURDAY + hours(1), 4.0), session(SATURDAY + hours(3), 4.0)]
    assert state_of_ledger(one, RULES, SATURDAY + hours(20)).used == pytest.approx(6.0)


def test_a_running_session_counts_until_now_and_reserves_the_rest_of_its_plan() -> None:
    running = session(SATURDAY + hours(1), 2.0, ended=False, planned_hours=9.0)
    now = SATURDAY + hours(4)  # heard of an hour ago
    found = state_of_ledger([running], RULES, now)
    assert found.used == pytest.approx(3.0)
    assert found.reserved == pytest.approx(6.0)
    assert found.left == pytest.approx(21.0)
    assert state_of_ledger([running], RULES, now, own_host="a").reserved == 0.0


def test_a_session_that_fell_silent_is_dead_and_counts_what_it_said() -> None:
    killed = session(SATURDAY + hours(1), 2.0, ended=False, planned_hours=9.0)
    found = state_of_ledger([killed], RULES, SATURDAY + hours(6))
    assert found.used == pytest.approx(2.0) and found.reserved == 0.0


def test_runs_on_ones_own_machine_take_nothing_from_the_quota() -> None:
    own = session(SATURDAY + hours(1), 10.0, counts=False)
    assert state_of_ledger([own], RULES, SATURDAY + hours(12)).used == 0.0


def test_a_run_within_a_session_is_not_cut() -> None:
    (only,) = cut_sessions(10.9, 0.5, RULES)
    assert (only.hours, only.resumes_at_hours) == (10.9, 0.0)


def test_a_long_run_is_cut_at_eleven_hours_and_pays_each_resume() -> None:
    # 25 h of which 1 h before training: 24 h of training, 10 in the first session;
    # then 11 h - 0.1 h resume = 10.9, leaving 3.1 + 0.1 for the third
    parts = cut_sessions(25.0, 1.0, RULES, epochs=48.0)
    assert [p.hours for p in parts] == pytest.approx([11.0, 11.0, 3.2])
    assert [p.resumes_at_hours for p in parts] == pytest.approx([0.0, 10.0, 20.9])
    assert [p.resumes_at_epoch for p in parts] == pytest.approx([0.0, 20.0, 41.8])
    assert sum(p.hours for p in parts) == pytest.approx(25.0 + 2 * 0.1)
    assert all(p.hours <= RULES.planned_session_hours + 1e-9 for p in parts)


def test_preparation_that_fills_a_session_is_refused() -> None:
    with pytest.raises(InputError, match="ends before training begins"):
        cut_sessions(20.0, 11.5, RULES)


@given(st.floats(0.1, 200.0), st.floats(0.0, 5.0), st.floats(0.0, 60.0))
def test_sessions_hold_the_whole_training_and_never_exceed_the_cap(total: float, share: float, minutes: float) -> None:
    overhead = min(share, total / 2)
    rules = load_rules(overrides=[f"quota.resume_minutes={minutes:.3f}"])
    parts = cut_sessions(total, overhead, rules)
    resumes = (len(parts) - 1) * rules.resume_minutes / 60
    assert sum(p.hours for p in parts) == pytest.approx(total + resumes, rel=1e-6)
    assert max(p.hours for p in parts) <= rules.planned_session_hours + 1e-6


def state(left: float) -> QuotaState:
    return QuotaState(total=30.0, used=30.0 - left, reserved=0.0, resets_at=SATURDAY, source="test")


@pytest.mark.parametrize(
    ("left", "each", "expected"),
    [
        # 30 / 6 = 5 possible; (30 - 8) / 6 = 3.67 advised
        (30.0, 6.0, (5, 3)),
        # exactly: 8 h of reserve and 2 x 11
        (30.0, 11.0, (2, 2)),
        # the reserve alone is left: possible, not advised
        (8.0, 4.0, (2, 0)),
        (30.0, 0.1, (300, 4)),
        (0.0, 1.0, (0, 0)),
    ],
    ids=["some", "exact", "reserve only", "many", "none"],
)
def test_the_reserve_is_kept_from_the_runs_advised(left: float, each: float, expected: tuple[int, int]) -> None:
    assert count_runs(state(left), each, RULES) == expected


def test_runs_are_dealt_to_two_slots_and_keep_theirs() -> None:
    parts = cut_sessions(15.0, 0.0, RULES)  # 11 + 4.1
    planned = schedule_runs(parts, 3, RULES)
    by_run = {run: [p for p in planned if p.run == run] for run in (1, 2, 3)}
    assert [p.slot for p in by_run[1] + by_run[2]] == [0, 0, 1, 1]
    assert [p.starts_after_hours for p in by_run[1]] == pytest.approx([0.0, 11.0])
    assert by_run[3][0].starts_after_hours == pytest.approx(15.1)
    for slot in (0, 1):
        own = sorted((p for p in planned if p.slot == slot), key=lambda p: p.starts_after_hours)
        assert all(a.starts_after_hours + a.hours <= b.starts_after_hours + 1e-9 for a, b in itertools.pairwise(own))


@pytest.mark.parametrize(
    "override",
    ["quota.reserve_hours=31", "quota.planned_session_hours=13", "quota.weekly_hours=0", "quota.reset_weekday=7"],
)
def test_rules_out_of_range_are_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        load_rules(overrides=[override])


def client(used: object, total: object, reserved: object = None, refresh: datetime.datetime | None = None) -> object:
    quota = SimpleNamespace(time_used=used, total_time_allowed=total, time_reserved=reserved)
    return SimpleNamespace(quota_view=lambda: SimpleNamespace(gpu_quota=quota, quota_refresh_time=refresh))


def test_kaggles_figure_is_read_minus_what_is_reserved() -> None:
    found = read_kaggle_quota(client(hours(5), hours(30), hours(11)), RULES, SATURDAY + hours(3))
    assert (found.used, found.reserved, found.left) == (5.0, 11.0, 14.0)
    assert found.resets_at == SATURDAY + datetime.timedelta(days=7)


@pytest.mark.parametrize("used", [hours(2), "7200s", 7200], ids=["timedelta", "text", "seconds"])
def test_kaggle_may_say_hours_in_three_ways(used: object) -> None:
    naive = datetime.datetime(2026, 11, 28)
    found = read_kaggle_quota(client(used, hours(30), refresh=naive), RULES, SATURDAY)
    assert found.used == pytest.approx(2.0)
    assert found.resets_at == datetime.datetime(2026, 11, 28, tzinfo=UTC)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some that no test sends anywhere."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "none")


def test_the_ledger_answers_when_kaggle_does_not(credentials: None) -> None:
    def fail() -> object:
        raise ConnectionError("no route\nto host")

    now = SATURDAY + hours(10)
    found, note = read_state([session(SATURDAY, 4.0)], RULES, now, login=lambda: SimpleNamespace(quota_view=fail))
    assert found.used == pytest.approx(4.0)
    assert "ConnectionError: no route to host" in note and "ledger" in note


def test_an_answer_without_gpu_quota_is_a_failure_too() -> None:
    answer = SimpleNamespace(gpu_quota=None, quota_refresh_time=None)
    with pytest.raises(InputError, match="cannot be read"):
        read_kaggle_quota(SimpleNamespace(quota_view=lambda: answer), RULES, SATURDAY)


def test_a_client_that_exits_without_credentials_does_not_end_the_program(credentials: None) -> None:
    def leave() -> object:
        raise SystemExit(1)

    found, note = read_state([], RULES, SATURDAY, login=lambda: SimpleNamespace(quota_view=leave))
    assert found.source == "the ledger" and "SystemExit" in note


def test_the_larger_count_of_hours_is_taken(credentials: None) -> None:
    now = SATURDAY + hours(10)
    ours = [session(SATURDAY, 6.0)]
    behind, note = read_state(ours, RULES, now, login=lambda: client(hours(5), hours(30)))
    assert behind.used == pytest.approx(6.0) and "ahead of Kaggle" in note
    ahead, note = read_state(ours, RULES, now, login=lambda: client(hours(9), hours(30)))
    assert ahead.used == 9.0 and "as Kaggle counts" in note


def test_credentials_are_looked_for_where_the_client_does(tmp_path: Path) -> None:
    assert not has_credentials({}, tmp_path)
    assert has_credentials({"KAGGLE_USERNAME": "x", "KAGGLE_KEY": "y"}, tmp_path)
    assert not has_credentials({"KAGGLE_USERNAME": "x"}, tmp_path)
    assert has_credentials({"KAGGLE_API_TOKEN": "x"}, tmp_path)
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text("{}")
    assert has_credentials({}, tmp_path)
    assert not has_credentials({"KAGGLE_CONFIG_DIR": str(tmp_path / "elsewhere")}, tmp_path)


def test_without_credentials_kaggle_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    assert main(["quota", "--ledger", str(tmp_path / "none.jsonl"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["left"] == 30.0 and "no Kaggle credentials" in answer["note"]


def test_the_ledger_tells_planned_and_actual_hours_of_each_session(tmp_path: Path) -> None:
    clock, path = FakeClock(SATURDAY), tmp_path / "runs" / "ledger.jsonl"
    first = LedgerSession(
        path,
        "base-t4x2",
        "t4x2",
        counts=True,
        planned_hours=3.0,
        predicted_hours=3.0,
        predicted_peak_gib=3.1,
        clock=clock,
    )
    clock.now += hours(1.5)
    first.progress()
    clock.now += hours(1.0)
    first.end("epochs", peak_gib=3.0)
    (found,) = read_sessions(path)
    assert (found.hours, found.predicted_hours, found.peak_gib, found.predicted_peak_gib) == (2.5, 3.0, 3.0, 3.1)
    assert found.ended and found.outcome == "epochs" and found.started == SATURDAY


def test_a_line_cut_off_by_a_kill_spoils_neither_the_past_nor_the_future(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    clock = FakeClock(SATURDAY)
    LedgerSession(path, "one", "t4", counts=True, clock=clock).end("epochs")
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1])):
        path.write_bytes(whole[:-cut])
        known = len(read_ledger(path))
        append_record(path, {"session": "two", "event": "start", "time": SATURDAY.isoformat(), "hours": 0.0})
        assert len(read_ledger(path)) == known + 1
        assert read_sessions(path)[-1].session_id == "two"


def test_a_process_killed_while_writing_leaves_a_readable_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    code = (
        "import sys, pathlib\n"
        "from rnafold.planner.quota.ledger import LedgerSession\n"
        "s = LedgerSession(pathlib.Path(sys.argv[1]), 'run', 't4', counts=True)\n"
        "print('up', flush=True)\n"
        "while True: s.progress()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    while not path.is_file() or path.read_bytes().count(b"\n") < 2:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = len(read_ledger(path))
    LedgerSession(path, "next", "t4", counts=True)
    assert before >= 2
    assert {s.run for s in read_sessions(path)} == {"run", "next"}


def test_quota_prints_used_left_and_each_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ledger.jsonl"
    now = datetime.datetime.now(UTC)
    LedgerSession(path, "base-t4", "t4", counts=True, predicted_hours=2.0, clock=FakeClock(now)).end("epochs")
    assert main(["quota", "--offline", "--ledger", str(path), "--set", "quota.weekly_hours=12"]) == 0
    text = capsys.readouterr().out
    assert "12.00 left of 12" in text and "planned 2.000 h" in text and "epochs" in text


def test_quota_needs_no_torch_and_is_quick(tmp_path: Path) -> None:
    code = (
        "import sys; from rnafold.cli.main import main; "
        f"main(['quota', '--offline', '--ledger', {str(tmp_path / 'x.jsonl')!r}]); "
        "sys.exit(int('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
