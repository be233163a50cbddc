"""The files of configs/gpu/: settings of the brief (docs/studies/gpu.md), facts that allow what is asked, rates."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from rnafold.config.hardware import (
    GpuConfig,
    RunConfig,
    count_accumulation,
    describe_learning_rates,
    find_single_card,
    learning_rate,
    load_gpu,
    load_gpus,
    parse_capability,
    read_gpu,
)
from rnafold.config.strict_yaml import ConfigError, build, config_directory, dump, list_names, parse_yaml, resolve

NAMES = list_names("gpu")
TABLE = Path(__file__).resolve().parents[2] / "docs" / "studies" / "gpu.md"
# The row of the table that each file follows; cpu has none.
ROWS = {
    "v100": "V100-32GB SXM2",
    "v100-16gb": "V100-16GB SXM2",
    "p100": "P100-16GB PCIe",
    "t4": "T4",
    "t4x2": "T4",
    "k80": "K80 (one GK210)",
    "l4": "L4",
    "rtx3060": "RTX 3060 12GB",
    "rtx4090": "RTX 4090",
    "a40": "A40",
    "a100": "A100-40GB",
    "a100-80gb": "A100-80GB SXM",
    "h100": "H100-80GB SXM",
    "h200": "H200",
    "m1": "Apple M1 (8-core GPU)",
}


def test_every_gpu_that_the_brief_names_has_a_file() -> None:
    named = ["v100", "p100", "t4", "t4x2", "k80", "l4", "rtx4090", "a40", "a100", "h100", "m1", "cpu"]
    assert set(named) <= set(NAMES)
    assert set(load_gpus()) == set(NAMES)


@pytest.mark.parametrize(
    ("name", "micro_batch", "accumulation", "num_gpus", "rate"),
    [
        ("v100", 48, 1, 1, 1.2e-3),
        ("p100", 24, 2, 1, 7.5e-4),
        ("t4", 16, 3, 1, 6e-4),
        ("k80", 12, 4, 1, 6e-4),
        # The T4 setting on two cards: 8 x 3 x 2 = 48.
        ("t4x2", 8, 3, 2, 6e-4),
    ],
)
def test_the_cards_of_the_brief_have_its_batch_accumulation_and_learning_rate(
    name: str, micro_batch: int, accumulation: int, num_gpus: int, rate: float
) -> None:
    gpu = load_gpu(name)
    assert (gpu.train.micro_batch, gpu.train.accumulation, gpu.hardware.num_gpus) == (
        micro_batch,
        accumulation,
        num_gpus,
    )
    assert gpu.train.effective_batch == 48
    assert gpu.train.lr_rule == "fixed"
    assert gpu.train.learning_rate == rate
    assert learning_rate(gpu.train, micro_batch, accumulation, num_gpus) == rate


@pytest.mark.parametrize("name", NAMES)
def test_each_file_states_the_brief_s_common_choices_itself(name: str) -> None:
    gpu = load_gpu(name)
    run = gpu.train
    assert run.effective_batch == (8 if name == "cpu" else 48)
    assert count_accumulation(run, gpu.hardware.num_gpus) == run.accumulation
    assert (run.base_learning_rate, run.base_batch) == (5e-4, 8)
    assert (run.warmup_epochs, run.warmup_start_learning_rate) == (2, 1e-6)
    assert (run.checkpoint_every_epochs, run.memory_share) == (5, 0.9)
    assert run.loader_workers in ((2, 4) if gpu.hardware.device_type == "cuda" else (0, 2))
    assert not run.gradient_checkpointing
    # A reader of the file sees every choice: nothing is left to a default of the class.
    text = (config_directory() / "gpu" / f"{name}.yaml").read_text()
    written = parse_yaml(text, name)["train"]
    assert set(written) == {field.name for field in dataclasses.fields(RunConfig)}


@pytest.mark.parametrize("name", NAMES)
def test_every_group_of_facts_names_its_source(name: str) -> None:
    hardware = load_gpu(name).hardware
    memory, kernels, wheel = hardware.memory.source, hardware.kernels.source, hardware.torch_wheel.source
    groups = [hardware.source, memory, hardware.peak_tflops.source, kernels, wheel, hardware.price.source]
    for source in (*groups, hardware.kaggle.source):
        assert len(source) >= 5


def read_table() -> dict[str, dict[str, str]]:
    """Rows of the page's table by card, cells by column."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    names, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {row[0]: dict(zip(names, row, strict=True)) for row in rows}


def number(cell: str) -> float | None:
    return float(cell) if cell else None


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_facts_are_those_of_the_table(name: str) -> None:
    row = read_table()[ROWS[name]]
    hardware = load_gpu(name).hardware
    assert hardware.capability == (None if row["capability"] == "mps" else row["capability"])
    assert hardware.memory.total_gib == number(row["memory"])
    assert hardware.memory.bandwidth_gb_per_s == number(row["bandwidth"])
    rates = hardware.peak_tflops
    assert (rates.fp32, rates.tf32, rates.bf16) == (
        number(row["fp32"]),
        number(row["tf32"]),
        number(row["bf16 tensor"]),
    )
    assert rates.fp16 == (number(row["fp16 tensor"]) or number(row["fp16 plain"]))
    assert rates.tensor_cores == (row["tensor cores"] == "yes")
    kernels = hardware.kernels
    assert ("flash" in kernels.attention) == (row["flash"] == "yes")
    assert ("memory_efficient" in kernels.attention) == (row["efficient"] == "yes")
    assert ("bf16" in kernels.precisions, kernels.compile) == (row["bf16"] == "yes", row["compile"] == "yes")
    assert row["last wheel"].startswith(hardware.torch_wheel.last_release)
    if row["recalled"] == "yes":
        assert "recalled" in hardware.memory.source
        assert "recalled" in rates.source


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_config_survives_being_written_and_read_again(name: str) -> None:
    gpu = load_gpu(name)
    assert build(GpuConfig, parse_yaml(dump(gpu), "resolved.yaml")) == gpu


@pytest.mark.parametrize(
    ("gpu", "overrides", "message"),
    [
        pytest.param(
            "t4",
            ["train.precision=bf16"],
            "--set train.precision=bf16: train.precision: NVIDIA Tesla T4 does not run bf16; use fp32 or fp16",
            id="bf16-on-t4",
        ),
        pytest.param(
            "t4",
            ["hardware.kernels.precisions=[fp32, bf16]"],
            "--set hardware.kernels.precisions=[fp32, bf16]: hardware.kernels.precisions: "
            "bf16 needs capability 8.0, NVIDIA Tesla T4 has 7.5",
            id="bf16-claimed-below-8.0",
        ),
        pytest.param(
            "v100",
            ["hardware.kernels.attention=[math, flash]"],
            "--set hardware.kernels.attention=[math, flash]: hardware.kernels.attention: "
            "flash attention needs capability 8.0, NVIDIA Tesla V100 SXM2 32 GB has 7.0",
            id="flash-claimed-below-8.0",
        ),
        pytest.param(
            "k80",
            ["hardware.kernels.attention=[math, memory_efficient]"],
            "--set hardware.kernels.attention=[math, memory_efficient]: hardware.kernels.attention: "
            "memory_efficient needs capability 5.0, NVIDIA Tesla K80 (one of its two GK210) has 3.7",
            id="memory-efficient-claimed-below-5.0",
        ),
        pytest.param(
            "p100",
            ["hardware.kernels.compile=true"],
            "--set hardware.kernels.compile=true: hardware.kernels.compile: "
            "torch.compile needs capability 7.0, NVIDIA Tesla P100 PCIe 16 GB has 6.0",
            id="compile-claimed-below-7.0",
        ),
        pytest.param(
            "p100",
            ["train.compile=true"],
            "--set train.compile=true: train.compile: NVIDIA Tesla P100 PCIe 16 GB cannot run torch.compile; use false",
            id="compile-on-p100",
        ),
        pytest.param(
            "t4",
            ["train.attention=flash"],
            "--set train.attention=flash: train.attention: NVIDIA Tesla T4 does not run flash; "
            "use math or memory_efficient",
            id="flash-on-t4",
        ),
        pytest.param(
            "t4x2",
            ["train.accumulation=2"],
            # 8 x 2 x 2 = 32
            "configs/gpu/t4x2.yaml: train.effective_batch: found 48, but train.micro_batch 8 x train.accumulation 2 x "
            "2 GPU = 32; leave one of the three out and it follows",
            id="batch-does-not-add-up",
        ),
        pytest.param(
            "cpu",
            ["train.micro_batch=5", "train.accumulation=auto"],
            # 8 is no multiple of 5 or 3; of 4 it is.
            "configs/gpu/cpu.yaml: train.effective_batch: 8 is no multiple of micro batch 5 x 1 GPU; "
            "the next smaller micro batch that does is 4",
            id="auto-does-not-divide",
        ),
        pytest.param(
            "l4",
            ["train.lr_rule=fixed"],
            "configs/gpu/l4.yaml: train.learning_rate: found nothing, expected a number, for lr_rule is fixed",
            id="fixed-without-a-rate",
        ),
        pytest.param(
            "t4",
            ["train.memory_share=1.5"],
            "--set train.memory_share=1.5: train.memory_share: found 1.5, expected a fraction up to 1",
            id="memory-share",
        ),
        pytest.param(
            "t4",
            ["train.micro_batch=0"],
            "--set train.micro_batch=0: train.micro_batch: found 0, expected more than 0",
            id="micro-batch-0",
        ),
        pytest.param(
            "t4",
            ["train.loader_workers=-1"],
            "--set train.loader_workers=-1: train.loader_workers: found -1, expected 0 or more",
            id="loader-workers",
        ),
        pytest.param(
            "t4",
            ["train.lr_rule=square"],
            "--set train.lr_rule=square: train.lr_rule: found the text 'square', expected one of linear, sqrt, "
            "fixed; did you mean sqrt?",
            id="unknown-rule",
        ),
        pytest.param(
            "t4",
            ["hardware.micro_batch=4"],
            "--set hardware.micro_batch=4: hardware.micro_batch: unknown key; did you mean train.micro_batch?",
            id="choice-among-the-facts",
        ),
        pytest.param(
            "t4",
            ["hardware.capability=7.5"],
            "--set hardware.capability=7.5: hardware.capability: found the number 7.5, expected text or null",
            id="capability-as-number",
        ),
        pytest.param(
            "t4",
            ["hardware.capability=seven"],
            "--set hardware.capability=seven: hardware.capability: found 'seven', expected text such as '7.5' on cuda",
            id="capability-as-word",
        ),
        pytest.param(
            "m1",
            ["hardware.capability='8.0'"],
            "--set hardware.capability='8.0': hardware.capability: found '8.0', expected null on mps",
            id="capability-on-mps",
        ),
        pytest.param(
            "t4",
            ["hardware.price.date=yesterday"],
            "--set hardware.price.date=yesterday: hardware.price.date: found 'yesterday', expected YYYY-MM-DD",
            id="price-date",
        ),
        pytest.param(
            "t4",
            ["hardware.price.date=null"],
            "--set hardware.price.date=null: hardware.price.date: "
            "found nothing, expected the day of the price (YYYY-MM-DD)",
            id="price-without-date",
        ),
    ],
)
def test_an_impossible_setting_is_refused_by_name(gpu: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(GpuConfig, [read_gpu(gpu)], overrides, f"GPU {gpu}")
    # The line number inside a shipped file is left open: the file may gain a line.
    assert re.sub(r"^\S*(configs/gpu/\w+\.yaml):\d+:", r"\1:", str(caught.value)) == message


def test_an_unknown_gpu_is_answered_with_the_near_one_and_all_known() -> None:
    with pytest.raises(ConfigError) as caught:
        load_gpu("t5")
    assert str(caught.value).startswith("unknown GPU 't5': did you mean t4? known: a100, a100-80gb, a40, cpu, h100,")


def test_a_price_has_a_date_or_is_said_to_be_unknown() -> None:
    for name, gpu in load_gpus().items():
        assert (gpu.hardware.price.usd_per_hour is None) == (gpu.hardware.price.date is None), name


def test_capabilities_compare_as_numbers() -> None:
    assert parse_capability("10.0") > parse_capability("9.0") > parse_capability("8.9")


RUN = load_gpu("t4").train


@pytest.mark.parametrize(
    ("rule", "on", "expected"),
    [
        # T4: micro 16, effective 16 x 3 = 48; base 5e-4 at 8.
        ("linear", "micro", 1e-3),  # 5e-4 x 16/8
        ("linear", "effective", 3e-3),  # 5e-4 x 48/8
        ("sqrt", "micro", 7.0711e-4),  # 5e-4 x 1.41421
        ("sqrt", "effective", 1.22474e-3),  # 5e-4 x 2.44949
        ("fixed", "micro", 6e-4),
        ("fixed", "effective", 6e-4),
    ],
)
def test_each_rule_gives_the_rate_computed_by_hand(rule: Any, on: Any, expected: float) -> None:
    run = dataclasses.replace(RUN, lr_rule=rule, lr_rule_on=on)
    assert learning_rate(run, 16, 3, 1) == pytest.approx(expected, rel=1e-5)


def test_a_rule_on_the_effective_batch_does_not_change_when_the_micro_batch_is_halved() -> None:
    run = dataclasses.replace(RUN, lr_rule="sqrt", lr_rule_on="effective")
    halved = count_accumulation(run, 1, micro_batch=8)
    assert halved == 6  # 48 / 8
    assert learning_rate(run, 8, halved, 1) == learning_rate(run, 16, 3, 1)


def test_all_rules_are_shown_side_by_side_with_the_chosen_one_marked() -> None:
    assert describe_learning_rates(RUN, 16, 3, 1).splitlines() == [
        "learning rate by rule (base 0.0005 at batch 8; micro 16 x accumulation 3 x 1 GPU = effective 48)",
        "  linear on micro     0.001",
        "  linear on effective 0.003",
        "  sqrt   on micro     0.0007071",
        "  sqrt   on effective 0.001225",
        "* fixed               0.0006",
    ]
    lines = describe_learning_rates(load_gpu("l4").train, 24, 2, 1).splitlines()
    assert [line for line in lines if line.startswith("*")] == ["* sqrt   on effective 0.001225"]
    assert lines[-1] == "  fixed               not set"


def test_accumulation_is_recomputed_to_the_same_effective_batch_or_refused() -> None:
    auto = dataclasses.replace(RUN, accumulation="auto")
    assert count_accumulation(auto, 1) == 3  # 48 / 16
    assert count_accumulation(auto, 2, micro_batch=4) == 6  # 48 / (4 x 2)
    with pytest.raises(ValueError, match=r"48 is no multiple of micro batch 10 x 1 GPU; .* is 8$"):
        count_accumulation(RUN, 1, micro_batch=10)
    with pytest.raises(ValueError, match=r"48 is no multiple of micro batch 1 x 5 GPU; no micro batch does$"):
        count_accumulation(RUN, 5, micro_batch=1)


def test_one_of_several_like_cards_has_its_file_whatever_the_files_are_called() -> None:
    gpus = {"renamed": load_gpu("t4x2"), **{name: gpu for name, gpu in load_gpus().items() if name != "t4x2"}}
    assert find_single_card(gpus["renamed"].hardware, gpus) == "t4"
    del gpus["t4"]
    assert find_single_card(gpus["renamed"].hardware, gpus) is None
