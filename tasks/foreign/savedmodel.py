"""Knows SavedModel folders: what in one would act when it is loaded, and the one function that it serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UnsupportedModel
from tasks.foreign.legacy import cannot_load, has_legacy
from tasks.graphs import SAVERS, FrozenGraph, acting, freeze, is_dangerous, operations
from tasks.machine import import_tensorflow

_DEFAULT = "serving_default"


@dataclass(frozen=True)
class Served:
    """The function that a SavedModel serves, live and frozen."""

    predict: Callable[[NDArray[Any]], NDArray[Any]]
    frozen: FrozenGraph
    shape: tuple[int | None, ...]
    dtype: str


def open_savedmodel(path: Path) -> Served:
    """Load a SavedModel folder with one serving signature: one image in, one row of numbers out.

    Raises: UnsupportedModel where it would touch files or run code, serves something else, or cannot be loaded.
    """
    tf = import_tensorflow()
    _refuse_before_loading(path)
    has_legacy()  # once it is imported, models that were saved with their optimizer can be loaded
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow raises nearly every type; what a person can do is the same
        if "add_slot" in str(error):
            raise UnsupportedModel(
                "This SavedModel holds the optimizer of an older Keras.",
                file=path,
                expected="the package tf_keras, which knows it",
                found="an installation without it",
                todo="pip install 'darkroom[legacy]'",
            ) from error
        raise cannot_load(path, "TensorFlow", str(tf.__version__), error) from error
    name, function = _signature(getattr(loaded, "signatures", {}), path)
    (given,) = function.structured_input_signature[1].items()
    (answer,) = function.structured_outputs
    spec = given[1]
    if spec.shape.rank != 4 or spec.shape[0] is not None:
        raise UnsupportedModel(
            "The SavedModel does not take a batch of images of any length.",
            file=path,
            expected="an input (images, height, width, 3)",
            found=f"the signature {name!r} with an input {spec.dtype.name} {tuple(spec.shape or ())}",
            todo="export it with a first dimension of None",
        )

    def predict(tensors: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(function(**{given[0]: tf.constant(tensors, dtype=spec.dtype)})[answer].numpy())

    predict.model = loaded  # type: ignore[attr-defined]  # its variables live as long as what uses them
    return Served(predict, freeze(function), tuple(spec.shape)[1:], str(spec.dtype.name))


def _refuse_before_loading(path: Path) -> None:
    """Loading runs initialisers: what they could do is looked at first, in the file."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:  # protobuf's own DecodeError, which differs between its implementations
        raise cannot_load(path, "TensorFlow", "", error) from error
    for graph in saved.meta_graphs:
        called = set(graph.object_graph_def.concrete_functions)
        found = {
            operation
            for function, operation in operations(graph.graph_def)
            if is_dangerous(operation)
            # Saving and restoring weights is what a SavedModel's own functions do, and what no other may.
            or (operation in SAVERS and function in called)
        }
        if found:
            raise acting(path, sorted(found))


def _signature(signatures: Any, path: Path) -> tuple[str, Any]:
    """The one that is served; several count as one where they take and give the same."""
    functions = {name: function for name, function in dict(signatures).items() if not name.startswith("__")}
    shapes = {
        (str(list(function.structured_input_signature[1].values())), str(list(function.structured_outputs.values())))
        for function in functions.values()
    }
    if len(shapes) == 1:
        name = _DEFAULT if _DEFAULT in functions else next(iter(functions))
        function = functions[name]
        inputs, outputs = len(function.structured_input_signature[1]), len(function.structured_outputs)
        if inputs == outputs == 1:
            return name, function
        found = f"the signature {name!r} with {inputs} inputs and {outputs} outputs"
    else:
        found = f"the signatures {', '.join(functions)}" if functions else "no signature"
    raise UnsupportedModel(
        "The SavedModel does not serve one function from an image to a row of numbers.",
        file=path,
        expected="one serving signature with one input and one output",
        found=found,
        todo="export the classifier alone: model.export(folder), or tf.saved_model.save with one signature",
    )
