"""Items of an iterator made ahead in a thread, so that whoever takes them need not wait for each."""

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
# How often a full queue is looked at again for a stop, in seconds.
PATIENCE_SECONDS = 0.2


class Lookahead(Iterator[Item], Generic[Item]):
    """An iterator's items in their order, up to `depth` of them ready; what it raises is raised at its place.

    The thread ends with the last item, an error, `close`, or the process, which does not wait for it.
    """

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        # each with the error in its place, if any; (None, None) after the last
        self._ready: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
        self._closed = threading.Event()
        self._ended = False
        threading.Thread(target=self._work, args=(items,), daemon=True, name="lookahead").start()

    def __next__(self) -> Item:
        if self._ended:
            raise StopIteration
        item, error = self._ready.get()
        self._ended = item is None
        if error is not None:
            raise error
        if item is None:
            raise StopIteration
        return item

    def close(self) -> None:
        """Lets the thread end after the item at hand."""
        self._closed.set()
        self._ended = True

    def _work(self, items: Iterator[Item]) -> None:
        try:
            for item in items:
                if not self._put(item, None):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again where the item would have come
            self._put(None, error)
        else:
            self._put(None, None)

    def _put(self, item: Item | None, error: BaseException | None) -> bool:
        """Whether the item found its place before a stop."""
        while not self._closed.is_set():
            try:
                self._ready.put((item, error), timeout=PATIENCE_SECONDS)
                return True
            except queue.Full:
                continue
        return False
