"""One decode pool a process, kept between two uses: shards follow each other, and a pool takes a second to start."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tasks.decode import Limits
from tasks.knobs import Preprocessing
from tasks.workers import DecodePool, Wanted

# Long enough for the next shard; short enough that whoever has called darkroom from a notebook sees no processes later.
LINGER_SECONDS: Final = 5.0

_Key = tuple[Preprocessing, Wanted, int | None, Limits]
_turn = threading.Lock()
_kept: tuple[_Key, DecodePool] | None = None
_end: threading.Timer | None = None


@contextmanager
def lent_pool(
    preprocessing: Preprocessing, wanted: Wanted, processes: int | None = None, limits: Limits | None = None
) -> Iterator[DecodePool]:
    """The pool of this process; who comes while it is lent waits, because it uses every core.

    Failed where workers do not start at all, as DecodePool does.
    """
    global _kept, _end
    limits = limits or Limits()
    key = (preprocessing, wanted, processes, limits)
    with _turn:
        if _end is not None:
            _end.cancel()
        if _kept is not None and _kept[0] != key:
            _close_kept()
        pool = DecodePool(preprocessing, wanted, processes, limits) if _kept is None else _kept[1]
        _kept = None
        try:
            yield pool
        except BaseException:
            pool.close()
            raise
        _kept = (key, pool)
        _end = threading.Timer(LINGER_SECONDS, _end_unless_lent)
        _end.daemon = True
        _end.start()


def _close_kept() -> None:
    """Only with the turn."""
    global _kept
    if _kept is not None:
        _kept[1].close()
        _kept = None


def _forget() -> None:
    """In a process that was forked: threads and workers of the pool are its parent's."""
    global _kept, _end, _turn
    _kept, _end, _turn = None, None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _end_unless_lent() -> None:
    if _turn.acquire(blocking=False):
        try:
            _close_kept()
        finally:
            _turn.release()
