"""A night, or a few predictions, in the terminal. No character of a file's name reaches it as a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import pandas as pd

from darkroom.reasons import NightVerdict, Verdict
from darkroom.summary import NightSummary, Severity
from tasks.report import view
from tasks.report.untrusted import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_STYLES: Final[Mapping[str, str]] = {
    NightVerdict.OK: "green",
    NightVerdict.WARN: "yellow",
    NightVerdict.ALARM: "red",
    NightVerdict.EMPTY: "dim",
    Severity.CRITICAL: "red",
    Severity.WARNING: "yellow",
    Severity.INFO: "dim",
    Verdict.TRUSTED: "green",
    Verdict.SUSPECT: "yellow",
    Verdict.QUARANTINED: "red",
}
_MOST_FINDINGS: Final = 10


def print_night(console: Console, summary: NightSummary, *, places: Mapping[str, object] | None = None) -> None:
    """The verdict, the sentence, the accounts, the findings, and where the files are.

    `places` names files and folders worth knowing (`results`, `bundle`, …) beside the page, which the summary knows.
    """
    counts = summary.counts
    console.print()
    console.print(
        _text(f" {summary.verdict.upper()} ", f"bold reverse {_STYLES[summary.verdict]}"),
        _text(f"night of {summary.night}, bundle {summary.bundle_id}", "dim"),
    )
    console.print(_text(summary.headline, "bold"))
    console.print()
    rows: list[tuple[RenderableType, ...]] = []
    for account in view.accounting(counts):
        told = f"{summary.trusted:,} trusted, {summary.suspect:,} suspect" if account.status == "scored" else ""
        if account.status == "quarantined" and summary.quarantine_reasons:
            commonest = sorted(summary.quarantine_reasons.items(), key=lambda item: (-item[1], item[0]))
            told = view.named([f"{count:,} × {view.quarantine_sentence(reason)}" for reason, count in commonest])
        rows.append((_text(account.status), _text(f"{account.count:,}"), _text(told, "dim")))
    balance = _text("every path is accounted for", "dim")
    if not counts.balanced:
        balance = _text(view.sum_sentence(counts), "bold red")
    rows.append((_text("seen", "bold"), _text(f"{counts.seen:,}", "bold"), balance))
    _print_table(console, rows, right=1)
    if summary.findings:
        console.print()
        _print_table(
            console,
            [
                (
                    _text(finding.severity, _STYLES[finding.severity]),
                    _text(finding.what) + _text(f"  {finding.evidence}" if finding.evidence else "", "dim"),
                )
                for finding in summary.findings[:_MOST_FINDINGS]
            ],
        )
        if len(summary.findings) > _MOST_FINDINGS:
            console.print(_text(f"  and {len(summary.findings) - _MOST_FINDINGS:,} more, on the page"))
    told_places: dict[str, object] = {} if summary.report is None else {"page": summary.report}
    told_places |= places or {}
    if told_places:
        console.print()
    widest = max((len(name) for name in told_places), default=0)
    for name, place in told_places.items():
        # Never wrapped by us: a path that is cut cannot be copied.
        console.print(_text(f"  {name:<{widest}}  ", "dim") + _text(place, longest=4096), soft_wrap=True)


def print_predictions(console: Console, rows: pd.DataFrame) -> None:
    """One line a file, with the columns of `darkroom.predict`: what it is, how sure, whether to trust it, and why."""
    lines: list[tuple[RenderableType, ...]] = []
    for row in rows.to_dict("records"):
        verdict = str(row["verdict"])
        if verdict == Verdict.QUARANTINED:
            said = ""
            why = "; ".join(view.quarantine_sentence(str(reason)) for reason in view.as_list(row.get("reasons")))
        else:
            said = f"{row['predicted_class']} {view.share(view.as_float(row.get('confidence')))}"
            why = "; ".join(view.reason_sentences(row))
        style = _STYLES.get(verdict, "")
        lines.append((_text(row["path"]), _text(said, "bold"), _text(verdict, style), _text(why, "dim")))
    _print_table(console, lines)


def _print_table(console: Console, rows: list[tuple[RenderableType, ...]], right: int | None = None) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for position in range(max((len(row) for row in rows), default=0)):
        table.add_column(justify="right" if position == right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    from rich.padding import Padding

    console.print(Padding(table, (0, 0, 0, 2)))


def _text(text: object, style: str = "", longest: int = 600) -> Text:
    """Text, never markup: brackets and emoji names in a file's name stay what they are."""
    from rich.text import Text

    return Text(visible(text, longest), style=style)
