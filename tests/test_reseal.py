"""After an upgrade: what has moved since the seal is shown, and nothing is sealed again without a person."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkroom.errors import GateClosed, GoldenMismatch, WrongUse
from flows.reseal import reseal
from tasks.bundle import Bundle, find_bundle, open_bundle, replay_goldens, reseal_bundle
from tasks.bundle.manifest import bundle_id, file_digest
from tasks.goldens import golden_changes
from tasks.goldens.record import to_parquet
from tasks.inference import Engine, Outputs, load_engine

pytest_plugins = ["tests.plugins.tiny_bundle"]


@pytest.fixture
def moved_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A bundle as another decoder would have sealed it: the digests of its goldens' pixels and tensors are others."""
    return sealed_elsewhere(tiny_bundle, tmp_path / "models", shift=0.0)


def sealed_elsewhere(bundle: Bundle, models: Path, *, shift: float) -> Bundle:
    path = models / bundle.manifest.name / "1"
    shutil.copytree(bundle.path, path)
    goldens = []
    for golden in bundle.goldens():
        probabilities = golden.probabilities + np.float32(shift) * np.array([1, -1, 0, 0], dtype=np.float32)
        pixels = replace(golden.pixels, sha256="0" * 64, sample=tuple(value + 1 for value in golden.pixels.sample))
        goldens.append(replace(golden, pixels=pixels, probabilities=probabilities))
    (path / "goldens/goldens.parquet").write_bytes(to_parquet(goldens))
    statements: dict[str, Any] = json.loads((path / "bundle.json").read_bytes())
    statements["libraries"]["pillow"] = "10.0.0"
    statements["version"] = 1
    statements["digests"]["goldens/goldens.parquet"] = file_digest(path / "goldens/goldens.parquet")
    statements["id"] = bundle_id(statements)
    (path / "bundle.json").write_text(json.dumps(statements))
    current = {"schema_version": 1, "version": 1, "id": statements["id"]}
    (path.parent / "current.json").write_text(json.dumps(current))
    return open_bundle(path)


def test_a_bundle_that_holds_has_nothing_to_seal_again(tiny_bundle: Bundle, tiny_engine: Engine) -> None:
    changes = golden_changes(tiny_bundle, tiny_engine)
    assert len(changes) == 32
    assert not any(change.moved or change.decides_otherwise for change in changes)
    with pytest.raises(WrongUse, match="nothing to seal again"):
        reseal_bundle(tiny_bundle, changes, reason="to be sure")


def test_what_moved_is_shown_and_nothing_is_sealed(moved_bundle: Bundle, prefect_api: str) -> None:
    told = reseal(bundle=moved_bundle.path)
    assert told.sealed is None
    assert [path.name for path in moved_bundle.path.parent.iterdir() if path.is_dir()] == ["1"]
    text = told.as_text()
    assert text.startswith("32 of 32 golden images")
    assert "pillow 10.0.0 → " in text
    assert "sampled points differ, by up to 1 " in text


def test_what_a_person_agreed_to_is_the_next_version_and_proves_itself(moved_bundle: Bundle, prefect_api: str) -> None:
    with pytest.raises(GoldenMismatch):
        replay_goldens(moved_bundle, engine_of(moved_bundle))
    told = reseal(bundle=moved_bundle.path.parent, agreed=True, reason="pillow 12.1")
    resealed = open_bundle(Path(str(told.path)))
    assert (resealed.id, resealed.manifest.version) == (told.sealed, 2)
    assert replay_goldens(resealed, engine_of(resealed)).n == 32
    for name in ("model.keras", "preprocessing.json", "suite.json", "drift.json", "card.md", "embeddings.npy"):
        assert resealed.read_bytes(name) == moved_bundle.read_bytes(name), name
    assert resealed.profile().equals(moved_bundle.profile())
    assert resealed.manifest.metrics["resealed"][0]["from"] == moved_bundle.id
    history = (moved_bundle.path.parent / "history.jsonl").read_text()
    assert "pillow 12.1" in history
    # Not in use before somebody says so.
    assert find_bundle(moved_bundle.path.parent) == moved_bundle.path


def test_it_is_put_into_use_where_that_is_asked(moved_bundle: Bundle, prefect_api: str) -> None:
    told = reseal(bundle=moved_bundle.path, agreed=True, reason="pillow 12.1", promote=True)
    assert find_bundle(moved_bundle.path.parent) == Path(str(told.path))


def test_a_reason_is_asked_for(moved_bundle: Bundle) -> None:
    changes = golden_changes(moved_bundle, engine_of(moved_bundle))
    with pytest.raises(WrongUse, match="with a reason"):
        reseal_bundle(moved_bundle, changes, reason=" ")


def test_goldens_that_moved_far_are_not_sealed_again(tiny_bundle: Bundle, tmp_path: Path) -> None:
    far = sealed_elsewhere(tiny_bundle, tmp_path / "models", shift=0.05)
    with pytest.raises(GateClosed, match="moved too far") as caught:
        reseal_bundle(far, golden_changes(far, engine_of(far)), reason="an upgrade")
    assert "train (or adopt) again" in str(caught.value.todo)
    assert [path.name for path in far.path.parent.iterdir() if path.is_dir()] == ["1"]


def test_a_golden_that_can_no_longer_be_decoded_is_a_change_and_no_reason_to_seal(
    tiny_bundle: Bundle, tiny_engine: Engine
) -> None:
    jpegs_only = tiny_bundle.preprocessing.with_knobs(formats=("JPEG",))
    changes = golden_changes(replace(tiny_bundle, preprocessing=jpegs_only), tiny_engine)
    assert {change.after for change in changes if change.refused} == {"none"}
    with pytest.raises(GateClosed, match="moved too far"):
        reseal_bundle(tiny_bundle, changes, reason="an upgrade")


def test_a_model_that_decides_otherwise_is_told_with_both_classes(tiny_bundle: Bundle) -> None:
    class Turned:
        name = "keras"

        def run(self, tensors: np.ndarray) -> Outputs:
            outputs = engine_of(tiny_bundle).run(tensors)
            return replace(outputs, probabilities=outputs.probabilities[:, ::-1])

    changes = golden_changes(tiny_bundle, Turned())  # type: ignore[arg-type]
    assert all(change.moved for change in changes)
    assert any(change.before != change.after for change in changes)


def engine_of(bundle: Bundle) -> Engine:
    return load_engine(bundle.model_path, bundle.manifest.embedding_layer)
