"""The model card: every figure from the run's own files, every command accepted, nothing missing let through."""

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rnafold.cli.main import build_parser, main
from rnafold.config.settings import Config, resolve_config
from rnafold.config.strict_yaml import dump
from rnafold.errors import InputError
from rnafold.model.network import build_network, count_parameters
from rnafold.report.card_text import choose_evaluations
from rnafold.report.model_card import Result, read_results, summarize_result, write_card, write_results
from rnafold.training.checkpoint import save_tensors

RESULTS = [
    summarize_result("validation", "kit, five", {"R1": 0.2, "R2": 0.6, "R|3": 0.4}),
    summarize_result("validation", "kit with network, five", {"R1": 0.3, "R2": 0.5, "R|3": 0.4}),
    Result(set="recent", row="gain", mean=-0.01, standard_error=0.007),
]


@pytest.fixture(scope="module")
def config() -> Config:
    tiny = ["model.width=16", "model.attention_heads=2", "model.feed_forward=32", "model.layers=1"]
    tiny += ["model.pair_channels=8", "model.pair_updates=1", "train.epochs=12", "train.seed=7"]
    return resolve_config("cpu", "minimal", [*tiny, "data.cutoff=2022-05-27", "data.crop_length=128"])


def write_run(folder: Path, config: Config, step: int = 60) -> Path:
    """A run of 12 epochs, evaluated at each: validation TM-score 0.40, 0.42 .. 0.50, then 0.49 .. 0.44."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(config))
    counts = {"entries": 1373, "clusters": 601, "residues": 98765, "longest": 4298}
    summary = {
        "train": counts, "validation": {**counts, "entries": 24},
        "baselines_tm_score": {"zeros": 0.02, "straight_line": 0.05, "start": 0.47},
        "versions": {"rnafold": "0.0.9", "torch": "2.9.1"},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(summary))
    scores = [0.40, 0.42, 0.44, 0.46, 0.48, 0.50, 0.49, 0.48, 0.47, 0.46, 0.45, 0.44]
    records: list[dict[str, Any]] = []
    for epoch, score in enumerate(scores, start=1):
        train = {"kind": "train", "step": 10 * epoch, "epoch": epoch, "loss": 5.0 - epoch / 4}
        records.append({**train, "learning_rate": 1e-3, "elapsed_seconds": 1800.0 * epoch})
        records.append({"kind": "evaluation", "step": 10 * epoch, "epoch": epoch, "tm_score": score})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    described = {"model": asdict(config.model), "cutoff": config.data.cutoff, "seed": config.train.seed}
    described |= {"step": step, "validation_tm_score": 0.5}
    torch.manual_seed(0)
    weights = build_network(config.model).state_dict()
    save_tensors(folder / "best.safetensors", weights, {"rnafold": json.dumps(described)})
    return folder


@pytest.fixture(scope="module")
def run(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("card") / "seven", config)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "results.json"
    write_results(path, RESULTS)
    return path


def commands_of(card: str) -> list[str]:
    found = re.findall(r"^    (python (?:[^\n]*\\\n)*[^\n]*)", card, re.MULTILINE)
    return [command.replace("\\\n", " ") for command in found]


def test_the_card_holds_the_runs_own_figures(run: Path, results: Path, config: Config, tmp_path: Path) -> None:
    card = write_card(run, results, tmp_path / "card.md").read_text(encoding="utf-8")
    weights = run / "best.safetensors"
    assert card.startswith("# best.safetensors\n")
    assert f"{count_parameters(build_network(config.model)):,} parameters" in card
    assert f"{weights.stat().st_size:,} bytes" in card
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in card
    assert "| train | 1,373 | 601 | 98,765 | 4,298 |" in card and "| validation | 24 |" in card
    assert "cutoff **2022-05-27**" in card and "| seed | 7 " in card
    assert "the latest 8% of the sequence clusters" in card
    assert "| torch | 2.9.1 |" in card and "| rnafold | 0.0.9 |" in card
    # epoch 6 is the best: loss 5 - 6 / 4, after 6 x 1800 s
    assert "| 60 | 6 | 3.500 | 0.001 | 0.5000 | 3.00 |" in card
    assert "It stopped at epoch" not in card
    assert "at most 128 residues at once, pieces of longer chains (the longest had 4,298)" in card
    assert "better than its start structures: 0.5000 against 0.4700 (+0.0300)" in card
    for word in (
        "Pseudoknots:",
        "Complexes:",
        "Length:",
        "Intended use",
        "Not trained on anything released on or after",
    ):
        assert word in card


def test_fold_models_are_made_by_a_command_of_the_card_where_the_run_used_any(
    run: Path, results: Path, tmp_path: Path
) -> None:
    assert "fold models" not in write_card(run, results, tmp_path / "card.md").read_text(encoding="utf-8")
    folded = shutil.copytree(run, tmp_path / "folded")
    text = (folded / "config.yaml").read_text(encoding="utf-8")
    assert "start_models: ''" in text
    (folded / "config.yaml").write_text(text.replace("start_models: ''", "start_models: runs/mine"), encoding="utf-8")
    card = write_card(folded, results, tmp_path / "folded.md").read_text(encoding="utf-8")
    assert "train_ranker.py --data DIR --out runs/folds-scratch --folds runs/mine" in card
    assert "make weights DATA=DIR" in card


def test_targets_stand_from_the_best_to_the_worst_in_a_table_a_set(run: Path, results: Path, tmp_path: Path) -> None:
    card = write_card(run, results, tmp_path / "card.md").read_text(encoding="utf-8")
    # three values 0.2 apart: deviation 0.2, standard error 0.2 / sqrt(3) = 0.1155
    assert "| validation | kit, five | 0.4000 | 0.1155 | 3 |" in card
    assert "| recent | gain | -0.0100 | 0.0070 | – |" in card
    table = card.split("### validation, by target")[1].split("##")[0].strip().splitlines()
    assert table[0] == "| target | kit, five | kit with network, five |"
    assert table[2:] == ["| R2 | 0.6000 | 0.5000 |", "| R\\|3 | 0.4000 | 0.4000 |", "| R1 | 0.2000 | 0.3000 |"]
    assert "### recent" not in card


def test_the_cards_commands_are_accepted_and_train_this_very_configuration(
    run: Path, results: Path, config: Config, tmp_path: Path
) -> None:
    card = write_card(run, results, tmp_path / "card.md").read_text(encoding="utf-8")
    train, predict, benchmark, again = commands_of(card)
    parsed = build_parser().parse_args(shlex.split(train)[3:])
    assert resolve_config(parsed.gpu, parsed.model, parsed.set) == config
    assert str(parsed.out) == "runs/seven"
    assert build_parser().parse_args(shlex.split(predict)[3:]).weights == Path("best.safetensors")
    assert build_parser().parse_args(shlex.split(again)[3:]).results == Path("results.json")
    assert benchmark.split()[-5:] == ["--sets", "validation", "recent", "--json", "results.json"]


def test_a_copy_beside_the_card_gives_its_name_and_must_be_the_same_file(
    run: Path, results: Path, tmp_path: Path
) -> None:
    shutil.copyfile(run / "best.safetensors", tmp_path / "base.safetensors")
    card = write_card(run, results, tmp_path / "base.md").read_text(encoding="utf-8")
    assert card.startswith("# base.safetensors\n") and "--weights base.safetensors" in card
    (tmp_path / "base.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match="lies beside the card but is not"):
        write_card(run, results, tmp_path / "base.md")


def test_a_run_cut_short_and_below_its_starts_is_told(config: Config, results: Path, tmp_path: Path) -> None:
    long = replace(config, train=replace(config.train, epochs=40))
    folder = write_run(tmp_path / "run", long)
    summary = json.loads((folder / "run.json").read_text())
    summary["baselines_tm_score"]["start"] = 0.55
    (folder / "run.json").write_text(json.dumps(summary))
    card = write_card(folder, results).read_text(encoding="utf-8")
    assert (folder / "best.md").is_file()
    assert "It stopped at epoch 12 of the 40 that the command allows" in card
    assert "no better than its start structures: 0.5000 against 0.5500 (-0.0500)" in card


def test_of_many_evaluations_the_first_the_best_and_the_last_are_shown() -> None:
    records = [{"step": k, "tm_score": 0.9 if k == 5 else 0.1} for k in range(101)]
    steps = [record["step"] for record in choose_evaluations(records)]
    # 7 evenly spaced ones of 0..100 (every 16.7) and the best
    assert steps == [0, 5, 17, 33, 50, 67, 83, 100]
    assert choose_evaluations(records[:8]) == records[:8]


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "metrics.jsonl", "best.safetensors"])
def test_a_missing_file_ends_with_exit_code_2_and_its_name(
    run: Path, results: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / name).unlink()
    out = tmp_path / "card.md"
    assert main(["card", "--run", str(folder), "--results", str(results), "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert f"lacks {name}" in message and len(message.strip().splitlines()) == 1
    assert not out.exists()


def change_config(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("seed: 7", "seed: 8"))


def change_summary(folder: Path) -> None:
    content = json.loads((folder / "run.json").read_text())
    del content["versions"]
    (folder / "run.json").write_text(json.dumps(content))


def cut_metrics(folder: Path) -> None:
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:4]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(change_config, "its seed is not that of config.yaml", id="seed of another run"),
        pytest.param(change_summary, "run.json: lacks versions", id="no versions"),
        pytest.param(cut_metrics, "of step 60, but metrics.jsonl ends at step 20", id="metrics of another run"),
        pytest.param(lambda f: (f / "metrics.jsonl").write_text(""), "at least one training record", id="no record"),
        pytest.param(lambda f: (f / "best.safetensors").write_bytes(b"no"), "not written by `train`", id="weights"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    run: Path, results: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    change(folder)
    with pytest.raises(InputError, match=message):
        write_card(folder, results, tmp_path / "card.md")


def test_results_are_read_back_as_they_were_written(results: Path) -> None:
    assert read_results(results) == RESULTS
    assert set(json.loads(results.read_text())[0]) == {"set", "row", "mean", "standard_error", "by_target"}
    assert summarize_result("a", "b", {"R1": 0.5}).standard_error is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("{", "not readable JSON", id="cut"),
        pytest.param("[]", "at least one", id="empty"),
        pytest.param('[{"set": "a", "row": "b", "mean": 1}]', "result 1: expected the keys", id="keys"),
        pytest.param([{"mean": "high"}], "mean: found 'high'", id="text"),
        pytest.param([{"mean": 0.9}], r"mean: found 0.90000, but by_target has the mean 0.40000", id="other mean"),
        pytest.param([{"set": ""}], "set: found ''", id="no set"),
        pytest.param([{"standard_error": -1}], "standard_error: found -1", id="negative error"),
        pytest.param([{"by_target": [1]}], "by_target: found", id="list of targets"),
        pytest.param([{"by_target": {"R1": None}}], "by_target: R1: found None", id="no value"),
        pytest.param([{}, {}], "'validation', row 'kit, five' is there more than once", id="twice"),
    ],
)
def test_results_that_make_no_table_are_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps([asdict(RESULTS[0]) | c for c in content]))
    with pytest.raises(InputError, match=message) as caught:
        read_results(path)
    assert "\n" not in str(caught.value)
