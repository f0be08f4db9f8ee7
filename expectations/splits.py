"""Training against validation: do the two come from one distribution, and how much better is the model on the first?

A validation set that differs from training says little about either; one that is too much like it flatters
(expectations.leakage). The tests are those of the night, with the training images as the reference and the validation
images as the night.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.schemas import metric_in_words
from expectations.drift import night_drift
from expectations.measures import accuracy_interval
from expectations.reference import learn_reference


@dataclass(frozen=True)
class Gap:
    """Training minus validation accuracy, with a 95 % interval: what overfitting looks like."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SplitComparison:
    """`drift` has the columns of darkroom.schemas.DRIFT."""

    drift: pd.DataFrame

    @property
    def sentence(self) -> str:
        """For a person."""
        moved = self.drift[self.drift["verdict"].isin(["warn", "alarm"])].sort_values("p_corrected")
        tested = self.drift[self.drift["verdict"] != "too_few"]
        if tested.empty:
            return "Too few images were held out to compare them with the training images."
        if moved.empty:
            told = f"Validation and training images do not differ in any of {len(tested)} measures beyond chance."
            detectable = tested.loc[tested["reference_value"].notna(), "smallest_detectable_effect"].astype(float)
            if detectable.isna().any():
                return f"{told} In {detectable.isna().sum()} of them the sessions are too few to show any difference."
            return f"{told} A shift of {detectable.max():.2f} standard deviations would have shown in any number."
        names = [metric_in_words(str(row["family"]), str(row["metric"])) for row in moved.head(3).to_dict("records")]
        more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
        return (
            f"Validation images differ from training images in {', '.join(names)}{more}: "
            "the validation accuracy speaks for images like these, not for those in training."
        )


def compare_splits(rows: pd.DataFrame, classes: tuple[str, ...]) -> SplitComparison:
    """Hold the validation rows against the training rows: every property, and the embedding where it says something.

    `rows` are the profile's (darkroom.schemas.PROFILE) with `embedding` (32 components; NaN where the network has
    learned from these very images, and therefore knows them) and `out_of_distribution_p`. Predictions are left out for
    the same reason.
    """
    held = (rows["split"] == "validation").to_numpy()
    train, validation = rows[~held], rows[held]
    everything = np.ones(len(train), np.bool_)
    reference = learn_reference(train, everything, train["group"].to_numpy(), classes)
    drift = night_drift(reference, reference.sketch(validation))
    return SplitComparison(drift[drift["family"].isin(["properties", "embedding"])].reset_index(drop=True))


def generalisation_gap(right: NDArray[np.bool_], held: NDArray[np.bool_], groups: NDArray[Any]) -> Gap:
    """How much more often the model is right on images it learned from: (n,) right or not, held out or not, group.

    The interval of the difference is made of those of the two accuracies, which know of groups (MOVER: Zou & Donner,
    "Construction of confidence limits about effect measures", 2008).
    """
    train, validation = (float(right[side].mean()) for side in (~held, held))
    (train_low, train_high), (low, high) = (accuracy_interval(right[side], groups[side]) for side in (~held, held))
    gap = train - validation
    return Gap(
        gap,
        gap - float(np.hypot(train - train_low, high - validation)),
        gap + float(np.hypot(train_high - train, validation - low)),
    )
