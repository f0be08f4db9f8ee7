"""Threads that read files, and wait for none of them for ever: a share of the network that has gone answers nobody."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")

_LOOKS_EVERY: Final = 0.5  # seconds


class NoAnswer(Exception):
    """Not a file but whatever holds the files does not answer."""


class Readers(Generic[Item, Found]):
    """`threads` that apply `read` to items, each for about `patience(item)` seconds at most."""

    def __init__(self, read: Callable[[Item], Found], patience: Callable[[Item], float], threads: int) -> None:
        self.read = read
        self.patience = patience
        self.waiting: deque[Item] = deque()
        self.answers: queue.SimpleQueue[tuple[Item, Found] | BaseException] = queue.SimpleQueue()
        self._threads = threads
        self._at_work: list[_Reader[Item, Found]] = []
        self._any_answer = False
        self._silent_in_a_row = 0

    def each(self, items: Sequence[Item]) -> Iterator[tuple[Item, Found | None]]:
        """What was found in each, in no order; None for one that took too long. To be used up before the next call.

        Raises: NoAnswer, where nothing was ever read, or twice as many in a row as there are threads took too long;
        whatever `read` raises.
        """
        self.waiting.extend(items)
        self._start(min(self._threads, len(items)))
        left, look_at = len(items), time.monotonic() + _LOOKS_EVERY
        while left:
            try:
                answer = self.answers.get(timeout=_LOOKS_EVERY)
            except queue.Empty:
                pass
            else:
                if isinstance(answer, BaseException):
                    raise answer
                self._any_answer, self._silent_in_a_row = True, 0
                left -= 1
                yield answer
            if time.monotonic() > look_at:
                for item in self._given_up():
                    left -= 1
                    yield item, None
                look_at = time.monotonic() + _LOOKS_EVERY
        if items and not self._any_answer:
            raise NoAnswer

    def close(self) -> None:
        """Begin with nothing more; what is being read at this moment is nobody's."""
        self.waiting.clear()

    def _given_up(self) -> list[Item]:
        """What took too long. Others take the place of its readers."""
        self._at_work = [reader for reader in self._at_work if reader.is_alive()]
        late = [reader for reader in self._at_work if reader.give_up_if_late()]
        self._silent_in_a_row += len(late)
        if self._silent_in_a_row >= 2 * self._threads:
            raise NoAnswer
        if late:
            self._at_work = [reader for reader in self._at_work if reader not in late]
            self.waiting.reverse()  # neighbours may be silent together: the new ones begin at the other end
            self._start(min(len(late), len(self.waiting)))
        return [item for reader in late for item in reader.reading]

    def _start(self, readers: int) -> None:
        for _ in range(readers):
            self._at_work.append(_Reader(self))
            self._at_work[-1].start()


class _Reader(threading.Thread, Generic[Item, Found]):
    """Reads what waits, until nothing does. Who was given up is not heard any more."""

    def __init__(self, readers: Readers[Item, Found]) -> None:
        # The system may hold it for ever: no end of the process waits for it.
        super().__init__(name="intake", daemon=True)
        self.reading: tuple[Item, ...] = ()  # one, or none
        self._readers = readers
        self._lock = threading.Lock()
        self._since = 0.0
        self._late: tuple[Item, ...] = ()
        self._given_up = False

    def run(self) -> None:
        while not self._given_up:
            try:
                item = self._readers.waiting.popleft()
            except IndexError:
                return
            with self._lock:
                self.reading, self._since = (item,), time.monotonic()
            answer: tuple[Item, Found] | BaseException
            try:
                answer = (item, self._readers.read(item))
            except BaseException as error:
                answer = error
            with self._lock:
                if not self._given_up:
                    self.reading = ()
                    self._readers.answers.put(answer)

    def give_up_if_late(self) -> bool:
        """At the second look at which it is: a process that was stopped for a while finds all of them late at once."""
        with self._lock:
            item, late = self.reading, self._late
            self._late = ()
            if not item or time.monotonic() - self._since < self._readers.patience(item[0]):
                return False
            self._late = item
            self._given_up = late == item
            return self._given_up
