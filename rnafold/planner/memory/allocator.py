"""The CUDA caching allocator in small: how much it reserves for a sequence of blocks made and freed.

Source: torch's CUDACachingAllocator defaults. Blocks are multiples of 512 bytes; up to 1 MiB they come from segments of
2 MiB, below 10 MiB from segments of 20 MiB, above from segments of their own size rounded up to 2 MiB; a free block is
taken by best fit, split if enough is left, and merged with free neighbours. Segments are kept.
"""

import bisect
from collections.abc import Sequence

BLOCK = 512
SMALL = 2**20
SMALL_SEGMENT = 2 * 2**20
LARGE_SEGMENT = 20 * 2**20
LARGE_LIMIT = 10 * 2**20


class CachingAllocator:
    """Blocks are rows (size, previous, next, pool, used) of lists; the free ones of a pool are sorted by size."""

    def __init__(self) -> None:
        self.reserved = 0
        self.size: list[int] = []
        self.before: list[int] = []
        self.after: list[int] = []
        self.pool: list[int] = []
        self.is_free: list[bool] = []
        self.free_blocks: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])

    def take(self, count: int) -> int:
        """A block of `count` bytes, a multiple of 512; returns its number."""
        pool = 0 if count <= SMALL else 1
        free = self.free_blocks[pool]
        place = bisect.bisect_left(free, (count, -1))
        if place < len(free):
            block = free.pop(place)[1]
            self.is_free[block] = False
        else:
            segment = SMALL_SEGMENT if pool == 0 else LARGE_SEGMENT
            if count >= LARGE_LIMIT:
                segment = -(-count // SMALL_SEGMENT) * SMALL_SEGMENT
            self.reserved += segment
            block = self._make(segment, -1, -1, pool)
        rest = self.size[block] - count
        if rest >= BLOCK if pool == 0 else rest > SMALL:
            remainder = self._make(rest, block, self.after[block], pool)
            if self.after[block] >= 0:
                self.before[self.after[block]] = remainder
            self.after[block], self.size[block] = remainder, count
            self._put(remainder)
        return block

    def give(self, block: int) -> None:
        """Frees a block and merges it with free neighbours of its segment."""
        following, previous = self.after[block], self.before[block]
        if following >= 0 and self.is_free[following]:
            self._remove(following)
            self.size[block] += self.size[following]
            self._link(block, self.after[following])
        if previous >= 0 and self.is_free[previous]:
            self._remove(previous)
            self.size[previous] += self.size[block]
            self._link(previous, self.after[block])
            block = previous
        self._put(block)

    def _make(self, size: int, before: int, after: int, pool: int) -> int:
        self.size.append(size)
        self.before.append(before)
        self.after.append(after)
        self.pool.append(pool)
        self.is_free.append(False)
        return len(self.size) - 1

    def _link(self, block: int, following: int) -> None:
        self.after[block] = following
        if following >= 0:
            self.before[following] = block

    def _put(self, block: int) -> None:
        self.is_free[block] = True
        bisect.insort(self.free_blocks[self.pool[block]], (self.size[block], block))

    def _remove(self, block: int) -> None:
        free = self.free_blocks[self.pool[block]]
        free.pop(bisect.bisect_left(free, (self.size[block], block)))
        self.is_free[block] = False


def reserve(events: Sequence[int], sizes: Sequence[int]) -> int:
    """Bytes reserved after events: s + 1 makes storage s of sizes[s] bytes, -(s + 1) frees it."""
    allocator = CachingAllocator()
    blocks: dict[int, int] = {}
    for event in events:
        storage = abs(event) - 1
        if event > 0:
            blocks[storage] = allocator.take(-(-max(sizes[storage], 1) // BLOCK) * BLOCK)
        elif storage in blocks:
            allocator.give(blocks.pop(storage))
    return allocator.reserved
