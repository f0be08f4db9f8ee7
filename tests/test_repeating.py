"""Trainings repeated: what is computed once is what each would compute, remedies are switched one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkroom.errors import DataFolderError
from darkroom.settings import AugmentationOptions, FineTuneOptions, HeadOptions, TrainingRecipe
from flows.repeating import SHARES, learn_on_less, some_groups, try_remedies, usable_seeds
from tasks.corruptions import KINDS, STRENGTHS
from tasks.training.folds import cross_validate
from tasks.training.remedies import PLAIN, RECIPE, remedies
from tasks.training.repeats import Repeats
from tests import tiny

HEAD = HeadOptions(dense_units=8, epochs=3, patience=2)
LADDER = ("fog", "contrast")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 24 images, none of them square, in four sessions."""
    folder = tmp_path_factory.mktemp("repeating") / "photos"
    for number in range(48):
        session = folder / ("ash", "birch")[number % 2] / f"session-{number // 2 % 4}"
        session.mkdir(parents=True, exist_ok=True)
        (session / f"{number:02d}.jpg").write_bytes(tiny.encoded(tiny.drawn(number)))
    return folder


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> TrainingRecipe:
    """A recipe with a frozen backbone, from a file."""
    import keras

    inputs = keras.Input((32, 32, 3))
    features = keras.layers.Conv2D(6, 3, strides=4, activation="relu")(inputs)
    path = tmp_path_factory.mktemp("backbone") / "small.keras"
    keras.Model(inputs, features).save(path)
    return TrainingRecipe(
        weights=str(path),
        image_size=32,
        group_by="sub-folder",
        validation_share=0.25,
        head=HEAD,
    )


@pytest.fixture
def repeats(photos: Path, frozen: TrainingRecipe, tmp_path: Path) -> Repeats:
    return Repeats(photos, frozen, tmp_path, lambda *_: None, kinds=LADDER)


def test_a_head_on_known_features_answers_as_the_whole_network_would(
    photos: Path, frozen: TrainingRecipe, tmp_path: Path
) -> None:
    from tasks.training.recipe import train_model

    (tmp_path / "once").mkdir()
    (tmp_path / "again").mkdir()
    whole = train_model(photos, frozen, tmp_path / "once")
    repeats = Repeats(photos, frozen, tmp_path / "again", lambda *_: None)
    train, held = repeats.split(frozen.seed)
    rows = np.sort(np.concatenate([train, held]))
    plain = frozen.model_copy(update={"augmentation": AugmentationOptions.none()})
    (tmp_path / "plain").mkdir()
    expected = np.stack(train_model(photos, plain, tmp_path / "plain").profile["probabilities"].tolist())
    found = repeats.learned(plain, train, held, frozen.seed).probabilities(rows)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (whole.profile["split"].to_numpy()[held] == "validation").all()


def test_the_ladder_of_a_head_is_that_of_its_network(repeats: Repeats, frozen: TrainingRecipe) -> None:
    train, held = repeats.split(0)
    learned = repeats.learned(frozen, train, held, 0)
    found = learned.climb(held)
    assert found.shape == (len(LADDER), len(STRENGTHS), len(held), 2)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-3)
    # Asked again, or for other images in another order, the same image has met the same accident.
    np.testing.assert_array_equal(learned.climb(held[::-1])[:, :, ::-1], found)


def test_every_image_is_predicted_by_a_network_that_has_not_seen_it_nor_its_session(
    repeats: Repeats, frozen: TrainingRecipe
) -> None:
    found = cross_validate(repeats, frozen, folds=4)
    assert set(found.fold_of) == {0, 1, 2, 3}
    for group in np.unique(repeats.groups):
        assert len(set(found.fold_of[repeats.groups == group])) == 1
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)


def test_each_remedy_is_switched_by_itself() -> None:
    recipe = TrainingRecipe()
    variants = remedies(recipe)
    assert list(variants)[:2] == [PLAIN, RECIPE]
    plain = variants[PLAIN]
    assert (plain.augmentation.active, plain.head.l2, plain.head.dropout, plain.fine_tune.layers) == (False, 0, 0, 0)
    for name, variant in list(variants.items())[2:]:
        differing = {
            key
            for part in ("augmentation", "head", "fine_tune")
            for key, value in getattr(recipe, part)
            if value != getattr(getattr(variant, part), key)
        }
        assert differing, name
        if "augmentation" not in name:
            assert len({key for key in differing if key in HeadOptions.model_fields}) <= 1


@pytest.mark.parametrize(
    ("recipe", "missing"),
    [
        (TrainingRecipe(backbone="SmallConvNet", weights="none"), "fine-tuning"),
        (TrainingRecipe(head=HeadOptions(dense_units=0)), "L2"),
    ],
    ids=["from nothing", "without a dense layer"],
)
def test_a_remedy_that_a_recipe_cannot_have_is_not_tried(recipe: TrainingRecipe, missing: str) -> None:
    assert not [name for name in remedies(recipe) if missing in name]


def test_a_recipe_with_fine_tuning_is_tried_without_and_one_without_with() -> None:
    assert "recipe with fine-tuning" in remedies(TrainingRecipe())
    assert "recipe without fine-tuning" in remedies(TrainingRecipe(fine_tune=FineTuneOptions(layers=5)))


def test_what_is_finished_of_an_ablation_is_not_trained_again(
    repeats: Repeats, frozen: TrainingRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = try_remedies(repeats, frozen, 2, 4, tmp_path / "outcomes", only=[RECIPE])
    assert [one.remedy for one in first] == [PLAIN, RECIPE]
    assert [one.seeds for one in first] == [2, 2]
    assert set(first[0].by_kind) == set(LADDER)
    monkeypatch.setattr(Repeats, "learned", lambda *_: pytest.fail("trained again"))
    assert try_remedies(repeats, frozen, 2, 4, tmp_path / "outcomes", only=[RECIPE]) == first


def test_a_learning_curve_holds_out_the_same_images_and_keeps_every_class(
    photos: Path, frozen: TrainingRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = frozen.model_copy(update={"group_by": "image"})
    repeats = Repeats(photos, recipe, tmp_path, lambda *_: None, kinds=LADDER)
    asked = []
    learned = Repeats.learned

    def watched(self: Repeats, recipe: TrainingRecipe, train: np.ndarray, held: np.ndarray, seed: int) -> object:
        asked.append((seed, set(train.tolist()), set(held.tolist()), set(self.labels[train].tolist())))
        return learned(self, recipe, train, held, seed)

    monkeypatch.setattr(Repeats, "learned", watched)
    points = learn_on_less(repeats, recipe, tmp_path / "curve")
    assert [point.share for point in points] == list(SHARES)
    assert points[0].images < points[1].images < points[2].images
    for seed, train, stop, classes in asked:
        held = {tuple(sides.held.tolist()) for sides in usable_seeds(repeats, recipe, 3) if sides.seed == seed}
        assert not train & stop
        assert not (train | stop) & set(*held)
        assert classes == {0, 1}
    monkeypatch.setattr(Repeats, "learned", lambda *_: pytest.fail("trained again"))
    assert learn_on_less(repeats, recipe, tmp_path / "curve") == points


def test_a_seed_whose_split_leaves_a_class_on_one_side_is_passed_over(
    repeats: Repeats, frozen: TrainingRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = Repeats.split

    def refusing(self: Repeats, seed: int, **options: object) -> object:
        if seed % 2:
            raise DataFolderError("one side only")
        return split(self, seed, **options)

    monkeypatch.setattr(Repeats, "split", refusing)
    assert [sides.seed for sides in usable_seeds(repeats, frozen, 3)] == [0, 2, 4]
    monkeypatch.setattr(Repeats, "split", lambda self, _seed, **_: refusing(self, 1))
    with pytest.raises(DataFolderError, match="in enough ways"):
        list(usable_seeds(repeats, frozen, 3))


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 1.0])
def test_a_share_of_the_groups_is_whole_groups_with_every_class(share: float) -> None:
    rows = np.arange(100, 300)
    groups = np.repeat(np.arange(40), 10)
    labels = np.repeat(np.arange(4), 100)
    some = some_groups(rows, groups, labels, share, seed=1)
    assert set(labels[some]) == set(labels[rows])
    for group in np.unique(groups[some]):
        assert (groups[some] == group).sum() == (groups[rows] == group).sum()
    assert len(some) >= share * len(rows)
    assert len(some) <= share * len(rows) + 10 + 20


def test_the_ladder_has_the_kinds_that_its_readers_expect() -> None:
    assert len(KINDS) >= 12
    assert len(STRENGTHS) == 5
