"""The pages of a night and of a year: how large, how long, and that nothing leaves them in a real browser."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.harness import Measured, Row
from benchmarks.night import work
from darkroom.reasons import NightVerdict
from darkroom.schemas import CATEGORICAL_PROPERTIES, DRIFT, NUMERIC_PROPERTIES, PREDICTIONS, QUARANTINE
from darkroom.summary import Counts, NightSummary
from tasks.report.night_page import Histogram, Mix, NearPhoto, NightPage
from tasks.report.page import page_html, write_page
from tasks.report.past import MOST_NIGHTS, Series
from tasks.thumbnails import small_picture
from tests.nights import BUNDLE, commit_night

_NIGHT = date(2026, 3, 1)
_MOMENT = datetime(2026, 3, 2, 2, tzinfo=UTC)
_METRICS = (*NUMERIC_PROPERTIES, *CATEGORICAL_PROPERTIES, *(f"component_{k:02d}" for k in range(50)))


def page() -> Mapping[str, Measured]:
    """A page with every property over 30 nights, 24 suspect and 12 typical images with three training photos each."""
    full, bare = _night(pictures=True), _night(pictures=False)
    page_html(bare)  # matplotlib reads its fonts once
    seconds, html = _timed(lambda: page_html(full))
    without = len(page_html(bare).encode())
    return {
        "page_bytes": Measured(len(html.encode()), f"{without:,} without pictures"),
        "page_seconds": Measured(float(np.median(seconds)), "of one core", seconds),
    }


def all_nights() -> Mapping[str, Measured]:
    """The page over 365 nights of 78 measures."""
    from tasks.report.index_page import index_html

    results = _year()
    seconds, html = _timed(lambda: index_html(results))
    return {
        "all_nights_bytes": Measured(len(html.encode()), "365 nights"),
        "all_nights_seconds": Measured(float(np.median(seconds)), "of one core", seconds),
    }


def browser() -> Mapping[str, Measured]:
    """Both pages at 400 and 1,400 pixels, light and dark: requests beside the file itself, pixels too wide."""
    from playwright.sync_api import sync_playwright

    from tasks.report.index_page import write_index

    results = _year()
    night = write_page(results, "reports/a night/index.html", _night(pictures=True))
    places = [Path(night), Path(write_index(results))]
    asked: list[str] = []
    too_wide = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for place in places:
            for width in (400, 1400):
                for scheme in ("light", "dark"):
                    shown: Any = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                    shown.on("request", lambda request: asked.append(request.url))
                    shown.goto(place.as_uri())
                    too_wide.append(shown.evaluate("document.documentElement.scrollWidth") - width)
                    shown.close()
        chromium.close()
    own = {place.as_uri() for place in places}
    left = [url for url in asked if url not in own and not url.startswith("data:")]
    return {
        "requests_that_leave": Measured(len(left), f"{len(too_wide)} views", left),
        "pixels_too_wide": Measured(max(0, *too_wide), "", too_wide),
    }


def _timed(work_: Callable[[], str]) -> tuple[list[float], str]:
    seconds, html = [], ""
    for _ in range(5):
        started = time.process_time()
        html = work_()
        seconds.append(time.process_time() - started)
    return seconds, html


def _year() -> Path:
    results = work() / "a year"
    shutil.rmtree(results, ignore_errors=True)
    for day in range(365):
        moved = NightVerdict.ALARM if day % 50 == 49 else NightVerdict.OK
        rows = [{"metric": name, "effect": 0.1, "verdict": str(moved)} for name in _METRICS]
        commit_night(results, _NIGHT + timedelta(days=day - 364), moved, drift=rows)
    return results


def _night(*, pictures: bool) -> NightPage:
    rng = np.random.default_rng(0)
    nights = tuple(_NIGHT - timedelta(days=MOST_NIGHTS - 1 - k) for k in range(MOST_NIGHTS))
    images = [f"{k:064x}" for k in range(36)]
    near = {one: tuple(NearPhoto(f"{one}-{k}", f"train/{k}.jpg", "metal", 0.2) for k in range(3)) for one in images}
    photos = [photo.content_id for found in near.values() for photo in found]
    rows = [_prediction(one, suspect=place < 24) for place, one in enumerate(images)]
    counts = Counts(seen=36, scored=36)
    return NightPage(
        summary=NightSummary(
            bundle_id=BUNDLE, night=_NIGHT, run_id="run", inbox="inbox", verdict=NightVerdict.OK, headline="A night.",
            counts=counts, trusted=12, suspect=24, started_at=_MOMENT, finished_at=_MOMENT,
        ),
        drift=pd.DataFrame(columns=DRIFT.names),
        predictions=pd.DataFrame(rows, columns=PREDICTIONS.names, dtype=object),
        quarantine=pd.DataFrame(columns=QUARANTINE.names),
        thumbnails=_pictures(images, photos, rng) if pictures else {},
        histograms={
            name: Histogram(np.linspace(0, 9, 25), rng.integers(0, 90, 24), rng.integers(0, 90, 24))
            for name in NUMERIC_PROPERTIES
        },
        mixes={name: Mix(("a", "b", "c"), np.array([9, 4, 1]), np.array([9, 1, 0])) for name in CATEGORICAL_PROPERTIES},
        past={
            name: Series(nights, rng.normal(5, 1, MOST_NIGHTS), ("ok", "ok", "warn") * (MOST_NIGHTS // 3), 5.0, 1.0)
            for name in (*NUMERIC_PROPERTIES, *CATEGORICAL_PROPERTIES)
        },
        near=near,
    )  # fmt: skip


def _prediction(content_id: str, *, suspect: bool) -> dict[str, object]:
    return {
        "content_id": content_id, "path": f"session/{content_id[-4:]}.jpg", "predicted_class": "metal",
        "confidence": 0.5, "verdict": "suspect" if suspect else "trusted",
        "reasons": ["low_confidence"] if suspect else [],
    }  # fmt: skip


def _pictures(images: list[str], photos: list[str], rng: np.random.Generator) -> dict[str, bytes]:
    """Noise compresses worst: no photo of this size is larger."""
    noise = rng.integers(0, 256, (108, 144, 3)).astype(np.uint8)
    return {
        **{one: small_picture(noise, side=144, largest=12_000) for one in images},
        **{one: small_picture(noise) for one in photos},
    }


ROWS: Mapping[str, Row] = {"page": page, "all_nights": all_nights, "browser": browser}
