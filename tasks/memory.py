"""Memory that was freed goes back to the system, so that a long run needs no more than a short one."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Final

import pyarrow as pa

_M_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 256 * 1024


@cache
def return_large_blocks() -> None:
    """From now on a block of this process that is larger than 256 KiB is the system's again once it is freed.

    glibc raises that limit by itself (to 32 MiB) and then keeps what a thread has freed for that thread. Tensors are
    received by threads: a night of ten times the images would need twice the memory. Arrow's own allocator keeps as
    much again for columns that are gone, so that it is not used. Elsewhere than on glibc: nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # musl
        return
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        pa.set_memory_pool(pa.system_memory_pool())
