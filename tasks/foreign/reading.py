"""Knows what can be said of a model without a labelled image: static findings, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.foreign.graph_reading import Scaling
from tasks.foreign.outputs import Head

Kind = Literal[
    "scaling inside",
    "resizing inside",
    "dropout",
    "augmentation",
    "answers by chance",
    "batch statistics",
    "any size",
    "number type",
    "last activation",
    "inputs and outputs",
]
# Sums in another order differ by 1e-6; a BatchNormalization on the statistics of its batch by tenths.
_SAME: Final = 1e-4


@dataclass(frozen=True)
class Finding:
    """Something about a model that explains, or rules out, wrong answers. `layer`: empty for the whole model."""

    kind: Kind
    sentence: str
    layer: str = ""


def all_layers(model: Any) -> Iterator[Any]:
    """Every layer of a Keras or tf_keras model, those of nested models too, and the nested models themselves."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from all_layers(layer)


def findings_of_model(model: Any) -> tuple[Finding, ...]:
    """Findings in the layers of a model of Keras 3 or tf_keras."""
    found: list[Finding] = []
    layers = list(all_layers(model))
    for layer in layers:
        kind = type(layer).__name__
        if kind == "Rescaling":
            numbers = f"value × {_written(layer.scale)} + {_written(layer.offset)}"
            found.append(Finding("scaling inside", f"{layer.name} scales inside the model: {numbers}.", layer.name))
        elif kind == "Normalization":
            found.append(Finding("scaling inside", f"{layer.name} normalises inside the model.", layer.name))
        elif kind in ("Resizing", "CenterCrop"):
            found.append(
                Finding("resizing inside", f"{layer.name} ({kind}) changes the geometry inside the model.", layer.name)
            )
    for named, which, start, end in (
        ("dropout", "dropout", "", "Dropout"),
        ("augmentation", "augmentation", "Random", ""),
    ):
        names = [layer.name for layer in layers if _is(type(layer).__name__, start, end)]
        if names:
            one = names[0] if len(names) == 1 else f"{len(names)} layers, from {names[0]}"
            sentence = f"There is {which} in the model ({one}); it sleeps while the model predicts."
            found.append(Finding(named, sentence, names[0]))  # type: ignore[arg-type]
    policies = sorted({str(_policy(layer)) for layer in layers} - {"float32", "None", ""})
    if policies:
        found.append(Finding("number type", f"Layers compute in {', '.join(policies)}, and not only in float32."))
    inputs, outputs = len(getattr(model, "inputs", None) or ()), len(getattr(model, "outputs", None) or ())
    if (inputs, outputs) != (1, 1):
        found.append(Finding("inputs and outputs", f"The model has {inputs} inputs and {outputs} outputs."))
    return tuple(found)


def trial_tensors(shape: tuple[int, int, int], dtype: str) -> NDArray[Any]:
    """(12, *shape): noise, and patches as large as things in a photo, in the ranges that models are trained on."""
    rng = np.random.default_rng(20_240_229)
    height, width, channels = shape
    coarse = rng.random((6, -(-height // 16), -(-width // 16), channels))
    patches = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
    unit = np.concatenate([rng.random((6, *shape)), patches])
    low, high = np.asarray([0.0, 0.0, -1.0] * 4), np.asarray([255.0, 1.0, 1.0] * 4)
    values: NDArray[Any] = unit * (high - low)[:, None, None, None] + low[:, None, None, None]
    return values.astype(np.float32) if dtype.startswith("float") else np.rint(unit * 255).astype(dtype)


def findings_of_behaviour(
    predict: Callable[[NDArray[Any]], NDArray[Any]], tensors: NDArray[np.float32]
) -> tuple[Finding, ...]:
    """Findings in what a model answers to tensors (n, h, w, 3): the same twice, and alone as in a batch?"""
    first = predict(tensors)
    if not np.array_equal(first, predict(tensors), equal_nan=True):
        sentence = "Answers to one tensor differ from one time to the next: dropout or augmentation is active."
        return (Finding("answers by chance", sentence),)
    alone = np.concatenate([predict(tensors[i : i + 1]) for i in range(min(3, len(tensors)))])
    gap = float(np.abs(alone.astype(np.float64) - first[: len(alone)]).max())
    if gap <= _SAME * max(1.0, float(np.abs(first).max())):
        return ()
    sentence = (
        f"An image alone gets another answer than in a batch (by {gap:.2g}): a BatchNormalization uses the statistics "
        "of the batch, as in training."
    )
    return (Finding("batch statistics", sentence),)


def findings_of_graph(
    scaling: Scaling | None, head: Head, shape: tuple[int | None, ...], types: frozenset[str]
) -> tuple[Finding, ...]:
    """Findings in a model's graph: how it begins and how it ends."""
    found: list[Finding] = []
    if scaling is not None:
        sentence = f"The model scales its input itself: {scaling}. Scaling outside as well would be twice."
        found.append(Finding("scaling inside", sentence))
    if None in shape[:2]:
        found.append(
            Finding("any size", "The model takes images of any size: nothing in it says which it was trained on.")
        )
    half = sorted(types & {"float16", "bfloat16"})
    if half:
        found.append(Finding("number type", f"The model computes in {', '.join(half)}."))
    endings = {
        "softmax": f"It ends with a softmax over {head.units} classes.",
        "sigmoid": "It ends with one sigmoid unit: the probability of the second class.",
        "logits": f"It ends with {head.units} logits: a softmax is put behind them.",
    }
    ending = endings[head.outputs]
    if head.outputs == "logits" and head.units == 1:
        ending = "It ends with one unit without an activation, read as the logit of the second class."
    found.append(Finding("last activation", ending))
    return tuple(found)


def _written(value: Any) -> str:
    """One number or one a channel."""
    numbers = np.asarray(value, dtype=np.float64).ravel()
    text = ", ".join(f"{number:.5g}" for number in numbers)
    return text if len(numbers) == 1 else f"({text})"


def _is(kind: str, start: str, end: str) -> bool:
    return kind.startswith(start) and kind.endswith(end)


def _policy(layer: Any) -> Any:
    policy = getattr(layer, "dtype_policy", None)
    return getattr(policy, "name", None) or getattr(layer, "dtype", None)
