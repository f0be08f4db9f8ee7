"""Two tables of a night for Prefect's interface: what differs from training, and what was set aside and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tasks.report import view
from tasks.report.artifact import links
from tasks.report.drift_lines import DriftLine, drift_lines, drift_sentence, effect
from tasks.report.night_page import NightPage
from tasks.report.sheet import sheet
from tasks.report.thumbnails import Frame, QuarantineGroup, contact_sheets, data_uri
from tasks.report.untrusted import in_markdown

_MOST_LINES: Final = 40
_MOST_SLICES: Final = 12
_EXAMPLES: Final = 3  # file names a reason
_FRAMES: Final = 60
_PICTURES: Final = 6
_LONGEST: Final = 600  # characters of one sentence
_LONGEST_NAME: Final = 60


def drift_artifact(page: NightPage) -> str:
    """What differs from training, the gravest first, with what would have shown; folders; nights together."""
    lines = drift_lines(page.drift)
    # An embedding component has no meaning of its own: it is named where it moved.
    told = [line for line in lines if line.moved or line.family != "embedding"]
    shown = told[:_MOST_LINES]
    parts = [
        f"## {page.summary.night}: {in_markdown(drift_sentence(lines), _LONGEST)}",
        links(page),
        _table(
            ("measure", "verdict", "effect", "detectable", "training", "tonight"),
            [_drift_row(line) for line in shown],
            right=(2, 3, 4, 5),
        ),
        _left_out(lines, told, shown),
        *_slices(page),
        in_markdown(page.across.sentence, _LONGEST) if page.across is not None else "",
        in_markdown(page.budget, _LONGEST),
        "sd: standard deviations of training. V: Cramér's V, 0 the same mix, 1 another one. "
        "*Detectable*: the smallest shift that tonight could have told from chance."
        if lines
        else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def drift_told(page: NightPage) -> str:
    """The night and the sentence."""
    return f"{page.summary.night}: {drift_sentence(drift_lines(page.drift))}"


def quarantine_artifact(page: NightPage) -> str:
    """How many files were set aside for which reason, with some of their names, and pictures where there are any."""
    groups = contact_sheets(page, room=1_000_000, suspect=0, typical=0, quarantined=_FRAMES).quarantined
    parts = [f"## {in_markdown(quarantine_told(page))}", links(page)]
    if groups:
        rows = [(one.reason, f"{one.count:,}", "yes" if one.comes_back else "no") for one in groups]
        parts += [_table(("reason", "files", "may pass unchanged"), rows, right=(1,)), *map(_examples, groups)]
        parts += [_pictures(groups, page.thumbnails)]
    return "\n\n".join(part for part in parts if part) + "\n"


def quarantine_told(page: NightPage) -> str:
    """The night and how many."""
    counts = page.summary.counts
    told = f"{counts.quarantined:,} of {counts.seen:,} files set aside" if counts.quarantined else "Nothing set aside"
    waits = f"; {counts.deferred:,} wait for the next night" if counts.deferred else ""
    return f"{page.summary.night}: {told}{waits}."


def _drift_row(line: DriftLine) -> tuple[str, ...]:
    detectable = "–" if line.detectable is None else f"{line.detectable:.2f} {'V' if line.unit == 'V' else 'sd'}"
    return (
        line.name,
        line.verdict.replace("_", " "),
        effect(line),
        detectable,
        view.number(line.before),
        view.number(line.tonight),
    )


def _left_out(lines: Sequence[DriftLine], told: Sequence[DriftLine], shown: Sequence[DriftLine]) -> str:
    components, more = len(lines) - len(told), len(told) - len(shown)
    left = [f"{components:,} embedding components that did not move"] if components else []
    left += [f"{more:,} more measures"] if more else []
    return f"Not in the table: {' and '.join(left)}." if left else ""


def _slices(page: NightPage) -> list[str]:
    """Folders and cameras that differ by themselves."""
    moved = page.slices.moved[:_MOST_SLICES]
    rows = [(one.name, f"{one.images:,}", one.verdict, one.metric, one.effect) for one in moved]
    head = ("folder or camera", "images", "verdict", "differs most in", "effect")
    told = in_markdown(page.slices.sentence, _LONGEST)
    return [told, _table(head, rows, right=(1, 4))] if rows else [told]


def _examples(group: QuarantineGroup) -> str:
    """The reason in words, and a few files: in a list, because a table of long names is wider than a screen."""
    told = f"**{in_markdown(group.reason)}**: {in_markdown(group.sentence)}"
    shown = group.frames[:_EXAMPLES]
    lines = [f"- {_file(one)}" for one in shown]
    more = group.count - len(shown)
    lines += [f"- and {more:,} more"] if more > 0 and shown else []
    return "\n".join([told, "", *lines]) if lines else told


def _file(one: Frame) -> str:
    detail = f": {in_markdown('; '.join(one.lines), _LONGEST_NAME * 3)}" if one.lines else ""
    return f"{in_markdown(one.path, _LONGEST_NAME * 2)}{detail}"


def _pictures(groups: Sequence[QuarantineGroup], thumbnails: Mapping[str, bytes]) -> str:
    """Files that decode and were set aside all the same."""
    frames = [one for group in groups for one in group.frames if thumbnails.get(one.content_id)][:_PICTURES]
    if not frames:
        return ""
    picture = data_uri("image/jpeg", sheet([thumbnails[one.content_id] for one in frames]))
    names = "\n".join(f"{number}. {in_markdown(one.path)}" for number, one in enumerate(frames, start=1))
    return f"![{in_markdown('; '.join(one.alt for one in frames), _LONGEST)}]({picture})\n\n{names}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A table, or nothing where there is no row."""
    if not rows:
        return ""
    rule = "|" + "|".join(" ---: " if place in right else " --- " for place in range(len(head))) + "|"
    told = ["| " + " | ".join(in_markdown(cell, _LONGEST_NAME) for cell in row) + " |" for row in (head, *rows)]
    return "\n".join([told[0], rule, *told[1:]])
