"""Charts over nights: one measure as a small line, with training beside it and a mark on every night that was told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Final

import numpy as np

from tasks.report.charts import ALARM, QUIET, RULE, TONIGHT, TRAINING, WARN, defaults, inline_svg, new_figure
from tasks.report.past import Series
from tasks.report.view import named, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS: Final = {"alarm": ALARM, "warn": WARN}
# Of the range above and below, so that a mark at the edge is whole.
_MARGIN: Final = 0.16


def line_svg(series: Series, said: str, *, from_zero: bool = False, at_least: float = 0.0) -> str:
    """The nights of a series from left to right, by date, as an `<svg>` element: trusted markup.

    Band: a standard deviation of training around its mean; rule: that mean, or zero with `from_zero`; the last night
    and those with an alarm or a warning are dots. A night without a value breaks the line. `at_least` is a height
    that is always in sight, so that chance does not look like a mountain.
    """
    with defaults():
        return inline_svg(_draw_line(new_figure(2.4, 0.5), series, from_zero=from_zero, at_least=at_least), said)


def sum_svg(nights: Sequence[date], sums: Sequence[float], limit: float, said: str) -> str:
    """Evidence summed up over nights, on a logarithmic scale, and the height from which it is an alarm."""
    values = np.log10(np.maximum(np.asarray(sums, np.float64), 0.1))
    verdicts = tuple("alarm" if one >= limit else "ok" for one in sums)
    series = Series(tuple(nights), values, verdicts, float(np.log10(limit)))
    with defaults():
        return inline_svg(_draw_line(new_figure(7.2, 1.1), series, from_zero=False), said)


def line_sentence(name: str, series: Series) -> str:
    """The chart in words: how far it ranged, the last value, training, and which nights were told."""
    known = series.values[np.isfinite(series.values)]
    if not known.size:
        return f"{name}: not measured on any of {len(series.nights)} nights."
    last = float(series.values[-1])
    told = f"{name} over {len(series.nights)} nights: {number(float(known.min()))} to {number(float(known.max()))}"
    told += f", the last {number(last)}" if np.isfinite(last) else ", the last not measured"
    told += "" if series.reference is None else f", training {number(series.reference)}"
    for verdict in ("alarm", "warn"):
        nights = [short(night) for night, one in zip(series.nights, series.verdicts, strict=True) if one == verdict]
        told += f"; {verdict} on {named(nights[::-1])}" if nights else ""
    return f"{told}."


def short(night: date) -> str:
    """`4 Mar`: for the ends of an axis."""
    return f"{night.day} {night:%b}"


def _draw_line(figure: Figure, series: Series, *, from_zero: bool, at_least: float = 0.0) -> Figure:
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    days = np.array([night.toordinal() for night in series.nights], np.float64)
    low, high = _range(series, from_zero=from_zero, at_least=at_least)
    reference = 0.0 if from_zero else series.reference
    if reference is not None:
        if series.spread:
            axes.axhspan(reference - series.spread, reference + series.spread, color=TRAINING, linewidth=0)
        axes.axhline(reference, color=RULE if from_zero else QUIET, linewidth=1)
    axes.plot(days, series.values, color=TONIGHT, linewidth=1.5, solid_joinstyle="round", solid_capstyle="round")
    for day, value, verdict in zip(days, series.values, series.verdicts, strict=True):
        if verdict in _MARKS and np.isfinite(value):
            dot(axes, day, value, _MARKS[verdict], 6)
    if len(days) and np.isfinite(series.values[-1]) and series.verdicts[-1] not in _MARKS:
        dot(axes, days[-1], series.values[-1], TONIGHT, 6)
    first, last = (days[0], days[-1]) if len(days) else (0.0, 1.0)
    room = max(0.03 * (last - first), 0.05)
    axes.set_xlim(first - room, last + room)
    axes.set_ylim(low, high)
    axes.set_axis_off()
    return figure


def dot(axes: Axes, day: float, value: float, colour: str, size: float) -> None:
    """A line of no length with a round end: the chart is stretched to its place, and a circle would be with it."""
    axes.plot([day, day], [value, value], color=colour, linewidth=size, solid_capstyle="round")


def _range(series: Series, *, from_zero: bool, at_least: float) -> tuple[float, float]:
    """What is seen: every value, training, and never less than a standard deviation of it around its mean."""
    seen = series.values[np.isfinite(series.values)].tolist()
    if from_zero:
        seen += [0.0, at_least]
    elif series.reference is not None:
        spread = series.spread or 0.0
        seen += [series.reference - spread, series.reference + spread]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    room = _MARGIN * (high - low) or max(abs(low) * 0.1, 0.5)
    return low - room, high + room
