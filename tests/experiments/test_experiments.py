"""Experiments: strict files, verdicts by hand, runs that resume or are left alone, tables on record."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np
import pytest

from rnafold.cli.main import main
from rnafold.config.settings import Config, resolve_config
from rnafold.data.demo import write_demo_data
from rnafold.errors import ConfigError, InputError
from rnafold.experiments import runs as runs_module
from rnafold.experiments.results import RunResult, find_progress
from rnafold.experiments.runs import NOT_FINITE, ExperimentCall, run_all, train_apart
from rnafold.experiments.spec import plan_runs, read_experiment
from rnafold.experiments.statistics import (
    Series,
    collect,
    decide,
    estimate,
    estimate_paired,
    measure_gain,
    measure_value,
    weigh_correlation,
)
from rnafold.experiments.table import find_markers, put_block
from rnafold.files.run_folder import RunFolder
from rnafold.training.run import train_model
from rnafold.training.schedule import TimeBudget
from rnafold.training.state import TrainState
from tests.pieces.budgets import StepBudget

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "experiments").glob("*.yaml"))
TINY = """\
name: tiny
question: Does noise help?
expected: No.
measure: tm_score
minimum_gain: 0.01
seeds: [0, 1]
model: minimal
common:
  model.width: 16
  model.attention_heads: 2
  model.feed_forward: 32
  model.layers: 2
  model.pair_channels: 8
  model.pair_updates: 1
  data.cutoff: 2022-01-01
  data.development_fraction: 0.3
  data.max_validation: 3
  data.jobs: 1
  data.cache: CACHE
  train.epochs: 1
  train.log_every_steps: 1
  train.warmup_epochs: 0
baseline: calm
variants:
  calm: {}
  noisy:
    settings:
      data.start_noise: 3.0
"""


def write_tiny(folder: Path, cache: Path, *changes: tuple[str, str]) -> Path:
    text = TINY.replace("CACHE", str(cache))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder / "data", num_train=15, num_test=1)
    return folder


@pytest.fixture(scope="module")
def trained(demo: Path) -> Path:
    """The tiny experiment, run once by the command: out/tiny with four runs; record.md with its table."""
    path = write_tiny(demo, demo / "cache")
    (demo / "record.md").write_text("# Record\n\nKept.\n", encoding="utf-8")
    assert run_command(path, demo, demo / "out", "--record", str(demo / "record.md")) == 0
    return demo


def run_command(path: Path, demo: Path, out: Path, *more: str) -> int:
    return main(["experiment", str(path), "--data", str(demo / "data"), "--out", str(out), *more])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_file_of_experiments_resolves(path: Path, tmp_path: Path) -> None:
    experiment = read_experiment(path)
    runs = plan_runs(experiment, "cpu", tmp_path)
    assert len(runs) == len(experiment.seeds) * len(experiment.variants)
    assert {r.config.data.validation for r in runs} == {"development"}
    # one evaluation, at the end: nothing is chosen on the targets that judge
    assert all(r.config.train.evaluate_every_epochs == r.config.train.epochs for r in runs)


def test_the_experiments_of_the_brief_are_there() -> None:
    names = {"plain_vs_base", "physics_terms", "start_from_candidates", "msa", "tm_head", "precision"}
    assert names <= {path.stem for path in FILES}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("question:", "quesiton:"), r"tiny\.yaml:2: quesiton: unknown key; did you mean question"),
        (("name: tiny", "name: other"), r"tiny\.yaml:1: name: found other, expected the file's own, tiny"),
        (("measure: tm_score", "measure: rmsd"), "measure: found the text 'rmsd', expected one of tm_score"),
        (("minimum_gain: 0.01", "minimum_gain: -1"), "minimum_gain: found -1.0, expected 0 or more"),
        (("seeds: [0, 1]", "seeds: [0, 0]"), "seeds: found .*expected different"),
        (("baseline: calm", "baseline: clam"), "baseline: found clam, expected one of start, calm, noisy"),
        (("    settings:\n", "    setting:\n"), "setting: unknown key; did you mean variants.noisy.settings|settings"),
        (("data.start_noise: 3.0", "data.max_entries: 3"), "data.max_entries changes the split"),
        (("data.start_noise: 3.0", "train.seed: 3"), "train.seed is set by seeds"),
        (("data.start_noise: 3.0", "data.start_nose: 3"), "variants.noisy: .*data.start_nose: unknown key"),
        (("data.start_noise: 3.0", "data.start_noise: 0.2"), "calm and noisy have the same settings"),
        (("data.jobs: 1", "data.validation: file"), "data.validation must be development"),
        (("  calm: {}", "  start: {}"), "start is the name of the start structures"),
        (("measure: tm_score", "measure: expected_tm_r\ngpu: cpu"), None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_files_are_strict(change: tuple[str, str], message: str | None, tmp_path: Path) -> None:
    path = write_tiny(tmp_path, tmp_path, change)
    if message is None:
        assert len(plan_runs(read_experiment(path), "cpu", tmp_path)) == 4
        return
    with pytest.raises(ConfigError, match=message):
        plan_runs(read_experiment(path), "cpu", tmp_path)


def test_a_judge_without_anything_to_judge_by_is_refused(tmp_path: Path) -> None:
    judging = ("measure: tm_score", "measure: expected_tm_r")
    path = write_tiny(tmp_path, tmp_path, judging, ("baseline: calm", "baseline: start"))
    with pytest.raises(ConfigError, match=r"data\.start=ideal has no confidence"):
        plan_runs(read_experiment(path), "cpu", tmp_path)
    path = write_tiny(tmp_path, tmp_path, ("measure: tm_score", "measure: residues_per_second"),
                      ("baseline: calm", "baseline: start"))  # fmt: skip
    with pytest.raises(ConfigError, match="start structures have no residues_per_second"):
        read_experiment(path)


@pytest.mark.parametrize(
    ("gain", "low", "high", "verdict"),
    [
        (0.020, 0.005, 0.035, "yes"),
        (0.010, 0.001, 0.019, "yes"),  # exactly the minimum
        (0.020, -0.001, 0.041, "open"),  # the interval holds 0
        (0.008, 0.002, 0.014, "open"),  # better for sure, but perhaps too little
        (0.004, 0.001, 0.009, "no"),  # better for sure, and too little for sure
        (-0.030, -0.050, -0.010, "no"),
        (0.0, float("nan"), float("nan"), "open"),
    ],
)
def test_a_verdict_needs_both_the_minimum_and_the_interval(gain: float, low: float, high: float, verdict: str) -> None:
    assert decide(gain, low, high, 0.01) == verdict


def make_series(tm: list[list[float]], expected: list[list[float]] | None = None, start: float = 0.2) -> Series:
    values = np.array(tm)
    return Series(
        tm=values,
        expected_tm=np.array(expected) if expected is not None else np.zeros_like(values),
        start_tm=np.full_like(values, start),
        start_confidence=values[:, ::-1].copy(),
        speeds=np.array([100.0 + 10 * k for k in range(len(values))]),
    )


def test_gains_are_paired_means_over_seeds_and_targets() -> None:
    base = make_series([[0.1, 0.5, 0.3], [0.3, 0.5, 0.3]])
    better = make_series([[0.2, 0.6, 0.4], [0.4, 0.6, 0.4]])
    # 0.1 more on every target with every seed: whatever is drawn, the mean difference is 0.1
    found = measure_gain("tm_score", better, base, 0.05)
    assert (found.gain, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.verdict == "yes"
    # the starts have 0.2: mean 1/3 of the baseline is 0.1333 above, and against the start that is the gain
    assert measure_gain("gain_over_start", base, None, 0.0).gain == pytest.approx(2.0 / 6 - 0.2)
    assert measure_value("gain_over_start", base) == pytest.approx(2.0 / 6 - 0.2)
    assert measure_gain("tm_score", base, better, 0.05).verdict == "no"


def test_the_interval_draws_seeds_as_well_as_targets() -> None:
    targets = np.zeros((2, 6))
    seeds = targets + np.array([[-0.1], [0.3]])
    # the seeds' means are -0.1 and 0.3; both draws of one seed (a quarter each) reach those ends
    value, low, high = estimate(lambda s, t: np.einsum("rs,st,rt->r", s, seeds, t), 2, 6)
    assert (value, low, high) == pytest.approx((0.1, -0.1, 0.3))
    spread = targets + np.array([0.0, 0.0, 0.0, 0.6, 0.6, 0.6])
    value, low, high = estimate(lambda s, t: np.einsum("rs,st,rt->r", s, spread, t), 2, 6)
    # mean of six draws of 0 or 0.6: standard error 0.3 / sqrt(6) = 0.12, two of them on either side, in steps of 0.1
    assert value == pytest.approx(0.3) and low == pytest.approx(0.1) and high == pytest.approx(0.5)
    assert np.isnan(estimate(lambda s, t: s[:, 0], 2, 1)[1])


def test_the_correlation_under_weights_is_pearsons() -> None:
    x, y = np.array([[0.1, 0.4, 0.2, 0.9]]), np.array([[0.3, 0.5, 0.1, 0.7]])
    even = np.full((1, 4), 0.25)
    assert weigh_correlation(x, y, np.ones((1, 1)), even)[0] == pytest.approx(np.corrcoef(x[0], y[0])[0, 1])
    # weights 2 1 1 0 are the sample with the first twice and without the last
    weights = np.array([[0.5, 0.25, 0.25, 0.0]])
    drawn = np.corrcoef(x[0, [0, 0, 1, 2]], y[0, [0, 0, 1, 2]])[0, 1]
    assert weigh_correlation(x, y, np.ones((1, 1)), weights)[0] == pytest.approx(drawn)
    with pytest.raises(InputError, match="same for every target"):
        measure_gain("expected_tm_r", make_series([[0.1, 0.5]]), None, 0.0)


def test_a_judge_is_measured_against_the_starts_confidence() -> None:
    reached = [0.1, 0.2, 0.5, 0.7]
    # the head knows (r = 1); the confidence is the mirror of what is reached
    perfect = make_series([reached], [reached])
    mirrored = np.corrcoef(reached, reached[::-1])[0, 1]
    assert measure_gain("expected_tm_r", perfect, None, 0.05).gain == pytest.approx(1.0 - mirrored)


def test_a_speed_is_a_share_with_students_interval_over_seeds() -> None:
    # ratios 1.1, 1.2, 1.3: mean gain 0.2, standard deviation 0.1, t(2) = 4.303: 0.2 +- 4.303 x 0.1 / sqrt(3)
    reach = 4.303 * 0.1 / np.sqrt(3)
    assert estimate_paired(np.array([0.1, 0.2, 0.3])) == pytest.approx((0.2, 0.2 - reach, 0.2 + reach))
    assert np.isnan(estimate_paired(np.array([0.1]))[1])


def test_settings_without_effect_are_no_finding() -> None:
    base = make_series([[0.1, 0.5]])
    with pytest.raises(InputError, match="no effect"):
        measure_gain("tm_score", base, make_series([[0.1, 0.5]]), 0.01)


def test_runs_with_other_targets_are_not_compared() -> None:
    result = RunResult(tm={"a": 0.1}, expected_tm={"a": 0.1}, start_tm={"a": 0.1}, start_confidence={"a": 0.0},
                       residues_per_second=1.0, step=1, hours=0.1)  # fmt: skip
    with pytest.raises(InputError, match="other development targets"):
        collect([result], ["a", "b"])


def test_the_command_trains_compares_and_records(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained / "out" / "tiny"
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    assert names >= {"calm-seed0", "calm-seed1", "noisy-seed0", "noisy-seed1"}
    found = json.loads((folder / "results.json").read_text())
    assert found["num_targets"] == 3 and found["seeds"] == [0, 1]
    capsys.readouterr()
    assert run_command(trained / "tiny.yaml", trained, trained / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [found]
    calm, noisy = found["variants"]
    assert (calm["verdict"], calm["gain"]) == ("baseline", None)
    assert noisy["verdict"] in ("yes", "no", "open") and noisy["low"] <= noisy["gain"] <= noisy["high"]
    assert noisy["settings"] == {"data.start_noise": 3.0}
    # by hand from the logs: the mean over seeds and targets of the only evaluation
    records = [
        json.loads(x) for s in (0, 1) for x in (folder / f"noisy-seed{s}/metrics.jsonl").read_text().splitlines()
    ]
    reached = [np.mean(list(r["tm_by_target"].values())) for r in records if r["kind"] == "evaluation"]
    assert len(reached) == 2 and noisy["value"] == pytest.approx(np.mean(reached), abs=1e-6)
    assert all(0 < x < 1 for r in records if r["kind"] == "evaluation" for x in r["expected_tm_by_target"].values())
    starts = json.loads((folder / "calm-seed0" / "run.json").read_text())["start_by_target"]
    assert set(starts) == set(records[-1]["tm_by_target"])
    assert all(0 < x["tm_score"] <= 1 and x["confidence"] == 0 for x in starts.values())
    record = (trained / "record.md").read_text()
    assert record.startswith("# Record\n\nKept.\n") and (folder / "results.md").read_text() in record


def test_finished_runs_are_left_alone_and_the_record_stays_the_same(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs_module, "train_model", lambda *_, **__: pytest.fail("trained again"))
    before = (trained / "record.md").read_text()
    path = trained / "tiny.yaml"
    assert run_command(path, trained, trained / "out", "--record", str(trained / "record.md")) == 0
    assert (trained / "record.md").read_text() == before
    assert "all 4 runs are finished" in capsys.readouterr().out


def test_a_changed_file_does_not_mix_with_old_runs(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_tiny(tmp_path, trained / "cache", ("train.epochs: 1", "train.epochs: 2"))
    assert run_command(path, trained, trained / "out") == 2
    assert "other settings (train.epochs: 1 there, 2 here)" in capsys.readouterr().err


def test_a_half_done_run_goes_on_and_a_stopped_experiment_says_so(trained: Path, tmp_path: Path) -> None:
    experiment = read_experiment(trained / "tiny.yaml")
    shutil.copytree(trained / "out", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "tiny" / "noisy-seed1")
    runs = plan_runs(experiment, "cpu", tmp_path / "out")
    session = ExperimentCall(data=trained / "data", budget=StepBudget(1))
    run_all(runs, session)
    assert session.stopped and find_progress(runs[3]) == "partial"
    session = ExperimentCall(data=trained / "data", budget=TimeBudget(None))
    run_all(runs, session)
    assert not session.stopped and [find_progress(r) for r in runs] == ["finished"] * 4
    whole, parts = (
        [json.loads(x) for x in (out / "tiny/noisy-seed1/metrics.jsonl").read_text().splitlines()]
        for out in (trained / "out", tmp_path / "out")
    )
    assert parts[-1]["tm_by_target"] == whole[-1]["tm_by_target"]


def test_without_time_nothing_is_begun_and_nothing_recorded(trained: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.md"
    record.write_text("# Record\n", encoding="utf-8")
    arguments = ("--max-hours", "1e-9", "--record", str(record))
    assert run_command(trained / "tiny.yaml", trained, tmp_path / "out", *arguments) == 0
    assert record.read_text() == "# Record\n"
    assert "unfinished (0 of 2 runs)" in (tmp_path / "out" / "tiny" / "results.md").read_text()


def test_a_signal_ends_all_experiments_of_a_command_and_not_one_run(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun = []

    def train(config: Config, data: object, out: Path, **_: object) -> TrainState:
        begun.append(out.name)
        return TrainState(finished="signal")

    monkeypatch.setattr(runs_module, "train_model", train)
    first = write_tiny(tmp_path, tmp_path / "cache")
    second = tmp_path / "other.yaml"
    second.write_text(first.read_text().replace("name: tiny", "name: other"))
    with caplog.at_level("INFO"):
        assert main(["experiment", str(first), str(second), "--data", str(demo / "data"), "--out", str(tmp_path)]) == 0
    assert begun == ["calm-seed0"]
    assert "the same command goes on from here" in caplog.text


def test_a_failing_variant_is_in_the_table_and_the_others_go_on(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = train_model

    def train(config: Config, *arguments: Any, **options: Any) -> TrainState:
        if config.data.start_noise == 3.0:
            raise MemoryError("planted")
        return original(config, *arguments, **options)

    monkeypatch.setattr(runs_module, "train_model", train)
    shutil.copytree(trained / "out" / "tiny" / "calm-seed0", tmp_path / "out" / "tiny" / "calm-seed0")
    path = write_tiny(tmp_path, trained / "cache", ("seeds: [0, 1]", "seeds: [0]"))
    assert run_command(path, trained, tmp_path / "out") == 3
    table = (tmp_path / "out" / "tiny" / "results.md").read_text()
    assert "| noisy |  |  |  | failed: out of memory (planted) (seed 0) |" in table
    assert "| calm | 0." in table


def test_a_bug_is_not_taken_for_a_failed_variant(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object, **__: object) -> None:
        raise RuntimeError("a real bug")

    monkeypatch.setattr(runs_module, "train_model", train)
    with pytest.raises(RuntimeError, match="a real bug"):
        run_command(trained / "tiny.yaml", trained, tmp_path / "out")


def test_a_run_that_was_not_finite_is_failed_and_not_tried_again(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "out", tmp_path / "out")
    checkpoints = RunFolder(tmp_path / "out/tiny/noisy-seed0").checkpoints
    newest = checkpoints.newest()
    assert newest is not None
    state = checkpoints.state(newest)
    checkpoints.write_state(checkpoints.at(newest), {**state, "train": {**state["train"], "finished": "not_finite"}})
    runs = plan_runs(read_experiment(trained / "tiny.yaml"), "cpu", tmp_path / "out")
    session = ExperimentCall(data=trained / "data", budget=TimeBudget(None))
    run_all(runs, session)
    assert session.failures == {("noisy", 0): NOT_FINITE}


@pytest.mark.slow
def test_a_run_in_a_process_of_its_own_gives_the_same(trained: Path, tmp_path: Path) -> None:
    for name in ("calm-seed0", "calm-seed1", "noisy-seed0"):
        shutil.copytree(trained / "out" / "tiny" / name, tmp_path / "out" / "tiny" / name)
    assert run_command(trained / "tiny.yaml", trained, tmp_path / "out", "--jobs", "2") == 0
    one, two = (json.loads((out / "tiny/results.json").read_text()) for out in (trained / "out", tmp_path / "out"))
    assert [v["by_seed"] for v in one["variants"]] == [v["by_seed"] for v in two["variants"]]
    assert "stopped after" in (tmp_path / "out/tiny/noisy-seed1.log").read_text()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (2, "the crop is too long"),
        (-9, "killed by signal 9 (9: most likely out of memory); see "),
        (1, "exit code 1; see "),
        (0, ""),
    ],
)
def test_a_process_that_ends_badly_says_why(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    def run(command: list[str], stdout: TextIO, **_: object) -> SimpleNamespace:
        assert 0.9 < float(command[command.index("--max-hours") + 1]) <= 1.0
        stdout.write("some log\nerror: the crop is too long\n")
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr("subprocess.run", run)
    planned = plan_runs(read_experiment(trained / "tiny.yaml"), "cpu", tmp_path)[0]
    found = train_apart(planned, ExperimentCall(data=trained / "data", budget=TimeBudget(1.0)), 2)
    assert found == reason if code in (0, 2) else found.startswith(reason)


def test_blocks_are_replaced_between_their_markers_alone() -> None:
    begin, end = find_markers("x")
    once = put_block("# Title\n", "x", "table 1", "FILE")
    assert once == f"# Title\n\n{begin}\ntable 1\n{end}\n"
    both = put_block(once + "\nText after.\n", "y", "other", "FILE")
    again = put_block(both, "x", "table 2", "FILE")
    assert again == both.replace("table 1", "table 2")
    assert put_block(again, "x", "table 2", "FILE") == again
    with pytest.raises(InputError, match="FILE: found 1 x '<!-- begin x -->' and 0 x"):
        put_block(begin, "x", "table", "FILE")


def test_bad_options_are_one_line_and_exit_code_2(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_tiny(tmp_path, tmp_path / "cache")
    for options, message in (
        (("--jobs", "0"), "--jobs 0"),
        (("--max-hours", "-1"), "--max-hours -1.0"),
        (("--record", str(tmp_path / "none.md")), "none.md: no such file"),
    ):
        assert run_command(path, demo, tmp_path / "out", *options) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert main(["experiment", str(path), str(path), "--data", str(demo / "data")]) == 2
    assert "the experiment tiny is given twice" in capsys.readouterr().err
    assert main(["experiment", str(path), "--data", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_numbers_and_texts_of_a_file_reach_the_configuration_as_they_are(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, tmp_path / 'a "b"', ("train.epochs: 1", "train.epochs: 1\n  train.learning_rate: 3e-4"))
    run = plan_runs(read_experiment(path), "cpu", tmp_path)[0]
    assert run.config.train.learning_rate == 3e-4 and run.config.train.lr_rule == "fixed"
    assert run.config.data.cache == str(tmp_path / 'a "b"')
    # what a process of its own is told gives the same configuration
    assert resolve_config(run.gpu, run.choices.model, run.choices.overrides) == run.config
