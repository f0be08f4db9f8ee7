"""Which output of a model is which class, solved from labelled images where nobody has written it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Twice so many images must speak for the order found as for the best order that swaps any two of its classes.
_CLEAR: Final = 2.0
_FEWEST: Final = 5


@dataclass(frozen=True)
class ClassOrder:
    """Names in the order of the outputs. `unclear`: pairs of classes that these images do not tell apart well enough.

    `accuracy` is that of the order on the images that solved it.
    """

    names: tuple[str, ...]
    accuracy: float
    unclear: tuple[tuple[str, str], ...]

    def sentence(self) -> str:
        """For a person."""
        told = f"The order of the outputs was solved from the labelled images: {', '.join(self.names)}"
        if not self.unclear:
            return f"{told}; {self.accuracy:.0%} of them are then right, and no two names could be swapped."
        pairs = ", ".join(f"{first} and {second}" for first, second in self.unclear)
        return f"{told}; {self.accuracy:.0%} of them are then right, but these images do not tell {pairs} apart."


def solve_order(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], names: Sequence[str]
) -> ClassOrder:
    """The order under which most images are right: an assignment of outputs to classes on the confusion matrix.

    probabilities (n, k); labels (n,), positions in `names`, k of them. An order is unclear about two classes where the
    images that both of them have do not speak for it twice as often as for the order with the two swapped.
    """
    from scipy.optimize import linear_sum_assignment

    k = len(names)
    called = probabilities.argmax(axis=1)
    table = np.zeros((k, k), np.int64)  # output × class
    np.add.at(table, (called, labels), 1)
    outputs, classes = linear_sum_assignment(-table)
    of_output = classes[np.argsort(outputs)]
    unclear = []
    for one in range(k):
        for other in range(one + 1, k):
            first, second = of_output[one], of_output[other]
            kept = table[one, first] + table[other, second]
            swapped = table[one, second] + table[other, first]
            if kept < _FEWEST or kept < _CLEAR * swapped:
                unclear.append((names[first], names[second]))
    right = int(table[np.arange(k), of_output].sum())
    return ClassOrder(tuple(names[place] for place in of_output), right / max(1, len(labels)), tuple(unclear))
