"""Labels that arrive later: read, recorded, joined, weighed; and the rows that are worth one."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.errors import WrongUse
from darkroom.labels import newest, record_labels, recorded_labels
from darkroom.summary import AccuracyEstimate
from expectations.labelling import DOUBTFUL, choice_name, realised, reliability, wilson, worth_labelling
from flows.evaluation_words import Elsewhere, NightRecord
from flows.joining import find_images, not_there
from tasks.labels_file import read_labels

CLASSES = ("gear", "washer", "10 mm bolt")
NOW = datetime(2026, 3, 9, 7, tzinfo=UTC)


def labels_file(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_whatever_its_columns_are_called(tmp_path: Path) -> None:
    stated = read_labels(
        labels_file(tmp_path, "Filename;Class;Date;By\na.jpg;gear;2026-03-07;ada\nb.jpg; Washer ;;\nc.jpg;;;\n"),
        CLASSES,
        NOW,
    )
    assert stated.rows["path"].tolist() == ["a.jpg", "b.jpg"]
    assert stated.rows["label"].tolist() == ["gear", "washer"]
    assert stated.rows["labelled_at"].tolist() == [datetime(2026, 3, 7, tzinfo=UTC), NOW]
    assert stated.rows["source"].tolist() == ["ada", "labels.csv"]
    assert stated.empty == 1


def test_parquet_with_content_ids_is_read_like_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame({"content_id": ["ab", "cd"], "label": ["gear", None]})
    frame.to_parquet(tmp_path / "labels.parquet")
    stated = read_labels(tmp_path / "labels.parquet", CLASSES, NOW)
    assert stated.rows["content_id"].tolist() == ["ab"]
    assert stated.empty == 1


@pytest.mark.parametrize(
    "written",
    ["AB" * 32, "sha256:" + "ab" * 32, "SHA256:" + "AB" * 32, "sha-256:" + "ab" * 32, f" {'ab' * 32} "],
    ids=["upper case", "prefix", "both in upper case", "prefix with a dash", "spaces"],
)
def test_a_content_id_is_found_whichever_way_the_digest_is_written(tmp_path: Path, written: str) -> None:
    stated = read_labels(labels_file(tmp_path, f"content_id,label\n{written},gear\n"), CLASSES, NOW)
    joined = find_images(stated.rows, seen(("a.jpg", "ab" * 32, "2026-03-01")))
    assert (joined.rows["content_id"].tolist(), joined.unknown) == (["ab" * 32], ())


def test_labels_that_are_not_counted_are_told_with_the_bundles_that_have_their_images() -> None:
    assert Elsewhere().sentences() == []
    told = Elsewhere(images=5, bundles={"parts-1": 4, "parts-2": 3}, unscored=1, other_classes=2).sentences()
    assert told == [
        "Not counted: 5 labelled images, scored only by other bundles (4 by parts-1, 3 by parts-2).",
        "Not counted: 1 labelled image, scored by no bundle.",
        "Not counted: 2 labelled images, whose label is no class of this bundle.",
    ]


def test_an_unknown_class_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    file = labels_file(tmp_path, "path,label\na.jpg,gaer\nb.jpg,washer\nc.jpg,gaer\nd.jpg,xyz\n")
    with pytest.raises(WrongUse) as caught:
        read_labels(file, CLASSES, NOW)
    assert caught.value.found == "'gaer' in 2 rows, meant is maybe 'gear'; 'xyz' in 1 rows"
    assert caught.value.file == str(file)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("path,confidence\na.jpg,0.5\n", "which image has which class"),
        ("label\ngear\n", "which image has which class"),
        ("path,label\na.jpg,\n", "no label in this file"),
        ("path,label\n,gear\n", "which image it is for"),
        ("path,label,date\na.jpg,gear,tomorrow-ish\n", "date of a label is not understood"),
        ("path,label,date\na.jpg,gear,07.03.2026\n", "date of a label is not understood"),
        ("path,label,date\na.jpg,gear,2026-03-10\n", "from the future"),
        ("path,label,stratum,stratum_rows\na.jpg,gear,s,nan\n", "rows of a stratum is none"),
        ("path,label,stratum,stratum_rows\na.jpg,gear,s,-3\n", "rows of a stratum is none"),
    ],
    ids=["no label column", "no image column", "empty", "nameless", "no date", "ambiguous date", "future", "nan", "-3"],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(WrongUse, match=what):
        read_labels(labels_file(tmp_path, text), CLASSES, NOW)


def stated(**columns: list[object]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    nothing: dict[str, list[object]] = {name: [None] * n for name in ("content_id", "path", "night", "stratum")}
    frame = pd.DataFrame({**nothing, "label": ["gear"] * n, "labelled_at": [NOW] * n, "source": ["ada"] * n, **columns})
    return frame.assign(stratum_rows=pd.array([None] * n, dtype="Int64"))


def seen(*rows: tuple[str, str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["path", "content_id", "night"])
    return frame.assign(night=pd.to_datetime(frame["night"]))


FILES = seen(
    ("cam-1/a.jpg", "A1", "2026-03-01"),
    ("cam-1/a.jpg", "A1", "2026-03-03"),
    ("cam-1/a.jpg", "A2", "2026-03-02"),
    ("cam-2/b.jpg", "B", "2026-03-02"),
    ("copy/b-copy.jpg", "B", "2026-03-02"),
)


@pytest.mark.parametrize(
    ("path", "night", "content"),
    [
        ("cam-2/b.jpg", None, "B"),
        ("/mnt/inbox/2026-03-02/cam-2/b.jpg", None, "B"),
        (r"D:\inbox\cam-2\b.jpg", None, "B"),
        ("b-copy.jpg", None, "B"),
        ("cam-1/a.jpg", date(2026, 3, 2), "A2"),
        ("cam-1/a.jpg", date(2026, 3, 1), "A1"),
        ("cam-1/a.jpg", None, None),
        ("cam-3/b.jpg", None, None),
        ("cam-3/a.jpg", None, None),
        ("cam-2/", None, None),
        ("nowhere.jpg", None, None),
    ],
    ids=[
        "whole",
        "absolute",
        "windows",
        "base name of a copy",
        "night",
        "first of two nights",
        "ambiguous",
        "other folder",
        "other folder and several contents",
        "a folder",
        "unknown",
    ],
)
def test_a_path_finds_its_content_or_is_listed(path: str, night: date | None, content: str | None) -> None:
    joined = find_images(stated(path=[path], night=[night]), FILES)
    (found,) = joined.rows["content_id"]
    assert found == content
    assert len(joined.unknown) + len(joined.ambiguous) == (content is None)
    assert len(joined.rows) == 1


def test_the_record_only_grows_and_the_newest_label_counts(tmp_path: Path) -> None:
    first = stated(content_id=["A", "B"]).assign(received_at=NOW)
    corrected = stated(content_id=["A"]).assign(received_at=NOW, label="washer")
    older = stated(content_id=["B"]).assign(
        received_at=NOW, label="washer", labelled_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    places = [record_labels(tmp_path, rows) for rows in (first, corrected, older)]
    assert [Path(place).name for place in places] == ["00000001.parquet", "00000002.parquet", "00000003.parquet"]
    record = recorded_labels(tmp_path)
    assert len(record) == 4
    counted = newest(record).set_index("content_id")["label"]
    assert counted.to_dict() == {"A": "washer", "B": "gear"}


def test_labels_that_were_recorded_twice_count_as_once() -> None:
    chosen = stated(content_id=["A", "B"], stratum=["one-of-9/surer"] * 2)
    once = chosen.assign(stratum_rows=pd.array([9, 9], dtype="Int64"), received_at=NOW)
    corrected = stated(content_id=["A"], label=["washer"]).assign(received_at=NOW)
    for record in (pd.concat([once, corrected]), once):
        counted = newest(record).sort_values("content_id").reset_index(drop=True)
        twice = newest(pd.concat([once, record])).sort_values("content_id").reset_index(drop=True)
        pd.testing.assert_frame_equal(twice, counted)


def test_a_correction_keeps_how_its_image_was_chosen() -> None:
    chosen = stated(content_id=["A"], stratum=["one-of-9/surer"]).assign(stratum_rows=pd.array([9], dtype="Int64"))
    both = pd.concat([chosen, stated(content_id=["A"], label=["washer"])]).assign(received_at=NOW)
    (row,) = newest(both).to_dict("records")
    assert (row["label"], row["stratum"], row["stratum_rows"]) == ("washer", "one-of-9/surer", 9)


def test_a_correction_of_the_same_day_counts_whether_or_not_the_hour_is_said() -> None:
    first = stated(content_id=["A"]).assign(received_at=NOW)
    bare = stated(content_id=["A"], label=["washer"], labelled_at=[NOW.replace(hour=0)])
    both = pd.concat([first, bare.assign(received_at=NOW.replace(hour=10))])
    assert newest(both)["label"].tolist() == ["washer"]


def test_images_that_came_later_leave_the_weights_of_a_choice_as_they_are() -> None:
    rows = rows_of_a_night(3, 400)
    chosen = worth_labelling(rows, 60, 0.5, 0)
    strata = f"{choice_name('one', 400)}/" + chosen["stratum"]
    before, after = (
        realised(chosen["right"].to_numpy(), strata, chosen["stratum_rows"], scored) for scored in (400, 401)
    )
    assert (after.design, after.of) == ("strata", 400)
    assert after == before


@pytest.mark.parametrize(
    ("second", "counts", "recorded"),
    [
        ("path,label,date\na.jpg,gear,2026-03-08\n", "gear", 3),
        ("path,label\na.jpg,gear\n", "washer", 2),
        ("path,label,date\na.jpg,gear,2026-03-09\n", "gear", 3),
    ],
    ids=["back again at a later date", "the first file once more", "back again with the day it came"],
)
def test_an_old_file_undoes_no_correction_and_a_later_label_counts(
    tmp_path: Path, second: str, counts: str, recorded: int
) -> None:
    files = seen(("a.jpg", "A", "2026-03-01"))
    brought = [
        ("path,label\na.jpg,gear\n", datetime(2026, 3, 6, 7, tzinfo=UTC)),
        ("path,label,by\na.jpg,washer,labels.csv\n", datetime(2026, 3, 7, 7, tzinfo=UTC)),
        (second, NOW),
    ]
    record = find_images(read_labels(labels_file(tmp_path, brought[0][0]), CLASSES, brought[0][1]).rows, files).rows
    for text, received in brought[1:]:
        rows = find_images(read_labels(labels_file(tmp_path, text), CLASSES, received).rows, files).rows
        record = pd.concat([record, not_there(rows, record)], ignore_index=True)
    assert newest(record)["label"].tolist() == [counts]
    assert len(record) == recorded


def rows_of_a_night(seed: int, n: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    confidence = rng.beta(3, 1, n)
    return pd.DataFrame(
        {
            "content_id": [f"{number:04d}" for number in rng.permutation(n)],
            "confidence": confidence,
            "verdict": np.where(confidence < 0.4, "suspect", "trusted"),
            "right": rng.random(n) < confidence,
        }
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 300), st.integers(4, 80), st.floats(0, 1), st.integers(0, 5))
def test_every_row_is_in_a_stratum_of_known_size(n: int, count: int, by_lot: float, seed: int) -> None:
    rows = rows_of_a_night(seed, n)
    chosen = worth_labelling(rows, count, by_lot, seed)
    assert len(chosen) == min(count, n)
    assert chosen["content_id"].is_unique
    sizes = chosen.drop_duplicates("stratum").set_index("stratum")["stratum_rows"]
    drawn = chosen.groupby("stratum").size()
    assert all(sizes[name] >= drawn[name] for name in sizes.index)
    certain = chosen[chosen["stratum"] == DOUBTFUL]
    assert (certain["weight"] == 1).all()
    again = worth_labelling(rows.sample(frac=1, random_state=seed), count, by_lot, seed)
    assert set(again["content_id"]) == set(chosen["content_id"])


def test_weighed_labels_tell_accuracy_without_bias_where_plain_ones_do_not() -> None:
    rows = rows_of_a_night(3, 800)
    weighed, plain, held = [], [], 0
    for seed in range(200):
        chosen = worth_labelling(rows, 120, 0.5, seed)
        strata = f"{choice_name('one', len(rows))}/" + chosen["stratum"]
        found = realised(chosen["right"].to_numpy(), strata, chosen["stratum_rows"], len(rows))
        assert found.design == "strata"
        weighed.append(found.accuracy)
        plain.append(chosen["right"].mean())
        held += found.low <= rows["right"].mean() <= found.high
    assert np.mean(weighed) == pytest.approx(rows["right"].mean(), abs=0.01)
    assert np.mean(plain) < rows["right"].mean() - 0.1
    assert held / 200 >= 0.85


def test_without_one_of_its_strata_a_choice_does_not_stand_for_the_night() -> None:
    rows = rows_of_a_night(4, 200)
    chosen = worth_labelling(rows, 60, 0.5, 0)
    left = chosen[chosen["stratum"] != DOUBTFUL]
    found = realised(
        left["right"].to_numpy(),
        f"{choice_name('one', len(rows))}/" + left["stratum"],
        left["stratum_rows"],
        len(rows),
    )
    assert found.design == "as given"
    assert found.labelled == len(left)


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_share_and_stays_between_0_and_1(n: int, draw: st.DataObject) -> None:
    share = draw.draw(st.integers(0, n)) / n
    low, high = wilson(share, n)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


def test_reliability_tells_confidence_beside_what_was_right() -> None:
    told = reliability(np.array([0.95, 0.9, 0.85, 0.3]), np.array([True, True, False, False]))
    assert [(one.name, round(one.value, 2)) for one in told] == [("0.2 to 0.4", 0.0), ("0.8 to 1.0", 0.67)]
    assert told[1].reference == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("estimate", "held", "word"),
    [
        (AccuracyEstimate(rows=9, value=0.8, low=0.7, high=0.9), True, "held"),
        (AccuracyEstimate(rows=9, value=0.4, low=0.3, high=0.5), False, "did NOT hold"),
        (AccuracyEstimate(rows=9, refused="too few"), None, "not estimated"),
        (None, None, "not estimated"),
    ],
    ids=["held", "missed", "refused", "none"],
)
def test_a_night_tells_its_estimate_beside_the_labels(
    estimate: AccuracyEstimate | None, held: bool | None, word: str
) -> None:
    night = NightRecord(
        night=date(2026, 3, 2),
        scored=90,
        labelled=40,
        accuracy=0.75,
        low=0.65,
        high=0.85,
        design="strata",
        of=90,
        estimate=estimate,
    )
    assert night.held is held
    assert word in night.as_text()
