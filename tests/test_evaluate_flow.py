"""A night, its suspects, their labels, and how right it was: from the inbox to the record."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

import darkroom
from darkroom import demo_world
from darkroom.errors import WrongUse
from darkroom.labels import recorded_labels
from darkroom.settings import IntakeOptions, NightOptions, RunOptions
from flows.suspects import suspects
from tasks.bundle import Bundle

NIGHT = date(2026, 3, 2)


@pytest.fixture(scope="module")
def results(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One night of the drawn world, scored."""
    from flows.score import score

    folder = tmp_path_factory.mktemp("evaluated")
    demo_world.draw_training(folder / "inbox", images=60, seed=11)
    score(
        bundle=bundle.path,
        inbox=str(folder / "inbox"),
        results=folder / "results",
        night=NightOptions(night=NIGHT),
        intake=IntakeOptions(settle_seconds=0),
        run=RunOptions(shard_size=25, thumbnails=False),
    )
    return folder / "results"


def test_the_bundle_holds_the_estimator_and_the_night_its_estimate(bundle: Bundle, results: Path) -> None:
    assert bundle.has("estimates.json")
    rows = darkroom.read(results, "estimates", night=NIGHT)
    (accuracy,) = rows[rows["quantity"] == "accuracy"].to_dict("records")
    assert accuracy["n"] == 60
    told = pd.notna(accuracy["refused"]) or accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert told
    shares = rows[rows["quantity"] == "class_share"]
    assert set(shares["name"]) == set(bundle.classes)
    assert shares["value"].sum() == pytest.approx(1)
    (page,) = (page.read_text() for page in (results / "reports").glob("*/*/*/index.html"))
    assert "stimated accuracy" in page or "Accuracy is not estimated" in page


def test_suspects_are_labelled_brought_and_weighed(bundle: Bundle, results: Path, tmp_path: Path) -> None:
    file = tmp_path / "suspects.csv"
    suspects(results, bundle.id, file, count=24, by_lot=0.5, seed=1)
    chosen = pd.read_csv(file)
    assert len(chosen) == 24
    assert chosen["label"].isna().all()
    with pytest.raises(WrongUse, match="somebody may have filled it in"):
        suspects(results, bundle.id, file, count=24, by_lot=0.5, seed=1)
    # The drawn world names the class by the folder.
    labelled = chosen.assign(label=[path.split("/")[0] for path in chosen["path"]])
    labelled.to_csv(file, index=False)
    told = darkroom.evaluate(bundle.path, results, file)
    assert (told.given, told.recorded, told.labelled, told.unknown) == (24, 24, 24, ())
    (night,) = told.nights
    assert night.design == "strata"
    assert night.low <= night.accuracy <= night.high
    assert sum(map(sum, told.confusion)) == 24
    assert str(NIGHT) in told.as_text()

    again = darkroom.evaluate(bundle.path, results, file)
    assert again.recorded == 0
    assert again.nights == told.nights

    more = tmp_path / "more.csv"
    first = labelled.iloc[0]
    other = next(name for name in bundle.classes if name != first["label"])
    more.write_text(f"path,label\n{first['path']},{other}\nno/such.jpg,{other}\n")
    corrected = darkroom.evaluate(bundle.path, results, more)
    assert corrected.recorded == 2
    assert corrected.unknown == ("no/such.jpg",)
    assert len(recorded_labels(results)) == 26
    assert corrected.labelled == 24
    assert corrected.confusion != told.confusion
