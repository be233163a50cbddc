"""The README's own commands are accepted word for word, and the demo leaves what it promises."""

import re
import shlex
from pathlib import Path

import pytest

from rnafold.cli import demo as walkthrough
from rnafold.cli.main import build_parser, main

ROOT = Path(__file__).resolve().parents[2]


def commands_of(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"python -m rnafold ([a-z][^`\n|]*)", text)
    return sorted({re.sub(r"\s+#.*$", "", command).strip() for command in found})


COMMANDS = [c for name in ("README.md", "kernels/README.md") for c in commands_of(ROOT / name)]


def test_the_readme_shows_every_main_command() -> None:
    shown = {command.split()[0] for command in COMMANDS}
    assert {"train", "predict", "check", "score", "report", "export", "plan", "kaggle"} <= shown


@pytest.mark.parametrize("command", COMMANDS)
def test_the_parser_accepts_each_command_of_the_readme(command: str) -> None:
    if command.startswith("COMMAND"):
        return
    build_parser().parse_args(shlex.split(command))


def test_the_demo_leaves_data_run_submission_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = [text for text in walkthrough.SETTINGS if not text.startswith("train.epochs")]
    monkeypatch.setattr(walkthrough, "SETTINGS", (*short, "train.epochs=1", "data.max_entries=12"))
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    for name in (
        "data/train_labels.csv",
        "data/sample_submission.csv",
        "run/best.safetensors",
        "submission.csv",
        "submission.predictions.json",
    ):
        assert (out / name).is_file(), name
    printed = capsys.readouterr().out
    # templates of the same family lift even an untrained demo far above the trivial submissions
    found = re.search(r"TM-score (0\.\d+); all zeros (0\.\d+), straight lines (0\.\d+)", printed)
    assert found is not None
    kit, zeros, line = map(float, found.groups())
    assert kit > 0.5 > max(zeros, line)
    assert str(out / "submission.csv") in printed
    assert "expected against achieved TM-score" in printed
    assert 'id="plot-reliability-bins"' in (out / "report.html").read_text(encoding="utf-8")


def test_the_demo_refuses_a_folder_with_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "no demo folder" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
