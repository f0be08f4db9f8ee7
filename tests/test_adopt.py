"""`darkroom adopt`: anybody's model becomes a bundle like any other, and says how sure its preparation is."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import darkroom
from darkroom import asking
from darkroom.cli import app
from darkroom.errors import DataFolderError, WrongUse
from darkroom.settings import ExaminationOptions
from expectations import preparation
from flows.adopt import Adopted, adopt
from tasks.adopting import match_folders
from tasks.bundle import open_bundle
from tasks.preprocessing import Preprocessing, prepare
from tasks.presets import preset
from tasks.training.dataset import Dataset, LabelledFile, scan
from tests import tiny

DOCS = Path(__file__).parent.parent / "docs"
COLOURS = {"brick": (190, 90, 60), "grass": (90, 170, 70), "sky": (90, 120, 200)}
SIZE = (40, 32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that differ in colour, 40 photos each, none of them square."""
    folder = tmp_path_factory.mktemp("photos") / "labelled"
    for label, colour in COLOURS.items():
        (folder / label).mkdir(parents=True)
        for number in range(40):
            drawn = np.asarray(tiny.drawn(number + 100 * len(label))).astype(int)
            picture = np.clip(0.5 * (drawn - 128) + np.array(colour), 0, 255).astype(np.uint8)
            (folder / label / f"{number:02d}.jpg").write_bytes(tiny.encoded(Image.fromarray(picture)))
    whole = (folder / "sky" / "00.jpg").read_bytes()
    (folder / "brick" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def pinned() -> Preprocessing:
    """How their images were prepared, which nobody has written down."""
    return preset("load_img", size=SIZE, interpolation="bilinear", values="tf")


@pytest.fixture(scope="module")
def theirs(photos: Path, pinned: Preprocessing, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier as somebody else would bring it: one file, and nothing beside it; its outputs in no usual order."""
    import keras

    names = ["sky", "brick", "grass"]
    files = [file for file in sorted(photos.rglob("*.jpg")) if file.stem != "broken"][::2]
    x = np.stack([prepare(file.read_bytes(), pinned).tensor for file in files])
    y = np.array([names.index(file.parent.name) for file in files])
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            layers.Conv2D(8, 5, strides=3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(16, "relu"),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=60, verbose=0)
    path = tmp_path_factory.mktemp("theirs") / "my_model.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def adopted(theirs: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Adopted:
    """Adopted with nothing stated: order of the outputs and preparation come from the photos."""
    return adopt(model=theirs, data=photos, models=tmp_path_factory.mktemp("adopted"), ladder_images=8)


def probabilities(path: str, file: Path) -> np.ndarray:
    return np.asarray(darkroom.predict(Path(path), [file])["probabilities"][0])


def test_the_order_of_the_outputs_is_found(adopted: Adopted) -> None:
    assert adopted.classes == ("sky", "brick", "grass")
    assert any("solved" in sentence for sentence in adopted.sentences)


def test_an_adopted_model_is_a_bundle_like_any_other(adopted: Adopted, photos: Path) -> None:
    mine = open_bundle(Path(adopted.path))
    assert {"suite.json", "drift.json", "calibration.json", "ladder.json", "preparation.json", "card.html"} <= set(
        mine.manifest.digests
    )
    rows = darkroom.predict(mine.path, sorted((photos / "sky").glob("*.jpg"))[:5])
    assert set(rows["predicted_class"]) == {"sky"}
    assert adopted.accuracy > 0.9
    assert adopted.difference <= 1e-5


def test_what_it_was_trained_with_is_in_the_stated_set(adopted: Adopted, pinned: Preprocessing) -> None:
    tried = json.loads(open_bundle(Path(adopted.path)).read_bytes("preparation.json"))["tried"]
    plausible = [Preprocessing.parse(one["preprocessing"], source=None) for one in tried if one["in_set"]]
    assert pinned in plausible
    assert len(plausible) < len(tried)


def test_a_broken_photo_is_left_out_and_listed(adopted: Adopted) -> None:
    assert list(open_bundle(Path(adopted.path)).manifest.metrics["left_out"]) == ["brick/broken.jpg"]
    assert adopted.images == 120


def test_a_bundle_is_named_after_the_file_and_a_second_one_says_that_it_is_not_in_use(
    adopted: Adopted, theirs: Path, photos: Path, prefect_api: str
) -> None:
    models = Path(adopted.path).parents[1]
    assert (adopted.bundle_id.startswith("my_model-1-"), adopted.in_use) == (True, True)
    again = adopt(
        model=theirs,
        data=photos,
        models=models,
        preprocessing="load_img:tf",
        ladder_images=0,
        sensitivity_images=0,
        thumbnails=False,
    )
    assert (again.bundle_id.startswith("my_model-2-"), again.in_use) == (True, False)
    assert "darkroom promote my_model 2" in again.as_text()
    assert open_bundle(Path(again.path)).preprocessing == preset("load_img", size=SIZE, values="tf")


@pytest.mark.parametrize("stated", ["load-img", "load_img:half", "nowhere.json"])
def test_a_preparation_that_is_none_is_refused_with_what_there_is(
    theirs: Path, photos: Path, tmp_path: Path, prefect_api: str, stated: str
) -> None:
    with pytest.raises(WrongUse):
        adopt(model=theirs, data=photos, models=tmp_path / "models", preprocessing=stated)


def test_the_card_says_where_it_came_from(adopted: Adopted) -> None:
    page = open_bundle(Path(adopted.path)).read_bytes("card.html").decode()
    assert "Where it came from" in page
    assert "my_model.keras" in page
    assert "cannot know" in page


def test_nothing_is_left_of_the_work(adopted: Adopted) -> None:
    assert not list((Path(adopted.path).parents[1] / ".work").glob("adopt-*"))


def test_a_stated_preparation_is_sealed_and_a_list_of_labels_is_followed(
    theirs: Path,
    photos: Path,
    pinned: Preprocessing,
    tmp_path: Path,
    prefect_api: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import keras

    labels = tmp_path / "names.txt"
    labels.write_text("0 Sky\n1 Brick\n2 Grass\n")
    pinned.save(tmp_path / "preprocessing.json")
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    # A folder that is no class, with too little in it to be one.
    (data / "to sort").mkdir()
    shutil.copy(photos / "sky" / "00.jpg", data / "to sort" / "00.jpg")
    with caplog.at_level("WARNING"):
        found = adopt(
            model=theirs,
            data=data,
            models=tmp_path / "models",
            labels=labels,
            preprocessing=str(tmp_path / "preprocessing.json"),
            ladder_images=0,
            sensitivity_images=0,
        )
    sealed = open_bundle(Path(found.path))
    aside = "which were left aside: to sort (1)."
    for told in (found.as_text(), caplog.text, sealed.read_bytes("card.html").decode()):
        assert aside in told
    assert sealed.preprocessing == pinned
    assert sealed.classes == ("Sky", "Brick", "Grass")
    file = photos / "brick" / "07.jpg"
    tensor = prepare(file.read_bytes(), pinned).tensor
    said = keras.saving.load_model(theirs).predict_on_batch(tensor[np.newaxis])[0]
    np.testing.assert_allclose(probabilities(found.path, file), said, atol=1e-5)


def test_a_person_at_the_terminal_chooses(
    theirs: Path, photos: Path, tmp_path: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    def last(question: str, choices: Sequence[str], default: int) -> int:
        asked.append(choices)
        return len(choices) - 1

    monkeypatch.setattr(asking, "_people", [last])
    monkeypatch.setattr(preparation, "SAME", -1.0)  # else these photos, on which filters hardly matter, leave no choice
    found = adopt(model=theirs, data=photos, models=tmp_path / "models", ladder_images=0, sensitivity_images=0)
    assert len(asked) == 1
    assert found.preparation in found.plausible[1:], "the first is the default"
    assert any("A person chose" in sentence for sentence in found.sentences)


def test_too_few_folders_and_no_labels_is_said(theirs: Path, photos: Path, tmp_path: Path, prefect_api: str) -> None:
    some = tmp_path / "some"
    for name in ("brick", "sky"):
        shutil.copytree(photos / name, some / name)
    with pytest.raises(WrongUse, match="which output"):
        adopt(model=theirs, data=some, models=tmp_path / "models")


def test_photos_that_the_model_knows_nothing_of_do_not_name_its_outputs(
    theirs: Path, tmp_path: Path, prefect_api: str
) -> None:
    for number in range(60):
        file = tmp_path / "photos" / "abc"[number % 3] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(tiny.encoded(tiny.drawn(number)))
    with pytest.raises(WrongUse, match="do not tell it"):
        adopt(model=theirs, data=tmp_path / "photos", models=tmp_path / "models")


@pytest.mark.parametrize(
    ("folders", "classes", "present", "aside", "without"),
    [
        (["Hex Nut", "gear"], ["gear", "hex_nut"], ("gear", "hex_nut"), {}, ()),
        (["gear", "nut", "sky"], ["nut", "gear"], ("nut", "gear"), {"sky": 1}, ()),
        (["gear", "nut"], ["gear", "nut", "bolt"], ("gear", "nut"), {}, ("bolt",)),
        (["1-10", "11-0"], ["1-10", "11-0"], ("1-10", "11-0"), {}, ()),
    ],
    ids=["spelling", "a folder too many", "a class without photos", "names that differ by a dash"],
)
def test_folders_are_matched_to_classes_by_name(
    folders: list[str], classes: list[str], present: tuple[str, ...], aside: dict[str, int], without: tuple[str, ...]
) -> None:
    files = tuple(LabelledFile(f"{name}/1.jpg", name, name) for name in folders)
    found = match_folders(Dataset(Path("photos"), files, tuple(folders), "image"), classes)
    assert (found.dataset.classes, found.aside, found.without) == (present, aside, without)
    assert {file.label for file in found.dataset.files} == set(present)


def test_a_folder_of_few_images_that_is_no_class_is_left_aside_by_name(tmp_path: Path) -> None:
    for name, images in (("gear", 10), ("nut", 10), ("to sort", 3), ("empty", 0), ("sky", 12)):
        (tmp_path / name).mkdir()
        for number in range(images):
            (tmp_path / name / f"{number}.jpg").touch()
    found = match_folders(scan(tmp_path, no_class=lambda name: name not in ("gear", "nut")), ("gear", "nut"))
    assert found.aside == {"sky": 12, "to sort": 3, "empty": 0}
    (sentence,) = found.sentences()
    assert sentence.endswith("which were left aside: sky (12), empty (0), to sort (3).")


def test_adopting_takes_as_many_images_to_the_ladder_as_training() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    stated = {
        name: next(one.default for one in commands[name].params if one.name == "ladder_images")
        for name in ("train", "adopt")
    }
    flow = inspect.signature(adopt.fn).parameters["ladder_images"].default
    assert {*stated.values(), flow} == {ExaminationOptions().ladder_images}
    assert f"up to {flow} held-out images (`--ladder-images`)" in (DOCS / "accuracy.md").read_text(encoding="utf-8")


def test_two_folders_of_one_class_are_refused() -> None:
    files = tuple(LabelledFile(f"{name}/1.jpg", name, name) for name in ("hex nut", "Hex_Nut", "gear"))
    with pytest.raises(DataFolderError, match="Two folders"):
        match_folders(Dataset(Path("photos"), files, ("hex nut", "Hex_Nut", "gear"), "image"), ("hex-nut", "gear"))


def test_folders_of_another_subject_are_refused() -> None:
    files = tuple(LabelledFile(f"{name}/1.jpg", name, name) for name in ("cat", "dog"))
    with pytest.raises(DataFolderError, match="not classes of this model"):
        match_folders(Dataset(Path("photos"), files, ("cat", "dog"), "image"), ("gear", "nut"))
