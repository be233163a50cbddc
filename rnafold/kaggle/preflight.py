"""What must be true before an hour of GPU time is spent: cards, kernels for them, memory, disk, versions, inputs.

`probe_machine` asks the machine, `check_*` judge what it said, so that every fault can be tested without one.
"""

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import torch
from packaging.requirements import Requirement

from rnafold.config.detection import match_gpu
from rnafold.config.hardware import GpuConfig, HardwareConfig, load_gpu, load_gpus, parse_capability
from rnafold.data.competition import read_targets
from rnafold.errors import InputError
from rnafold.kaggle.inputs import find_competition
from rnafold.prediction.deadline import match_targets
from rnafold.submission import read_sample

GIB: Final = 2**30
DISTRIBUTION: Final = "rnafold-kit"
# A kernel trains or predicts with the network, and reports: what these extras bring must be there as well.
_WITH_EXTRAS: Final = ({"extra": ""}, {"extra": "train"}, {"extra": "report"})
LEAST_PYTHON: Final = (3, 11)
# A card that another process holds is of no use; a fresh session has all but the context's share free.
LEAST_FREE_SHARE: Final = 0.85
# Checkpoints (three of up to 0.5 GiB), features and the submission; /kaggle/working has 19.5 GB.
LEAST_FREE_DISK_GIB: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One GPU as torch sees it; `failure` is why a real operation on it failed, "" if it gave the right number."""

    name: str
    capability: tuple[int, int]
    total_gib: float
    free_gib: float
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the machine says: versions, cards, the architectures that torch has kernels for, free disk."""

    python: tuple[int, int]
    torch: str
    cards: tuple[Card, ...] = ()
    arch_list: tuple[str, ...] = ()
    free_disk_gib: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightFinding:
    """One thing looked at: a fault stops a session before it costs anything, a warning does not."""

    level: Literal["ok", "warning", "fault"]
    about: str
    text: str

    def require(self) -> None:
        """Raises InputError if this is a fault."""
        if self.level == "fault":
            raise InputError(self.text)


@dataclass(slots=True)
class Report:
    """All findings of one preflight."""

    findings: list[PreflightFinding] = field(default_factory=list)

    @property
    def faults(self) -> list[PreflightFinding]:
        """The findings that forbid the run."""
        return [finding for finding in self.findings if finding.level == "fault"]

    def format(self) -> str:
        """One line a finding."""
        return "\n".join(f"{f.level:<8}{f.about:<14}{f.text}" for f in self.findings)

    def require_no_faults(self) -> None:
        """Raises InputError with all faults in one line, if there are any."""
        if self.faults:
            raise InputError("preflight: " + "; ".join(f"{f.about}: {f.text}" for f in self.faults))


def multiply_on_card(index: int) -> float:
    """Sum of the product of two 64 x 64 matrices of ones, computed on card `index`: 64^3 = 262144."""
    ones = torch.ones(64, 64, device=f"cuda:{index}")
    return float((ones @ ones).sum())


def probe_machine(working: Path, operation: Callable[[int], float] = multiply_on_card) -> Machine:
    """Asks torch and the disk; runs `operation` on each card, for `is_available()` says nothing about kernels."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Machine(
        python=(sys.version_info.major, sys.version_info.minor),
        torch=str(torch.__version__),
        cards=tuple(_probe_card(index, operation) for index in range(count)),
        arch_list=tuple(torch.cuda.get_arch_list()),
        free_disk_gib=shutil.disk_usage(working).free / GIB,
    )


def _probe_card(index: int, operation: Callable[[int], float]) -> Card:
    properties = torch.cuda.get_device_properties(index)
    failure = try_operation(index, operation)
    free = 0.0 if failure else torch.cuda.mem_get_info(index)[0] / GIB
    return Card(
        name=properties.name,
        capability=(properties.major, properties.minor),
        total_gib=properties.total_memory / GIB,
        free_gib=free,
        failure=failure,
    )


def try_operation(index: int, operation: Callable[[int], float]) -> str:
    """Why a real operation on a card failed or gave another number; "" if it is as expected."""
    try:
        value = operation(index)
    except RuntimeError as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return "" if value == 64.0**3 else f"a 64 x 64 product of ones summed to {value}, expected {64.0**3}"


def has_kernels(capability: tuple[int, int], arch_list: Sequence[str]) -> bool:
    """Whether a torch built for `arch_list` runs on a card: binaries of its generation, or portable code before it.

    Source: CUDA binary compatibility: sm_XY runs on X.Z with Z >= Y; compute_XY is compiled on any later card.
    """
    for arch in arch_list:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", arch)
        if match is None:
            continue
        built = (int(match.group(2)), int(match.group(3)))
        if match.group(1) == "sm" and built[0] == capability[0] and built <= capability:
            return True
        if match.group(1) == "compute" and built <= capability:
            return True
    return False


def check_machine(machine: Machine, name: str, config: GpuConfig, least_disk_gib: float) -> list[PreflightFinding]:
    """Findings about a machine that is to run the GPU config `name`."""
    findings = [_check_versions(machine)]
    hardware = config.hardware
    if hardware.device_type == "cuda":
        findings += _check_cards(machine, name, config)
    else:
        findings.append(PreflightFinding(level="ok", about="device", text=f"{hardware.name}, no card needed"))
    disk = f"{machine.free_disk_gib:.1f} GiB free, {least_disk_gib:.1f} needed"
    level: Literal["ok", "fault"] = "ok" if machine.free_disk_gib >= least_disk_gib else "fault"
    return [*findings, PreflightFinding(level=level, about="disk", text=disk)]


def _check_versions(machine: Machine) -> PreflightFinding:
    text = f"Python {machine.python[0]}.{machine.python[1]}, torch {machine.torch}"
    if machine.python < LEAST_PYTHON:
        return PreflightFinding(level="fault", about="versions", text=f"{text}; Python 3.11 or later is needed")
    return PreflightFinding(level="ok", about="versions", text=text)


def _check_cards(machine: Machine, name: str, config: GpuConfig) -> list[PreflightFinding]:
    hardware = config.hardware
    fits = match_gpu(None, None, None, 0, load_gpus()).name
    if not machine.cards:
        text = (
            f"no CUDA card here, {name} needs {hardware.num_gpus} x {hardware.device_name_patterns[0]}; or use {fits}"
        )
        return [PreflightFinding(level="fault", about="device", text=text)]
    first, count = machine.cards[0], len(machine.cards)
    match = match_gpu(first.name, first.capability, first.total_gib, count, load_gpus())
    findings = []
    if count < hardware.num_gpus:
        text = f"{name} needs {hardware.num_gpus} cards, found {count} x {first.name}; {match.note}"
        findings.append(PreflightFinding(level="fault", about="device", text=text))
    elif not match_gpu(first.name, first.capability, first.total_gib, count, {name: config}).is_exact:
        text = f"{name} is for {config.hardware.name}; {match.note}"
        findings.append(PreflightFinding(level="fault", about="device", text=text))
    else:
        findings.append(PreflightFinding(level="ok", about="device", text=f"{count} x {first.name}"))
    for index, card in enumerate(machine.cards[: hardware.num_gpus]):
        findings += _check_card(index, card, machine, hardware)
    return findings


def _check_card(index: int, card: Card, machine: Machine, hardware: HardwareConfig) -> list[PreflightFinding]:
    about = f"card {index}"
    capability = f"{card.capability[0]}.{card.capability[1]}"
    findings = []
    expected = None if hardware.capability is None else parse_capability(hardware.capability)
    if expected is not None and card.capability < expected:
        text = f"capability {capability}, the config expects {hardware.capability}"
        findings.append(PreflightFinding(level="fault", about=about, text=text))
    if not has_kernels(card.capability, machine.arch_list):
        built = " ".join(machine.arch_list) or "the CPU alone"
        text = f"torch {machine.torch} has no kernels for capability {capability}: it was built for {built}"
        findings.append(PreflightFinding(level="fault", about=about, text=text))
    if card.failure:
        findings.append(
            PreflightFinding(level="fault", about=about, text=f"the first operation failed: {card.failure}")
        )
    elif card.free_gib < LEAST_FREE_SHARE * hardware.memory.total_gib:
        text = f"{card.free_gib:.1f} GiB free of {card.total_gib:.1f}, the config counts on {hardware.memory.total_gib}"
        findings.append(PreflightFinding(level="fault", about=about, text=text))
    if not findings:
        text = f"capability {capability}, computes, {card.free_gib:.1f} GiB free"
        findings.append(PreflightFinding(level="ok", about=about, text=text))
    return findings


def check_packages(distribution: str = DISTRIBUTION) -> list[PreflightFinding]:
    """Whether what the package needs is installed: an absent package is a fault, an older version a warning."""
    try:
        listed = [Requirement(text) for text in metadata.requires(distribution) or []]
    except metadata.PackageNotFoundError:
        text = f"{distribution} is not installed, so its needs are not known; run from a checkout"
        return [PreflightFinding(level="warning", about="packages", text=text)]
    needs = [need for need in listed if need.marker is None or any(map(need.marker.evaluate, _WITH_EXTRAS))]
    findings = []
    for need in needs:
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            findings.append(PreflightFinding(level="fault", about="packages", text=f"{need} is not installed"))
            continue
        if not need.specifier.contains(version, prereleases=True):
            text = f"{need.name} {version} is older than tested ({need})"
            findings.append(PreflightFinding(level="warning", about="packages", text=text))
    return findings or [PreflightFinding(level="ok", about="packages", text=f"all {len(needs)} needs are met")]


def check_training_inputs(root: Path, competition: str = "") -> PreflightFinding:
    """Whether training sequences and labels are mounted."""
    try:
        files = find_competition(root, ("train_sequences", "train_labels"), competition)
    except InputError as error:
        return PreflightFinding(level="fault", about="inputs", text=str(error))
    return PreflightFinding(level="ok", about="inputs", text=str(files.train_sequences))


def check_test_inputs(root: Path, competition: str = "") -> PreflightFinding:
    """Whether test sequences and sample are mounted, have rows, and name the same targets with the same lengths."""
    try:
        files = find_competition(root, ("test_sequences", "sample_submission"), competition)
        assert files.test_sequences is not None and files.sample_submission is not None
        targets = read_targets(files.test_sequences)
        sample = read_sample(files.sample_submission)
        if not targets or not sample.ids:
            raise InputError(f"{files.test_sequences}: no test rows; an empty submission would score nothing")
        match_targets(targets, sample, files.test_sequences, files.sample_submission)
    except InputError as error:
        return PreflightFinding(level="fault", about="inputs", text=str(error))
    text = f"{files.test_sequences}: {len(targets)} targets, {len(sample.ids)} residues"
    return PreflightFinding(level="ok", about="inputs", text=text)


def run_preflight(
    kind: Literal["train", "predict"],
    gpu: str,
    root: Path,
    working: Path,
    *,
    competition: str = "",
    least_disk_gib: float = LEAST_FREE_DISK_GIB,
) -> Report:
    """Looks at everything.

    Args:
        kind: which kernel.
        gpu: a name in configs/gpu.
        root: where inputs are mounted.
        working: where output is to be written.
        competition: folder name of the competition, where several are mounted.
        least_disk_gib: free disk that the run needs.

    Raises:
        ConfigError: no such GPU config.
        InputError: no such working folder.
    """
    config = load_gpu(gpu)
    if not working.is_dir():
        raise InputError(f"{working}: no such folder to write to")
    check = check_training_inputs if kind == "train" else check_test_inputs
    findings = check_machine(probe_machine(working), gpu, config, least_disk_gib)
    computes = torch.cuda.is_available() and config.hardware.device_type == "cuda"
    if computes and all(finding.level != "fault" for finding in findings):
        findings += check_arithmetic(gpu, working)
    return Report(findings=[*findings, *check_packages(), check(root, competition)])


def check_arithmetic(gpu: str, cache: Path) -> list[PreflightFinding]:
    """The short selftest of a card: each precision against fp32, each attention kernel against plain arithmetic."""
    from rnafold.training.selftest import run_selftest

    levels: Final[dict[str, Literal["ok", "warning", "fault"]]] = {"failed": "fault", "skipped": "warning"}
    return [
        PreflightFinding(level=levels.get(check.status, "ok"), about=check.name, text=f"{check.name}: {check.detail}")
        for check in run_selftest(gpu, cache, short=True)
    ]
