"""The card as one HTML file: everything inside it, nothing loaded, nothing run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tasks.report import view
from tasks.report.card import charts, preparations, weak_spots, words
from tasks.report.card.facts import CardFacts, Confused, Remedy
from tasks.report.page import environment, fitted
from tasks.report.thumbnails import Film, Frame

LARGEST_CONFUSION: Final = 15  # classes; beyond, the card lists the commonest confusions instead of a table
MOST_PAIRS, MOST_PICTURES = 6, 4
_MOST_OPEN_CLASSES: Final = 20
_MOST_LEFT_OUT: Final = 100
_HEAT: Final = 0.45  # of the colour at most: the number in the cell stays readable


@dataclass(frozen=True)
class ConfusedFrames:
    """One pair of classes that are taken for each other, and its contact sheet."""

    true: str
    predicted: str
    n: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class ConfusedSheet:
    """The pairs that are shown, and how many of their pictures did not fit."""

    pairs: tuple[ConfusedFrames, ...]
    without_picture: int


@dataclass(frozen=True)
class RemedyRow:
    """One remedy, and where its dot and interval sit in the strip, in percent of its width."""

    remedy: Remedy
    verdict: str
    css: str | None


def bundle_card_html(facts: CardFacts) -> str:
    """The card as one offline HTML file, under three megabytes; every name in it is shown as text."""
    told = _words(facts)
    template = environment().get_template("card.html.j2")
    return fitted(lambda room: template.render(told, confused=confused_frames(facts.confused, room)))


def confused_frames(confused: Sequence[Confused], room: int) -> ConfusedSheet:
    """At most six pairs of four pictures, and `room` characters of pictures in all.

    Every pair takes its first picture before any takes its second.
    """
    pairs = confused[:MOST_PAIRS]
    told = {
        (place, pair): Frame(f"{pair}.{place}", path, (), one.predicted, confidence)
        for pair, one in enumerate(pairs)
        for place, (path, confidence, _) in enumerate(one.pictures[:MOST_PICTURES])
    }
    film = Film({frame.content_id: pairs[pair].pictures[place][2] for (place, pair), frame in told.items()}, room)
    developed = {key: film.develop(told[key]) for key in sorted(told)}
    return ConfusedSheet(
        tuple(
            ConfusedFrames(
                one.true, one.predicted, one.n, tuple(frame for (_, of), frame in developed.items() if of == pair)
            )
            for pair, one in enumerate(pairs)
        ),
        film.refused,
    )


def settings(facts: CardFacts) -> list[tuple[str, list[tuple[str, str]]]]:
    """The long lists: title, and (name, value) of each setting."""
    titled: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("Recipe", facts.recipe),
        ("Preprocessing", facts.preprocessing),
        ("Versions", facts.versions),
    )
    return [(title, [(name, shown(value)) for name, value in values.items()]) for title, values in titled if values]


def shown(value: object) -> str:
    """The value of a setting."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(shown(one) for one in value) or "none"
    return view.number(value) if isinstance(value, float) else str(value)


def _words(facts: CardFacts) -> dict[str, Any]:
    """Everything that the template names, except for the pictures."""
    comparison = facts.split_comparison
    lines = () if comparison is None else comparison.lines
    told = {
        "facts": facts,
        "splits": list(facts.images),
        "headline": words.headline(facts),
        "caution": words.caution(facts),
        "accent": "warn" if words.flattered(facts) else "empty",
        "accuracy_sentence": words.accuracy_sentence(facts),
        "honesty_findings": words.honesty_findings(facts),
        "figures": weak_spots.class_figures(facts),
        "opens_classes": len(facts.classes) <= _MOST_OPEN_CLASSES,
        "limits": weak_spots.limits(facts),
        "weaknesses": weak_spots.weaknesses(facts),
        "kinds": [] if facts.ladder is None else weak_spots.kinds(facts.ladder),
        "lost": lambda value: _lost(value, 0.0 if facts.ladder is None else facts.ladder.clean.value),
        **_preparations(facts),
        "confusions": weak_spots.commonest_confusions(facts),
        "shows_table": len(facts.classes) <= LARGEST_CONFUSION,
        "row_sums": [sum(row) or 1 for row in facts.confusion],
        "heat": _HEAT,
        "calibration_sentence": words.calibration_sentence(facts),
        "remedies": remedy_rows(facts.remedies),
        "remedy_kinds": list(dict.fromkeys(kind for one in facts.remedies for kind in one.by_kind)),
        "remedies_sentence": words.remedies_sentence(facts.remedies),
        "learning": charts.learning_chart(facts.learning_curve) if facts.learning_curve else None,
        "learning_sentence": words.learning_sentence(facts.learning_curve),
        "curves": charts.curve_charts(facts) if facts.curves else [],
        "curves_sentence": words.curves_sentence(facts),
        "phases": words.phase_lengths(facts),
        "moved": [line for line in lines if line.moved],
        "unmoved": [line for line in lines if not line.moved],
        "split_sentence": words.split_sentence(facts),
        "left_out": list(facts.left_out.items())[:_MOST_LEFT_OUT],
        "more_left_out": max(0, len(facts.left_out) - _MOST_LEFT_OUT),
        "goldens_sentence": words.goldens_sentence(facts),
        "settings": settings(facts),
    }
    return told | {"contents": _contents(facts)}


def _preparations(facts: CardFacts) -> dict[str, Any]:
    sensitivity = facts.sensitivity
    if sensitivity is None:
        return {"wrong": []}
    rows = preparations.preparation_rows(sensitivity)
    return {
        "wrong": rows[: preparations.MOST_OPEN],
        "more_wrong": rows[preparations.MOST_OPEN :],
        "sensitivity_sentence": preparations.sensitivity_sentence(sensitivity),
        "unseen": preparations.unseen_sentences(sensitivity),
        "images_word": preparations.images_word,
    }


def remedy_rows(remedies: Sequence[Remedy]) -> list[RemedyRow]:
    """Remedies with their place in a strip that spans all intervals and zero."""
    known = [one.difference for one in remedies if one.difference is not None and one.difference.known]
    ends = [end for one in known for end in (one.low, one.high)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return 4 + 92 * (value - low) / span

    rows = []
    for one in remedies:
        css = None
        if one.difference is not None and one.difference.known:
            left, right = place(one.difference.low), place(one.difference.high)
            css = f"--z:{place(0):.1f}%;--l:{left:.1f}%;--w:{right - left:.1f}%;--m:{place(one.difference.mean):.1f}%"
        sign = 0 if one.difference is None else one.difference.sign
        rows.append(RemedyRow(one, {1: "ok", -1: "alarm", 0: "empty"}[sign], css))
    return rows


def _lost(value: float, clean: float) -> float:
    """How dark a cell of the ladder is: the share of the clean accuracy that is lost."""
    return _HEAT * min(1.0, max(0.0, 1 - value / clean)) if clean > 0 else 0.0


def _contents(facts: CardFacts) -> list[tuple[str, str]]:
    entries: tuple[tuple[str, str, object], ...] = (
        ("accuracy", "Accuracy", True),
        ("adopted", "Adopted", facts.adopted),
        ("limits", "Not for", True),
        ("weaknesses", "Weaknesses", True),
        ("preparations", "Wrong preparation", facts.sensitivity),
        ("confusion", "Confusion", True),
        ("calibration", "Calibration", True),
        ("remedies", "Remedies", facts.remedies),
        ("more", "More images", facts.learning_curve),
        ("curves", "Curves", facts.curves),
        ("splits", "Training and validation", facts.split_comparison),
        ("data", "Data", True),
        ("settings", "Settings", settings(facts)),
    )
    return [(anchor, title) for anchor, title, there in entries if there]
