"""The place on a night's page for what labels say: drawn with the page, and drawn anew each time that labels come.

The page itself cannot be drawn a second time: its pictures are of files that may be gone, its evidence of a run that
has ended. So it holds two marked places, a line of its contents and a section; only what lies between marks changes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from darkroom.storage import Storage, storage_at
from darkroom.summary import AccuracyEstimate, NightSummary
from tasks.report import view
from tasks.report.further import LabelledShown

# What a page without labels leaves free, so that it stays small when they come.
ROOM_FOR_LABELS: Final = 200_000  # bytes
_MOST_CONFUSIONS: Final = 12
_LARGEST_MATRIX: Final = 12  # classes; beyond, only the commonest confusions
# Texts of a page cannot hold a mark: every `<` in them is escaped.
_PLACE: Final = re.compile(r"(<!-- labels: (line|section) -->)(.*?)(<!-- end of labels -->)", re.DOTALL)
_LINE: Final = '<li><a href="#labels">Labels</a></li>'


def label_words(labelled: LabelledShown | None, summary: NightSummary) -> dict[str, Any]:
    """Everything that the template of the section names."""
    if labelled is None or not labelled.images:
        return {"labelled": None}
    estimate = summary.estimate
    return {
        "labelled": labelled,
        "label_sentence": view.label_sentence(labelled, summary),
        "label_beside": _beside(labelled, estimate),
        "estimated": None if estimate is None else estimate.value,
        "confusions": labelled.confusions()[:_MOST_CONFUSIONS],
        "matrix": view.matrix(labelled, _LARGEST_MATRIX),
    }


def with_labels(html: str, summary: NightSummary, labelled: LabelledShown | None) -> str | None:
    """The page with what labels say now in place of what they said before (None: nothing); None where it has no place
    for them.
    """
    from tasks.report.page import environment

    if sorted(found[2] for found in _PLACE.finditer(html)) != ["line", "section"]:
        return None
    words = label_words(labelled, summary)
    section = environment().get_template("night_labels.html.j2").render(words)
    there = {"line": _LINE if words["labelled"] else "", "section": section}
    return _PLACE.sub(lambda found: f"{found[1]}{there[found[2]]}{found[4]}", html)


def redraw_labels(
    results: Storage | Path | str, key: str, summary: NightSummary, labelled: LabelledShown | None
) -> str | None:
    """Draw labels into the page at `key`, in one step; why it was left as it is, where it was. Raises StorageError."""
    storage = storage_at(results)
    data = storage.peek(key)
    if data is None:
        return "the page is not there"
    try:
        before = data.decode("utf-8")
    except UnicodeDecodeError:
        return "the page is not as it was written"
    after = with_labels(before, summary, labelled)
    if after is None:
        return "the page has no place for labels: it was drawn by an older darkroom, or changed since"
    if after != before:
        storage.write(key, after.encode("utf-8"))
    return None


def _beside(labelled: LabelledShown, estimate: AccuracyEstimate | None) -> str:
    """The estimate beside the labels."""
    if estimate is None or not estimate.rows:
        return ""
    low, high = estimate.low, estimate.high
    if estimate.value is None or low is None or high is None:
        return estimate.sentence
    told = f"Estimated without labels: {view.share(estimate.value)} ({view.share(low)} to {view.share(high)})"
    if labelled.low is None or labelled.high is None:
        return f"{told}."
    held = low <= labelled.high and labelled.low <= high
    return f"{told}; the two intervals have {'values' if held else 'no value'} in common."
