"""Cross-validation: every image predicted by a network that has not seen it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.settings import TrainingRecipe
from tasks.training.repeats import Repeats


@dataclass(frozen=True)
class CrossValidated:
    """Probabilities (n, k) of every image of the repeats, and the fold (n,) in which it was held out."""

    probabilities: NDArray[np.float32]
    fold_of: NDArray[np.int64]


def cross_validate(repeats: Repeats, recipe: TrainingRecipe, folds: int = 5) -> CrossValidated:
    """Train `folds` times, each time with another fold held out.

    In each fold the recipe's own split of the rest decides when to stop: no image that is counted was looked at.
    """
    fold_of = _folds(repeats.groups, repeats.labels, folds, recipe.seed)
    probabilities = np.zeros((len(repeats.labels), len(repeats.classes)), np.float32)
    for fold in range(folds):
        train, stop = repeats.split(recipe.seed + fold, among=np.flatnonzero(fold_of != fold))
        out = np.flatnonzero(fold_of == fold)
        probabilities[out] = repeats.learned(recipe, train, stop, recipe.seed + fold).probabilities(out)
    return CrossValidated(probabilities, fold_of)


def _folds(groups: NDArray[Any], labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """A fold for each image, classes dealt evenly, groups whole."""
    names, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(labels[first][order], kind="stable")]
    fold = np.empty(len(names), np.int64)
    fold[order] = np.arange(len(names)) % folds
    return np.asarray(fold[group])
