"""Knows what a frozen graph says of the model in it: how it scales, how it ends, and where its embedding is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UnsupportedModel
from tasks.graphs import FrozenGraph
from tasks.machine import import_tensorflow

_SAME_NUMBERS: Final = frozenset({"Identity", "StopGradient", "Cast", "EnsureShape", "PreventGradient", "Snapshot"})
_SHAPES: Final = _SAME_NUMBERS | {"Reshape", "Squeeze", "ExpandDims", "IdentityN"}
_ARITHMETIC: Final = frozenset({"Mul", "AddV2", "Add", "Sub", "RealDiv", "BiasAdd"})


@dataclass(frozen=True)
class Scaling:
    """What a model does to its input before anything else: value · scale + offset, one number or one a channel."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]

    def __str__(self) -> str:
        return f"value × {_numbers(self.scale)} + {_numbers(self.offset)}"


class GraphReading:
    """A frozen graph, imported to be read."""

    def __init__(self, frozen: FrozenGraph, path: Path) -> None:
        tf = import_tensorflow()
        self._path = path
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.graph_util.import_graph_def(frozen.definition, name="")
        self._input = self._graph.get_tensor_by_name(f"{frozen.input}:0")
        self._output = self._graph.get_tensor_by_name(frozen.output)

    @property
    def names(self) -> frozenset[str]:
        """Names of layers: every part of the path of every operation."""
        return frozenset(part for operation in self._graph.get_operations() for part in operation.name.split("/"))

    @property
    def types(self) -> frozenset[str]:
        """Number types in use, such as float16."""
        tensors = (tensor for operation in self._graph.get_operations() for tensor in operation.outputs)
        return frozenset(tensor.dtype.base_dtype.name for tensor in tensors)

    @property
    def last_operation(self) -> str:
        """The operation that makes the output, past what only changes its shape."""
        operation = self._output.op
        while operation.type in _SHAPES and operation.inputs:
            operation = operation.inputs[0].op
        return str(operation.type)

    def embedding(self) -> str:
        """The tensor that goes into the last matrix product; without one, what comes out of the last pooling.

        Raises: UnsupportedModel where there is neither.
        """
        pooled = None
        for operation in self._backwards():
            if operation.type == "MatMul":
                return str(operation.inputs[0].name)
            if pooled is None and operation.type in ("Mean", "Max") and operation.inputs[0].shape.rank == 4:
                pooled = str(operation.outputs[0].name)
        if pooled is None:
            raise UnsupportedModel(
                "The model has no layer that gives one row of numbers an image before its answer.",
                file=self._path,
                expected="a Dense layer at the end, or a global pooling",
                found=f"a graph that ends with {self.last_operation}",
                todo="detection and segmentation models cannot be adopted",
            )
        return pooled

    def scaling(self) -> Scaling | None:
        """Arithmetic with constants that the input goes through first; None where there is none."""
        scale, offset = np.ones(1), np.zeros(1)
        tensor = self._input
        found = False
        while True:
            users = [user for user in tensor.consumers() if user.type not in ("Shape", "ShapeN")]
            if len(users) != 1 or users[0].type not in _SAME_NUMBERS | _ARITHMETIC:
                break
            step = users[0]
            if step.type in _ARITHMETIC:
                first = step.inputs[0] is tensor
                constant = self._constant(step.inputs[1 if first else 0])
                if constant is None:
                    break
                scale, offset = _applied(step.type, first, scale, offset, constant)
                found = True
            tensor = step.outputs[0]
        if not found:
            return None
        scale, offset = np.broadcast_arrays(scale, offset)
        return Scaling(_tuple(scale), _tuple(offset))

    def _backwards(self) -> Iterator[Any]:
        """Operations from the output back, nearest first."""
        waiting, seen = deque([self._output.op]), {self._output.op.name}
        while waiting:
            operation = waiting.popleft()
            yield operation
            for tensor in operation.inputs:
                if tensor.op.name not in seen:
                    seen.add(tensor.op.name)
                    waiting.append(tensor.op)

    def _constant(self, tensor: Any) -> NDArray[np.float64] | None:
        """One number or one a channel, if it does not depend on the image."""
        seen: set[str] = set()
        waiting = [tensor.op]
        while waiting:
            operation = waiting.pop()
            if operation.type == "Placeholder" or len(seen) > 50:
                return None
            seen.add(operation.name)
            waiting += [entry.op for entry in operation.inputs if entry.op.name not in seen]
        tf = import_tensorflow()
        with tf.compat.v1.Session(graph=self._graph) as session:
            value = np.asarray(session.run(tensor), dtype=np.float64).ravel()
        return value if value.size in (1, 3) else None


def _applied(
    kind: str, image_first: bool, scale: NDArray[Any], offset: NDArray[Any], constant: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    if kind == "Mul":
        return scale * constant, offset * constant
    if kind == "RealDiv" and image_first:
        return scale / constant, offset / constant
    if kind in ("Add", "AddV2", "BiasAdd"):
        return scale, offset + constant
    if kind == "Sub":
        return (scale, offset - constant) if image_first else (-scale, constant - offset)
    return scale * np.nan, offset * np.nan  # a constant divided by the image: nothing that a person meant


def _tuple(values: NDArray[Any]) -> tuple[float, ...]:
    whole = tuple(float(value) for value in values)
    return whole[:1] if len(set(whole)) == 1 else whole


def _numbers(values: tuple[float, ...]) -> str:
    text = ", ".join(f"{value:.5g}" for value in values)
    return text if len(values) == 1 else f"({text})"
