"""How many rows of the pair track are worked on at once where no gradient is kept.

On a CPU so few that what they make stays in its cache. On a card a stated part of all rows, whatever the batch: it
would rather hold memory for a moment than launch thousands of small operations. The planner traces a card's steps on
tensors of a CPU, with a batch that stands for any, and says so by `chunk_as_on`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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


def count_rows(like: Tensor, pairs: int, card_parts: int) -> int:
    """Rows of `like` (B, L, ..) worked on at once: `pairs` pairs on a CPU, one of `card_parts` parts of L on a card."""
    batch, length = like.shape[:2]
    if (_TRACED.get() or like.device.type) == "cpu":
        return max(1, pairs // (batch * length))
    return -(-length // card_parts)
