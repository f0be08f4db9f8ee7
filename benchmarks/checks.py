"""What the checks of a night cost: processor time in digests, properties, validation, drift and Parquet."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tasks import properties
from tasks.decode import Limits, decode
from tasks.knobs import Preprocessing
from tasks.worker_main import read_file


@dataclass
class Spent:
    """Seconds of a processor, by what they were spent on."""

    seconds: dict[str, float] = field(default_factory=dict)

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time kept: that of its own thread."""

        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.thread_time() - started

        return timed


@contextmanager
def watched() -> Iterator[Spent]:
    """Counts what is spent in this process on checks; what it wraps is put back."""
    import flows.looking as looking
    from flows import score, shards
    from flows.evaluation import RowEvidence
    from tasks import publish

    spent = Spent()
    places: list[tuple[Any, str, str]] = [
        (looking, "_doubted", "validation"),
        (shards, "stage_part", "Parquet"),
        (score, "evaluate", "validation"),
        (publish, "commit", "Parquet"),
        (publish, "settle", "Parquet"),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    plain = RowEvidence.__dict__["from_rows"]
    try:
        for owner, name, what in places:
            setattr(owner, name, spent.wrap(what, getattr(owner, name)))
        RowEvidence.from_rows = staticmethod(spent.wrap("drift", RowEvidence.from_rows))  # type: ignore[assignment]
        yield spent
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)
        RowEvidence.from_rows = plain


def in_workers(files: Sequence[Path], preprocessing: Preprocessing) -> dict[str, float]:
    """Seconds an image that go into digests, those of the intake among them, and properties."""
    data = [read_file(str(file), 10**9) for file in files]
    decoded = [decode(one, preprocessing.decode, Limits()) for one in data]

    def each(what: Callable[[int], object]) -> float:
        started = time.process_time()
        for number in range(len(files)):
            what(number)
        return (time.process_time() - started) / len(files)

    return {
        "digests": 2 * each(lambda number: hashlib.sha256(data[number]).hexdigest()),
        "properties": each(lambda number: properties.measure(decoded[number].header, decoded[number].raster)),
    }


def processor_seconds() -> float:
    """Of this process and of those below it, dead and alive."""
    me = psutil.Process()
    own = me.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in me.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return float(total)
