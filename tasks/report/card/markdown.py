"""The card as Markdown: for the bundle, and for Prefect's interface. Names and settings are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tasks.report import view
from tasks.report.card import preparations, weak_spots, words
from tasks.report.card.charts import card_chart
from tasks.report.card.facts import CardFacts, Interval
from tasks.report.card.page import LARGEST_CONFUSION, confused_frames, settings
from tasks.report.drift_lines import effect
from tasks.report.thumbnails import data_uri
from tasks.report.untrusted import in_markdown
from tasks.report.view import points

_PICTURES: Final = 4
_ROOM_FOR_PICTURES: Final = 100_000  # characters of data: URIs; the server keeps every artifact in its database
_MOST_DRIFT: Final = 20
_MOST_LEFT_OUT: Final = 20


def bundle_card(facts: CardFacts) -> str:
    """The card as Markdown: what was not measured is left out, or said in a line; at most one chart, four pictures."""
    caution = words.caution(facts)
    parts = [
        f"# {in_markdown(facts.name)}: {in_markdown(words.headline(facts))}",
        "" if caution is None else f"**{in_markdown(caution[0].capitalize())}.** {in_markdown(caution[1])}",
        f"Sealed {facts.created_at:%Y-%m-%d %H:%M} {facts.created_at.tzname()}.",
        "## Accuracy",
        *_accuracy(facts),
        *_adopted(facts),
        "## What it must not be used for",
        _list(weak_spots.limits(facts)),
        "## Weaknesses",
        *_weaknesses(facts),
        *_preparations(facts),
        "## Confusion",
        *_confusion(facts),
        "## Calibration",
        in_markdown(words.calibration_sentence(facts)),
        *_training(facts),
        *_comparison(facts),
        "## Data",
        *_data(facts),
        "## Goldens",
        in_markdown(words.goldens_sentence(facts)),
        *(part for title, values in settings(facts) for part in (f"## {title}", _table(["setting", "value"], values))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _accuracy(facts: CardFacts) -> list[str]:
    rows = [[split, str(rate)] for split, rate in facts.accuracy.items()]
    honesty = facts.honesty
    if honesty is not None and honesty.restated is not None:
        rows.append(["validation, without what flatters it", str(honesty.restated)])
    parts = [_table(["split", "accuracy (95 % interval)"], rows), in_markdown(words.accuracy_sentence(facts))]
    if honesty is None:
        parts.append(in_markdown(words.split_sentence(facts)))
    else:
        parts += [
            in_markdown(honesty.sentence),
            _list([sentence for _, _, sentence in words.honesty_findings(facts)]),
        ]
    figures = [[one.name, str(one.recall), str(one.precision)] for one in weak_spots.class_figures(facts)]
    return [*parts, _table(["class", "recall", "precision"], figures)]


def _adopted(facts: CardFacts) -> list[str]:
    adopted = facts.adopted
    if adopted is None:
        return []
    parts = ["## Where it came from", *(in_markdown(one) for one in adopted.sentences), _list(list(adopted.findings))]
    if adopted.preparations:
        rows = [
            [f"{one.name}{' (this bundle)' if one.sealed else ''}", str(one.accuracy), "yes" if one.in_set else "no"]
            for one in adopted.preparations
        ]
        parts.append(_table(["preparation", "accuracy (95 % interval)", "cannot be ruled out"], rows))
    return parts


def _weaknesses(facts: CardFacts) -> list[str]:
    parts = [in_markdown(sentence) for sentence in weak_spots.weaknesses(facts)]
    if facts.ladder is not None and weak_spots.kinds(facts.ladder):
        strengths = [str(strength + 1) for strength in range(facts.ladder.strengths)]
        rows = [
            [kind.name, *(view.share(value) for value in kind.accuracy), view.share(kind.mean)]
            for kind in weak_spots.kinds(facts.ladder)
        ]
        parts.append(_table(["accuracy by strength", *strengths, "mean"], rows))
    return parts


def _preparations(facts: CardFacts) -> list[str]:
    sensitivity = facts.sensitivity
    if sensitivity is None:
        return []
    rows = [
        [
            one.variant,
            one.what,
            str(one.accuracy),
            view.share(one.flips),
            f"{one.worst:.3f}",
            preparations.images_word(one),
        ]
        for one in sensitivity.shown
    ]
    head = ["preparation", "the images are", "accuracy (95 % interval)", "answers changed", "largest change"]
    return [
        "## What a wrong preparation would cost",
        in_markdown(preparations.sensitivity_sentence(sensitivity)),
        _table([*head, "images to tell"], rows) if rows else "",
        _list(preparations.unseen_sentences(sensitivity)),
    ]


def _confusion(facts: CardFacts) -> list[str]:
    pairs = weak_spots.commonest_confusions(facts)
    if len(facts.classes) <= LARGEST_CONFUSION:
        rows = [
            [true, *(f"{count:,}" for count in row)] for true, row in zip(facts.classes, facts.confusion, strict=True)
        ]
        parts = [
            "Rows are the true class, columns the predicted one.",
            _table(["true \\ predicted", *facts.classes], rows),
        ]
    elif pairs:
        parts = [_table(["true", "predicted", "images"], [[true, called, f"{n:,}"] for true, called, n in pairs])]
    else:
        parts = ["No validation image was called by another class's name."]
    if facts.confused:
        rows = [[one.true, one.predicted, f"{one.n:,}"] for one in facts.confused]
        parts += ["What is taken for what:", _table(["true", "taken for", "images"], rows), _pictures(facts)]
    return parts


def _pictures(facts: CardFacts) -> str:
    """One picture a pair, as a table, because a table keeps each picture beside what is said of it."""
    rows: list[str] = []
    for pair in confused_frames(facts.confused, _ROOM_FOR_PICTURES).pairs:
        one = next((frame for frame in pair.frames if frame.picture is not None), None)
        if one is not None and len(rows) < _PICTURES:
            said = " | ".join(
                in_markdown(text) for text in (one.path, pair.true, f"{pair.predicted} {view.share(one.confidence)}")
            )
            rows.append(f"| ![{in_markdown(one.alt)}]({one.picture}) | {said} |")
    if not rows:
        return ""
    return "\n".join(["| picture | image | true | taken for |", "| --- | --- | --- | --- |", *rows])


def _training(facts: CardFacts) -> list[str]:
    """Curves, remedies and learning curve, and one chart of them all."""
    parts = []
    if facts.remedies:
        parts += ["## What each remedy is worth", in_markdown(words.remedies_sentence(facts.remedies))]
        rows = [
            [
                one.name + (" (this bundle)" if one.is_recipe else ""),
                one.settings,
                _interval(one.difference),
                *map(_interval, (one.ladder, one.accuracy, one.gap, one.calibration_error)),
                str(one.seeds),
            ]
            for one in facts.remedies
        ]
        head = ["recipe", "settings", f"ladder less {facts.remedies[0].name}, points", "ladder, %", "accuracy, %"]
        parts.append(_table([*head, "gap, points", "calibration error, %", "seeds"], rows))
        parts.append(_by_kind(facts))
    if facts.learning_curve:
        parts += ["## Would more images help?", in_markdown(words.learning_sentence(facts.learning_curve))]
        rows = [[view.share(one.share), f"{one.images:,}", _interval(one.accuracy)] for one in facts.learning_curve]
        parts.append(_table(["share", "images", "accuracy, %"], rows))
    if facts.curves:
        parts += ["## Curves", in_markdown(words.curves_sentence(facts))]
    chart = card_chart(facts)
    if chart is not None:
        told = "Accuracy by epoch, wrong preparations, remedies, learning curve; what of them was measured"
        parts.append(f"![{told}]({data_uri('image/png', chart)})")
    return parts


def _by_kind(facts: CardFacts) -> str:
    of_kinds = list(dict.fromkeys(kind for one in facts.remedies for kind in one.by_kind))
    if not of_kinds:
        return ""
    rows = [
        [kind.replace("_", " "), *(view.share(one.by_kind.get(kind)) for one in facts.remedies)] for kind in of_kinds
    ]
    return _table(["mean accuracy under", *(one.name for one in facts.remedies)], rows)


def _comparison(facts: CardFacts) -> list[str]:
    comparison = facts.split_comparison
    if comparison is None:
        return []
    rows = [
        [
            line.name,
            line.verdict.replace("_", " "),
            effect(line),
            view.number(line.detectable),
            view.p_value(line.p_corrected),
            view.number(line.before),
            view.number(line.tonight),
        ]
        for line in comparison.lines
        if line.moved
    ][:_MOST_DRIFT]
    head = ["measure", "verdict", "effect", "smallest detectable", "p, corrected", "training", "validation"]
    return ["## Training against validation", in_markdown(comparison.sentence), _table(head, rows) if rows else ""]


def _data(facts: CardFacts) -> list[str]:
    splits = list(facts.images)
    rows = [
        [str(place), name, *(f"{facts.images[split].get(name, 0):,}" for split in splits)]
        for place, name in enumerate(facts.classes)
    ]
    rows.append(["", "all", *(f"{sum(facts.images[split].values()):,}" for split in splits)])
    parts = [
        "The output is the place of the class in the model's probabilities.",
        _table(["output", "class", *splits], rows),
        in_markdown(words.split_sentence(facts)),
    ]
    if facts.left_out:
        told = [f"{path}: {why}" for path, why in list(facts.left_out.items())[:_MOST_LEFT_OUT]]
        more = len(facts.left_out) - _MOST_LEFT_OUT
        parts += [
            f"Left out: {len(facts.left_out):,}.",
            _list([*told, f"and {more:,} more"] if more > 0 else told),
        ]
    return parts


def _interval(one: Interval | None) -> str:
    return "–" if one is None else f"{points(one.mean)} ({points(one.low)} to {points(one.high)})"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {in_markdown(line)}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, *rows]
    told = ["| " + " | ".join(in_markdown(cell) for cell in line) + " |" for line in lines]
    return "\n".join([told[0], "|" + " --- |" * len(head), *told[1:]])
