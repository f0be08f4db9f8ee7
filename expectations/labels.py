"""Which labels are probably wrong: a classifier that has not seen an image is sure of another class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expectations.linear_head import cross_fitted


@dataclass(frozen=True)
class LabelSuspects:
    """Of n images: `order` (n,) positions, the most suspect first; `probability` (n,) of the label an image has;
    `instead` (n,) the likeliest other class, as a position; `suspect` (n,), whether its label is one to look at.
    """

    order: NDArray[np.int64]
    probability: NDArray[np.float32]
    instead: NDArray[np.int64]
    suspect: NDArray[np.bool_]


def suspect_labels(
    features: NDArray[np.float32],
    labels: NDArray[np.integer[Any]],
    groups: NDArray[Any],
    classes: int,
    *,
    seed: int = 0,
) -> LabelSuspects:
    """Rank labels (n,), positions of classes, by how little a cross-fitted softmax head believes them.

    `features` (n, e) are as `compact` makes them. Whole groups (n,) are held out, so that no copy or sister with the
    same wrong label speaks for an image. `suspect` is the off-diagonal of the confident joint (Northcutt, Jiang and
    Chuang, arXiv 1911.00068): another class is the likeliest, and as probable as it is, on average, for images that
    are labelled so. Features that no label has touched, those of a frozen backbone, tell most: a network that was
    trained on a wrong label has moved the image's embedding towards it.
    """
    given = cross_fitted(features, labels, groups, classes, seed=seed)
    rows = np.arange(len(labels))
    own = given[rows, labels]
    usual = np.array([own[labels == one].mean() if (labels == one).any() else np.inf for one in range(classes)])
    others = given.copy()
    others[rows, labels] = -1
    instead = others.argmax(axis=1)
    sure = np.where(others >= usual, others, -1)
    suspect = (sure.max(axis=1) >= 0) & (given.argmax(axis=1) != labels)
    return LabelSuspects(np.argsort(own, kind="stable"), own, instead, suspect)
