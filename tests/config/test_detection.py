"""`--gpu auto`: names, capabilities and memories as torch reports them, and the file that is chosen."""

import pytest

from rnafold.config.detection import match_gpu
from rnafold.config.hardware import BF16_CAPABILITY, load_gpus, parse_capability

CONFIGS = load_gpus()


@pytest.mark.parametrize(
    ("device_name", "capability", "memory_gib", "device_count", "expected"),
    [
        ("Tesla T4", (7, 5), 14.56, 1, "t4"),
        ("Tesla T4", (7, 5), 14.74, 2, "t4x2"),
        ("Tesla P100-PCIE-16GB", (6, 0), 15.89, 1, "p100"),
        ("Tesla V100-SXM2-32GB", (7, 0), 31.74, 1, "v100"),
        ("Tesla V100-SXM2-16GB", (7, 0), 15.77, 1, "v100-16gb"),
        ("Tesla K80", (3, 7), 11.17, 1, "k80"),
        ("NVIDIA L4", (8, 9), 22.03, 1, "l4"),
        ("NVIDIA GeForce RTX 3060", (8, 6), 11.65, 1, "rtx3060"),
        ("NVIDIA GeForce RTX 4090", (8, 9), 23.52, 1, "rtx4090"),
        ("NVIDIA A40", (8, 6), 44.34, 1, "a40"),
        ("NVIDIA A100-SXM4-40GB", (8, 0), 39.39, 1, "a100"),
        ("NVIDIA A100-SXM4-80GB", "8.0", 79.15, 1, "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", (8, 0), 79.25, 1, "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", (9, 0), 79.10, 1, "h100"),
        ("NVIDIA H200", (9, 0), 139.8, 1, "h200"),
    ],
)
def test_a_known_card_finds_its_file(
    device_name: str, capability: tuple[int, int] | str, memory_gib: float, device_count: int, expected: str
) -> None:
    match = match_gpu(device_name, capability, memory_gib, device_count, CONFIGS)
    assert (match.name, match.is_exact) == (expected, True)
    assert device_name in match.note
    assert match.note.endswith(f"using {expected}")


def test_without_cuda_the_choice_is_mps_or_cpu() -> None:
    for name in (None, "cpu"):
        assert match_gpu(name, None, None, 0, CONFIGS).name == "cpu"
    assert match_gpu("mps", None, None, 0, CONFIGS).name == "m1"
    assert match_gpu(None, None, None, 0, {"t4": CONFIGS["t4"]}).name is None


def test_cards_that_would_stay_idle_are_mentioned() -> None:
    match = match_gpu("Tesla T4", (7, 5), 14.56, 4, CONFIGS)
    assert match.name == "t4x2"
    assert match.note.endswith("using t4x2, which uses 2 of the 4 cards")
    assert match_gpu("NVIDIA A40", (8, 6), 44.3, 2, CONFIGS).note.endswith("using a40, which uses 1 of the 2 cards")


@pytest.mark.parametrize(
    ("device_name", "capability", "memory_gib", "expected"),
    [
        # Same abilities (8.0 and up), the largest memory that the card also has.
        ("NVIDIA GeForce RTX 3090", (8, 6), 23.57, "rtx4090"),
        ("NVIDIA L40S", (8, 9), 44.39, "a40"),
        ("NVIDIA B200", (10, 0), 178.4, "h200"),
        # Names that contain a known one: an A4000 is no A40, a laptop 4090 lacks the memory of the card.
        ("NVIDIA RTX A4000", (8, 6), 15.73, "rtx3060"),
        ("NVIDIA GTL4", (8, 9), 44.0, "a40"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", (8, 9), 15.70, "rtx3060"),
    ],
)
def test_an_unknown_card_gets_the_nearest_file_and_is_told(
    device_name: str, capability: tuple[int, int], memory_gib: float, expected: str
) -> None:
    match = match_gpu(device_name, capability, memory_gib, 1, CONFIGS)
    assert (match.name, match.is_exact) == (expected, False)
    assert f"{device_name} (capability {capability[0]}.{capability[1]}, {memory_gib:.1f} GiB)" in match.note
    assert "has no config of its own" in match.note
    assert "the nearest known card by capability and memory" in match.note


@pytest.mark.parametrize(
    ("device_name", "capability", "memory_gib", "expected"),
    [
        ("NVIDIA GeForce RTX 2080 Ti", (7, 5), 10.75, "t4"),
        ("NVIDIA GeForce GTX 1080", (6, 1), 7.92, "p100"),
        ("Tesla K20m", (3, 5), 4.63, "k80"),
    ],
)
def test_a_card_with_less_memory_than_any_file_is_told_to_lower_the_batch(
    device_name: str, capability: tuple[int, int], memory_gib: float, expected: str
) -> None:
    match = match_gpu(device_name, capability, memory_gib, 1, CONFIGS)
    assert (match.name, match.is_exact) == (expected, False)
    assert match.note.endswith("GiB: lower train.micro_batch")


@pytest.mark.parametrize("capability", [(3, 5), (5, 2), (6, 1), (7, 2), (7, 5), (8, 0), (8, 6), (9, 0), (12, 0)])
@pytest.mark.parametrize("memory_gib", [2.0, 8.0, 24.0, 80.0, 300.0, None])
def test_a_chosen_file_never_asks_for_what_the_card_lacks(
    capability: tuple[int, int], memory_gib: float | None
) -> None:
    match = match_gpu("Unheard-of 1", capability, memory_gib, 2, CONFIGS)
    assert match.name is not None
    chosen = CONFIGS[match.name]
    assert chosen.hardware.num_gpus == 1
    if capability < BF16_CAPABILITY:
        assert "bf16" not in chosen.hardware.kernels.precisions
        assert "flash" not in chosen.hardware.kernels.attention
    if capability < (7, 0):
        assert not chosen.hardware.kernels.compile
    if capability < (5, 0):
        assert chosen.hardware.kernels.attention == ("math",)
    if capability >= BF16_CAPABILITY:
        assert chosen.hardware.capability is not None
        assert parse_capability(chosen.hardware.capability) >= BF16_CAPABILITY


def test_without_any_cuda_file_nothing_is_guessed() -> None:
    match = match_gpu("Tesla T4", (7, 5), 14.56, 1, {"cpu": CONFIGS["cpu"]})
    assert (match.name, match.is_exact) == (None, False)
    assert match.note.endswith("no GPU config fits; name one with --gpu")
