"""Every worked example of the other workloads, and formulas that can do arithmetic and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafold.cli.main import main
from rnafold.config.hardware import load_gpus
from rnafold.config.strict_yaml import list_names
from rnafold.errors import ConfigError
from rnafold.planner.workloads.formulas import compute_formula
from rnafold.planner.workloads.plan import (
    evaluate_workload,
    format_workload,
    gpu_facts,
    load_workload,
    plan_workload,
    read_settings,
)

GPUS = load_gpus()


def values_of(name: str, *settings: str, gpu: str = "a40") -> dict[str, float]:
    config = load_workload(name)
    return evaluate_workload(config, *read_settings(config, settings), gpu_facts(GPUS[gpu]))


# The formulas' own values for the five examples (not those that were published beside them).
EXAMPLES = {
    "example1": (0.015, 0.00012, 0.004, 0.03, 0.00042, 4.045, 6.03, 4.004, 10.06, 8.001),
    "example2": (0.144, 0.00048, 0.06, 0.36, 0.00168, 4.432, 6.288, 4.06, 10.72, 8.003),
    "example3": (0.36, 0.00072, 0.2, 0.9, 0.00252, 5.08, 6.72, 4.2, 11.8, 8.004),
    "example4": (0.6, 0.002, 0.8, 2.0, 0.0042, 5.8, 7.2, 4.8, 14.0, 8.007),
    "example5": (0.9, 0.00072, 0.2, 0.9, 0.00252, 6.7, 7.8, 4.2, 11.8, 8.004),
}
NAMES = [
    "data_technical_gb",
    "guide_autonormal_gb",
    "guide_assignment_gb",
    "data_trans_gb",
    "gradient_gb",
    "ram_technical_gb",
    "vram_technical_gb",
    "ram_cis_gb",
    "ram_trans_gb",
    "vram_trans_gb",
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_worked_examples_of_the_dose_response_fit(example: str) -> None:
    values = values_of("bayesdream", f"preset={example}")
    for name, expected in zip(NAMES, EXAMPLES[example]):
        assert values[name] == pytest.approx(expected, abs=5.1e-4 if expected > 4 else 1e-9), name
    assert values["vram_cis_gb"] == values["ram_cis_gb"]
    # recommended: twice the largest RAM, one and a half times the largest VRAM
    assert values["recommended_ram_gb"] == pytest.approx(2 * max(values[f"ram_{s}_gb"] for s in ("technical", "trans")))
    assert values["recommended_vram_gb"] == pytest.approx(1.5 * values["vram_trans_gb"])


def test_the_dense_reading_of_example_3_is_11_2_gb() -> None:
    # 4 + 3 x 30000 x 20000 x 4 B = 4 + 7.2
    assert values_of("bayesdream", "preset=example3")["ram_technical_dense_gb"] == pytest.approx(11.2)


def test_the_autoregressive_guide_takes_146_gb_and_falls_back() -> None:
    # 90,000 latents squared x 4 B x 3 x 1.5 = 145.8 GB: more than any card less 10 GB
    values = values_of("bayesdream", "preset=example3", "guide=iaf", gpu="h200")
    assert values["guide_iaf_gb"] == pytest.approx(145.8)
    assert values["uses_iaf"] == 0.0 and values["guide_gb"] == pytest.approx(0.00072)
    # with 500 features it is 1,500 latents: 0.04 GB, and it is used
    small = values_of("bayesdream", "T=500", "guide=iaf", gpu="t4")
    assert small["uses_iaf"] == 1.0 and small["guide_gb"] == pytest.approx(1500**2 * 18 / 1e9)
    assert small["vram_technical_gb"] == pytest.approx(6 + 2 * small["data_technical_gb"] + small["guide_iaf_gb"])


@pytest.mark.parametrize(("function", "parameters"), [("single_hill", 5), ("additive_hill", 7), ("polynomial6", 8)])
def test_the_dose_response_function_sets_the_parameters(function: str, parameters: int) -> None:
    values = values_of("bayesdream", "preset=example3", f"function={function}")
    # 1,000 samples x parameters x 30,000 features x 4 B
    assert values["posterior_gb"] == pytest.approx(0.12 * parameters)
    assert values["vram_trans_gb"] == pytest.approx(8 + 5 * 30000 * parameters * 4 / 1e9)


def test_distributions_add_what_they_add() -> None:
    base = values_of("bayesdream", "preset=example3")
    binomial = values_of("bayesdream", "preset=example3", "distribution=binomial")
    assert binomial["denominator_gb"] == pytest.approx(2.4) and base["denominator_gb"] == 0.0
    # the data term counts twice: 4 + 3 x 0.36 x 2
    assert binomial["ram_technical_gb"] == pytest.approx(6.16)
    multinomial = values_of("bayesdream", "T=5000", "N=50000", "K=10", "distribution=multinomial")
    assert multinomial["multinomial_extra_gb"] == pytest.approx(10.0)
    assert multinomial["vram_trans_gb"] > 18.0


def test_use_all_cells_adds_a_third_of_ram_and_a_sixth_of_vram() -> None:
    some, every = (values_of("bayesdream", f"preset={p}") for p in ("example3", "example5"))
    assert every["ram_technical_gb"] / some["ram_technical_gb"] - 1 == pytest.approx(0.32, abs=0.005)
    assert every["vram_technical_gb"] / some["vram_technical_gb"] - 1 == pytest.approx(0.16, abs=0.005)


@pytest.mark.parametrize(
    ("preset", "parameters", "map_gb"),
    [("minimal", 468_864, 1.024), ("default", 3_448_064, 16.384), ("large", 20_325_888, 153.6)],
)
def test_single_cell_presets_from_their_dimensions(preset: str, parameters: int, map_gb: float) -> None:
    values = values_of("scrna", f"preset={preset}")
    assert values["parameters"] == parameters
    assert values["attention_map_gb"] == pytest.approx(map_gb)
    assert values["parameters_gb"] == pytest.approx(parameters * 4 / 1e9)


@pytest.mark.parametrize(("cells", "gb"), [(10_000, 0.08), (50_000, 0.4), (100_000, 0.8), (500_000, 4.0)])
def test_single_cell_matrix_in_memory(cells: int, gb: float) -> None:
    assert values_of("scrna", f"cells={cells}")["cells_gb"] == pytest.approx(gb)


def test_half_precision_saves_a_third_of_the_activations() -> None:
    full, half = (values_of("scrna", f"precision={p}")["activations_gb"] for p in ("fp32", "bf16"))
    assert 0.30 <= 1 - half / full <= 0.40


def test_single_cell_hours_scale_with_cells_and_card() -> None:
    one, five = (values_of("scrna", f"cells={c}", gpu="rtx4090")["hours"] for c in (10_000, 50_000))
    assert five == pytest.approx(5 * one)
    slow = values_of("scrna", "cells=10000", gpu="t4")["hours"]
    # 82.6 against 8.1 TFLOP/s
    assert slow / one == pytest.approx(82.6 / 8.1)
    assert 0.5 < one < 2.0  # published: 1-2 h


@pytest.mark.parametrize(
    ("preset", "minutes", "share"),
    [
        ("quick_1k", 5.0, 0.0),
        ("full_50k", 52.4, 34 / 52.4),
        ("cnn", 48.0, 34 / 48),
        ("hyenadna_small", 36.0, 33 / 36),
        ("hyenadna_medium", 43.1, 33 / 43.1),
    ],
)
def test_splice_runs_on_an_a40(preset: str, minutes: float, share: float) -> None:
    values = values_of("splice", f"preset={preset}", gpu="a40")
    assert values["run_minutes"] == pytest.approx(minutes, abs=0.05)
    assert values["preparation_share"] == pytest.approx(share, abs=1e-3)


def test_splice_preparation_costs_the_same_on_a_faster_card() -> None:
    slow, fast = (values_of("splice", "preset=cnn", gpu=g) for g in ("a40", "rtx4090"))
    assert fast["preparation_minutes"] == slow["preparation_minutes"] == 34.0
    assert fast["training_minutes"] < slow["training_minutes"]
    assert fast["preparation_share"] > slow["preparation_share"]


def test_the_splice_runs_add_up_to_three_hours_not_four() -> None:
    values = values_of("splice")
    # 5 + 52.4 + 48.2 + 36.3 + 43.1 = 185 min
    assert values["stated_runs_hours"] == pytest.approx(3.0833, abs=1e-4)
    assert values["stated_runs_usd"] == pytest.approx(2.1275, abs=1e-4)
    assert values["training_variants"] == pytest.approx(18_812.2)  # 18,813 after rounding up


@pytest.mark.parametrize(
    ("preset", "least", "without"),
    [
        ("hyenadna_tiny", 4, None),
        ("hyenadna_small", 8, None),
        ("hyenadna_medium", 24, "t4"),
        ("hyenadna_large", 48, "rtx4090"),
        ("dnabert2", 16, "t4"),
    ],
)
def test_splice_models_need_their_minimum(preset: str, least: float, without: str | None) -> None:
    plan = plan_workload("splice", [f"preset={preset}"], GPUS)
    assert plan.values["vram_gb"] == least
    fitting = {card.gpu for card in plan.cards if card.fits}
    assert "a100-80gb" in fitting
    assert without is None or without not in fitting


@pytest.mark.parametrize("name", list_names("workloads"))
def test_workload_files_state_their_contradictions_beside_the_formulas_values(name: str) -> None:
    plan = plan_workload(name, [], GPUS)
    assert len(plan.contradictions) >= (7 if name in ("bayesdream", "scrna", "splice") else 2) and plan.published
    assert all(value >= 0 for value in plan.values.values())


def test_three_families_are_there() -> None:
    assert {"bayesdream", "scrna", "splice"} <= set(list_names("workloads"))


def test_plan_workload_prints_memory_cards_hours_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--workload", "splice", "--gpu", "a40", "--set", "preset=cnn"]) == 0
    text = capsys.readouterr().out
    # 48 min at 0.79 $/h
    assert "run_minutes                48" in text and "0.80" in text and "stated about 4, formula 3.08333" in text


def test_cost_is_price_times_hours() -> None:
    plan = plan_workload("splice", ["preset=cnn"], GPUS)
    card = next(c for c in plan.cards if c.gpu == "a40")
    price = GPUS["a40"].hardware.price.usd_per_hour
    assert price is not None and card.usd == pytest.approx(price * 0.8)


def test_what_no_card_holds_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "--workload", "bayesdream", "--json", "--set", "T=30000", "N=200000", "K=20"]
    assert main([*arguments, "distribution=multinomial"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["fits"] is False and answer["values"]["multinomial_extra_gb"] == pytest.approx(480.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("X=1", "unknown"),
        ("T=many", "expected a number"),
        ("T=-1", "expected 0 or more"),
        ("distribution=cauchy", "negbinom"),
        ("preset=none", "example1"),
        ("T=true", "expected a number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings(load_workload("bayesdream"), [setting])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14.0),
        ("(2 + 3) * 4", 20.0),
        ("2 ** 10 / 4 - -1", 257.0),
        ("min(a, 3, b) + max(a, b)", 9.0),
        ("a if a > b else b", 7.0),
        ("1 < a <= 2", True),
        ("a == b", False),
        ("+1.5e-3 * 2", 0.003),
        ("max(a)", 2.0),
    ],
)
def test_arithmetic(text: str, value: float) -> None:
    assert compute_formula(text, {"a": 2.0, "b": 7.0}) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "a.real",
        "a[0]",
        "[a for a in b]",
        "lambda: 1",
        "open('x')",
        "'text'",
        "a and b",
        "not a",
        "a // b",
        "a % b",
        "min(*a)",
        "min(a, key=b)",
        "min()",
        "(a := 1)",
        "f'{a}'",
        "True",
        "a @ b",
        "a is b",
        "1j",
        "eval(a)",
        "a; b",
        "",
    ],
)
def test_anything_but_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        compute_formula(text, {"a": 2.0, "b": 7.0})


@pytest.mark.parametrize(
    "text", ["1 / 0", "10 ** 65", "9 ** 9 ** 9", "1e308 * 10", "(0 - 1) ** 0.5", "a", "(" * 400 + "1" + ")" * 400]
)
def test_what_has_no_finite_value_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        compute_formula(text, {}, "formula x")
    assert "\n" not in str(error.value) and str(error.value).startswith("formula x")


@given(st.text(max_size=60))
def test_no_text_does_more_than_fail(text: str) -> None:
    try:
        value = compute_formula(text, {"a": 1.0})
    except ConfigError:
        return
    assert isinstance(value, (float, bool))


@pytest.mark.parametrize("name", ["protenix", "rnapro", "boltz"])
def test_other_programs_stay_near_what_was_published_of_them(name: str) -> None:
    plan = plan_workload(name, [], GPUS)
    for figure, value in plan.published:
        stated = float(figure.stated.removeprefix("more than "))
        assert value == pytest.approx(stated, rel=0.06) or (figure.stated.startswith("more") and value > stated)


@pytest.mark.parametrize(("length", "fits"), [(500, True), (800, True), (1000, False)])
def test_protenix_on_a_t4(length: int, fits: bool) -> None:
    card = next(c for c in plan_workload("protenix", [f"length={length}"], GPUS).cards if c.gpu == "t4")
    # 15.6 GB; 2.07 + 16.13e-6 L^2 = 6.1, 12.4 and 18.2 GB
    assert card.fits is fits
    assert 0 < card.hours < 8


def test_hours_follow_targets_seeds_and_the_card() -> None:
    one = {c.gpu: c.hours for c in plan_workload("protenix", ["length=500", "targets=10"], GPUS).cards}
    two = {c.gpu: c.hours for c in plan_workload("protenix", ["length=500", "targets=10", "seeds=2"], GPUS).cards}
    assert two["t4"] - 0.05 == pytest.approx(2 * (one["t4"] - 0.05))
    # by the memory's bandwidth: 320 GB/s against 2039
    assert one["t4"] - 0.05 == pytest.approx((one["a100-80gb"] - 0.05) * 2039 / 320, rel=0.01)


def test_inputs_go_by_the_names_that_their_users_know() -> None:
    short = plan_workload("bayesdream", ["T=30000", "N=50000", "G=1000", "s=0.9"], GPUS)
    long = plan_workload("bayesdream", ["features=30000", "cells=50000", "guides=1000", "sparsity=0.9"], GPUS)
    assert short == long
    text = format_workload(long)
    assert "features=30000" in text and "sparsity=0.9" in text and "T=30000" not in text
    with pytest.raises(ConfigError, match=r"--set sparseness=1: unknown; known: preset, .*cells.*sparsity"):
        plan_workload("bayesdream", ["sparseness=1"], GPUS)


def test_the_machines_own_memory_is_shown_and_follows_the_inputs() -> None:
    small, large = (plan_workload("scrna", [f"preset={preset}"], GPUS) for preset in ("minimal", "large"))
    assert small.ram_gb == small.values["peak_ram_gb"] < large.ram_gb
    assert f"needs {large.ram_gb:.6g} GB of memory beside the card's" in format_workload(large)
