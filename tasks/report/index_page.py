"""One page over all nights, made from the results alone after each commit: a lost one is there again after the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from darkroom.results import bundles
from darkroom.schemas import metric_in_words
from darkroom.storage import Storage, storage_at
from tasks.held import held
from tasks.report.accuracy_nights import AccuracyTrend, accuracy_trend
from tasks.report.drift_lines import SPREAD
from tasks.report.over_nights import line_sentence, line_svg, short
from tasks.report.page import environment
from tasks.report.past import INDEX, PastNight, Series, counted, drift_of, page_address, page_key, past_nights
from tasks.report.view import as_float, named, number, share

_LOCK: Final = "reports-index"
_PATIENCE_SECONDS: Final = 20.0
_WEEKS: Final = 20
_TREND_NIGHTS: Final = 60
_MOST_BUNDLES: Final = 12
_MOST_LINES: Final = 366
_OPEN_LINES: Final = 31
_MOST_MOVED: Final = 10
_VERDICTS: Final = ("ok", "warn", "alarm", "empty")


@dataclass(frozen=True)
class Week:
    """Seven days from Monday; `month` where the week holds the first of one."""

    month: str
    days: tuple[PastNight | None, ...]


@dataclass(frozen=True)
class Trend:
    """One measure over the nights: its line, and the last value and the range in words."""

    name: str
    last: str
    svg: str


@dataclass(frozen=True)
class Moved:
    """A measure that differed from training on some nights: (night, verdict, effect in words) of each night."""

    name: str
    sentence: str
    cells: tuple[tuple[date, str, str], ...]


@dataclass(frozen=True)
class BundleNights:
    """All nights of one bundle, ready to be shown; `nights` the newest first."""

    bundle: str
    sentence: str
    nights: tuple[PastNight, ...]
    older: int
    weeks: tuple[Week, ...]
    trends: tuple[Trend, ...]
    accuracy: AccuracyTrend | None
    moved: tuple[Moved, ...]
    first: date
    last: date


@dataclass(frozen=True)
class Waiting:
    """A run that is kept back until somebody has looked."""

    run: str
    night: date
    headline: str
    page: str | None


def write_index(results: Storage | Path | str) -> str:
    """Write reports/index.html, and say where it is. Raises StorageError.

    Each of several runs writes it after its own commit and under a lock, so the last to write has seen every commit. A
    lock that is not had in time only costs freshness: the file is replaced in one step, and by every later run.
    """
    storage = storage_at(results)
    lock = storage.try_lock(_LOCK, _PATIENCE_SECONDS)
    try:
        storage.write(INDEX, index_html(storage).encode())
    finally:
        if lock is not None:
            lock.release()
    return storage.describe(INDEX)


def index_html(results: Storage | Path | str) -> str:
    """The page as text: every bundle with its nights, the one that was used last first."""
    storage = storage_at(results)
    known = [nights for name in bundles(storage) if (nights := past_nights(storage, name))]
    known.sort(key=lambda nights: (nights[-1].night, nights[-1].bundle), reverse=True)
    shown = [_bundle_nights(storage, nights) for nights in known[:_MOST_BUNDLES]]
    waiting = [
        Waiting(
            one.run, one.night, one.summary.headline, page_address(storage, page_key(one.night, one.bundle, one.run))
        )
        for one in held(storage)
    ]
    template = environment().get_template("index.html.j2")
    return template.render(
        latest=known[0][-1] if known else None,
        bundles=shown,
        more_bundles=len(known) - len(shown),
        waiting=waiting,
        open_lines=_OPEN_LINES,
    )


def _bundle_nights(storage: Storage, nights: Sequence[PastNight]) -> BundleNights:
    recent = nights[-_TREND_NIGHTS:]
    drift = drift_of(storage, recent)
    newest_first = tuple(reversed(nights))
    return BundleNights(
        bundle=nights[0].bundle,
        sentence=_sentence(nights),
        nights=newest_first[:_MOST_LINES],
        older=max(0, len(nights) - _MOST_LINES),
        weeks=_weeks(nights),
        trends=_trends(recent, drift),
        accuracy=accuracy_trend(recent),
        moved=_moved(recent, drift),
        first=recent[0].night,
        last=recent[-1].night,
    )


def _sentence(nights: Sequence[PastNight]) -> str:
    verdicts = Counter(one.verdict for one in nights)
    told = ", ".join(f"{verdicts[name]:,} {name}" for name in _VERDICTS if verdicts[name])
    scored, suspect, aside = (
        sum(getattr(one, name) for one in nights) for name in ("scored", "suspect", "quarantined")
    )
    many = "night" if len(nights) == 1 else "nights"
    return f"{len(nights):,} {many}: {told}. {scored:,} images scored, {suspect:,} suspect, {aside:,} set aside."


def _weeks(nights: Sequence[PastNight]) -> tuple[Week, ...]:
    """The last weeks up to the last night, the oldest first."""
    by_day = {one.night: one for one in nights}
    last = nights[-1].night
    monday = last - timedelta(days=last.weekday())
    first = nights[0].night - timedelta(days=nights[0].night.weekday())
    count = min(_WEEKS, (monday - first).days // 7 + 1)
    weeks = []
    for back in range(count - 1, -1, -1):
        days = [monday - timedelta(weeks=back) + timedelta(days=day) for day in range(7)]
        starts = [day for day in days if day.day == 1]
        month = f"{starts[0]:%b}" if starts else f"{days[0]:%b}" if back == count - 1 else ""
        weeks.append(Week(month, tuple(by_day.get(day) for day in days)))
    return tuple(weeks)


def _trends(nights: Sequence[PastNight], drift: pd.DataFrame) -> tuple[Trend, ...]:
    """Images, suspect and quarantined shares, and the largest shift of a property."""
    largest = _largest_effects(nights, drift)
    measures = (
        ("images scored", counted(nights, [one.scored for one in nights]), number),
        ("suspect", counted(nights, [one.share_suspect for one in nights]), share),
        ("quarantined", counted(nights, [one.share_quarantined for one in nights]), share),
        ("largest shift, sd", counted(nights, largest), number),
    )
    return tuple(
        Trend(name, _last_and_range(series, said), line_svg(series, line_sentence(name, series), from_zero=True))
        for name, series, said in measures
    )


def _last_and_range(series: Series, said: Callable[[float | None], str]) -> str:
    known = series.values[np.isfinite(series.values)].tolist()
    last = float(series.values[-1])
    told = said(last if np.isfinite(last) else None)
    return f"{told} ({said(min(known))} to {said(max(known))})" if len(known) > 1 else told


def _largest_effects(nights: Sequence[PastNight], drift: pd.DataFrame) -> list[float]:
    """In standard deviations: a spread's relative change is in no unit that could be held against them."""
    location = drift["reference_value"].notna() & (drift["statistic_name"] != SPREAD)
    numeric = drift[(drift["family"] == "properties") & location]
    effects = pd.to_numeric(numeric["effect"]).abs()
    by_night = effects.groupby(numeric["night"]).max().to_dict()
    return [float(by_night.get(one.night, float("nan"))) for one in nights]


def _moved(nights: Sequence[PastNight], drift: pd.DataFrame) -> tuple[Moved, ...]:
    """The measures that were an alarm or a warning on most nights, each with every night."""
    told = drift[drift["verdict"].isin(["alarm", "warn"])]
    weights = told["verdict"].map({"alarm": 1.001, "warn": 1.0})
    counts = weights.groupby([told["family"], told["metric"]]).sum().sort_values(ascending=False, kind="stable")
    return tuple(_moved_line(str(family), str(metric), nights, drift) for family, metric in counts.index[:_MOST_MOVED])


def _moved_line(family: str, metric: str, nights: Sequence[PastNight], drift: pd.DataFrame) -> Moved:
    own = drift[(drift["family"] == family) & (drift["metric"] == metric)]
    # Of several runs of one night the gravest counts: it comes last.
    order = own["verdict"].map({"too_few": 0, "ok": 1, "warn": 2, "alarm": 3}).fillna(0)
    own = own.assign(order=order).sort_values("order", kind="stable")
    rows = {row["night"]: row for row in own.to_dict("records")}
    cells = tuple(_cell(one.night, rows.get(one.night)) for one in nights)
    told = [night for night, verdict, _ in cells if verdict in ("alarm", "warn")]
    words = metric_in_words(family, metric)
    sentence = (
        f"{words}: differed on {len(told):,} of {len(cells):,} nights, on {named([short(n) for n in told][::-1])}."
    )
    return Moved(words, sentence, cells)


def _cell(night: date, row: object) -> tuple[date, str, str]:
    if not isinstance(row, dict):
        return night, "empty", "not compared"
    effect = as_float(row["effect"])
    if effect is not None and row["statistic_name"] == SPREAD:
        return night, str(row["verdict"]), f"{SPREAD} by {abs(effect):.0%}"
    return night, str(row["verdict"]), number(effect)
