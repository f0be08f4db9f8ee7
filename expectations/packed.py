"""Arrays and what is told with them, as bytes: a line of JSON, then each array as it lies in memory.

For what a shard leaves behind, ten thousand times a night: a zip of .npy files takes many times as long where they are
small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack(told: Any, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """`told` is JSON; the arrays are of numbers, of any shape."""
    shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    return b"".join([json.dumps([told, shapes]).encode(), b"\n", *(array.tobytes() for array in arrays.values())])


def unpack(data: bytes) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The other way; the arrays are not to be written to. Raises ValueError for what is nothing of ours."""
    line, _, rest = data.partition(b"\n")
    told, shapes = json.loads(line)
    arrays, start = {}, 0
    for name, (kind, shape) in shapes.items():
        size = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(rest, np.dtype(kind), size, start)
        arrays[name] = array.reshape(shape)
        start += array.nbytes
    return told, arrays
