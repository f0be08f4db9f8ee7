"""A night in Prefect's interface: short Markdown with two charts and a contact sheet inside it.

Both of Prefect's interfaces were looked at: in the old one a table does not wrap, in the new one a picture in a cell is
a stamp. So sentences stand in lists, tables are narrow, and pictures stand by themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import unquote

from darkroom.pages import address_of
from darkroom.reasons import NightCause
from darkroom.summary import Finding
from tasks.report import view
from tasks.report.charts import night_chart
from tasks.report.drift_lines import drift_lines, drift_sentence
from tasks.report.night_page import NightPage
from tasks.report.nights_chart import nights_chart, nights_in_words
from tasks.report.past import PastNight
from tasks.report.sheet import sheet
from tasks.report.thumbnails import Frame, contact_sheets, data_uri
from tasks.report.untrusted import in_markdown

_PICTURES: Final = 6
_MOST_FINDINGS: Final = 8
_MOST_CAUSES: Final = 3
_NIGHTS: Final = 7
_LONGEST: Final = 600  # characters of one sentence


def night_artifact(page: NightPage) -> str:
    """The Markdown of an artifact: verdict, sentence, causes, accounts, findings, two charts (PNG), six pictures.

    Names and details are escaped: Prefect's interface renders raw HTML inside Markdown.
    """
    summary = page.summary
    lines = drift_lines(page.drift)
    parts = [
        f"## {summary.verdict.upper()}: {view.VERDICT_WORDS[summary.verdict]}",
        f"**{in_markdown(summary.headline, _LONGEST)}**",
        *_causes(page),
        links(page),
        _accounts(page),
        in_markdown(page.estimate.sentence, _LONGEST) if page.estimate is not None else "",
        in_markdown(view.label_sentence(page.labelled, summary)) if page.labelled is not None else "",
        _findings(summary.findings) or view.no_finding_sentence(summary),
    ]
    classes, _ = view.class_shares(page, 8)
    if summary.classes or lines:
        told = in_markdown(f"Predicted classes beside training, and the largest shifts. {drift_sentence(lines)}")
        parts += [
            f"![{told}]({data_uri('image/png', night_chart(classes, lines))})",
            in_markdown(drift_sentence(lines)),
        ]
    parts += [_pictures(page), *_recent(page), _provenance(page)]
    return "\n\n".join(part for part in parts if part) + "\n"


def night_told(page: NightPage) -> str:
    """The night, its verdict and its sentence."""
    return f"{page.summary.night} {page.summary.verdict}: {page.summary.headline}"


def links(page: NightPage) -> str:
    """To the page of the night and to that over all nights; where nobody serves them, the path."""
    report = page.summary.report
    if report is None:
        return ""
    address = address_of(report)
    if address is None:
        return f"The whole night: {in_markdown(report, 1000)}"
    every = address_of(_reports(report) / "index.html")
    return f"[The page of this night]({address})" + (f" · [all nights]({every})" if every else "")


def _causes(page: NightPage) -> list[str]:
    """The likeliest cause and what to do about it; then the others by name."""
    if not page.summary.causes:
        return []
    first, *others = page.summary.causes[:_MOST_CAUSES]
    if first.cause is NightCause.NOTHING:
        return [in_markdown(first.sentence, _LONGEST)]
    told = [f"**Cause, {first.grade}: {in_markdown(first.cause)}.** {in_markdown(first.sentence, _LONGEST)}"]
    if first.todo:
        told.append(f"**What to do:** {in_markdown(first.todo, _LONGEST)}")
    also = (f"- Also {one.grade}: {in_markdown(one.cause)}. {in_markdown(one.sentence, _LONGEST)}" for one in others)
    return [*told, "\n".join(also)]


def _recent(page: NightPage) -> list[str]:
    """The last nights as a chart, the oldest first; those before as a table, the newest first."""
    before = page.recent[:_NIGHTS]
    if not before:
        return []
    nights = [*reversed(before), tonight(page)]
    chart = f"![{in_markdown(nights_in_words(nights))}]({data_uri('image/png', nights_chart(nights))})"
    rows = [
        f"| {_night_link(page, one)} | {in_markdown(one.verdict)} | {one.scored:,} | {one.suspect:,} "
        f"| {one.quarantined:,} |"
        for one in before
    ]
    head = ["| night | verdict | images | suspect | set aside |", "| --- | --- | ---: | ---: | ---: |"]
    return ["### The last nights", chart, "\n".join([*head, *rows])]


def tonight(page: NightPage) -> PastNight:
    """The night at hand as those before it are shown."""
    summary = page.summary
    return PastNight(
        bundle=summary.bundle_id,
        night=summary.night,
        verdict=str(summary.verdict),
        headline=summary.headline,
        scored=summary.counts.scored,
        suspect=summary.suspect,
        quarantined=summary.counts.quarantined,
        estimate=summary.estimate,
    )


def _night_link(page: NightPage, one: PastNight) -> str:
    report = page.summary.report
    address = None if report is None or one.page is None else address_of(_reports(report) / unquote(one.page))
    return f"{one.night}" if address is None else f"[{one.night}]({address})"


def _reports(report: str) -> Path:
    """The folder of all pages, from <night>/<bundle>/<run>/index.html."""
    path = Path(report)
    return path.parents[3] if len(path.parents) > 3 else path.parent


def _provenance(page: NightPage) -> str:
    summary = page.summary
    took = view.duration((summary.finished_at - summary.started_at).total_seconds())
    committed = "" if summary.commit is None else f", commit {summary.commit}"
    return f"Night of {summary.night}, bundle {in_markdown(summary.bundle_id)}{committed}, took {took}."


def _accounts(page: NightPage) -> str:
    """Whether to trust what was scored; and every path by what became of it, zeros too: the reader can add them up."""
    accounts = view.accounting(page.summary.counts)
    rows = ["| " + " | ".join([*(account.status for account in accounts), "**seen**"]) + " |"]
    rows.append("|" + " ---: |" * (len(accounts) + 1))
    counts = [f"{account.count:,}" for account in accounts]
    rows.append("| " + " | ".join([*counts, f"**{page.summary.counts.seen:,}**"]) + " |")
    balance = "" if page.summary.counts.balanced else f"\n\n**{in_markdown(view.sum_sentence(page.summary.counts))}**"
    trust = f"{page.summary.trusted:,} trusted, {page.summary.suspect:,} suspect."
    return f"{trust}\n\n" + "\n".join(rows) + balance


def _findings(findings: tuple[Finding, ...]) -> str:
    told = [_finding(finding) for finding in findings[:_MOST_FINDINGS]]
    if len(findings) > _MOST_FINDINGS:
        told.append(f"- and {len(findings) - _MOST_FINDINGS:,} more")
    return "\n".join(told)


def _finding(finding: Finding) -> str:
    evidence = f" ({in_markdown(finding.evidence)})" if finding.evidence else ""
    return f"- **{finding.severity}** {in_markdown(finding.what)}{evidence}"


def _pictures(page: NightPage) -> str:
    """The most suspect images on one sheet, and below it a line each, tied by number."""
    frames = contact_sheets(page, room=1_000_000, suspect=_PICTURES, typical=0, quarantined=0).suspect
    if not frames:
        return ""
    given = [page.thumbnails.get(one.content_id, b"") for one in frames]
    picture = sheet(given) if any(given) else b""
    told = "; ".join(one.alt for one in frames)
    shown = f"![{in_markdown(told, _LONGEST)}]({data_uri('image/jpeg', picture)})" if picture else ""
    lines = "\n".join(f"{number}. {_line(one)}" for number, one in enumerate(frames, start=1))
    return "\n\n".join(part for part in ("### Most suspect", shown, lines) if part)


def _line(one: Frame) -> str:
    why = in_markdown("; ".join(one.lines))
    return f"**{in_markdown(one.predicted)} {view.share(one.confidence)}** · {in_markdown(one.path)} · {why}"
