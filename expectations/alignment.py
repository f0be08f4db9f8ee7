"""Whether two small grey pictures are one picture: the best correlation over small shifts and scales of each axis."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Shift (of half a side) and change of scale that a crop or a new frame may bring; more is another picture.
REACH: Final = 0.15
_STEPS: Final = ((2, 5), (1, 5))  # (shrink, iterations): coarse first, for it reaches farther and costs less
_PAIRS_AT_ONCE: Final = 256


def aligned_correlation(
    first: NDArray[Any], second: NDArray[Any], pairs: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """Best normalised correlation (p,) of `first[pairs[:, 0]]` and `second[pairs[:, 1]]`, pictures (n, s, s).

    Gauss–Newton on four numbers, scale and shift of each axis (Lucas and Kanade, IJCAI 1981), from the identity; only
    where both pictures are counts, and brightness and contrast do not. Memory is that of some hundred pairs.
    """
    parts = [np.zeros(0, np.float32)]
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        left, right = pairs[start : start + _PAIRS_AT_ONCE].T
        parts.append(_align(first[left].astype(np.float32), second[right].astype(np.float32)))
    return np.concatenate(parts)


def _align(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    where = np.zeros((len(a), 4), np.float32)
    best = np.full(len(a), -1.0, np.float32)
    for shrink, iterations in _STEPS:
        small_a, small_b = _smooth(_shrunk(a, shrink)), _smooth(_shrunk(b, shrink))
        best[:] = -1.0  # correlations of another resolution do not compare
        kept = where.copy()
        for left in range(iterations, -1, -1):
            correlation, step = _step(small_a, small_b, where, last=left == 0)
            better = correlation > best
            best[better] = correlation[better]
            kept[better] = where[better]
            where = np.clip(where + step, -REACH, REACH)
        where = kept
    return best


def _step(
    a: NDArray[np.float32], b: NDArray[np.float32], where: NDArray[np.float32], *, last: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Correlation of a with b moved to `where` (scale and shift of y, then of x, the picture being −1 … 1), and by how
    much to go on from there.
    """
    n, height, width = a.shape
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    rows = ((1 + where[:, 0:1]) * y + where[:, 1:2] + 1) * (height - 1) / 2
    columns = ((1 + where[:, 2:3]) * x + where[:, 3:4] + 1) * (width - 1) / 2
    moved, both = _sampled(b, rows, columns)
    za, zb = _standardised(a, both), _standardised(moved, both)
    correlation = (za * zb).sum((1, 2))
    if last:
        return correlation, np.zeros_like(where)
    down = np.gradient(zb, axis=1) * ((height - 1) / 2) * both
    across = np.gradient(zb, axis=2) * ((width - 1) / 2) * both
    slopes = np.stack([down * y[:, None], down, across * x, across], -1).reshape(n, -1, 4)
    turned = slopes.transpose(0, 2, 1)
    normal = turned @ slopes
    damping = 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / 4 + 1e-9
    wanted = turned @ (za - zb).reshape(n, -1, 1)
    step = np.linalg.solve(normal + damping * np.eye(4, dtype=np.float32), wanted)[..., 0]
    return correlation, np.asarray(step, np.float32)


def _sampled(
    pictures: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Bilinear at rows (n, h) × columns (n, w), and 1 where that lies inside."""
    _, height, width = pictures.shape
    inside = (
        ((rows >= 0) & (rows <= height - 1))[:, :, None] & ((columns >= 0) & (columns <= width - 1))[:, None, :]
    ).astype(np.float32)
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top, left = np.minimum(rows.astype(np.int64), height - 2), np.minimum(columns.astype(np.int64), width - 2)
    down, across = (rows - top)[:, :, None], (columns - left)[:, None, :]
    which = np.arange(len(pictures))[:, None]
    lines = pictures[which, top] * (1 - down) + pictures[which, top + 1] * down
    value = np.take_along_axis(lines, left[:, None, :], 2) * (1 - across)
    value += np.take_along_axis(lines, left[:, None, :] + 1, 2) * across
    return value.astype(np.float32), inside


def _standardised(pictures: NDArray[np.float32], inside: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean 0 and length 1 over what lies inside; 0 outside. A picture of one grey correlates with nothing."""
    mean = (pictures * inside).sum((1, 2), keepdims=True) / np.maximum(inside.sum((1, 2), keepdims=True), 1)
    centred = (pictures - mean) * inside
    length = np.sqrt((centred * centred).sum((1, 2), keepdims=True))
    return np.asarray(centred / np.maximum(length, 1e-3), np.float32)


def _shrunk(pictures: NDArray[np.float32], by: int) -> NDArray[np.float32]:
    n, height, width = pictures.shape
    whole = pictures[:, : height - height % by, : width - width % by]
    return np.asarray(whole.reshape(n, height // by, by, width // by, by).mean((2, 4)), np.float32)


def _smooth(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """A little: what a resampling does to one picture and not to the other does not count."""
    edged = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    lines = 0.25 * edged[:, :-2] + 0.5 * edged[:, 1:-1] + 0.25 * edged[:, 2:]
    return np.asarray(0.25 * lines[:, :, :-2] + 0.5 * lines[:, :, 1:-1] + 0.25 * lines[:, :, 2:], np.float32)
