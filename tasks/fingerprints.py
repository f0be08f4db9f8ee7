"""What a picture looks like in a few bytes: a perceptual hash, and a small grey picture to confirm by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

SIDE: Final = 48
_FREQUENCIES: Final = 8
_ROWS_AT_ONCE: Final = 128
_LUMINANCE: Final = tuple(map(np.float32, (0.299, 0.587, 0.114)))


class Pictures(Protocol):
    """Pictures (n, h, w, 3) in memory or on disk."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, which: slice, /) -> NDArray[Any]:
        """Some of them."""


@dataclass(frozen=True)
class Fingerprints:
    """`hashes` (n,) uint64, near in Hamming distance where pictures look alike; `pictures` (n, SIDE, SIDE) uint8."""

    hashes: NDArray[np.uint64]
    pictures: NDArray[np.uint8]

    @classmethod
    def joined(cls, parts: Sequence[Fingerprints]) -> Fingerprints:
        """Some after others."""
        return cls(
            np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in parts)]),
            np.concatenate([np.zeros((0, SIDE, SIDE), np.uint8), *(part.pictures for part in parts)]),
        )


def fingerprint(resized: Pictures) -> Fingerprints:
    """Fingerprints of pictures (n, h, w, 3), 0 … 255, uint8 or float, on disk or not; a few rows in memory at a time.

    The hash holds for each of the 64 lowest frequencies of the cosine transform whether it is above their median
    (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010).
    """
    return Fingerprints.joined(
        [_of_batch(np.asarray(resized[row : row + _ROWS_AT_ONCE])) for row in range(0, len(resized), _ROWS_AT_ONCE)]
    )


def _of_batch(resized: NDArray[Any]) -> Fingerprints:
    red, green, blue = (resized[..., channel] * share for channel, share in enumerate(_LUMINANCE))
    n, height, width = resized.shape[:3]
    narrow = ((red + green + blue).reshape(-1, width) @ _means(width).T).reshape(n, height, SIDE)
    small = _means(height) @ narrow
    low = dctn(small, axes=(1, 2))[:, :_FREQUENCIES, :_FREQUENCIES].reshape(len(small), -1)
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    return Fingerprints(
        np.packbits(bits, axis=1).view(np.uint64).reshape(len(small)), np.rint(small).clip(0, 255).astype(np.uint8)
    )


def _means(size: int) -> NDArray[np.float32]:
    """(SIDE, size): each of SIDE equal parts as the mean of the pixels under it, in shares where it cuts one."""
    edges = np.linspace(0, size, SIDE + 1)
    pixels = np.arange(size)
    under = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    share = np.clip(under, 0, None)
    return np.asarray(share / share.sum(axis=1, keepdims=True), np.float32)
