"""Memory that was freed goes back to the system, so that a long run needs no more than a short one."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 256 * 1024


@cache
def return_large_blocks() -> None:
    """From now on a block of this process that is larger than 256 KiB is the system's again once it is freed.

    glibc raises that limit by itself (to 32 MiB) and then keeps what a thread has freed for that thread. Tensors are
    received by threads: a night of ten times the images would need twice the memory. Arrow's own allocator keeps as
    much again for columns that are gone, so that it is not used. Elsewhere than on glibc: nothing.
    """
    libc = _glibc()
    if libc is not None and hasattr(libc, "mallopt"):
        import pyarrow as pa

        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        pa.set_memory_pool(pa.system_memory_pool())


def return_free_memory() -> None:
    """Whole pages of this process that nothing is in are the system's again: once, where much has come and gone.

    Connections take some megabytes each, in small blocks, and leave holes. Elsewhere than on glibc: nothing.
    """
    libc = _glibc()
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libc.so.6") if sys.platform.startswith("linux") else None
    except OSError:  # musl
        return None
