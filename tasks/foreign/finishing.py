"""Knows what is put behind a foreign classifier: probabilities where it ends otherwise, a name for its embedding."""

from __future__ import annotations

from typing import Any

from tasks.foreign.outputs import Head
from tasks.foreign.rebuilding import CannotRebuild
from tasks.graphs import EMBEDDING, IMAGE, PROBABILITIES, FrozenGraph
from tasks.machine import import_tensorflow


def finished_keras(model: Any, head: Head) -> tuple[Any, str]:
    """A functional model of Keras 3 that ends with probabilities, and the name of its embedding layer.

    Raises: CannotRebuild where no layer before the last Dense gives one row of numbers an image.
    """
    import keras

    embedding = _embedding_layer(model)
    taken = {layer.name for layer in model.layers}
    name = next(name for name in (PROBABILITIES, "darkroom_probabilities", "darkroom_outputs") if name not in taken)
    output = model.outputs[0]
    if head.outputs == "softmax":
        return model, embedding
    if head.units > 1:
        return keras.Model(model.inputs[0], keras.layers.Softmax(dtype="float32", name=name)(output)), embedding
    if head.outputs == "logits":
        output = keras.layers.Activation("sigmoid", dtype="float32", name=f"{name}_second")(output)
    first = keras.layers.Rescaling(-1.0, offset=1.0, dtype="float32", name=f"{name}_first")(output)
    both = keras.layers.Concatenate(dtype="float32", name=name)([first, output])
    return keras.Model(model.inputs[0], both), embedding


def _embedding_layer(model: Any) -> str:
    """The layer whose output, one row an image, goes into the last Dense."""
    import keras

    waiting, seen = [model.outputs[0]], set()
    while waiting:
        tensor = waiting.pop(0)
        made = tensor._keras_history
        node = made.operation._inbound_nodes[made.node_index]
        if isinstance(made.operation, keras.layers.Dense):
            given = node.input_tensors[0]
            layer = given._keras_history.operation
            flat = len(given.shape) == 2 and layer in model.layers and len(layer._inbound_nodes) == 1
            if not flat or isinstance(layer, keras.layers.InputLayer):
                raise CannotRebuild(f"no layer gives one row of numbers to {made.operation.name!r}")
            return str(layer.name)
        if id(node) not in seen:
            seen.add(id(node))
            waiting += node.input_tensors
    raise CannotRebuild("the model has no Dense layer")


def finished_graph(frozen: FrozenGraph, embedding: str, head: Head, shape: tuple[int | None, ...], dtype: str) -> Any:
    """Our own GraphDef around a frozen one: `image` in float32, `probabilities`, `embedding`."""
    tf = import_tensorflow()
    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.float32, (None, *shape), name=IMAGE)
        # A model that takes whole numbers gets the nearest ones; the preparation makes no others for it.
        given = tf.cast(image if dtype.startswith("float") else tf.round(image), dtype)
        raw, inner = tf.graph_util.import_graph_def(
            frozen.definition, {f"{frozen.input}:0": given}, [frozen.output, embedding], name="model"
        )
        raw = tf.cast(raw, tf.float32)
        if head.outputs == "logits":
            raw = tf.nn.softmax(raw) if head.units > 1 else tf.sigmoid(raw)
        if head.units == 1:
            raw = tf.concat([1.0 - raw, raw], axis=1)
        tf.identity(raw, name=PROBABILITIES)
        row = tf.cast(inner, tf.float32)
        if row.shape.rank != 2:
            row = tf.reshape(row, (tf.shape(row)[0], int(row.shape[-1])))
        tf.identity(row, name=EMBEDDING)
        return graph.as_graph_def()
