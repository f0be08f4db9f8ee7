"""Who is next to whom: nearest rows by embedding and by hash, in blocks, so that memory stays linear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE: Final = 256
_COLUMNS_AT_ONCE: Final = 2048  # of hashes: what fits in a processor's cache
_LEARN_FROM: Final = 10_000
COMPONENTS: Final = 64


def compact(features: NDArray[Any], components: int = COMPONENTS) -> NDArray[np.float32]:
    """(n, e) → (n, at most `components`): standardised, then principal components; rows have length 1 on average.

    Axes are learned from at most 10,000 rows, evenly taken, by random projection and two power iterations (Halko,
    Martinsson and Tropp, arXiv 0909.4061); the rest is done in blocks.
    """
    if not len(features):
        return np.zeros((0, min(components, features.shape[1])), np.float32)
    sample = np.asarray(features[:: max(1, len(features) // _LEARN_FROM)], np.float32)
    centre = sample.mean(axis=0)
    spread = sample.std(axis=0)
    unit = np.where(spread > 1e-6 * max(float(spread.max()), 1e-12), spread, np.inf).astype(np.float32)
    standard = (sample - centre) / unit
    axes = _principal_axes(standard, components) / unit[:, None]
    found = np.concatenate(
        [(np.asarray(features[row : row + 4096], np.float32) - centre) @ axes for row in range(0, len(features), 4096)]
    )
    size = np.sqrt(np.square(found).sum(axis=1).mean())
    return np.asarray(found / max(float(size), 1e-12), np.float32)


def _principal_axes(rows: NDArray[np.float32], components: int) -> NDArray[np.float32]:
    """(e, at most `components`), orthonormal."""
    size = rows.shape[1]
    axes = np.eye(size, dtype=np.float32)
    if size > 2 * components:
        axes = np.random.default_rng(0).standard_normal((size, components + 10)).astype(np.float32)
        for _ in range(3):
            axes = np.linalg.qr(rows.T @ (rows @ axes))[0]
    inside = rows @ axes
    _, turned = np.linalg.eigh(inside.T @ inside)
    return np.asarray(axes @ turned[:, ::-1][:, :components], np.float32)


def unit_rows(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Rows of length one."""
    found = np.asarray(rows, np.float32)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12), np.float32)


def nearest(rows: NDArray[np.floating[Any]], k: int) -> NDArray[np.int64]:
    """Positions (n, min(k, n − 1)) of the nearest other rows by cosine, the nearest first."""
    unit = unit_rows(rows)
    k = min(k, len(unit) - 1)
    if k < 1:
        return np.zeros((len(unit), 0), np.int64)
    parts = []
    for start, block in _blocks(unit):
        cosine = block @ unit.T
        cosine[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
        best = np.argpartition(cosine, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(cosine, best, 1), axis=1, kind="stable")
        parts.append(np.take_along_axis(best, order, 1))
    return np.concatenate(parts)


def alike_by_hash(hashes: NDArray[np.uint64], most_bits: int, most_each: int) -> NDArray[np.int64]:
    """Pairs (p, 2), first < second, of hashes that differ in at most `most_bits`; at most `most_each` a row, the
    nearest.

    The cap is what keeps a folder of a thousand black photos from giving half a million pairs.
    """
    parts = [np.zeros((0, 2), np.int64)]
    for start, block in _blocks(hashes):
        found = []
        for column in range(start, len(hashes), _COLUMNS_AT_ONCE):
            bits = np.bitwise_count(block[:, None] ^ hashes[None, column : column + _COLUMNS_AT_ONCE])
            if column == start:  # the block itself: each pair once
                bits[np.tril_indices(len(block), 0, bits.shape[1])] = 255
            first, second = np.nonzero(bits <= most_bits)
            found.append(np.stack([first, second + column - start, bits[first, second]]))
        first, second, away = np.concatenate(found, axis=1)
        order = np.lexsort((away, first))
        first, second = first[order], second[order]
        place = np.arange(len(first)) - np.searchsorted(first, first)
        kept = place < most_each
        parts.append(np.stack([first[kept], second[kept]], 1) + start)
    return np.concatenate(parts)


def cosines(features: NDArray[np.floating[Any]], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cosine (p,) of the two rows of each pair."""
    parts = [np.zeros(0, np.float32)]
    for start in range(0, len(pairs), 4096):
        first, second = (unit_rows(features[side]) for side in pairs[start : start + 4096].T)
        parts.append((first * second).sum(axis=1))
    return np.concatenate(parts)


def _blocks(rows: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield start, rows[start : start + _ROWS_AT_ONCE]
