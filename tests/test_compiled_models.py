"""A network that OpenVINO has compiled is kept for the next process, and answers to the bit as before."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkroom.results import now
from flows.engines import engine_for
from tasks import compiled_models
from tasks import openvino_engine as openvino
from tasks.bundle import Bundle, open_bundle
from tasks.compiled_models import KEPT, kept_engine
from tasks.machine import machine_type
from tasks.parity import Compared, Parity, keep, libraries_of

# Prefect's imports are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "darkroom" / "compiled"


@pytest.fixture(scope="module")
def proved_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """In models of its own: proofs lie beside the bundles."""
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_bundle.path.parent, models / "tiny")
    mine = open_bundle(models / "tiny" / tiny_bundle.path.name)
    parity = Parity(
        bundle=mine.id,
        machine=machine_type(),
        engine=openvino.NAME,
        libraries=libraries_of(openvino.NAME, openvino.openvino_version()),
        goldens=Compared(),
        worse=Compared(),
        validation=Compared(),
        at=now(),
    )
    keep(mine, parity)
    return mine


@pytest.fixture(scope="module")
def tensors(proved_bundle: Bundle) -> Any:
    return np.random.default_rng(0).uniform(-1, 1, (24, *proved_bundle.preprocessing.input_shape)).astype(np.float32)


_NIGHT = """
import sys
from pathlib import Path
import numpy as np
from flows.looking import prove_model
tensors, answers = np.load(sys.argv[2]), prove_model(Path(sys.argv[1]), "auto").engine
np.save(sys.argv[3], answers.run(tensors).probabilities)
print(answers.name, *{"tensorflow", "keras"} & set(sys.modules))
"""


def test_the_next_process_answers_the_same_and_needs_no_tensorflow(
    proved_bundle: Bundle, tensors: Any, tmp_path: Path
) -> None:
    compiled = engine_for(proved_bundle, "auto").run(tensors).probabilities
    np.save(tmp_path / "tensors.npy", tensors)
    files = [str(proved_bundle.path), str(tmp_path / "tensors.npy"), str(tmp_path / "answers.npy")]
    done = subprocess.run(
        [sys.executable, "-c", _NIGHT, *files], env=os.environ.copy(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [openvino.NAME]
    assert np.array_equal(np.load(tmp_path / "answers.npy"), compiled)


def test_it_needs_neither_the_bytes_it_was_loaded_from_nor_their_memory(proved_bundle: Bundle, tensors: Any) -> None:
    compiled = engine_for(proved_bundle, "auto")
    again = kept_engine(proved_bundle)
    assert again is not None
    gc.collect()
    others = [np.full(size, 1e3, np.float32) for size in range(8, 40_000, 14)]
    assert np.array_equal(again.run(tensors).probabilities, compiled.run(tensors).probabilities)
    assert len(others)


@pytest.mark.parametrize("damage", ["cut short", "a changed byte", "empty", "a folder", "no cache can be made"])
def test_what_is_damaged_is_compiled_again(proved_bundle: Bundle, tensors: Any, cache: Path, damage: str) -> None:
    if damage == "no cache can be made":
        cache.parent.write_bytes(b"a file in its place")
        assert engine_for(proved_bundle, "auto").name == openvino.NAME
        assert kept_engine(proved_bundle) is None
        return
    wanted = engine_for(proved_bundle, "auto").run(tensors).probabilities
    (file,) = cache.iterdir()
    data = file.read_bytes()
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    else:
        changed = data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]
        file.write_bytes({"cut short": data[:-7], "a changed byte": changed, "empty": b""}[damage])
    assert kept_engine(proved_bundle) is None
    assert np.array_equal(engine_for(proved_bundle, "auto").run(tensors).probabilities, wanted)
    assert damage == "a folder" or kept_engine(proved_bundle) is not None, "and kept again"


@pytest.mark.parametrize("other", ["openvino_version", "machine_type", "cores"])
def test_it_is_of_its_own_library_machine_and_cores_only(
    proved_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    engine_for(proved_bundle, "auto")
    assert kept_engine(proved_bundle) is not None
    place = openvino if other == "openvino_version" else compiled_models
    monkeypatch.setattr(place, other, lambda: 77)
    assert kept_engine(proved_bundle) is None


def test_without_a_proof_nothing_that_is_kept_is_used(proved_bundle: Bundle) -> None:
    engine_for(proved_bundle, "auto")
    proofs = proved_bundle.path.parents[1] / ".proofs"
    aside = proofs.rename(proofs.with_name("aside"))
    try:
        assert engine_for(proved_bundle, "auto").name == "keras"
    finally:
        aside.rename(proofs)


def test_the_one_that_was_not_used_for_longest_makes_room(proved_bundle: Bundle, cache: Path) -> None:
    engine_for(proved_bundle, "auto")
    (first,) = cache.iterdir()
    for number in range(KEPT):
        (cache / f"{number}").touch()
        os.utime(cache / f"{number}", (number, number))
    os.utime(first, (0, 0))
    assert kept_engine(proved_bundle) is not None, "and with that it is the latest that was used"
    compiled_models.keep_engine(proved_bundle, engine_for(proved_bundle, "auto"))
    assert {file.name for file in cache.iterdir()} == {first.name, *(str(number) for number in range(1, KEPT))}
