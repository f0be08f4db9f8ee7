"""The card of a bundle: what it learned from, how well, how badly where, and what it must not be used for."""

from __future__ import annotations

from tasks.report.card.facts import (
    Adopted,
    CardFacts,
    Confused,
    EpochLine,
    Honesty,
    Interval,
    Ladder,
    LearningPoint,
    PreparationLine,
    Rate,
    Remedy,
    Sensitivity,
    SplitComparison,
    WrongPreparation,
)
from tasks.report.card.markdown import bundle_card
from tasks.report.card.page import bundle_card_html

__all__ = [
    "Adopted",
    "CardFacts",
    "Confused",
    "EpochLine",
    "Honesty",
    "Interval",
    "Ladder",
    "LearningPoint",
    "PreparationLine",
    "Rate",
    "Remedy",
    "Sensitivity",
    "SplitComparison",
    "WrongPreparation",
    "bundle_card",
    "bundle_card_html",
]
