"""Whatever happens to a night, the next run makes it whole: no row is lost, none is there twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.faults import BETWEEN_NIGHTS, IN_THE_STORE, ON_DISK
from tests.plugins.object_store import ObjectServer
from tests.tiny import ROOT


def struck(folder: Path, kinds: Iterable[str], *, first: int, step: int, most: int, address: str = "") -> list[Any]:
    command = [sys.executable, "-m", "tests.faults", str(folder), address, f"{first}", f"{step}", f"{most}", *kinds]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    told: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize(
    ("kinds", "first", "step"),
    [
        pytest.param(ON_DISK, 11, 40, id="to the disk, the machine and the inbox"),
        pytest.param(BETWEEN_NIGHTS, 0, 5, id="to what the night before has left"),
    ],
)
def test_what_happens_to_a_night_changes_no_row_of_it_after_the_next_run(
    tmp_path: Path, kinds: Iterable[str], first: int, step: int
) -> None:
    told = struck(tmp_path, kinds, first=first, step=step, most=2)
    assert [one for one in told if one["failures"]] == []
    assert all(one["moments"] == 2 for one in told)


def test_what_happens_to_a_store_changes_no_row_of_a_night_after_the_next_run(
    tmp_path: Path, object_server: ObjectServer
) -> None:
    told = struck(tmp_path, IN_THE_STORE, first=17, step=1, most=1, address=object_server.folder())
    assert [one for one in told if one["failures"]] == []
    assert all(one["moments"] == 1 for one in told)
