"""Where the model is weak: its worst class, its worst corruption, what is taken for what, and what it is not for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tasks.report.card.facts import CardFacts, Ladder, Rate
from tasks.report.view import named

_MOST_CONFUSIONS: Final = 10
_NAMED_KINDS: Final = 3
_MIDDLE: Final = 3  # the strength that sentences speak of: seen at once, and no caricature


@dataclass(frozen=True)
class ClassFigures:
    """One class on validation images."""

    name: str
    recall: Rate  # of the images of this class, the share that is found
    precision: Rate  # of the images called this class, the share that is of it


@dataclass(frozen=True)
class Kind:
    """One row of the ladder: accuracy by strength, and its mean."""

    name: str
    accuracy: tuple[float, ...]
    mean: float

    @property
    def middle(self) -> float:
        """Accuracy at the strength that sentences speak of."""
        return self.accuracy[min(_MIDDLE, len(self.accuracy)) - 1]


def class_figures(facts: CardFacts) -> list[ClassFigures]:
    """Recall and precision of each class, with Wilson's intervals."""
    figures = []
    for place, name in enumerate(facts.classes):
        hits = facts.confusion[place][place]
        called = sum(row[place] for row in facts.confusion)
        figures.append(ClassFigures(name, Rate.of(hits, sum(facts.confusion[place])), Rate.of(hits, called)))
    return figures


def worst_class(facts: CardFacts) -> ClassFigures | None:
    """The class that is found least often, where one is missed at all."""
    measured = [one for one in class_figures(facts) if one.recall.n]
    worst = min(measured, key=lambda one: one.recall.value, default=None)
    return worst if worst is not None and worst.recall.value < 1 else None


def commonest_confusions(facts: CardFacts) -> list[tuple[str, str, int]]:
    """(true, predicted, images), the commonest first."""
    pairs = [
        (true, predicted, facts.confusion[i][j])
        for i, true in enumerate(facts.classes)
        for j, predicted in enumerate(facts.classes)
        if i != j and facts.confusion[i][j]
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:_MOST_CONFUSIONS]


def kinds(ladder: Ladder) -> list[Kind]:
    """The rows of the ladder, the worst first."""
    rows = [
        Kind(name.replace("_", " "), row, sum(row) / len(row))
        for name, row in zip(ladder.kinds, ladder.accuracy, strict=True)
        if row
    ]
    return sorted(rows, key=lambda row: (row.mean, row.name))


def weaknesses(facts: CardFacts) -> list[str]:
    """The worst class and the worst corruptions, in sentences."""
    told = []
    worst = worst_class(facts)
    if worst is not None:
        line = f"Of {worst.name} it finds {worst.recall}"
        instead = [pair for pair in commonest_confusions(facts) if pair[0] == worst.name]
        told.append(f"{line}; {instead[0][2]:,} were called {instead[0][1]}." if instead else f"{line}.")
    elif any(sum(row) for row in facts.confusion):
        told.append("No validation image was called by another class's name.")
    return [*told, ladder_sentence(facts.ladder)]


def ladder_sentence(ladder: Ladder | None) -> str:
    """What blur, noise, light and compression cost."""
    if ladder is None or not kinds(ladder):
        return "What blur, noise, other light or compression cost was not measured."
    clean = f"clean, on {_share(ladder.clean.value)} of the same {ladder.images:,} images"
    # A loss within the interval of the clean accuracy could be the draw of the images.
    noise = ladder.clean.value - ladder.clean.low
    rows = kinds(ladder)
    strength = min(_MIDDLE, ladder.strengths)
    bad = [row for row in rows if ladder.clean.value - row.middle > noise][:_NAMED_KINDS]
    if not bad:
        return (
            f"No kind of corruption costs more at strength {strength} than the interval of the accuracy allows; the "
            f"worst is {rows[0].name}, on which it is right on {_share(rows[0].middle)}; {clean}."
        )
    first, *others = bad
    said = f"Under {first.name} of strength {strength} it is right on {_share(first.middle)}"
    said += "".join(f", under {row.name} on {_share(row.middle)}" for row in others)
    return f"{said}; {clean}. The mean over all kinds and strengths is {_share(ladder.mean)}."


def limits(facts: CardFacts) -> list[str]:
    """What the bundle must not be used for: what holds for every classifier, then what this one shows."""
    told = [
        f"Images of anything but its {len(facts.classes)} classes: it always answers with one of them.",
        "Images prepared by other code: the figures above hold for the pinned preprocessing only.",
        "Other cameras, places or light than in training, before nights have shown that they do not matter.",
    ]
    worst = worst_class(facts)
    if worst is not None:
        told.append(
            f"Decisions that nobody checks: {1 - worst.recall.value:.0%} of the validation images of "
            f"{worst.name} were called something else."
        )
    if facts.ladder is not None:
        lost = [row.name for row in kinds(facts.ladder) if row.middle < 0.5]
        if lost:
            strength = min(_MIDDLE, facts.ladder.strengths)
            told.append(f"Images under {named(lost)}: at strength {strength} it is wrong on more than half of them.")
    return [*told, *facts.not_for]


def _share(value: float) -> str:
    return f"{value:.0%}"
