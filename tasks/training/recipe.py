"""A recipe carried out: from labelled folders to a saved network and the profile of its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.errors import TrainingFailed
from darkroom.progress import Progress
from darkroom.settings import TrainingRecipe
from tasks.machine import import_tensorflow
from tasks.preprocessing import Preprocessing
from tasks.training import dataset as datasets
from tasks.training.backbone import build_backbone, preprocessing_for
from tasks.training.dataset import Dataset
from tasks.training.examples import Examples
from tasks.training.features import EMBEDDING
from tasks.training.fit import build_model, fit, predict, save
from tasks.training.pixels import LeftOut, Pixels, decode_all
from tasks.training.profile import profile_of
from tasks.training.rows import Rows


@dataclass(frozen=True)
class TrainedModel:
    """What a training leaves. `profile`, `embeddings`, `resized` and `features` (rows alike) hold all images,
    unaugmented. `features` are the frozen backbone's, which no label has touched; where it learned, the embeddings.
    """

    model_path: Path
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    embedding_layer: str
    profile: pd.DataFrame
    embeddings: NDArray[np.float16]
    history: list[dict[str, Any]]
    left_out: tuple[LeftOut, ...]
    resized: Rows
    features: NDArray[np.floating[Any]]


def train_model(folder: Path, recipe: TrainingRecipe, work: Path, progress: Progress | None = None) -> TrainedModel:
    """Train on a folder a class; `work` keeps the pixels, what is finished, and the saved model.

    Called again with the same `work` after it was stopped, it goes on; it must not be given another folder or recipe
    (tasks.training.work). `model_path` and `embeddings` live in `work`.
    Raises: DataFolderError, UnsupportedModel, WrongUse for what cannot be trained on; TrainingFailed.
    """
    import_tensorflow()
    import keras

    say = progress or _silent
    preprocessing = preprocessing_for(recipe)
    dataset = datasets.scan(folder, recipe.group_by, recipe.groups)
    # Before anything is decoded: weights that cannot be had are found at once.
    keras.utils.set_random_seed(recipe.seed)
    backbone = build_backbone(recipe)
    model = build_model(backbone, len(dataset.classes), recipe.head, recipe.seed)
    pixels = decode_all(dataset, preprocessing, work, say)
    usable = Dataset(dataset.folder, pixels.files, dataset.classes, dataset.group_by)
    split = datasets.split(usable, recipe.validation_share, recipe.seed)
    labels = np.array([dataset.classes.index(file.label) for file in pixels.files])
    train, held = (_examples(pixels, labels, rows, preprocessing) for rows in (split.train, split.validation))
    fitted = fit(model, backbone, train, held, recipe, work, say)
    model_path = work / "model.keras"
    save(model, model_path)
    whole = _examples(pixels, labels, tuple(range(len(labels))), preprocessing)
    probabilities, embeddings = predict(model, whole, work, say, fitted)
    if not np.isfinite(probabilities).all():
        raise TrainingFailed(
            "The training diverged: the model gives no numbers.",
            todo="lower the learning rate; check that the preprocessing suits the backbone",
        )
    return TrainedModel(
        model_path=model_path,
        preprocessing=preprocessing,
        classes=dataset.classes,
        embedding_layer=EMBEDDING,
        profile=profile_of(pixels, split, dataset.classes, probabilities),
        embeddings=embeddings,
        history=fitted.history.epochs,
        left_out=pixels.left_out,
        resized=pixels.resized,
        features=embeddings if fitted.features is None else fitted.features.mapped(),
    )


def _examples(
    pixels: Pixels, labels: NDArray[np.int64], rows: tuple[int, ...], preprocessing: Preprocessing
) -> Examples:
    which = np.array(rows, np.int64)
    return Examples(pixels.resized, which, labels[which], preprocessing)


def _silent(stage: str, done: int, total: int, note: str) -> None:
    """Nobody watches."""
