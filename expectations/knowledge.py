"""What a bundle knows of normal: everything learned from the profile, as one object and as files of the bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from expectations.accuracy import Calibration, learn_calibration
from expectations.drift import DriftReference, learn_reference
from expectations.outliers import NearestNeighbours, PropertyOutliers, learn_out_of_distribution, learn_outliers
from expectations.sketch import Projection, learn_projection
from expectations.suite import LearnedSuite, learn_suite


@dataclass(frozen=True)
class Knowledge:
    """The suite, the outlier scores, the calibration and the drift reference of one bundle."""

    suite: LearnedSuite
    outliers: PropertyOutliers
    neighbours: NearestNeighbours
    projection: Projection
    calibration: Calibration
    drift: DriftReference

    def to_files(self) -> Mapping[str, bytes]:
        """File name → bytes, for the bundle."""
        return {
            "suite.json": self.suite.to_json().encode(),
            "outliers.json": self.outliers.to_json().encode(),
            "neighbours.npz": self.neighbours.to_bytes(),
            "projection.npz": self.projection.to_bytes(),
            "calibration.json": self.calibration.to_json().encode(),
            "drift.json": self.drift.to_json().encode(),
        }

    @classmethod
    def from_files(cls, read: Callable[[str], bytes]) -> Knowledge:
        """The other way: `read` gives the bytes of a file of the bundle by its name."""
        return cls(
            suite=LearnedSuite.from_json(read("suite.json").decode()),
            outliers=PropertyOutliers.from_json(read("outliers.json").decode()),
            neighbours=NearestNeighbours.from_bytes(read("neighbours.npz")),
            projection=Projection.from_bytes(read("projection.npz")),
            calibration=Calibration.from_json(read("calibration.json").decode()),
            drift=DriftReference.from_json(read("drift.json").decode()),
        )


def learn_normal(profile: pd.DataFrame, embeddings: NDArray[np.float16], *, seed: int) -> Knowledge:
    """Learn what is normal from the profile (darkroom.schemas.PROFILE) and the embeddings (n, e), rows alike."""
    projection = learn_projection(embeddings)
    neighbours = learn_out_of_distribution(embeddings, profile["split"].to_numpy())
    return Knowledge(
        suite=learn_suite(profile),
        outliers=learn_outliers(profile),
        neighbours=neighbours,
        projection=projection,
        calibration=learn_calibration(profile),
        drift=learn_reference(profile, projection.apply(embeddings), seed=seed),
    )
