"""Memory into which decoding processes write tensors, so that none is copied on its way to the network."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray


class SharedTensors:
    """Places for tensors of one shape; another process opens the same memory by its descriptor.

    array: (places, height, width, 3) float32. What is in a place is whoever's it was given to, until it is given away
    again. The memory is the system's again when this, and every view of `array`, is gone.
    """

    def __init__(self, places: int, shape: tuple[int, int, int]) -> None:
        self.descriptor = _memory()
        size = places * int(np.prod(shape)) * np.dtype(np.float32).itemsize
        os.ftruncate(self.descriptor, size)
        if hasattr(fcntl, "F_ADD_SEALS"):  # a process that a file has taken over cannot take the memory away
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self.array = opened(self.descriptor, (places, *shape))

    def close(self) -> None:
        """Let go of the descriptor; may be called again."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        """A pool that never was closed."""
        if hasattr(self, "descriptor"):
            self.close()


def opened(descriptor: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The array behind a descriptor."""
    size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    return np.frombuffer(mmap.mmap(descriptor, size), np.float32).reshape(shape)


def _memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("darkroom-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:  # macOS: its pages are memory as long as there is some
        return os.dup(file.fileno())
