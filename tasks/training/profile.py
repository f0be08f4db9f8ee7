"""The profile: what is known of every image that a model was trained on, or that it was adopted with."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.schemas import PROFILE
from tasks.training.dataset import Split
from tasks.training.pixels import Pixels


def profile_of(
    pixels: Pixels, split: Split, classes: tuple[str, ...], probabilities: NDArray[np.float32]
) -> pd.DataFrame:
    """darkroom.schemas.PROFILE: one row an image; probabilities (n, k), columns in the order of `classes`."""
    held = np.zeros(len(pixels.files), np.bool_)
    held[list(split.validation)] = True
    rows: pd.DataFrame = pixels.properties.assign(
        path=[file.path for file in pixels.files],
        content_id=pixels.content_ids,
        split=np.where(held, "validation", "train"),
        group=[file.group for file in pixels.files],
        label=[file.label for file in pixels.files],
        predicted_class=np.asarray(classes, dtype=object)[probabilities.argmax(axis=1)],
        probabilities=list(probabilities),
    )
    profile: pd.DataFrame = rows[PROFILE.names]
    return profile
