"""How many rows of the pair track are worked on at once where no gradient is kept.

On a CPU so few that what they make stays in its cache. On a card a stated part of all rows, whatever the batch: it
would rather hold memory for a moment than launch thousands of small operations. The planner traces a card's steps on
tensors of a CPU, with a batch that stands for any, and says so by `chunk_as_on`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_TRACED: ContextVar[str | None] = ContextVar("traced_device", default=None)


@contextmanager
def chunk_as_on(device_type: str) -> Iterator[None]:
    """Inside, chunks are cut as on a device of another type than the tensors'."""
    token = _TRACED.set(device_type)
    try:
        yield
    finally:
        _TRACED.reset(token)


def is_traced() -> bool:
    """Whether work is only recorded, on a batch that stands for any."""
    return _TRACED.get() is not None


def works_on_cpu(like: Tensor) -> bool:
    """Whether what is done with a tensor is done, or traced as if done, on a CPU."""
    return (_TRACED.get() or like.device.type) == "cpu"


def is_plain_on_cpu(like: Tensor) -> bool:
    """Whether work on a tensor may be written for a CPU: float32, no autocast, and no compiler looks on."""
    return (
        works_on_cpu(like)
        and like.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def count_rows(like: Tensor, pairs: int, card_parts: int) -> int:
    """Rows of `like` (B, L, ..) worked on at once: `pairs` pairs on a CPU, one of `card_parts` parts of L on a card."""
    batch, length = like.shape[:2]
    if works_on_cpu(like):
        return max(1, pairs // (batch * length))
    return -(-length // card_parts)
