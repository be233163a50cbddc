"""One owner of a run folder's names, steps and newest checkpoint."""

import ast
from pathlib import Path

import pytest

from rnafold.errors import InputError
from rnafold.files.run_folder import CheckpointFolder, RunFolder, find_damage

PACKAGE = Path(__file__).resolve().parents[2] / "rnafold"
NAMES = {
    "config.yaml", "run.json", "plan.json", "metrics.jsonl", "checkpoints", "LATEST", "best.safetensors",
    "tensorboard", "report.html", "best.md", "manifest.json", "state.json", "step_*",
}  # fmt: skip


def save(checkpoints: CheckpointFolder, step: int, keep: int = 9) -> Path:
    folder = checkpoints.at(step)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"tensors")
    checkpoints.write_state(folder, {"train": {"step": step}})
    checkpoints.announce(step, keep)
    return folder


def test_the_newest_checkpoint_is_the_latest_complete_one(tmp_path: Path) -> None:
    checkpoints = RunFolder(tmp_path).checkpoints
    assert checkpoints.newest() is None and checkpoints.steps() == []
    for step in (5, 10, 100):
        save(checkpoints, step)
    assert checkpoints.newest() == 100
    (checkpoints.at(100) / "model.safetensors").write_bytes(b"tensor")
    assert checkpoints.newest() == 10
    assert checkpoints.state(10) == {"train": {"step": 10}}


def test_a_pointer_to_an_earlier_step_comes_first(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path)
    save(checkpoints, 1)
    save(checkpoints, 2)
    (tmp_path / "LATEST").write_text("step_00000001\n")
    assert checkpoints.candidates() == [1, 2]
    (tmp_path / "LATEST").write_text("step_0000")
    assert checkpoints.candidates() == [2, 1]


def test_announcing_removes_old_steps_and_what_kills_left(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path)
    (tmp_path / ".step_00000003.0123456789ab.tmp").mkdir()
    (tmp_path / "step_by_hand").mkdir()
    for step in (1, 2, 3):
        save(checkpoints, step, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["LATEST", "step_00000002", "step_00000003", "step_by_hand"]


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "manifest.json"])
def test_a_missing_file_is_damage(tmp_path: Path, name: str) -> None:
    folder = save(CheckpointFolder(tmp_path), 1)
    assert find_damage(folder) is None
    (folder / name).unlink()
    assert find_damage(folder) is not None


def test_a_state_that_is_no_object_is_one_line(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path)
    folder = save(checkpoints, 1)
    (folder / "state.json").write_text("[1]")
    with pytest.raises(InputError, match="found a list, expected a JSON object"):
        checkpoints.state(1)


def test_the_names_of_a_run_folder_stand_in_one_module() -> None:
    """A bundle has a manifest.json too, a part of the hours is "checkpoints", a package is "tensorboard"."""
    allowed = {"files/run_folder.py": NAMES, "kaggle/bundle.py": {"manifest.json"}}
    allowed |= {"planner/time/hours.py": {"checkpoints"}, "errors.py": {"tensorboard"}}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = str(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in NAMES - allowed.get(own, set()):
                found.append(f"{own}:{node.lineno}: {node.value}")
    assert not found
