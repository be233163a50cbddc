"""What an earlier version left behind still loads: a run that commit cf49d4d made, one epoch of a tiny network.

Its TensorBoard events and its report, which nothing reads, are left out. Its data were `write_demo_data(seed=0)`; its
ledger lay beside it.
"""

import json
import shutil
from pathlib import Path

import pytest

from rnafold.cli.main import main
from rnafold.config.reproduction import derive_choices
from rnafold.config.settings import load_config, resolve_config
from rnafold.data.demo import write_demo_data
from rnafold.files.metrics import read_metrics
from rnafold.files.run_folder import RunFolder, find_damage
from rnafold.files.weights_header import read_weights_description
from rnafold.kaggle.inputs import find_earlier_run, find_weights
from rnafold.model.weights import load_network
from rnafold.planner.quota.ledger import read_sessions

OLD = Path(__file__).parent / "cf49d4d"
STEPS_AN_EPOCH = 9  # 72 entries, 8 a step


@pytest.fixture
def old(tmp_path: Path) -> RunFolder:
    """A copy that tests may change, with its ledger beside it."""
    shutil.copytree(OLD, tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / "run")


def test_the_stored_run_is_small() -> None:
    assert sum(path.stat().st_size for path in OLD.rglob("*") if path.is_file()) <= 100_000


def test_a_saved_configuration_without_names_gets_them(old: RunFolder) -> None:
    assert "choices" not in old.config_file.read_text()
    config = load_config(old.config_file)
    assert config.choices is not None
    assert (config.choices.gpu, config.choices.model) == ("cpu", "minimal")
    choices = derive_choices(config)
    assert resolve_config(choices.gpu, choices.model, choices.overrides).train == config.train


def test_the_checkpoint_is_complete_and_found_as_an_earlier_run(old: RunFolder) -> None:
    assert old.checkpoints.newest() == STEPS_AN_EPOCH
    assert find_damage(old.checkpoints.at(STEPS_AN_EPOCH)) is None
    earlier = find_earlier_run(old.path.parent, "minimal")
    assert earlier is not None and (earlier.folder, earlier.step) == (old.path, STEPS_AN_EPOCH)


def test_a_resume_goes_on_where_the_old_version_stopped(old: RunFolder, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_demo_data(data, 0)
    choices = derive_choices(load_config(old.config_file))
    settings = [*choices.overrides, "train.epochs=2", f"data.cache={tmp_path / 'cache'}"]
    command = ["train", "--gpu", "cpu", "--model", "minimal", "--data", str(data), "--out", str(old.path), "--resume"]
    assert main([*command, "--set", *settings]) == 0
    assert old.checkpoints.newest() == 2 * STEPS_AN_EPOCH
    steps = [record["step"] for record in read_metrics(old.metrics_file) if record["kind"] == "train"]
    assert steps == sorted(set(steps)) and steps[-1] == 2 * STEPS_AN_EPOCH
    assert load_config(old.config_file).gpu == "cpu"
    assert len(read_sessions(old.path.parent / "ledger.jsonl")) == 2


def test_predict_loads_the_weights(old: RunFolder, tmp_path: Path) -> None:
    described = read_weights_description(old.weights_file)
    assert described is not None and described["step"] == STEPS_AN_EPOCH
    assert load_network(old.weights_file) is not None
    assert find_weights(old.path.parent) == old.weights_file
    data, out = tmp_path / "data", tmp_path / "submission.csv"
    write_demo_data(data, 0)
    command = ["predict", "--test", str(data / "test_sequences.csv"), "--sample", str(data / "sample_submission.csv")]
    command += ["--out", str(out), "--weights", str(old.weights_file), "--slots", "network", "--gpu", "cpu"]
    assert main([*command, "--cache", str(tmp_path / "cache")]) == 0
    records = json.loads(out.with_suffix(".predictions.json").read_text())["predictions"]
    assert {record["origin"] for record in records} == {"network"}


def test_report_and_card_read_the_run(old: RunFolder, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    one = {"set": "recent", "row": "kit", "mean": 0.5, "standard_error": None, "by_target": {"A": 0.5}}
    results.write_text(json.dumps([one]))
    assert main(["report", str(old.path)]) == 0
    assert main(["card", "--run", str(old.path), "--results", str(results)]) == 0
    assert "any CPU" in old.report_file.read_text()
    assert "--gpu cpu --model minimal" in old.card_file.read_text()


def test_the_quota_reads_the_ledger(old: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    session = read_sessions(old.path.parent / "ledger.jsonl")[0]
    assert (session.run, session.gpu, session.counts, session.ended, session.outcome) == (
        "run", "cpu", False, True, "epochs",
    )  # fmt: skip
    assert main(["quota", "--ledger", str(old.path.parent / "ledger.jsonl")]) == 0
    assert "0.001 h" in capsys.readouterr().out
