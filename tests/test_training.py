"""Training: what may be trained on, what is held out, what comes out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from darkroom.errors import DataFolderError, UnsupportedModel, WrongUse
from darkroom.settings import AugmentationOptions, FineTuneOptions, HeadOptions, TrainingRecipe
from tasks.bundle import Bundle
from tasks.training import dataset as datasets
from tasks.training.augmentation import augmenter
from tasks.training.backbone import build_backbone, preprocessing_for
from tasks.training.learning import Phase, Sources, learn
from tasks.training.recipe import train_model
from tests import tiny

QUICK = HeadOptions(dense_units=8, epochs=1)


def tiny_recipe(**changes: object) -> TrainingRecipe:
    settings = {"backbone": "SmallConvNet", "weights": "none", "image_size": 32, "head": QUICK, **changes}
    return TrainingRecipe.model_validate(settings)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, 24 images each, in four sessions."""
    folder = tmp_path_factory.mktemp("labelled") / "photos"
    for number in range(48):
        session = folder / ("ash", "birch")[number % 2] / f"session-{number // 2 % 4}"
        session.mkdir(parents=True, exist_ok=True)
        (session / f"{number:02d}.jpg").write_bytes(tiny.encoded(tiny.drawn(number)))
    return folder


def test_a_session_is_never_on_both_sides_and_each_class_on_both(labelled: Path) -> None:
    found = datasets.scan(labelled, "sub-folder")
    split = datasets.split(found, 0.25, seed=3)
    sides = [{found.files[row].group for row in rows} for rows in (split.train, split.validation)]
    assert not sides[0] & sides[1]
    assert [{found.files[row].label for row in rows} for rows in (split.train, split.validation)] == [
        {"ash", "birch"},
        {"ash", "birch"},
    ]


def test_the_same_seed_splits_alike_and_the_share_of_each_class_is_kept(labelled: Path) -> None:
    found = datasets.scan(labelled)
    split = datasets.split(found, 0.25, seed=3)
    assert split == datasets.split(found, 0.25, seed=3)
    assert split != datasets.split(found, 0.25, seed=4)
    assert sorted(split.train + split.validation) == list(range(48))
    assert [sum(found.files[row].label == label for row in split.validation) for label in found.classes] == [6, 6]


def test_groups_may_come_from_a_column(labelled: Path, tmp_path: Path) -> None:
    files = datasets.scan(labelled).files
    table = pd.DataFrame({"path": [file.path for file in files], "group": [f"g{i % 6}" for i in range(len(files))]})
    table.to_csv(tmp_path / "groups.csv", index=False)
    found = datasets.scan(labelled, "column", tmp_path / "groups.csv")
    assert {file.group for file in found.files} == {f"g{i}" for i in range(6)}
    table.head(10).to_csv(tmp_path / "groups.csv", index=False)
    with pytest.raises(DataFolderError):
        datasets.scan(labelled, "column", tmp_path / "groups.csv")


def _detection(folder: Path) -> None:
    (folder / "Annotations").mkdir()


def _several_labels(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "labels.csv").write_text("path,labels")


def _segmentation(folder: Path) -> None:
    (folder / "masks").mkdir()


@pytest.mark.parametrize("change", [_detection, _several_labels, _segmentation])
def test_data_of_other_kinds_of_models_is_refused_clearly(labelled: Path, tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    folder = Path(shutil.copytree(labelled, tmp_path / "photos"))
    change(folder)
    with pytest.raises(UnsupportedModel) as refused:
        datasets.scan(folder)
    assert refused.value.file is not None


def test_a_folder_with_one_class_or_too_few_images_cannot_be_trained_on(labelled: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    shutil.copytree(labelled / "ash", one / "ash")
    with pytest.raises(DataFolderError):
        datasets.scan(one)
    (one / "birch").mkdir()
    shutil.copy(next((labelled / "birch").rglob("*.jpg")), one / "birch")
    with pytest.raises(DataFolderError):
        datasets.scan(one)


def test_what_cannot_be_trained_on_is_left_out_and_listed(labelled: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(labelled, tmp_path / "photos"))
    (folder / "ash" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    shutil.copy(next((folder / "birch").rglob("*.jpg")), folder / "birch" / "copy.jpg")
    both = next((folder / "ash" / "session-0").glob("*.jpg"))
    shutil.copy(both, folder / "birch" / "also.jpg")
    (tmp_path / "work").mkdir()
    trained = train_model(folder, tiny_recipe(), tmp_path / "work")
    assert {Path(one.path).name for one in trained.left_out} >= {"broken.jpg", "also.jpg"}
    assert len(trained.profile) + len(trained.left_out) == 51
    assert trained.profile["content_id"].is_unique


def test_the_same_recipe_and_seed_give_the_same_model(labelled: Path, tmp_path: Path) -> None:
    told = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        told.append(train_model(labelled, tiny_recipe(seed=5), tmp_path / name).profile["probabilities"])
    np.testing.assert_allclose(np.stack(told[0].tolist()), np.stack(told[1].tolist()), atol=1e-5)


@pytest.mark.real_data
def test_a_frozen_backbone_keeps_its_weights_and_a_second_phase_leaves_batchnorm_alone(
    labelled: Path, data: Path, tmp_path: Path
) -> None:
    import keras

    weights = data / "backbones" / "mobilenet_v2_0.35_224_no_top.keras"
    before = keras.saving.load_model(weights, compile=False)
    for layers in (0, 30):
        recipe = tiny_recipe(
            backbone="MobileNetV2",
            weights=str(weights),
            image_size=224,
            augmentation=AugmentationOptions.none(),
            fine_tune=FineTuneOptions(layers=layers, epochs=1, learning_rate=1e-3),
        )
        work = tmp_path / f"{layers}"
        work.mkdir()
        after = keras.saving.load_model(train_model(labelled, recipe, work).model_path, compile=False)
        changed = set()
        for layer in before.layers:
            now = after.get_layer(layer.name).get_weights()
            if any(not np.array_equal(a, b) for a, b in zip(layer.get_weights(), now, strict=True)):
                changed.add(type(layer).__name__)
        assert changed == (set() if layers == 0 else changed - {"BatchNormalization"})
        assert bool(changed) == bool(layers)


@pytest.mark.parametrize("learned", [True, False])
def test_a_phase_that_only_does_harm_leaves_the_network_as_it_was_where_it_had_learned(
    tmp_path: Path, learned: bool
) -> None:
    import keras

    numbers = np.random.default_rng(0)
    x, y = numbers.normal(size=(64, 4)).astype(np.float32), np.arange(64) % 2
    x[:, 0] += 4 * y - 2
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
    right = np.zeros((4, 2), np.float32)
    right[0] = -3, 3
    model.set_weights([right, np.zeros(2, np.float32)])
    sources = Sources(lambda _, order: iter([x[order]]), 1 - y, lambda: iter([x]), y, np.ones(2, np.float32))
    learn(model, Phase("harm", 2, 5.0, 64, 5, 0, learned), sources, tmp_path, lambda *_: None)
    assert np.array_equal(model.get_weights()[0], right) == learned


def test_augmentation_changes_images_while_training_only(labelled: Path) -> None:
    images = np.stack([np.asarray(tiny.drawn(number, (32, 32))) for number in range(4)])
    everything = AugmentationOptions(
        rotation=30, width_shift=0.2, height_shift=0.2, shear=10, zoom=0.3, vertical_flip=True, brightness=0.4
    )
    augment = augmenter(everything)
    assert augment is not None
    changed = augment(images, (1, 2))
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert np.abs(changed - images).mean() > 5
    assert augmenter(AugmentationOptions.none()) is None


DEGRADED = ("exposure", "contrast", "colour", "blur", "noise")


@pytest.mark.parametrize("harm", DEGRADED)
def test_a_worse_camera_harms_the_share_of_images_that_was_asked_for_and_no_other(harm: str) -> None:
    images = np.stack([np.asarray(tiny.drawn(number, (48, 32))) for number in range(64)])
    off = dict.fromkeys(DEGRADED, 0.0) | {harm: AugmentationOptions.model_fields[harm].default}
    options = AugmentationOptions.none().model_copy(update={"degraded_share": 0.5, **off})
    augment = augmenter(options)
    assert augment is not None
    changed = (np.abs(augment(images, (3, 4)) - images) > 1e-3).any(axis=(1, 2, 3))
    # Half of the images, and of these half are hit by one harm: 16 of 64, three standard deviations are 10.
    assert 6 <= changed.sum() <= 26


def test_a_batch_of_one_can_be_augmented_whether_it_is_degraded_or_not() -> None:
    augment = augmenter(AugmentationOptions())
    assert augment is not None
    image = np.asarray(tiny.drawn(1, (48, 32)))[np.newaxis]
    for number in range(8):
        assert augment(image, (number, 0)).shape == image.shape


@pytest.mark.parametrize("fill_mode", ["nearest", "reflect", "wrap", "constant"])
def test_a_shift_is_filled_as_asked(fill_mode: str) -> None:
    options = AugmentationOptions.none().model_copy(update={"width_shift": 0.4, "fill_mode": fill_mode})
    images = np.full((8, 32, 32, 3), 200, np.uint8)
    augment = augmenter(options)
    assert augment is not None
    lowest = augment(images, (1, 2)).min()
    assert lowest == (0 if fill_mode == "constant" else 200)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"backbone": "MobileNetV2", "backbone_arguments": {"beta": 1.0}}, "no argument 'beta'"),
        ({"weights": "nowhere.keras"}, "no weights for"),
        ({"backbone": "MobileNetV2", "weights": "nowhere.keras"}, "no such file of weights"),
    ],
    ids=["argument", "weights of our own", "weights"],
)
def test_a_backbone_that_cannot_be_had_is_wrong_use(changes: dict[str, object], says: str) -> None:
    with pytest.raises(WrongUse, match=says):
        build_backbone(tiny_recipe(**changes))


@pytest.mark.parametrize(
    ("backbone", "scaled"),
    [("MobileNetV2", (-1.0, 1.0)), ("EfficientNetB0", (0.0, 255.0)), ("SmallConvNet", (-1.0, 1.0))],
)
def test_the_values_that_a_backbone_expects_are_not_left_to_the_user(
    backbone: str, scaled: tuple[float, float]
) -> None:
    from tasks.preprocessing import to_tensor

    values = preprocessing_for(tiny_recipe(backbone=backbone)).values
    white_and_black = np.array([[[[0, 0, 0]], [[255, 255, 255]]]], np.uint8)
    tensor = to_tensor(white_and_black, values)
    assert (float(tensor.min()), float(tensor.max())) == pytest.approx(scaled)


def test_a_sealed_bundle_tells_how_well_its_model_does_on_both_sides(bundle: Bundle) -> None:
    metrics = json.loads((bundle.path / "bundle.json").read_text())["metrics"]
    for split in ("train", "validation"):
        one = metrics[split]
        assert one["interval"][0] <= one["accuracy"] <= one["interval"][1]
        assert np.sum(one["confusion"]) == one["n"]
        assert set(one["recall"]) == set(bundle.classes)
        assert one["calibration_error"] >= 0
    assert metrics["history"][0]["phase"] == "learn"
    goldens = pd.read_parquet(bundle.path / "goldens" / "goldens.parquet")
    assert len(goldens) >= 32
