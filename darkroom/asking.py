"""A question to whoever sits at the terminal; where nobody does, the default is the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Question, choices, the default's place → the place of the answer.
Ask = Callable[[str, Sequence[str], int], int]

_people: list[Ask] = []


def ask(question: str, choices: Sequence[str], default: int) -> int:
    """The place of the chosen one; `default` where nobody can be asked."""
    return _people[-1](question, choices, default) if _people else default


@contextmanager
def person(console: Console) -> Iterator[None]:
    """Questions go to the terminal while inside; in a pipe, a service or a test they have their default."""
    import sys

    if not (console.is_terminal and sys.stdin.isatty()) or console.quiet:
        yield
        return
    from rich.prompt import IntPrompt
    from rich.text import Text

    from darkroom.progress import paused
    from tasks.report.untrusted import visible

    def put(question: str, choices: Sequence[str], default: int) -> int:
        numbers = [str(number) for number in range(1, len(choices) + 1)]
        with paused():
            console.print(Text(visible(question, longest=4096), style="bold"))
            for number, choice in zip(numbers, choices, strict=True):
                console.print(Text(f"  {number}  {visible(choice, longest=4096)}"))
            return IntPrompt.ask("Which", console=console, choices=numbers, default=default + 1) - 1

    _people.append(put)
    try:
        yield
    finally:
        _people.remove(put)
