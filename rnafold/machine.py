"""The machine at hand: which GPU config fits it, whether the card really computes, and how memory is measured."""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from rnafold.config.detection import match_gpu
from rnafold.config.hardware import HardwareConfig, load_gpu, load_gpus
from rnafold.config.machine_use import AttentionKernel
from rnafold.errors import ConfigError, InputError

GIB = 2**30
# Names of glibc's mallopt; the largest block that it takes from its heap, above which it maps, and how much it keeps.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_KEPT_BYTES, MOST_KEPT_BYTES = 2**25, 2**30
# oneDNN keeps the code and the work space of so many products, one for each shape. Its own 1,024 took 0.8 GiB in a
# training of many lengths, for 2 % of its time.
PRODUCTS_VARIABLE, PRODUCTS_KEPT = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", 32
KERNELS = {
    "math": [SDPBackend.MATH],
    "memory_efficient": [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
}


def describe_machine() -> tuple[str | None, tuple[int, int] | None, float | None, int]:
    """Device name, capability, memory in GiB of one card and number of cards, as torch sees them."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        capability = (properties.major, properties.minor)
        return properties.name, capability, properties.total_memory / GIB, torch.cuda.device_count()
    if torch.backends.mps.is_available():
        return "mps", None, None, 1
    return None, None, None, 0


def resolve_gpu(name: str) -> tuple[str, str]:
    """The GPU config for `--gpu NAME` and a note for the user; `auto` takes the one that fits the machine.

    Raises:
        ConfigError: the named device is not here; the message says what is and what to use.
    """
    configs = load_gpus()
    found = match_gpu(*describe_machine(), configs)
    if name == "auto":
        if found.name is None:
            raise ConfigError(f"--gpu auto: {found.note}")
        return found.name, found.note
    hardware = load_gpu(name).hardware
    here = describe_machine()
    if hardware.device_type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--gpu {name}: no CUDA device here (torch {torch.__version__}); use --gpu {found.name}")
    if hardware.device_type == "mps" and here[0] != "mps":
        raise ConfigError(f"--gpu {name}: no Apple GPU here; use --gpu {found.name}")
    if hardware.device_type == "cuda" and found.name != name:
        matches = any(p.lower() in (here[0] or "").lower() for p in hardware.device_name_patterns)
        if not matches:
            raise ConfigError(f"--gpu {name}: this machine has {here[3]} x {here[0]}; use --gpu {found.name}")
    if hardware.num_gpus > max(here[3], 1):
        raise ConfigError(f"--gpu {name}: needs {hardware.num_gpus} cards, found {here[3]}; use --gpu {found.name}")
    return name, ""


def check_device(hardware: HardwareConfig) -> None:
    """Runs one real operation on the device: `is_available()` stays True where torch has no kernels for the card.

    Raises:
        InputError: the operation fails.
    """
    if hardware.device_type == "cpu":
        return
    try:
        value = float(
            (torch.ones(64, 64, device=hardware.device_type) @ torch.ones(64, 64, device=hardware.device_type)).sum()
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{hardware.name}: the first operation on the device failed ({reason}); torch {torch.__version__} was "
            f"built for {' '.join(torch.cuda.get_arch_list()) or 'the CPU alone'}"
        ) from None
    if value != 64.0**3:
        raise InputError(f"{hardware.name}: a 64 x 64 product of ones summed to {value}, expected {64.0**3}")


@contextmanager
def attention_kernels(kernel: AttentionKernel, device_type: str) -> Iterator[None]:
    """Restricts scaled_dot_product_attention on CUDA to the configured kernel and what it falls back to."""
    if device_type != "cuda":
        yield
        return
    with sdpa_kernel(KERNELS[kernel]):
        yield


def keep_freed_memory() -> None:
    """Tells the C library to keep what a step frees, instead of fetching it zeroed from the system at the next one.

    A network's tensors are of megabytes, which glibc maps and unmaps one by one: half of the time of a long batch went
    there. Of the process, for as long as it lives; without effect where the C library is another. Also bounds what
    oneDNN keeps, before its first product.
    """
    os.environ.setdefault(PRODUCTS_VARIABLE, str(PRODUCTS_KEPT))
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, MOST_KEPT_BYTES)


def peak_memory_gib(device_type: str) -> float:
    """Highest memory so far: of the allocator on CUDA, of the process elsewhere."""
    if device_type == "cuda":
        return float(torch.cuda.max_memory_reserved() / GIB)
    # ru_maxrss is in KiB on Linux and in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (GIB if sys.platform == "darwin" else 2**20)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is an allocation that failed, on the GPU or the CPU."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
