"""`darkroom diagnose` on a sealed bundle: files of predictions, functions, the page, and how it ends."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from darkroom.errors import Failed, WrongUse
from expectations.answers import Answers
from flows.diagnose import Diagnosis, diagnose
from flows.searching import search, telling_rows
from tasks.bundle import Bundle
from tasks.calling import call
from tasks.inference import Engine
from tasks.photos import Photos, photos_in
from tasks.preprocessing import Preprocessing, prepare
from tasks.report.diagnosis_page import DiagnosisPage, as_seen, diagnosis_html, diagnosis_markdown
from tasks.variants import Replay, catalogue

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture(scope="module")
def photos(tiny_photos: Path) -> tuple[str, ...]:
    return photos_in(tiny_photos)


@pytest.fixture(scope="module")
def replay(tiny_bundle: Bundle, tiny_engine: Engine, tiny_photos: Path, photos: tuple[str, ...]) -> Replay:
    return Replay(tiny_engine, Photos(tiny_photos, photos), tiny_bundle.preprocessing)


@pytest.fixture(scope="module")
def predicted(
    replay: Replay, tiny_bundle: Bundle, photos: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """A file of predictions under a preparation that differs from the pinned one in some knobs."""
    folder = tmp_path_factory.mktemp("theirs")

    def write(knobs: dict[str, object], change: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame) -> Path:
        shares = replay.probabilities(tiny_bundle.preprocessing.with_knobs(**knobs))
        frame = pd.DataFrame(shares, columns=list(tiny_bundle.classes))
        frame.insert(0, "path", list(photos))
        file = folder / f"{len(list(folder.iterdir()))}.csv"
        change(frame).to_csv(file, index=False, float_format="%.6f")
        return file

    return write


def run(bundle: Bundle, images: Path, out: Path, **how: object) -> Diagnosis:
    return diagnose(bundle=bundle.path, images=images, out=out, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("knobs", "named"),
    [
        pytest.param({"channel_order": "bgr"}, "channel_order=bgr", id="channels"),
        pytest.param({"interpolation": "nearest", "antialias": False}, "interpolation=nearest", id="filter"),
        pytest.param({"exif_orientation": "applied"}, "exif_orientation=applied", id="one turned photo shows it"),
    ],
)
def test_one_mistake_is_named_with_its_sentence_page_and_fix(
    knobs: dict[str, object],
    named: str,
    predicted: Callable[..., Path],
    tiny_bundle: Bundle,
    tiny_photos: Path,
    tmp_path: Path,
) -> None:
    told = run(tiny_bundle, tiny_photos, tmp_path, predictions=predicted(knobs))
    assert told.cause.variants == (named,)
    assert (told.same, told.explained, told.cause.level) == (False, True, "reproduced")
    assert named in told.sentence
    assert told.cause.share_reproduced == 1
    assert told.runner_up is not None
    assert any(finding.startswith("In the model: ") for finding in told.findings)
    assert {fix.library for fix in told.fixes} == {"Pillow", "Keras", "tf.data", "OpenCV", "darkroom"}
    page = (tmp_path / "diagnosis.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "<script" not in page
    assert page.count("data:image/jpeg") >= 2
    assert json.loads((tmp_path / "diagnosis.json").read_text())["cause"]["variants"] == [named]


def test_two_mistakes_are_both_named(
    predicted: Callable[..., Path], tiny_bundle: Bundle, tiny_photos: Path, tmp_path: Path
) -> None:
    told = run(tiny_bundle, tiny_photos, tmp_path, predictions=predicted({"channel_order": "bgr", "fit": "crop"}))
    assert set(told.cause.variants) == {"channel_order=bgr", "fit=crop"}
    assert told.tried["pairs"] > 500


def test_the_bundles_own_predictions_differ_in_nothing(
    predicted: Callable[..., Path], tiny_bundle: Bundle, tiny_photos: Path, tmp_path: Path
) -> None:
    told = run(tiny_bundle, tiny_photos, tmp_path, predictions=predicted({}))
    assert (told.same, told.explained, told.cause.variants) == (True, False, ())
    assert told.sentence.startswith("No difference")
    assert told.fixes == ()


def test_a_class_order_is_named_and_mended_by_a_line(
    predicted: Callable[..., Path], tiny_bundle: Bundle, tiny_photos: Path, tmp_path: Path
) -> None:
    def relabelled(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.set_axis(["path", *sorted(tiny_bundle.classes)], axis=1)

    told = run(tiny_bundle, tiny_photos, tmp_path, predictions=predicted({}, relabelled))
    assert told.cause.variants == ("class_order=alphabetical",)
    assert any("classes = " in mend for mend in told.mends)
    assert told.fixes == ()


def test_a_file_that_nobody_can_read_hides_no_mistake_in_the_others(
    replay: Replay, tiny_photos: Path, photos: tuple[str, ...], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    shares = replay.probabilities(replay.pinned).astype(np.float64)
    order = np.random.default_rng(0).permutation(len(photos))
    shutil.copytree(tiny_photos, tmp_path / "photos")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    frame = pd.DataFrame(shares[order], columns=list(tiny_bundle.classes))
    frame.insert(0, "path", list(photos))
    frame.loc[len(frame)] = ["broken.jpg", *shares[0]]
    frame.to_csv(tmp_path / "theirs.csv", index=False)
    told = run(tiny_bundle, tmp_path / "photos", tmp_path / "out", predictions=tmp_path / "theirs.csv")
    assert told.cause.variants == ("order=shuffled",)
    assert told.images == len(photos)
    assert "1 file was left out: no decoder reads it." in told.findings


def test_predictions_of_something_else_are_not_explained(
    predicted: Callable[..., Path], tiny_bundle: Bundle, tiny_photos: Path, tmp_path: Path
) -> None:
    def noise(frame: pd.DataFrame) -> pd.DataFrame:
        shares = np.random.default_rng(0).dirichlet(np.ones(4), len(frame))
        return frame.assign(**dict(zip(tiny_bundle.classes, shares.T, strict=True)))

    told = run(tiny_bundle, tiny_photos, tmp_path, predictions=predicted({}, noise))
    assert (told.same, told.explained, told.cause.variants) == (False, False, ())
    assert told.sentence.startswith("Not explained")


def test_of_many_images_the_telling_ones_are_tried_first_and_all_at_the_end(
    replay: Replay, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows.searching

    monkeypatch.setattr(flows.searching, "FEW", 20)
    shares = replay.probabilities(tiny_bundle.preprocessing.with_knobs(channel_order="bgr")).astype(np.float64)
    theirs = Answers("probabilities", shares, shares.argmax(axis=1), None)
    searched = search(replay, theirs, tiny_bundle.classes)
    assert searched.found.variants == ("channel_order=bgr",)
    assert (searched.few, searched.found.rows) == (20, len(replay))
    # What the few suggest, and the others refute, is no explanation.
    seen = telling_rows(theirs, replay.probabilities(tiny_bundle.preprocessing), 20)
    others = np.setdiff1d(np.arange(len(replay)), seen)
    off = shares.copy()
    off[others] = np.random.default_rng(0).dirichlet(np.ones(4), len(others))
    mixed = Answers("probabilities", off, off.argmax(axis=1), None)
    monkeypatch.setattr(flows.searching, "telling_rows", lambda *_: seen)
    assert search(replay, mixed, tiny_bundle.classes).found.variants == ()
    monkeypatch.undo()
    rows = telling_rows(theirs, replay.probabilities(tiny_bundle.preprocessing), 20)
    assert len(set(rows.tolist())) == 20
    assert (np.diff(rows) > 0).all()


def test_every_variant_that_these_odd_files_can_show_is_named_first(replay: Replay, tiny_bundle: Bundle) -> None:
    """Palettes, transparency, EXIF, grey: files on which nearly all of the catalogue shows."""
    from expectations.reproduction import conclude, weigh

    variants = [one for one in catalogue(tiny_bundle.preprocessing) if one.stage != "model"]
    answers = [replay.of([one]) for one in variants]
    names = [(), *((one.name,) for one in variants)]
    stacked = np.stack([replay.probabilities(tiny_bundle.preprocessing), *(one for one in answers if one is not None)])
    right, shown = 0, 0
    for place in range(1, len(names)):
        if np.nan_to_num(np.abs(stacked[place] - stacked[0]), nan=1.0).max() < 1e-3:
            continue
        readable = np.isfinite(stacked[place]).all(axis=1)
        shares = stacked[place][readable].astype(np.float64)
        theirs = Answers("probabilities", shares, shares.argmax(axis=1), None)
        found = conclude(weigh(theirs, names, stacked[:, readable]), nearly=False)
        shown += 1
        right += names[place] in (found.variants, *found.alike)
    assert shown >= 45
    assert right / shown >= 0.98


FUNCTIONS = """
import sys
import numpy as np
from pathlib import Path
from PIL import Image

def tensor(path):
    print("chatter on stdout")
    image = Image.open(path).convert("RGB").resize(({width}, {height}), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32) {scale}

def of_bytes(data: bytes):
    import io
    return tensor(io.BytesIO(data))

def of_image(img):
    return np.asarray(img.convert("RGB").resize(({width}, {height}), Image.Resampling.BILINEAR), np.float32) {scale}

def of_path(where: Path):
    assert isinstance(where, Path)
    return tensor(where)[None]

def label(path):
    return "nut", 0.5

def labelled(path):
    return {{"confidence": 0.25, "class": "nut"}}

def placed(path):
    return {{"class": "nut", "class_id": 2}}

def position(path):
    return np.int64(2)

def text_only(path):
    raise ValueError("no <model> here")

def sleeps(path):
    import time
    time.sleep(60)

def dies(path):
    import os
    os._exit(7)
"""


@pytest.fixture
def module(tmp_path: Path, tiny_bundle: Bundle) -> Callable[[str], Path]:
    def write(scale: str) -> Path:
        height, width, _ = tiny_bundle.preprocessing.input_shape
        file = tmp_path / "tasks.py"  # a name that is one of ours, too
        file.write_text(FUNCTIONS.format(width=width, height=height, scale=scale))
        return file

    return write


@pytest.mark.parametrize(
    ("function", "way"),
    [("tensor", "a path"), ("of_bytes", "bytes"), ("of_image", "a Pillow image"), ("of_path", "a Path")],
)
def test_a_function_is_given_what_it_takes_and_equals_the_pinned_tensor(
    function: str, way: str, module: Callable[[str], Path], tiny_bundle: Bundle, tiny_photos: Path, tmp_path: Path
) -> None:
    files = [tiny_photos / "photo 01.jpg", tiny_photos / "wide.jpg"]
    called = call(f"{module('* np.float32(1 / 255)')}:{function}", files, seconds=60)
    assert called.way == way
    for file, returned in zip(files, called.returned, strict=True):
        found = returned.arrays["0"].reshape(tiny_bundle.preprocessing.input_shape)
        np.testing.assert_array_equal(found, prepare(file.read_bytes(), tiny_bundle.preprocessing).tensor)


@pytest.mark.parametrize(
    ("function", "label", "confidence"),
    [("label", "nut", 0.5), ("labelled", "nut", 0.25), ("placed", "nut", None), ("position", "2", None)],
    ids=["a tuple", "a dict", "a dict with its position", "argmax"],
)
def test_a_function_may_answer_with_a_class(
    function: str, label: str, confidence: float | None, module: Callable[[str], Path], tiny_photos: Path
) -> None:
    (found,) = call(f"{module('')}:{function}", [tiny_photos / "wide.jpg"], seconds=60).returned
    assert (found.label, found.confidence) == (label, confidence)


def test_the_first_stage_that_differs_is_named_and_the_cause_too(
    module: Callable[[str], Path],
    tiny_bundle: Bundle,
    tiny_photos: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    told = run(tiny_bundle, tiny_photos, tmp_path / "out", call=f"{module('/ 127.5 - 1')}:tensor", samples=12)
    assert told.cause.variants == ("scaling=tf",)
    (stage,) = told.stages
    assert (stage["stage"], stage["verdict"]) == ("tensor", "differs")
    assert "first stage that differs is tensor" in " ".join(told.findings)
    assert "chatter" not in "".join(capfd.readouterr())


def test_a_function_that_prepares_as_pinned_differs_in_nothing(
    module: Callable[[str], Path], tiny_bundle: Bundle, tiny_photos: Path, tmp_path: Path
) -> None:
    told = run(tiny_bundle, tiny_photos, tmp_path / "out", call=f"{module('* np.float32(1 / 255)')}:tensor", samples=10)
    assert told.same
    assert told.stages[0]["verdict"] == "equal"


@pytest.mark.parametrize(
    ("function", "error", "says"),
    [
        pytest.param("text_only", WrongUse, "no <model> here", id="it raises"),
        pytest.param("missing", WrongUse, "cannot be imported", id="no such function"),
        pytest.param("sleeps", Failed, "still running", id="it hangs"),
        pytest.param("dies", Failed, "exit code 7", id="it dies"),
    ],
)
def test_a_function_that_fails_costs_nothing_but_a_message(
    function: str, error: type[Exception], says: str, module: Callable[[str], Path], tiny_photos: Path
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        call(f"{module('')}:{function}", [tiny_photos / "wide.jpg"], seconds=3 if function == "sleeps" else 60)


def test_a_module_that_is_not_there_and_a_target_without_function_are_wrong_use(tmp_path: Path) -> None:
    for target in ("predict", str(tmp_path / "none.py:predict")):
        with pytest.raises(WrongUse):
            call(target, [], seconds=1)


def test_either_a_file_or_a_function(tiny_bundle: Bundle, tiny_photos: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="nothing to diagnose"):
        run(tiny_bundle, tiny_photos, tmp_path)
    (tmp_path / "x.csv").write_text("path,label\n")
    with pytest.raises(WrongUse, match="both"):
        run(tiny_bundle, tiny_photos, tmp_path, predictions=tmp_path / "x.csv", call="a:b")


def test_names_on_the_page_are_text() -> None:
    from tasks.report.diagnosis_page import ImageShown

    evil = "<img src=x onerror=alert(1)>\u202e.jpg"
    shown = ImageShown(evil, evil, evil, "")
    page = DiagnosisPage(evil, "explained", evil, [(evil, evil)], [evil], [], [(evil, 1, 0, 0)], [evil], [evil],
                         [(evil, evil)], [evil], [(evil, evil, evil)], [shown])  # fmt: skip
    for text in (diagnosis_html(page), diagnosis_markdown(page)):
        assert "<img src=x" not in text
        assert "\u202e" not in text


@pytest.mark.parametrize(
    "knobs", [{}, {"channel_order": "bgr"}, {"divide_by": 127.5, "mean": (1.0, 1.0, 1.0)}], ids=str
)
def test_a_tensor_is_shown_as_what_the_model_believes_it_sees(knobs: dict[str, object], tiny_bundle: Bundle) -> None:
    import io

    from PIL import Image

    pinned: Preprocessing = tiny_bundle.preprocessing.with_knobs(**knobs)
    grey = np.full((40, 56, 3), (200, 100, 50), np.uint8)
    from tasks.preprocessing import to_tensor

    seen = np.asarray(Image.open(io.BytesIO(as_seen(to_tensor(grey, pinned.values), pinned.values))))
    assert np.abs(seen.astype(int) - grey).max() <= 4
    assert as_seen(np.full((40, 56, 3), np.nan, np.float32), pinned.values) == b""
