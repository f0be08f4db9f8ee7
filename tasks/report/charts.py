"""The charts of a night, drawn with matplotlib's objects (never pyplot, whose figures are global and never freed).

Charts inside the page are SVG without drawn text: its colours are the page's own variables, so that they follow light
and dark; its words are HTML around it, so that they follow the reader's font. A title says what is seen.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from markupsafe import escape
from numpy.typing import NDArray

from tasks.report.drift_lines import DriftLine
from tasks.report.night_page import Histogram
from tasks.report.untrusted import visible
from tasks.report.view import ClassShare, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-ins that matplotlib understands → variables of the page's style sheet.
_THEME: Final = {
    "#010203": "var(--training)",
    "#010204": "var(--tonight)",
    "#010205": "var(--rule)",
    "#010206": "var(--warn)",
    "#010207": "var(--alarm)",
    "#010208": "var(--quiet)",
    "#010209": "var(--paper)",
}
TRAINING, TONIGHT, RULE, WARN, ALARM, QUIET, PAPER = _THEME
INK, MUTED, PALE, NIGHT = "#22211e", "#6a665e", "#cdc8be", "#2b5f8f"
_COLOURS: Final = {"alarm": "#b3261e", "warn": "#a86a00"}
_LONGEST_LABEL = 22
_LONGEST_TITLE = 400
_NEVER_SHOWN = "\u25a1"


def histogram_svg(histogram: Histogram, said: str = "") -> str:
    """Shares of tonight's images (line) over shares of the training images (filled), as an `<svg>` element.

    Trusted markup: it holds numbers, and `said`, escaped.
    """
    with defaults():
        return inline_svg(_draw_histogram(new_figure(2.4, 0.8), histogram), said)


def shown_range(histogram: Histogram) -> tuple[float, float]:
    """Where the chart's x axis begins and ends: empty bins at both ends are cut off."""
    edges, _, _ = _trimmed(histogram)
    return float(edges[0]), float(edges[-1])


def night_chart(classes: Sequence[ClassShare], drift: Sequence[DriftLine], *, most: int = 8) -> bytes:
    """The picture of the Prefect artifact: predicted classes beside training, and the largest shifts. PNG, opaque."""
    shifts = [line for line in drift if line.effect is not None][:most]
    with defaults():
        figure = new_figure(7.4, 0.8 + 0.28 * max(4, min(most, len(classes)), len(shifts)), dpi=110)
        figure.set_facecolor("white")
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.17, right=0.97, top=0.88, bottom=0.12, wspace=0.66)
        _draw_classes(left, classes[:most])
        _draw_effects(right, shifts)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=110, metadata={"Software": None})
    return png.getvalue()


def _draw_histogram(figure: Figure, histogram: Histogram) -> Figure:
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    edges, night, training = _trimmed(histogram)
    axes.stairs(training, edges, fill=True, color=TRAINING, linewidth=0, clip_on=False)
    axes.stairs(night, edges, color=TONIGHT, linewidth=1.3, clip_on=False)
    tallest = max(float(night.max(initial=0.0)), float(training.max(initial=0.0)), 1e-9)
    axes.set_ylim(-0.02 * tallest, 1.06 * tallest)
    axes.set_xlim(edges[0], edges[-1])
    axes.axhline(0, color=RULE, linewidth=1, clip_on=False)
    axes.set_axis_off()
    return figure


def _draw_classes(axes: Axes, classes: Sequence[ClassShare]) -> None:
    bare(axes, "Predicted classes", len(classes), [one.name for one in classes])
    for position, one in enumerate(classes):
        axes.barh(position, one.tonight_share, height=0.5, color=NIGHT)
        axes.plot(
            [one.training_share] * 2, [position - 0.38, position + 0.38], color=INK, linewidth=2, solid_capstyle="butt"
        )
        where = max(one.tonight_share, one.training_share)
        axes.annotate(
            share(one.tonight_share), (where, position), (5, 0), textcoords="offset points", va="center",
            fontsize=8, color=MUTED,
        )  # fmt: skip
    longest = max((max(one.tonight_share, one.training_share) for one in classes), default=1.0)
    axes.set_xlim(0, max(longest, 1e-9) * 1.25)
    axes.set_xlabel("bar tonight, mark training", fontsize=8, color=MUTED)


def _draw_effects(axes: Axes, drift: Sequence[DriftLine]) -> None:
    bare(axes, "Largest shifts", len(drift), [line.name for line in drift])
    widest = max((abs(line.effect or 0.0) for line in drift), default=0.0)
    widest = max([widest, *(line.detectable or 0.0 for line in drift), 1e-9])
    for position, line in enumerate(drift):
        colour, effect = _COLOURS.get(line.verdict, MUTED), line.effect or 0.0
        if line.detectable is not None:
            axes.barh(
                position, 2 * line.detectable, left=-line.detectable, height=0.62, color=PALE, alpha=0.6, linewidth=0
            )
        axes.plot([0, effect], [position, position], color=colour, linewidth=2)
        axes.plot([effect], [position], marker="o", color=colour, markersize=5)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_xlim(-1.1 * widest, 1.1 * widest)
    axes.set_xlabel("effect (grey: not told from chance)", fontsize=8, color=MUTED)


def bare(axes: Axes, title: str, rows: int, labels: Sequence[str]) -> None:
    """Labels left, no frame: the ink is for the data."""
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.set_yticks(range(rows), [drawable(label) for label in labels], fontsize=8, color=INK, parse_math=False)
    axes.set_ylim(max(rows, 1) - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.set_xticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if not rows:
        axes.text(0.0, 0.5, "nothing to show", transform=axes.transAxes, fontsize=9, color=MUTED)


def _trimmed(histogram: Histogram) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Edges and both sides as shares, without the bins at the ends in which neither has an image."""
    edges = np.asarray(histogram.edges, dtype=np.float64)
    night, training = _shares(histogram.night), _shares(histogram.training)
    filled = np.flatnonzero((night > 0) | (training > 0))
    if filled.size:
        first, last = int(filled[0]), int(filled[-1]) + 1
        edges, night, training = edges[first : last + 1], night[first:last], training[first:last]
    return edges, night, training


def _shares(counts: NDArray[Any]) -> NDArray[np.float64]:
    values = np.asarray(counts, dtype=np.float64)
    total = float(values.sum())
    return values / total if total > 0 else values


def defaults() -> AbstractContextManager[None]:
    """The library as it comes: the same chart whatever the user's matplotlibrc says."""
    # The first import on a machine builds a font cache and warns that it does; who reads a night needs not know.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib import style

    return style.context("default")


def new_figure(width: float, height: float, dpi: float = 72) -> Figure:
    """Inches; never registered with pyplot, so that it is freed when it goes out of use."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=dpi)


def drawable(label: str) -> str:
    """A label that the font can draw: matplotlib warns about a glyph it does not have, once a glyph."""
    shown = visible(label, _LONGEST_LABEL)
    known = _glyphs()
    return "".join(character if ord(character) in known else _NEVER_SHOWN for character in shown)


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def inline_svg(figure: Figure, said: str = "") -> str:
    """The bare `<svg>` element: no prologue, no metadata, no ids (a page holds many), the page's colours.

    `said` is its title, for whoever hears the page or points at the chart; without one it is decoration.
    """
    text = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<defs>.*?</defs>|<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' (id|clip-path)="[^"]*"', "", body)
    body = re.sub(r"(\d+\.\d{2})\d+", r"\1", body)
    body = re.sub(r"\s*\n\s*", " ", body).replace("> <", "><").strip()
    for stand_in, variable in _THEME.items():
        body = body.replace(stand_in, variable)
    width, height = figure.get_size_inches() * 72
    heard = 'role="img"' if said else 'aria-hidden="true"'
    title = f"<title>{escape(visible(said, _LONGEST_TITLE))}</title>" if said else ""
    return (
        f'<svg viewBox="0 0 {width:.6g} {height:.6g}" preserveAspectRatio="none" {heard} focusable="false">'
        f"{title}{body}</svg>"
    )
