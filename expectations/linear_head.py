"""A small classifier on features, and predictions of every image by one that has not seen it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FOLDS: Final = 5
_ITERATIONS: Final = 60
_MOST_ROWS: Final = 20_000  # to fit on: the rest adds time, not accuracy, to a linear head on 64 numbers
# Of the weights' Gaussian prior, for features of length 1 on average: chosen on real photos by out-of-sample loss.
_PRIOR_PRECISION: Final = 0.3


def fit_head(
    x: NDArray[np.float32], y: NDArray[np.integer[Any]], classes: int, *, seed: int = 0
) -> NDArray[np.float32]:
    """Softmax regression of positions y (n,) on x (n, e), by L-BFGS: weights (e + 1, classes), the last row bias."""
    from scipy.optimize import minimize

    if len(x) > _MOST_ROWS:
        rows = np.random.default_rng(seed).choice(len(x), _MOST_ROWS, replace=False)
        x, y = x[rows], y[rows]
    n, size = x.shape
    wanted = np.eye(classes, dtype=np.float32)[y]
    held = _PRIOR_PRECISION / n

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(size + 1, classes).astype(np.float32)
        given = head_probabilities(x, weights)
        own = np.maximum(given[np.arange(n), y], 1e-12)
        off = (given - wanted) / n
        slope = np.concatenate([x.T @ off + held * weights[:-1], off.sum(axis=0, keepdims=True)])
        value = -np.log(own).mean() + 0.5 * held * np.square(weights[:-1]).sum()
        return float(value), slope.ravel().astype(np.float64)

    found = minimize(
        loss, np.zeros((size + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
    )
    return np.asarray(found.x.reshape(size + 1, classes), np.float32)


def head_probabilities(x: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, classes)."""
    logits = x @ weights[:-1] + weights[-1]
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True), np.float32)


def folds_of(groups: NDArray[Any], labels: NDArray[Any], seed: int, folds: int = FOLDS) -> NDArray[np.int64]:
    """A fold (n,) for each image: groups whole, the largest first, each to the fold where its class is scarcest."""
    names, group = np.unique(groups, return_inverse=True)
    _, label = np.unique(labels, return_inverse=True)
    content = np.zeros((len(names), int(label.max(initial=0)) + 1))
    np.add.at(content, (group, label), 1)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-content[order].sum(axis=1), kind="stable")]
    held = np.zeros((folds, content.shape[1]))
    fold = np.zeros(len(names), np.int64)
    for one in order.tolist():
        need = held @ content[one] + 1e-3 * held.sum(axis=1) * content[one].sum()
        fold[one] = int(need.argmin())
        held[fold[one]] += content[one]
    return np.asarray(fold[group])


def foldable(groups: NDArray[Any], labels: NDArray[Any]) -> bool:
    """Whether whole groups can be held out and every class still be learned: no group holds half of a class."""
    for label in np.unique(labels):
        sizes = np.unique(groups[labels == label], return_counts=True)[1]
        if 2 * sizes.max() > sizes.sum():
            return False
    return True


def cross_fitted(
    x: NDArray[np.float32], y: NDArray[np.integer[Any]], groups: NDArray[Any], classes: int, *, seed: int = 0
) -> NDArray[np.float32]:
    """Probabilities (n, classes) of every row by a head that saw no row of its group."""
    fold = folds_of(groups, y, seed)
    found = np.zeros((len(x), classes), np.float32)
    for number in np.unique(fold):
        out = fold == number
        if out.all():  # a single group: nothing to learn from
            return np.full_like(found, 1 / classes)
        found[out] = head_probabilities(x[out], fit_head(x[~out], y[~out], classes, seed=seed))
    return found
