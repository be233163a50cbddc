"""Killed, stopped and starved runs of the command line lose nothing. Long: `make faults`."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnafold.files.run_folder import RunFolder, find_damage
from tests.faults import kills
from tests.faults.kills import Bench
from tests.faults.workshop import find_half_written, open_workshop

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("faults")
    with open_workshop(folder) as workshop:
        yield kills.set_up(workshop, folder)


@pytest.fixture
def place(bench: Bench) -> Path:
    """An empty folder by the name that the judges know."""
    path = bench.folder / "killed"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def test_a_training_killed_at_any_moment_ends_bit_for_bit_as_without(bench: Bench) -> None:
    kills.kill_trainings(bench, 3, seed=0).require_all(3)


def test_a_submission_is_valid_at_every_moment_of_a_prediction_that_is_killed(bench: Bench) -> None:
    kills.kill_predictions(bench, 1, seed=0).require_all(1)


def test_a_training_without_disk_space_is_one_line_and_goes_on_when_there_is_room(bench: Bench) -> None:
    kills.starve_trainings(bench, 2, seed=0).require_all(2)


def test_a_damaged_newest_checkpoint_costs_its_steps_alone(bench: Bench) -> None:
    kills.damage_checkpoints(bench, 20, seed=0, resumed=1).require_all(20)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_stops_a_training_with_a_checkpoint_and_a_second_one_at_once(
    bench: Bench, place: Path, name: str
) -> None:
    """With so many epochs that it would not end by itself; the signals come after the first checkpoint."""
    epochs = ("train.epochs=500", "train.evaluate_every_epochs=500", "train.log_every_steps=500")
    checkpoints = RunFolder(place / "run").checkpoints
    first = str(checkpoints.path / "LATEST")
    asked = bench.workshop.run(bench.train(place, *epochs), signal_when=[(first, name)])
    assert (asked.code, asked.has_traceback) == (0, False), asked.output
    assert f"{name}: stopping after this step" in asked.output
    shutil.rmtree(place / "run")
    twice = bench.workshop.run(bench.train(place, *epochs), signal_when=[(first, name), (first, name)])
    assert twice.code in (-2, -15, 0) and not twice.has_traceback, twice.output
    assert checkpoints.newest() is not None
    assert all(find_damage(checkpoints.at(step)) is None for step in checkpoints.steps())


def test_a_training_stopped_before_its_first_step_goes_on(bench: Bench, place: Path) -> None:
    asked = bench.workshop.run(bench.train(place), signal_when=[(str(place / "run" / "run.json"), "SIGTERM")])
    assert asked.code in (0, -15) and not asked.has_traceback, asked.output
    ended = bench.workshop.run(bench.train(place, "--resume"))
    assert kills.judge_training(bench, place, ended, ["SIGTERM before the first step"]) == ""


def test_a_full_file_system_is_one_line(bench: Bench, tmp_path: Path) -> None:
    """A file system of its own, where one can be mounted: of 400 kB, less than a run leaves."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        full = bench.workshop.run(bench.train(disk, "--resume"))
        assert (full.code, full.has_traceback) == (2, False), full.output
        assert "cannot be written (No space left on device)" in full.output
        assert not find_half_written(disk)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert bench.workshop.run(bench.train(disk, "--resume")).code == 0
        weights = (disk / "run" / kills.WEIGHTS).read_bytes()
        assert weights == (bench.run / kills.WEIGHTS).read_bytes()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        closed = bench.workshop.run(bench.predict(disk))
        assert (closed.code, closed.has_traceback) == (2, False), closed.output
    finally:
        subprocess.run(["umount", disk], check=True)


def test_kills_are_drawn_from_all_kinds(bench: Bench) -> None:
    rng = random.Random(0)
    kinds = {kills.draw_kill(rng, bench.trained, bench.train_changes, 1000, bench.folder)[0] for _ in range(50)}
    assert kinds == {"moment", "change", "write"}
