"""The bundle: sealed once, versioned, found, promoted; and refused, with its own message, after any change."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom import schemas
from darkroom.errors import (
    BundleTampered,
    BundleUnreadable,
    DarkroomError,
    StorageError,
    TrainingFailed,
    UnsupportedModel,
    WrongUse,
)
from tasks.bundle import Bundle, SealedContents, find_bundle, open_bundle, promote, seal_bundle
from tasks.bundle.disk import take_name
from tasks.bundle.manifest import bundle_id, classes_digest, file_digest
from tasks.bundle.versions import next_version, put_into_use
from tests.tiny import CLASSES, SIZE, in_new_process

pytest_plugins = ["tests.plugins.tiny_bundle"]


def test_a_bundle_gives_back_what_was_sealed(tiny_bundle: Bundle, tiny_contents: SealedContents) -> None:
    opened = open_bundle(tiny_bundle.path)
    assert opened.classes == CLASSES
    assert opened.preprocessing == tiny_contents.preprocessing
    assert opened.manifest.input_shape == (*SIZE, 3)
    assert opened.id.startswith(f"tiny-{opened.path.name}-")
    assert opened.read_json("suite.json") == {"suite": 1}
    assert opened.read_bytes("card.md") == b"# A card\n"
    assert np.array_equal(opened.embeddings(), tiny_contents.embeddings)
    assert opened.embeddings().dtype == np.float16
    assert opened.manifest.metrics["per class"] == {"bolt": None}
    profile = opened.profile()
    assert list(profile.columns) == schemas.PROFILE.names
    pd.testing.assert_series_equal(profile["content_id"], tiny_contents.profile["content_id"], check_dtype=False)
    images = {golden.name: golden.image for golden in tiny_contents.goldens}
    assert {golden.name: golden.image for golden in opened.goldens()} == images


def test_a_bundle_survives_pickling_and_moving(tiny_bundle: Bundle, tmp_path: Path) -> None:
    assert pickle.loads(pickle.dumps(tiny_bundle)) == tiny_bundle
    shutil.copytree(tiny_bundle.path, tmp_path / "elsewhere")
    assert open_bundle(tmp_path / "elsewhere").id == tiny_bundle.id
    (tmp_path / "elsewhere" / "goldens" / ".DS_Store").write_bytes(b"left by a file manager")
    assert open_bundle(tmp_path / "elsewhere").id == tiny_bundle.id


# -- changed by hand ---------------------------------------------------------------------------------------------------


def one_byte(name: str) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        file = next(bundle.glob(name))
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)

    return change


def statement(**changes: Any) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        file = bundle / "bundle.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def swap_classes(bundle: Path) -> None:
    statement(classes=list(reversed(CLASSES)))(bundle)


def swap_classes_consistently(bundle: Path) -> None:
    statement(classes=list(reversed(CLASSES)), classes_digest=classes_digest(CLASSES[::-1]))(bundle)


def turn_a_knob(bundle: Path) -> None:
    file = bundle / "preprocessing.json"
    file.write_text(file.read_text().replace('"bilinear"', '"bicubic"'))


def turn_a_knob_and_edit_its_digest(bundle: Path) -> None:
    turn_a_knob(bundle)
    digests = json.loads((bundle / "bundle.json").read_text())["digests"]
    statement(digests=digests | {"preprocessing.json": file_digest(bundle / "preprocessing.json")})(bundle)


def turn_a_knob_and_edit_everything_but_its_own_digest(bundle: Path) -> None:
    turn_a_knob_and_edit_its_digest(bundle)
    statements = json.loads((bundle / "bundle.json").read_text())
    statement(id=bundle_id(statements))(bundle)


def link_out(bundle: Path) -> None:
    model = bundle / "model.keras"
    model.rename(bundle.parent / "model elsewhere")
    model.symlink_to(bundle.parent / "model elsewhere")


TAMPERINGS = {
    "golden": (one_byte("goldens/*.jpeg"), "A golden image was changed", ".jpeg"),
    "record of the goldens": (one_byte("goldens/goldens.parquet"), "record of the golden images", "goldens.parquet"),
    "weight": (one_byte("model.keras"), "not the weights that were measured", "model.keras"),
    "class order": (swap_classes, "The class order was changed", "bundle.json"),
    "class order, and its digest": (swap_classes_consistently, "bundle.json was changed by hand", "bundle.json"),
    "knob": (turn_a_knob, "A knob of the preprocessing was changed", "preprocessing.json"),
    "knob, and its file's digest": (turn_a_knob_and_edit_its_digest, "bundle.json was changed", "bundle.json"),
    "knob, digest and id": (
        turn_a_knob_and_edit_everything_but_its_own_digest,
        "contradict each other about the preprocessing digest",
        "bundle.json",
    ),
    "profile": (one_byte("profile.parquet"), "The profile was changed", "profile.parquet"),
    "embeddings": (one_byte("embeddings.npy"), "The profile was changed", "embeddings.npy"),
    "suite": (one_byte("suite.json"), "suite.json was changed", "suite.json"),
    "a metric": (statement(metrics={"accuracy": 0.99}), "bundle.json was changed by hand", "bundle.json"),
    "a statement more": (statement(note="mine"), "bundle.json was changed by hand", "bundle.json"),
    "another id": (statement(id="tiny-1-000000000000"), "bundle.json was changed by hand", "bundle.json"),
    "file beside": (lambda bundle: (bundle / "goldens" / "more.jpeg").write_bytes(b""), "not sealed in it", "more"),
    "link": (link_out, "replaced by a link", "model.keras"),
}
HALVES = {
    "no folder": (shutil.rmtree, "There is no bundle here"),
    "no bundle.json": (lambda bundle: (bundle / "bundle.json").unlink(), "There is no bundle here"),
    "half of bundle.json": (lambda bundle: os.truncate(bundle / "bundle.json", 100), "half a bundle"),
    "no JSON object": (lambda bundle: (bundle / "bundle.json").write_text("[]"), "half a bundle"),
    "missing model": (lambda bundle: (bundle / "model.keras").unlink(), "half a bundle"),
    "missing golden": (lambda bundle: next(bundle.glob("goldens/*.jpeg")).unlink(), "half a bundle"),
    "newer schema": (statement(schema_version=2), "update darkroom"),
}


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy"))


@pytest.mark.parametrize(("change", "says", "file"), TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_whatever_is_changed_by_hand_is_refused_by_name(
    copy: Path, change: Callable[[Path], object], says: str, file: str
) -> None:
    change(copy)
    with pytest.raises(BundleTampered, match=says) as refused:
        open_bundle(copy)
    error = refused.value
    assert str(error.file).startswith(str(copy))
    assert file in str(error.file)
    assert error.expected
    assert error.found
    assert error.todo


def test_each_of_the_four_changes_that_count_has_its_own_message(copy: Path) -> None:
    messages = set()
    for name in ("golden", "weight", "class order", "knob"):
        changed = Path(shutil.copytree(copy, copy.parent / name))
        TAMPERINGS[name][0](changed)
        with pytest.raises(BundleTampered) as refused:
            open_bundle(changed)
        messages.add(refused.value.what)
    assert len(messages) == 4


@pytest.mark.parametrize(("change", "says"), HALVES.values(), ids=HALVES.keys())
def test_half_a_bundle_or_a_newer_one_cannot_be_read(copy: Path, change: Callable[[Path], object], says: str) -> None:
    change(copy)
    with pytest.raises(BundleUnreadable, match=says) as refused:
        open_bundle(copy)
    assert refused.value.todo


def test_nothing_is_parsed_before_its_digest_holds(copy: Path) -> None:
    (copy / "preprocessing.json").write_text("{ no JSON at all")
    with pytest.raises(BundleTampered, match="A knob of the preprocessing"):
        open_bundle(copy)


def test_a_file_that_changes_after_the_bundle_was_opened_is_refused_when_it_is_read(copy: Path) -> None:
    bundle = open_bundle(copy)
    one_byte("profile.parquet")(copy)
    with pytest.raises(BundleTampered, match="The profile was changed"):
        bundle.profile()
    with pytest.raises(BundleUnreadable, match="no such file"):
        bundle.read_bytes("calibration.json")
    with pytest.raises(BundleUnreadable, match="no such file"):
        bundle.read_bytes("../bundle.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text().filter(lambda key: key != "id"), JSON, min_size=1), st.data())
def test_an_id_follows_from_every_statement_and_from_nothing_else(statements: dict[str, Any], data: Any) -> None:
    stored = json.loads(json.dumps(statements | {"id": "whatever"}, indent=2))
    assert bundle_id(stored) == bundle_id(dict(reversed(list(statements.items()))))
    key = data.draw(st.sampled_from(sorted(statements)))
    other = data.draw(JSON)
    if json.dumps(other, sort_keys=True) != json.dumps(statements[key], sort_keys=True):
        assert bundle_id(statements | {key: other}) != bundle_id(statements)


# -- versions ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_models, tmp_path / "models"))


def history(models: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (models / "tiny" / "history.jsonl").read_text().splitlines()]


def test_two_seals_at_once_are_two_versions_and_one_is_in_use(models: Path) -> None:
    first, second = open_bundle(models / "tiny" / "1"), open_bundle(models / "tiny" / "2")
    assert first.id != second.id
    assert find_bundle(models, "tiny").name in ("1", "2")
    assert find_bundle(models / "tiny") == find_bundle(models, "tiny")
    assert find_bundle(models / "tiny" / "2") == models / "tiny" / "2"
    sealed = [entry for entry in history(models) if entry["event"] == "sealed"]
    assert {(entry["version"], entry["id"]) for entry in sealed} == {(1, first.id), (2, second.id)}
    assert {entry["by"] for entry in sealed} == {"ada", "bob"}
    assert len([entry for entry in history(models) if entry["event"] == "promoted"]) == 1
    assert not list((models / "tiny").glob(".sealing-*"))


def test_a_promotion_says_who_when_and_why(models: Path) -> None:
    for version in (2, 1, 2):
        promote(models, "tiny", version, reason="looks better", by="eve")
        assert find_bundle(models, "tiny").name == str(version)
    last = history(models)[-1]
    assert (last["event"], last["version"], last["by"], last["reason"]) == ("promoted", 2, "eve", "looks better")
    assert last["at"].endswith("+00:00")


def test_a_version_that_is_not_there_or_was_tampered_with_cannot_be_promoted(models: Path) -> None:
    with pytest.raises(WrongUse, match="no version 7"):
        promote(models, "tiny", 7, reason="", by="eve")
    one_byte("model.keras")(models / "tiny" / "2")
    with pytest.raises(BundleTampered):
        promote(models, "tiny", 2, reason="", by="eve")
    assert all(entry["by"] != "eve" for entry in history(models))


def test_a_bundle_that_took_the_place_of_the_one_in_use_is_refused(models: Path) -> None:
    promote(models, "tiny", 1, reason="", by="eve")
    shutil.rmtree(models / "tiny" / "1")
    with pytest.raises(BundleUnreadable, match="not there"):
        find_bundle(models, "tiny")
    shutil.copytree(models / "tiny" / "2", models / "tiny" / "1")
    with pytest.raises(BundleTampered, match="replaced by another bundle"):
        find_bundle(models, "tiny")


def test_what_is_no_bundle_is_told_with_what_could_be_meant(models: Path) -> None:
    with pytest.raises(BundleUnreadable, match=r"bundles tiny"):
        find_bundle(models)
    with pytest.raises(BundleUnreadable, match="no bundle here"):
        find_bundle(models / "nothing")
    (models / "tiny" / "current.json").unlink()
    with pytest.raises(BundleUnreadable, match="the versions 1, 2"):
        find_bundle(models, "tiny")
    (models / "tiny" / "current.json").write_text("{")
    with pytest.raises(BundleUnreadable, match=r"current.json cannot be read"):
        find_bundle(models, "tiny")


def test_a_number_is_taken_once_whoever_races_and_never_again(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()

    def seal(i: int) -> int:
        sealing = folder / f".sealing-{i}"
        sealing.mkdir()
        (sealing / "bundle.json").write_text(f"{i}")
        while True:
            version = next_version(folder)
            if take_name(sealing, folder / f"{version}"):
                return version

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(seal, range(40)))
    assert sorted(versions) == list(range(1, 41))
    assert {(folder / str(v)).joinpath("bundle.json").read_text() for v in versions} == {str(i) for i in range(40)}


def test_the_number_of_a_removed_version_is_not_used_again(models: Path) -> None:
    shutil.rmtree(models / "tiny" / "2")
    with (models / "tiny" / "history.jsonl").open("a") as torn:
        torn.write('{"version": 9')
    assert next_version(models / "tiny") == 3
    promote(models, "tiny", 1, reason="after a torn line", by="eve")
    lines = (models / "tiny" / "history.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["reason"] == "after a torn line"


def test_a_model_that_was_put_into_use_stays_until_another_is_promoted(models: Path) -> None:
    promote(models, "tiny", 2, reason="", by="eve")
    put_into_use(models, "tiny", 1, "an id", reason="", by="a late first seal", if_none=True)
    assert find_bundle(models, "tiny").name == "2"


# -- sealing -----------------------------------------------------------------------------------------------------------


def other_head(contents: SealedContents, path: Path, layer: Callable[[Any], Any]) -> SealedContents:
    """The same contents with another last layer."""
    import keras

    model = keras.saving.load_model(contents.model_path)
    keras.Sequential([keras.Input((*SIZE, 3)), *model.layers[:-1], layer(keras.layers)]).save(path / "other.keras")
    return replace(contents, model_path=path / "other.keras")


def shifted_profile(contents: SealedContents, path: Path) -> SealedContents:
    probabilities = [np.roll(row, 1) for row in contents.profile["probabilities"]]
    return replace(contents, profile=contents.profile.assign(probabilities=probabilities))


UNSEALABLE = {
    "a model that changes when it is reloaded": (shifted_profile, TrainingFailed, "after it was saved and loaded"),
    "a class more than outputs": (
        lambda contents, path: replace(contents, classes=(*CLASSES, "screw")),
        UnsupportedModel,
        "number of outputs",
    ),
    "logits": (
        lambda contents, path: other_head(contents, path, lambda layers: layers.Dense(4)),
        UnsupportedModel,
        "logits",
    ),
    "a layer that is not there": (
        lambda contents, path: replace(contents, embedding_layer="features"),
        UnsupportedModel,
        "no such embedding layer",
    ),
}


@pytest.mark.parametrize(("change", "kind", "says"), UNSEALABLE.values(), ids=UNSEALABLE.keys())
def test_what_a_new_process_cannot_score_as_trained_is_not_sealed(
    tiny_contents: SealedContents, tmp_path: Path, change: Any, kind: type[DarkroomError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        seal_bundle(tmp_path / "models", "tiny", change(tiny_contents, tmp_path))
    assert list((tmp_path / "models" / "tiny").iterdir()) == []


def test_a_recording_process_that_dies_is_told_and_nothing_is_sealed(
    tiny_contents: SealedContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    with pytest.raises(TrainingFailed, match="exit code 1"):
        seal_bundle(tmp_path, "tiny", tiny_contents)
    assert list((tmp_path / "tiny").iterdir()) == []


CONTRADICTIONS = {
    "profile without a column": lambda c: replace(c, profile=c.profile.drop(columns="sharpness")),
    "a class twice": lambda c: replace(c, classes=("bolt", "bolt", "10 mm", "2 mm")),
    "a label beside the classes": lambda c: replace(c, classes=("bolt", "nut", "10 mm", "3 mm")),
    "fewer embeddings than rows": lambda c: replace(c, embeddings=c.embeddings[1:]),
    "embeddings that overflow": lambda c: replace(c, embeddings=np.full_like(c.embeddings, np.inf)),
    "no golden": lambda c: replace(c, goldens=()),
    "a golden twice": lambda c: replace(c, goldens=[*c.goldens, c.goldens[0]]),
    "a file that leaves the bundle": lambda c: replace(c, files={"../card.md": b""}),
    "an absolute file": lambda c: replace(c, files={"/card.md": b""}),
    "a file that is the model": lambda c: replace(c, files={"model.keras": b""}),
}


@pytest.mark.parametrize("change", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_contents_that_contradict_each_other_are_refused_at_once(
    tiny_contents: SealedContents, tmp_path: Path, change: Callable[[SealedContents], SealedContents]
) -> None:
    with pytest.raises(WrongUse, match="cannot be sealed"):
        seal_bundle(tmp_path, "tiny", change(tiny_contents))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "ä", "a" * 65, ".hidden", "a\n"])
def test_a_name_that_could_not_be_part_of_a_path_is_refused(
    tiny_contents: SealedContents, tmp_path: Path, name: str
) -> None:
    with pytest.raises(WrongUse, match="name of a bundle"):
        seal_bundle(tmp_path, name, tiny_contents)


def test_a_folder_that_cannot_be_written_is_a_storage_error(tiny_contents: SealedContents, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="could not be written"):
        seal_bundle(tmp_path / "models", "tiny", tiny_contents)


SEAL = """
import pickle, sys
from pathlib import Path
from tasks.bundle import seal_bundle
seal_bundle(Path(sys.argv[1]), "tiny", pickle.loads(Path(sys.argv[2]).read_bytes()))
"""


def test_a_seal_that_is_killed_leaves_nothing_visible_and_the_next_one_tidies_up(
    tiny_contents: SealedContents, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "tiny"
    (tmp_path / "contents").write_bytes(pickle.dumps(tiny_contents))
    for moment in ("model.keras", "goldens/goldens.parquet"):
        process = in_new_process(SEAL, tmp_path / "models", tmp_path / "contents")
        deadline = time.monotonic() + 60
        while not list(folder.glob(f".sealing-*/{moment}")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == []
        with pytest.raises(BundleUnreadable):
            find_bundle(tmp_path / "models", "tiny")
    assert list(folder.glob(".sealing-*"))
    sealed = seal_bundle(tmp_path / "models", "tiny", tiny_contents)
    assert sealed.manifest.version == 1
    assert sorted(path.name for path in folder.iterdir()) == ["1", "current.json", "history.jsonl"]
