"""Which file of configs/gpu/ fits the machine at hand: `--gpu auto`. Takes what torch reports and imports no torch."""

import dataclasses
import math
import re
from collections.abc import Mapping

from rnafold.config.hardware import (
    BF16_CAPABILITY,
    COMPILE_CAPABILITY,
    MEMORY_EFFICIENT_CAPABILITY,
    MEMORY_TOLERANCE,
    GpuConfig,
    parse_capability,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GpuMatch:
    """The file chosen for a machine.

    Attributes:
        name: value of --gpu; None where no file fits.
        is_exact: the card is the one that the file describes.
        note: one line for the user: what was found, what was chosen and why.
    """

    name: str | None
    is_exact: bool
    note: str


def match_gpu(
    device_name: str | None,
    capability: tuple[int, int] | str | None,
    memory_gib: float | None,
    device_count: int,
    configs: Mapping[str, GpuConfig],
) -> GpuMatch:
    """Chooses the config for the machine.

    Args:
        device_name: torch.cuda.get_device_name(0); "mps" on Apple silicon; None or "cpu" without accelerator.
        capability: torch.cuda.get_device_capability(0), None without CUDA.
        memory_gib: total memory of one card.
        device_count: torch.cuda.device_count().
        configs: from `load_gpus`.
    """
    if device_name is None or device_name.lower() in ("cpu", "mps"):
        wanted = (device_name or "cpu").lower()
        name = next((key for key, config in configs.items() if config.hardware.device_type == wanted), None)
        found = "no GPU" if wanted == "cpu" else "an Apple GPU (mps)"
        return GpuMatch(name=name, is_exact=name is not None, note=f"found {found}: using {name or 'none'}")
    if isinstance(capability, str):
        capability = parse_capability(capability)
    cards = {
        key: config
        for key, config in configs.items()
        if config.hardware.device_type == "cuda" and config.hardware.num_gpus <= max(device_count, 1)
    }
    count = f"{device_count} x " if device_count > 1 else ""
    size = "" if memory_gib is None else f", {memory_gib:.1f} GiB"
    found = f"found {count}{device_name} (capability {_show(capability)}{size})"
    known = {key: config for key, config in cards.items() if _is_named(config, device_name)}
    fitting = {key: config for key, config in known.items() if _fits(config, memory_gib)}
    if fitting:
        name = min(fitting, key=lambda key: (-fitting[key].hardware.num_gpus, _distance(fitting[key], memory_gib)))
        used = fitting[name].hardware.num_gpus
        idle = f", which uses {used} of the {device_count} cards" if used < device_count else ""
        return GpuMatch(name=name, is_exact=True, note=f"{found}: using {name}{idle}")
    return _choose_nearest(found, capability, memory_gib, cards)


def _choose_nearest(
    found: str, capability: tuple[int, int] | None, memory_gib: float | None, cards: Mapping[str, GpuConfig]
) -> GpuMatch:
    single = {key: config for key, config in cards.items() if config.hardware.num_gpus == 1}
    # Only files that ask for nothing the card lacks; of these the most able.
    able = {key: tier for key, config in single.items() if (tier := _tier_of(config)) <= _tier(capability)}
    if not able:
        return GpuMatch(name=None, is_exact=False, note=f"{found}: no GPU config fits; name one with --gpu")
    best = {key: single[key] for key, tier in able.items() if tier == max(able.values())}
    fitting = {key: config for key, config in best.items() if _fits(config, memory_gib)}
    if fitting:
        name = min(fitting, key=lambda key: (_distance(fitting[key], memory_gib), key))
        why = "the nearest known card by capability and memory"
    else:
        name = min(best, key=lambda key: (best[key].hardware.memory.total_gib, key))
        needed = best[name].hardware.memory.total_gib
        why = f"the smallest of its capability, yet with {needed:.1f} GiB: lower train.micro_batch"
    chosen = single[name].hardware
    return GpuMatch(
        name=name, is_exact=False, note=f"{found}, which has no config of its own: using {name} ({chosen.name}), {why}"
    )


def _is_named(config: GpuConfig, device_name: str) -> bool:
    # Whole words: T4 must not answer to T400, nor A40 to A4000.
    return any(
        re.search(rf"(?<![A-Za-z0-9]){re.escape(pattern)}(?![A-Za-z0-9])", device_name, re.IGNORECASE)
        for pattern in config.hardware.device_name_patterns
    )


def _fits(config: GpuConfig, memory_gib: float | None) -> bool:
    return memory_gib is None or config.hardware.memory.total_gib <= memory_gib * MEMORY_TOLERANCE


def _distance(config: GpuConfig, memory_gib: float | None) -> float:
    return 0.0 if memory_gib is None else abs(math.log(memory_gib / config.hardware.memory.total_gib))


def _tier(capability: tuple[int, int] | None) -> int:
    steps = (MEMORY_EFFICIENT_CAPABILITY, COMPILE_CAPABILITY, BF16_CAPABILITY)
    return sum(capability is not None and capability >= step for step in steps)


def _tier_of(config: GpuConfig) -> int:
    text = config.hardware.capability
    return _tier(None if text is None else parse_capability(text))


def _show(capability: tuple[int, int] | None) -> str:
    return "unknown" if capability is None else f"{capability[0]}.{capability[1]}"
