"""Inputs are found wherever Kaggle mounts them; an earlier run is carried over whole."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rnafold.config.settings import resolve_config
from rnafold.config.strict_yaml import dump
from rnafold.data.demo import write_demo_data
from rnafold.errors import InputError
from rnafold.files.weights_header import read_weights_description
from rnafold.kaggle.inputs import (
    copy_earlier_run,
    find_competition,
    find_earlier_run,
    find_weights,
)
from rnafold.training.checkpoint import Checkpoint, save_checkpoint

NEEDED = ("test_sequences", "sample_submission")


@pytest.mark.parametrize("where", ["rna-3d", "competitions/rna-3d", "."], ids=["flat", "nested", "at the root"])
def test_a_competition_is_found_under_both_mount_schemes(tmp_path: Path, where: str) -> None:
    write_demo_data(tmp_path / where, num_train=1, num_test=1)
    found = find_competition(tmp_path, NEEDED)
    assert found.test_sequences == tmp_path / where / "test_sequences.csv"
    assert found.train_labels == tmp_path / where / "train_labels.csv"


def test_two_competitions_are_told_apart_by_name_or_refused(tmp_path: Path) -> None:
    for name in ("part-1", "part-2"):
        write_demo_data(tmp_path / name, num_train=1, num_test=1)
    with pytest.raises(InputError, match="found in 2 folders: part-1, part-2; name the one meant"):
        find_competition(tmp_path, NEEDED)
    found = find_competition(tmp_path, NEEDED, "part-2")
    assert found.sample_submission == tmp_path / "part-2" / "sample_submission.csv"
    with pytest.raises(InputError, match=r"in a folder part-3 .*seen only in part-1, part-2"):
        find_competition(tmp_path, NEEDED, "part-3")


def test_a_copy_in_a_subfolder_does_not_make_a_second_competition(tmp_path: Path) -> None:
    write_demo_data(tmp_path / "rna", num_train=1, num_test=1)
    write_demo_data(tmp_path / "rna" / "extra", num_train=1, num_test=1)
    assert find_competition(tmp_path, NEEDED).test_sequences == tmp_path / "rna" / "test_sequences.csv"


def test_a_sample_is_not_taken_from_another_competition(tmp_path: Path) -> None:
    write_demo_data(tmp_path / "one", num_train=1, num_test=1)
    (tmp_path / "one" / "sample_submission.csv").unlink()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "sample_submission.csv").write_text("ID\n")
    with pytest.raises(InputError, match="sample_submission"):
        find_competition(tmp_path, NEEDED)


def write_run(folder: Path, model: str, *steps: int) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(resolve_config("cpu", model)))
    (folder / "metrics.jsonl").write_text("{}\n")
    for step in steps:
        content = Checkpoint(tensors={"model": {"w": torch.zeros(2)}}, state={"train": {"step": step}})
        save_checkpoint(folder / "checkpoints", step, content, keep=9)


def test_the_earlier_run_with_the_most_steps_of_the_wanted_model_is_taken(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "run", "minimal", 10, 20)
    write_run(tmp_path / "notebooks" / "me" / "b" / "run", "minimal", 15, 30)
    write_run(tmp_path / "c" / "run", "base", 99)
    found = find_earlier_run(tmp_path, "minimal")
    assert found is not None
    assert (found.folder, found.step) == (tmp_path / "notebooks" / "me" / "b" / "run", 30)
    assert find_earlier_run(tmp_path, "large") is None


def test_a_damaged_checkpoint_does_not_count(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "minimal", 10, 20)
    (tmp_path / "run" / "checkpoints" / "step_00000020" / "state.json").write_text("{")
    found = find_earlier_run(tmp_path)
    assert found is not None and found.step == 10


def test_a_read_only_run_is_copied_writable_and_only_into_a_fresh_folder(tmp_path: Path) -> None:
    write_run(tmp_path / "input" / "run", "minimal", 10)
    paths = sorted((tmp_path / "input").rglob("*"), reverse=True)
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    earlier = find_earlier_run(tmp_path / "input")
    assert earlier is not None
    out = tmp_path / "working" / "run"
    out.parent.mkdir()
    copy_earlier_run(earlier, out)
    copies = sorted(out.rglob("*"))
    assert {p.relative_to(out) for p in copies} == {p.relative_to(earlier.folder) for p in earlier.folder.rglob("*")}
    assert all(path.stat().st_mode & 0o200 for path in [out, *copies])
    with pytest.raises(InputError, match="fresh folder"):
        copy_earlier_run(earlier, out)
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)


def write_weights(path: Path, score: float | None, described: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"model": {"name": "minimal"}, "validation_tm_score": score})
    save_file({"w": torch.zeros(2)}, path, metadata={"rnafold": text} if described else {"format": "pt"})


def test_the_weights_that_validated_best_are_taken_and_checkpoints_left_alone(tmp_path: Path) -> None:
    write_weights(tmp_path / "bundle" / "shipped.safetensors", 0.3)
    write_weights(tmp_path / "run" / "best.safetensors", 0.4)
    write_weights(tmp_path / "z" / "unscored.safetensors", None)
    write_weights(tmp_path / "run" / "checkpoints" / "step_1" / "model.safetensors", 0.9, described=False)
    assert find_weights(tmp_path) == tmp_path / "run" / "best.safetensors"
    assert find_weights(tmp_path / "z") == tmp_path / "z" / "unscored.safetensors"
    (tmp_path / "empty").mkdir()
    assert find_weights(tmp_path / "empty") is None


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"], ids=range(4))
def test_what_is_no_weights_file_is_described_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert read_weights_description(path) is None
