"""Knows how far a bundle's goldens have moved since the seal, one by one: what a person agrees to before a reseal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.goldens.replay import prepare_goldens, tolerance_of

if TYPE_CHECKING:
    from tasks.bundle import Bundle
    from tasks.inference import Engine


@dataclass(frozen=True)
class GoldenChange:
    """One golden then and now. `pixels` and `tensor` say how they differ, and are empty where they are bit-equal."""

    name: str
    pixels: str
    tensor: str
    refused: str
    probability: float  # the largest difference of a probability
    before: str
    after: str
    margin: float  # between the two likeliest classes, at the seal
    tolerance: float

    @property
    def moved(self) -> bool:
        """Whether the replay that opens every night would stop at it."""
        return bool(self.pixels or self.tensor or self.refused) or not self.probability <= self.tolerance

    @property
    def decides_otherwise(self) -> bool:
        """Whether the model now names another class than at the seal."""
        return self.before != self.after


def golden_changes(bundle: Bundle, engine: Engine) -> tuple[GoldenChange, ...]:
    """Every golden again, from bytes to probabilities, beside what was sealed of it."""
    goldens = bundle.goldens()
    now = prepare_goldens(goldens, bundle.preprocessing)
    values = [one.values for one in now if one.values is not None]
    outputs: Iterator[NDArray[np.float32]] = iter(engine.run(np.stack(values)).probabilities if values else ())
    tolerance = tolerance_of(bundle.manifest, engine)
    changes = []
    for golden, one in zip(goldens, now, strict=True):
        found = next(outputs) if one.values is not None else None
        pixels = one.pixels is not None and one.pixels.sha256 != golden.pixels.sha256
        tensor = one.tensor is not None and one.tensor.sha256 != golden.tensor.sha256
        ordered = np.sort(golden.probabilities)
        changes.append(
            GoldenChange(
                name=golden.name,
                pixels=golden.pixels.difference(one.pixels) if pixels and one.pixels is not None else "",
                tensor=golden.tensor.difference(one.tensor) if tensor and one.tensor is not None else "",
                refused=one.refused,
                probability=_gap(golden.probabilities, found),
                before=_likeliest(bundle.classes, golden.probabilities),
                after="none" if found is None else _likeliest(bundle.classes, found),
                margin=float(ordered[-1] - ordered[-2]),
                tolerance=tolerance,
            )
        )
    return tuple(changes)


def _gap(sealed: NDArray[np.float32], found: NDArray[np.float32] | None) -> float:
    if found is None or found.shape != sealed.shape:
        return float("inf")
    return float(np.abs(found.astype(np.float64) - sealed).max())


def _likeliest(classes: Sequence[str], probabilities: NDArray[np.float32]) -> str:
    place = int(np.argmax(probabilities))
    return classes[place] if place < len(classes) else f"output {place}"
