"""Small multiples: each image property tonight over training, and over the nights before, in the order of the drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tasks.report.charts import histogram_svg, shown_range
from tasks.report.drift_lines import DriftLine, effect
from tasks.report.night_page import Mix, NightPage
from tasks.report.over_nights import line_sentence, line_svg, short
from tasks.report.view import histogram_sentence, number

# A line needs two nights.
_FEWEST_NIGHTS: Final = 2
_MOST_NAMES: Final = 4
# Cramér's V of a mix that nobody would call different.
_SMALL_V: Final = 0.2


@dataclass(frozen=True)
class MixLine:
    """One category: shares of tonight's images and of training's."""

    name: str
    tonight: float
    training: float


@dataclass(frozen=True)
class Multiple:
    """One property: a histogram (`svg`, from `low` to `high`) or the shares of its categories, and a line over nights
    (`line`, from night `first` to night `last`) where there were nights before.
    """

    name: str
    note: str
    verdict: str
    moved: bool
    svg: str = ""
    low: str = ""
    high: str = ""
    mix: tuple[MixLine, ...] = ()
    line: str = ""
    first: str = ""
    last: str = ""


def multiples(page: NightPage, lines: Sequence[DriftLine]) -> list[Multiple]:
    """Charts in the order of the drift table, so that what moved comes first; the untested ones after them."""
    of_property = {line.metric: line for line in lines if line.family == "properties"}
    places = {metric: place for place, metric in enumerate(of_property)}
    names = sorted({*page.histograms, *page.mixes}, key=lambda name: (places.get(name, len(places)), name))
    return [_multiple(page, name, of_property.get(name)) for name in names]


def _multiple(page: NightPage, name: str, line: DriftLine | None) -> Multiple:
    words = name.replace("_", " ")
    note = "not compared" if line is None else effect(line)
    made: dict[str, str] = {}
    if name in page.histograms:
        histogram = page.histograms[name]
        low, high = (number(value) for value in shown_range(histogram))
        made = {"svg": histogram_svg(histogram, histogram_sentence(words, histogram)), "low": low}
        made |= {"high": high} if high != low else {}
    series = page.past.get(name)
    if series is not None and len(series.nights) >= _FEWEST_NIGHTS:
        what = words if name in page.histograms else f"difference of {words} from training"
        made |= {
            "line": line_svg(
                series, line_sentence(what, series), from_zero=name not in page.histograms, at_least=_SMALL_V
            ),
            "first": short(series.nights[0]),
            "last": short(series.nights[-1]),
        }
    return Multiple(
        name=words,
        note=f"{note} · {line.verdict}" if line is not None and line.moved else note,
        verdict="ok" if line is None else line.verdict,
        moved=line is not None and line.moved,
        mix=_mix_lines(page.mixes[name]) if name in page.mixes else (),
        **made,
    )


def _mix_lines(mix: Mix) -> tuple[MixLine, ...]:
    """The commonest categories; what else there is, together."""
    tonight, training = (counts / max(1, counts.sum()) for counts in (mix.night, mix.training))
    found = [
        MixLine(name, float(here), float(there))
        for name, here, there in zip(mix.names, tonight, training, strict=True)
        if here > 0 or there > 0
    ]
    found.sort(key=lambda one: (-max(one.tonight, one.training), one.name))
    kept, rest = found[:_MOST_NAMES], found[_MOST_NAMES:]
    if rest:
        kept.append(MixLine(f"{len(rest)} more", sum(one.tonight for one in rest), sum(one.training for one in rest)))
    return tuple(kept)
