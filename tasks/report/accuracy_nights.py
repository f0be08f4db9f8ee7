"""Accuracy over nights in one chart: as estimated without labels, beside validation and what labels said later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.report.charts import PAPER, QUIET, TONIGHT, TRAINING, defaults, inline_svg, new_figure
from tasks.report.over_nights import dot, short
from tasks.report.past import PastNight
from tasks.report.view import named, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The scale ends at round shares, so that two of them, told in words, are enough to read it.
_STEP: Final = 0.1
# Of the height: the tick at the foot of a night whose estimate was refused.
_TICK: Final = 0.09
# A bar a night: they touch where there are many, and are no wider than this where there are few.
_WIDEST_BAR, _ROOM_FOR_BARS = 6.0, 300.0


@dataclass(frozen=True)
class AccuracyTrend:
    """The chart (`svg`, from `low` to `high` in words), the last night in words, and what the chart holds."""

    last: str
    svg: str
    low: str
    high: str
    validation: bool
    refused: bool
    labelled: bool


def accuracy_trend(nights: Sequence[PastNight]) -> AccuracyTrend | None:
    """Of the nights, the oldest first; None where accuracy was neither estimated, refused nor told by labels."""
    if not any(one.estimate or one.labelled for one in nights):
        return None
    low, high = _scale(nights)
    with defaults():
        svg = inline_svg(_draw(new_figure(4.8, 0.9), nights, low, high), accuracy_sentence(nights))
    return AccuracyTrend(
        last=_last(nights),
        svg=svg,
        low=share(low),
        high=share(high),
        validation=_validation(nights) is not None,
        refused=any(_refused(one) for one in nights),
        labelled=any(one.labelled for one in nights),
    )


def accuracy_sentence(nights: Sequence[PastNight]) -> str:
    """The chart in words: the range of the estimates, validation, which were refused, and what labels said."""
    values = [one.estimate.value for one in nights if one.estimate and one.estimate.value is not None]
    told = f"Estimated accuracy over {len(nights)} nights: "
    told += f"{share(min(values))} to {share(max(values))}" if values else "not estimated on any of them"
    validation = _validation(nights)
    told += "" if validation is None else f"; on validation {share(validation)}"
    refused = [short(one.night) for one in nights if _refused(one)]
    told += f"; refused on {named(refused[::-1])}" if refused else ""
    labels = [f"{share(one.labelled.accuracy)} on {short(one.night)}" for one in nights if one.labelled]
    told += f"; by labels {named(labels[::-1])}" if labels else ""
    return f"{told}."


def _last(nights: Sequence[PastNight]) -> str:
    estimate, validation = nights[-1].estimate, _validation(nights)
    if estimate is None:
        told = "the last night not estimated"
    elif estimate.value is None or estimate.low is None or estimate.high is None:
        told = "the last night refused"
    else:
        told = f"{share(estimate.value)} ({share(estimate.low)} to {share(estimate.high)})"
    told += "" if validation is None else f", on validation {share(validation)}"
    labelled = nights[-1].labelled
    return told if labelled is None else f"{told}; labels say {share(labelled.accuracy)}"


def _refused(one: PastNight) -> bool:
    return one.estimate is not None and one.estimate.value is None


def _validation(nights: Sequence[PastNight]) -> float | None:
    """Of the newest night that states it."""
    known = [one.estimate.validation for one in nights if one.estimate and one.estimate.validation is not None]
    return known[-1] if known else None


def _scale(nights: Sequence[PastNight]) -> tuple[float, float]:
    """Round shares around everything that is drawn."""
    told = [one.estimate for one in nights if one.estimate] + [one.labelled for one in nights if one.labelled]
    seen = [value for one in told for value in (one.low, one.high) if value is not None]
    seen += [value for value in (_validation(nights),) if value is not None]
    if not seen:
        return 0.0, 1.0
    low = min(max(0.0, _STEP * math.floor(min(seen) / _STEP)), 1.0 - _STEP)
    return low, min(1.0, max(_STEP * math.ceil(max(seen) / _STEP), low + _STEP))


def _draw(figure: Figure, nights: Sequence[PastNight], low: float, high: float) -> Figure:
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    first, last = nights[0].night.toordinal(), nights[-1].night.toordinal()
    bar = min(_WIDEST_BAR, _ROOM_FOR_BARS / (last - first + 1))
    values = np.full(len(nights), np.nan)
    for place, one in enumerate(nights):
        day, told = one.night.toordinal(), one.estimate
        if told is not None and told.value is not None and told.low is not None and told.high is not None:
            values[place] = told.value
            axes.plot([day, day], [told.low, told.high], color=TRAINING, linewidth=bar, solid_capstyle="butt")
        elif told is not None:
            axes.plot([day, day], [low, low + _TICK * (high - low)], color=QUIET, linewidth=2, solid_capstyle="butt")
    validation = _validation(nights)
    if validation is not None:
        axes.axhline(validation, color=QUIET, linewidth=1)
    days = [one.night.toordinal() for one in nights]
    axes.plot(days, values, color=TONIGHT, linewidth=1.5, solid_joinstyle="round", solid_capstyle="round")
    for day, value in zip(days, values, strict=True):
        if np.isfinite(value):  # a night between two refused ones has no line
            dot(axes, day, value, TONIGHT, 3)
    for one in nights:
        if one.labelled is not None:
            day = one.night.toordinal()
            axes.plot([day, day], [one.labelled.low, one.labelled.high], color=TONIGHT, linewidth=1)
            dot(axes, day, one.labelled.accuracy, TONIGHT, 9)
            dot(axes, day, one.labelled.accuracy, PAPER, 5)
    room = max(0.03 * (last - first), 0.5)
    axes.set_xlim(first - room, last + room)
    margin = 0.04 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    axes.set_axis_off()
    return figure
