"""A night in Prefect's interface: short Markdown with one chart and a few pictures inside it."""

from __future__ import annotations

from typing import Final

from darkroom.summary import Finding
from tasks.report import view
from tasks.report.charts import night_chart
from tasks.report.drift_lines import drift_lines, drift_sentence
from tasks.report.night_page import NightPage
from tasks.report.thumbnails import Frame, contact_sheets, data_uri
from tasks.report.untrusted import in_markdown

_PICTURES: Final = 6
_ROOM_FOR_PICTURES: Final = 150_000  # characters of data: URIs; the server keeps every artifact in its database
_MOST_FINDINGS: Final = 8
_NIGHTS: Final = 7
_LONGEST: Final = 600  # characters of one sentence


def night_artifact(page: NightPage) -> str:
    """The Markdown of an artifact: verdict, sentence, accounts, findings, a chart (PNG), at most six thumbnails.

    Names and details are escaped: Prefect's interface renders raw HTML inside Markdown.
    """
    summary = page.summary
    lines = drift_lines(page.drift)
    parts = [
        f"## {summary.verdict.upper()}: {view.VERDICT_WORDS[summary.verdict]}",
        f"**{in_markdown(summary.headline)}**",
        _cause(page),
        f"Night of {summary.night}, bundle {in_markdown(summary.bundle_id)}. {summary.trusted:,} trusted, "
        f"{summary.suspect:,} suspect.",
        _accounts(page),
        in_markdown(page.estimate.sentence, _LONGEST) if page.estimate is not None else "",
        in_markdown(view.label_sentence(page.labelled, summary)) if page.labelled is not None else "",
        _findings(summary.findings) or view.no_finding_sentence(summary),
    ]
    classes, _ = view.class_shares(page, 8)
    if classes or lines:
        told = in_markdown(f"Predicted classes beside training, and the largest shifts. {drift_sentence(lines)}")
        parts += [
            f"![{told}]({data_uri('image/png', night_chart(classes, lines))})",
            in_markdown(drift_sentence(lines)),
        ]
    parts += [_pictures(page), _recent(page)]
    if summary.report is not None:
        parts.append(f"The whole night: {in_markdown(summary.report, 1000)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _cause(page: NightPage) -> str:
    """The likeliest cause, and what to do about it."""
    if not page.summary.causes:
        return ""
    first = page.summary.causes[0]
    told = f"{in_markdown(first.cause)}, {first.grade}: {in_markdown(first.sentence, _LONGEST)}"
    return f"{told} What to do: {in_markdown(first.todo, _LONGEST)}" if first.todo else told


def _recent(page: NightPage) -> str:
    """The nights before, the newest first."""
    nights = page.recent[:_NIGHTS]
    if not nights:
        return ""
    rows = [
        f"| {one.night} | {in_markdown(one.verdict)} | {one.scored:,} | {one.suspect:,} | {one.quarantined:,} |"
        for one in nights
    ]
    head = ["| night | verdict | images | suspect | set aside |", "| --- | --- | ---: | ---: | ---: |"]
    return "\n".join(["Nights before:", "", *head, *rows])


def _accounts(page: NightPage) -> str:
    accounts = view.accounting(page.summary.counts)
    rows = ["| " + " | ".join([*(account.status for account in accounts), "**seen**"]) + " |"]
    rows.append("|" + " ---: |" * (len(accounts) + 1))
    counts = [f"{account.count:,}" for account in accounts]
    rows.append("| " + " | ".join([*counts, f"**{page.summary.counts.seen:,}**"]) + " |")
    balance = "" if page.summary.counts.balanced else f"\n\n**{in_markdown(view.sum_sentence(page.summary.counts))}**"
    return "\n".join(rows) + balance


def _findings(findings: tuple[Finding, ...]) -> str:
    told = [_finding(finding) for finding in findings[:_MOST_FINDINGS]]
    if len(findings) > _MOST_FINDINGS:
        told.append(f"- and {len(findings) - _MOST_FINDINGS:,} more")
    return "\n".join(told)


def _finding(finding: Finding) -> str:
    evidence = f" ({in_markdown(finding.evidence)})" if finding.evidence else ""
    return f"- **{finding.severity}** {in_markdown(finding.what)}{evidence}"


def _pictures(page: NightPage) -> str:
    """The most suspect images as a table, because a table keeps each picture beside its reason."""
    sheet = contact_sheets(page, room=_ROOM_FOR_PICTURES, suspect=_PICTURES, typical=0, quarantined=0).suspect
    shown = [_picture_row(one) for one in sheet if one.picture is not None]
    if not shown:
        return ""
    return "\n".join(
        ["Most suspect:", "", "| picture | image | predicted | why |", "| --- | --- | --- | --- |", *shown]
    )


def _picture_row(one: Frame) -> str:
    said = f"{in_markdown(one.predicted)} {view.share(one.confidence)}"
    why = in_markdown("; ".join(one.lines))
    return f"| ![{in_markdown(one.alt)}]({one.picture}) | {in_markdown(one.path)} | {said} | {why} |"
