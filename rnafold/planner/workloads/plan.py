"""Other jobs that share the weekly quota, described by formulas in configs/workloads/*.yaml."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rnafold.config.building import build
from rnafold.config.hardware import GpuConfig
from rnafold.config.strict_yaml import load_named, parse_yaml
from rnafold.errors import ConfigError
from rnafold.planner.workloads.formulas import Value, compute_formula

GB_PER_GIB = 1.073741824
# Facts about a card that formulas may use; those without a card take the values of this one.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InputConfig:
    """A number that the user may set, by the name that its users know (`called`) or by that of the formulas."""

    default: float
    meaning: str
    called: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResultConfig:
    """Which formula (or input) is the memory of the card, of the machine, and the hours."""

    vram_gb: str
    ram_gb: str
    hours: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PublishedConfig:
    """A figure as it was published, for a preset, to stand beside the formula's value."""

    preset: str
    name: str
    stated: str
    gpu: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadConfig:
    """One file of configs/workloads/. `choices`: words that stand for numbers."""

    title: str
    source: str
    inputs: dict[str, InputConfig]
    choices: dict[str, dict[str, dict[str, float]]]
    defaults: dict[str, str]
    presets: dict[str, dict[str, float]]
    formulas: dict[str, str]
    results: ResultConfig
    published: tuple[PublishedConfig, ...] = ()
    contradictions: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadOnGpu:
    """How a workload does on one card; `usd` is None where no price is known, `hours` 0 where none is stated."""

    gpu: str
    fits: bool
    vram_gb: float
    memory_gb: float
    hours: float
    usd: float | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPlan:
    """Inputs, every formula's value and the machine's memory (on `gpu`, the smallest card that fits), and the cards."""

    name: str
    title: str
    gpu: str
    inputs: dict[str, float]
    called: dict[str, str]
    chosen: dict[str, str]
    values: dict[str, float]
    ram_gb: float
    cards: tuple[WorkloadOnGpu, ...]
    published: tuple[tuple[PublishedConfig, float], ...]
    contradictions: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether any card will do."""
        return any(card.fits for card in self.cards)


def load_workload(name: str) -> WorkloadConfig:
    """The workload NAME of configs/workloads (or a YAML file by its path).

    Raises:
        ConfigError: an unknown name, a malformed file, or a result that no formula or input gives.
    """
    config = build(WorkloadConfig, load_named("workloads", name), f"workload {name}")
    known = {*config.inputs, *config.formulas}
    for key, result in dataclasses.asdict(config.results).items():
        if result not in known:
            raise ConfigError(f"workload {name}: results.{key}: found {result}, expected a formula or an input")
    for choice, word in config.defaults.items():
        if word not in config.choices.get(choice, {}):
            raise ConfigError(f"workload {name}: defaults.{choice}: found {word}, not among its choices")
    called = [item.called for item in config.inputs.values() if item.called]
    taken = sorted({word for word in called if called.count(word) > 1 or word in {*config.inputs, *config.choices}})
    if taken:
        raise ConfigError(f"workload {name}: inputs: two go by the name {taken[0]}")
    return config


def gpu_facts(config: GpuConfig) -> dict[str, float]:
    """The names about a card that formulas may use; rates and memory of all its cards together."""
    hardware = config.hardware
    peak = hardware.peak_tflops
    return {
        "gpu_memory_gb": hardware.memory.total_gib * GB_PER_GIB,
        "gpu_fp32_tflops": peak.fp32,
        "gpu_fp16_tflops": peak.fp16 or peak.fp32,
        "gpu_bandwidth_gb_per_s": hardware.memory.bandwidth_gb_per_s,
    }


def read_settings(config: WorkloadConfig, settings: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
    """Inputs and choices after `--set` texts such as "T=30000", "distribution=binomial", "preset=large".

    Raises:
        ConfigError: an unknown name or a value of the wrong kind.
    """
    inputs = {name: item.default for name, item in config.inputs.items()}
    chosen = dict(config.defaults)
    formula_names = {item.called: name for name, item in config.inputs.items() if item.called}
    pairs = [text.partition("=") for text in settings]
    for key, equals, value in sorted(pairs, key=lambda pair: pair[0] != "preset"):
        place = f"--set {key}{equals}{value}"
        key = formula_names.get(key, key)
        if key == "preset":
            if value not in config.presets:
                raise ConfigError(f"{place}: expected one of {', '.join(config.presets) or 'none'}")
            inputs.update(config.presets[value])
        elif key in config.choices:
            if value not in config.choices[key]:
                raise ConfigError(f"{place}: expected one of {', '.join(config.choices[key])}")
            chosen[key] = value
        elif key in inputs:
            number = parse_yaml(value, place, with_lines=False)
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise ConfigError(f"{place}: expected a number")
            if number < 0:
                raise ConfigError(f"{place}: expected 0 or more")
            inputs[key] = float(number)
        else:
            known = ", ".join(["preset", *config.choices, *(item.called or n for n, item in config.inputs.items())])
            raise ConfigError(f"{place}: unknown; known: {known}")
    return inputs, chosen


def evaluate_workload(
    config: WorkloadConfig, inputs: Mapping[str, float], chosen: Mapping[str, str], facts: Mapping[str, float]
) -> dict[str, float]:
    """Every formula's value, in the order of the file; each may read inputs, choices, facts and earlier formulas."""
    names: dict[str, Value] = {**facts, **inputs}
    for choice, word in chosen.items():
        names.update(config.choices[choice][word])
    values = {}
    for name, formula in config.formulas.items():
        names[name] = float(compute_formula(formula, names, f"formula {name}"))
        values[name] = float(names[name])
    return values


def plan_workload(
    name: str, settings: Sequence[str], gpus: Mapping[str, GpuConfig], gpu: str | None = None
) -> WorkloadPlan:
    """A workload on every card, its values for one of them.

    Args:
        name: of the workload.
        settings: `--set` texts.
        gpus: the cards.
        gpu: the card whose values are shown; None takes the smallest that fits, or the largest of all.
    """
    config = load_workload(name)
    inputs, chosen = read_settings(config, settings)
    cards, all_values = [], {}
    for key, card in gpus.items():
        if card.hardware.device_type == "cpu":
            continue
        facts = gpu_facts(card)
        values = evaluate_workload(config, inputs, chosen, facts)
        known = {**inputs, **values}
        hours, price = known[config.results.hours], card.hardware.price.usd_per_hour
        vram = known[config.results.vram_gb]
        all_values[key] = values
        cards.append(
            WorkloadOnGpu(
                gpu=key,
                fits=vram <= facts["gpu_memory_gb"],
                vram_gb=vram,
                memory_gb=facts["gpu_memory_gb"],
                hours=hours,
                usd=None if price is None else price * hours,
            )
        )
    cards.sort(key=lambda c: (c.memory_gb, c.gpu))
    shown = gpu or next((c.gpu for c in cards if c.fits), cards[-1].gpu)
    if shown not in all_values:
        raise ConfigError(f"--gpu {shown}: workloads are planned for {', '.join(all_values)}")
    return WorkloadPlan(
        name=name,
        title=config.title,
        gpu=shown,
        inputs=inputs,
        called={key: item.called for key, item in config.inputs.items() if item.called},
        chosen=chosen,
        values=all_values[shown],
        ram_gb={**inputs, **all_values[shown]}[config.results.ram_gb],
        cards=tuple(cards),
        published=tuple((p, published_value(config, p, gpus, shown)) for p in config.published),
        contradictions=config.contradictions,
    )


def published_value(
    config: WorkloadConfig, published: PublishedConfig, gpus: Mapping[str, GpuConfig], default_gpu: str
) -> float:
    """The formula's value for what a published figure is about."""
    inputs, chosen = read_settings(config, [f"preset={published.preset}"])
    values = evaluate_workload(config, inputs, chosen, gpu_facts(gpus[published.gpu or default_gpu]))
    return {**inputs, **values}[published.name]


def format_workload(plan: WorkloadPlan) -> str:
    """The plan as text."""
    setting = [f"{plan.called.get(k, k)}={v:g}" for k, v in plan.inputs.items()] + [
        f"{k}={v}" for k, v in plan.chosen.items()
    ]
    lines = [f"{plan.name}: {plan.title}", f"  with {', '.join(setting)}", f"  on {plan.gpu}:"]
    lines += [f"    {name:<26} {_number(value)}" for name, value in plan.values.items()]
    lines.append(f"  {'card':<12}{'memory GB':>10}{'needed':>9}  {'fits':<5}{'hours':>8}{'$':>8}")
    for card in plan.cards:
        hours = f"{card.hours:.2f}" if card.hours else "?"
        usd = "?" if card.usd is None or not card.hours else f"{card.usd:.2f}"
        fits = "yes" if card.fits else "no"
        lines.append(f"  {card.gpu:<12}{card.memory_gb:>10.1f}{card.vram_gb:>9.2f}  {fits:<5}{hours:>8}{usd:>8}")
    lines.append(f"  the machine itself needs {_number(plan.ram_gb)} GB of memory beside the card's")
    if not plan.values.get("hours") and not plan.inputs.get("hours"):
        lines.append("  hours: none published; give your own with --set hours=H")
    if plan.published:
        lines.append("  published against the formula's value:")
        for figure, value in plan.published:
            where = f" on {figure.gpu}" if figure.gpu else ""
            lines.append(f"    {figure.preset} {figure.name}{where}: stated {figure.stated}, formula {_number(value)}")
    lines += ["  contradictions in what was published:", *(f"    - {text}" for text in plan.contradictions)]
    return "\n".join(lines)


def workload_to_json(plan: WorkloadPlan) -> dict[str, Any]:
    """The plan as JSON values."""
    plain = {k: v for k, v in dataclasses.asdict(plan).items() if k != "published"}
    plain["published"] = [{**dataclasses.asdict(p), "formula": value} for p, value in plan.published]
    return {**plain, "fits": plan.fits}


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.6g}"
