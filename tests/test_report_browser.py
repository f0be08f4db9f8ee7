"""The pages of a night and of all nights in a real browser: nothing leaves the file, nothing is cut off or unseen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkroom.reasons import NightVerdict
from darkroom.schemas import CATEGORICAL_PROPERTIES, NUMERIC_PROPERTIES
from tasks.report.index_page import write_index
from tasks.report.labelled import write_labelled
from tasks.report.night_page import Histogram, Mix, NightPage
from tasks.report.page import write_page
from tasks.report.past import INDEX, Series, past_nights
from tests.nights import BUNDLE, commit_night
from tests.shown import jpeg
from tests.test_accuracy_nights import REFUSED, estimated, labelled
from tests.test_report import full_night, prediction, predictions

# Playwright's own warnings are not ours to mend.
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]

LONG = "a_folder_name_that_nobody_can_break_because_it_has_no_space/" * 3 + "photo-000000000000001.jpeg"
# Every text that can be seen, against the first opaque colour behind it (WCAG 2.2, 1.4.3).
PALE = """() => {
  const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const rgb = text => { const n = numbers(text); const of = text.startsWith('color(srgb') ? 255 : 1;
    return [n[0] * of, n[1] * of, n[2] * of, n.length > 3 ? n[3] : 1]; };
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const behind = e => { for (let at = e; at; at = at.parentElement) {
    const c = rgb(getComputedStyle(at).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const found = [];
  for (const e of document.body.querySelectorAll('*')) {
    if (e.closest('svg') || e.closest('.hidden') || e.closest('.skip')) continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 40)}`);
  }
  return found;
}"""
WIDE = """() => [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .hidden, .calendar, svg')
  && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 120))"""
LINKS = "[...document.querySelectorAll('a[href]')].filter(e => !e.closest('details:not([open])')).length"
FOCUSED = """() => { const e = document.activeElement, s = getComputedStyle(e);
  return [e.tagName, e.getAttribute('href') || e.id || e.getAttribute('aria-label') || e.textContent.slice(0, 30),
    s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]; }"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if path is None:
        pytest.skip("no chromium or chrome on this machine")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of a results folder with forty nights, one of which has everything, and long names."""
    results = tmp_path_factory.mktemp("a folder") / "results"
    first = date(2026, 1, 30)
    for day in range(40):
        verdict = (NightVerdict.OK, NightVerdict.WARN, NightVerdict.ALARM)[day % 7 // 3]
        moved = {"effect": 1.9, "night_value": 4.0, "verdict": str(verdict)}
        estimate = REFUSED if day % 5 == 0 else estimated(0.8, rows=100_000)
        commit_night(
            results,
            first + timedelta(days=day),
            verdict,
            drift=[moved],
            headline=LONG,
            scored=100_000 + day,
            estimate=estimate,
        )
    write_labelled(results, BUNDLE, tuple(labelled(first + timedelta(days=day), 0.7) for day in (5, 38, 39)))
    write_index(results)
    write_page(results, f"reports/2026-03-10/{BUNDLE}/run-40/index.html", crowded(results))
    return results / "reports"


def crowded(results: Path) -> NightPage:
    nights = tuple(date(2026, 4, day + 1) for day in range(30))
    rng = np.random.default_rng(0)
    names = [*NUMERIC_PROPERTIES, *CATEGORICAL_PROPERTIES]
    rows = [prediction(1, path=LONG, verdict="suspect", predicted_class=LONG, reasons=["low_confidence"])]
    page = full_night(
        LONG,
        predictions=predictions(*rows, *(prediction(n, verdict="suspect", path=LONG) for n in range(2, 9))),
        past={name: Series(nights, rng.normal(10, 1, 30), ("ok", "warn", "alarm") * 10, 10.0, 1.0) for name in names},
        histograms={
            name: Histogram(np.linspace(0, 20, 25), rng.integers(0, 90, 24), rng.integers(0, 90, 24))
            for name in NUMERIC_PROPERTIES
        },
        mixes={name: Mix(("JPEG", LONG), np.array([30, 9]), np.array([40, 0])) for name in CATEGORICAL_PROPERTIES},
        thumbnails={f"{n:064x}": jpeg(n, (144, 108)) for n in range(1, 9)} | {"f" * 64: jpeg(9, (96, 72))},
        recent=tuple(reversed(past_nights(results, BUNDLE)[-30:-1])),
    )
    return replace(page, summary=page.summary.model_copy(update={"headline": LONG, "bundle_id": LONG}))


PAGES = {"night": f"2026-03-10/{BUNDLE}/run-40/index.html", "all nights": Path(INDEX).name}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("page", PAGES)
def test_nothing_leaves_the_file_and_nothing_is_cut_off_or_pale(
    browser: Any, reports: Path, page: str, width: int, scheme: str
) -> None:
    address = (reports / PAGES[page]).as_uri()
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("console", lambda message: complaints.append(message.text))
    shown.goto(address)
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert complaints == []
    assert shown.evaluate(WIDE) == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.evaluate(PALE) == []
    dark = shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 20, 18)"
    assert dark == (scheme == "dark")
    context.close()


@pytest.mark.parametrize("page", PAGES)
def test_the_page_can_be_read_without_a_script(browser: Any, reports: Path, page: str) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1400, "height": 900})
    shown = context.new_page()
    shown.goto((reports / PAGES[page]).as_uri())
    assert shown.get_by_role("heading", level=1).count() == 1
    assert shown.get_by_role("main").count() == 1
    context.close()


@pytest.mark.parametrize("page", PAGES)
def test_a_keyboard_reaches_every_link_and_sees_where_it_is(browser: Any, reports: Path, page: str) -> None:
    shown = browser.new_page(viewport={"width": 1400, "height": 900})
    shown.goto((reports / PAGES[page]).as_uri())
    links = shown.evaluate(LINKS)
    reached = []
    for _ in range(links + 60):
        shown.keyboard.press("Tab")
        tag, name, seen = shown.evaluate(FOCUSED)
        if tag == "BODY" or (reached and name == reached[0][1] and tag == reached[0][0]):
            break
        assert seen, f"the focus cannot be seen on {tag} {name}"
        reached.append((tag, name))
    assert reached[0] == ("A", "#main")
    assert sum(tag == "A" for tag, _ in reached) == links
    shown.close()


def test_a_screen_reader_hears_each_chart(browser: Any, reports: Path) -> None:
    shown = browser.new_page()
    shown.goto((reports / PAGES["night"]).as_uri())
    charts = shown.get_by_role("img")
    assert charts.count() >= 50
    assert shown.get_by_role("img", name="sharpness over 30 nights").count() == 1
    assert shown.get_by_role("img", name="sharpness: tonight centred at").count() == 1
    assert shown.get_by_role("navigation").count() == 2
    shown.close()


def test_links_lead_from_the_index_to_a_night_and_back(browser: Any, reports: Path) -> None:
    shown = browser.new_page()
    shown.goto((reports / PAGES["all nights"]).as_uri())
    shown.get_by_role("link", name="the page of this night").click()
    assert shown.url.endswith(PAGES["night"])
    shown.get_by_role("link", name="all nights").click()
    assert shown.url.endswith("reports/index.html")
    shown.close()
