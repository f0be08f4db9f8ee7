"""What the flow puts on its pages: nights before, nearest training photos, and no picture where none is wanted."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from darkroom import demo_world
from darkroom.schemas import QUARANTINE
from darkroom.settings import IntakeOptions, NightOptions, RunOptions
from darkroom.summary import NightSummary
from flows.looking import proved
from flows.nearest import nearest_photos_of
from flows.pictures import pick_quarantined
from tasks.bundle import Bundle
from tasks.preprocessing import prepare
from tests.shown import Outline

pytestmark = pytest.mark.usefixtures("prefect_api")

NIGHTS = (date(2026, 3, 2), date(2026, 3, 3))


def score_night(bundle: Bundle, inbox: Path, results: Path, night: date, *, thumbnails: bool = True) -> NightSummary:
    from flows.score import score

    return score(
        bundle=bundle.path,
        inbox=str(inbox),
        results=results,
        night=NightOptions(night=night),
        intake=IntakeOptions(settle_seconds=0),
        run=RunOptions(shard_size=20, thumbnails=thumbnails),
    )


def page_of(summary: NightSummary) -> Outline:
    assert summary.report is not None
    return Outline(Path(summary.report).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def two_nights(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[NightSummary]]:
    folder = tmp_path_factory.mktemp("two nights")
    summaries = []
    for number, night in enumerate(NIGHTS):
        demo_world.draw_night(folder / "inbox" / f"part-{number}", "strange", images=40, seed=11 + number)
        summaries.append(score_night(bundle, folder / "inbox", folder / "results", night))
    return folder / "results", summaries


def test_each_property_is_shown_over_the_nights_before(two_nights: tuple[Path, list[NightSummary]]) -> None:
    first, second = (page_of(summary) for summary in two_nights[1])
    assert "luminance mean over" not in first.text
    assert "luminance mean over 2 nights" in second.text
    assert "difference of format from training over 2 nights" in second.text
    assert "format: share of images tonight, and in training" in second.text


def test_each_scored_image_has_the_training_photos_nearest_to_it(
    bundle: Bundle, two_nights: tuple[Path, list[NightSummary]]
) -> None:
    outline = page_of(two_nights[1][0])
    alts = [attributes["alt"] or "" for attributes in outline.all("img")]
    near = [alt.partition(", ") for alt in alts if alt.startswith("training photo of ")]
    scored = [alt for alt in alts if ", predicted " in alt]
    assert scored
    assert len(near) == 3 * len(scored)
    profile = bundle.profile().set_index("path")
    for label, _, path in near:
        assert profile.loc[path, "label"] == label.removeprefix("training photo of ")
        assert profile.loc[path, "split"] == "train"


def test_the_nearest_photos_are_the_nearest_of_all_and_not_of_a_sample(
    bundle: Bundle,
) -> None:
    instruments = proved(bundle.path)
    tensor = prepare(bundle.goldens()[0].image, bundle.preprocessing).tensor
    (found,) = nearest_photos_of({"golden": tensor}, instruments).values()
    embedding = instruments.engine.run(tensor[None]).embedding
    train = (bundle.profile()["split"] == "train").to_numpy()
    bank = bundle.embeddings()[train].astype(np.float32)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    far = np.linalg.norm(bank - embedding / np.linalg.norm(embedding), axis=1)
    # The bank is kept in half precision.
    assert [one.distance for one in found] == pytest.approx(np.sort(far)[:3].tolist(), abs=2e-2)
    assert [one.distance for one in found] == sorted(one.distance for one in found)


@pytest.mark.parametrize(
    ("reasons", "shown"),
    [
        pytest.param({"truncated": 5}, {"truncated": 5}, id="few"),
        pytest.param({"truncated": 500}, {"truncated": 60}, id="many of one"),
        pytest.param(
            {"truncated": 500, "read_error": 2, "empty_file": 70},
            {"truncated": 20, "read_error": 2, "empty_file": 20},
            id="several",
        ),
        pytest.param({}, {}, id="none"),
    ],
)
def test_of_many_quarantined_files_each_reason_shows_its_fair_part(
    reasons: dict[str, int], shown: dict[str, int]
) -> None:
    rows = [reason for reason, count in reasons.items() for _ in range(count)]
    parts = [
        pa.table(
            {
                "path": [f"{k}.jpg" for k in range(start, min(start + 90, len(rows)))],
                "content_id": [None] * len(rows[start : start + 90]),
                "reason": rows[start : start + 90],
                "retryable": [False] * len(rows[start : start + 90]),
                "detail": [None] * len(rows[start : start + 90]),
                "size": [1] * len(rows[start : start + 90]),
            },
            schema=QUARANTINE,
        )
        for start in range(0, len(rows), 90)
    ]
    assert pick_quarantined(parts)["reason"].value_counts().to_dict() == shown


def test_the_page_says_which_bundle_by_digest(bundle: Bundle, two_nights: tuple[Path, list[NightSummary]]) -> None:
    text = page_of(two_nights[1][1]).text
    assert f"sha256 {bundle.manifest.preprocessing_digest[:12]}" in text
    assert f"{len(bundle.goldens())} replayed" in text


def test_all_nights_are_on_one_page_after_each_run(two_nights: tuple[Path, list[NightSummary]]) -> None:
    results, summaries = two_nights
    index = results / "reports" / "index.html"
    outline = Outline(index.read_text(encoding="utf-8"))
    links = {attributes["href"] or "" for attributes in outline.all("a")}
    for summary in summaries:
        relative = Path(str(summary.report)).relative_to(index.parent).as_posix()
        assert relative in links
        back = page_of(summary).all("a")[1]["href"] or ""
        assert (Path(str(summary.report)).parent / back).resolve() == index.resolve()


def test_where_pictures_are_switched_off_there_is_none_not_even_of_training(bundle: Bundle, tmp_path: Path) -> None:
    demo_world.draw_night(tmp_path / "inbox", "strange", images=20, seed=3)
    summary = score_night(bundle, tmp_path / "inbox", tmp_path / "results", NIGHTS[0], thumbnails=False)
    assert page_of(summary).all("img") == []
    assert "data:image" not in Path(str(summary.report)).read_text(encoding="utf-8")
    assert "data:image" not in (tmp_path / "results" / "reports" / "index.html").read_text(encoding="utf-8")


def test_an_index_that_cannot_be_written_does_not_undo_the_night(bundle: Bundle, tmp_path: Path) -> None:
    demo_world.draw_night(tmp_path / "inbox", "good", images=12, seed=4)
    (tmp_path / "results" / "reports" / "index.html").mkdir(parents=True)
    summary = score_night(bundle, tmp_path / "inbox", tmp_path / "results", NIGHTS[0])
    assert summary.commit == 1
    shutil.rmtree(tmp_path / "results" / "reports" / "index.html")
