"""Files read by threads of which none is waited for without an end. No healthy item here has a limit of time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tasks.readers import NoAnswer, Readers


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set at the end: until then nothing comes of what is silent."""
    event = threading.Event()
    yield event
    event.set()


def made(silent: set[int], over: threading.Event, threads: int) -> Readers[int, int]:
    def read(item: int) -> int:
        if item in silent:
            over.wait(60)
        return 2 * item

    def patience(item: int) -> float:
        return 0.01 if item in silent else math.inf

    return Readers(read, patience, threads)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize(
    ("items", "silent"),
    [
        pytest.param(0, set(), id="nothing to read"),
        pytest.param(1, set(), id="one"),
        pytest.param(300, set(), id="many"),
        pytest.param(300, {0}, id="the first is silent"),
        pytest.param(300, {299}, id="the last is silent"),
        pytest.param(300, {17, 150, 250}, id="some are silent"),
    ],
)
def test_each_item_is_told_once_and_a_silent_one_without_anything(
    over: threading.Event, threads: int, items: int, silent: set[int]
) -> None:
    with closing(made(silent, over, threads)) as readers:
        found = sorted(readers.each(range(items)), key=lambda one: one[0])
    assert found == [(item, None if item in silent else 2 * item) for item in range(items)]


@pytest.mark.parametrize("threads", [2, 8])
def test_silent_neighbours_do_not_stand_for_all(over: threading.Event, threads: int) -> None:
    silent = set(range(100, 100 + threads))
    with closing(made(silent, over, threads)) as readers:
        found = dict(readers.each(range(300)))
    assert {item for item, answer in found.items() if answer is None} == silent
    assert len(found) == 300


@pytest.mark.parametrize(("items", "threads"), [(1, 8), (5, 8), (30, 8), (300, 2)], ids=str)
def test_where_nothing_answers_that_is_said_before_all_were_waited_for(
    over: threading.Event, items: int, threads: int
) -> None:
    readers = made(set(range(items)), over, threads)
    told = []
    with pytest.raises(NoAnswer), closing(readers):
        told.extend(readers.each(range(items)))
    assert len(told) <= 2 * threads


def test_what_answered_in_an_earlier_part_does_not_hide_that_nothing_does_any_more(over: threading.Event) -> None:
    with closing(made(set(range(100, 200)), over, 2)) as readers:
        assert len(list(readers.each(range(100)))) == 100
        with pytest.raises(NoAnswer):
            list(readers.each(range(100, 200)))


def test_what_fails_reaches_the_caller_and_nothing_more_is_begun(over: threading.Event) -> None:
    begun = []

    def read(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise MemoryError
        time.sleep(0.01)
        return item

    with pytest.raises(MemoryError), closing(Readers(read, lambda _: math.inf, 1)) as readers:
        list(readers.each(range(1000)))
    time.sleep(0.1)
    assert len(begun) < 20


def test_who_was_given_up_is_not_heard_any_more(over: threading.Event) -> None:
    woken = threading.Event()

    def read(item: int) -> int:
        if item == 0:
            over.wait(60)
            woken.set()
            raise OSError("a close that fails late")
        return item

    with closing(Readers(read, lambda item: 0.01 if item == 0 else math.inf, 2)) as readers:
        assert dict(readers.each(range(40)))[0] is None
        over.set()
        assert woken.wait(20)
        assert dict(readers.each(range(1, 40))) == {item: item for item in range(1, 40)}


def test_all_threads_read_at_the_same_time() -> None:
    met = threading.Barrier(4, timeout=20)

    def read(item: int) -> int:
        met.wait()
        return item

    with closing(Readers(read, lambda _: math.inf, 4)) as readers:
        assert len(list(readers.each(range(8)))) == 8


def test_a_caller_who_takes_its_time_makes_nobody_late() -> None:
    with closing(Readers(_doubled, lambda _: 0.2, 2)) as readers:
        found = []
        for item, answer in readers.each(range(6)):
            time.sleep(0.3)
            found.append((item, answer))
    assert sorted(found) == [(item, 2 * item) for item in range(6)]


def _doubled(item: int) -> int:
    return 2 * item
