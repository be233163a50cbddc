"""Arrays computed in processes: a limit ends the work, however much is still to be done."""

import time
from pathlib import Path

import pytest

from rnafold.features.cache import compute_all


def _write(number: int, path: Path) -> None:
    time.sleep(0.01)
    path.write_text(str(number))


@pytest.mark.parametrize("jobs", [1, 2])
def test_everything_is_made(tmp_path: Path, jobs: int) -> None:
    compute_all(_write, [(n, tmp_path / str(n)) for n in range(7)], jobs, "numbers")
    assert sorted(int(path.read_text()) for path in tmp_path.iterdir()) == list(range(7))


@pytest.mark.parametrize("jobs", [1, 2])
def test_after_the_limit_nothing_is_begun_and_what_was_begun_is_finished(tmp_path: Path, jobs: int) -> None:
    # the call comes back although hundreds are waiting: cancelled futures would be waited for without end
    compute_all(_write, [(n, tmp_path / str(n)) for n in range(400)], jobs, "numbers", limit_seconds=0.05)
    made = sorted(int(path.read_text()) for path in tmp_path.iterdir())
    assert made == list(range(len(made))) and len(made) < 400
