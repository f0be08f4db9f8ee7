"""What a night's page is made of: the summary, bounded samples of rows, and nothing that needs a file or a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.summary import NightSummary
from tasks.report.further import AcrossShown, EstimateShown, LabelledShown, SlicesShown
from tasks.report.past import PastNight, Series


class Histogram(NamedTuple):
    """One numeric image property, tonight and in training, on the same bins."""

    edges: NDArray[np.float64]  # (bins + 1,), in the property's own unit
    night: NDArray[np.int64]  # (bins,) images
    training: NDArray[np.int64]  # (bins,) images


class Mix(NamedTuple):
    """One categorical image property, tonight and in training; the last name may stand for all others."""

    names: tuple[str, ...]
    night: NDArray[np.int64]  # (names,) images
    training: NDArray[np.int64]  # (names,) images


@dataclass(frozen=True)
class NearPhoto:
    """A training photo that the model sees as near to one of tonight's; `distance` 0 … 2, of normalised embeddings."""

    content_id: str
    path: str
    label: str
    distance: float


@dataclass(frozen=True)
class NightPage:
    """A night, ready to be shown.

    `predictions` and `quarantine` are samples, already bounded by the caller, with the columns of
    darkroom.schemas.PREDICTIONS and QUARANTINE: the most suspect rows, and typical ones. `drift` has those of DRIFT,
    and may be empty. `thumbnails` maps content ids, of training photos too, to JPEG bytes as the decoding processes
    made them: leave it empty, and the page shows no picture at all. `training_classes` counts the training and
    validation images of each class.

    `past` is each property over nights, tonight the last; `recent` the nights before this one, the newest first; `near`
    the training photos nearest to a content id of `predictions`, the nearest first. `sealed` says what the bundle is,
    by digest. `index` is the address of the page over all nights, relative to this one.

    What is None or empty has no section.
    """

    summary: NightSummary
    drift: pd.DataFrame
    predictions: pd.DataFrame
    quarantine: pd.DataFrame
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    mixes: Mapping[str, Mix] = field(default_factory=dict)
    training_classes: Mapping[str, int] = field(default_factory=dict)
    past: Mapping[str, Series] = field(default_factory=dict)
    recent: tuple[PastNight, ...] = ()
    near: Mapping[str, tuple[NearPhoto, ...]] = field(default_factory=dict)
    estimate: EstimateShown | None = None
    labelled: LabelledShown | None = None
    slices: SlicesShown = field(default_factory=SlicesShown)
    across: AcrossShown | None = None
    budget: str = ""
    sealed: Mapping[str, str] = field(default_factory=dict)
    index: str | None = None
