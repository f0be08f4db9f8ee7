"""What a night's page is made of: the summary, bounded samples of rows, and nothing that needs a file or a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.summary import NightSummary


class Histogram(NamedTuple):
    """One image property, tonight and in training, on the same bins."""

    edges: NDArray[np.float64]  # (bins + 1,), in the property's own unit
    night: NDArray[np.int64]  # (bins,) images
    training: NDArray[np.int64]  # (bins,) images


@dataclass(frozen=True)
class NightPage:
    """A night, ready to be shown.

    `predictions` and `quarantine` are samples, already bounded by the caller, with the columns of
    darkroom.schemas.PREDICTIONS and QUARANTINE: the most suspect rows, and typical ones. `drift` has those of DRIFT,
    and may be empty. `thumbnails` maps content ids to JPEG bytes as the decoding processes made them; leave it empty,
    and the page shows no pictures. `training_classes` counts the training and validation images of each class.
    """

    summary: NightSummary
    drift: pd.DataFrame
    predictions: pd.DataFrame
    quarantine: pd.DataFrame
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    training_classes: Mapping[str, int] = field(default_factory=dict)
