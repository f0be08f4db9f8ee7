"""Variants of the model itself: a copy of it that computes otherwise, on the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasks.inference import BATCH, Engine, KerasEngine
from tasks.machine import import_tensorflow
from tasks.variants.variant import Variant

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_MIXED: Final = ("mixed_float16", "mixed_bfloat16")


class NotShown(Exception):  # an answer, not a failure: the reason goes into a list of what cannot be shown
    """A variant that an engine or a model cannot show. `reason`: a clause that says why."""

    def __init__(self, variant: str, reason: str) -> None:
        super().__init__(f"{variant} cannot be shown: {reason}")
        self.variant = variant
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return (NotShown, (self.variant, self.reason))


def why_not_shown(engine: Engine, variant: Variant) -> str | None:
    """Why this engine cannot show a variant of the model, or None where it can."""
    if variant.stage != "model":
        return None
    model = getattr(engine, "model", None)
    if not isinstance(engine, KerasEngine) or model is None:
        return f"the engine {engine.name} does not hold a Keras model whose layers could be changed"
    layers = list(_layers(model))
    if variant.knob == "batch_norm" and not any(_is_batch_norm(layer) for layer in layers):
        return "the model has no BatchNormalization"
    if variant.knob == "training" and not any(_differs_in_training(layer) for layer in layers):
        return "no layer of the model does otherwise in training"
    return None


def copied(engine: Engine, variant: Variant, seed: int = 0) -> Forward:
    """The model with one mistake in it: tensors (n, h, w, 3) → probabilities (n, k) float32, the same at every call.

    batch_norm=batch: statistics of each batch of 32 in the order given, the last one shorter (keras#4290, #12400).
    training=active: dropout and augmentation with `seed`; frozen BatchNormalization stays as it is, as in Keras.
    precision: weights rounded and computed in float32, or a mixed policy with the last layer in float32. int8: rounded
    symmetrically, with a scale for each output channel. NotShown: the engine or the model cannot show it.
    """
    reason = why_not_shown(engine, variant)
    if reason is not None:
        raise NotShown(variant.name, reason)
    assert isinstance(engine, KerasEngine)
    tf = import_tensorflow()
    training = variant.knob == "training"

    @tf.function(input_signature=[tf.TensorSpec((None, *engine.input_shape), tf.float32)])  # type: ignore[untyped-decorator]
    def compute(tensors: Any) -> Any:
        return copy(tensors, training=training)[0]

    try:
        copy = _copy(engine.model, variant)
        computed = compute.get_concrete_function()  # traced here, once: a layer may not compute in half precision
    except (TypeError, ValueError, NotImplementedError) as error:
        raise NotShown(
            variant.name, f"Keras cannot copy the model ({(str(error).splitlines() or [''])[0][:120]})"
        ) from error

    def forward(tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        _seed(copy, seed)
        batches = (tensors[start : start + BATCH] for start in range(0, len(tensors), BATCH))
        parts = [np.asarray(computed(tf.constant(np.ascontiguousarray(batch))).numpy()) for batch in batches]
        return np.concatenate(parts).astype(np.float32)

    return forward


def _copy(model: Any, variant: Variant) -> Any:
    """The same layers anew, with what the variant changes in them; the model itself stays as it is."""
    import keras

    last = model.layers[-1].name if model.outputs[0] is model.layers[-1].output else None
    changes_policy = variant.value in _MIXED
    on_batch = variant.knob == "batch_norm"

    def again(layer: Any) -> Any:
        config = layer.get_config()
        if changes_policy and layer.name != last and not isinstance(layer, keras.layers.Softmax):
            config["dtype"] = variant.value
        kind = _batch_statistics() if on_batch and _is_batch_norm(layer) else type(layer)
        return kind.from_config(config)

    copy = keras.models.clone_model(model, clone_function=again, recursive=True)
    for old, new in zip(_layers(model), _layers(copy), strict=True):
        new.set_weights([_rounded(weight, old, variant) for weight in old.get_weights()])
    return copy


def _rounded(weight: NDArray[Any], layer: Any, variant: Variant) -> NDArray[Any]:
    if variant.knob != "precision" or variant.value in _MIXED or weight.dtype != np.float32:
        return weight
    if variant.value == "int8":
        return _in_eight_bits(weight, channels=-2 if hasattr(layer, "depth_multiplier") else -1)
    if variant.value == "float16":
        return weight.astype(np.float16).astype(np.float32)
    import ml_dtypes

    return weight.astype(ml_dtypes.bfloat16).astype(np.float32)


def _in_eight_bits(weight: NDArray[Any], channels: int) -> NDArray[Any]:
    if weight.ndim < 2:  # biases and what BatchNormalization knows stay as they are in converted copies
        return weight
    others = tuple(axis for axis in range(weight.ndim) if axis != weight.ndim + channels)
    scale = np.abs(weight).max(axis=others, keepdims=True) / np.float32(127)
    scale[scale == 0] = 1
    return np.asarray(np.rint(weight / scale) * scale, np.float32)


def _seed(model: Any, seed: int) -> None:
    for place, layer in enumerate(_layers(model)):
        generator = getattr(layer, "seed_generator", None) or getattr(layer, "generator", None)
        if generator is not None and hasattr(generator, "state"):
            generator.state.assign(np.array([seed, place], np.uint32))


def _layers(model: Any) -> Iterator[Any]:
    """Every layer, those inside of models too, in order; models themselves left out."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield layer


def _is_batch_norm(layer: Any) -> bool:
    import keras

    return isinstance(layer, keras.layers.BatchNormalization)


def _differs_in_training(layer: Any) -> bool:
    import keras

    if _is_batch_norm(layer):
        return bool(layer.trainable)
    names = {parent.__name__ for parent in type(layer).__mro__}
    dropout = bool(getattr(layer, "rate", 0)) and "Dropout" in type(layer).__name__
    return dropout or isinstance(layer, keras.layers.GaussianNoise) or "BaseImagePreprocessingLayer" in names


def _batch_statistics() -> Any:
    import keras

    class BatchStatistics(keras.layers.BatchNormalization):  # type: ignore[misc]
        """BatchNormalization that takes the batch's own mean and variance, frozen or not."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(**{**settings, "trainable": True})

        def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            return super().call(inputs, training=True, mask=mask)

    return BatchStatistics
