"""What Kaggle itself says of the week's hours; the ledger answers where it cannot be asked."""

import datetime
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rnafold.errors import InputError
from rnafold.kaggle.client import connect
from rnafold.planner.quota.ledger import Session
from rnafold.planner.quota.rules import QuotaRules, QuotaState, join_counts, state_of_ledger, week_start


def read_state(
    sessions: Iterable[Session],
    rules: QuotaRules,
    now: datetime.datetime,
    *,
    offline: bool = False,
    login: Callable[[], Any] = connect,
) -> tuple[QuotaState, str]:
    """The state of the week and a note: by ledger and Kaggle together, or by the ledger alone and why.

    Args:
        sessions: of the ledger.
        rules: of the quota.
        now: aware.
        offline: whether Kaggle is left alone.
        login: gives the client.
    """
    ours = state_of_ledger(sessions, rules, now)
    if offline:
        return ours, "offline: hours are counted from the ledger"
    if not has_credentials():
        return ours, "no Kaggle credentials: hours are counted from the ledger"
    try:
        theirs = read_kaggle_quota(login(), rules, now)
    except InputError as error:
        return ours, f"{error}; hours are counted from the ledger"
    return join_counts(ours, theirs)


def has_credentials(environment: dict[str, str] | None = None, home: Path | None = None) -> bool:
    """Whether the kaggle client would find credentials; they are not read."""
    values = dict(os.environ) if environment is None else environment
    if values.get("KAGGLE_API_TOKEN") or (values.get("KAGGLE_USERNAME") and values.get("KAGGLE_KEY")):
        return True
    folder = Path(values.get("KAGGLE_CONFIG_DIR") or (home or Path.home()) / ".kaggle")
    return any((folder / name).is_file() for name in ("kaggle.json", "access_token"))


def read_kaggle_quota(client: Any, rules: QuotaRules, now: datetime.datetime) -> QuotaState:
    """The week's GPU hours as Kaggle counts them.

    Args:
        client: has `quota_view()`, as kaggle's client does.
        rules: for the time of the reset, should Kaggle not tell.
        now: aware.

    Raises:
        InputError: the client failed, or its answer holds no GPU quota.
    """
    try:
        answer = client.quota_view()
        quota = answer.gpu_quota
        used, total = _hours(quota.time_used), _hours(quota.total_time_allowed)
        reserved = _hours(getattr(quota, "time_reserved", None) or 0.0)
        refresh = answer.quota_refresh_time
    # The client raises requests', urllib3's and its own errors, and SystemExit; the ledger then answers instead.
    except (Exception, SystemExit) as error:
        raise InputError(f"Kaggle's quota cannot be read ({type(error).__name__}: {_one_line(error)})") from error
    if refresh is None:
        refresh = week_start(now, rules) + datetime.timedelta(days=7)
    elif refresh.tzinfo is None:
        refresh = refresh.replace(tzinfo=datetime.UTC)
    return QuotaState(total=total, used=used, reserved=reserved, resets_at=refresh, source="Kaggle")


def _hours(value: Any) -> float:
    if isinstance(value, datetime.timedelta):
        return value.total_seconds() / 3600.0
    if isinstance(value, str) and value.endswith("s"):
        # the service's own notation, "18000s"
        return float(value[:-1]) / 3600.0
    return float(value) / 3600.0


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
