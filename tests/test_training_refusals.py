"""What a training refuses, and that each refusal says which file, what was expected and what to do."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from darkroom.errors import DataFolderError
from darkroom.settings import HeadOptions, TrainingRecipe
from flows.train import Sealed
from tasks.training import dataset as datasets
from tasks.training.augmentation import augmenter
from tasks.training.backbone import build_backbone
from tasks.training.dataset import FEWEST_IMAGES
from tasks.training.fit import build_model
from tasks.training.recipe import train_model
from tests import tiny

RECIPE = TrainingRecipe(
    backbone="SmallConvNet", weights="none", image_size=32, head=HeadOptions(dense_units=8, epochs=1)
)


def draw(folder: Path, first: int = 0, images: int = FEWEST_IMAGES, session: str = "") -> None:
    (folder / session).mkdir(parents=True, exist_ok=True)
    for number in range(first, first + images):
        (folder / session / f"{number:03d}.jpg").write_bytes(tiny.encoded(tiny.drawn(number, (48, 32))))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes that can be trained on."""
    for number, label in enumerate(("ash", "birch")):
        draw(tmp_path / "photos" / label, 100 * number)
    return tmp_path / "photos"


def _gone(photos: Path) -> None:
    shutil.rmtree(photos)


def _empty(photos: Path) -> None:
    shutil.rmtree(photos)
    photos.mkdir()


def _loose(photos: Path) -> None:
    for label in ("ash", "birch"):
        for file in (photos / label).iterdir():
            file.rename(photos / f"{label}-{file.name}")
        (photos / label).rmdir()


def _one_class(photos: Path) -> None:
    shutil.rmtree(photos / "birch")


def _scarce(photos: Path) -> None:
    next((photos / "birch").iterdir()).unlink()


def _no_images(photos: Path) -> None:
    (photos / "cedar").mkdir()
    (photos / "cedar" / "notes.txt").write_text("soon")


def _split_already(photos: Path) -> None:
    inside = [path.rename(photos.parent / path.name) for path in list(photos.iterdir())]
    for part in ("train", "val"):
        for label in inside:
            shutil.copytree(label, photos / part / label.name)


@pytest.mark.parametrize(("change", "says", "names"), [
    (_gone, "no such training folder", "photos"),
    (_empty, "nothing to train on", "photos"),
    (_loose, "20 images beside", "photos"),
    (_one_class, "One class", "photos"),
    (_scarce, "Too few images in 'birch'", "birch"),
    (_no_images, "Too few images in 'cedar'", "cedar"),
    (_split_already, "split already", "photos"),
], ids=lambda value: value.__name__[1:] if callable(value) else "")  # fmt: skip
def test_a_folder_that_cannot_be_trained_on_is_refused_with_what_to_do(
    photos: Path, change: Callable[[Path], None], says: str, names: str
) -> None:
    change(photos)
    with pytest.raises(DataFolderError, match=says) as refused:
        datasets.scan(photos)
    error = refused.value
    assert error.file is not None
    assert Path(error.file).name == names
    assert error.expected
    assert error.found
    assert error.todo


@pytest.mark.parametrize("which", ["", "birch", "birch/morning"], ids=["training folder", "class", "session"])
def test_a_folder_that_cannot_be_listed_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    draw(photos / "birch", 200, session="morning")
    listed = os.scandir

    def denied(path: str | os.PathLike[str] = ".") -> object:
        if Path(path) == photos / which:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", denied)
    monkeypatch.setattr(os, "listdir", lambda path: [entry.name for entry in denied(path)])  # type: ignore[attr-defined]
    with pytest.raises(DataFolderError, match="cannot be read") as refused:
        datasets.scan(photos)
    assert refused.value.file == str(photos / which)
    assert refused.value.found == "Permission denied"
    assert refused.value.todo


def test_a_class_that_would_be_on_one_side_of_the_split_only_is_refused(photos: Path) -> None:
    for label in ("ash", "birch"):
        draw(photos / label, {"ash": 300, "birch": 400}[label], session="evening")
    draw(photos / "cedar", 500, session="noon")
    dataset = datasets.scan(photos, "sub-folder")
    with pytest.raises(DataFolderError, match="'cedar' would have no images for") as refused:
        datasets.split(dataset, 0.2, seed=0)
    assert refused.value.file == str(photos / "cedar")
    assert refused.value.found == "1 groups with images of this class"
    assert refused.value.todo


def test_a_class_whose_images_are_broken_is_refused_and_the_broken_ones_are_named(photos: Path, tmp_path: Path) -> None:
    (photos / "ash" / "000.jpg").write_bytes(b"\xff\xd8\xff broken")
    (photos / "birch" / "100.jpg").write_bytes(b"")
    (tmp_path / "work").mkdir()
    with pytest.raises(DataFolderError, match="'ash' can be used") as refused:
        train_model(photos, RECIPE, tmp_path / "work")
    assert "ash/000.jpg" in str(refused.value.found)
    assert "birch" not in str(refused.value.found)


def test_broken_images_do_not_stop_a_training_and_each_is_listed_with_its_reason(photos: Path, tmp_path: Path) -> None:
    (photos / "ash" / "half.jpg").write_bytes((photos / "ash" / "001.jpg").read_bytes()[:300])
    (photos / "ash" / "empty.png").touch()
    (photos / "birch" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (photos / "birch" / "text.jpg").write_text("not a photo")
    (tmp_path / "work").mkdir()
    trained = train_model(photos, RECIPE, tmp_path / "work")
    why = {one.path: one.why for one in trained.left_out}
    assert set(why) == {"ash/half.jpg", "ash/empty.png", "birch/gone.jpg", "birch/text.jpg"}
    assert len(set(why.values())) == 4
    assert len(trained.profile) == 2 * FEWEST_IMAGES


def test_the_order_of_the_classes_is_that_of_their_names_and_a_person_is_told(photos: Path) -> None:
    for name in ("Zelkova", "10 mm", "9 mm", "élan"):
        draw(photos / name, 600)
    classes = datasets.scan(photos).classes
    assert classes == tuple(sorted(classes))
    sealed = Sealed(
        bundle_id="x", path="x", classes=classes, images={"train": 48, "validation": 12}, left_out=3,
        training_accuracy=1, validation_accuracy=1, validation_interval=(0.9, 1), honest_accuracy=1,
        honest_interval=(0.9, 1), honesty="Your 1.00 stands.", calibration_error=0,
        calibration_error_after=0, seconds=1,
    )  # fmt: skip
    assert "Classes, in the order of the outputs: 10 mm, 9 mm, Zelkova, ash, birch, élan" in sealed.as_text()
    assert "3 files left out" in sealed.as_text()
    assert "Your 1.00 stands." in sealed.as_text()
    many = sealed.model_copy(update={"classes": tuple(map(str, range(1000)))})
    assert "… (1000;" in many.as_text()


def test_initial_weights_come_from_the_seed_whoever_else_draws_random_numbers() -> None:
    def weights(seed: int, others: int) -> list[np.ndarray]:
        random.seed(others)
        backbone = build_backbone(RECIPE.model_copy(update={"seed": seed}))
        random.seed(others + 1)
        return list(build_model(backbone, 3, RECIPE.head, seed).get_weights())

    first, second, other = weights(1, 5), weights(1, 6), weights(2, 5)
    assert all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))
    random_ones = [number for number, one in enumerate(first) if np.ptp(one) > 0]
    assert len(random_ones) == 11
    assert not any(np.array_equal(first[number], other[number]) for number in random_ones)


def test_augmentation_is_named_by_its_seeds_and_changes_each_image_on_its_own() -> None:
    augment = augmenter(RECIPE.augmentation)
    assert augment is not None
    images = np.stack([np.asarray(tiny.drawn(7, (48, 32)))] * 6)
    one, again, other = augment(images, (1, 2)), augment(images, (1, 2)), augment(images, (1, 3))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert all(not np.array_equal(one[0], image) for image in one[1:])


def test_a_mirrored_image_is_the_image_or_its_mirror_to_the_bit() -> None:
    options = RECIPE.augmentation.none().model_copy(update={"horizontal_flip": True})
    augment = augmenter(options)
    assert augment is not None
    picture = np.asarray(tiny.drawn(8, (49, 32)), np.float32)
    seen = [
        (np.array_equal(image, picture), np.array_equal(image, picture[:, ::-1]))
        for image in augment(np.stack([picture] * 40), (3, 4))
    ]
    assert all(same != mirrored for same, mirrored in seen)
    assert 5 < sum(same for same, _ in seen) < 35


@pytest.mark.parametrize(("setting", "amount", "axis"), [("width_shift", 0.25, 1), ("height_shift", 0.25, 0)])
def test_a_shift_moves_by_its_share_at_most_and_uses_all_of_it(setting: str, amount: float, axis: int) -> None:
    options = RECIPE.augmentation.none().model_copy(update={setting: amount, "fill_mode": "constant"})
    augment = augmenter(options)
    assert augment is not None
    picture = np.zeros((40, 80, 3), np.float32)
    picture[18:22, 38:42] = 200
    moved = augment(np.stack([picture] * 60), (5, 6)).sum(axis=3)
    side = picture.shape[axis]
    places = np.arange(side)
    centres = [(image.sum(axis=1 - axis) * places).sum() / image.sum() for image in moved]
    shifts = (np.array(centres) - (side - 1) / 2) / side
    assert np.abs(shifts).max() <= amount + 0.01
    assert shifts.min() < -0.8 * amount
    assert shifts.max() > 0.8 * amount


def test_a_turn_and_a_zoom_leave_the_middle_where_it_is() -> None:
    options = RECIPE.augmentation.none().model_copy(update={"rotation": 40.0, "zoom": 0.3, "shear": 20.0})
    augment = augmenter(options)
    assert augment is not None
    picture = np.zeros((41, 61, 3), np.float32)
    picture[20, 30] = 255
    turned = augment(np.stack([picture] * 20), (7, 8))
    assert (turned[:, 20, 30, 0] > 250).all()
