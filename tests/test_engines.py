"""A second engine: it is used where it is proved to answer as Keras does, and nowhere else."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import darkroom
from darkroom import demo_world
from darkroom.errors import Failed, UnsupportedModel, WrongUse
from darkroom.settings import IntakeOptions, NightOptions, RunOptions
from flows import engines
from flows.engines import engine_for, prove_parity, reference_of
from flows.looking import instruments_of, prove, proved
from tasks import openvino_engine as openvino
from tasks.bundle import Bundle, open_bundle
from tasks.goldens.replay import OTHER_ENGINE_TOLERANCE
from tasks.inference import Outputs, load_engine
from tasks.machine import machine_type
from tasks.parity import Compared, kept
from tasks.preprocessing import prepare
from tests.sockets import Sockets
from tests.tiny import drawn, encoded, tiny_model, tiny_preprocessing

# Prefect's imports are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def mine(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shared bundle, in models of its own: proofs lie beside the bundles."""
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(bundle.path.parent, models / "parts")
    return open_bundle(models / "parts" / bundle.path.name)


@pytest.fixture
def unproved(mine: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(mine.path.parent, tmp_path / "models" / "parts")
    return open_bundle(tmp_path / "models" / "parts" / mine.path.name)


class Off:
    """An engine that answers a little otherwise."""

    name = openvino.NAME

    def __init__(self, engine: Any, by: float, embedding_by: float) -> None:
        self.engine, self.by, self.embedding_by = engine, by, embedding_by
        self.input_shape = engine.input_shape

    def run(self, tensors: Any) -> Outputs:
        said = self.engine.run(tensors)
        other = said.probabilities.copy()
        other[:, 0] += self.by
        return Outputs(other, said.embedding * np.float32(1 + self.embedding_by))


@pytest.fixture(scope="module")
def tensors() -> Any:
    return np.stack([prepare(encoded(drawn(i)), tiny_preprocessing()).tensor for i in range(70)])


def test_openvino_gives_the_probabilities_and_the_embedding_of_keras_alone_and_in_any_batch(
    tmp_path: Path, tensors: Any
) -> None:
    reference = load_engine(tiny_model(tmp_path / "tiny.keras"), "embedding")
    engine = openvino.on_openvino(reference)
    wanted, together = reference.run(tensors), engine.run(tensors)
    assert np.abs(together.probabilities - wanted.probabilities).max() <= OTHER_ENGINE_TOLERANCE
    assert np.allclose(together.embedding, wanted.embedding, atol=1e-2)
    for n in (1, 7, 33):
        alone = engine.run(tensors[3 : 3 + n])
        assert np.abs(alone.probabilities - together.probabilities[3 : 3 + n]).max() <= 1e-5


def test_it_refuses_the_tensors_that_keras_refuses(tmp_path: Path, tensors: Any) -> None:
    engine = openvino.on_openvino(load_engine(tiny_model(tmp_path / "tiny.keras"), "embedding"))
    with pytest.raises(WrongUse, match="trained on images of"):
        engine.run(tensors[:, :20])


def test_a_model_that_it_cannot_compute_is_an_error_that_names_the_engine_to_use(tmp_path: Path) -> None:
    reference = load_engine(tiny_model(tmp_path / "tiny.keras"), "embedding")

    class Unknown:
        input_shape = reference.input_shape

        def graph(self) -> Any:
            return object()

    with pytest.raises(UnsupportedModel, match="OpenVINO cannot compute this model") as caught:
        openvino.on_openvino(Unknown())  # type: ignore[arg-type]
    assert "keras" in (caught.value.todo or "")


def test_parity_is_proved_on_goldens_on_worse_ones_and_on_held_out_photos_and_kept_for_this_machine(
    mine: Bundle, world: Path
) -> None:
    assert engine_for(mine, "auto").name == "keras", "not proved yet"
    parity = prove_parity(mine, world)
    assert parity.held
    held_out = int((mine.profile()["split"] == "validation").sum())
    assert (parity.goldens.images, parity.validation.images) == (len(mine.goldens()), held_out)
    assert parity.worse.images > 50 * parity.goldens.images
    assert kept(mine, openvino.NAME, openvino.openvino_version()) == parity
    assert engine_for(mine, "auto").name == engine_for(mine, "openvino").name == openvino.NAME
    assert engine_for(mine, "keras").name == "keras"


def test_a_proof_counts_for_its_own_bundle_libraries_and_machine_only(
    mine: Bundle, unproved: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kept(mine, openvino.NAME, openvino.openvino_version()) is None:
        prove_parity(mine, None)
    assert kept(mine, openvino.NAME, "1.0") is None
    assert kept(unproved, openvino.NAME, openvino.openvino_version()) is None
    monkeypatch.setattr("tasks.parity.machine_type", lambda: "Linux-m68k")
    assert kept(mine, openvino.NAME, openvino.openvino_version()) is None


@pytest.mark.parametrize(
    ("by", "embedding_by", "held"),
    [(9e-5, 1e-4, True), (2e-4, 0, False), (0, 1e-2, False)],
    ids=["within", "probabilities too far off", "embeddings too far off"],
)
def test_an_engine_that_answers_otherwise_is_told_and_not_used(
    unproved: Bundle, monkeypatch: pytest.MonkeyPatch, by: float, embedding_by: float, held: bool
) -> None:
    monkeypatch.setattr(engines.openvino, "on_openvino", lambda reference: Off(reference, by, embedding_by))
    if held:
        assert prove_parity(unproved, None).held
        return
    with pytest.raises(Failed, match="answers otherwise than Keras") as caught:
        prove_parity(unproved, None)
    assert f"{by or embedding_by:g}"[:3] in str(caught.value)
    assert engine_for(unproved, "auto").name == "keras"
    with pytest.raises(WrongUse, match="not proved"):
        engine_for(unproved, "openvino")


def test_openvino_without_a_proof_or_without_the_library_is_an_error_with_the_way_out(
    unproved: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WrongUse, match="not proved") as caught:
        prove(unproved.path, "openvino")
    assert "darkroom verify" in (caught.value.todo or "")
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    with pytest.raises(WrongUse, match="not installed"):
        prove(unproved.path, "openvino")
    assert engine_for(unproved, "auto").name == "keras"


def test_photos_that_are_not_those_of_the_training_prove_nothing(unproved: Bundle, tmp_path: Path) -> None:
    demo_world.draw_training(tmp_path / "others", images=40, seed=99)
    with pytest.raises(WrongUse, match="None of the photos that were held out"):
        prove_parity(unproved, tmp_path / "others")
    assert kept(unproved, openvino.NAME, openvino.openvino_version()) is None


def test_it_answers_the_same_when_the_keras_model_is_gone_and_its_memory_belongs_to_others(mine: Bundle) -> None:
    tensors = np.random.default_rng(0).uniform(-1, 1, (24, *mine.preprocessing.input_shape)).astype(np.float32)
    keras = reference_of(mine)
    of_a_model_that_is_gone = openvino.on_openvino(reference_of(mine))
    gc.collect()
    others = [tf.fill((size,), 1e3) for size in range(8, 4000, 14) for _ in range(3)]
    gaps = np.abs(keras.run(tensors).probabilities - of_a_model_that_is_gone.run(tensors).probabilities)
    assert len(others)
    assert gaps.max() <= OTHER_ENGINE_TOLERANCE


def test_a_night_on_either_engine_has_the_same_rows(mine: Bundle, tmp_path: Path) -> None:
    from flows.score import score

    if kept(mine, openvino.NAME, openvino.openvino_version()) is None:
        prove_parity(mine, None)
    demo_world.draw_night(tmp_path / "inbox", "good", images=40, seed=8)
    rows = {}
    for engine in ("keras", "openvino"):
        score(
            bundle=mine.path,
            inbox=str(tmp_path / "inbox"),
            results=tmp_path / engine,
            night=NightOptions(night=date(2026, 3, 2)),
            intake=IntakeOptions(settle_seconds=0),
            run=RunOptions.model_validate({"engine": engine, "thumbnails": False}),
        )
        rows[engine] = darkroom.read(tmp_path / engine).sort_values("content_id", ignore_index=True)
    one, other = rows.values()
    assert list(one["content_id"]) == list(other["content_id"])
    gaps = np.abs(np.stack(one["probabilities"]) - np.stack(other["probabilities"]))
    assert gaps.max() <= OTHER_ENGINE_TOLERANCE
    clear = one["margin"] > 2 * OTHER_ENGINE_TOLERANCE
    assert (one["predicted_class"] == other["predicted_class"])[clear].all()
    assert proved(mine.path).engine.name == "keras", "what a single prediction uses, whatever the night had"
    assert instruments_of(prove(mine.path, "openvino").proof).engine.name == openvino.NAME


@pytest.mark.long
def test_the_command_proves_an_engine_and_tells_nobody_outside_of_this_machine(
    unproved: Bundle, world: Path, tmp_path: Path
) -> None:
    sockets = Sockets(tmp_path / "sockets")
    options = ["--engine", "openvino", "--data", str(world)]
    done = subprocess.run(
        [sys.executable, "-m", "darkroom.cli", "verify", str(unproved.path), "--json", *options],
        env={**_without_ci(), **sockets.environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["engine"] == openvino.NAME
    assert told["parity"]["validation"]["images"] > 0
    assert sockets.leaving() == set()


def _without_ci() -> dict[str, str]:
    """The environment without what OpenVINO's converter would take for a reason to tell nobody."""
    return {name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS", "DO_NOT_TRACK")}


def test_differences_add_up_over_batches() -> None:
    same = np.array([[[0.6, 0.4], [0.6, 0.4]]], np.float32)
    other = np.array([[[0.6, 0.4], [0.4, 0.6]], [[0.9, 0.1], [0.8, 0.2]]], np.float32)
    found = Compared().with_pairs(same, 2).with_pairs(other, 2).with_pairs(other[:0], 2)
    assert (found.images, found.top1_changed) == (3, 1)
    assert found.max_difference == pytest.approx(0.2)
    assert Compared().with_pairs(np.array([[[0.5, 0.5, 2], [0.5, 0.5, 1]]], np.float32), 2).embedding_difference == 0.5
    assert np.isnan(Compared().with_pairs(np.array([[[0.5, 0.5], [np.nan, 0.5]]], np.float32), 2).max_difference)


@pytest.mark.parametrize("broken", ["a file that is no proof", "a bundle that stands alone", "OpenVINO does not load"])
def test_whatever_is_wrong_with_openvino_the_night_has_keras(
    unproved: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    if broken == "a bundle that stands alone":
        unproved = open_bundle(unproved.path.rename(tmp_path / "model"))
        with pytest.raises(WrongUse, match="not among any"):
            prove_parity(unproved, None)
    elif broken == "OpenVINO does not load":
        monkeypatch.setattr(openvino, "_openvino", lambda: exec("raise ImportError('libtbb.so')"))
    else:
        (tmp_path / "models/.proofs" / unproved.id / f"{machine_type()}.json").mkdir(parents=True)
    assert engine_for(unproved, "auto").name == "keras"


def test_photos_without_an_engine_to_compare_are_refused(mine: Bundle, world: Path) -> None:
    with pytest.raises(WrongUse, match="comparison of two engines"):
        engines.check_comparison("auto", world)
