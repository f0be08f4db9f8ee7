"""A bundle whose model is a frozen graph: sealed, opened, replayed and refused as any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from darkroom.errors import BundleTampered, UnsupportedModel, WrongUse
from tasks import graphs
from tasks.bundle import Bundle, SealedContents, open_bundle, replay_goldens, seal_bundle
from tasks.foreign import findings_of_sealed
from tasks.foreign.finishing import finished_graph
from tasks.foreign.outputs import Head
from tasks.inference import GraphEngine, load_engine
from tasks.machine import import_tensorflow
from tests.tiny import CLASSES, SIZE

pytest_plugins = ["tests.plugins.tiny_bundle"]

tf = import_tensorflow()


@pytest.fixture(scope="module")
def graph(tiny_contents: SealedContents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a frozen graph."""
    model = keras.saving.load_model(tiny_contents.model_path)
    frozen = graphs.freeze_keras(model, (*SIZE, 3), "float32", tiny_contents.model_path)
    reading_layer = next(node.name for node in frozen.definition.node if node.name.endswith("embedding_1/BiasAdd"))
    definition = finished_graph(frozen, f"{reading_layer}:0", Head("softmax", len(CLASSES)), (*SIZE, 3), "float32")
    return graphs.write_graph(definition, tmp_path_factory.mktemp("graph") / "adopted.pb")


@pytest.fixture(scope="module")
def sealed(tiny_contents: SealedContents, graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    contents = replace(tiny_contents, model_path=graph, embedding_layer=graphs.EMBEDDING)
    return seal_bundle(tmp_path_factory.mktemp("models"), "frozen", contents)


def test_a_bundle_of_a_frozen_graph_is_sealed_opened_and_replayed(sealed: Bundle) -> None:
    opened = open_bundle(sealed.path)
    assert opened.model_path == sealed.path / "model.pb"
    assert not (sealed.path / "model.keras").exists()
    assert opened.manifest.engine == "graph"
    engine = load_engine(opened.model_path, opened.manifest.embedding_layer)
    assert isinstance(engine, GraphEngine)
    replay = replay_goldens(opened, engine)
    assert replay.n == 32
    assert replay.max_probability_difference <= 1e-5


def test_the_graph_answers_as_the_model_it_was_made_of(
    tiny_contents: SealedContents, graph: Path, tiny_engine: object
) -> None:
    rng = np.random.default_rng(3)
    tensors = rng.random((40, *SIZE, 3)).astype(np.float32)
    theirs = load_engine(tiny_contents.model_path, "embedding").run(tensors)
    ours = load_engine(graph, graphs.EMBEDDING, input_shape=(*SIZE, 3)).run(tensors)
    assert np.abs(theirs.probabilities - ours.probabilities).max() <= 1e-5
    assert np.abs(theirs.embedding - ours.embedding).max() <= 1e-3


def test_the_findings_of_a_sealed_model_are_told_of_both_kinds(
    tiny_contents: SealedContents, graph: Path, tmp_path: Path
) -> None:
    of_keras = findings_of_sealed(tiny_contents.model_path, "embedding", (*SIZE, 3))
    assert [finding.kind for finding in of_keras] == ["last activation", "dropout"]
    of_graph = findings_of_sealed(graph, graphs.EMBEDDING, (*SIZE, 3))
    assert [finding.kind for finding in of_graph] == ["last activation"]


def test_a_graph_that_was_changed_is_named_as_the_model(sealed: Bundle, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(sealed.path, tmp_path / "copy"))
    data = bytearray((copy / "model.pb").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.pb").write_bytes(data)
    with pytest.raises(BundleTampered, match="not the weights that were measured"):
        open_bundle(copy)


def test_an_engine_of_a_graph_refuses_what_an_engine_of_keras_refuses(graph: Path) -> None:
    with pytest.raises(UnsupportedModel, match="do not agree on the size"):
        load_engine(graph, graphs.EMBEDDING, input_shape=(SIZE[0], SIZE[1] + 1, 3))
    with pytest.raises(UnsupportedModel, match="no such embedding layer"):
        load_engine(graph, "features")
    with pytest.raises(WrongUse, match="float32"):
        load_engine(graph, graphs.EMBEDDING).run(np.zeros((1, *SIZE, 3)))


def _reads_a_file() -> bytes:
    with tf.Graph().as_default() as made:
        image = tf.compat.v1.placeholder(tf.float32, (None, *SIZE, 3), name=graphs.IMAGE)
        size = tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)
        tf.identity(tf.reduce_mean(image, (1, 2)) * size, name=graphs.PROBABILITIES)
        return bytes(made.as_graph_def().SerializeToString())


NO_GRAPHS = {
    "nothing": (None, "no such model"),
    "bytes": (b"\xff\xff hello", "not a frozen graph"),
    "another graph": (b"", "not a frozen graph"),
    "a graph that reads a file": (_reads_a_file(), "ReadFile"),
}


@pytest.mark.parametrize(("content", "says"), NO_GRAPHS.values(), ids=NO_GRAPHS.keys())
def test_a_file_that_is_no_graph_of_ours_is_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "model.pb").write_bytes(content)
    with pytest.raises(UnsupportedModel, match=says):
        load_engine(tmp_path / "model.pb", graphs.EMBEDDING)
