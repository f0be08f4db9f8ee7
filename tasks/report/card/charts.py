"""The charts of a card: small SVG without text for the page, one PNG for Markdown.

The SVG is stretched to its place. Lines and dots keep their width all the same (`vector-effect`, in the style sheet); a
dot is a line of no length with a round cap. Its words are HTML around it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasks.report.card.facts import CardFacts, EpochLine, Interval, LearningPoint, Remedy, Sensitivity
from tasks.report.card.words import phase_lengths
from tasks.report.charts import INK, MUTED, NIGHT, PALE, bare, defaults, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator

_WIDE, _HIGH = 300.0, 100.0
_MARGIN: Final = 0.06  # of the range, above and below
_MOST_REMEDIES: Final = 10
_MOST_PREPARATIONS: Final = 12
_SMALLEST_RANGE: Final = 1e-3

Point = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """One chart of the page: its words, its SVG, and the numbers at the ends of its axes."""

    name: str
    svg: str
    top: float
    bottom: float


def curve_charts(facts: CardFacts) -> list[Chart]:
    """Loss and accuracy by epoch; a rule where a phase begins, a mark on the epoch whose weights stayed."""
    kept = facts.kept
    kept_place = None if kept is None else facts.curves.index(kept)
    rules, place = [], 0
    for _, length in phase_lengths(facts)[:-1]:
        place += length
        rules.append(place / len(facts.curves))
    charts = []
    for name, training, validation in (
        ("loss", [one.loss for one in facts.curves], [one.val_loss for one in facts.curves]),
        ("accuracy", [one.accuracy for one in facts.curves], [one.val_accuracy for one in facts.curves]),
    ):
        bottom, top = _range([value for value in (*training, *validation) if value is not None])
        paths = [_path("rule", [[(x, 0.0), (x, 1.0)] for x in rules])]
        for kind, values in (("training", training), ("validation", validation)):
            line = [
                (_middle(place, len(values)), _scaled(value, bottom, top))
                for place, value in enumerate(values)
                if value is not None
            ]
            # One epoch is a dot: a line of one point would not be seen.
            paths.append(_path(kind, [line if len(line) > 1 else line * 2]) if line else "")
        if kept_place is not None:
            at = (_middle(kept_place, len(validation)), _scaled(validation[kept_place], bottom, top))
            paths.append(_path("dot validation", [[at, at]]))
        charts.append(Chart(name, _svg(paths), top, bottom))
    return charts


def learning_chart(sizes: Sequence[LearningPoint]) -> Chart:
    """Accuracy with its interval by the number of training images, from none to the most."""
    bottom, top = _range(
        [one.accuracy.mean for one in sizes]
        + [end for one in sizes if one.accuracy.known for end in (one.accuracy.low, one.accuracy.high)]
    )
    most = max(one.images for one in sizes) or 1
    places = [0.97 * one.images / most for one in sizes]
    dots = [(x, _scaled(one.accuracy.mean, bottom, top)) for x, one in zip(places, sizes, strict=True)]
    bars = [
        [(x, _scaled(one.accuracy.low, bottom, top)), (x, _scaled(one.accuracy.high, bottom, top))]
        for x, one in zip(places, sizes, strict=True)
        if one.accuracy.known
    ]
    paths = [_path("validation", [dots]), _path("bar", bars), _path("dot validation", [[dot, dot] for dot in dots])]
    return Chart("accuracy", _svg(paths), top, bottom)


def card_chart(facts: CardFacts) -> bytes | None:
    """The picture of the Markdown card: curves, remedies, learning curve; those that there are. PNG, opaque."""
    compared = [one for one in facts.remedies if one.difference is not None][:_MOST_REMEDIES]
    wrong = 0 if facts.sensitivity is None else min(len(facts.sensitivity.shown), _MOST_PREPARATIONS)
    panels = bool(facts.curves) + bool(wrong) + bool(compared) + (len(facts.learning_curve) > 1)
    if not panels:
        return None
    with defaults():
        figure = new_figure(4.2 * panels, max(2.6, 1.1 + 0.3 * len(compared), 1.1 + 0.2 * wrong), dpi=110)
        figure.set_facecolor("white")
        axes = iter(figure.subplots(1, panels, squeeze=False)[0])
        if facts.curves:
            _draw_curves(next(axes), facts.curves, facts.kept)
        if wrong and facts.sensitivity is not None:
            _draw_preparations(next(axes), facts.sensitivity)
        if compared:
            _draw_remedies(next(axes), compared)
        if len(facts.learning_curve) > 1:
            _draw_learning(next(axes), facts.learning_curve)
        figure.tight_layout(w_pad=2.5)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=110, metadata={"Software": None})
    return png.getvalue()


def _draw_curves(axes: Axes, curves: Sequence[EpochLine], kept: EpochLine | None) -> None:
    _plain(axes, "Accuracy by epoch")
    epochs = [one.epoch for one in curves]
    trained = [(one.epoch, one.accuracy) for one in curves if one.accuracy is not None]
    axes.plot([epoch for epoch, _ in trained], [value for _, value in trained], color=PALE, linewidth=2.5)
    axes.plot(epochs, [one.val_accuracy for one in curves], color=NIGHT, linewidth=1.5)
    if kept is not None:
        axes.plot([kept.epoch], [kept.val_accuracy], marker="o", color=NIGHT, markersize=6)
    axes.set_xlabel("blue validation, grey training, dot kept", fontsize=8, color=MUTED)


def _draw_preparations(axes: Axes, sensitivity: Sensitivity) -> None:
    shown = sensitivity.shown[:_MOST_PREPARATIONS]
    bare(axes, "Accuracy when prepared wrongly", len(shown), [one.variant for one in shown])
    for position, one in enumerate(shown):
        axes.plot([one.accuracy.low, one.accuracy.high], [position, position], color=PALE, linewidth=2.5)
        axes.plot([one.accuracy.value], [position], marker="o", color=NIGHT, markersize=5)
    axes.axvline(sensitivity.pinned.value, color=MUTED, linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="x", labelsize=8, labelcolor=MUTED)
    axes.xaxis.set_major_locator(_ticks())
    axes.set_xlabel("line: as pinned; the costliest first", fontsize=8, color=MUTED)


def _draw_remedies(axes: Axes, remedies: Sequence[Remedy]) -> None:
    bare(axes, "Points over plain, corruption ladder", len(remedies), [one.name for one in remedies])
    for position, one in enumerate(remedies):
        difference = one.difference or Interval(0.0, 0.0, 0.0)
        colour = INK if difference.sign else MUTED
        axes.plot([100 * difference.low, 100 * difference.high], [position, position], color=colour, linewidth=1.5)
        axes.plot([100 * difference.mean], [position], marker="o", color=colour, markersize=5)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.tick_params(axis="x", labelsize=8, labelcolor=MUTED)
    axes.xaxis.set_major_locator(_ticks())


def _draw_learning(axes: Axes, sizes: Sequence[LearningPoint]) -> None:
    _plain(axes, "Accuracy by training images")
    means = [one.accuracy.mean for one in sizes]
    below = [one.accuracy.mean - one.accuracy.low for one in sizes]
    above = [one.accuracy.high - one.accuracy.mean for one in sizes]
    axes.errorbar([one.images for one in sizes], means, yerr=[below, above], color=NIGHT, marker="o", markersize=5)
    axes.set_xlim(left=0)


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.tick_params(labelsize=8, labelcolor=MUTED, length=0)
    axes.xaxis.set_major_locator(_ticks())
    axes.yaxis.set_major_locator(_ticks(whole=False))
    axes.grid(axis="y", color=PALE, linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _ticks(*, whole: bool = True) -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4, integer=whole)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return low, max(high, low + _SMALLEST_RANGE)


def _scaled(value: float, bottom: float, top: float) -> float:
    return _MARGIN + (1 - 2 * _MARGIN) * (value - bottom) / (top - bottom)


def _middle(place: int, of: int) -> float:
    """Epochs stand in the middle of cells of equal width, so that the names of phases can stand above theirs."""
    return (place + 0.5) / of


def _path(kind: str, lines: Sequence[Sequence[Point]]) -> str:
    if not lines:
        return ""
    drawn = "".join("M" + "L".join(f"{_WIDE * x:.1f} {_HIGH * (1 - y):.1f}" for x, y in line) for line in lines)
    return f'<path class="{kind}" d="{drawn}"/>'


def _svg(paths: Sequence[str]) -> str:
    """Trusted markup: it holds numbers only."""
    return (
        f'<svg viewBox="0 0 {_WIDE:.0f} {_HIGH:.0f}" preserveAspectRatio="none" aria-hidden="true" '
        f'focusable="false">{"".join(paths)}</svg>'
    )
