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
from expectations.drift import learn_reference, night_drift
from expectations.measures import resampled_accuracy


@dataclass(frozen=True)
class Gap:
    """Training minus validation accuracy, with a 95 % interval: what overfitting looks like."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SplitComparison:
    """`drift` has the columns of darkroom.schemas.DRIFT; `classes` the share of each class in both splits."""

    drift: pd.DataFrame
    classes: pd.DataFrame

    @property
    def sentence(self) -> str:
        """For a person."""
        moved = self.drift[self.drift["verdict"].isin(["warn", "alarm"])].sort_values("p_corrected")
        tested = self.drift[self.drift["verdict"] != "too_few"]
        if tested.empty:
            return "Too few images were held out to compare them with the training images."
        if moved.empty:
            detectable = tested["smallest_detectable_effect"].dropna()
            seen = (
                f" A shift of {detectable.median():.2f} standard deviations would have shown."
                if len(detectable)
                else ""
            )
            return f"Validation and training images do not differ in any of {len(tested)} measures beyond chance.{seen}"
        names = [metric_in_words(str(row["family"]), str(row["metric"])) for row in moved.head(3).to_dict("records")]
        more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
        return (
            f"Validation images differ from training images in {', '.join(names)}{more}: "
            "the validation accuracy speaks for images like these, not for those in training."
        )


def compare_splits(rows: pd.DataFrame, classes: tuple[str, ...], *, seed: int) -> SplitComparison:
    """Hold the validation rows against the training rows: every property and the embedding.

    `rows` are the profile's (darkroom.schemas.PROFILE) with `embedding` (32 components) and `out_of_distribution_p`.
    Predictions are left out: the model knows its training images, so these differ where nothing is wrong.
    """
    held = (rows["split"] == "validation").to_numpy()
    train, validation = rows[~held], rows[held]
    everything = np.ones(len(train), np.bool_)
    reference = learn_reference(train, everything, train["group"].to_numpy(), classes, seed=seed)
    drift = night_drift(reference, reference.sketch(validation))
    kept = drift[drift["family"].isin(["properties", "embedding"])].reset_index(drop=True)
    shares = pd.DataFrame(
        {
            name: part["label"].value_counts(normalize=True).reindex(list(classes), fill_value=0.0)
            for name, part in (("train", train), ("validation", validation))
        }
    )
    return SplitComparison(kept, shares)


def generalisation_gap(
    right: NDArray[np.bool_], held: NDArray[np.bool_], groups: NDArray[Any], *, seed: int = 0
) -> Gap:
    """How much more often the model is right on images it learned from: (n,) right or not, held out or not, group.

    Bootstrap of whole groups, each split for itself: images of a session are right and wrong together.
    """
    random = np.random.default_rng(seed)
    train, validation = (resampled_accuracy(right[side], groups[side], random) for side in (~held, held))
    low, high = np.quantile(train - validation, [0.025, 0.975])
    return Gap(float(right[~held].mean() - right[held].mean()), float(low), float(high))
