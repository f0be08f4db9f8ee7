"""How far a long piece of work has come: told by whoever does it, shown where somebody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

# Stage, done, total, and a note for a person.
Progress = Callable[[str, int, int, str], None]

_STARTING = " starting"

_watchers: list[Progress] = []
_listeners: list[Callable[[str], None]] = []
_shown: list[Live] = []


def tell(stage: str, done: int, total: int, note: str = "") -> None:
    """Tell whoever watches this process; nobody is fine, too."""
    for watcher in _watchers:
        watcher(stage, done, total, note)


def now(what: str) -> None:
    """Tell what is being done where nobody can say how long it takes."""
    for listener in _listeners:
        listener(what)


@contextmanager
def shown(console: Console) -> Iterator[None]:
    """A bar for each stage while inside, and a line that says what is being done; all of it vanishes at the end.

    Where no person watches, nothing is written.
    """
    if not console.is_terminal or console.quiet:
        yield
        return
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars
    from rich.spinner import Spinner

    columns = ("   {task.description}", BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
    bars = Bars(*columns, TextColumn("{task.fields[note]}", style="dim"), console=console)
    line = Spinner("dots", text=_STARTING, style="dim")
    known: dict[str, Any] = {}
    live = Live(Group(bars, line), console=console, transient=True, refresh_per_second=8)

    def show(stage: str, done: int, total: int, note: str) -> None:
        if stage not in known:
            known[stage] = bars.add_task(stage, total=total, note=note)
            if line.text == _STARTING:
                line.update(text=f" {stage}")
        bars.update(known[stage], completed=done, total=total, note=note)

    def say(what: str) -> None:
        line.update(text=f" {what}")

    with live:
        _watchers.append(show)
        _listeners.append(say)
        _shown.append(live)
        try:
            yield
        finally:
            _watchers.remove(show)
            _listeners.remove(say)
            _shown.remove(live)


@contextmanager
def paused() -> Iterator[None]:
    """No bars while inside: somebody is being asked."""
    stopped = list(_shown)
    for one in stopped:
        one.stop()
    try:
        yield
    finally:
        for one in stopped:
            one.start()
