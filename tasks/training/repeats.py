"""The same training many times over: other seeds, other remedies, less data, other folds.

Pixels are decoded once. Where the backbone is frozen, its features are computed once for every augmentation and for
every corruption of an image, and a training is that of a head: seconds instead of minutes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.progress import Progress
from darkroom.settings import AugmentationOptions, TrainingRecipe
from tasks.corruptions import KINDS
from tasks.machine import import_tensorflow
from tasks.training import dataset as datasets
from tasks.training.augmentation import augmenter
from tasks.training.backbone import build_backbone, preprocessing_for
from tasks.training.dataset import Dataset
from tasks.training.examples import Changes, Examples
from tasks.training.features import AUGMENTED_PASSES, Features, head_of, pooled
from tasks.training.fit import build_model, fit, head_phase
from tasks.training.ladder import Forward, climb
from tasks.training.learning import forward, learn
from tasks.training.outputs import computed, counter
from tasks.training.pixels import decode_all
from tasks.training.rows import Rows

# Images whose features under the whole ladder are in memory together: half a megabyte each at 1,280 features.
_CLIMB_AT_ONCE = 64


class Classifier(Protocol):
    """A trained network, on the images of the dataset that it came from."""

    def probabilities(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), classes)."""

    def climb(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(kinds, strengths, len(rows), classes): under each corruption of the ladder."""


class Repeats:
    """Trainings on one dataset, with one preparation and one backbone.

    `work` keeps pixels and features. It may be the folder of a training (tasks.training.work): then nothing is decoded
    again. Raises as `train_model`.
    """

    def __init__(
        self, folder: Path, recipe: TrainingRecipe, work: Path, progress: Progress, kinds: Sequence[str] = KINDS
    ) -> None:
        self.kinds = tuple(kinds)
        import_tensorflow()
        self._progress = progress
        self._work = work
        self._recipe = recipe
        self._preprocessing = preprocessing_for(recipe)
        dataset = datasets.scan(folder, recipe.group_by, recipe.groups)
        self._pixels = decode_all(dataset, self._preprocessing, work, progress)
        self._dataset = Dataset(dataset.folder, self._pixels.files, dataset.classes, dataset.group_by)
        self.classes = dataset.classes
        self.labels = np.array([self.classes.index(file.label) for file in self._pixels.files])
        self.groups = np.array([file.group for file in self._pixels.files])
        self._backbone: Any = None
        self._features: dict[str, Rows] = {}
        self._place_of: dict[int, int] = {}
        self._ladder: Rows | None = None

    def split(
        self, seed: int, among: NDArray[np.int64] | None = None, share: float | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows to learn from and rows held out, as a training with this seed splits them; `among` some rows only, and
        with another share held out.
        """
        rows = np.arange(len(self.labels)) if among is None else among
        files = tuple(self._dataset.files[row] for row in rows)
        some = Dataset(self._dataset.folder, files, self.classes, self._dataset.group_by)
        found = datasets.split(some, share or self._recipe.validation_share, seed)
        return rows[list(found.train)], rows[list(found.validation)]

    def learned(
        self, recipe: TrainingRecipe, train: NDArray[np.int64], held: NDArray[np.int64], seed: int
    ) -> Classifier:
        """Train on some rows; the held-out rows decide when to stop. Of the recipe: head, augmentation, fine-tuning."""
        import keras

        keras.utils.set_random_seed(seed)
        work = self._work / "training"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        if recipe.weights == "none" or recipe.fine_tunes:
            seeded = recipe.model_copy(update={"seed": seed})
            backbone = build_backbone(seeded)
            model = build_model(backbone, len(self.classes), recipe.head, seed)
            fit(model, backbone, self.examples(train), self.examples(held), seeded, work, self._progress)
            return _Network(self, model)
        head = head_of(build_model(self.backbone, len(self.classes), recipe.head, seed)).probabilities
        passes = AUGMENTED_PASSES if recipe.augmentation.active else 0
        augmented = tuple(self.features(recipe.augmentation, number) for number in range(passes))
        features = Features(self.features(None, 0), augmented, train)
        phase = head_phase(recipe.head, seed)
        sources = features.sources(self.examples(train), self.examples(held), phase, recipe.head)
        learn(head, phase, sources, work, self._progress)
        return _Head(self, head)

    @property
    def backbone(self) -> Any:
        """The frozen one; built once."""
        if self._backbone is None:
            self._backbone = build_backbone(self._recipe)
            self._backbone.trainable = False
        return self._backbone

    def features(self, augmentation: AugmentationOptions | None, number: int) -> Rows:
        """Pooled features (f,) of every image, unchanged or changed at random in a numbered way."""
        told = "plain" if augmentation is None else augmentation.model_dump_json()
        name = f"repeated-{hashlib.sha256(f'{told} {number}'.encode()).hexdigest()[:16]}"
        if name not in self._features:
            everything = self.examples(np.arange(len(self.labels)))
            augment = None if augmentation is None else augmenter(augmentation)
            changes = None if augment is None else Changes(augment, self._recipe.seed, "features", number)
            tick = counter("features", len(self.labels), "images through the backbone", self._progress)
            batches = partial(everything.batches, changes=changes)
            network = pooled(self.backbone)
            (self._features[name],) = computed(self._work, name, network, len(self.labels), batches, [np.float32], tick)
        return self._features[name]

    def corrupted(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features (kinds, strengths, len(rows), f) under the ladder; an image is corrupted once for all trainings."""
        missing = [row for row in rows.tolist() if row not in self._place_of]
        for start in range(0, len(missing), _CLIMB_AT_ONCE):
            some = missing[start : start + _CLIMB_AT_ONCE]
            by_image = np.moveaxis(self.climbed(forward(pooled(self.backbone)), some), 2, 0)
            if self._ladder is None:
                # Half precision: a hundredth of a percent of a feature, against a disk twice as full.
                self._ladder = Rows(self._work / "ladder.rows", by_image.shape[1:], np.float16)
            self._place_of |= {row: len(self._ladder) + place for place, row in enumerate(some)}
            self._ladder.append(by_image)
        assert self._ladder is not None, "no rows were asked for"
        stored = self._ladder[np.array([self._place_of[row] for row in rows.tolist()], np.int64)]
        return np.moveaxis(stored.astype(np.float32), 0, 2)

    def climbed(self, network: Forward, rows: Sequence[int]) -> NDArray[np.float32]:
        """What a network says of some images under the ladder; the same accidents for every network."""
        return climb(network, self._pixels.resized, rows, self._preprocessing, 0, self._progress, self.kinds)

    def examples(self, rows: NDArray[np.int64]) -> Examples:
        """Some images as a training takes them."""
        return Examples(self._pixels.resized, rows, self.labels[rows], self._preprocessing)


@dataclass(frozen=True)
class _Head:
    """A head on features that are known already."""

    repeats: Repeats
    head: Any

    def probabilities(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(forward(self.head)(self.repeats.features(None, 0)[rows]))

    def climb(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        answer = forward(self.head)
        parts = []
        for start in range(0, len(rows), _CLIMB_AT_ONCE):
            features = self.repeats.corrupted(rows[start : start + _CLIMB_AT_ONCE])
            parts.append(np.stack([np.stack([answer(images) for images in kind]) for kind in features]))
        return np.concatenate(parts, axis=2)


@dataclass(frozen=True)
class _Network:
    """A network of its own, from images on."""

    repeats: Repeats
    model: Any

    def probabilities(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        answer = forward(self.model)
        return np.concatenate([answer(batch) for batch in self.repeats.examples(rows).batches()])

    def climb(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.repeats.climbed(forward(self.model), rows.tolist())
