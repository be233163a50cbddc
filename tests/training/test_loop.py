"""The training loop end to end on small demo data: learning, exact resume, accumulation, OOM, NaN, time, signals."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rnafold.config.settings import Config, load_config, resolve_config
from rnafold.data.demo import write_demo_data
from rnafold.data.sampler import Window
from rnafold.data.selection import choose_entries
from rnafold.errors import InputError
from rnafold.features.batch import Batch, collate
from rnafold.files.metrics import read_metrics
from rnafold.model.losses import compute_losses
from rnafold.model.network import PairNetwork
from rnafold.training import loop, step
from rnafold.training.evaluate import Evaluation
from rnafold.training.loop import Trainer
from rnafold.training.run import train_model
from rnafold.training.schedule import TimeBudget
from rnafold.training.state import Meter
from tests.pieces.budgets import StepBudget, StepClock
from tests.pieces.machines import launch_on_two_machines
from tests.pieces.tiny import TINY_MODEL

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *TINY_MODEL,
    "model.pair_updates=1",
    "model.dropout=0.1",
    "train.epochs=2",
    "train.log_every_steps=1",
    "train.warmup_epochs=0",
    "train.patience=0",
    "data.cutoff=2022-01-01",
    "data.validation=file",
    "data.jobs=1",
    "data.max_validation=2",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder / "data", num_train=18, num_test=3)
    return folder


def configure(demo: Path, *more: str) -> Config:
    return resolve_config("cpu", "minimal", [*TINY, f"data.cache={demo / 'cache'}", *more])


def train_records(run: Path) -> list[dict[str, Any]]:
    return [r for r in read_metrics(run / "metrics.jsonl") if r["kind"] == "train"]


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timed = ("loading_seconds", "residues_per_second", "peak_memory_gib", "step_seconds", "elapsed_seconds")
    return [{k: v for k, v in r.items() if k not in (*timed, "micro_batch_seconds_by_length")} for r in records]


def test_training_learns_and_leaves_everything_a_run_should(demo: Path, tmp_path: Path) -> None:
    config = configure(
        demo, "train.epochs=8", "train.lr_rule=fixed", "train.learning_rate=3e-3", "data.start_noise=2.0"
    )
    state = train_model(config, demo / "data", tmp_path / "run")
    records = train_records(tmp_path / "run")
    assert state.finished == "epochs"
    # three steps an epoch (18 entries, effective batch 8)
    assert [r["step"] for r in records] == list(range(1, 25))
    first, last = records[:3], records[-3:]
    # the start has 2 Å of noise on every residue: near distances and pairs are what a few steps learn to mend
    assert sum(r["distance"] for r in last) < 0.95 * sum(r["distance"] for r in first)
    assert sum(r["watson_crick"] for r in last) < 0.9 * sum(r["watson_crick"] for r in first)
    for name in ("bond", "angle", "clash", "watson_crick", "learning_rate", "grad_norm", "peak_memory_gib"):
        assert name in records[0]
    evaluations = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "evaluation"]
    assert len(evaluations) == 8 and 0 < evaluations[-1]["tm_score"] <= 1
    assert load_config(tmp_path / "run" / "config.yaml") == config
    assert (tmp_path / "run" / "best.safetensors").is_file()
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert json.loads((tmp_path / "run" / "run.json").read_text())["baselines_tm_score"]["zeros"] < 0.2


def test_profile_leaves_traces_of_both_cycles(demo: Path, tmp_path: Path) -> None:
    # wait 1, warm-up 1, active 3, twice: ten steps of one example each
    batch = ["train.micro_batch=1", "train.accumulation=1", "train.effective_batch=1"]
    config = configure(demo, *batch, "train.epochs=1", "data.max_entries=10", "data.max_validation=1")
    train_model(config, demo / "data", tmp_path / "run", profile=True)
    assert len(list((tmp_path / "run" / "profile").iterdir())) == 2


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(demo: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_model(configure(demo, f"train.seed={seed}"), demo / "data", tmp_path / name)
    weights = {n: (tmp_path / n / "best.safetensors").read_bytes() for n in "abc"}
    assert weights["a"] == weights["b"]
    assert weights["a"] != weights["c"]


@pytest.mark.parametrize("stop_after", [2, 3, 4], ids=["mid-epoch", "epoch-end", "second-epoch"])
def test_a_resumed_run_is_bit_identical_to_one_that_never_stopped(demo: Path, tmp_path: Path, stop_after: int) -> None:
    config = configure(demo)
    train_model(config, demo / "data", tmp_path / "whole")
    state = train_model(config, demo / "data", tmp_path / "parts", budget=StepBudget(stop_after))
    assert (state.finished, state.step) == ("time", stop_after)
    state = train_model(config, demo / "data", tmp_path / "parts", resume=True)
    assert (state.finished, state.step) == ("epochs", 6)
    whole, parts = (
        load_file(tmp_path / n / "checkpoints" / "step_00000006" / "model.safetensors") for n in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert without_times(train_records(tmp_path / "whole")) == without_times(train_records(tmp_path / "parts"))


def test_one_window_split_in_micro_batches_has_one_gradient(demo: Path, tmp_path: Path) -> None:
    config = configure(demo, "model.dropout=0.0", "loss.distance.weight=0")
    trainer = build_trainer(config, demo, tmp_path / "run")
    (window, *_) = trainer.loader.windows(0)
    batches = [collate([trainer.loader.examples[0, k] for k in window_indices(window)])]
    gradients = []
    for limit in (8, 3, 1):
        trainer.state.micro_limit = limit
        trainer.learner.optimizer.zero_grad()
        _, residues = trainer.stepper.accumulate(batches, Meter())
        gradients.append(
            torch.cat([p.grad.flatten() for p in trainer.learner.trained_parameters() if p.grad is not None])
        )
        assert residues == int(batches[0].coord_mask.sum())
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)
    assert torch.allclose(gradients[0], gradients[2], rtol=1e-3, atol=1e-5)


def window_indices(window: Window) -> list[int]:
    return [k for micro in window.micro_batches for k in micro]


def build_trainer(config: Config, demo: Path, out: Path) -> Trainer:
    from rnafold.features.source import FeatureSource
    from rnafold.training.dataset import TrainingExamples

    entries = choose_entries(demo / "data", config.data)
    features = FeatureSource(config.data)
    features.prepare([e.target for e in entries.train])
    out.mkdir(parents=True)
    return Trainer(config, TrainingExamples(entries.train, features, 0), [], out, TimeBudget(None))


def test_out_of_memory_halves_the_micro_batch_at_the_same_effective_batch(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = PairNetwork.forward

    def forward(self: PairNetwork, batch: Batch, recycles: int = 0) -> Any:
        if len(batch.mask) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (planted)")
        return original(self, batch, recycles)

    monkeypatch.setattr(PairNetwork, "forward", forward)
    config = configure(demo, "train.micro_batch=8", "train.accumulation=1", "train.epochs=1")
    state = train_model(config, demo / "data", tmp_path / "run")
    assert state.micro_limit == 2
    assert state.step == 3, "every window was done, none lost"
    monkeypatch.setattr(PairNetwork, "forward", lambda *_: (_ for _ in ()).throw(MemoryError("planted")))
    with pytest.raises(InputError, match=r"micro batch of 1.*crop_length"):
        train_model(config, demo / "data", tmp_path / "other")


def test_another_runtime_error_is_not_taken_for_out_of_memory(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PairNetwork, "forward", lambda *_: (_ for _ in ()).throw(RuntimeError("a real bug")))
    with pytest.raises(RuntimeError, match="a real bug"):
        train_model(configure(demo), demo / "data", tmp_path / "run")


def test_steps_that_are_not_finite_are_skipped_and_then_stop_the_run_with_the_last_good_weights(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = compute_losses

    def compute(output: Any, batch: Batch, config: Any, epoch: float) -> Any:
        losses = original(output, batch, config, epoch)
        # three steps an epoch: from the fifth step on, however many passes a step makes
        return replace(losses, total=losses.total * (float("nan") if round(3 * epoch) >= 4 else 1.0))

    monkeypatch.setattr(step, "compute_losses", compute)
    config = configure(demo, "train.max_bad_steps=3", "train.epochs=9", "train.micro_batch=8", "train.accumulation=1",
                       "train.checkpoint_every_epochs=1")  # fmt: skip
    state = train_model(config, demo / "data", tmp_path / "run")
    # steps 5, 6 and 7 are bad: the third of them ends the run
    assert (state.finished, state.step) == ("not_finite", 7)
    records = train_records(tmp_path / "run")
    assert [r["skipped_steps"] for r in records] == [0, 0, 0, 0, 1, 1, 1]
    weights = load_file(tmp_path / "run" / "best.safetensors")
    assert all(torch.isfinite(v).all() for v in weights.values())


def test_one_bad_step_is_skipped_and_training_goes_on(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = compute_losses, [0]

    def compute(output: Any, batch: Batch, config: Any, epoch: int) -> Any:
        losses = original(output, batch, config, epoch)
        calls[0] += 1
        return replace(losses, total=losses.total * (float("nan") if calls[0] == 1 else 1.0))

    monkeypatch.setattr(step, "compute_losses", compute)
    state = train_model(configure(demo), demo / "data", tmp_path / "run")
    assert (state.finished, state.bad_steps) == ("epochs", 0)
    assert [r["skipped_steps"] for r in train_records(tmp_path / "run")] == [1, 0, 0, 0, 0, 0]


def test_early_stopping_counts_evaluations_without_gain(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.3, 0.5, 0.4, 0.5, 0.9])
    monkeypatch.setattr(loop, "evaluate", lambda *_: Evaluation(tm_score=next(values), by_target={}, physics={}))
    state = train_model(configure(demo, "train.epochs=9", "train.patience=2"), demo / "data", tmp_path / "run")
    # best 0.5 after epoch 2; 0.4 and an equal 0.5 are no gain: stop after epoch 4
    assert (state.finished, state.epoch, state.best_tm) == ("patience", 4, 0.5)


def test_max_hours_stops_in_time_with_a_checkpoint(demo: Path, tmp_path: Path) -> None:
    with StepClock(10.0) as clock:
        budget = TimeBudget(100 / 3600, clock)
        state = train_model(configure(demo, "train.epochs=5000"), demo / "data", tmp_path / "run", budget=budget)
    # one more step is begun while 10 s x 1.5 and 2 s are left of 100 s: at 0, 10 .. 80
    assert (state.finished, state.step) == ("time", 9)
    assert train_records(tmp_path / "run")[-1]["elapsed_seconds"] == 90
    assert (tmp_path / "run" / "checkpoints" / "LATEST").is_file()
    assert (tmp_path / "run" / "best.safetensors").is_file()


def test_an_evaluation_that_the_time_did_not_reach_is_made_up_for_on_resume(demo: Path, tmp_path: Path) -> None:
    config = configure(demo)
    state = train_model(config, demo / "data", tmp_path / "run", budget=StepBudget(6, "evaluation"))
    # both epochs of three steps are done, but not the evaluation of the second
    assert (state.finished, state.step) == ("time", 6)
    state = train_model(config, demo / "data", tmp_path / "run", resume=True)
    assert (state.finished, state.step, state.epoch) == ("epochs", 6, 2)
    evaluations = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "evaluation"]
    assert [r["step"] for r in evaluations] == [3, 6]


def test_a_run_folder_is_not_overwritten_without_resume(demo: Path, tmp_path: Path) -> None:
    config = configure(demo, "train.epochs=1")
    train_model(config, demo / "data", tmp_path / "run")
    with pytest.raises(InputError, match="--resume"):
        train_model(config, demo / "data", tmp_path / "run")
    other = configure(demo, "model.width=32")
    with pytest.raises(InputError, match="is of model"):
        train_model(
            replace(other, model=replace(other.model, name="other")), demo / "data", tmp_path / "run", resume=True
        )


def test_entries_at_or_after_the_cutoff_never_train(demo: Path) -> None:
    config = configure(demo, "data.cutoff=2020-01-10").data
    entries = choose_entries(demo / "data", config)
    # demo entries are released one a day from 2020-01-01: nine are before the tenth
    assert len(entries.train) == 9
    with pytest.raises(InputError, match=r"none of 18 entries.*2019-01-01"):
        choose_entries(demo / "data", replace(config, cutoff="2019-01-01"))


def test_a_development_split_is_younger_and_of_other_clusters(demo: Path) -> None:
    config = configure(demo, "data.validation=development", "data.development_fraction=0.3").data
    entries = choose_entries(demo / "data", config)
    assert entries.validation
    newest = max(e.target.cutoff for e in entries.train if e.target.cutoff is not None)
    assert all(e.target.cutoff is not None and e.target.cutoff > newest for e in entries.validation)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than a small machine's cores
def test_loader_processes_change_nothing(demo: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        train_model(configure(demo, f"train.loader_workers={workers}"), demo / "data", tmp_path / str(workers))
    assert (tmp_path / "0" / "best.safetensors").read_bytes() == (tmp_path / "2" / "best.safetensors").read_bytes()


@pytest.mark.parametrize("model", ["minimal", "plain"])
def test_bf16_and_candidate_starts_train_with_finite_losses(demo: Path, tmp_path: Path, model: str) -> None:
    small = [x for x in TINY if not x.startswith("model.pair")] + ["model.width=32"]
    overrides = small if model == "plain" else TINY
    extra = ["train.precision=bf16", "data.start=candidates", "data.max_entries=8", "train.epochs=1"]
    config = resolve_config("cpu", model, [*overrides, f"data.cache={demo / 'cache'}", *extra])
    assert train_model(config, demo / "data", tmp_path / "run").finished == "epochs"
    assert all(r["skipped_steps"] == 0 and 0 < r["loss"] < 50 for r in train_records(tmp_path / "run"))


def test_a_learning_rate_from_the_user_is_used_and_the_rules_are_printed(
    demo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configure(demo, "train.learning_rate=3.3e-4", "train.epochs=1")
    assert config.train.lr_rule == "fixed"
    with caplog.at_level("INFO"):
        train_model(config, demo / "data", tmp_path / "run")
    # no warm-up: the first step has the full rate
    assert train_records(tmp_path / "run")[0]["learning_rate"] == pytest.approx(3.3e-4)
    assert all(rule in caplog.text for rule in ("linear", "sqrt", "fixed"))


@pytest.mark.slow
def test_two_machines_train_like_one_process(demo: Path, tmp_path: Path) -> None:
    overrides = [*TINY, f"data.cache={demo / 'cache'}", "model.dropout=0.0", "loss.distance.weight=0",
                 "train.epochs=1"]  # fmt: skip
    common = ["train", "--gpu", "cpu", "--model", "minimal", "--data", str(demo / "data"), "--set", *overrides]
    train_model(resolve_config("cpu", "minimal", [*overrides, "train.accumulation=4"]), demo / "data", tmp_path / "one")
    launch_on_two_machines(
        [*common, "train.accumulation=2", "hardware.num_gpus=2", "--out", str(tmp_path / "two")], 29741
    )
    one, two = ([r["loss"] for r in train_records(tmp_path / name)] for name in ("one", "two"))
    assert one == pytest.approx(two, rel=1e-3)


@pytest.mark.slow
def test_two_processes_train_like_one(demo: Path, tmp_path: Path) -> None:
    overrides = [*TINY, f"data.cache={demo / 'cache'}", "model.dropout=0.0", "loss.distance.weight=0",
                 "train.epochs=1"]  # fmt: skip
    arguments = ["--gpu", "cpu", "--model", "minimal", "--data", str(demo / "data")]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node"]
    # nothing is said of the number of processes: a batch of 8 is 2 x 4 alone and 2 x 2 on each of two
    for ranks in (1, 2):
        command = [*torchrun, str(ranks), "--master_port", str(29611 + ranks), str(ROOT / "train.py"), *arguments]
        command += ["--out", str(tmp_path / str(ranks)), "--set", *overrides]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (train_records(tmp_path / str(r)) for r in (1, 2))
    assert [r["step"] for r in two] == [r["step"] for r in one]
    assert [r["loss"] for r in two] == pytest.approx([r["loss"] for r in one], rel=1e-3)
    assert [r["grad_norm"] for r in two] == pytest.approx([r["grad_norm"] for r in one], rel=1e-2)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.crop_length=64", "data.crop_length 256, now 64"),
        ("data.max_entries=12", "data.max_entries 0, now 12"),
        ("train.seed=7", "train.seed 0, now 7"),
    ],
)
def test_a_resume_with_other_data_says_what_differs_and_stops_unless_forced(
    demo: Path, tmp_path: Path, setting: str, words: str
) -> None:
    train_model(configure(demo), demo / "data", tmp_path / "run", budget=StepBudget(2))
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(InputError, match=f"{words}.*--force"):
        train_model(configure(demo, setting), demo / "data", tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    config = configure(demo, "train.epochs=1", "data.jobs=2", f"data.cache={tmp_path / 'moved'}")
    assert train_model(config, demo / "data", tmp_path / "run", resume=True).step == 3


def test_a_resume_on_another_folder_of_data_stops_unless_forced(demo: Path, tmp_path: Path) -> None:
    write_demo_data(tmp_path / "other", num_train=17, num_test=3)
    config = configure(demo, "train.epochs=1")
    train_model(config, demo / "data", tmp_path / "run", budget=StepBudget(1))
    with pytest.raises(InputError, match=r"train entries 18, now 17.*train digest .*--force"):
        train_model(config, tmp_path / "other", tmp_path / "run", resume=True)
    assert train_model(config, tmp_path / "other", tmp_path / "run", resume=True, force=True).step == 3


def test_a_run_folder_that_cannot_be_made_is_one_line(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError) as caught:
        train_model(configure(demo), demo / "data", tmp_path / "file" / "run")
    assert "\n" not in str(caught.value) and str(tmp_path / "file") in str(caught.value)
