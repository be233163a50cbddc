"""What a launcher (accelerate, torchrun) tells each of its processes through the environment; alone without one."""

import os
from collections.abc import Mapping, Sequence

from rnafold.config.hardware import load_gpu


def is_first_rank(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the one that writes for all."""
    return environment.get("RANK", "0") == "0"


def count_launched(environment: Mapping[str, str] = os.environ) -> int:
    """Processes that were launched together."""
    count = environment.get("WORLD_SIZE", "1")
    return int(count) if count.isdecimal() and int(count) else 1


def name_launched(gpu: str, overrides: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """The overrides with the number of cards that training will really use, unless it is named or the file's own.

    A process a card is launched: of two processes on a CPU, or of one on a machine of two cards, the batch follows.
    """
    count = count_launched(environment)
    named = any(text.partition("=")[0].strip() == "hardware.num_gpus" for text in overrides)
    if named or count == load_gpu(gpu).hardware.num_gpus:
        return list(overrides)
    return [f"hardware.num_gpus={count}", *overrides]
