"""How far a long piece of work has come: told by whoever does it, shown where somebody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichBars

# Stage, done, total, and a note for a person.
Progress = Callable[[str, int, int, str], None]

_watchers: list[Progress] = []
_bars: list[RichBars] = []


def tell(stage: str, done: int, total: int, note: str = "") -> None:
    """Tell whoever watches this process; nobody is fine, too."""
    for watcher in _watchers:
        watcher(stage, done, total, note)


@contextmanager
def shown(console: Console) -> Iterator[None]:
    """A bar for each stage while inside; they vanish at the end. Where no person watches, nothing is written."""
    if not console.is_terminal or console.quiet:
        yield
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = ("   {task.description}", BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, TextColumn("{task.fields[note]}", style="dim"), console=console, transient=True) as bars:
        known = {}

        def show(stage: str, done: int, total: int, note: str) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage, total=total, note=note)
            bars.update(known[stage], completed=done, total=total, note=note)

        _watchers.append(show)
        _bars.append(bars)
        try:
            yield
        finally:
            _watchers.remove(show)
            _bars.remove(bars)


@contextmanager
def paused() -> Iterator[None]:
    """No bars while inside: somebody is being asked."""
    stopped = list(_bars)
    for bars in stopped:
        bars.stop()
    try:
        yield
    finally:
        for bars in stopped:
            bars.start()
