"""What runs where: every model preset on every card, with hours and dollars, and the combinations that cannot be."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from rnafold.config.hardware import (
    BF16_CAPABILITY,
    COMPILE_CAPABILITY,
    FLASH_CAPABILITY,
    GpuConfig,
    load_gpus,
    parse_capability,
)
from rnafold.config.settings import Config, resolve_config
from rnafold.config.strict_yaml import list_names
from rnafold.errors import ConfigError
from rnafold.planner.memory.estimate import TraceStore
from rnafold.planner.plan import Request, build_plan, needed_traces
from rnafold.planner.quota.rules import QuotaRules
from rnafold.planner.time.load import TrainingLoad
from rnafold.planner.time.measurements import Measurement

Verdict = Literal["recommended", "possible", "will not fit"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One model on one card. `hours` and `usd` are of one run; `why` says what keeps it from being recommended."""

    model: str
    gpu: str
    verdict: Verdict
    why: str
    peak_gib: float
    limit_gib: float
    hours: float
    hours_high: float
    usd: float | None


def build_matrix(
    load: TrainingLoad,
    store: TraceStore,
    rules: QuotaRules,
    measurements: Sequence[Measurement] = (),
    overrides: Sequence[str] = (),
) -> tuple[list[Cell], dict[str, list[str]]]:
    """All cells, models by cards, and for each card what is impossible on it.

    Raises:
        ConfigError: an override that no card can follow.
    """
    gpus, models = load_gpus(), list_names("model")
    configs: dict[tuple[str, str], Config] = {}
    failed = ""
    for model in models:
        for gpu in gpus:
            try:
                configs[model, gpu] = resolve_config(gpu, model, overrides)
            except ConfigError as error:
                failed = str(error)
    if not configs:
        raise ConfigError(failed)
    store.request({k.fingerprint(): k for c in configs.values() for k in needed_traces(c, load.longest)}.values())
    cells = []
    for (model, gpu), config in configs.items():
        request = Request(
            gpu=gpu,
            model=model,
            config=config,
            load=load,
            rules=rules,
            state=None,
            measurements=tuple(measurements),
            overrides=tuple(overrides),
        )
        cells.append(_judge(request, store))
    return cells, {gpu: list_impossible(config) for gpu, config in gpus.items()}


def _judge(request: Request, store: TraceStore) -> Cell:
    # a matrix asks whether any micro batch fits, not only the file's
    run = dataclasses.replace(request.config.train, accumulation="auto")
    plan = build_plan(dataclasses.replace(request, config=dataclasses.replace(request.config, train=run)), store)
    chosen = plan.chosen
    hardware = request.config.hardware
    why, verdict = "", "recommended"
    if not chosen.memory.fits:
        verdict, why = "will not fit", f"even a micro batch of 1 needs {chosen.memory.peak_gib:.1f} GiB"
        if plan.largest_micro_batch:
            why = f"no micro batch up to {plan.largest_micro_batch} divides {run.effective_batch}"
    elif chosen.micro_batch < run.micro_batch:
        verdict, why = "possible", f"micro batch {chosen.micro_batch} instead of {run.micro_batch}"
    elif len(plan.sessions) > 1:
        verdict, why = "possible", f"{len(plan.sessions)} sessions"
    elif hardware.device_type == "cuda" and hardware.torch_wheel.last_release.startswith("2.6"):
        verdict, why = "possible", f"only with torch {hardware.torch_wheel.last_release}"
    price = hardware.price.usd_per_hour
    return Cell(
        model=request.model,
        gpu=request.gpu,
        verdict=verdict,  # type: ignore[arg-type]
        why=why,
        peak_gib=chosen.memory.peak_gib,
        limit_gib=chosen.memory.limit_gib,
        hours=chosen.hours_per_run,
        hours_high=chosen.hours.high / chosen.runs,
        usd=None if price is None else price * chosen.hours_per_run,
    )


def list_impossible(config: GpuConfig) -> list[str]:
    """What a card cannot do: precision, kernel, compiler, wheel."""
    hardware = config.hardware
    if hardware.device_type != "cuda":
        lacking = [p for p in ("fp16", "bf16") if p not in hardware.kernels.precisions]
        return [f"{p} is not run here" for p in lacking]
    capability = parse_capability(hardware.capability or "0.0")
    found = []
    if capability < BF16_CAPABILITY:
        found.append(f"bf16: emulated below {BF16_CAPABILITY[0]}.{BF16_CAPABILITY[1]}, refused")
    if capability < FLASH_CAPABILITY:
        found.append(f"flash attention: needs {FLASH_CAPABILITY[0]}.{FLASH_CAPABILITY[1]}")
    if capability < COMPILE_CAPABILITY:
        found.append(f"torch.compile: needs {COMPILE_CAPABILITY[0]}.{COMPILE_CAPABILITY[1]}")
    if "fp16" not in hardware.kernels.precisions:
        found.append("fp16: not listed for this card")
    wheel = hardware.torch_wheel
    if wheel.last_release != "current":
        found.append(
            f"torch wheels after {wheel.last_release} have no kernels for {hardware.capability} ({wheel.cuda})"
        )
    return found


def format_matrix(cells: Sequence[Cell], impossible: dict[str, list[str]]) -> str:
    """The matrix as a table, then the reasons and the impossible combinations."""
    models = list(dict.fromkeys(cell.model for cell in cells))
    gpus = list(dict.fromkeys(cell.gpu for cell in cells))
    by_place = {(cell.model, cell.gpu): cell for cell in cells}
    width = 27
    lines = [f"{'':<11}" + "".join(f"{model:<{width}}" for model in models)]
    for gpu in gpus:
        row = f"{gpu:<11}"
        for model in models:
            cell = by_place.get((model, gpu))
            row += f"{_show(cell):<{width}}"
        lines.append(row.rstrip())
    lines.append("each: verdict, peak of the card's memory in GiB, hours of one run, $ (* = see below)")
    lines += [f"* {c.model} on {c.gpu}: {c.verdict}: {c.why}" for c in cells if c.why]
    lines += [f"{gpu}: {'; '.join(reasons)}" for gpu, reasons in impossible.items() if reasons]
    return "\n".join(lines)


def _show(cell: Cell | None) -> str:
    if cell is None:
        return "impossible"
    word = {"recommended": "yes", "possible": "can", "will not fit": "NO"}[cell.verdict] + ("*" if cell.why else "")
    usd = "" if cell.usd is None else f" ${cell.usd:.2f}"
    return f"{word} {cell.peak_gib:.1f}/{cell.limit_gib:.0f} {cell.hours:.1f}h{usd}"


def matrix_to_json(cells: Sequence[Cell], impossible: dict[str, list[str]]) -> dict[str, Any]:
    """The matrix as JSON values."""
    return {"cells": [dataclasses.asdict(cell) for cell in cells], "impossible": impossible}
