"""Whatever comes in by a door is let in, or refused in words; and mutated files of a night are told apart in the end.

benchmarks.fuzz looks for what breaks this, for minutes; what it found is a test of the room that it was found in.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import DOORS as FUZZED
from benchmarks.mutated import accounted
from expectations.outliers import NearestNeighbours
from expectations.projection import Projection
from tests import made_up
from tests.doors import DOORS, bundle, files, images, knock
from tests.mutations import MUTATIONS, mutated, pieces, with_checksums

TIMES = 20
IMAGES = images()


def test_every_door_is_one_of_the_fuzzer_s() -> None:
    assert tuple(DOORS) == FUZZED


@pytest.mark.parametrize("name", DOORS)
def test_a_door_lets_in_or_refuses_in_words(name: str) -> None:
    door, draw = DOORS[name], random.Random(3)
    seeds = door.seeds()
    assert None in [knock(door, data) for data in seeds]
    refused = 0
    for _ in range(TIMES):
        seed, other = draw.choice(seeds), draw.choice(seeds)
        refused += knock(door, seed[:1] + mutated(seed[1:], other[1:], draw)[1]) is not None
    knock(door, b"")
    # Nothing is refused at the door of an inbox: it is taken in, whatever lies there.
    assert bool(refused) is (name != "inbox")


KNOWN: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a property that nobody measures": ("outliers.json", lambda data: data.replace(b"sharpness", b"happiness")),
    "a spread too few": ("outliers.json", lambda data: json.dumps(json.loads(data) | {"below": [1.0, 2.0]}).encode()),
    "a temperature in words": ("calibration.json", lambda data: re.sub(rb"(temperature.: )[\d.]+", rb'\1"hot"', data)),
    "a limit in words": ("calibration.json", lambda data: re.sub(rb"(low_confidence.: )[\d.]+", rb'\1"low"', data)),
    "axes of another model": ("projection.npz", lambda _: Projection(np.zeros(8), np.zeros((8, 3))).to_bytes()),
    "a bank of another model": (
        "neighbours.npz",
        lambda _: NearestNeighbours(np.ones((9, 3)), np.ones(200)).to_bytes(),
    ),
    "an empty bank": ("neighbours.npz", lambda _: NearestNeighbours(np.ones((0, 8)), np.ones(200)).to_bytes()),
}


@pytest.mark.parametrize(("name", "change"), KNOWN.values(), ids=KNOWN.keys())
def test_knowledge_that_would_stop_a_night_is_refused_by_its_file(name: str, change: Callable[[bytes], bytes]) -> None:
    sound = (bundle() / name).read_bytes()
    assert change(sound) != sound
    said = knock(DOORS["bundle"], bytes([files().index(name)]) + change(sound))
    assert f"{name} is as it was sealed, and not what a darkroom seals" in str(said)


@pytest.mark.parametrize("data", IMAGES)
def test_pieces_are_the_whole_file(data: bytes) -> None:
    assert b"".join(pieces(data)) == data
    assert len(pieces(data)) > 1


def test_checksums_of_a_sound_png_are_as_they_were() -> None:
    for data in IMAGES:
        if data.startswith(b"\x89PNG"):
            assert with_checksums(data) == data
            assert with_checksums(data[:40] + b"\0" + data[41:]).startswith(data[:29])


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.parametrize("data", [b"", b"x", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF", *IMAGES[:5:4]])
def test_a_mutation_is_the_same_for_the_same_seed(name: str, data: bytes) -> None:
    once, again = (
        [MUTATIONS[name](data, IMAGES[8], draw) for _ in range(20)] for draw in (random.Random(1), random.Random(1))
    )
    assert once == again
    assert len(data) < 10 or any(one != data for one in once)


def test_a_file_that_is_lost_or_doubled_is_not_accounted_for(tmp_path: Path) -> None:
    inbox = made_up.draw_inbox(tmp_path / "inbox")
    made_up.score(tmp_path / "results", inbox)
    names = {path.relative_to(inbox).as_posix() for path in inbox.rglob("*") if path.is_file()} - {"notes.txt"}
    lost, statuses, reasons = accounted(tmp_path / "results", made_up.NIGHT, names | {"notes.txt"})
    assert lost == 1  # a text is no image: in a night of mutated files there is none
    assert (statuses["scored"], statuses["duplicate"], reasons) == (9, 1, {"broken_data": 1})
    assert accounted(tmp_path / "results", made_up.NIGHT, names | {"notes.txt", "one more.png"})[0] == 2
    assert accounted(tmp_path / "results", date(2026, 3, 2), names)[0] == len(names)
