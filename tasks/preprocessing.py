"""The one way from a file's bytes to what a model sees; train, validate, score and diagnose all call `prepare`.

bytes ─ decode ─► pixels (H, W, 3) uint8 ─ to_resized ─► (h, w, 3) 0 … 255 ─ to_tensor ─► (h, w, 3) float32
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.decode import Header, ImageRefused, Limits, decode
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

    header: Header
    pixels: NDArray[np.uint8]  # (H, W, 3), RGB, as decoded
    resized: NDArray[Any]  # (h, w, 3), uint8 or float32, 0 … 255: after geometry, before values
    tensor: NDArray[np.float32]  # (h, w, 3): the model's input


def prepare(data: bytes, preprocessing: Preprocessing, limits: Limits | None = None) -> Prepared:
    """Bytes of one file → pixels and tensor. ImageRefused, with a reason code, for whatever is not such a file.

    Limits of pixels and bytes hold here; those of time and memory where the process can be killed (tasks.workers).
    """
    decoded = decode(data, preprocessing.decode, limits or Limits())
    resized = to_resized(decoded.pixels, preprocessing.geometry)
    return Prepared(decoded.header, decoded.pixels, resized, to_tensor(resized, preprocessing.values))


def array_digest(array: NDArray[Any]) -> str:
    """sha256 (hex) of an array's type, shape and bytes: goldens are compared by it."""
    digest = hashlib.sha256(f"{array.dtype.newbyteorder('<').str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()
