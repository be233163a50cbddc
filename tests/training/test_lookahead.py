"""Items made ahead come in order, with what went wrong at its place, and nobody works on after a stop."""

import threading
import time
from collections.abc import Iterator

import pytest

from rnafold.training.lookahead import Lookahead


def count_threads() -> int:
    return sum(thread.name == "lookahead" for thread in threading.enumerate())


def wait_for_end() -> None:
    """Until no thread looks ahead, for ten seconds at most."""
    for _ in range(500):
        if not count_threads():
            return
        time.sleep(0.02)
    raise AssertionError("a thread looks ahead still")


def test_items_come_in_their_order_and_end() -> None:
    ahead = Lookahead(iter(range(20)), depth=3)
    assert list(ahead) == list(range(20))
    assert list(ahead) == []
    wait_for_end()


def test_some_are_made_before_they_are_asked_for_but_not_more_than_the_depth() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    ahead = Lookahead(make(), depth=2)
    for _ in range(500):
        if len(made) == 3:
            break
        time.sleep(0.02)
    time.sleep(0.05)
    assert made == [0, 1, 2]  # two wait in the queue, one at its door
    ahead.close()
    wait_for_end()


def test_an_error_is_raised_where_its_item_would_have_come() -> None:
    def make() -> Iterator[int]:
        yield 1
        raise ValueError("the second")

    ahead = Lookahead(make(), depth=4)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="the second"):
        next(ahead)
    assert list(ahead) == []
    wait_for_end()


def test_a_stop_ends_the_thread_while_its_queue_is_full() -> None:
    ahead = Lookahead(iter(range(1000)), depth=1)
    assert next(ahead) == 0
    ahead.close()
    wait_for_end()
    assert list(ahead) == []
