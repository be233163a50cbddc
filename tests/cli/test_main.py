"""The command line as a contract: exit codes, one clear line for each fault, help, the whole chain on demo data."""

import json
import re
from pathlib import Path

import pytest

from rnafold.cli.main import build_parser, main
from rnafold.data.demo import write_demo_data

TINY = ["model.width=16", "model.attention_heads=2", "model.feed_forward=32", "model.layers=1", "model.pair_channels=8",
        "model.pair_updates=1", "train.epochs=1", "train.warmup_epochs=0", "data.cutoff=2022-01-01",
        "data.validation=file", "data.jobs=1", "data.max_validation=1"]  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    write_demo_data(folder, num_train=9, num_test=3)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def train(capsys: pytest.CaptureFixture[str], demo: Path, out: Path, *more: object) -> tuple[int, str, str]:
    cache = f"data.cache={out.parent / 'cache'}"
    return run(
        capsys,
        "train",
        "--gpu",
        "cpu",
        "--model",
        "minimal",
        "--data",
        demo,
        "--out",
        out,
        *more,
        "--set",
        *TINY,
        cache,
    )


def files_of(demo: Path, out: Path) -> list[str | Path]:
    """The files that `predict` asks for."""
    return ["--test", demo / "test_sequences.csv", "--sample", demo / "sample_submission.csv", "--out", out]


def test_train_predict_check_and_score_follow_each_other(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(capsys, demo, tmp_path / "run", "--seed", 3)[0] == 0
    submission = tmp_path / "submission.csv"
    sample = demo / "sample_submission.csv"
    files = [
        "--test",
        demo / "test_sequences.csv",
        "--sample",
        sample,
        "--out",
        submission,
        "--cache",
        tmp_path / "cache",
    ]
    assert run(capsys, "predict", *files, "--weights", tmp_path / "run" / "best.safetensors", "--gpu", "cpu")[0] == 0
    code, out, _ = run(capsys, "check", submission, "--sample", sample)
    assert code == 0 and "valid" in out
    code, out, _ = run(capsys, "score", submission, demo / "test_labels.csv", "--json")
    scores = json.loads(out)
    assert code == 0
    assert set(scores) == {"metric", "mean", "interval", "targets", "reliability"}
    assert [len(scores["targets"]["DX001"][name]) for name in ("tm", "expected", "origin")] == [5, 5, 5]
    code, out, _ = run(capsys, "score", submission, demo / "test_labels.csv", "--versus", submission)
    assert code == 0 and "0.00000" in out


def test_the_same_seed_predicts_the_same_bytes(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(capsys, demo, tmp_path / "run")[0] == 0
    for name in ("a.csv", "b.csv"):
        files = files_of(demo, tmp_path / name)
        weights = ["--weights", tmp_path / "run" / "best.safetensors", "--cache", tmp_path / "cache", "--gpu", "cpu"]
        assert run(capsys, "predict", *files, *weights)[0] == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def spoil(source: Path, target: Path, old: str, new: str, count: int = 1) -> Path:
    text = source.read_text()
    assert old in text
    target.write_text(text.replace(old, new, count))
    return target


def faulty_data(demo: Path, folder: Path, name: str) -> Path:
    for path in demo.glob("*.csv"):
        (folder / path.name).write_text(path.read_text())
    labels, sequences = folder / "train_labels.csv", folder / "train_sequences.csv"
    if name == "missing column":
        spoil(labels, labels, "ID,resname,resid,x_1,y_1,z_1", "ID,resname,resid,x_1,y_1,zz")
    elif name == "text in a coordinate":
        rows = labels.read_text().splitlines()
        rows[3] = ",".join([*rows[3].split(",")[:3], "abc", "0", "0"])
        labels.write_text("\n".join(rows) + "\n")
    elif name == "cut-off file":
        labels.write_text(labels.read_text()[:-12])
    elif name == "empty file":
        sequences.write_text("")
    elif name == "wrong letters":
        rows = sequences.read_text().split("\n")
        rows[1] = rows[1].replace(rows[1].split(",")[1], "ACGU12!!ACGU", 1)
        sequences.write_text("\n".join(rows))
    elif name == "duplicate target":
        text = sequences.read_text()
        sequences.write_text(text.replace("DT002", "DT001"))
    return folder


FAULTS = {
    "missing column": r"train_labels.csv.*z_1",
    "text in a coordinate": r"train_labels.csv.*row 3.*x_1.*abc",
    "cut-off file": r"train_labels.csv.*row",
    "empty file": r"train_sequences.csv.*empty",
    "wrong letters": r"train_sequences.csv.*row 1.*sequence",
    "duplicate target": r"train_sequences.csv.*DT001",
}


@pytest.mark.parametrize("name", FAULTS)
def test_malformed_training_files_give_one_line_and_exit_2(
    name: str, demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    code, _, error = train(capsys, faulty_data(demo, tmp_path / "data", name), tmp_path / "run")
    lines = [line for line in error.splitlines() if line.startswith("error:")]
    assert code == 2
    assert len(lines) == 1 and re.search(FAULTS[name], lines[0]), error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--gpu", "t5"], r"t5.*did you mean"),
        (["--gpu", "t4"], r"t4.*use --gpu"),
        (["--model", "bass"], r"bass.*did you mean.*base"),
        (["--set", "train.epoch=3"], r"train\.epoch.*did you mean.*epochs"),
        (["--set", "train.epochs=many"], r"train\.epochs.*many"),
        (["--set", "train.epochs=0"], r"epochs.*found 0"),
        (["--set", "train.precision=fp16"], r"fp16"),
        (["--max-hours", "-1"], r"--max-hours"),
        (["--data", "nowhere"], r"nowhere"),
    ],
    ids=[
        "unknown gpu",
        "absent gpu",
        "unknown model",
        "unknown key",
        "mistyped value",
        "range",
        "precision",
        "hours",
        "data",
    ],
)
def test_wrong_options_give_one_line_and_exit_2(
    arguments: list[str], pattern: str, demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = {"--gpu": "cpu", "--model": "minimal", "--data": str(demo), "--out": str(tmp_path / "run")}
    base |= {k: v for k, v in zip(arguments[::2], arguments[1::2]) if k in base}
    extra = [] if arguments[0] in base else arguments
    code, _, error = run(capsys, "train", *[x for pair in base.items() for x in pair], *extra)
    lines = [line for line in error.splitlines() if line.startswith("error:")]
    assert code == 2
    assert len(lines) == 1 and re.search(pattern, lines[0]), error
    assert not (tmp_path / "run").exists(), "nothing half-written"


@pytest.mark.parametrize("fault", ["nan", "duplicate", "order", "missing row"])
def test_a_spoiled_submission_is_refused_with_its_row_and_can_be_repaired(
    fault: str, demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (demo / "sample_submission.csv").read_text().splitlines()
    rows = [rows[0], *(",".join([*r.split(",")[:3], *[f"{k}.5" for k in range(15)]]) for r in rows[1:])]
    if fault == "nan":
        rows[4] = ",".join([*rows[4].split(",")[:3], "", *rows[4].split(",")[4:]])
    elif fault == "duplicate":
        rows[5] = rows[4]
    elif fault == "order":
        rows[4], rows[9] = rows[9], rows[4]
    else:
        del rows[4]
    submission = tmp_path / "submission.csv"
    submission.write_text("\n".join(rows) + "\n")
    sample = demo / "sample_submission.csv"
    code, out, error = run(capsys, "check", submission, "--sample", sample)
    assert code == 2
    assert sum(line.startswith("error:") for line in error.splitlines()) == 1
    assert re.search(r"row [45]\b|DX001_4|DX001_5", out), out
    mended = tmp_path / "mended.csv"
    assert run(capsys, "check", submission, "--sample", sample, "--repair", mended)[0] == 0
    assert run(capsys, "check", mended, "--sample", sample)[0] == 0


def test_files_that_are_not_there_give_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["check", "no.csv", "--sample", "none.csv"],
        ["score", "no.csv", "none.csv"],
        ["predict", "--test", "no.csv", "--sample", "none.csv", "--out", str(tmp_path / "out.csv")],
        ["predict", "--test", "no.csv", "--sample", "none.csv", "--out", str(tmp_path / "no" / "out.csv")],
    ):
        code, _, error = run(capsys, *arguments)
        assert code == 2
        assert sum(line.startswith("error:") for line in error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_weights_of_something_else_are_refused(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"not safetensors")
    files = files_of(demo, tmp_path / "o.csv")
    code, _, error = run(capsys, "predict", *files, "--weights", weights, "--gpu", "cpu")
    assert code == 2 and "not a readable safetensors file" in error
    code, _, error = run(capsys, "predict", *files, "--weights", tmp_path / "none", "--gpu", "cpu")
    assert code == 2 and "no such weights file" in error


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for word in ("train", "predict", "check", "score", "demo", "exit codes"):
        assert word in out
    for command in ("train", "predict", "check", "score", "demo"):
        assert run(capsys, command, "--help")[0] == 0


def test_every_option_of_every_command_says_what_it_is() -> None:
    import argparse

    parser = build_parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    for name, command in commands.items():
        for action in command._actions:
            assert action.help or not action.option_strings or action.dest in ("seed", "out", "set"), (
                f"{name} {action.option_strings}"
            )
