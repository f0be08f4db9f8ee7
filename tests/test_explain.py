"""`darkroom explain`: one image against the sealed bundle, from its bytes to one sentence and one page."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom import demo_world
from darkroom.errors import WrongUse
from expectations.cause import Cause
from flows.explain import explain
from flows.explained import Explained
from flows.explaining import beside_of, explain_bytes
from flows.looking import Instruments, proved
from tasks.bundle import Bundle
from tasks.corruptions import corrupt
from tasks.damage import measure_damage
from tasks.report.explain_page import ExplainPage, GroundShown, PhotoNear, explain_html, explain_markdown
from tasks.slight_changes import CHANGES, slightly_changed
from tasks.stated_prediction import StatedPrediction, read_stated
from tasks.thumbnails import LARGEST, read_thumbnails, seal_thumbnails, small_picture
from tasks.variants import Replay, applied, catalogue
from tests.shown import HOSTILE, Outline, assert_harmless
from tests.tiny import drawn

NAMES = ("bolt", "nut", "washer")


def _jpeg(pixels: np.ndarray, quality: int = 92) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=quality)
    return sink.getvalue()


# --- what somebody says was predicted --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "predicted", "confidence", "rounding"),
    [
        pytest.param("nut", 1, None, 0.0, id="a class"),
        pytest.param("nut=0.93", 1, 0.93, 0.005, id="a class and its confidence"),
        pytest.param("washer = 93.1 %", 2, 0.931, 0.0005, id="percent"),
        pytest.param('{"bolt": 0.9}', 0, 0.9, 0.05, id="an object with one class"),
    ],
)
def test_a_stated_prediction_is_read(text: str, predicted: int, confidence: float | None, rounding: float) -> None:
    stated = read_stated(text, NAMES)
    assert stated.predicted == predicted
    assert stated.confidence == (None if confidence is None else pytest.approx(confidence))
    assert stated.rounding == pytest.approx(rounding)


@pytest.mark.parametrize(
    "text",
    [
        "[0.125, 0.75, 0.125]",
        "[[0.125, 0.75, 0.125]]",
        '{"nut": 0.75, "washer": 0.125, "bolt": 0.125}',
    ],
    ids=["a list", "a row as predict gives it", "an object"],
)
def test_all_probabilities_are_read_in_the_order_of_the_classes(text: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.json").write_text(text)
    for told in (text, str(tmp_path / "theirs.json")):
        stated = read_stated(told, NAMES)
        assert stated.probabilities is not None
        assert stated.probabilities.tolist() == [0.125, 0.75, 0.125]
        assert stated.predicted == 1
        assert stated.distance(np.array([0.125, 0.75, 0.125])) == 0
        assert stated.distance(np.array([0.225, 0.65, 0.125])) == pytest.approx(0.0995)


@pytest.mark.parametrize(
    "text",
    [
        "gear",
        "nut=much",
        "nut=1.5",
        "[0.5, 0.5]",
        "[0.9, 0.9, 0.9]",
        "{",
        '{"gear": 1}',
        "[NaN, 0, 1]",
        '[{"a": 1}, 0, 1]',
    ],
)
def test_what_is_no_prediction_of_these_classes_is_refused(text: str) -> None:
    with pytest.raises(WrongUse, match="stated prediction"):
        read_stated(text, NAMES)


def test_a_class_alone_agrees_with_every_answer_of_that_class() -> None:
    stated = StatedPrediction(1)
    assert stated.distance(np.array([0.3, 0.4, 0.3])) == 0
    assert stated.distance(np.array([0.5, 0.4, 0.1])) == 1


# --- pixels ----------------------------------------------------------------------------------------------------------


def _photo(seed: int = 1, size: tuple[int, int] = (120, 90)) -> np.ndarray:
    return np.asarray(drawn(seed, size))


def test_slight_changes_keep_the_frame_and_change_the_picture_a_little() -> None:
    photo = _photo()
    changed = slightly_changed(photo)
    assert changed.shape == (len(CHANGES), *photo.shape)
    off = np.abs(changed.astype(int) - photo).mean(axis=(1, 2, 3))
    assert (off > 0).all()
    assert (off < 30).all()
    assert np.array_equal(changed, slightly_changed(photo.astype(np.float32)))


@pytest.mark.parametrize(
    ("kind", "sign", "more"),
    [("gaussian_noise", "grain", True), ("impulse_noise", "grain", True), ("motion_blur", "edge_strength", False)],
)
def test_damage_leaves_its_sign(kind: str, sign: str, more: bool) -> None:
    photo = _photo(size=(240, 180))
    before, after = measure_damage(photo)[sign], measure_damage(corrupt(photo, kind, 5, 0))[sign]
    assert (after > 1.5 * before) if more else (after < 0.8 * before)


@pytest.mark.parametrize("turns", range(4))
def test_a_part_that_was_filled_in_is_missing_on_whichever_side_it_is(turns: int) -> None:
    photo = _photo(size=(160, 120)).copy()
    assert measure_damage(photo)["missing_share"] == 0
    photo[72:] = 128
    assert measure_damage(np.rot90(photo, turns))["missing_share"] == pytest.approx(0.4, abs=0.05)


def test_a_drawing_on_a_plain_ground_misses_nothing() -> None:
    drawing = np.full((160, 120, 3), 240, np.uint8)
    drawing[40:90, 30:70] = (200, 30, 30)
    assert measure_damage(drawing)["missing_share"] == 0


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 3), (3, 2, 3), (9, 200, 3)])
def test_damage_of_the_smallest_images_is_a_number(shape: tuple[int, ...]) -> None:
    assert all(np.isfinite(value) for value in measure_damage(np.full(shape, 7, np.uint8)).values())


# --- thumbnails ------------------------------------------------------------------------------------------------------


def test_a_small_picture_undoes_the_squash_and_stays_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    picture = small_picture(noise, proportions=4 / 3)
    assert Image.open(io.BytesIO(picture)).size == (96, 72)
    assert len(picture) <= LARGEST


def test_thumbnails_are_sealed_for_some_of_many_photos_and_read_by_content(bundle: Bundle) -> None:
    profile = bundle.profile().head(30)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    few = seal_thumbnails(pixels, profile, bundle.preprocessing, seed=1, most=10)
    assert few == seal_thumbnails(pixels, profile, bundle.preprocessing, seed=1, most=10)
    found = read_thumbnails(few, [*profile["content_id"], "unknown"])
    assert len(found) == 10
    assert set(found) <= set(profile["content_id"])


# --- the whole way ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def instruments(bundle: Bundle) -> Instruments:
    return proved(bundle.path)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("night")
    demo_world.draw_night(folder, "good", images=40, seed=9)
    return sorted(folder.rglob("*.jpg"))


@pytest.fixture(scope="module")
def explained(bundle: Bundle, night: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Explained:
    return explain(image=night[0], bundle=bundle.path, out=tmp_path_factory.mktemp("explained"))


def test_a_bundle_keeps_what_it_takes_to_explain(instruments: Instruments) -> None:
    beside = beside_of(instruments)
    assert beside.standard.damage is not None
    assert beside.standard.steadiness is not None
    assert beside.standard.plausible_from is not None
    assert beside.thumbnails is not None
    held = beside.profile[beside.profile["split"] == "validation"]
    assert beside.standard.steadiness.n == min(300, len(held))


def test_the_bank_is_the_one_that_scores(instruments: Instruments) -> None:
    assert np.array_equal(beside_of(instruments).bank.bank, instruments.knowledge.neighbours.bank)


def test_a_training_photo_is_nearest_to_itself(instruments: Instruments, world: Path) -> None:
    row = beside_of(instruments).training.iloc[5]
    nearest = explain_bytes((world / row["path"]).read_bytes(), instruments).neighbours[0]
    assert nearest.path == row["path"]
    assert nearest.label == row["label"]
    assert nearest.distance < 0.05
    assert nearest.thumbnail.startswith(b"\xff\xd8\xff")


def test_page_and_json_say_the_same_and_the_page_loads_nothing(explained: Explained) -> None:
    html = Path(explained.page).read_text()
    outline = Outline(html)
    assert explained.sentence in outline.text
    assert explained.context in outline.text
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert "<script" not in html
    told = json.loads((Path(explained.page).parent / "explain.json").read_text())
    assert told == explained.model_dump(mode="json")
    assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert told["variants"]["tried"] > 40
    assert told["slight_changes"]["tried"] == len(CHANGES)
    assert explained.sentence in explained.as_text()


@pytest.mark.parametrize("way", ["probabilities", "confidence"])
def test_a_prediction_of_a_wrong_preparation_is_explained_by_it(
    instruments: Instruments, night: list[Path], way: str
) -> None:
    pinned, classes = instruments.bundle.preprocessing, instruments.bundle.classes
    wrong = next(one for one in catalogue(pinned) if one.name == "scaling=twice")
    made = applied(pinned, [wrong])
    assert made is not None
    moved = 0
    for path in night[:8]:
        replay = Replay(instruments.engine, [path.read_bytes()], pinned)
        theirs, own = replay.probabilities(made)[0], replay.probabilities(pinned)[0]
        if np.abs(theirs - own).max() < 0.1:
            continue
        moved += 1
        told = json.dumps([float(one) for one in theirs])
        if way == "confidence":
            told = f"{classes[int(theirs.argmax())]}={theirs.max():.6f}"
        found = explain_bytes(path.read_bytes(), instruments, read_stated(told, classes))
        assert found.explanation.cause is Cause.PREPARATION
        assert found.evidence.theirs is not None
        assert "scaling=twice" in found.evidence.theirs.reproduced_by
    assert moved


def test_a_function_of_a_wrong_preparation_is_explained_by_it(
    bundle: Bundle, night: list[Path], tmp_path: Path, prefect_api: str
) -> None:
    height, width, _ = bundle.preprocessing.input_shape
    code = tmp_path / "theirs.py"
    code.write_text(
        "import numpy as np\nfrom PIL import Image\n\n\ndef prepared(path):\n"
        f"    photo = Image.open(path).convert('RGB').resize(({width}, {height}), Image.Resampling.NEAREST)\n"
        "    return np.asarray(photo, np.float32) / 127.5 - 1\n"
    )
    found = explain(image=night[0], bundle=bundle.path, call=f"{code}:prepared", out=tmp_path / "out")
    said = " ".join(ground for one in found.grounds for ground in one.evidence)
    assert "The first stage that differs is tensor" in said
    with pytest.raises(WrongUse, match="cannot both"):
        explain(image=night[0], bundle=bundle.path, call="a:b", prediction="x", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(lambda data: data[: len(data) // 2], "broken", id="half a file"),
        pytest.param(lambda data: b"", "broken", id="an empty file"),
        pytest.param(
            lambda data: _jpeg(corrupt(np.array(Image.open(io.BytesIO(data)).convert("RGB")), "gaussian_noise", 5, 0)),
            "noisy",
            id="sensor noise",
        ),
        pytest.param(
            lambda data: _jpeg(np.array(Image.open(io.BytesIO(data)).convert("RGB")), 3), "quality", id="compression"
        ),
    ],
)
def test_a_damaged_file_is_called_damaged(instruments: Instruments, night: list[Path], damage, says: str) -> None:  # type: ignore[no-untyped-def]
    found = explain_bytes(damage(night[1].read_bytes()), instruments)
    assert found.explanation.cause is Cause.NOISE
    assert says in found.explanation.sentence


@pytest.mark.parametrize("content", [b"%PDF-1.7 not an image", b"just text"], ids=["pdf", "text"])
def test_what_is_no_image_is_another_kind_of_file_and_has_a_page(
    bundle: Bundle, content: bytes, tmp_path: Path, prefect_api: str
) -> None:
    path = tmp_path / "odd.jpg"
    path.write_bytes(content)
    found = explain(image=path, bundle=bundle.path, out=tmp_path / "out")
    assert found.cause == "other distribution"
    assert found.verdict == "quarantined"
    assert found.sentence in Outline(Path(found.page).read_text()).text


def test_an_image_of_another_size_and_mode_is_unlike_training(instruments: Instruments) -> None:
    sink = io.BytesIO()
    drawn(3, (31, 17)).quantize(8).save(sink, "GIF")
    assert explain_bytes(sink.getvalue(), instruments).explanation.cause is Cause.OTHER_DISTRIBUTION


def test_a_missing_file_is_wrong_use(bundle: Bundle, tmp_path: Path, prefect_api: str) -> None:
    with pytest.raises(WrongUse, match="no such file"):
        explain(image=tmp_path / "none.jpg", bundle=bundle.path)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_names_and_labels_stay_text(text: str) -> None:
    page = ExplainPage(
        image=text,
        bundle_id="parts-1-0123456789ab",
        cause="close call",
        sentence=f"It is a close call between {text} and nut.",
        context=text,
        grounds=(GroundShown("close call", text, (text,)),),
        stated=text,
        classes=((text, 0.5), ("nut", 0.5)),
        facts={"camera": text},
        neighbours=(PhotoNear(text, text, text, 0.1),),
    )
    html = explain_html(page)
    outline = Outline(html)
    assert {name for name, _ in outline.elements} <= {
        "html", "head", "meta", "title", "style", "body", "a", "header", "p", "strong", "span", "bdi", "b", "h1", "h2",
        "h3", "main", "section", "div", "table", "caption", "tbody", "tr", "th", "td", "ul", "li", "dl", "dt", "dd",
        "footer",
    }  # fmt: skip
    assert not re.search(r"<[^>]*(onerror|onmouseover)", html)
    assert "<img" not in explain_markdown(page)
    assert_harmless(outline.text.replace("\n", ""))
