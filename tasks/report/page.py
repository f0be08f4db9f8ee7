"""One HTML file a night: everything inside it, nothing loaded, nothing run, every word from a file shown as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from darkroom.reasons import NightVerdict, Verdict
from darkroom.storage import Storage, storage_at
from darkroom.summary import ExpectationResult, NightSummary, Severity
from tasks.report import view
from tasks.report.drift_lines import DriftLine, drift_lines, drift_sentence, effect
from tasks.report.labels_place import ROOM_FOR_LABELS, label_words
from tasks.report.multiples import multiples
from tasks.report.night_page import NightPage
from tasks.report.over_nights import short, sum_svg
from tasks.report.thumbnails import contact_sheets
from tasks.report.untrusted import visible

if TYPE_CHECKING:
    from jinja2 import Environment

LARGEST_PAGE: Final = 2_900_000  # bytes
_ROOM_FOR_PICTURES: Final = 2_400_000  # characters of data: URIs
_LONGEST: Final = 600  # characters of one text
_MOST_FINDINGS: Final = 40
_MOST_CLASSES: Final = 30
_MOST_DRIFT: Final = 200
_MOST_EXPECTATIONS: Final = 300
_MOST_FACTS: Final = 80
_MOST_NIGHTS: Final = 30
_MOST_SUMMED: Final = 400
_MOST_SLICES: Final = 12


def write_page(results: Storage | Path | str, key: str, page: NightPage) -> str:
    """Write the page, in one step: who opens it sees the old page or the new one; where it is. Raises StorageError."""
    storage = storage_at(results)
    storage.write(key, page_html(page).encode())
    return storage.describe(key)


def page_html(page: NightPage) -> str:
    """The page as text, at most LARGEST_PAGE bytes: where there are too many pictures, the least suspect go first."""
    words = _words(page)
    template = environment().get_template("night.html.j2")
    spare = 0 if words["labelled"] else ROOM_FOR_LABELS
    return fitted(lambda room: template.render(words, sheets=contact_sheets(page, room=room)), spare)


def fitted(render: Callable[[int], str], spare: int = 0) -> str:
    """`render` with as many characters of pictures as keep the page `spare` bytes under LARGEST_PAGE."""
    room = _ROOM_FOR_PICTURES
    while True:
        html = render(room)
        excess = len(html.encode("utf-8")) + spare - LARGEST_PAGE
        if excess <= 0 or room == 0:
            return html
        room = max(0, room - excess)


def as_on_pages(text: str) -> str:
    """A text as the markup of a page has it."""
    from markupsafe import escape

    return str(escape(visible(text, _LONGEST)))


@cache
def environment() -> Environment:
    """Templates that escape everything, after making every character of it visible."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return visible(value, _LONGEST) if isinstance(value, str) and not isinstance(value, Markup) else value

    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "as_markup": Markup,  # our own SVG and base64 only
        "count": lambda value: f"{value:,}",
        "number": view.number,
        "p": view.p_value,
        "share": view.share,
        "percent": lambda value: f"{value:.1%}" if math.isfinite(value) else "–",
        "points": view.points,
        "short": short,
        "letter": lambda verdict: _LETTERS.get(verdict, "–"),
        "css_share": lambda value: f"{100 * value:.2f}%",
        "effect": effect,
        "shift": _shift_css,
        "widest_shift": _widest_shift,
        "known_verdict": lambda verdict: verdict if verdict in _VERDICT_CLASSES else "empty",
        "severity_verdict": lambda severity: _SEVERITY_CLASSES[severity],
        "result_verdict": _result_class,
    }
    made.filters.update(filters)
    return made


_LETTERS: Final = {"ok": "·", "warn": "w", "alarm": "A"}  # no verdict by its colour alone
_VERDICT_CLASSES: Final = frozenset({*NightVerdict, "too_few"})
_SEVERITY_CLASSES: Final = {Severity.CRITICAL: "alarm", Severity.WARNING: "warn", Severity.INFO: "empty"}
_NARROWEST_SHIFT: Final = 2.0


def _words(page: NightPage) -> dict[str, Any]:
    """Everything that the template names, except for the contact sheets."""
    summary = page.summary
    lines = drift_lines(page.drift)
    first = [line for line in lines if line.moved][:_MOST_DRIFT]
    rest = [line for line in lines if not line.moved]
    classes, more_classes = view.class_shares(page, _MOST_CLASSES)
    expectations = view.expectations_by_weight(summary.expectations)
    shown = expectations[:_MOST_EXPECTATIONS]
    small = multiples(page, lines)
    return {
        "page": page,
        "summary": summary,
        "counts": summary.counts,
        "verdict_words": view.VERDICT_WORDS[summary.verdict],
        "night_in_words": f"{summary.night:%A}, {summary.night.day} {summary.night:%B %Y}",
        "contents": _contents(page, has_multiples=bool(small)),
        "findings": summary.findings[:_MOST_FINDINGS],
        "more_findings": max(0, len(summary.findings) - _MOST_FINDINGS),
        "no_finding_sentence": view.no_finding_sentence(summary),
        "sum_sentence": view.sum_sentence(summary.counts),
        "accounts": view.accounting(summary.counts),
        "classes": classes,
        "more_classes": more_classes,
        "widest_share": max((max(one.tonight_share, one.training_share) for one in classes), default=0.0) or 1.0,
        "lines": lines,
        "drift_sentence": drift_sentence(lines),
        "drift_first": first,
        "drift_rest": rest[:_MOST_DRIFT],
        "drift_rest_count": len(rest),
        "multiples": small,
        "has_past": any(one.line for one in small),
        "expectations": expectations,
        "failed": [result for result in shown if result.status != "passed"],
        "passed": [result for result in shown if result.status == "passed"],
        "more_expectations": len(expectations) - len(shown),
        "validation_sentence": view.validation_sentence(expectations),
        "pictures": bool(page.thumbnails),
        "recent": page.recent[:_MOST_NIGHTS][::-1],
        "reports": (page.index or "").removesuffix("index.html"),
        **label_words(page.labelled, summary),
        "slices": page.slices.moved[:_MOST_SLICES],
        "across_svg": _across(page),
        "provenance": _provenance(summary),
        "sealed": _facts(dict(page.sealed)),
        "parameters": _facts(summary.parameters),
        "versions": _facts(summary.versions),
    }


def _contents(page: NightPage, *, has_multiples: bool) -> list[tuple[str, str]]:
    contents = [
        ("causes", "Cause"),
        ("findings", "Findings"),
        ("accuracy", "Accuracy"),
        ("labels", "Labels"),
        ("paths", "Paths"),
        ("classes", "Classes"),
        ("drift", "Drift"),
        ("properties", "Properties"),
        ("suspect", "Suspect"),
        ("quarantine", "Quarantined"),
        ("typical", "Typical"),
        ("validation", "Validation"),
        ("provenance", "Provenance"),
    ]
    there = {
        "properties": has_multiples,
        "causes": bool(page.summary.causes),
        "accuracy": page.estimate is not None,
    }
    absent = {anchor for anchor, shown in there.items() if not shown}
    if Verdict.TRUSTED not in set(page.predictions.get("verdict", ())):
        absent.add("typical")
    return [entry for entry in contents if entry[0] not in absent]


def _across(page: NightPage) -> str:
    if page.across is None or not page.across.nights:
        return ""
    nights, sums = page.across.nights[-_MOST_SUMMED:], page.across.sums[-_MOST_SUMMED:]
    said = f"Evidence from {short(nights[0])} to {short(nights[-1])}. {page.across.sentence}"
    return sum_svg(nights, sums, page.across.alarm_from, said)


def _provenance(summary: NightSummary) -> list[tuple[str, str]]:
    took = (summary.finished_at - summary.started_at).total_seconds()
    return [
        ("bundle", summary.bundle_id),
        ("commit", "not written yet" if summary.commit is None else f"number {summary.commit}"),
        ("run", summary.run_id),
        ("inbox", summary.inbox),
        ("night", summary.night.isoformat()),
        ("started", summary.started_at.isoformat(sep=" ", timespec="seconds")),
        ("finished", summary.finished_at.isoformat(sep=" ", timespec="seconds")),
        ("took", view.duration(took)),
    ]


def _facts(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, "not set" if value is None else str(value)) for name, value in list(values.items())[:_MOST_FACTS]]


def _widest_shift(lines: Sequence[DriftLine]) -> float:
    """What the strips of a table reach to: every dot and band of it has its place on one scale."""
    effects = [abs(line.effect or 0.0) for line in lines if line.unit == "sd"]
    bands = [line.detectable or 0.0 for line in lines if line.unit != "V"]
    return max(_NARROWEST_SHIFT, *effects, *bands)


def _shift_css(line: DriftLine, widest: float) -> str:
    """Where the dot and the band of chance sit, in percent of half the strip."""
    scale = 1.0 if line.unit == "V" else widest
    effect = max(-1.0, min(1.0, (line.effect or 0.0) / scale))
    band = min(1.0, (line.detectable or 0.0) / scale)
    return f"--e:{46 * effect:.1f}%;--d:{92 * band:.1f}%"


def _result_class(result: ExpectationResult) -> str:
    if result.status == "passed":
        return "ok"
    return "alarm" if result.status == "failed" and result.severity is Severity.CRITICAL else "warn"
