"""Golden images: which are chosen, what is recorded, and what a replay says when anything differs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from darkroom.errors import DataFolderError, GoldenMismatch
from tasks.bundle import Bundle, SealedContents
from tasks.goldens import choose_goldens, replay_goldens
from tasks.inference import Engine, Outputs
from tests.tiny import CLASSES

pytest_plugins = ["tests.plugins.tiny_bundle"]

WHY = {
    "grey": "mode L",
    "alpha": "mode RGBA",
    "palette": "mode P",
    "EXIF-rotated": "exif_orientation 6",
    "tall": "tallest",
    "wide": "widest",
    "small": "smallest",
    "large": "largest",
    "least confident": "least confident",
    "most confident": "most confident",
}


@pytest.mark.parametrize("why", WHY.values(), ids=WHY.keys())
def test_the_odd_images_are_among_the_goldens(tiny_contents: SealedContents, why: str) -> None:
    assert any(why in golden.why.split(", ") for golden in tiny_contents.goldens)


def test_there_are_32_goldens_of_every_class_each_once(tiny_contents: SealedContents) -> None:
    assert len(tiny_contents.goldens) == 32
    assert len({golden.image for golden in tiny_contents.goldens}) == 32
    assert len({golden.name for golden in tiny_contents.goldens}) == 32
    assert {f"class {name}" for name in CLASSES} <= {golden.why for golden in tiny_contents.goldens}


def test_the_choice_depends_on_contents_and_not_on_names_or_their_order(
    tiny_contents: SealedContents, tiny_photos: Path
) -> None:
    profile = tiny_contents.profile
    shuffled = profile.sample(frac=1, random_state=1)
    files = {f"elsewhere/{i}": tiny_photos / path for i, path in enumerate(shuffled["path"])}
    renamed = shuffled.assign(path=list(files))
    assert choose_goldens(renamed, files) == list(tiny_contents.goldens)


def test_no_golden_bears_the_name_that_its_file_had(tiny_contents: SealedContents, tiny_photos: Path) -> None:
    assert not {path.name for path in tiny_photos.iterdir()} & {golden.name for golden in tiny_contents.goldens}
    assert not any("photo" in golden.name for golden in tiny_contents.goldens)


def test_few_images_are_all_goldens_and_duplicates_are_one(tiny_contents: SealedContents, tiny_photos: Path) -> None:
    few = tiny_contents.profile.head(5)
    assert len(choose_goldens(pd.concat([few, few]), tiny_photos)) == 5


def test_an_image_that_changed_during_the_training_is_refused(tiny_contents: SealedContents, tmp_path: Path) -> None:
    row = tiny_contents.profile.head(1)
    (tmp_path / row["path"].iloc[0]).write_bytes(b"something else")
    with pytest.raises(DataFolderError, match="changed during the training"):
        choose_goldens(row, tmp_path)
    with pytest.raises(DataFolderError, match="could not be read"):
        choose_goldens(row, tmp_path / "gone")


def test_a_replay_in_another_process_than_the_seal_is_equal_to_the_bit(
    tiny_bundle: Bundle, tiny_engine: Engine
) -> None:
    replay = replay_goldens(tiny_bundle, tiny_engine)
    assert replay.n == 32
    assert (replay.max_pixel_difference, replay.max_tensor_difference) == (0, 0)
    assert replay.max_probability_difference <= replay.tolerance == 1e-5


CHANGES = {
    "another decoder": ({"grey": "luma"}, "pixels", "31 of 32"),
    "EXIF orientation applied": ({"exif_orientation": "applied"}, "pixels", "1 of 32"),
    "alpha composited": ({"alpha": "on_white"}, "pixels", "1 of 32"),
    "another interpolation": ({"interpolation": "bicubic"}, "tensor", "32 of 32"),
    "not scaled": ({"rescale": 1.0}, "tensor", "32 of 32"),
    "channels reversed": ({"channel_order": "bgr"}, "tensor", "of 32"),
}


@pytest.mark.parametrize(("knobs", "stage", "how_many"), CHANGES.values(), ids=CHANGES.keys())
def test_another_preparation_is_found_at_its_stage(
    tiny_bundle: Bundle, tiny_engine: Engine, knobs: dict[str, object], stage: str, how_many: str
) -> None:
    other = replace(tiny_bundle, preprocessing=tiny_bundle.preprocessing.with_knobs(**knobs))
    with pytest.raises(GoldenMismatch) as mismatch:
        replay_goldens(other, tiny_engine)
    assert f"stage '{stage}'" in mismatch.value.what
    assert how_many in mismatch.value.what
    assert Path(str(mismatch.value.file)).is_file()
    assert "sampled points" in str(mismatch.value.found) or "instead of" in str(mismatch.value.found)
    assert "look for another build" in str(mismatch.value.todo)


def test_a_golden_that_can_no_longer_be_decoded_is_a_difference_of_its_pixels(
    tiny_bundle: Bundle, tiny_engine: Engine
) -> None:
    other = replace(tiny_bundle, preprocessing=tiny_bundle.preprocessing.with_knobs(formats=("JPEG",)))
    with pytest.raises(GoldenMismatch, match="3 of 32 golden images differ at the stage 'pixels'") as mismatch:
        replay_goldens(other, tiny_engine)
    assert "no pixels at all" in str(mismatch.value.found)


@dataclass(frozen=True)
class Shifted:
    """An engine that is a little off."""

    engine: Engine
    name: str
    by: float

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.engine.input_shape

    def run(self, tensors: np.ndarray) -> Outputs:
        outputs = self.engine.run(tensors)
        shift = np.zeros_like(outputs.probabilities)
        shift[3, :2] = self.by, -self.by
        return replace(outputs, probabilities=outputs.probabilities + shift)


SHIFTS = {
    "same engine, within 1e-5": ("keras", 5e-6, True),
    "same engine, 5e-5 off": ("keras", 5e-5, False),
    "another engine, 5e-5 off": ("openvino", 5e-5, True),
    "another engine, 2e-4 off": ("openvino", 2e-4, False),
    "not a number": ("openvino", float("nan"), False),
}


@pytest.mark.parametrize(("name", "by", "holds"), SHIFTS.values(), ids=SHIFTS.keys())
def test_probabilities_are_held_against_the_tolerances_of_engine_and_machine(
    tiny_bundle: Bundle, tiny_engine: Engine, name: str, by: float, holds: bool
) -> None:
    engine = Shifted(tiny_engine, name, by)
    if holds:
        replay = replay_goldens(tiny_bundle, engine)
        assert replay.max_probability_difference == pytest.approx(by, abs=2e-6)
        return
    with pytest.raises(GoldenMismatch, match="1 of 32 golden images differ at the stage 'probabilities'") as mismatch:
        replay_goldens(tiny_bundle, engine)
    assert str(mismatch.value.file).endswith(tiny_bundle.goldens()[3].name)
    assert "away" in str(mismatch.value.found)


def test_another_machine_type_has_the_wider_tolerance(tiny_bundle: Bundle, tiny_engine: Engine) -> None:
    elsewhere = replace(tiny_bundle, manifest=tiny_bundle.manifest.model_copy(update={"machine": "Darwin-arm64"}))
    assert replay_goldens(elsewhere, Shifted(tiny_engine, "keras", 5e-5)).tolerance == 1e-4
    with pytest.raises(GoldenMismatch, match="Darwin-arm64 →"):
        replay_goldens(elsewhere, Shifted(tiny_engine, "keras", 5e-4))


def test_a_mismatch_names_the_libraries_then_and_now_and_how_to_go_back(
    tiny_bundle: Bundle, tiny_engine: Engine
) -> None:
    libraries = {**tiny_bundle.manifest.libraries, "pillow": "1.2.3", "keras": "4.5.6"}
    older = replace(
        tiny_bundle,
        manifest=tiny_bundle.manifest.model_copy(update={"libraries": libraries}),
        preprocessing=tiny_bundle.preprocessing.with_knobs(exif_orientation="applied"),
    )
    with pytest.raises(GoldenMismatch) as mismatch:
        replay_goldens(older, tiny_engine)
    assert "pillow 1.2.3 → " in str(mismatch.value.todo)
    assert "pip install pillow==1.2.3" in str(mismatch.value.todo)
    assert "keras" not in str(mismatch.value.todo)  # it decodes nothing
