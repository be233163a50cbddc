"""Hours, sessions and launch lines of whole plans; what training does with them. Traces of tiny networks, made once."""

import dataclasses
import datetime
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rnafold.cli.main import main
from rnafold.config.hardware import load_gpus
from rnafold.config.settings import Config, resolve_config
from rnafold.data.demo import write_demo_data
from rnafold.data.selection import choose_entries
from rnafold.errors import InputError
from rnafold.files.metrics import read_metrics
from rnafold.planner.matrix import build_matrix, format_matrix, list_impossible
from rnafold.planner.memory.estimate import TraceStore, estimate_memory, trace_key
from rnafold.planner.plan import Plan, Request, build_plan
from rnafold.planner.quota.ledger import LedgerSession, read_sessions
from rnafold.planner.quota.rules import QuotaState, load_rules
from rnafold.planner.show import format_plan, plan_to_json
from rnafold.planner.time.hours import HoursEstimate, HoursModel, estimate_hours, first_builds
from rnafold.planner.time.load import TrainingLoad, assume_load, deal_epochs, read_load
from rnafold.planner.time.measurements import (
    Measurement,
    append_measurements,
    measurements_of_run,
    model_name,
    read_measurements,
    settings_name,
)
from rnafold.planner.time.roofline import estimate_step, interpolate, rate_tflops
from rnafold.training.guard import KERNEL_VARIABLE, RunGuard, bound_gib
from rnafold.training.prepare import open_start_library
from rnafold.training.run import train_model
from tests.pieces.timing import measure_growth
from tests.pieces.tiny import TINY_MODEL

SATURDAY = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)
TINY = [
    *TINY_MODEL,
    "data.crop_length=64",
]
RULES = load_rules()


def config_of(gpu: str, *overrides: str) -> Config:
    return resolve_config(gpu, "minimal", [*TINY, *overrides])


@pytest.fixture(scope="module")
def store(trace_folder: Path) -> TraceStore:
    found = TraceStore(trace_folder)
    # all traces of these tests at once: one process instead of one for each
    configs = [
        config_of("cpu"),
        config_of("t4"),
        config_of("k80"),
        config_of("t4", "train.gradient_checkpointing=true"),
        config_of("t4", "train.gradient_checkpointing=pairs"),
    ]
    keys = [trace_key(config, length) for config in configs for length in (16, 64)]
    keys += [trace_key(config_of("t4"), 128, "predict"), *(trace_key(c, 256) for c in (configs[1], *configs[3:]))]
    keys.append(trace_key(resolve_config("cpu", "minimal", ["data.crop_length=256"]), 256))
    found.request(keys)
    found.wait()
    return found


def plan_of(store: TraceStore, gpu: str, *overrides: str, left: float | None = 30.0, **more: object) -> Plan:
    config = config_of(gpu, *overrides)
    state = None
    if left is not None:
        state = QuotaState(total=30.0, used=30.0 - left, reserved=0.0, resets_at=SATURDAY, source="test")
    request = Request(
        gpu=gpu,
        model="minimal",
        config=config,
        load=more.pop("load", assume_load(config, 96)),  # type: ignore[arg-type]
        rules=RULES,
        state=state,
        overrides=(*TINY, *overrides),
        **more,  # type: ignore[arg-type]
    )
    return build_plan(request, store)


def test_a_plan_has_every_part_that_json_promises(store: TraceStore) -> None:
    plan = plan_of(store, "t4x2")
    answer = json.loads(json.dumps(plan_to_json(plan)))
    assert {"fits", "reasons", "memory", "hours", "sessions", "runs_possible", "runs_recommended", "launch"} <= set(
        answer
    )
    assert answer["fits"] is True and answer["reasons"] == []
    assert answer["memory"]["peak_gib"] == pytest.approx(sum(answer["memory"]["parts"].values()), abs=1e-3)
    hours = answer["hours"]
    assert hours["low"] < hours["expected"] < hours["high"]
    assert sum(hours["parts"].values()) == pytest.approx(hours["expected"], rel=1e-3)
    assert {"start_up", "preparation", "training", "evaluation", "checkpoints", "output"} <= set(hours["parts"])
    assert answer["kernel"]["machine_shape"] == "NvidiaTeslaT4"
    assert answer["runs_recommended"] <= answer["runs_possible"]
    text = format_plan(plan)
    assert "fits" in text and "accelerate launch" in text and "runs" in text


def test_two_cards_are_one_run_or_two_for_one_bill(store: TraceStore) -> None:
    plan = plan_of(store, "t4x2")
    ways = {c.name: c for c in (plan.chosen, *plan.alternatives)}
    both, apart = ways["one run on 2 cards"], ways["2 runs at once, one on each card"]
    assert both.micro_batch * both.accumulation * 2 == apart.micro_batch * apart.accumulation == 48
    assert apart.hours.parts["training"] > both.hours.parts["training"]
    # preparation runs on the same cores for both runs
    assert apart.hours.parts["preparation"] == pytest.approx(2 * both.hours.parts["preparation"])
    assert plan.chosen.hours_per_run == min(both.hours_per_run, apart.hours_per_run)
    launch = "\n".join(plan.launch)
    if plan.chosen is apart:
        assert "CUDA_VISIBLE_DEVICES=0" in launch and "CUDA_VISIBLE_DEVICES=1" in launch and "--gpu t4 " in launch
        assert launch.splitlines()[-1] == "wait"


def test_one_run_on_both_cards_when_two_runs_do_not_fit_into_the_hours_left(store: TraceStore) -> None:
    ways = plan_of(store, "t4x2", "train.epochs=4000")
    hours = {c.cards: c.hours.expected for c in (ways.chosen, *ways.alternatives)}
    assert ways.chosen.cards == 1 and hours[2] < hours[1]
    plan = plan_of(store, "t4x2", "train.epochs=4000", left=(hours[1] + hours[2]) / 2)
    assert plan.chosen.cards == 2
    (line,) = plan.launch
    assert line.startswith("accelerate launch --multi_gpu --num_processes 2") and "--gpu t4x2" in line
    assert "--max-hours 10.9" in line and "--resume" in line


def test_what_does_not_fit_says_why_and_what_would(store: TraceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("t4")
    trace = store.get(trace_key(config, 64))
    # a card on which 4 examples fit, but not the 16 of the file
    limit = estimate_memory(trace, config.hardware, config.train, 4, 2).peak_gib / 0.9 * 1.001
    small = f"hardware.memory.total_gib={limit:.5f}"
    plan = plan_of(store, "t4", small)
    assert not plan.fits and plan.largest_micro_batch in range(4, 7)
    assert "GiB" in plan.reasons[0]
    assert plan.suggestion == "--set train.micro_batch=4 train.accumulation=12"
    follow = plan_of(store, "t4", small, "train.micro_batch=4", "train.accumulation=12")
    assert follow.fits
    auto = plan_of(store, "t4", small, "train.accumulation=auto")
    assert auto.fits and (auto.chosen.micro_batch, auto.chosen.accumulation) == (4, 12)
    assert "train.micro_batch=4" in auto.launch[0]


def test_the_cheapest_checkpointing_is_offered_when_no_micro_batch_fits(store: TraceStore) -> None:
    long = "data.crop_length=256"
    config = config_of("t4", long)
    ways = ("true", "pairs", "false")
    recomputed, pairs, plain = (
        estimate_memory(store.get(trace_key(c, 256)), c.hardware, c.train, 1, 2).peak_gib
        for c in (config_of("t4", long, f"train.gradient_checkpointing={way}") for way in ways)
    )
    # what the pair updates keep is what there is to save: recomputing the layers too saves nothing at the peak here
    assert recomputed == pytest.approx(pairs, rel=0.01) and pairs < plain
    total = (pairs + plain) / 2 / 0.9
    plan = plan_of(store, "t4", long, f"hardware.memory.total_gib={total:.5f}", load=assume_load(config, 96))
    assert not plan.fits and plan.largest_micro_batch == 0 and plan.runs_possible == 0
    assert plan.suggestion.startswith("--set train.gradient_checkpointing=pairs train.micro_batch=1 ")


def test_the_memory_is_told_by_module(store: TraceStore) -> None:
    config = config_of("t4")
    plan = plan_of(store, "t4", load=assume_load(config, 40))
    memory = plan.chosen.memory
    passing = sum(memory.parts[name] for name in ("attention", "activations", "output"))
    assert sum(memory.modules.values()) == pytest.approx(passing, abs=1e-6)
    assert {"blocks", "updates", "pair_input"} <= set(memory.modules)
    assert "updates" in format_plan(plan, by_module=True) and "modules " not in format_plan(plan)


def test_hours_that_do_not_reach_a_checkpoint_are_a_reason(store: TraceStore) -> None:
    plan = plan_of(store, "t4x2", left=0.01)
    assert not plan.fits and "first checkpoint" in plan.reasons[0] and "reset" in plan.suggestion


def test_a_long_run_gets_sessions_with_resume_points(store: TraceStore) -> None:
    plan = plan_of(store, "t4", "train.epochs=30000")
    assert len(plan.sessions) > 1
    assert plan.sessions[1].resumes_at_epoch > 0
    assert max(s.hours for s in plan.sessions) <= 11.0 + 1e-9
    assert "resumes after" in format_plan(plan)


def test_prediction_memory_at_a_length_is_told(store: TraceStore) -> None:
    plan = plan_of(store, "t4", predict_length=128)
    assert plan.prediction["length"] == 128 and 0 < plan.prediction["peak_gib"] < plan.prediction["limit_gib"]


def test_the_roofline_takes_the_slowest_of_arithmetic_traffic_and_launch(store: TraceStore) -> None:
    config = config_of("v100")
    trace = store.get(trace_key(config, 64))
    hardware = load_gpus()["v100"].hardware
    rows = trace.operations
    one = dataclasses.replace(trace, operations=rows[:1].copy())
    one.operations[0] = (1, 1, 0, 0, 900e9 * 0.75, 0, 1)  # a second of traffic at 900 GB/s and 75 %
    assert estimate_step(one, hardware, "fp16", 1, 0).micro_batch == pytest.approx(1.0)
    one.operations[0] = (1, 1, 0, 125e12 * 0.55, 0, 0, 2)  # twice a second of fp16 products for each example
    assert estimate_step(one, hardware, "fp16", 1, 0).micro_batch == pytest.approx(2.0)
    assert estimate_step(one, hardware, "fp16", 3, 0).micro_batch == pytest.approx(6.0)
    one.operations[0] = (1, 0, 1, 0, 1, 0, 1000)
    assert estimate_step(one, hardware, "fp16", 1, 0).micro_batch == pytest.approx(0.008)
    # a recycle (phase 2) counts with the mean of 0 .. 3
    one.operations[0] = (2, 0, 0, 0, 900e9 * 0.75, 0, 1)
    assert estimate_step(one, hardware, "fp16", 1, 3).micro_batch == pytest.approx(1.5)


def test_a_type_that_a_card_lacks_runs_as_fp32() -> None:
    assert rate_tflops(load_gpus()["k80"].hardware, "fp16") == load_gpus()["k80"].hardware.peak_tflops.fp32
    assert rate_tflops(load_gpus()["t4"].hardware, "fp16") == 65


def test_a_plan_says_where_half_precision_has_no_tensor_cores(store: TraceStore) -> None:
    told = {gpu: any("no tensor cores" in note for note in plan_of(store, gpu).notes) for gpu in ("p100", "t4", "k80")}
    assert told == {"p100": True, "t4": False, "k80": False}  # a K80 runs in float32


def test_seconds_between_two_lengths_follow_a_power() -> None:
    known = {64: 1.0, 256: 16.0}
    assert interpolate(128, known) == pytest.approx(4.0)
    assert interpolate(512, known) == pytest.approx(64.0)
    # below the shortest no faster than linear
    assert interpolate(32, known) == pytest.approx(0.5)
    assert interpolate(64, known) == 1.0


def test_expected_first_builds_of_start_structures() -> None:
    load = TrainingLoad(lengths=(8, 8, 8), groups=("a", "a", "b"), validation_lengths=(), source="")
    work = deal_epochs(load, config_of("cpu"), 1, 1)
    assert work.examples == 2.0
    # one epoch: one of each cluster; very many: all three entries x two variants
    assert first_builds(load, work, 1, 2) == pytest.approx(2.0)
    assert first_builds(load, work, 10_000, 2) == pytest.approx(6.0)


def test_measured_steps_replace_the_roofline(store: TraceStore) -> None:
    config = config_of("cpu")
    traces = {64: store.get(trace_key(config, 64))}
    load = assume_load(config, 40)
    work = deal_epochs(load, config, 2, 8)
    names = {"machine": "here", "model": model_name(config), "settings": settings_name(config)}
    found = [
        Measurement(**names, kind="micro_batch", length=64, batch=2.0, count=30, seconds=0.5),
        Measurement(**names, kind="update", length=0, batch=0.0, count=5, seconds=0.1),
        Measurement(**names, kind="evaluation", length=0, batch=1.0, count=4, seconds=0.25),
        Measurement(**names, kind="preparation", length=0, batch=1.0, count=40, seconds=0.05),
        Measurement(**names, kind="loading", length=0, batch=1.0, count=40, seconds=0.0),
        Measurement(**names, kind="first_loading", length=0, batch=1.0, count=40, seconds=0.0),
    ]
    model = HoursModel(config, traces, found, "here")
    assert model.micro_batch(64, 2) == pytest.approx(0.5)
    hours = estimate_hours(model, load, work)
    # 40 epochs x (20 micro batches x 0.5 s + 5 steps x 0.1 s)
    assert hours.parts["training"] * 3600 == pytest.approx(40 * 10.5)
    assert hours.parts["evaluation"] * 3600 == pytest.approx(40 * 0.25 * len(load.validation_lengths))
    assert hours.parts["preparation"] * 3600 == pytest.approx(2.0)
    assert hours.is_calibrated and hours.high / hours.expected < 1.2
    elsewhere = estimate_hours(HoursModel(config, traces, found, "there"), load, work)
    assert not elsewhere.is_calibrated and "roofline alone" in elsewhere.source
    assert elsewhere.high / elsewhere.low > 2
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, feed_forward=64))
    related = estimate_hours(HoursModel(other, traces, found, "here"), load, work)
    assert "other models" in related.source and related.is_calibrated


def test_start_structures_are_planned_within_their_budget(store: TraceStore, tmp_path: Path) -> None:
    load = dataclasses.replace(assume_load(config_of("cpu"), 40), start_seconds=14_400.0)
    traces = {64: store.get(trace_key(config_of("cpu"), 64))}

    def hours_of(start_hours: float) -> HoursEstimate:
        config = config_of("cpu", "data.jobs=2", f"data.start_hours={start_hours}")
        return estimate_hours(HoursModel(config, traces, (), "here"), load, deal_epochs(load, config, 2, 8))

    # four hours of one core are two of two; a preparation ahead makes all of them
    assert hours_of(0.5).parts["starts"] == pytest.approx(0.5)
    assert hours_of(0.0).parts["starts"] == hours_of(9.0).parts["starts"] == pytest.approx(2.0)
    assert hours_of(0.5).ahead_cpu_hours == pytest.approx(4.0, rel=0.01)
    assert hours_of(9.0).expected - hours_of(9.0).expected_prepared > 0.9 * 2.0
    write_demo_data(tmp_path / "data", num_train=18, num_test=3)
    data = dataclasses.replace(config_of("cpu").data, cutoff="2022-01-01", start="candidates", cache=str(tmp_path))
    entries = choose_entries(tmp_path / "data", data)
    library = open_start_library(dataclasses.replace(config_of("cpu"), data=data), entries)
    seconds = library.estimate_seconds(library.list_jobs(entries.train))
    assert read_load(tmp_path / "data", data, tmp_path / "planner").start_seconds == pytest.approx(seconds)
    ideal = dataclasses.replace(data, start="ideal")
    assert read_load(tmp_path / "data", ideal, tmp_path / "planner").start_seconds == 0.0


def test_a_factor_between_measured_lengths_is_between_theirs(store: TraceStore) -> None:
    config = config_of("cpu")
    names = {"machine": "here", "model": model_name(config), "settings": settings_name(config), "kind": "micro_batch"}
    traces = {64: store.get(trace_key(config, 64))}
    bare = HoursModel(config, traces, (), "here")
    found = [
        Measurement(**names, length=n, batch=2.0, count=20, seconds=factor * bare.micro_batch(n, 2))
        for n, factor in ((16, 2.0), (64, 8.0))
    ]
    model = HoursModel(config, traces, found, "here")
    assert model.correction.at(8) == pytest.approx(2.0) and model.correction.at(99) == pytest.approx(8.0)
    assert model.correction.at(32) == pytest.approx(4.0)


def test_a_runs_metrics_become_measurements(tmp_path: Path) -> None:
    config = config_of("cpu")
    records = [
        {"kind": "train", "step": 10, "step_seconds": 9.0, "micro_batch_seconds_by_length": {"16": [20, 150.0, 40]}},
        {"kind": "train", "step": 20, "step_seconds": 1.0, "micro_batch_seconds_by_length": {"16": [20, 8.0, 40]}},
        {"kind": "evaluation", "step": 20, "evaluation_seconds": 3.0, "tm_by_target": {"a": 0.1, "b": 0.2}},
    ]
    found = measurements_of_run(records, config, "here")
    by_kind = {m.kind: m for m in found}
    # the first line holds warm-up and is left out: 8 s for 20, and 10 steps of 1 s less 0.8 s
    assert by_kind["micro_batch"].seconds == pytest.approx(0.4) and by_kind["micro_batch"].batch == 2.0
    assert by_kind["update"].seconds == pytest.approx(0.2) and by_kind["update"].count == 10
    assert by_kind["evaluation"].seconds == pytest.approx(1.5)
    append_measurements(tmp_path, found)
    with (tmp_path / "measurements.jsonl").open("a") as file:
        file.write('{"machine": "cut')
    assert read_measurements(tmp_path) == found


def test_the_load_of_a_folder_is_that_of_training(tmp_path: Path) -> None:
    write_demo_data(tmp_path / "data", num_train=18, num_test=3)
    data = dataclasses.replace(config_of("cpu").data, cutoff="2022-01-01", cache=str(tmp_path / "cache"))
    for validation in ("file", "development"):
        settings = dataclasses.replace(data, validation=validation)
        load = read_load(tmp_path / "data", settings, tmp_path / "planner")
        entries = choose_entries(tmp_path / "data", settings)
        assert sorted(load.lengths) == sorted(min(e.target.length, 64) for e in entries.train)
        assert len(set(load.groups)) == len(set(entries.clusters))
        assert sorted(load.validation_lengths) == sorted(e.target.length for e in entries.validation)
        assert read_load(tmp_path / "data", settings, tmp_path / "planner") == load
    with pytest.raises(InputError, match=r"data\.cutoff"):
        read_load(tmp_path / "data", dataclasses.replace(data, cutoff="1990-01-01"), tmp_path / "planner")


@pytest.mark.parametrize(("length", "padded"), [(1, 8), (8, 8), (9, 16)])
def test_the_longest_of_a_load_is_padded_as_batches_are(length: int, padded: int) -> None:
    load = TrainingLoad(lengths=(1, length), groups=("a", "b"), validation_lengths=(), source="test")
    assert load.longest == padded


def test_the_matrix_names_models_cards_and_what_cannot_be(store: TraceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnafold.planner.matrix.list_names", lambda group: ["minimal"])
    chosen = {name: gpu for name, gpu in load_gpus().items() if name in ("k80", "t4", "a100")}
    monkeypatch.setattr("rnafold.planner.matrix.load_gpus", lambda: chosen)
    cells, impossible = build_matrix(assume_load(config_of("t4"), 50), store, RULES, overrides=TINY)
    verdicts = {cell.gpu: cell.verdict for cell in cells}
    assert verdicts["t4"] == verdicts["a100"] == "recommended"
    assert verdicts["k80"] == "possible"
    assert all(cell.hours > 0 and cell.usd is not None for cell in cells)
    text = format_matrix(cells, impossible)
    assert "k80" in text and "only with torch 2.6" in text


def test_impossible_combinations_by_capability() -> None:
    gpus = load_gpus()
    k80, t4, a100 = (" ".join(list_impossible(gpus[name])) for name in ("k80", "t4", "a100"))
    assert all(word in k80 for word in ("bf16", "flash", "torch.compile", "no kernels for 3.7"))
    assert "bf16" in t4 and "flash" in t4 and "compile" not in t4 and "kernels" not in t4
    assert a100 == ""


def test_plan_exits_with_1_when_it_does_not_fit(
    tmp_path: Path, store: TraceStore, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", "--gpu", "t4", "--model", "minimal", "--offline", "--json", "--cache", str(store.folder)]
    arguments += ["--ledger", str(tmp_path / "ledger.jsonl"), "--examples", "96", "--set", *TINY]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["fits"] is True
    assert main([*arguments, "hardware.memory.total_gib=0.51"]) == 1
    assert json.loads(capsys.readouterr().out)["suggestion"].startswith("--set train.micro_batch=")


def test_a_cached_plan_needs_no_torch_and_less_than_loading_torch_takes(tmp_path: Path, store: TraceStore) -> None:
    config = config_of("t4")
    store.request([trace_key(config, n) for n in (16, 64)])
    store.wait()
    arguments = ["plan", "--gpu", "t4", "--model", "minimal", "--offline", "--cache", str(store.folder), "--set", *TINY]
    code = f"import sys; from rnafold.cli.main import main; main({arguments!r}); sys.exit(int('torch' in sys.modules))"

    def run(program: str) -> None:
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr[-500:]

    assert measure_growth(lambda: run("import torch"), lambda: run(code)) < 1


def demo_config(folder: Path, *more: str) -> Config:
    settings = ["train.epochs=2", "train.log_every_steps=1", "train.patience=0", "data.cutoff=2022-01-01"]
    settings += ["data.validation=file", "data.jobs=1", "data.max_validation=2", f"data.cache={folder / 'cache'}"]
    return resolve_config("cpu", "minimal", [*TINY, *settings, *more])


def test_training_leaves_plan_ledger_and_measurements(tmp_path: Path, store: TraceStore) -> None:
    write_demo_data(tmp_path / "data", num_train=12, num_test=2)
    config = demo_config(tmp_path)
    train_model(config, tmp_path / "data", tmp_path / "runs" / "one")
    # a small first run on a CPU is not traced, but its hours and steps are kept
    assert not (tmp_path / "runs" / "one" / "plan.json").exists()
    (first,) = read_sessions(tmp_path / "runs" / "ledger.jsonl")
    assert first.ended and first.outcome == "epochs" and not first.counts and first.hours > 0
    assert read_measurements(tmp_path / "cache" / "planner")
    # once the trace is there, the next run is planned with the measured steps
    guard_store = TraceStore(tmp_path / "cache" / "planner")
    load = read_load(tmp_path / "data", config.data, tmp_path / "cache" / "planner")
    guard_store.request([trace_key(config, n) for n in (16, load.longest, config.data.crop_length)])
    guard_store.wait()
    train_model(config, tmp_path / "data", tmp_path / "runs" / "two")
    plan = json.loads((tmp_path / "runs" / "two" / "plan.json").read_text())
    assert plan["memory"]["peak_gib"] > 0 and "measured" in plan["hours"]["source"]
    second = read_sessions(tmp_path / "runs" / "ledger.jsonl")[-1]
    assert second.predicted_hours == pytest.approx(plan["hours"]["expected"], abs=1e-4)
    assert second.peak_gib is not None and second.predicted_peak_gib is not None
    assert len(read_metrics(tmp_path / "runs" / "two" / "metrics.jsonl")) > 2


def test_what_cannot_fit_is_refused_before_any_data_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = demo_config(tmp_path, "train.memory_share=0.00001")
    monkeypatch.setattr(RunGuard, "is_trial", False)
    monkeypatch.setattr("rnafold.training.guard.bound_gib", lambda config: 99.0)
    monkeypatch.setattr("rnafold.training.guard.suggest_change", lambda *_: "--model smaller")
    # the folder is not there: whoever read it first would say so
    with pytest.raises(InputError, match=r"nearest change that fits: --model smaller; --force starts it all the same"):
        train_model(config, tmp_path / "no such data", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # forced, it goes on to the data
    with pytest.raises(InputError, match="no such data"):
        train_model(config, tmp_path / "no such data", tmp_path / "run", force=True)


def test_a_kernel_without_hours_for_a_checkpoint_does_not_start(
    tmp_path: Path, store: TraceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("t4", f"data.cache={tmp_path / 'cache'}")
    monkeypatch.setenv(KERNEL_VARIABLE, "Batch")
    monkeypatch.setattr("rnafold.training.guard.TraceStore", lambda folder: store)
    now = datetime.datetime.now(datetime.UTC)
    start = max(now - datetime.timedelta(hours=29.99), now - datetime.timedelta(days=6))
    ledger = tmp_path / "runs" / "ledger.jsonl"
    spent = LedgerSession(ledger, "old", "t4", counts=True, host="elsewhere", clock=lambda: start)
    spent.clock = lambda: now
    spent.end("epochs")
    guard = RunGuard(config, tmp_path / "runs" / "new")
    (tmp_path / "runs" / "new").mkdir()
    rules = dataclasses.replace(RULES, weekly_hours=max(guard_used(ledger), 0.001), reserve_hours=0.0)
    guard.rules = rules
    with pytest.raises(InputError, match="first checkpoint comes after"):
        guard.begin(assume_load(config, 96), 1.0)
    forced = RunGuard(config, tmp_path / "runs" / "new", force=True)
    forced.rules = rules
    forced.begin(assume_load(config, 96), 1.0)
    assert (tmp_path / "runs" / "new" / "plan.json").is_file()
    assert read_sessions(ledger)[-1].counts
    forced.finish("epochs", [])
    assert read_sessions(ledger)[-1].ended


def guard_used(ledger: Path) -> float:
    from rnafold.planner.quota.rules import state_of_ledger

    return state_of_ledger(read_sessions(ledger), RULES, datetime.datetime.now(datetime.UTC)).used


def test_other_ranks_leave_the_planning_to_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    guard = RunGuard(demo_config(tmp_path, "train.memory_share=0.00001"), tmp_path / "run")
    guard.check_memory()
    guard.begin(assume_load(guard.config, 4), 1.0)
    guard.finish("epochs", [])
    assert not (tmp_path / "ledger.jsonl").exists()


def test_the_cheap_bound_is_above_the_traced_activations(store: TraceStore) -> None:
    config = resolve_config("cpu", "minimal", ["data.crop_length=256"])
    traced = store.get(trace_key(config, 256)).peak(config.train.micro_batch).parts["activations"] / 2**30
    assert traced <= bound_gib(config) <= 6 * traced


def test_calibration_measures_every_length_and_part(tmp_path: Path) -> None:
    from rnafold.training.calibrate import calibrate

    write_demo_data(tmp_path / "data", num_train=12, num_test=2)
    torch.manual_seed(0)
    found = calibrate(demo_config(tmp_path), tmp_path / "data", budget_seconds=2.0).measurements
    kinds = {m.kind for m in found}
    assert kinds == {"preparation", "first_loading", "loading", "micro_batch", "update", "evaluation"}
    lengths = [m for m in found if m.kind == "micro_batch"]
    assert all(m.seconds > 0 and m.count >= 1 and m.batch <= 2 for m in lengths)
    assert len({m.length for m in lengths}) == len(lengths) >= 1
