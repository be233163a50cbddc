"""What a command says to its caller: its version, its exit code, and nothing where nobody reads on."""

import json
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import rnafold
from rnafold.cli.main import build_parser, main
from rnafold.data.demo import write_demo_data
from rnafold.errors import ExitCode, InputError, format_error, parse_error

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_demo_data(folder, 0)
    return folder


def run_unread(arguments: list[str], *, close_errors: bool = False, buffered: bool = True) -> tuple[int, str]:
    """Exit code and standard error of a command whose output nobody reads: the pipe is closed before it writes."""
    errors = subprocess.STDOUT if close_errors else subprocess.PIPE
    # an empty value is none: Python then buffers what goes into a pipe
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        process.stdout.close()
        said = b"" if process.stderr is None else process.stderr.read()
        return process.wait(), said.decode()


COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "help-of-a-command": ["train", "--help"],
    "quota": ["quota", "--offline"],
    "quota-json": ["quota", "--offline", "--json"],
    "workload": ["plan", "--workload", "splice"],
    "plan": ["plan", "--gpu", "cpu", "--model", "minimal", "--offline"],
    "check": ["check", "DATA/sample_submission.csv", "--sample", "DATA/sample_submission.csv"],
    "score": ["score", "DATA/sample_submission.csv", "DATA/test_labels.csv", "--mode", "fast"],
    "kaggle": ["kaggle", "status", "train", "--user", "nobody"],
    "report": ["report", "tests/files/cf49d4d/run", "--out", "DATA/report.html"],
}


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_closed_pipe_ends_a_command_quietly(data: Path, name: str, buffered: bool) -> None:
    arguments = [word.replace("DATA", str(data)) for word in COMMANDS[name]]
    code, said = run_unread(["-m", "rnafold", *arguments], buffered=buffered)
    # argparse itself keeps quiet about help that it could not write
    says_help = "help" in name or name == "version"
    assert code in ({ExitCode.CLOSED_PIPE, ExitCode.DONE} if says_help and not buffered else {ExitCode.CLOSED_PIPE})
    assert not [line for line in said.splitlines() if "ipe" in line or "Traceback" in line or "ignored" in line]


def test_both_streams_may_be_closed() -> None:
    assert run_unread(["-m", "rnafold", "quota", "--offline"], close_errors=True)[0] == ExitCode.CLOSED_PIPE
    code, _ = run_unread(["-m", "rnafold", "check", "none.csv", "--sample", "none.csv"], close_errors=True)
    assert code in (ExitCode.CLOSED_PIPE, ExitCode.INPUT)


def test_the_console_script_and_train_py_end_as_quietly() -> None:
    assert run_unread(["train.py", "--help"]) == (ExitCode.CLOSED_PIPE, "")
    code = "import sys; sys.argv[1:] = ['quota', '--offline']; from rnafold.cli.main import entry; entry()"
    assert run_unread(["-c", code]) == (ExitCode.CLOSED_PIPE, "")


def test_a_broken_pipe_that_is_not_the_output_is_a_bug_and_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("rnafold.cli.plan.read_sessions", fail)
    with pytest.raises(BrokenPipeError):
        main(["quota", "--offline"])


def test_the_exit_codes_are_those_that_callers_know() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0, "FAULT": 1, "INPUT": 2, "LOSSES": 3, "CLOSED_PIPE": 141,
    }  # fmt: skip


def test_the_line_about_an_error_is_read_back() -> None:
    assert parse_error(format_error(InputError("a.csv: row 3"))) == "a.csv: row 3"
    assert parse_error("a line of a log") is None


def test_the_version_stands_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"] and project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "rnafold.__version__"}
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"rnafold-kit {rnafold.__version__}\n"
    assert metadata.version("rnafold-kit") == rnafold.__version__


def test_the_console_script_does_not_shadow_viennarnas() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"rnafold-kit": "rnafold.cli.main:entry"}


@pytest.mark.parametrize("encoding", ["gbk", "cp932", "cp1251", "ascii"])
def test_a_console_without_the_letter_shows_a_question_mark(data: Path, tmp_path: Path, encoding: str) -> None:
    rows = (data / "sample_submission.csv").read_text().splitlines()
    odd = [rows[0], *(",".join([*row.split(",")[:3], "", *row.split(",")[4:]]) for row in rows[1:])]
    (tmp_path / "bad.csv").write_text("\n".join(odd) + "\n")
    command = [sys.executable, "-m", "rnafold", "check", str(tmp_path / "bad.csv")]
    command += ["--sample", str(data / "sample_submission.csv"), "--repair", str(tmp_path / "out.csv")]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"filled by this rule" in done.stdout and b"?" in done.stdout


def test_quiet_hides_bars_and_notes_and_json_stands_alone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tqdm import tqdm

    shown = []
    before = vars(tqdm)["__init__"]
    for quiet in ([], ["--quiet"]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "rnafold.scoring.files.score_submission", lambda *_, **__: shown.append(tqdm(range(3)).disable)
            )
            patch.setattr("rnafold.scoring.scorecard.format_table", lambda *_, **__: "table")
            sample, labels = str(data / "sample_submission.csv"), str(data / "test_labels.csv")
            assert main(["score", sample, labels, *quiet]) == 0
    assert shown == [False, True]
    assert vars(tqdm)["__init__"] is before
    capsys.readouterr()
    assert main(["check", sample, "--sample", sample, "--json", "--quiet"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert findings and findings[0]["severity"] == "warning"


def test_an_action_takes_quiet_before_and_after_its_name() -> None:
    parse = build_parser().parse_args
    for words in (["--quiet", "preflight"], ["preflight", "--quiet"]):
        assert parse(["kaggle", *words]).quiet
    assert not parse(["kaggle", "preflight"]).quiet
