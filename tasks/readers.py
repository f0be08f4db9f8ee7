"""Threads that read files, and wait for none of them for ever: a share of the network that has gone answers nobody."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")

_FILES_A_TURN: Final = 32
_LOOKS_EVERY: Final = 0.5  # seconds


class NoAnswer(Exception):
    """One after another, as many as there are threads: whatever holds the files does not answer."""


class _Reader(threading.Thread, Generic[Item, Found]):
    """Takes turn after turn; whoever gives it up has what it found until then, and hears nothing more of it."""

    def __init__(self, readers: Readers[Item, Found]) -> None:
        # The system may hold it for ever: no end of the process waits for it.
        super().__init__(name="intake", daemon=True)
        self._readers = readers
        self._lock = threading.Lock()
        self._given_up = False
        self._turn: Sequence[Item] = ()
        self._found: list[tuple[Item, Found | None]] = []
        self._since = 0.0

    def run(self) -> None:
        while (turn := self._readers.turns.get()) is not None:
            with self._lock:
                self._turn, self._found, self._since = turn, [], time.monotonic()
            for item in turn:
                try:
                    found = self._readers.read(item)
                except BaseException as error:
                    self._readers.answers.put(error)
                    return
                with self._lock:
                    if self._given_up:
                        return
                    self._found.append((item, found))
                    self._since = time.monotonic()
            with self._lock:
                all_found, self._turn, self._found = self._found, (), []
            self._readers.answers.put(all_found)

    def late(self) -> tuple[list[tuple[Item, Found | None]], Sequence[Item]] | None:
        """Give it up, if its file takes too long: what it found, that file without anything, and what it left."""
        with self._lock:
            done = len(self._found)
            if self._given_up or done == len(self._turn):
                return None
            item = self._turn[done]
            if time.monotonic() - self._since < self._readers.patience(item):
                return None
            self._given_up = True
            return [*self._found, (item, None)], self._turn[done + 1 :]


class Readers(Generic[Item, Found]):
    """`threads` that apply `read` to items, each for at most `patience(item)` seconds."""

    def __init__(self, read: Callable[[Item], Found], patience: Callable[[Item], float], threads: int) -> None:
        self.read = read
        self.patience = patience
        self.turns: queue.SimpleQueue[Sequence[Item] | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[list[tuple[Item, Found | None]] | BaseException] = queue.SimpleQueue()
        self._readers: list[_Reader[Item, Found]] = []
        self._threads = threads

    def each(self, items: Sequence[Item]) -> Iterator[tuple[Item, Found | None]]:
        """What was found in each, in no order; None for one that took too long.

        Raises: NoAnswer, when as many as there are threads took too long, and none of the others came in between;
        whatever `read` raises.
        """
        left = 0
        for start in range(0, len(items), _FILES_A_TURN):
            self.turns.put(items[start : start + _FILES_A_TURN])
            left += 1
        while len(self._readers) < min(self._threads, left):
            self._start()
        silent = 0
        while left:
            try:
                answer = self.answers.get(timeout=_LOOKS_EVERY)
            except queue.Empty:
                for reader in list(self._readers):
                    if (late := reader.late()) is None:
                        continue
                    found, rest = late
                    silent = silent + 1 if len(found) == 1 else 1
                    self._readers.remove(reader)
                    yield from found
                    if silent >= self._threads:
                        raise NoAnswer from None
                    if rest:
                        self.turns.put(rest)
                    else:
                        left -= 1
                    self._start()
                continue
            if isinstance(answer, BaseException):
                raise answer
            silent = 0
            left -= 1
            yield from answer

    def close(self) -> None:
        """Take no more turns."""
        while not self.turns.empty():
            self.turns.get()
        for _ in self._readers:
            self.turns.put(None)

    def _start(self) -> None:
        reader = _Reader(self)
        self._readers.append(reader)
        reader.start()
