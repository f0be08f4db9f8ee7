"""The last nights as one small PNG for the Prefect artifact: how many images, the verdict, the estimated accuracy."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tasks.report.charts import INK, MUTED, NIGHT, PALE, defaults, new_figure
from tasks.report.over_nights import short
from tasks.report.past import PastNight

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: Final = {"ok": "#1d6b41", "warn": "#a86a00", "alarm": "#b3261e"}
_SUSPECT: Final = "#d99a2b"
_ASIDE: Final = "#6a665e"
_FEWEST: Final = 5  # places on the axis, so that a single night is no wall


def nights_chart(nights: Sequence[PastNight]) -> bytes:
    """The oldest first, tonight the last; opaque, as wide as the picture of tonight."""
    with defaults():
        figure = new_figure(7.4, 2.1, dpi=110)
        figure.set_facecolor("white")
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.05, right=0.97, top=0.84, bottom=0.2, wspace=0.2)
        _draw_images(left, nights)
        _draw_accuracy(right, nights)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=110, metadata={"Software": None})
    return png.getvalue()


def nights_in_words(nights: Sequence[PastNight]) -> str:
    """The chart for whoever does not see it."""
    return "; ".join(f"{one.night} {one.verdict}, {one.scored:,} images" for one in nights)


def _draw_images(axes: Axes, nights: Sequence[PastNight]) -> None:
    _bare(axes, "Images a night", nights)
    tallest = max((one.scored + one.quarantined for one in nights), default=0) or 1
    for place, one in enumerate(nights):
        bottom = 0
        for count, colour in (
            (one.scored - one.suspect, NIGHT),
            (one.suspect, _SUSPECT),
            (one.quarantined, _ASIDE),
        ):
            axes.bar(place, count, bottom=bottom, width=0.62, color=colour, linewidth=0)
            bottom += count
        axes.annotate(
            one.verdict if one.verdict in _COLOURS else "empty", (place, bottom), (0, 3), textcoords="offset points",
            ha="center", fontsize=8, color=_COLOURS.get(one.verdict, MUTED), fontweight="bold",
        )  # fmt: skip
    axes.set_ylim(0, 1.18 * tallest)
    for x, (word, colour) in zip(
        (0.42, 0.63, 0.83), (("trusted", NIGHT), ("suspect", _SUSPECT), ("set aside", _ASIDE)), strict=True
    ):
        axes.text(x, 1.07, word, transform=axes.transAxes, fontsize=8, color=colour, fontweight="bold")


def _draw_accuracy(axes: Axes, nights: Sequence[PastNight]) -> None:
    _bare(axes, "Estimated accuracy", nights)
    lowest = 1.0
    for place, one in enumerate(nights):
        told = one.estimate
        if told is None or told.value is None or told.low is None or told.high is None:
            axes.text(place, 0.02, "–", transform=axes.get_xaxis_transform(), ha="center", color=MUTED, fontsize=9)
            continue
        axes.plot([place, place], [told.low, told.high], color=PALE, linewidth=6, solid_capstyle="butt")
        axes.plot([place], [told.value], marker="o", markersize=5, color=NIGHT)
        axes.annotate(
            f"{told.value:.0%}", (place, told.value), (6, 0), textcoords="offset points", va="center", fontsize=8,
            color=INK,
        )  # fmt: skip
        lowest = min(lowest, told.low)
    known = [one.estimate.validation for one in nights if one.estimate is not None and one.estimate.validation]
    if known:
        axes.axhline(known[-1], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(0.62, 1.07, f"dashed: validation {known[-1]:.0%}", transform=axes.transAxes, fontsize=8, color=MUTED)
        lowest = min(lowest, known[-1])
    axes.set_ylim(max(0.0, lowest - 0.1), 1.03)


def _bare(axes: Axes, title: str, nights: Sequence[PastNight]) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold", pad=9)
    axes.set_xticks(range(len(nights)), [short(one.night) for one in nights], fontsize=8, color=INK)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.set_xlim(-0.6, max(len(nights), _FEWEST) - 0.4)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(PALE)
