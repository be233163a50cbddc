"""Work dealt to processes a few pieces at a time: a stop leaves the rest undealt, and nothing has to be taken back.

Work that was submitted all at once and is then cancelled is never reported as done to who waits for it.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def deal(
    pool: Executor,
    jobs: int,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    go_on: Callable[[], bool] = lambda: True,
) -> Iterator[Result]:
    """Results of `work` on each item as they come, whatever the order.

    Args:
        pool: of `jobs` processes.
        jobs: twice as many pieces are out at a time, so that no process waits for its next one.
        work: what the processes call.
        items: in the order in which they are to be started.
        go_on: whether another piece may be begun; those that were are always waited for.

    Raises:
        Exception: what `work` raised on an item; the others that were begun end by themselves.
    """
    waiting = iter(items)
    running = {pool.submit(work, item) for item in itertools.islice(waiting, 2 * jobs if go_on() else 0)}
    while running:
        over, running = wait(running, return_when=FIRST_COMPLETED)
        running |= {pool.submit(work, item) for item in itertools.islice(waiting, len(over) if go_on() else 0)}
        for future in over:
            yield future.result()
