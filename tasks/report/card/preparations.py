"""What wrong preparations cost: the rows of the card's table, their strip, and what they say in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tasks.report.card.facts import Sensitivity, WrongPreparation
from tasks.report.view import named

MOST_OPEN: Final = 12  # rows that the card opens with
_MANY: Final = 0.05  # of the answers: more than a glance at a few images misses


@dataclass(frozen=True)
class PreparationRow:
    """One wrong preparation; where its dot and interval sit in a strip from 0 to 100 %, and how bad it is."""

    one: WrongPreparation
    verdict: str
    css: str


def preparation_rows(sensitivity: Sensitivity) -> list[PreparationRow]:
    """Those that these images show, the costliest first; the strip marks the accuracy of the pinned preparation."""
    pinned = sensitivity.pinned.value
    rows = []
    for one in sensitivity.shown:
        rate = one.accuracy
        css = (
            f"--z:{_place(pinned):.1f}%;--l:{_place(rate.low):.1f}%;"
            f"--w:{_place(rate.high) - _place(rate.low):.1f}%;--m:{_place(rate.value):.1f}%"
        )
        verdict = "alarm" if one.flips >= _MANY else "warn" if one.flips else "empty"
        rows.append(PreparationRow(one, verdict, css))
    return rows


def sensitivity_sentence(sensitivity: Sensitivity) -> str:
    """What the worst costs, how many change answers, and how many cannot be seen by answers alone."""
    shown = sensitivity.shown
    if not shown:
        return "No wrong preparation changes a probability of these images by 0.001 or more."
    worst = shown[0]
    said = (
        f"Prepared wrongly, it is right on as few as {worst.accuracy.value:.0%} of {sensitivity.images:,} held-out "
        f"images instead of {sensitivity.pinned.value:.0%} ({worst.variant}: {worst.what}). Of "
        f"{len(sensitivity.rows):,} wrong preparations {len(shown):,} show on these images"
    )
    many = sum(one.flips >= _MANY for one in shown)
    quiet = sum(one.flips == 0 for one in shown)
    parts = [f"{many:,} {_change(many)} at least one answer in twenty"] if many else []
    parts += [f"{quiet:,} {_change(quiet)} no answer, only probabilities"] if quiet else []
    return f"{said}; {', and '.join(parts)}." if parts else f"{said}."


def unseen_sentences(sensitivity: Sensitivity) -> list[str]:
    """What these images, and what this model, cannot show."""
    told = []
    if sensitivity.unseen:
        names = named([one.variant for one in sensitivity.unseen], most=20)
        told.append(f"These images cannot show {names}.")
    return [*told, *(f"{variant} cannot be shown: {why}." for variant, why in sensitivity.not_shown.items())]


def images_word(one: WrongPreparation) -> str:
    """How many images tell it from the pinned preparation."""
    return "–" if one.images_to_tell is None else f"{one.images_to_tell:,}"


def _change(count: int) -> str:
    return "changes" if count == 1 else "change"


def _place(share: float) -> float:
    return 4 + 92 * min(1.0, max(0.0, share))
