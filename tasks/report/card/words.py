"""The sentences of a card: what its numbers say, and what they do not tell from chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from tasks.report import view
from tasks.report.card.facts import CardFacts, Interval, LearningPoint, Remedy
from tasks.report.view import named

_NOT_AUDITED: Final = "Near-duplicates across the split and doubtful labels were not looked for."
_ADOPTED: Final = (
    "The model was made elsewhere. Whether it has learned from these photos darkroom cannot know: where it has, the "
    "accuracy flatters. Its preparation, unless it was stated, was chosen on them, too, which flatters a little."
)
_WORTH_SAYING: Final = 0.005  # half a point: a restated accuracy nearer than that is the stated one


def headline(facts: CardFacts) -> str:
    """What to believe first: the honest accuracy."""
    honest = facts.honest
    if honest is None or not honest.n:
        return "How often it is right was not measured: no image was held out"
    of = "images it had not seen" if facts.adopted is None else "the photos it was adopted with"
    return f"Right on {honest.value:.1%} of {of} ({honest.low:.1%} to {honest.high:.1%})"


def caution(facts: CardFacts) -> tuple[str, str] | None:
    """What to know beside the headline, as a stamp and a sentence; nothing where an audit found the accuracy true."""
    if facts.adopted is not None:
        return "adopted", _ADOPTED
    if facts.honesty is None:
        return "not audited", _NOT_AUDITED
    if flattered(facts):
        return "flattered", f"Validation as it was split says {facts.honesty.stated.value:.1%}."
    if facts.honesty.in_doubt:
        return "in doubt", "Sessions stand on both sides of the split."
    return None


def flattered(facts: CardFacts) -> bool:
    """Whether the validation as it was split says more than is true."""
    honesty = facts.honesty
    if honesty is None or honesty.restated is None or not honesty.restated.n:
        return False
    return honesty.stated.value - honesty.restated.value >= _WORTH_SAYING


def honesty_findings(facts: CardFacts) -> list[tuple[str, str, str]]:
    """What was looked for and what was found: (verdict, kind, sentence)."""
    honesty = facts.honesty
    if honesty is None:
        return []
    twins, suspects = honesty.duplicates, honesty.label_suspects
    found = []
    if twins:
        many = "image is a near-duplicate" if twins == 1 else "images are near-duplicates"
        found.append(("warn", "duplicates", f"{twins:,} validation {many} of training images."))
    else:
        found.append(("ok", "duplicates", "No validation image is a near-duplicate of a training image."))
    if honesty.sessions is not None:
        found.append(("warn", "sessions", honesty.sessions))
    if suspects:
        found.append(("warn", "labels", f"{_images(suspects)} {_have(suspects)} a label that may be wrong."))
    return [*found, *(("warn", "shortcut", shortcut) for shortcut in honesty.shortcuts)]


def split_sentence(facts: CardFacts) -> str:
    """How the images were split."""
    if facts.adopted is not None:
        return (
            "The photos were split in halves: one, called train, says what is normal; on the other, called validation, "
            "the accuracy was measured."
        )
    if facts.grouping == "image":
        return "Split image by image: photos of one session may stand on both sides, which flatters the accuracy."
    groups = ", ".join(f"{count:,} in {split}" for split, count in facts.groups.items())
    return f"Split by {facts.grouping}, so that no group stands on both sides" + (f": {groups}." if groups else ".")


def accuracy_sentence(facts: CardFacts) -> str:
    """How far training and validation lie apart, which is what overfitting looks like."""
    if facts.adopted is not None:
        return _ADOPTED
    train, validation = facts.accuracy.get("train"), facts.accuracy.get("validation")
    if train is None or validation is None or not train.n or not validation.n:
        return "Accuracy was not measured on both splits."
    by_heart = "the model knows its training images by heart, in part."
    if facts.gap is None:
        gap = 100 * (train.value - validation.value)
        if validation.high >= train.low:
            return f"Training and validation are {abs(gap):.1f} points apart, no more than their intervals allow."
        return f"Training is {gap:.1f} points above validation: {by_heart}"
    between = Interval(*(value / 100 for value in facts.gap))
    if between.sign > 0:
        return f"Training is {points(between)} above validation: {by_heart}"
    if between.sign < 0:
        return f"Validation is {points(between, turned=True)} above training: its images are the easier ones."
    # The interval is told the way round in which the difference is not negative.
    return (
        f"Training and validation are {points(between, turned=between.mean < 0)} apart, which is not told from chance."
    )


def calibration_sentence(facts: CardFacts) -> str:
    """Whether a stated confidence may be believed."""
    before, after = facts.calibration_error_before, facts.calibration_error_after
    if before is None:
        return "The calibration error was not measured."
    told = f"The expected calibration error on validation images is {before:.3f}"
    if after is None:
        return f"{told}."
    at = "" if facts.temperature is None else f" (temperature {facts.temperature:.3g})"
    return (
        f"{told} as the model gives its probabilities, and {after:.3f} after temperature scaling{at}: a stated "
        f"confidence is then {100 * after:.1f} points off on average."
    )


def curves_sentence(facts: CardFacts) -> str:
    """How long it learned, which epoch stayed, and what came after it."""
    kept = facts.kept
    phases = [f"{count} of {phase}" for phase, count in phase_lengths(facts)]
    said = f"{len(facts.curves)} epoch{'' if len(facts.curves) == 1 else 's'}"
    said += f" ({named(phases, most=6)})" if len(phases) > 1 else ""
    if kept is None:
        return f"{said}."
    said += f"; the weights of epoch {kept.epoch} stayed, with a validation loss of {kept.val_loss:.3f}"
    last = facts.curves[-1]
    if last.epoch > kept.epoch and last.val_loss > kept.val_loss:
        said += f"; at the end it was {last.val_loss:.3f}"
    return f"{said}."


def phase_lengths(facts: CardFacts) -> list[tuple[str, int]]:
    """Phases in their order, and how many epochs each had."""
    lengths: list[tuple[str, int]] = []
    for one in facts.curves:
        if lengths and lengths[-1][0] == one.phase:
            lengths[-1] = (one.phase, lengths[-1][1] + 1)
        else:
            lengths.append((one.phase, 1))
    return lengths


def remedies_sentence(remedies: Sequence[Remedy]) -> str:
    """What is worth it, what costs, and what is not told from chance."""
    compared = [(one, one.difference) for one in remedies if one.difference is not None]
    if not compared:
        return "No remedy was compared with the plain recipe."
    compared.sort(key=lambda pair: -pair[1].mean)
    parts = []
    for sign, verb in ((1, "gains"), (-1, "loses")):
        told = [
            f"{one.name} {verb} {points(difference, turned=sign < 0)}"
            for one, difference in compared
            if difference.sign == sign
        ]
        if told:
            parts.append(named(told, most=6))
    untold = [one.name for one, difference in compared if difference.sign == 0]
    if untold:
        parts.append(f"{named(untold, most=6)} {_are(len(untold))} not told from chance")
    recipe = next((one for one in remedies if one.is_recipe), None)
    best = max(remedies, key=lambda one: one.ladder.mean)
    said = f"Over the corruption ladder, against {remedies[0].name}: {'; '.join(parts)}."
    if recipe is None:
        return said
    if recipe is best:
        return f"{said} This bundle was made with {recipe.name}, the best of them on average."
    return f"{said} This bundle was made with {recipe.name}; the best on average is {best.name}."


def learning_sentence(sizes: Sequence[LearningPoint]) -> str:
    """Whether more images still help: the last step against its interval."""
    if len(sizes) < 2:
        return "One size of training set tells nothing of another."
    before, last = sizes[-2], sizes[-1]
    step = last.accuracy.mean - before.accuracy.mean
    reach = math.hypot(last.accuracy.mean - last.accuracy.low, before.accuracy.high - before.accuracy.mean)
    said = (
        f"From {before.images:,} training images to {last.images:,}, accuracy went from "
        f"{before.accuracy.mean:.1%} to {last.accuracy.mean:.1%}"
    )
    if step > reach:
        return f"{said}, more than the intervals allow: more images still help."
    return f"{said}, no more than the intervals allow: whether more images help is not told."


def goldens_sentence(facts: CardFacts) -> str:
    """What is replayed before every night."""
    if not facts.goldens:
        return "No golden is sealed in it."
    of_kinds = ", ".join(f"{count} {kind}" for kind, count in facts.golden_kinds.items())
    return f"{facts.goldens} training images are sealed in it and replayed before every night" + (
        f"; among them {of_kinds}." if of_kinds else "."
    )


def points(interval: Interval, *, turned: bool = False) -> str:
    """Shares as points: `4.1 points (2.2 to 6.0)`; turned where a loss is told as a positive number."""
    mean, low, high = interval.mean, interval.low, interval.high
    if not interval.known:
        return f"{view.points(-mean if turned else mean)} points"
    if turned:
        mean, low, high = -mean, -high, -low
    return f"{view.points(mean)} points ({view.points(low)} to {view.points(high)})"


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
