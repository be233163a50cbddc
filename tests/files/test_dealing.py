"""Work dealt to processes: every result comes, a stop leaves the rest undealt, a fault is raised."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from rnafold.files.dealing import deal


def test_every_item_is_worked_on_once() -> None:
    with ThreadPoolExecutor(3) as pool:
        assert sorted(deal(pool, 3, lambda n: n * n, range(20))) == [n * n for n in range(20)]


@pytest.mark.parametrize(("allowed", "done"), [(0, 0), (1, 4), (3, 6)])
def test_what_was_begun_is_waited_for_and_no_more_is_begun(allowed: int, done: int) -> None:
    asked: list[int] = []

    def go_on() -> bool:
        asked.append(1)
        return len(asked) <= allowed

    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return number

    # two at a time: four go out at first, then one for each that comes back
    with ThreadPoolExecutor(1) as pool:
        found = list(deal(pool, 2, work, iter(range(50)), go_on))
    assert sorted(found) == begun == list(range(len(found)))
    assert done <= len(found) < 50


def test_what_work_raises_is_raised() -> None:
    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        list(deal(pool, 2, lambda n: 1 // n, [2, 1, 0, 5]))
