"""The card of a bundle: what it learned from, how well, how badly where, and what it must not be used for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tasks.report import view
from tasks.report.page import environment
from tasks.report.untrusted import in_markdown

_LARGEST_CONFUSION: Final = 15  # classes; beyond, the card lists the commonest confusions instead of a table
_MOST_CONFUSIONS: Final = 10
_Z: Final = 1.959963984540054  # 95 %


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval, and the number of images that it rests on."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, hits: int, n: int) -> Rate:
        """Wilson's interval (JASA 22, 1927): right for few images and for shares near 0 and 1."""
        if n == 0:
            return cls(math.nan, 0.0, 1.0, 0)
        share = hits / n
        middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        reach = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
        return cls(share, max(0.0, middle - reach), min(1.0, middle + reach), n)

    def __str__(self) -> str:
        if not self.n:
            return "no images"
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%}, n {self.n:,})"


@dataclass(frozen=True)
class CardFacts:
    """Everything that the card says.

    `confusion` counts validation images: rows the true class, columns the predicted one, both in the order of
    `classes`. Calibration errors are expected calibration errors in [0, 1] on validation images, `None` where not
    measured.
    """

    name: str
    created_at: datetime
    classes: tuple[str, ...]
    images: Mapping[str, Mapping[str, int]]  # split → class → images
    accuracy: Mapping[str, Rate]  # split → accuracy
    confusion: Sequence[Sequence[int]]
    grouping: str = "image"
    groups: Mapping[str, int] = field(default_factory=dict)  # split → groups
    recipe: Mapping[str, object] = field(default_factory=dict)
    preprocessing: Mapping[str, object] = field(default_factory=dict)
    calibration_error_before: float | None = None
    calibration_error_after: float | None = None
    temperature: float | None = None
    goldens: int = 0
    golden_kinds: Mapping[str, int] = field(default_factory=dict)  # "grey" → 4
    versions: Mapping[str, str] = field(default_factory=dict)
    not_for: tuple[str, ...] = ()  # beside what holds for every bundle


@dataclass(frozen=True)
class ClassFigures:
    """One class on validation images."""

    name: str
    recall: Rate  # of the images of this class, the share that is found
    precision: Rate  # of the images called this class, the share that is of it


def bundle_card(facts: CardFacts) -> str:
    """The card as Markdown; names and settings are escaped."""
    splits = list(facts.images)
    parts = [
        f"# {in_markdown(facts.name)}",
        f"Sealed {facts.created_at:%Y-%m-%d %H:%M} {facts.created_at.tzname()}.",
        "## Data",
        _table(
            ["class", *splits],
            [
                *([name, *(f"{facts.images[split].get(name, 0):,}" for split in splits)] for name in facts.classes),
                ["all", *(f"{sum(facts.images[split].values()):,}" for split in splits)],
            ],
        ),
        in_markdown(split_sentence(facts)),
        "## Accuracy",
        _table(["split", "accuracy (95 % interval)"], [[split, str(rate)] for split, rate in facts.accuracy.items()]),
        in_markdown(accuracy_sentence(facts)),
        _table(
            ["class", "recall", "precision"],
            [[one.name, str(one.recall), str(one.precision)] for one in class_figures(facts)],
        ),
        "## Confusion",
        _confusion(facts),
        "## Calibration",
        in_markdown(calibration_sentence(facts)),
        "## What it must not be used for",
        "\n".join(f"- {in_markdown(limit)}" for limit in limits(facts)),
        "## Goldens",
        in_markdown(goldens_sentence(facts)),
        *_settings("Recipe", facts.recipe),
        *_settings("Preprocessing", facts.preprocessing),
        *_settings("Versions", facts.versions),
    ]
    return "\n\n".join(parts) + "\n"


def bundle_card_html(facts: CardFacts) -> str:
    """The card as one offline HTML file."""
    largest = max((max(row, default=0) for row in facts.confusion), default=0) or 1
    return (
        environment()
        .get_template("card.html.j2")
        .render(
            facts=facts,
            splits=list(facts.images),
            figures=class_figures(facts),
            confusions=commonest_confusions(facts),
            shows_table=len(facts.classes) <= _LARGEST_CONFUSION,
            largest=largest,
            split_sentence=split_sentence(facts),
            accuracy_sentence=accuracy_sentence(facts),
            calibration_sentence=calibration_sentence(facts),
            goldens_sentence=goldens_sentence(facts),
            limits=limits(facts),
            settings=[
                (title, [(name, _value(value)) for name, value in values.items()])
                for title, values in (
                    ("Recipe", facts.recipe),
                    ("Preprocessing", facts.preprocessing),
                    ("Versions", facts.versions),
                )
                if values
            ],
        )
    )


def class_figures(facts: CardFacts) -> list[ClassFigures]:
    """Recall and precision of each class, with Wilson's intervals."""
    figures = []
    for place, name in enumerate(facts.classes):
        hits = facts.confusion[place][place]
        called = sum(row[place] for row in facts.confusion)
        figures.append(ClassFigures(name, Rate.of(hits, sum(facts.confusion[place])), Rate.of(hits, called)))
    return figures


def commonest_confusions(facts: CardFacts) -> list[tuple[str, str, int]]:
    """(true, predicted, images), the commonest first."""
    pairs = [
        (true, predicted, facts.confusion[i][j])
        for i, true in enumerate(facts.classes)
        for j, predicted in enumerate(facts.classes)
        if i != j and facts.confusion[i][j]
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:_MOST_CONFUSIONS]


def limits(facts: CardFacts) -> list[str]:
    """What the bundle must not be used for: what holds for every classifier, then what this one shows."""
    told = [
        f"Images of anything but its {len(facts.classes)} classes: it always answers with one of them.",
        "Images prepared by other code: the figures above hold for the pinned preprocessing only.",
        "Other cameras, places or light than in training, before nights have shown that they do not matter.",
    ]
    measured = [one for one in class_figures(facts) if one.recall.n]
    if measured:
        worst = min(measured, key=lambda one: one.recall.value)
        if worst.recall.value < 1:
            told.append(
                f"Decisions that nobody checks: {1 - worst.recall.value:.0%} of the validation images of "
                f"{worst.name} were called something else."
            )
    return [*told, *facts.not_for]


def split_sentence(facts: CardFacts) -> str:
    """How the images were split."""
    if facts.grouping == "image":
        return "Split image by image: photos of one session may stand on both sides, which flatters the accuracy."
    groups = ", ".join(f"{count:,} in {split}" for split, count in facts.groups.items())
    return f"Split by {facts.grouping}, so that no group stands on both sides" + (f": {groups}." if groups else ".")


def accuracy_sentence(facts: CardFacts) -> str:
    """How far training and validation lie apart, which is what overfitting looks like."""
    train, validation = facts.accuracy.get("train"), facts.accuracy.get("validation")
    if train is None or validation is None or not train.n or not validation.n:
        return "Accuracy was not measured on both splits."
    gap = 100 * (train.value - validation.value)
    if validation.high >= train.low:
        return f"Training and validation are {abs(gap):.1f} points apart, no more than their intervals allow."
    return f"Training is {gap:.1f} points above validation: the model knows its training images by heart, in part."


def calibration_sentence(facts: CardFacts) -> str:
    """Whether a stated confidence may be believed."""
    before, after = facts.calibration_error_before, facts.calibration_error_after
    if before is None:
        return "The calibration error was not measured."
    told = f"The expected calibration error on validation images is {before:.3f}"
    if after is None:
        return f"{told}."
    at = "" if facts.temperature is None else f" (temperature {facts.temperature:.3g})"
    return f"{told} as the model gives its probabilities, and {after:.3f} after temperature scaling{at}."


def goldens_sentence(facts: CardFacts) -> str:
    """What is replayed before every night."""
    if not facts.goldens:
        return "No golden is sealed in it."
    kinds = ", ".join(f"{count} {kind}" for kind, count in facts.golden_kinds.items())
    return f"{facts.goldens} training images are sealed in it and replayed before every night" + (
        f"; among them {kinds}." if kinds else "."
    )


def _confusion(facts: CardFacts) -> str:
    if len(facts.classes) <= _LARGEST_CONFUSION:
        rows = [
            [true, *(f"{count:,}" for count in row)] for true, row in zip(facts.classes, facts.confusion, strict=True)
        ]
        return "Rows are the true class, columns the predicted one.\n\n" + _table(
            ["true \\ predicted", *facts.classes], rows
        )
    pairs = commonest_confusions(facts)
    if not pairs:
        return "No validation image was called by another class's name."
    return _table(["true", "predicted", "images"], [[true, called, f"{n:,}"] for true, called, n in pairs])


def _settings(title: str, values: Mapping[str, object]) -> list[str]:
    if not values:
        return []
    return [f"## {title}", _table(["setting", "value"], [[name, _value(value)] for name, value in values.items()])]


def _value(value: object) -> str:
    return "not set" if value is None else view.number(value) if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, *rows]
    told = ["| " + " | ".join(in_markdown(cell) for cell in line) + " |" for line in lines]
    return "\n".join([told[0], "|" + " --- |" * len(head), *told[1:]])
