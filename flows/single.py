"""What a bundle learns of single images when it is sealed: signs of damage, steadiness, plausible classes; pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from darkroom.progress import Progress
from expectations.accuracy import learn_calibration
from expectations.damage import learn_damage
from expectations.standard import Standard, learn_plausible
from expectations.steadiness import Steadiness, learn_steadiness
from tasks.damage import measure_damage
from tasks.inference import load_engine
from tasks.preprocessing import to_tensor
from tasks.slight_changes import CHANGES, slightly_changed
from tasks.thumbnails import THUMBNAILS, seal_thumbnails
from tasks.training import TrainedModel
from tasks.training.ladder import some_of

SINGLE: Final = "single.json"
# Slightly changed eleven times each: what a conformal p at one in a hundred needs, with room.
STEADIED: Final = 300
_ROWS_AT_ONCE: Final = 256


@dataclass(frozen=True)
class Single:
    """The standard by which one image is explained, and thumbnails.parquet where pictures may be kept."""

    standard: Standard
    thumbnails: bytes | None

    def to_files(self) -> Mapping[str, bytes]:
        """File name → bytes, for the bundle."""
        pictures = {} if self.thumbnails is None else {THUMBNAILS: self.thumbnails}
        return {SINGLE: self.standard.to_json().encode(), **pictures}


def learn_single(model: TrainedModel, seed: int, progress: Progress, *, thumbnails: bool = True) -> Single:
    """From the resized pixels and the profile that a training leaves; nothing is decoded again."""
    profile = model.profile
    held = np.flatnonzero((profile["split"] == "validation").to_numpy())
    calibration = learn_calibration(profile, model.classes)
    probabilities = np.stack([np.asarray(row, np.float32) for row in profile["probabilities"]])
    own = np.array([model.classes.index(label) for label in profile["label"]])
    standard = Standard(
        plausible_from=learn_plausible(calibration.calibrated(probabilities[held]), own[held]),
        damage=learn_damage(_with_damage(model), seed=seed),
        steadiness=_steadiness(model, some_of(held.tolist(), STEADIED, seed), progress),
    )
    return Single(
        standard,
        seal_thumbnails(model.resized, profile, model.preprocessing, seed=seed) if thumbnails else None,
    )


def _with_damage(model: TrainedModel) -> pd.DataFrame:
    """The profile, with what is measured on the resized pixels."""
    n = len(model.profile)
    parts = (model.resized[np.arange(start, min(start + _ROWS_AT_ONCE, n))] for start in range(0, n, _ROWS_AT_ONCE))
    measured = pd.DataFrame([measure_damage(pixels) for part in parts for pixels in part])
    return pd.concat([model.profile.reset_index(drop=True), measured], axis=1)


def _steadiness(model: TrainedModel, rows: list[int], progress: Progress) -> Steadiness:
    """Held-out images, slightly changed: calibrated probabilities of each beside those of the image as it is."""
    engine = load_engine(model.model_path, model.embedding_layer, input_shape=model.preprocessing.input_shape)
    calibration = learn_calibration(model.profile, model.classes)
    k = len(model.classes)
    pinned = np.zeros((len(rows), k), np.float32)
    changed = np.zeros((len(rows), len(CHANGES), k), np.float32)
    for place, row in enumerate(rows):
        images = slightly_changed(model.resized[np.array([row])][0])
        changed[place] = calibration.calibrated(engine.run(to_tensor(images, model.preprocessing.values)).probabilities)
        pinned[place] = calibration.calibrated(np.asarray(model.profile["probabilities"].iloc[row])[np.newaxis])[0]
        progress("slight changes", place + 1, len(rows), "held-out images")
    return learn_steadiness(pinned, changed)
