"""Training with a small random encoder: rates, frozen weights, gradual unfreezing, exact resume, and the verdict."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from rnafold.cli.main import main
from rnafold.config.settings import Config, resolve_config
from rnafold.data.demo import write_demo_data
from rnafold.errors import InputError
from rnafold.files.mounts import file_sha256
from rnafold.kaggle.inputs import find_weights
from rnafold.model.network import build_network, count_parameters
from rnafold.model.weights import choose_weights, load_network
from rnafold.planner.memory.estimate import trace_key
from rnafold.planner.memory.records import PHASES
from rnafold.planner.memory.trace import record
from rnafold.prediction.run import PredictOptions, build_solver
from rnafold.training import comparison
from rnafold.training.checkpoint import save_tensors
from rnafold.training.evaluate import Evaluation
from rnafold.training.guard import RunGuard
from rnafold.training.run import train_model
from rnafold.training.schedule import TimeBudget
from tests.pieces.budgets import StepBudget
from tests.pieces.encoders import SMALL, random_tensors, write_encoder

LAYER = "encoder.trunk.transformer_encoder"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("encoder")
    write_demo_data(found / "data", num_train=12, num_test=2)
    write_encoder(found / "RibonanzaNet.pt")
    return found


def configure(folder: Path, *more: str, encoder: bool = True) -> Config:
    tiny = ["model.width=16", "model.attention_heads=2", "model.feed_forward=32", "model.layers=2"]
    tiny += ["model.pair_channels=8", "model.pair_updates=1", "model.dropout=0.1", "train.log_every_steps=1"]
    tiny += ["train.epochs=3", "train.warmup_epochs=0", "train.patience=0", "data.cutoff=2022-01-01", "data.jobs=1"]
    tiny += ["data.validation=file", "data.max_validation=1", "data.crop_length=24", f"data.cache={folder / 'cache'}"]
    mounted = [f"model.encoder.path={folder / 'RibonanzaNet.pt'}", "model.encoder.unfreeze_last=2"]
    mounted += ["model.encoder.unfreeze_every_epochs=1"]
    return resolve_config("cpu", "minimal", [*tiny, *(mounted if encoder else []), *more])


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """Three epochs of two steps: the last layer trains from the second epoch on, the one before it in the third."""
    state = train_model(configure(folder), folder / "data", folder / "run")
    assert (state.finished, state.step) == ("epochs", 6)
    return folder / "run"


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    train_model(configure(folder, "train.epochs=1", encoder=False), folder / "data", folder / "plain")
    return folder / "plain"


def describe(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        described: dict[str, Any] = json.loads(file.metadata()["rnafold"])
    return described


def test_only_what_trained_has_changed_moments_and_a_place_in_the_files(run: Path) -> None:
    saved = {n: load_file(run / "checkpoints" / "step_00000006" / f"{n}.safetensors") for n in ("model", "optimizer")}
    start = random_tensors()
    inside = {n.removeprefix("encoder.trunk."): v for n, v in saved["model"].items() if n.startswith("encoder.trunk.")}
    assert {n.split(".")[1] for n in inside} == {"1", "2"} and all(n.startswith("transformer_") for n in inside)
    assert all(not torch.equal(v, start[n]) for n, v in inside.items() if n.endswith("linear1.weight"))
    # steps 1 and 2 train no layer, 3 and 4 the last, 5 and 6 the last two; AdamW counts per parameter
    steps = {n: int(v) for n, v in saved["optimizer"].items() if n.startswith("step.")}
    assert {v for n, v in steps.items() if f"{LAYER}.2." in n} == {4}
    assert {v for n, v in steps.items() if f"{LAYER}.1." in n} == {2}
    assert steps["step.encoder.single.weight"] == steps["step.tokens.weight"] == 6
    assert not any(f"{LAYER}.0." in n or "trunk.encoder" in n for n in steps)
    weights = run / "best.safetensors"
    assert set(load_file(weights)) == set(saved["model"])
    described = describe(weights)
    assert described["encoder"] == {"file": "RibonanzaNet.pt", "sha256": file_sha256(run.parent / "RibonanzaNet.pt")}
    assert described["encoder_accepted"] is False


def test_the_encoder_learns_at_its_share_of_the_rate(folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        groups = optimizer.param_groups
        assert [g["weight_decay"] for g in groups] == [0.01, 0.0, 0.01, 0.0]
        seen.append((groups[0]["lr"], groups[2]["lr"]))

    config = configure(folder, "train.epochs=1", "model.encoder.learning_rate_share=0.25", "train.learning_rate=1e-3")
    hook = register_optimizer_step_post_hook(look)
    try:
        train_model(config, folder / "data", tmp_path / "run")
    finally:
        hook.remove()
    assert len(seen) == 2
    assert seen[0][0] == pytest.approx(1e-3) and seen[1][0] < seen[0][0]
    assert all(slow == pytest.approx(0.25 * full) for full, slow in seen)


@pytest.mark.parametrize("stop_after", [3, 4], ids=["inside an epoch", "where a layer thaws"])
def test_a_resumed_run_gives_the_same_bytes(folder: Path, run: Path, tmp_path: Path, stop_after: int) -> None:
    budget = StepBudget(stop_after)
    state = train_model(configure(folder), folder / "data", tmp_path / "run", budget=budget)
    assert (state.finished, state.step) == ("time", stop_after)
    train_model(configure(folder), folder / "data", tmp_path / "run", resume=True)
    for name in ("model", "average", "optimizer"):
        parts = [p / "checkpoints" / "step_00000006" / f"{name}.safetensors" for p in (run, tmp_path / "run")]
        assert parts[0].read_bytes() == parts[1].read_bytes(), name


def test_a_moved_mount_resumes_and_another_encoder_is_refused(folder: Path, run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "RibonanzaNet.pt"
    moved.parent.mkdir()
    moved.write_bytes((folder / "RibonanzaNet.pt").read_bytes())
    config = configure(folder, f"model.encoder.path={moved}")
    assert train_model(config, folder / "data", run, resume=True).step == 6
    write_encoder(moved, seed=1)
    for attempt in (
        lambda: train_model(config, folder / "data", run, resume=True),
        lambda: load_network(copy_beside(run / "best.safetensors", moved)),
    ):
        with pytest.raises(InputError, match=r"trained with the encoder RibonanzaNet\.pt \(sha256 .*found Ribonanza"):
            attempt()


def copy_beside(weights: Path, encoder: Path) -> Path:
    """The weights in the encoder's folder, with a configured path that leads nowhere."""
    target = encoder.with_name("weights.safetensors")
    described = describe(weights)
    described["model"]["encoder"]["path"] = f"/nowhere/{encoder.name}"
    save_tensors(target, load_file(weights), {"rnafold": json.dumps(described)})
    return target


def test_weights_give_back_the_network_that_was_saved(folder: Path, run: Path, tmp_path: Path) -> None:
    beside = write_encoder(tmp_path / "RibonanzaNet.pt")
    network = load_network(copy_beside(run / "best.safetensors", beside))
    saved = load_file(run / "best.safetensors")
    found = dict(network.named_parameters())
    assert all(torch.equal(found[n], v) for n, v in saved.items())
    assert torch.equal(found[f"{LAYER}.0.conv.weight"], random_tensors()["transformer_encoder.0.conv.weight"])


@pytest.mark.parametrize(
    ("ours", "theirs", "accepted"), [(0.6, 0.5, True), (0.53, 0.5, True), (0.5, 0.5, False), (0.4, 0.5, False)]
)
def test_an_encoder_that_does_not_beat_the_plain_network_is_switched_off_and_says_so(
    folder: Path,
    run: Path,
    plain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ours: float,
    theirs: float,
    accepted: bool,
) -> None:
    """A finished run is compared by resuming it; nothing is trained again."""
    results = iter(
        Evaluation(tm_score=mean, by_target={"a": mean - apart, "b": mean + apart}, physics={})
        for mean, apart in ((ours, 0.02), (theirs, 0.0))
    )
    monkeypatch.setattr(comparison, "evaluate", lambda *_: next(results))
    config = configure(folder, f"model.encoder.compare_with={plain}")
    before = load_file(run / "best.safetensors")
    with caplog.at_level("INFO"):
        assert train_model(config, folder / "data", run, resume=True).step == 6
    weights = run / "best.safetensors"
    assert describe(weights)["encoder_accepted"] is accepted
    assert ("encoder accepted" if accepted else "encoder switched off") in caplog.text
    # differences of gain - 0.02 and gain + 0.02: deviation 0.02 x sqrt(2), over sqrt(2) targets 0.02
    assert f"({ours - theirs:+.4f}, ± 0.0200, 2 targets)" in caplog.text
    assert ("within the noise" in caplog.text) is (0 < ours - theirs < 2 * 0.02)
    assert all(torch.equal(v, before[n]) for n, v in load_file(weights).items())
    caplog.clear()
    chosen = choose_weights(weights)
    assert chosen == (weights if accepted else plain / "best.safetensors")
    assert ("switched off" in caplog.text) is not accepted
    assert find_weights(folder) == (weights if accepted else plain / "best.safetensors")
    used = build_solver(PredictOptions(test=weights, sample=weights, out=weights, weights=weights, gpu="cpu"))
    assert (used.network.encoder is not None) is accepted  # type: ignore[union-attr]
    if not accepted:
        alone = copy_beside(weights, tmp_path / "RibonanzaNet.pt")
        described = describe(alone)
        described["compared_with"]["file"] = "/nowhere/best.safetensors"
        save_tensors(alone, before, {"rnafold": json.dumps(described)})
        assert choose_weights(alone) is None
        assert "going on without a network" in caplog.text


def test_both_networks_really_predict_the_validation_targets(folder: Path, plain: Path, tmp_path: Path) -> None:
    config = configure(folder, f"model.encoder.compare_with={plain}", "train.epochs=1")
    train_model(config, folder / "data", tmp_path / "run")
    described = describe(tmp_path / "run" / "best.safetensors")
    assert described["compared_tm_score"] == described["validation_tm_score"]
    assert described["compared_with"]["tm_score"] == describe(plain / "best.safetensors")["validation_tm_score"]
    assert described["compared_standard_error"] is None, "one target has no spread"
    better = described["compared_tm_score"] > described["compared_with"]["tm_score"]
    assert described["encoder_accepted"] is better


def test_a_run_that_was_never_compared_is_not_used(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_model(configure(folder, "train.epochs=1"), folder / "data", tmp_path / "run")
    assert "compare_with is not set" in caplog.text
    assert choose_weights(tmp_path / "run" / "best.safetensors") is None
    assert "never compared" in caplog.text


@pytest.mark.parametrize("hindrance", ["no time", "weights gone"])
def test_a_comparison_that_fails_leaves_the_encoder_switched_off(
    folder: Path, run: Path, plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, hindrance: str
) -> None:
    weights = write_encoder(tmp_path / "RibonanzaNet.pt").with_name("best.safetensors")
    weights.write_bytes((run / "best.safetensors").read_bytes())
    before = weights.read_bytes()
    compared = plain if hindrance == "no time" else tmp_path / "gone.safetensors"
    config = configure(folder, f"model.encoder.compare_with={compared}")
    budget = TimeBudget(1e-6 if hindrance == "no time" else None)
    never_looked_at: Any = [None]
    assert comparison.judge_encoder(config, weights, never_looked_at, "cpu", budget) is None
    assert "stays switched off" in caplog.text and weights.read_bytes() == before


def test_what_cannot_be_compared_is_refused_before_training(folder: Path, run: Path, plain: Path) -> None:
    for change, message in (
        (f"model.encoder.compare_with={run}", "has an encoder itself"),
        (f"model.encoder.compare_with={folder / 'nothing'}", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            comparison.check_comparison(configure(folder, change))
    later = configure(folder, f"model.encoder.compare_with={plain}", "data.cutoff=2023-01-01")
    with pytest.raises(InputError, match="not comparable"):
        comparison.check_comparison(later)


def test_a_wrong_encoder_file_is_one_line_and_exit_code_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = random_tensors()
    tensors["transformer_encoder.0.linear1.weight"] = torch.zeros(64, 17)
    torch.save(tensors, tmp_path / "e.pt")
    arguments = ["train", "--gpu", "cpu", "--model", "minimal", "--data", str(folder / "data"), "--out"]
    settings = ["data.crop_length=24", f"data.cache={folder / 'cache'}", "data.cutoff=2022-01-01"]
    code = main([*arguments, str(tmp_path / "run"), "--set", f"model.encoder.path={tmp_path / 'e.pt'}", *settings])
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and "linear1.weight is of shape (64, 17), expected (64, 16)" in said[-1]


def test_the_planner_counts_frozen_weights_and_the_encoder_as_no_recycle(folder: Path) -> None:
    small = replace(SMALL, kernels=(3, 1))
    path = write_encoder(folder / "two" / "layers.pt", small)
    config = configure(folder, "train.precision=fp32", f"model.encoder.path={path}", "model.encoder.unfreeze_last=1")
    trace = record(trace_key(config, 24))
    plain = build_network(replace(config.model, encoder=None))
    sizes = {n: v.numel() for n, v in random_tensors(small).items() if not n.startswith("decoder")}
    thawed = sum(v for n, v in sizes.items() if n.startswith("transformer_encoder.1."))
    # the projections are 16 x 16 and 8 x 8
    assert trace.num_parameters == count_parameters(plain) + thawed + 16 * 16 + 8 * 8
    assert trace.num_frozen == sum(sizes.values()) - thawed
    parts = trace.peak(1).parts
    assert parts["weights"] == parts["average"] == 4 * (trace.num_parameters + trace.num_frozen)
    assert 2 <= parts["optimizer"] / (4 * trace.num_parameters) < 2.02
    # two triangle products of the frozen layer alone are 2 x 24^3 x 8 channels x 2 operations: no part of a recycle
    rows = trace.operations
    assert float((rows[:, 3] * rows[:, 6])[rows[:, 0] == PHASES.index("recycle")].sum()) < 2 * 24**3 * 8 * 2


def test_a_trace_is_kept_for_the_file_and_not_for_its_place(folder: Path) -> None:
    key = trace_key(configure(folder), 24)
    other = write_encoder(folder / "other" / "RibonanzaNet.pt", seed=2)
    assert key.model.encoder is not None
    moved = replace(key, model=replace(key.model, encoder=replace(key.model.encoder, path=str(other))))
    assert moved.fingerprint() != key.fingerprint()
    other.write_bytes((folder / "RibonanzaNet.pt").read_bytes())
    assert moved.fingerprint() == key.fingerprint()


def test_a_small_encoder_leaves_a_cpu_run_a_trial_and_a_large_one_does_not(folder: Path, tmp_path: Path) -> None:
    assert RunGuard(configure(folder), tmp_path / "a").is_trial
    big = tmp_path / "big.pt"
    big.write_bytes(bytes(4 * 1_000_000))
    assert not RunGuard(configure(folder, f"model.encoder.path={big}"), tmp_path / "b").is_trial
