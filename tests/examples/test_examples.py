"""The examples run as they stand: the notebook from top to bottom, every command of the walkthrough."""

import re
import shlex
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from rnafold.cli.main import build_parser, main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WALKTHROUGH = (EXAMPLES / "kaggle_walkthrough.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("python -m rnafold ")
    for block in re.findall(r"```console\n(.*?)```", WALKTHROUGH, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python -m rnafold ")
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_runs_from_top_to_bottom_and_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = EXAMPLES / "quickstart.ipynb"
    assert path.stat().st_size < 100_000
    notebook = nbformat.read(path, as_version=4)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    assert printed.count("expected TM-score") == 5
    assert "20 pairs asked for; not met by the first model: 0" in printed
    assert printed.rstrip().endswith("True")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_walkthrough_is_one(command: str) -> None:
    arguments = build_parser().parse_args(shlex.split(command))
    assert callable(arguments.call)


def test_the_walkthrough_runs_on_the_embedded_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rnafold.data.demo import write_demo_data

    monkeypatch.chdir(tmp_path)
    write_demo_data(tmp_path / "data", num_train=4, num_test=1)
    local = [line for line in COMMANDS if line.split()[0] in ("doctor", "predict", "check", "quota")]
    assert len(local) == 5
    for line in local:
        assert main([*shlex.split(line), *(["--no-network"] if line.startswith("predict") else [])]) == 0, line
    assert "valid against" in capsys.readouterr().out
