"""Knows how a model of tf_keras, or one that is nested, becomes one flat functional model of Keras 3.

The graph of layers is walked as its own library walks it; every layer is made anew from what it says of itself, and
gets the weights in their order. Whether the result is the same model is for the caller to measure.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import numpy as np

# What only matters while a model is trained, or before its weights are set.
_TRAINING: Final = ("_initializer", "_regularizer", "_constraint")
_BASE: Final = frozenset({"name", "dtype"})
# Arithmetic between layers, such as preprocess_input's x / 127.5 - 1: TensorFlow's name, and that of keras.ops.
_ARITHMETIC: Final = {
    "math.truediv": "true_divide",
    "math.divide": "true_divide",
    "math.multiply": "multiply",
    "math.subtract": "subtract",
    "math.add": "add",
    "__operators__.add": "add",
}
_RENAMED: Final = {"LeakyReLU": {"alpha": "negative_slope"}}


class CannotRebuild(Exception):
    """A layer has no counterpart in Keras 3; the message says which."""


def flat_model(model: Any) -> Any:
    """A functional or sequential model, of Keras 3 or tf_keras, as a flat functional model of Keras 3.

    Raises: CannotRebuild, or whatever Keras raises for a configuration that it does not take.
    """
    import keras

    made = _Made()
    shape = tuple(model.inputs[0].shape)[1:]
    image = keras.Input(shape, dtype=str(getattr(model.inputs[0].dtype, "name", model.inputs[0].dtype)), name="image")
    rebuilt = keras.Model(image, made.call(model, image))
    for layer, original in made.pairs:
        _set_weights(layer, original)
    return rebuilt


class _Made:
    """The layers made so far: one that is shared is made once, and names are unique."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Any, Any]] = []
        self._by_id: dict[int, Any] = {}
        self._names = {"image"}

    def call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """The output of a layer's counterpart; of a model, the output of the last of its layers."""
        import keras

        inner = getattr(layer, "_functional", None) or layer
        if isinstance(inner, keras.Model):
            if not hasattr(inner, "_run_through_graph"):
                raise CannotRebuild(f"{type(layer).__name__} {layer.name!r} is a model of its own class")
            return inner._run_through_graph(args[0], operation_fn=self._caller)
        if hasattr(inner, "_nodes_by_depth"):
            return _walk_legacy(inner, args[0], self.call)
        if hasattr(layer, "_layer_checkpoint_dependencies") and hasattr(layer, "layers"):
            raise CannotRebuild(f"{type(layer).__name__} {layer.name!r} is a model of its own class")
        if kwargs.get("training") is not True:  # only what holds in inference mode is kept
            kwargs.pop("training", None)
        if not hasattr(layer, "weights"):  # an operation of Keras 3, such as x / 127.5, keeps no state
            return layer(*args, **kwargs)
        symbol = getattr(layer, "symbol", None)  # of tf_keras' TFOpLambda
        if symbol in _ARITHMETIC:
            kwargs.pop("name", None)
            return getattr(keras.ops, _ARITHMETIC[symbol])(*args, *kwargs.values())
        return self._counterpart(layer)(*args, **kwargs)

    def _caller(self, operation: Any) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.call(operation, *args, **kwargs)

    def _counterpart(self, layer: Any) -> Any:
        if id(layer) not in self._by_id:
            name = layer.name.replace("/", "_")
            while name in self._names:
                name += "_"
            self._names.add(name)
            self._by_id[id(layer)] = _remade(layer, name)
            self.pairs.append((self._by_id[id(layer)], layer))
        return self._by_id[id(layer)]


def _walk_legacy(model: Any, image: Any, call: Callable[..., Any]) -> Any:
    """As tf_keras' Functional runs its graph."""
    import tensorflow as tf

    tensors = {str(id(model.inputs[0])): [image] * model._tensor_usage_count[str(id(model.inputs[0]))]}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input or any(key not in tensors for key in node.flat_input_ids):
                continue
            args, kwargs = node.map_arguments(tensors)
            outputs = tf.nest.flatten(call(node.layer, *args, **kwargs))
            for key, output in zip(node.flat_output_ids, outputs, strict=True):
                tensors[key] = [output] * model._tensor_usage_count[key]
    return tensors[str(id(model.outputs[0]))].pop()


def _remade(layer: Any, name: str) -> Any:
    import keras

    kind = type(layer).__name__
    cls = type(layer) if isinstance(layer, keras.layers.Layer) else getattr(keras.layers, kind, None)
    if cls is None:
        raise CannotRebuild(f"Keras 3 has no layer {kind} ({layer.name!r})")
    config = dict(layer.get_config())
    for old, new in _RENAMED.get(kind, {}).items():
        if old in config:
            config[new] = float(config.pop(old))
    known = set(inspect.signature(cls.__init__).parameters) | _BASE
    config = {key: value for key, value in config.items() if key in known and not key.endswith(_TRAINING)}
    if isinstance(config.get("axis"), list | tuple) and len(config["axis"]) == 1 and kind == "BatchNormalization":
        config["axis"] = config["axis"][0]
    config["dtype"] = _dtype(layer)
    config["name"] = name
    return cls.from_config(config)


def _dtype(layer: Any) -> str:
    policy = getattr(layer, "dtype_policy", None)
    return str(getattr(policy, "name", None) or layer.dtype or "float32")


def _set_weights(layer: Any, original: Any) -> None:
    values = [np.asarray(value) for value in original.get_weights()]
    wanted = [tuple(weight.shape) for weight in layer.weights]
    # Beside what they learned, older layers count as weights the state of their random numbers, and Normalization how
    # many images it saw: both are last.
    values = values[: len(wanted)]
    if [value.shape for value in values] != wanted:
        found = [value.shape for value in values]
        raise CannotRebuild(f"{layer.name!r} has weights {found}, and its counterpart in Keras 3 {wanted}")
    layer.set_weights(values)
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()
