"""The one way from a file's bytes to what a model sees; train, validate, score and diagnose all call `prepare`.

bytes ─ decode ─► pixels (H, W, 3) uint8 ─ to_resized ─► (h, w, 3) 0 … 255 ─ to_tensor ─► (h, w, 3) float32
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.decode import Decoded, Header, ImageRefused, Limits, decode
from tasks.geometry import to_resized
from tasks.knobs import Decode, Geometry, Preprocessing, Values
from tasks.values import to_tensor

__all__ = [
    "Decode",
    "Geometry",
    "ImageRefused",
    "Limits",
    "Prepared",
    "Preprocessing",
    "Values",
    "array_digest",
    "prepare",
    "to_resized",
    "to_tensor",
]


@dataclass(frozen=True)
class Prepared:
    """An image at every stage of its preparation."""

    decoded: Decoded
    resized: NDArray[Any]  # (h, w, 3), uint8 or float32, 0 … 255: after geometry, before values
    tensor: NDArray[np.float32]  # (h, w, 3): the model's input

    @property
    def header(self) -> Header:
        """What the file says of itself."""
        return self.decoded.header

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3), RGB, as decoded."""
        return self.decoded.pixels


def prepare(
    data: bytes,
    preprocessing: Preprocessing,
    limits: Limits | None = None,
    out: NDArray[np.float32] | None = None,
) -> Prepared:
    """Bytes of one file → pixels and tensor. ImageRefused, with a reason code, for whatever is not such a file.

    Limits of pixels and bytes hold here; those of time and memory where the process can be killed (tasks.workers).
    `out` (h, w, 3) becomes the tensor, where it is given.
    """
    decoded = decode(data, preprocessing.decode, limits or Limits())
    resized = to_resized(decoded.raster, preprocessing.geometry)
    return Prepared(decoded, resized, to_tensor(resized, preprocessing.values, out))


def array_digest(array: NDArray[Any]) -> str:
    """sha256 (hex) of an array's type, shape and bytes: goldens are compared by it."""
    digest = hashlib.sha256(f"{array.dtype.newbyteorder('<').str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()
