"""The weekly quota: what is left of it, how a run is cut into sessions, how many runs fit and how many are advised."""

import dataclasses
import datetime
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from rnafold.config.building import build
from rnafold.config.machine_use import check_positive
from rnafold.config.strict_yaml import apply_overrides, load_named
from rnafold.errors import InputError
from rnafold.planner.quota.ledger import Session

# More runs than this of one configuration teach little: an ensemble of seeds gains little beyond a handful.
MOST_ADVISED = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRules:
    """Rules of a weekly quota (configs/quota/NAME.yaml). `reset_weekday`: 0 Monday .. 6 Sunday, in UTC."""

    weekly_hours: float
    session_hours: float
    planned_session_hours: float
    max_sessions: int
    reserve_hours: float
    reset_weekday: int
    reset_hour_utc: int
    resume_minutes: float
    source: str

    def __post_init__(self) -> None:
        check_positive(self, "weekly_hours", "session_hours", "planned_session_hours", "max_sessions")
        if self.planned_session_hours > self.session_hours:
            raise ValueError(f"planned_session_hours: found {self.planned_session_hours}, above session_hours")
        if not 0 <= self.reserve_hours <= self.weekly_hours:
            raise ValueError(f"reserve_hours: found {self.reserve_hours}, expected 0 to {self.weekly_hours}")
        if not (0 <= self.reset_weekday <= 6 and 0 <= self.reset_hour_utc <= 23):
            raise ValueError("reset_weekday: expected 0 (Monday) to 6; reset_hour_utc 0 to 23")
        if not 0 <= self.resume_minutes < 60 * self.planned_session_hours:
            raise ValueError(f"resume_minutes: found {self.resume_minutes}, expected less than a session")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuotaState:
    """Hours of the current week. `reserved` is held by sessions that run now, beyond what they have used."""

    total: float
    used: float
    reserved: float
    resets_at: datetime.datetime
    source: str

    @property
    def left(self) -> float:
        """Hours that can still be spent before the reset."""
        return max(self.total - self.used - self.reserved, 0.0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSession:
    """One session of a run; `resumes_at_hours` is the training time done when it begins (0 for the first)."""

    run: int
    slot: int
    starts_after_hours: float
    hours: float
    resumes_at_hours: float
    resumes_at_epoch: float


def load_rules(name: str = "kaggle", overrides: Sequence[str] = ()) -> QuotaRules:
    """The rules of configs/quota/NAME.yaml with `quota.KEY=VALUE` overrides.

    Raises:
        ConfigError: an unknown name, key or value.
    """
    inner = [text.removeprefix("quota.") for text in overrides]
    return build(QuotaRules, apply_overrides(load_named("quota", name), inner), f"quota {name}")


def week_start(now: datetime.datetime, rules: QuotaRules) -> datetime.datetime:
    """The latest reset at or before `now` (aware, any zone); in UTC."""
    moment = now.astimezone(datetime.UTC)
    day = moment.date() - datetime.timedelta(days=(moment.weekday() - rules.reset_weekday) % 7)
    start = datetime.datetime.combine(day, datetime.time(rules.reset_hour_utc), datetime.UTC)
    return start if start <= moment else start - datetime.timedelta(days=7)


def state_of_ledger(
    sessions: Iterable[Session], rules: QuotaRules, now: datetime.datetime, own_host: str | None = None
) -> QuotaState:
    """Hours used since the reset by the ledger: of each session the part in this week.

    Sessions that overlap on one host are one bill: a kernel and the training inside it, or two runs on two cards.
    A session that may still run reserves the rest of its planned hours, unless it is on `own_host`: then it is ours.
    """
    start = week_start(now, rules)
    end = start + datetime.timedelta(days=7)
    spans: dict[str, list[tuple[datetime.datetime, datetime.datetime]]] = {}
    reserved: dict[str, float] = {}
    for session in sessions:
        if not session.counts:
            continue
        running = session.is_running(now, rules.session_hours)
        stop = now if running else session.started + datetime.timedelta(hours=session.hours)
        span = (max(session.started, start), min(stop, end, now))
        if span[0] < span[1]:
            spans.setdefault(session.host, []).append(span)
        if running and session.host != own_host:
            planned = min(session.planned_hours or rules.planned_session_hours, rules.session_hours)
            rest = max(min(planned - _between(session.started, now), _between(now, end)), 0.0)
            reserved[session.host] = max(reserved.get(session.host, 0.0), rest)
    used = sum(_length_of_union(found) for found in spans.values())
    return QuotaState(
        total=rules.weekly_hours, used=used, reserved=sum(reserved.values()), resets_at=end, source="the ledger"
    )


def _length_of_union(spans: Sequence[tuple[datetime.datetime, datetime.datetime]]) -> float:
    total, reached = 0.0, None
    for first, last in sorted(spans):
        begin = first if reached is None else max(first, reached)
        total += max(_between(begin, last), 0.0)
        reached = last if reached is None else max(reached, last)
    return total


def _between(first: datetime.datetime, second: datetime.datetime) -> float:
    return (second - first).total_seconds() / 3600.0


def join_counts(ours: QuotaState, theirs: QuotaState) -> tuple[QuotaState, str]:
    """The week by the ledger and by Kaggle as one, and a note.

    Kaggle's figure lags behind; the larger of both counts of used hours is taken.
    """
    used = max(theirs.used, ours.used)
    note = "as Kaggle counts them" if theirs.used >= ours.used else "by the ledger, which is ahead of Kaggle"
    reserved = max(theirs.reserved, ours.reserved)
    return dataclasses.replace(theirs, used=used, reserved=reserved), f"hours {note}"


def cut_sessions(hours: float, overhead_hours: float, rules: QuotaRules, epochs: float = 0.0) -> list[PlannedSession]:
    """One run cut into sessions: each later one pays the resume again.

    Args:
        hours: of the whole run in one piece.
        overhead_hours: of `hours`, what passes before training (start-up, preparation).
        rules: session length and resume time.
        epochs: of the run, to say at which epoch each session resumes.
    """
    cap, resume = rules.planned_session_hours, rules.resume_minutes / 60.0
    if hours <= cap:
        return [_session(hours, 0.0, 0.0)]
    training = max(hours - overhead_hours, 1e-9)
    sessions: list[PlannedSession] = []
    done = start = 0.0
    while done < training - 1e-9:
        paid = resume if sessions else overhead_hours
        room = cap - paid
        if room <= 0:
            raise InputError(
                f"a session of {cap:g} h ends before training begins: start-up and preparation take {paid:.1f} h"
            )
        part = min(room, training - done)
        sessions.append(_session(part + paid, start, done, epochs * done / training))
        done, start = done + part, start + part + paid
    return sessions


def _session(hours: float, start: float, done: float, epoch: float = 0.0) -> PlannedSession:
    return PlannedSession(
        run=1, slot=0, starts_after_hours=start, hours=hours, resumes_at_hours=done, resumes_at_epoch=epoch
    )


def count_runs(state: QuotaState, hours_per_run: float, rules: QuotaRules) -> tuple[int, int]:
    """(runs that the hours left could pay, runs advised): the reserve is kept, and four of a kind are enough."""
    if hours_per_run <= 0:
        return 0, 0
    possible = math.floor(state.left / hours_per_run + 1e-9)
    free = max(state.left - rules.reserve_hours, 0.0)
    return possible, min(math.floor(free / hours_per_run + 1e-9), MOST_ADVISED)


def schedule_runs(sessions: Sequence[PlannedSession], runs: int, rules: QuotaRules) -> list[PlannedSession]:
    """Sessions of several equal runs over the slots: a run keeps its slot, the next takes the one free first."""
    free = [0.0] * rules.max_sessions
    planned = []
    for run in range(1, runs + 1):
        slot = min(range(len(free)), key=lambda k: free[k])
        for session in sessions:
            planned.append(dataclasses.replace(session, run=run, slot=slot, starts_after_hours=free[slot]))
            free[slot] += session.hours
    return planned


def state_to_json(state: QuotaState) -> dict[str, Any]:
    """The state as JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(state), default=str))
    return {**plain, "left": round(state.left, 4)}
