"""What a night survives: faults of every kind at many moments, each followed by the same night once more.

And attacks by name: what is not refused.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.at_once import at_once
from benchmarks.fuzz import fuzz
from benchmarks.harness import Measured, Row
from benchmarks.mutated import mutated
from benchmarks.real_faults import real_faults
from benchmarks.soak import soak
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


def attacks() -> Mapping[str, Measured]:
    """Attacks by name, each carried out in a folder of its own: how many there are, and how many are not refused."""
    from tasks.bundle import seal_bundle
    from tests.attacks import ATTACKS, Workshop, carried_out
    from tests.tiny import OTHER_FILES, draw_images, sealed_contents, tiny_preprocessing

    trials = []
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "photos").mkdir()
        draw_images(place / "photos")
        contents = sealed_contents(place / "tiny.keras", place / "photos", tiny_preprocessing())
        sealed = seal_bundle(place / "models", "tiny", replace(contents, files=OTHER_FILES)).path
        for number, attack in enumerate(ATTACKS):
            (place / f"{number}").mkdir()
            refused, said = carried_out(attack, Workshop(place / f"{number}", sealed))
            trials.append({"kind": attack.kind, "does": attack.does, "refused": refused, "said": said[:1000]})
    through = [f"{one['kind']}: {one['does']}" for one in trials if not one["refused"]]
    kinds = Counter(one["kind"] for one in trials)
    note = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    return {
        "attacks_not_refused": Measured(len(through), "; ".join(through[:5]) or "all are refused", trials),
        "attacks_named": Measured(len(trials), note),
    }


ROWS: Mapping[str, Row] = {
    "faults": faults,
    "real_faults": real_faults,
    "soak": soak,
    "at_once": at_once,
    "attacks": attacks,
    "fuzz": fuzz,
    "mutated": mutated,
}
