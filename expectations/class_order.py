"""Which output of a model is which class, solved from labelled images where nobody has written it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.names import some_of_many

# That images which have no opinion would speak so clearly for two names must be less likely than this, over all pairs
# and everything that was tried.
_CHANCE: Final = 0.01
_NAMED: Final = 6


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
        told = f"The order of the outputs was solved from the labelled images: {some_of_many(self.names)}"
        if not self.unclear:
            return f"{told}; {self.accuracy:.0%} of them are then right, and no two names could be swapped."
        pairs = some_of_many([f"{first} and {second}" for first, second in self.unclear], _NAMED)
        return f"{told}; {self.accuracy:.0%} of them are then right, but these images do not tell {pairs} apart."


def solve_order(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], names: Sequence[str], *, tried: int = 1
) -> ClassOrder:
    """The order under which most images are right: an assignment of outputs to classes on the confusion matrix.

    probabilities (n, k); labels (n,), positions in `names`, k of them; `tried`: of how many answers these are the best.
    An order is unclear about two classes where their images might as well speak for the order with the two swapped: a
    sign test, corrected for all pairs (Bonferroni).
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.special import bdtrc

    k = len(names)
    called = probabilities.argmax(axis=1)
    table = np.zeros((k, k), np.int64)  # output × class
    np.add.at(table, (called, labels), 1)
    outputs, classes = linear_sum_assignment(-table)
    of_output = classes[np.argsort(outputs)]
    unclear = []
    bar = _CHANCE / (2 * tried * max(1, k * (k - 1) // 2))
    for one in range(k):
        for other in range(one + 1, k):
            first, second = of_output[one], of_output[other]
            kept = table[one, first] + table[other, second]
            swapped = table[one, second] + table[other, first]
            if kept <= swapped or bdtrc(kept - 1, kept + swapped, 0.5) > bar:
                unclear.append((names[first], names[second]))
    right = int(table[np.arange(k), of_output].sum())
    return ClassOrder(tuple(names[place] for place in of_output), right / max(1, len(labels)), tuple(unclear))
