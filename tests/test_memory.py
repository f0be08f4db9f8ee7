"""What a process has freed is the system's again."""

from __future__ import annotations

import sys

import pytest

from tests.tiny import in_new_process

_HOLES = """
import psutil
from tasks.memory import return_free_memory

def resident():
    return psutil.Process().memory_info().rss / 2**20

blocks = [bytearray(2000) for _ in range(100_000)]
last = bytearray(2000)  # above the others: what is below it is no end of the heap
full = resident()
del blocks
freed = resident()
return_free_memory()
print(full - freed, freed - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc alone")
def test_pages_that_nothing_is_in_are_the_systems_again() -> None:
    done = in_new_process(_HOLES)
    told, problem = done.communicate(timeout=60)
    assert done.returncode == 0, problem
    by_themselves, returned = map(float, told.split())
    assert returned > 100, f"MiB; {by_themselves:.0f} went back by themselves"
