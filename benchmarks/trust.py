"""What a night survives: faults of every kind at many moments, each followed by the same night once more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.fuzz import fuzz
from benchmarks.harness import Measured, Row
from benchmarks.mutated import mutated
from tests.faults import BETWEEN_NIGHTS, IN_THE_STORE, ON_DISK
from tests.plugins.object_store import running

MOMENTS: Final = 25
# Of so many calls, or requests, one is a moment: a night has about a hundred of the first, half as many of the second.
A_CALL: Final = 4
A_REQUEST: Final = 2


def faults() -> Mapping[str, Measured]:
    """Rows that were lost, doubled or changed after the next night, over all kinds and moments: there may be none."""
    with running() as server:
        told = [
            *_struck(ON_DISK, A_CALL),
            *_struck(BETWEEN_NIGHTS, 1),
            *_struck(IN_THE_STORE, A_REQUEST, server.folder()),
        ]
    wrong = [one for one in told if one["failures"]]
    fewest = min(told, key=lambda one: one["moments"])
    note = f"{len(told)} kinds, {sum(one['moments'] for one in told):,} moments; "
    note += f"{sum(one['clear_errors'] for one in told):,} nights ended with a clear error; "
    note += "; ".join(f"{one['kind']}: {one['failures'][0]}" for one in wrong[:5]) or "none differs"
    return {
        "faults_with_other_rows": Measured(len(wrong), note, told),
        "fault_kinds": Measured(len(told)),
        "fewest_moments_of_a_kind": Measured(fewest["moments"], fewest["kind"]),
    }


def _struck(kinds: Iterable[str], step: int, address: str = "") -> list[Any]:
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.faults", folder, address, "0", f"{step}", f"{MOMENTS}", *kinds]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True)
    told: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return told


ROWS: Mapping[str, Row] = {"faults": faults, "fuzz": fuzz, "mutated": mutated}
