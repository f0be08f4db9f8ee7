"""Somebody's predictions are read as they were meant, and what was taken for what is said."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.errors import WrongUse
from tasks import predictions_table
from tasks.matching import match_paths
from tasks.predictions_file import Predictions, read_predictions

CLASSES = ("nut", "bolt", "10 mm")
PHOTOS = ("a/one.jpg", "a/two.jpg", "b/two.jpg", "b/three.png")
SHARES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])


def written(tmp_path: Path, text: str | bytes, name: str = "theirs.csv") -> Path:
    file = tmp_path / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"path": PHOTOS} | dict(zip(CLASSES, SHARES.T, strict=True)) | columns)


def read(file: Path) -> Predictions:
    return read_predictions(file, CLASSES, PHOTOS)


def _records() -> list[dict[str, object]]:
    return [{"image": path, "probs": row.tolist()} for path, row in zip(PHOTOS, SHARES, strict=True)]


WAYS = {
    "classes as columns": frame().to_csv(index=False),
    "p_ before the class": frame().rename(columns={name: f"p_{name}" for name in CLASSES}).to_csv(index=False),
    "prob_ before the number": frame()
    .rename(columns=dict(zip(CLASSES, ("prob_0", "prob_1", "prob_2"), strict=True)))
    .to_csv(index=False),
    "numbers as columns": frame().rename(columns=dict(zip(CLASSES, "012", strict=True))).to_csv(index=False),
    "columns in another order": frame()[["10 mm", "nut", "path", "bolt"]].to_csv(index=False),
    "other case and underscores": frame()
    .rename(columns=str.upper)
    .rename(columns={"10 MM": "10_mm"})
    .to_csv(index=False),
    "the index is the path": frame().set_index("path").rename_axis(None).to_csv(),
    "semicolons and decimal commas": frame().to_csv(index=False, sep=";", decimal=","),
    "tabs": frame().to_csv(index=False, sep="\t"),
    "a byte order mark": "\ufeff" + frame().to_csv(index=False),
    "UTF-16": frame().to_csv(index=False).encode("utf-16"),
    "percentages": frame().assign(**dict(zip(CLASSES, (100 * SHARES).T, strict=True))).to_csv(index=False),
    "a list as JSON writes it": pd.DataFrame(
        {"filename": PHOTOS, "probabilities": [json.dumps(row) for row in SHARES.tolist()]}
    ).to_csv(index=False),
    "a list as numpy prints it": pd.DataFrame({"file": PHOTOS, "prediction": [str(row) for row in SHARES]}).to_csv(
        index=False
    ),
    "JSON records": json.dumps(_records()),
    "JSON lines": "\n".join(json.dumps(record) for record in _records()),
    "JSON inside a key": json.dumps({"predictions": _records()}),
    "path to list": json.dumps(dict(zip(PHOTOS, SHARES.tolist(), strict=True))),
    "path to record": json.dumps(
        {path: dict(zip(CLASSES, row, strict=True)) for path, row in zip(PHOTOS, SHARES.tolist(), strict=True)}
    ),
    "columns of pandas": frame().to_json(),
    "columns of lists": frame().to_json(orient="records"),
}


@pytest.mark.parametrize("text", WAYS.values(), ids=WAYS)
def test_probabilities_are_read_in_the_order_of_the_bundle_however_they_are_written(
    text: str | bytes, tmp_path: Path
) -> None:
    found = read(written(tmp_path, text))
    assert found.kind == "probabilities"
    assert found.paths == PHOTOS
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, SHARES, atol=1e-12)
    assert found.predicted.tolist() == [0, 1, 2, 2]


def test_parquet_holds_a_list_or_columns(tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "columns")
    pd.DataFrame({"path": PHOTOS, "probabilities": list(SHARES.astype(np.float32))}).to_parquet(tmp_path / "list")
    for name in ("columns", "list"):
        found = read(tmp_path / name)
        assert found.probabilities is not None
        np.testing.assert_allclose(found.probabilities, SHARES, atol=1e-7)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param(["nut", "bolt", "10 mm", "nut"], [0, 1, 2, 0], id="names"),
        pytest.param(["Nut", "BOLT", "10_mm", "nut"], [0, 1, 2, 0], id="names in another case"),
        pytest.param([0, 1, 2, 0], [0, 1, 2, 0], id="numbers"),
        pytest.param([0.0, 1.0, 2.0, 0.0], [0, 1, 2, 0], id="numbers that pandas made floats"),
    ],
)
def test_labels_are_names_or_numbers(labels: list[object], expected: list[int], tmp_path: Path) -> None:
    found = read(written(tmp_path, pd.DataFrame({"name": PHOTOS, "pred": labels}).to_csv(index=False)))
    assert (found.kind, found.predicted.tolist()) == ("labels", expected)
    assert found.probabilities is None
    assert "'pred' is taken for the predicted class" in " ".join(found.findings)


def test_a_class_that_is_called_2_is_a_name_and_not_a_number(tmp_path: Path) -> None:
    file = written(tmp_path, "path,label\na/one.jpg,2\na/two.jpg,10\n")
    assert read_predictions(file, ("10", "2", "3"), PHOTOS).predicted.tolist() == [1, 0]


@pytest.mark.parametrize("shares", [(0.7, 0.6, 0.5, 1.0), ("70%", "60%", "50 %", "100%"), (70, 60, 50, 100)], ids=str)
def test_top_1_comes_with_its_confidence(shares: tuple[object, ...], tmp_path: Path) -> None:
    table = pd.DataFrame({"path": PHOTOS, "class": ["nut", "bolt", "10 mm", "10 mm"], "score": shares})
    found = read(written(tmp_path, table.to_csv(index=False)))
    assert found.kind == "top-1 with confidence"
    assert found.confidence is not None
    np.testing.assert_allclose(found.confidence, [0.7, 0.6, 0.5, 1.0])


def test_one_unit_of_two_classes_is_the_probability_of_the_second(tmp_path: Path) -> None:
    file = written(tmp_path, "path,probability\na/one.jpg,0.9\na/two.jpg,0.2\n")
    found = read_predictions(file, ("no", "yes"), PHOTOS)
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, [[0.1, 0.9], [0.8, 0.2]])
    assert "'yes'" in " ".join(found.findings)


@pytest.mark.parametrize(
    ("cells", "rounding"),
    [
        pytest.param(("0.123456", "1.000000"), 5e-7, id="six digits, though one is whole"),
        pytest.param(("1.00", "0.00"), 5e-3, id="two digits, only ones and zeros"),
        pytest.param(("12.3%", "99.0%"), 5e-4, id="percentages with one digit"),
        pytest.param(("1.5e-07", "1.0"), 5e-9, id="an exponent"),
        pytest.param(("0.12345678901", "0.5"), 0.0, id="as many as there are"),
    ],
)
def test_how_far_numbers_were_rounded_is_found_in_the_digits(
    cells: tuple[str, str], rounding: float, tmp_path: Path
) -> None:
    file = written(tmp_path, f"path,label,confidence\na/one.jpg,nut,{cells[0]}\na/two.jpg,nut,{cells[1]}\n")
    assert read(file).rounding == pytest.approx(rounding)


def test_logits_stay_what_they_are_and_are_called_no_probabilities(tmp_path: Path) -> None:
    logits = np.array([[3.0, -2, 0], [1, 9, 1], [0, 1, 2], [-8, -5, -1]])
    found = read(written(tmp_path, frame(**dict(zip(CLASSES, logits.T, strict=True))).to_csv(index=False)))
    np.testing.assert_array_equal(found.probabilities, logits)
    assert "no probabilities" in " ".join(found.findings)


@pytest.mark.parametrize(
    ("stated", "photo"),
    [
        pytest.param("a/two.jpg", 1, id="as it is"),
        pytest.param("./a/two.jpg", 1, id="with a dot"),
        pytest.param("one.jpg", 0, id="a base name"),
        pytest.param("/home/ada/photos/b/two.jpg", 2, id="absolute"),
        pytest.param("C:\\Users\\ada\\photos\\b\\two.jpg", 2, id="of Windows"),
        pytest.param("gs://bucket/photos/b/three.png", 3, id="an address"),
        pytest.param("B/TWO.JPG", 2, id="in another case"),
        pytest.param("elsewhere/three.png", 3, id="in another folder"),
        pytest.param("four.jpg", None, id="no such photo"),
    ],
)
def test_a_path_is_matched_by_its_longest_unique_tail(stated: str, photo: int | None, tmp_path: Path) -> None:
    assert match_paths([stated, "a/one.jpg"], PHOTOS, tmp_path).photos[0] == photo


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1, max_size=8, unique_by=tuple))
@settings(max_examples=60)
def test_every_photo_is_found_by_its_own_path_and_by_any_absolute_one(names: list[list[str]]) -> None:
    photos = ["/".join(parts) for parts in names]
    assert match_paths(photos, photos, Path()).photos == tuple(range(len(photos)))
    longest = [
        one for one in range(len(photos)) if not any(o != photos[one] and o.endswith("/" + photos[one]) for o in photos)
    ]
    absolute = ["/data/x/" + photos[one] for one in longest]
    if absolute:
        assert match_paths(absolute, photos, Path()).photos == tuple(longest)


def test_what_is_left_out_is_counted_and_said(tmp_path: Path) -> None:
    text = "path,nut,bolt,10 mm\na/one.jpg,.7,.2,.1\na/two.jpg,n/a,.2,.1\nlost.jpg,.7,.2,.1\na/one.jpg,.7,.2,.1\n"
    found = read(written(tmp_path, text))
    assert found.paths == ("a/one.jpg",)
    told = " ".join(found.findings)
    for part in ("1 of 4 rows have no photo", "lost.jpg", "not a number", "say again", "3 of 4 photos have no row"):
        assert part in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "an empty file", id="empty"),
        pytest.param("path,nut,bolt,10 mm\n", "no row", id="only a header"),
        pytest.param("nut,bolt,10 mm\n.7,.2,.1\n", "which photo", id="no path"),
        pytest.param("path,x,y\na/one.jpg,1,2\n", "neither probabilities nor labels", id="no prediction"),
        pytest.param("path,nut,bolt,screw\na/one.jpg,.7,.2,.1\n", "other classes", id="unknown column"),
        pytest.param("path,label\na/one.jpg,screw\n", "does not know", id="unknown label"),
        pytest.param("path,label\na/one.jpg,3\n", "does not know", id="number beyond the last"),
        pytest.param("path,label\ntwo.jpg,nut\n", "several photos", id="ambiguous name"),
        pytest.param("path,label\nz.jpg,nut\n", "No row of the predictions is about a photo", id="another folder"),
        pytest.param("path,label\na/one.jpg,nut\none.jpg,bolt\n", "two different predictions", id="twice"),
        pytest.param("path,label\na/one.jpg,\n", "can be used", id="nothing usable"),
        pytest.param("path,nut,bolt,10 mm\na/one.jpg,0,7,0,2,0,1\n", "another number of cells", id="comma and comma"),
        pytest.param("path,nut,nut\na/one.jpg,1,2\n", "one name", id="a column twice"),
        pytest.param("[1, 2]", "JSON list of int", id="no records"),
        pytest.param("[[1, 2", "neither JSON", id="broken JSON"),
        pytest.param(b"PAR1 and no more", "cannot be read", id="broken Parquet"),
        pytest.param(b"\x80\x05\x95\x00\x00pickle\xff", "binary file", id="a pickle"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_file_and_what_to_do(
    text: str | bytes, says: str, tmp_path: Path
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(WrongUse) as refused:
        read(file)
    assert says in str(refused.value)
    assert refused.value.file == str(file)


def test_a_file_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="cannot be read"):
        read(tmp_path / "none.csv")


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["reference", "mistake_a", "mistake_b", "mistake_c"])
def test_a_real_file_of_predictions_is_read_against_a_folder_below_or_above_its_paths(name: str, data: Path) -> None:
    file = data / "adopt/waste" / f"predictions_{name}.csv"
    classes = tuple(line.split(" ", 1)[1] for line in (data / "adopt/waste/labels.txt").read_text().splitlines())
    for folder in (data, data / "trashnet"):
        photos = [path.relative_to(folder).as_posix() for path in sorted((data / "trashnet").rglob("*.jpg"))]
        found = read_predictions(file, classes, photos)
        assert (len(found), found.kind) == (120, "probabilities")
        stated = pd.read_csv(file)
        np.testing.assert_array_equal(found.probabilities, stated[list(classes)].to_numpy())
        assert all(theirs.endswith(ours) for theirs, ours in zip(stated["path"], found.paths, strict=True))


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_a_mapping_of_classes_is_read_by_its_names_whatever_their_order(tmp_path: Path, form: str) -> None:
    rows = [
        {"path": "a.jpg", "probabilities": {"metal": 0.9, "glass": 0.1}},
        {"path": "b.jpg", "probabilities": {"glass": 0.8, "metal": 0.2}},
    ]
    file = tmp_path / f"theirs.{form}"
    if form == "json":
        file.write_text(json.dumps(rows))
    else:
        pd.DataFrame(rows).to_parquet(file)
    found = read_predictions(file, ("glass", "metal"), ("a.jpg", "b.jpg"))
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, [[0.1, 0.9], [0.8, 0.2]])


@pytest.mark.parametrize("text", ["\ufeff", ",,,\n", "\n\n"])
def test_a_file_of_nothing_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "theirs.csv"
    file.write_text(text)
    with pytest.raises(WrongUse):
        read_predictions(file, ("glass", "metal"), ("a.jpg",))


def _parquet(**columns: pa.Array) -> bytes:
    held = io.BytesIO()
    pq.write_table(pa.table(columns), held)
    return held.getvalue()


DIGITS = "9" * 5000
HOSTILE = {
    "spaces of Unicode": "\u00a0\u2003\n\u00a0",
    "quotes with nothing in them": '""\n""\n',
    "a header of a megabyte": "path," + "x" * 1_000_000,
    "a number of thousands of digits": f'[{{"path": "a/one.jpg", "nut": {DIGITS}, "bolt": 0, "10 mm": 0}}]',
    "a number that no float holds": f'[{{"path": "a/one.jpg", "nut": {DIGITS[:400]}, "bolt": 0, "10 mm": 0}}]',
    "a list of such numbers": f'[{{"path": "a/one.jpg", "probabilities": [{DIGITS[:400]}, 0, 0]}}]',
    "an exponent of thousands of digits": f"path,nut,bolt,10 mm\na/one.jpg,1e{DIGITS},0,0\n",
    "JSON lines that are nested without end": '{"path": "a/one.jpg"}\n' + "[" * 100_000,
    "a column for each record": json.dumps([{f"{n}": 0} for n in range(20_000)]),
    "a class for each record": json.dumps([{"path": "a/one.jpg", "probabilities": {f"{n}": 0}} for n in range(20_000)]),
    "half a character in a name": '[{"path": "a/one.jpg", "predicted": "\\ud800"}]',
    "a class that is a megabyte": f"path,predicted\na/one.jpg,{'x' * 100_000}\n",
    "a path of many folders": json.dumps([{"path": "/" + "x/" * 300_000, "predicted": "nut"}]),
    "times that Python does not know": _parquet(path=pa.array(["a"]), at=pa.array([2**62], pa.timestamp("ms"))),
    "maps of lists": _parquet(
        path=pa.array(["a"]), scores=pa.array([[([1], 2.0)]], pa.map_(pa.list_(pa.int8()), pa.float32()))
    ),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_somebody_made_to_do_harm_is_refused_in_a_few_words(tmp_path: Path, data: str | bytes) -> None:
    with pytest.raises(WrongUse) as refused:
        read(written(tmp_path, data))
    assert len(str(refused.value)) < 4000


def test_a_table_that_unpacks_to_more_cells_than_a_file_is_worth_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, _parquet(path=pa.array(PHOTOS), predicted=pa.array(["nut"] * 4)))
    assert len(read(file)) == 4
    monkeypatch.setattr(predictions_table, "_MOST_CELLS", 7)
    with pytest.raises(WrongUse, match="4 rows of 2 columns"):
        read(file)
