"""Knows how the numbers that a classifier ends with are read: softmax, one sigmoid unit, or logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UnsupportedModel
from tasks.inference import SUM_TOLERANCE, check_outputs

Outputs = Literal["softmax", "sigmoid", "logits"]
# Activations after which numbers are neither probabilities nor logits.
_NEITHER: Final = frozenset({"Relu", "Relu6", "Elu", "Selu", "Tanh", "Softplus", "Softsign", "LeakyRelu"})


@dataclass(frozen=True)
class Head:
    """How a model ends: what its outputs are, and how many of them there are. One unit stands for two classes."""

    outputs: Outputs
    units: int

    @property
    def classes(self) -> int:
        """Classes that it tells apart."""
        return max(self.units, 2)

    def probabilities(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Raw outputs (n, units) → (n, classes): [1 − p, p] of one unit."""
        values = np.asarray(raw, dtype=np.float64)
        if self.outputs == "softmax":
            return values
        if self.units == 1:
            p = values if self.outputs == "sigmoid" else 0.5 * (1 + np.tanh(values / 2))
            return np.concatenate([1 - p, p], axis=1)
        shifted = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def read_head(last_operation: str, raw: NDArray[Any], path: Path) -> Head:
    """Read from the last operation of a model, and from what it answers to (n, units) random tensors.

    Raises: UnsupportedModel for one sigmoid a class, for outputs that are no row of numbers, and for other activations.
    """
    if raw.ndim != 2 or raw.shape[1] < 1:
        raise UnsupportedModel(
            "The model is not a classifier with one number a class.",
            file=path,
            expected="an output (images, classes)",
            found=f"an output {('images', *raw.shape[1:])}".replace("'", ""),
            todo="detection and segmentation models cannot be adopted",
        )
    units = int(raw.shape[1])
    sums = bool(np.isfinite(raw).all() and (raw >= 0).all() and np.abs(raw.sum(axis=1) - 1).max() <= SUM_TOLERANCE)
    if units == 1 and (last_operation == "Softmax" or sums):
        raise UnsupportedModel(
            "The model ends with a softmax over one unit, which is 1 whatever the image is.",
            file=path,
            expected="one sigmoid unit, or a softmax over at least two",
            found="one unit that is always 1",
            todo="train it again with Dense(1, activation='sigmoid'), or with one unit a class",
        )
    if last_operation == "Softmax" or sums:
        return Head("softmax", units)
    if last_operation == "Sigmoid":
        if units == 1:
            return Head("sigmoid", 1)
        raise UnsupportedModel(
            "The model gives each class a probability of its own (multi-label): several may be true at once.",
            file=path,
            expected="exclusive classes: a softmax, one sigmoid unit, or logits",
            found=f"{units} sigmoid units",
            todo="if every image has exactly one class, train it again with activation='softmax'",
        )
    if last_operation in _NEITHER:
        raise UnsupportedModel(
            "The model ends with an activation after which numbers are neither probabilities nor logits.",
            file=path,
            expected="a softmax, one sigmoid unit, or no activation",
            found=last_operation,
            todo="this looks like a regression, or a model without its head; bring the whole classifier",
        )
    return Head("logits", units)


def check_outputs_on(probabilities: NDArray[np.float32]) -> None:
    """Hold probabilities (n, k) of real images against what probabilities of exclusive classes are.

    Raises: UnsupportedModel where rows do not sum to 1; Failed where numbers are not finite.
    """
    check_outputs(probabilities, np.zeros((len(probabilities), 1), dtype=np.float32))
