"""What adopting does with a foreign model and labelled photos: an engine, an order of outputs, a stated preparation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from darkroom.names import from_text
from darkroom.roots import check_inside
from expectations.class_order import ClassOrder, solve_order
from tasks.adopting import readable
from tasks.foreign import ForeignModel
from tasks.inference import Engine, load_engine
from tasks.photos import Photos
from tasks.preprocessing import Preprocessing
from tasks.presets import PRESETS, preset
from tasks.published import SCALINGS, published_values, scaled
from tasks.training import Dataset
from tasks.training.ladder import some_of
from tasks.variants import Replay

_FOR_THE_ORDER = 200  # photos that decide about the order of the outputs: more of them say little more
_OF_A_CLASS = 20
_ANY_SIZE = 224


def load(theirs: ForeignModel, preprocessing: str, image_size: int) -> Engine:
    """The opened model on an engine; its size is its own, that of the stated preparation, or the one asked for."""
    height, width, channels = theirs.input_shape
    if height is None or width is None:
        if preprocessing and preprocessing.partition(":")[0] not in PRESETS:
            height, width, channels = Preprocessing.load(Path(preprocessing)).input_shape
        elif image_size:
            height = width = image_size
        else:
            raise WrongUse(
                "The model takes images of any size, and nothing says which one it was trained on.",
                file=theirs.path,
                expected=f"a size, such as --image-size {_ANY_SIZE}",
                todo="look at the code that trained it: target_size, image_size or resize",
            )
    return load_engine(theirs.saved, theirs.embedding_layer, input_shape=(height, width, channels))


def solved_order(engine: Engine, dataset: Dataset, seed: int) -> ClassOrder:
    """The order under which most photos are right, over the scalings that people use."""
    rows = readable(dataset, spread_over_classes(dataset, _FOR_THE_ORDER, seed), plainly_prepared(engine, "tf"))
    labels = labels_of(dataset, rows, dataset.classes)
    replay = Replay(engine, photos_of(dataset, rows), plainly_prepared(engine, "tf"))
    found = [
        solve_order(
            replay.probabilities(plainly_prepared(engine, scaling)), labels, dataset.classes, tried=len(SCALINGS)
        )
        for scaling in SCALINGS
    ]
    return max(found, key=lambda one: one.accuracy)


def a_preparation(stated: str) -> None:
    """Whether this states a preparation, of whatever size. Raises: WrongUse."""
    stated_preparation(stated, (_ANY_SIZE, _ANY_SIZE), None)


def stated_preparation(preprocessing: str, size: tuple[int, int], origin: str | None) -> Preprocessing | None:
    """A preset, with a scaling behind a colon or that of the model's origin; or a file."""
    if not preprocessing:
        return None
    name, _, scaling = preprocessing.partition(":")
    if name in PRESETS:
        scaling = scaling or published_values(origin) or ""
        return preset(name, size=size, values=scaled(scaling) if scaling else None)
    check_inside(Path(preprocessing))
    if not Path(preprocessing).is_file():
        raise WrongUse(
            "There is no such preparation.",
            expected=f"a file, or one of {', '.join(PRESETS)}, maybe with one of {', '.join(SCALINGS)}: load_img:unit",
            found=preprocessing,
        )
    return Preprocessing.load(Path(preprocessing))


def plainly_prepared(engine: Engine, scaling: str) -> Preprocessing:
    """A squash at the model's size with this scaling: for a first look, before anything is known."""
    height, width, _ = engine.input_shape
    return preset("load_img", size=(height, width), interpolation="bilinear", values=scaled(scaling))


def spread_over_classes(dataset: Dataset, most: int, seed: int) -> list[int]:
    """About so many photos, as many of each class, and some of each."""
    each = max(_OF_A_CLASS, -(-most // len(dataset.classes)))
    of_class = ([row for row, file in enumerate(dataset.files) if file.label == name] for name in dataset.classes)
    return sorted(row for rows in of_class for row in some_of(rows, each, seed))


def photos_of(dataset: Dataset, rows: Sequence[int]) -> Photos:
    """The bytes of these photos, when they are asked for."""
    return Photos(dataset.folder, [from_text(dataset.files[row].path) for row in rows])


def labels_of(dataset: Dataset, rows: Sequence[int], classes: Sequence[str]) -> NDArray[np.int64]:
    """(len(rows),) positions in `classes`."""
    return np.array([list(classes).index(dataset.files[row].label) for row in rows], np.int64)
