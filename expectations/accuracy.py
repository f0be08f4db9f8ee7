"""How sure the model may be: temperature scaling on held-out images, and the confidence under which it is a guess."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_BINS = 15
_FEWEST = 10


@dataclass(frozen=True)
class Calibration:
    """`temperature` divides the logits. Held-out images with a calibrated confidence up to `low_confidence` were wrong
    at least as often as right; 0 where there were too few such images to say. Errors are expected calibration errors.
    """

    temperature: float
    low_confidence: float
    error_before: float
    error_after: float
    n: int

    def calibrated(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(n, k) probabilities as the model gave them → calibrated ones; the order of the classes does not change."""
        return tempered(probabilities, self.temperature)

    def to_json(self) -> str:
        """For the bundle."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """The other way."""
        return cls(**json.loads(text))


def learn_calibration(profile: pd.DataFrame, classes: Sequence[str]) -> Calibration:
    """Fit the temperature on held-out rows of darkroom.schemas.PROFILE by likelihood (Guo et al., arXiv 1706.04599).

    `classes` is the order of the probabilities.
    """
    from scipy.optimize import minimize_scalar

    held = profile[profile["split"] == "validation"]
    probabilities = np.stack([np.asarray(row, np.float64) for row in held["probabilities"]])
    right = (held["predicted_class"] == held["label"]).to_numpy()
    own = np.array([classes.index(label) for label in held["label"]])

    def loss(log_temperature: float) -> float:
        scaled = tempered(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.clip(scaled[np.arange(len(own)), own], 1e-12, 1)).mean())

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-2.0, 3.0), method="bounded").x))
    after = tempered(probabilities, temperature).max(axis=1)
    return Calibration(
        temperature=temperature,
        low_confidence=_low_confidence(after, right),
        error_before=calibration_error(probabilities.max(axis=1), right),
        error_after=calibration_error(after, right),
        n=len(held),
    )


def tempered(probabilities: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float32]:
    """softmax(log p / T)."""
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    scaled = np.exp(logits)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), np.float32)


def calibration_error(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> float:
    """Expected calibration error over 15 bins of equal width."""
    which = np.minimum((np.asarray(confidence, np.float64) * _BINS).astype(int), _BINS - 1)
    return float(
        sum(
            abs(right[which == b].mean() - confidence[which == b].mean()) * (which == b).mean()
            for b in np.unique(which)
        )
    )


def _low_confidence(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> float:
    order = np.argsort(confidence)
    n = np.arange(1, len(order) + 1)
    share = np.cumsum(right[order]) / n
    guessed = np.flatnonzero((share <= 0.5) & (n >= _FEWEST))
    return float(confidence[order][guessed[-1]]) if len(guessed) else 0.0
