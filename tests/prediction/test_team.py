"""Several processes share the targets of one prediction: each is done once, and a death costs one target."""

from pathlib import Path

import numpy as np
import pytest

from rnafold.data.competition import read_targets
from rnafold.data.demo import write_demo_data
from rnafold.prediction import team as team_module
from rnafold.prediction.deadline import run_targets
from rnafold.prediction.team import Alone, SharedFolder, Team, join_team
from rnafold.structure import Candidate, Target
from rnafold.submission import check_submission, list_defects, read_sample, read_submission
from tests.pieces.machines import launch_on_two_machines


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_demo_data(tmp_path / "data", num_train=6, num_test=4)
    return tmp_path / "data"


def solve_as(rank: int) -> "object":
    def solve(target: Target, seconds: float) -> list[Candidate]:
        points = np.cumsum(np.full((target.length, 3), 3.0), axis=0) + rank
        return [Candidate(coords=points, origin="assembly", confidence=0.1) for _ in range(5)]

    return solve


def run_as(team: Team, data: Path, out: Path, rank: int) -> "object":
    targets = read_targets(data / "test_sequences.csv")
    sample = read_sample(data / "sample_submission.csv")
    return run_targets(targets, sample, out, solve_as(rank), deadline_seconds=30.0, team=team)  # type: ignore[arg-type]


def test_a_target_is_claimed_once_and_its_result_read_once(tmp_path: Path) -> None:
    one, other = (SharedFolder(tmp_path, rank, 2) for rank in range(2))
    assert one.claim("a") and not other.claim("a") and other.claim("b")
    assert one.is_waiting() and other.is_waiting()
    other.put("b", np.ones((5, 3, 3)), [])
    assert [name for name, _, _ in one.collect()] == ["b"] and not list(one.collect())
    assert not one.is_waiting() and other.is_waiting()
    # a second start goes on: what is done stays done, what was begun is free again
    again = SharedFolder(tmp_path, 0, 2, attempt=1)
    assert not again.claim("b") and again.claim("a")
    for team in (one, other, again):
        team.leave()


def test_nobody_waits_for_a_dead_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (SharedFolder(tmp_path, rank, 2) for rank in range(2))
    assert other.claim("b") and one.is_waiting()
    other.leave()
    assert not one.is_waiting()
    one.leave()


def test_two_processes_make_one_submission_and_only_the_main_one_writes_it(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    one, other = (SharedFolder(folder, rank, 2) for rank in range(2))
    targets = read_targets(data / "test_sequences.csv")
    # the other is at a target of its own when the main one begins, and leaves its result while that one works
    assert other.claim(targets[0].target_id)
    points = np.full((5, targets[0].length, 3), 7.0) + np.arange(targets[0].length)[:, None] * 3.0
    other.put(targets[0].target_id, points, [])
    run_as(other, data, tmp_path / "never.csv", 1)
    assert not (tmp_path / "never.csv").exists()
    run_as(one, data, tmp_path / "out.csv", 0)
    assert list_defects(check_submission(tmp_path / "out.csv", data / "sample_submission.csv")) == []
    rows = read_submission(tmp_path / "out.csv")
    # all were done by the other process, whose chains begin at 3 + 1, but the first at 7
    firsts = {identifier: rows.coords[k, 0, 0] for k, identifier in enumerate(rows.ids) if identifier.endswith("_1")}
    assert firsts[f"{targets[0].target_id}_1"] == 7.0
    assert {value for name, value in firsts.items() if not name.startswith(f"{targets[0].target_id}_")} == {4.0}
    one.leave()
    other.leave()


def test_alone_there_is_no_folder_and_nothing_to_wait_for(tmp_path: Path) -> None:
    with join_team(tmp_path / "out.csv", True, {}) as team:
        assert isinstance(team, Alone) and team.claim("a") and not team.is_waiting() and not list(team.collect())
    assert not list(tmp_path.iterdir())
    assert team_module.SILENT_SECONDS > 3 * team_module.HEARTBEAT_SECONDS


@pytest.mark.slow
def test_two_machines_deal_the_targets_over_their_processes(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission.csv"
    arguments = ["predict", "--gpu", "cpu", "--test", str(data / "test_sequences.csv")]
    arguments += ["--sample", str(data / "sample_submission.csv"), "--out", str(out), "--templates", str(data)]
    arguments += ["--no-network", "--deadline-minutes", "3", "--cache", str(tmp_path / "cache")]
    main, other = launch_on_two_machines(arguments, 29731)
    assert list_defects(check_submission(out, data / "sample_submission.csv")) == []
    assert "process 1 of 2" in main and "process 2 of 2" in other
    assert "4 targets in" in main, "the main process counts those of both"
    assert not list(tmp_path.glob(".submission.csv.ranks"))
