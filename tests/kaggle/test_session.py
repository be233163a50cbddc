"""What the notebooks call: deadlines by a clock that is only told, commands for every machine, honest checks."""

import datetime
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rnafold.config.settings import resolve_config
from rnafold.config.strict_yaml import dump
from rnafold.data.demo import write_demo_data
from rnafold.data.files import CompetitionFiles
from rnafold.errors import InputError
from rnafold.kaggle import predict_session, train_session
from rnafold.kaggle.predict_session import PredictSession, choose_workers, find_candidates, run_predict
from rnafold.kaggle.session import run_until, takes_quota
from rnafold.kaggle.train_session import TrainSession, build_train_command, check_training
from rnafold.planner.quota.ledger import LEDGER_FILE, LedgerSession, read_sessions
from rnafold.prediction import shards
from rnafold.prediction.shards import ShardOutcome, Worker
from rnafold.submission import check_submission, list_defects
from rnafold.training.checkpoint import Checkpoint, save_checkpoint

FILES = CompetitionFiles(
    train_sequences=Path("/mount/train_sequences.csv"),
    train_labels=Path("/mount/train_labels.csv"),
    validation_sequences=None,
    validation_labels=None,
    test_sequences=None,
    sample_submission=None,
)


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class FakeClock:
    """Moves on by `step` seconds each time it is asked."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_process_is_asked_to_stop_at_its_deadline_and_its_words_are_kept(tmp_path: Path) -> None:
    # each look at the clock is an hour: the deadline of eleven hours comes after a dozen looks
    script = "import time; print('at work', flush=True); time.sleep(600)"
    code = run_until(
        [sys.executable, "-S", "-c", script],
        11 * 3600.0,
        tmp_path / "log",
        os.environ,
        FakeClock(3600.0),
    )
    assert code is None


def test_a_process_that_ignores_the_request_is_killed_after_its_grace(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    clock = FakeClock(0.0)
    process = [sys.executable, "-S", "-c", script]
    log = tmp_path / "log"

    def watch() -> float:
        # time is up as soon as the process has begun to ignore signals
        clock.now = 100.0 if log.is_file() and log.read_text() else 0.0
        return clock.now

    assert run_until(process, 50.0, log, os.environ, watch, grace_seconds=0.3) is None
    assert log.read_text() == "up\n"


def test_a_process_that_ends_by_itself_gives_its_exit_code(tmp_path: Path) -> None:
    assert run_until([sys.executable, "-S", "-c", "raise SystemExit(7)"], 1e9, tmp_path / "log", os.environ) == 7


def test_two_cards_train_through_accelerate_launch() -> None:
    session = TrainSession(gpu="t4x2", settings=("train.epochs=3",))
    command, _ = build_train_command(session, FILES, 10.5)
    text = " ".join(command)
    assert "-m accelerate.commands.launch --multi_gpu --num_machines 1 --num_processes 2" in text
    assert "-m rnafold train --gpu t4x2 --model base --data /mount --out /kaggle/working/run --resume" in text
    assert "--max-hours 10.50000 --set data.cache=/kaggle/working/cache train.epochs=3" in text


def test_one_card_trains_without_a_launcher_and_cpu_processes_through_torch() -> None:
    single, _ = build_train_command(TrainSession(gpu="l4"), FILES, 1.0)
    assert single[1:4] == ["-m", "rnafold", "train"]
    double, environment = build_train_command(TrainSession(gpu="cpu", processes=2), FILES, 1.0)
    assert double[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    assert environment["ACCELERATE_USE_CPU"] == "1"


def test_accelerate_knows_every_argument_of_the_launch_command() -> None:
    command, _ = build_train_command(TrainSession(gpu="t4x2"), FILES, 1.0)
    script = (
        "import sys; from accelerate.commands.launch import launch_command_parser;"
        "known = launch_command_parser().parse_args(sys.argv[1:]);"
        "print(known.num_processes, known.module, known.training_script, known.training_script_args[0])"
    )
    done = subprocess.run([sys.executable, "-c", script, *command[3:]], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "True", "rnafold", "train"]


@pytest.mark.parametrize(
    ("gpu", "cards", "expected"),
    [
        pytest.param("t4x2", 2, [Worker(card="0", gpu="auto"), Worker(card="1", gpu="auto", index=1)], id="both cards"),
        pytest.param("t4x2", 1, [Worker(card="0", gpu="auto")], id="one card of two"),
        pytest.param("l4", 4, [Worker(card="0", gpu="auto")], id="no more than the config has"),
        pytest.param("t4x2", 0, [Worker(card="", gpu="cpu")], id="no card at all"),
        pytest.param("cpu", 2, [Worker(card="", gpu="cpu")], id="CPU asked for"),
    ],
)
def test_each_card_gets_a_worker(gpu: str, cards: int, expected: list[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    assert choose_workers(PredictSession(gpu=gpu)) == expected


def test_the_ledger_counts_the_whole_session_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # training noted 0.5 h of a session of 0.75 h: 0.25 h are added; the session of the week before stays as it is
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    path = tmp_path / LEDGER_FILE

    def note(hours: float) -> None:
        moments = [datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours)]
        session = LedgerSession(path, "run", "t4x2", counts=True, clock=lambda: moments[0])
        moments[0] += datetime.timedelta(hours=hours)
        session.end("time")

    note(9.0)
    known = {entry.session_id for entry in read_sessions(path)}
    note(0.5)
    train_session._note_overhead(path, known, "t4x2", 0.75)
    found = read_sessions(path)
    assert sorted(round(entry.hours, 3) for entry in found) == [0.25, 0.5, 9.0]
    assert all(entry.counts and entry.ended for entry in found)


@pytest.mark.parametrize(
    ("gpu", "variables", "expected"),
    [
        pytest.param("t4x2", {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}, True, id="a card on Kaggle"),
        pytest.param("t4x2", {}, False, id="a card elsewhere"),
        pytest.param("cpu", {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}, False, id="no card"),
        pytest.param(
            "t4x2", {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_IS_COMPETITION_RERUN": "1"}, False, id="scored rerun"
        ),
    ],
)
def test_only_a_card_on_kaggle_outside_the_rerun_takes_from_the_quota(
    gpu: str, variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_IS_COMPETITION_RERUN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert takes_quota(gpu) is expected


def prepare(tmp_path: Path) -> PredictSession:
    write_demo_data(tmp_path / "input" / "rna", num_train=1, num_test=2)
    (tmp_path / "working").mkdir()
    return PredictSession(gpu="cpu", inputs=tmp_path / "input", working=tmp_path / "working")


class FakePrediction:
    """Notes the deadline it gets."""

    deadlines: list[float] = []  # noqa: RUF012
    options: list[list[str]] = []  # noqa: RUF012

    def __init__(self, *_: object, clock: object) -> None:
        pass

    def run(self, workers: list[Worker], deadline: float, options: list[str]) -> ShardOutcome:
        self.deadlines.append(deadline)
        self.options.append(options)
        if "--weights" in options:
            raise InputError("every process failed")
        return ShardOutcome(improved=("A",))


@pytest.mark.parametrize(("rerun", "expected"), [("1", 7.5), ("", 1.0)], ids=["scored rerun", "any other run"])
def test_the_scored_rerun_has_the_long_deadline_and_any_other_run_the_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rerun: str, expected: float
) -> None:
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", rerun)
    monkeypatch.setattr(predict_session, "ShardedPrediction", FakePrediction)
    monkeypatch.setattr(predict_session, "require_preflight", lambda *_: None)
    monkeypatch.setattr(FakePrediction, "deadlines", [])
    run_predict(prepare(tmp_path), FakeClock(1.0))
    assert FakePrediction.deadlines[0] == pytest.approx(expected * 3600, abs=10)
    summary = json.loads((tmp_path / "working" / "session.json").read_text())
    assert summary["rerun"] is bool(rerun)
    ledger = read_sessions(tmp_path / "working" / LEDGER_FILE)
    assert [(s.run, s.ended, s.counts, s.planned_hours) for s in ledger] == [("predict", True, False, expected)]


@pytest.mark.parametrize("rerun", ["1", ""], ids=["scored rerun", "any other run"])
def test_weights_that_cannot_be_used_stop_a_run_but_not_the_scored_rerun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rerun: str
) -> None:
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", rerun)
    monkeypatch.setattr(predict_session, "ShardedPrediction", FakePrediction)
    monkeypatch.setattr(predict_session, "require_preflight", lambda *_: None)
    monkeypatch.setattr(predict_session, "find_weights", lambda _: Path("bad.safetensors"))
    monkeypatch.setattr(FakePrediction, "options", [])
    session = prepare(tmp_path)
    if not rerun:
        with pytest.raises(InputError, match="every process failed"):
            run_predict(session)
        return
    assert run_predict(session).improved == ("A",)
    assert ["--weights" in options for options in FakePrediction.options] == [True, False]


@pytest.mark.parametrize("rerun", ["1", ""], ids=["scored rerun", "any other run"])
def test_a_broken_card_stops_a_run_before_it_costs_but_the_scored_rerun_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rerun: str
) -> None:
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", rerun)
    script = tmp_path / "fake.py"
    script.write_text("import os, sys; sys.exit(0 if os.environ['CUDA_VISIBLE_DEVICES'] == '' else 9)")
    monkeypatch.setattr(shards, "PREDICT", (sys.executable, "-S", str(script)))

    def fail(*_: object) -> None:
        raise InputError("preflight: card 0: the first operation failed")

    monkeypatch.setattr(predict_session, "require_preflight", fail)
    session = prepare(tmp_path)
    if rerun:
        assert run_predict(session).deaths == 0
    else:
        with pytest.raises(InputError, match="card 0"):
            run_predict(session)
    # a valid file stands in either case
    sample = tmp_path / "input" / "rna" / "sample_submission.csv"
    assert list_defects(check_submission(tmp_path / "working" / "submission.csv", sample)) == []


def test_missing_inputs_stop_the_scored_rerun_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    (tmp_path / "input").mkdir()
    with pytest.raises(InputError, match="attach the competition"):
        run_predict(PredictSession(gpu="cpu", inputs=tmp_path / "input", working=tmp_path))


def write_run(working: Path, steps: list[int], saved: int) -> None:
    run = working / "run"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump(resolve_config("cpu", "minimal", ["train.log_every_steps=5"])))
    lines = [json.dumps({"kind": "train", "step": step}) + "\n" for step in steps]
    (run / "metrics.jsonl").write_text("".join(lines))
    content = Checkpoint(tensors={"model": {"w": torch.zeros(1)}}, state={"train": {}})
    save_checkpoint(run / "checkpoints", saved, content, keep=3)
    (run / "best.safetensors").write_bytes(b"weights")


def test_a_run_without_gap_or_repeat_passes_its_check(tmp_path: Path) -> None:
    # 5, 10, then a session that stopped at 12, the next one's 15 and 20
    write_run(tmp_path, [5, 10, 12, 15, 20], 20)
    assert "up to step 20" in check_training(tmp_path)


@pytest.mark.parametrize(
    ("steps", "saved", "expected"),
    [
        pytest.param([5, 10, 20], 20, "10 steps before step 20 are in no line", id="gap"),
        pytest.param([10, 15], 15, "10 steps before step 10 are in no line", id="gap at the beginning"),
        pytest.param([5, 10, 10, 15], 15, "step 10 follows a step as high", id="repeat"),
        pytest.param([5, 10, 7, 12], 12, "step 7 follows a step as high", id="a step back"),
        pytest.param([5, 10], 5, "the newest checkpoint at 5", id="no last checkpoint"),
        pytest.param([], 5, "0 lines of metrics", id="no metrics"),
    ],
)
def test_a_run_with_a_flaw_is_named(tmp_path: Path, steps: list[int], saved: int, expected: str) -> None:
    write_run(tmp_path, steps, saved)
    with pytest.raises(InputError, match=expected):
        check_training(tmp_path)


def test_a_rehearsal_with_relative_paths_sees_its_templates_and_keeps_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_IS_COMPETITION_RERUN", raising=False)
    monkeypatch.setattr(predict_session, "require_preflight", lambda *_: None)
    script = tmp_path / "fake.py"
    script.write_text(
        "import sys; from pathlib import Path\n"
        "folder = Path(sys.argv[sys.argv.index('--templates') + 1])\n"
        "print('templates:', sorted(p.name for p in folder.iterdir() if p.is_file()))\n"
    )
    monkeypatch.setattr(shards, "PREDICT", (sys.executable, "-S", str(script)))
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    run_predict(PredictSession(gpu="cpu", inputs=Path("input"), working=Path("working")))
    kept = (tmp_path / "working" / "predict.log").read_text()
    assert "--- part_001" in kept
    assert "templates: ['train_labels.csv', 'train_sequences.csv']" in kept


def test_other_programs_models_are_found_wherever_they_lie_and_cost_themselves_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    working, inputs = tmp_path / "working", tmp_path / "input"
    (working / "protenix_output").mkdir(parents=True)
    mounted = inputs / "datasets" / "someone" / "rnapro-output"
    mounted.mkdir(parents=True)
    asked = (
        "Protenix=protenix_output",
        "RNAPro@2024-05-01=rnapro-output",
        "Boltz=never_written",
        "template=protenix_output",
    )
    session = PredictSession(candidates=asked, working=working, inputs=inputs)
    expected = [f"Protenix={working / 'protenix_output'}", f"RNAPro@2024-05-01={mounted}"]
    assert find_candidates(session) == [part for text in expected for part in ("--candidates", text)]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and all("going on without" in line for line in told)
