"""What each GPU is (facts, with sources) and how a run uses it (choices): the types of configs/gpu/*.yaml.

Every fact is per card; `num_gpus` says how many cards the file is for.
"""

import dataclasses
import datetime
import math
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from rnafold.config.machine_use import (
    AttentionKernel,
    Precision,
    RunConfig,
    check_positive,
    count_accumulation,
    describe_learning_rates,
    learning_rate,
)
from rnafold.config.strict_yaml import Section, build, list_names, load_named
from rnafold.errors import ConfigError

__all__ = [
    "AttentionKernel",
    "GpuConfig",
    "HardwareConfig",
    "KaggleFacts",
    "KernelFacts",
    "MemoryFacts",
    "PeakRates",
    "Precision",
    "Price",
    "RunConfig",
    "TorchWheel",
    "check_use",
    "count_accumulation",
    "describe_learning_rates",
    "find_single_card",
    "learning_rate",
    "load_gpu",
    "load_gpus",
    "parse_capability",
    "read_gpu",
]

# What a capability (major, minor) unlocks. Source: PyTorch 2.x kernel selection; bf16 below 8.0 is emulated.
MEMORY_EFFICIENT_CAPABILITY: Final = (5, 0)
COMPILE_CAPABILITY: Final = (7, 0)
BF16_CAPABILITY: Final = (8, 0)
FLASH_CAPABILITY: Final = (8, 0)
# A card reports a few per cent more or less than the file, by driver and error correction.
MEMORY_TOLERANCE: Final = 1.05


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFacts:
    """`total_gib` is what torch.cuda.get_device_properties reports for one card, not the nominal size."""

    total_gib: float
    bandwidth_gb_per_s: float
    source: str

    def __post_init__(self) -> None:
        check_positive(self, "total_gib", "bandwidth_gb_per_s")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PeakRates:
    """Peak dense rates of one card in 10^12 operations a second; None where a type runs no faster than fp32."""

    fp32: float
    tf32: float | None
    fp16: float | None
    bf16: float | None
    tensor_cores: bool
    source: str

    def __post_init__(self) -> None:
        check_positive(self, "fp32", "tf32", "fp16", "bf16")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KernelFacts:
    """What runs natively: attention kernels, precisions, torch.compile."""

    attention: tuple[AttentionKernel, ...]
    precisions: tuple[Precision, ...]
    compile: bool
    source: str

    def __post_init__(self) -> None:
        if "math" not in self.attention:
            raise ValueError("attention: math runs everywhere and must be listed")
        if "fp32" not in self.precisions:
            raise ValueError("precisions: fp32 runs everywhere and must be listed")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TorchWheel:
    """The last torch release with a wheel for the card ("current": still built), and the CUDA tag of that wheel."""

    last_release: str
    cuda: str | None
    source: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour of the whole machine costs; `date` is the day on which the price was read or written down."""

    usd_per_hour: float | None
    date: str | None
    source: str

    def __post_init__(self) -> None:
        if self.usd_per_hour is None:
            return
        if self.usd_per_hour < 0 or math.isinf(self.usd_per_hour):
            raise ValueError(f"usd_per_hour: found {self.usd_per_hour}, expected 0 or more")
        if self.date is None:
            raise ValueError("date: found nothing, expected the day of the price (YYYY-MM-DD)")
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError:
            raise ValueError(f"date: found {self.date!r}, expected YYYY-MM-DD") from None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KaggleFacts:
    """The `machine_shape` of kernel-metadata.json that asks for this card; None where Kaggle does not offer it."""

    machine_shape: str | None
    status: str
    source: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HardwareConfig:
    """The facts about one kind of machine (config group `hardware`).

    Attributes:
        name: for people.
        device_type: torch's name of the backend.
        device_name_patterns: whole words to look for in torch.cuda.get_device_name.
        num_gpus: cards that the file is for (1 on mps and cpu).
        capability: CUDA compute capability such as "7.5"; None on mps and cpu.
        source: of name, capability and number of cards.
    """

    name: str
    device_type: Literal["cuda", "mps", "cpu"]
    device_name_patterns: tuple[str, ...]
    num_gpus: int
    capability: str | None
    source: str
    memory: MemoryFacts
    peak_tflops: PeakRates
    kernels: KernelFacts
    torch_wheel: TorchWheel
    price: Price
    kaggle: KaggleFacts

    def __post_init__(self) -> None:
        check_positive(self, "num_gpus")
        if self.device_type != "cuda":
            if self.capability is not None:
                raise ValueError(f"capability: found {self.capability!r}, expected null on {self.device_type}")
            return
        if self.capability is None or not re.fullmatch(r"\d+\.\d", self.capability):
            raise ValueError(f"capability: found {self.capability!r}, expected text such as '7.5' on cuda")
        if not self.device_name_patterns:
            raise ValueError("device_name_patterns: found none, expected at least one on cuda")
        for listed, key, what, least in (
            ("bf16" in self.kernels.precisions, "precisions", "bf16", BF16_CAPABILITY),
            ("flash" in self.kernels.attention, "attention", "flash attention", FLASH_CAPABILITY),
            (
                "memory_efficient" in self.kernels.attention,
                "attention",
                "memory_efficient",
                MEMORY_EFFICIENT_CAPABILITY,
            ),
            (self.kernels.compile, "compile", "torch.compile", COMPILE_CAPABILITY),
        ):
            if listed and parse_capability(self.capability) < least:
                needed = f"{least[0]}.{least[1]}"
                raise ValueError(f"kernels.{key}: {what} needs capability {needed}, {self.name} has {self.capability}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GpuConfig:
    """One file of configs/gpu/: the facts and the choices, checked against each other."""

    hardware: HardwareConfig
    train: RunConfig

    def __post_init__(self) -> None:
        check_use(self.hardware, self.train)


def check_use(hardware: HardwareConfig, run: RunConfig) -> None:
    """Checks that the machine can do what the run asks and that the batch adds up.

    Call it from the `__post_init__` of any config that holds both as `hardware` and `train`.

    Raises:
        ValueError: "train.KEY: message", which `rnafold.config.build` completes with file and line.
    """
    kernels = hardware.kernels
    if run.precision not in kernels.precisions:
        raise ValueError(
            f"train.precision: {hardware.name} does not run {run.precision}; use {_any(kernels.precisions)}"
        )
    if run.attention not in kernels.attention:
        raise ValueError(
            f"train.attention: {hardware.name} does not run {run.attention}; use {_any(kernels.attention)}"
        )
    if run.compile and not kernels.compile:
        raise ValueError(f"train.compile: {hardware.name} cannot run torch.compile; use false")
    count_accumulation(run, hardware.num_gpus)


def load_gpu(name: str) -> GpuConfig:
    """Loads configs/gpu/NAME.yaml, or a YAML file by its path."""
    return build(GpuConfig, read_gpu(name), f"GPU {name}")


def read_gpu(name: str) -> Section:
    """The sections of a GPU's file, not yet built.

    Raises:
        ConfigError: an unknown name, or a file from before the section `run` was called `train`.
    """
    section = load_named("gpu", name)
    if "run" in section:
        raise ConfigError(f"{section.origins['run']}: run: this section is called train now, as in --set; rename it")
    return section


def load_gpus() -> dict[str, GpuConfig]:
    """All GPU files by name, sorted."""
    return {name: load_gpu(name) for name in list_names("gpu")}


def find_single_card(hardware: HardwareConfig, gpus: Mapping[str, GpuConfig]) -> str | None:
    """The file for one of several like cards: same names, capability and memory a card; None where there is none."""

    def look(one: HardwareConfig) -> tuple[object, ...]:
        return one.device_name_patterns, one.capability, one.memory.total_gib

    alike = (name for name, gpu in gpus.items() if gpu.hardware.num_gpus == 1 and look(gpu.hardware) == look(hardware))
    return next(alike, None)


def parse_capability(text: str) -> tuple[int, int]:
    """ "7.5" -> (7, 5); compared as numbers, so that 10.0 is above 9.0."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _any(options: Sequence[str]) -> str:
    return " or ".join(options)
