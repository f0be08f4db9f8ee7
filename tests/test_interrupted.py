"""Trainings that are stopped: in every phase, at every change of the disk, by a kill; and what they then come to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.errors import DataFolderError, StorageError
from darkroom.settings import FineTuneOptions, HeadOptions, TrainingRecipe
from tasks.bundle import Bundle, open_bundle
from tasks.inference import load_engine
from tasks.preprocessing import prepare
from tasks.training import dataset as datasets
from tasks.training import fit, learning, outputs, pixels, work
from tasks.training.backbone import build_backbone, preprocessing_for
from tasks.training.checkpoint import Checkpoint, seeds
from tasks.training.examples import ahead
from tasks.training.recipe import TrainedModel, train_model
from tasks.training.rows import Rows
from tasks.training.work import work_folder, work_key
from tests import tiny

# DESIGN.md's table: same engine, same machine type.
TOLERANCE = 1e-5


class Stopped(BaseException):
    """Not an Exception: nothing may catch it and tidy up."""


def draw(folder: Path, images: int = 40) -> Path:
    for number in range(images):
        label = ("ash", "birch")[number % 2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number:02d}.jpg").write_bytes(tiny.encoded(tiny.drawn(number)))
    (folder / "ash" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "birch" / "copy.jpg").write_bytes((folder / "birch" / "01.jpg").read_bytes())
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, 20 images each, one broken file and one copy."""
    return draw(tmp_path_factory.mktemp("labelled") / "photos")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone with weights, as a file."""
    path = tmp_path_factory.mktemp("weights") / "small.keras"
    build_backbone(TrainingRecipe(backbone="SmallConvNet", weights="none", image_size=32)).save(path)
    return path


@pytest.fixture
def everything_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "RECORD_SECONDS", 0.0)
    monkeypatch.setattr(outputs, "RECORD_SECONDS", 0.0)
    monkeypatch.setattr(fit, "AUGMENTED_PASSES", 1)
    monkeypatch.setattr(learning, "CHECKPOINT_SECONDS", 0.0)


def from_nothing() -> TrainingRecipe:
    head = HeadOptions(dense_units=32, epochs=4, batch_size=12, learning_rate=3e-3)
    return TrainingRecipe(backbone="SmallConvNet", weights="none", image_size=32, head=head, seed=4)


def frozen(weights: Path) -> TrainingRecipe:
    return TrainingRecipe(
        weights=str(weights),
        image_size=32,
        head=HeadOptions(dense_units=32, epochs=4, batch_size=12, learning_rate=3e-3),
        fine_tune=FineTuneOptions(layers=4, epochs=3, learning_rate=1e-3),
        seed=4,
    )


def stopping(phase: str, moment: int) -> Callable[[str, int, int, str], None]:
    left = moment

    def progress(stage: str, done: int, total: int, note: str) -> None:
        nonlocal left
        left -= stage == phase
        if left <= 0:
            raise Stopped

    return progress


def assert_same(found: TrainedModel, expected: TrainedModel) -> None:
    probabilities = [np.stack(one.profile["probabilities"].tolist()) for one in (found, expected)]
    np.testing.assert_allclose(*probabilities, rtol=0, atol=TOLERANCE)
    assert probabilities[0].std(axis=0).max() > 10 * TOLERANCE, "a network that has learned nothing proves nothing"
    columns = found.profile.columns.drop("probabilities")
    pd.testing.assert_frame_equal(found.profile[columns], expected.profile[columns])
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-3)
    assert [(one["phase"], one["epoch"]) for one in found.history] == [
        (one["phase"], one["epoch"]) for one in expected.history
    ]
    assert found.left_out == expected.left_out


@pytest.mark.parametrize("stops", [
    [("decode", 7), ("decode", 20), ("learn", 2), ("learn", 5), ("predict", 1)],
    [("features", 1), ("head", 7), ("head", 4), ("fine-tune", 3), ("fine-tune", 5), ("predict", 1)],
    [("decode", 11), ("features", 2), ("head", 7), ("predict", 1)],
], ids=["from nothing", "fine-tuned", "frozen backbone"])  # fmt: skip
@pytest.mark.usefixtures("everything_recorded")
def test_a_training_that_is_stopped_in_every_phase_comes_to_the_same_model(
    labelled: Path, weights: Path, tmp_path: Path, stops: list[tuple[str, int]]
) -> None:
    phases = {phase for phase, _ in stops}
    recipe = from_nothing() if "learn" in phases else frozen(weights)
    if "fine-tune" not in phases:
        recipe = recipe.model_copy(update={"fine_tune": FineTuneOptions()})
    for name in ("stopped", "undisturbed"):
        (tmp_path / name).mkdir()
    expected = train_model(labelled, recipe, tmp_path / "undisturbed")
    for phase, moment in stops:
        with pytest.raises(Stopped):
            train_model(labelled, recipe, tmp_path / "stopped", stopping(phase, moment))
    seen: list[str] = []
    found = train_model(labelled, recipe, tmp_path / "stopped", lambda stage, *_: seen.append(stage))
    assert set(seen) == {"predict"} or set(seen) == {"features", "predict"}, "finished phases are not done again"
    assert seen.count("features") <= 3
    assert_same(found, expected)


@pytest.mark.parametrize("dense_units", [0, 16])
def test_a_profile_made_from_features_holds_what_the_saved_model_says(
    labelled: Path, weights: Path, tmp_path: Path, dense_units: int
) -> None:
    recipe = frozen(weights).model_copy(
        update={"fine_tune": FineTuneOptions(), "head": HeadOptions(dense_units=dense_units, epochs=2)}
    )
    trained = train_model(labelled, recipe, tmp_path)
    engine = load_engine(trained.model_path, trained.embedding_layer, input_shape=trained.preprocessing.input_shape)
    for row, embedding in zip(trained.profile.itertuples(), trained.embeddings, strict=True):
        tensor = prepare((labelled / row.path).read_bytes(), trained.preprocessing).tensor
        outputs = engine.run(tensor[np.newaxis])
        np.testing.assert_allclose(outputs.probabilities[0], row.probabilities, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(outputs.embedding[0], embedding, rtol=1e-2, atol=1e-3)


@pytest.mark.usefixtures("everything_recorded")
def test_decoding_that_is_stopped_at_any_change_of_the_disk_loses_and_doubles_nothing(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, preprocessing = datasets.scan(labelled), preprocessing_for(from_nothing())
    for name in ("stopped", "undisturbed"):
        (tmp_path / name).mkdir()
    expected = pixels.decode_all(dataset, preprocessing, tmp_path / "undisturbed", stopping("never", 1))
    stops, found = 0, None
    while found is None:
        with monkeypatch.context() as patch:
            _stop_at(37, patch)
            try:
                found = pixels.decode_all(dataset, preprocessing, tmp_path / "stopped", stopping("never", 1))
            except Stopped:
                stops += 1
    assert stops >= 4
    np.testing.assert_array_equal(found.resized[:], expected.resized[:])
    pd.testing.assert_frame_equal(found.properties, expected.properties)
    assert (found.files, found.content_ids, found.left_out) == (expected.files, expected.content_ids, expected.left_out)


def _stop_at(moment: int, patch: pytest.MonkeyPatch) -> None:
    """Instead of the call with this number, of those that change the disk."""
    left = moment

    def instead_of(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Stopped
            return call(*args, **named)

        return counted

    for name in ("rename", "fsync", "pwrite"):
        patch.setattr(os, name, instead_of(getattr(os, name)))


ROWS = st.lists(st.integers(0, 60_000), max_size=30)


@given(rows=ROWS, lost=ROWS, which=st.lists(st.integers(0, 29), max_size=40))
def test_rows_come_back_in_any_order_and_what_no_record_knows_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], lost: list[int], which: list[int]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "some.rows"
    written = np.array(rows, np.uint16).reshape(-1, 1, 1) * np.ones((2, 3), np.uint16)
    store = Rows(path, (2, 3), np.uint16)
    for row in written:
        store.append(row[np.newaxis])
    store.append(np.array(lost, np.uint16).reshape(-1, 1, 1) * np.ones((2, 3), np.uint16))
    store.close()
    again = Rows(path, (2, 3), np.uint16, kept=len(rows))
    asked = np.array([one for one in which if one < len(rows)], np.int64)
    np.testing.assert_array_equal(again[asked], written[asked])
    np.testing.assert_array_equal(again[:], written)
    np.testing.assert_array_equal(again.mapped(), written)
    again.append(written)
    assert len(again) == 2 * len(rows)
    with pytest.raises(IndexError):
        again[np.array([len(again)])]


def test_rows_that_are_gone_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "some.rows").write_bytes(b"12")
    with pytest.raises(StorageError, match="damaged") as refused:
        Rows(tmp_path / "some.rows", (4,), np.uint8, kept=1)
    assert str(tmp_path) in str(refused.value.todo)


def test_a_checkpoint_comes_back_as_it_was_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    arrays = [np.arange(number, dtype=np.float32) for number in range(12)]
    saved = Checkpoint([{"val_loss": 0.25}], 0.25, 1, False, arrays, [np.array(3)], arrays[::-1])
    saved.save(tmp_path, "learn")
    found = Checkpoint.load(tmp_path, "learn")
    assert (found.epochs, found.loss, found.waited, found.finished) == ([{"val_loss": 0.25}], 0.25, 1, False)
    for part in ("weights", "optimizer", "best"):
        for one, other in zip(getattr(found, part), getattr(saved, part), strict=True):
            np.testing.assert_array_equal(one, other)
    assert Checkpoint.load(tmp_path, "fine-tune") == Checkpoint()
    (tmp_path / "learn.npz").write_bytes(b"half")
    with pytest.raises(StorageError, match="cannot be read"):
        Checkpoint.load(tmp_path, "learn")


def test_every_place_of_a_training_has_random_numbers_of_its_own() -> None:
    places = [(seed, phase, epoch, batch) for seed in range(3) for phase in ("learn", "fine-tune") for epoch in range(5)
              for batch in range(5)]  # fmt: skip
    drawn = {seeds(seed, phase, *numbers) for seed, phase, *numbers in places}
    assert len(drawn) == len(places)
    assert drawn == {seeds(seed, phase, *numbers) for seed, phase, *numbers in places}


def test_what_is_made_ahead_comes_in_order_with_its_errors_and_leaves_no_thread_behind() -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise OSError("the disk")

    seen: list[int] = []
    with pytest.raises(OSError, match="the disk"):
        seen.extend(ahead(broken()))
    assert list(ahead(range(50))) == list(range(50))
    endless = ahead(iter(int, 1))
    next(endless)
    endless.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_a_work_folder_is_removed_after_the_seal_and_kept_after_a_failure(labelled: Path, tmp_path: Path) -> None:
    seen = []

    def fail() -> None:
        with work_folder(tmp_path, labelled, from_nothing()) as first:
            seen.append(first)
            (first.folder / "kept").touch()
            raise Stopped

    with pytest.raises(Stopped):
        fail()
    with work_folder(tmp_path, labelled, from_nothing()) as second:
        assert (seen[0].resumed, second.resumed) == (False, True)
        assert (second.folder / "kept").exists()
    assert not second.folder.exists()
    assert not list((tmp_path / ".work").glob("[!.]*"))


def test_two_equal_trainings_at_once_have_a_folder_each(labelled: Path, tmp_path: Path) -> None:
    with (
        work_folder(tmp_path, labelled, from_nothing()) as one,
        work_folder(tmp_path, labelled, from_nothing()) as other,
    ):
        assert one.folder != other.folder


def test_work_that_nobody_took_up_for_weeks_is_removed(labelled: Path, tmp_path: Path) -> None:
    for age, name in ((1, "young"), (work.KEPT_DAYS + 1, "old"), (work.KEPT_DAYS + 1, "held")):
        (tmp_path / ".work" / name).mkdir(parents=True)
        os.utime(tmp_path / ".work" / name, times=(time.time() - age * 86_400,) * 2)
    lock = work.LocalStorage(tmp_path / ".work").try_lock("held")
    assert lock is not None
    with work_folder(tmp_path, labelled, from_nothing()):
        assert sorted(path.name for path in (tmp_path / ".work").glob("[!.]*") if len(path.name) < 16) == [
            "held",
            "young",
        ]
    lock.release()


def _touch(folder: Path) -> None:
    os.utime(folder / "ash" / "00.jpg")


def _add(folder: Path) -> None:
    (folder / "ash" / "new.jpg").write_bytes(tiny.encoded(tiny.drawn(99)))


def _move(folder: Path) -> None:
    (folder / "ash" / "00.jpg").rename(folder / "birch" / "00.jpg")


@pytest.mark.parametrize("change", [_touch, _add, _move], ids=["touched", "added", "another class"])
def test_changed_photos_or_another_recipe_are_another_training(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = draw(tmp_path / "photos")
    before = work_key(datasets.scan(folder), from_nothing())
    assert before == work_key(datasets.scan(folder), from_nothing())
    assert before != work_key(datasets.scan(folder), from_nothing().model_copy(update={"seed": 5}))
    change(folder)
    assert before != work_key(datasets.scan(folder), from_nothing())


def test_a_folder_without_classes_leaves_no_work_behind(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataFolderError), work_folder(tmp_path / "models", tmp_path / "photos", from_nothing()):
        pass
    assert not (tmp_path / "models").exists()


def killed(folder: Path, models: Path, phase: str, moment: int, recipe: TrainingRecipe) -> Path | None:
    """A whole training in a process of its own; None: it was killed."""
    command = [sys.executable, "-m", "tests.interrupted", folder, models, phase, moment, recipe.model_dump_json()]
    done = subprocess.run([*map(str, command)], cwd=tiny.ROOT, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1])


def assert_same_bundle(found: Bundle, expected: Bundle) -> None:
    frames = [bundle.profile() for bundle in (found, expected)]
    probabilities = [np.stack(frame.pop("probabilities").tolist()) for frame in frames]
    np.testing.assert_allclose(*probabilities, rtol=0, atol=TOLERANCE)
    assert probabilities[0].std(axis=0).max() > 10 * TOLERANCE, "a network that has learned nothing proves nothing"
    pd.testing.assert_frame_equal(*frames)
    assert found.classes == expected.classes
    goldens = [pd.read_parquet(bundle.path / "goldens" / "goldens.parquet") for bundle in (found, expected)]
    np.testing.assert_allclose(
        *(np.stack(frame.pop("probabilities").tolist()) for frame in goldens), rtol=0, atol=TOLERANCE
    )
    pd.testing.assert_frame_equal(*goldens)
    assert set(found.manifest.digests) == set(expected.manifest.digests)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("kills", [
    [("decode", 60), ("learn", 9), ("predict", 2), ("learn what is normal", 1), ("choose goldens", 1), ("seal", 1)],
    [("features", 9), ("head", 15), ("fine-tune", 9)],
], ids=["from nothing", "frozen backbone"])  # fmt: skip
def test_a_training_that_is_killed_in_each_phase_seals_the_same_bundle(
    world: Path, weights: Path, tmp_path: Path, kills: list[tuple[str, int]]
) -> None:
    recipe = (from_nothing() if ("learn", 9) in kills else frozen(weights)).model_copy(
        update={"group_by": "sub-folder"}
    )
    undisturbed = killed(world, tmp_path / "undisturbed", "none", 1, recipe)
    assert undisturbed is not None
    models = tmp_path / "killed"
    for phase, moment in kills:
        assert killed(world, models, phase, moment, recipe) is None, f"it was to be killed: {phase}"
        assert len(list((models / ".work").glob("[!.]*"))) == 1
    sealed = killed(world, models, "none", 1, recipe)
    assert sealed is not None
    assert_same_bundle(open_bundle(sealed), open_bundle(undisturbed))
    assert not list((models / ".work").glob("[!.]*"))
    assert not list(models.rglob(".sealing-*"))
