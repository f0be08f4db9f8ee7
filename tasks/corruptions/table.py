"""The ladder as a table in Markdown: a row a kind, a column a strength. docs/corruptions.md holds exactly this."""

from __future__ import annotations

from tasks.corruptions.ladder import LADDER, STRENGTHS, Corruption


def ladder_table() -> str:
    """All of LADDER, in its order."""
    heads = ("kind", "the numbers are", *map(str, STRENGTHS), "source", "what it stands for")
    lines = [heads, ("---",) * len(heads), *(_row(one) for one in LADDER)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row(one: Corruption) -> tuple[str, ...]:
    strengths = (", ".join(f"{value:g}" for value in parameters) for parameters in one.parameters)
    return (f"`{one.name}`", one.meaning, *strengths, one.source, one.stands_for)
