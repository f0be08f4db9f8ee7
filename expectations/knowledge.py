"""What a bundle knows of normal: everything learned from the profile, as one object and as files of the bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.reasons import Verdict
from darkroom.schemas import EMBEDDING_COMPONENTS, NUMERIC_PROPERTIES
from darkroom.summary import AccuracyEstimate
from expectations.accuracy import Calibration, learn_calibration
from expectations.by_class import ByClass, learn_by_class
from expectations.estimates import Estimator
from expectations.outliers import (
    NearestNeighbours,
    PropertyOutliers,
    Unusual,
    judge_rows,
    learn_out_of_distribution,
    learn_outliers,
)
from expectations.projection import Projection, learn_projection
from expectations.reference import DriftReference
from expectations.signs import Signs
from expectations.suite import LearnedSuite, learn_suite
from expectations.validation import RowOutcome, TeamSuite, run_rows
from expectations.verification import learn_verified

ESTIMATES: Final = "estimates.json"
BY_CLASS: Final = "by_class.json"
NO_ESTIMATOR: Final = (
    "the bundle has none: it was sealed without the corruption ladder, by an older darkroom, or with too few held-out "
    "images"
)


@dataclass(frozen=True)
class Knowledge:
    """The suite, the outlier scores, the calibration and the drift reference of one bundle."""

    suite: LearnedSuite
    outliers: PropertyOutliers
    neighbours: NearestNeighbours
    projection: Projection
    calibration: Calibration
    drift: DriftReference
    # None: sealed by a darkroom that did not tell causes apart.
    by_class: ByClass | None = None
    # Learned later than the rest, on the corruption ladder; a bundle without one has none.
    estimator: Estimator | None = None

    def signs_of(self, rows: pd.DataFrame) -> Signs:
        """What rows of the predictions schema say of the accuracy, for the estimator."""
        if self.estimator is None:
            return replace(self.no_signs(), rows=len(rows))
        return self.estimator.reading.rows(rows, len(self.drift.classes))

    def no_signs(self) -> Signs:
        """Of no rows."""
        return Signs.empty(len(self.drift.classes))

    def estimate(self, signs: Signs) -> AccuracyEstimate:
        """Accuracy of a night, or why it is not estimated."""
        if self.estimator is None:
            return AccuracyEstimate(rows=signs.rows, refused=NO_ESTIMATOR)
        return self.estimator.estimate(signs)

    def outcome_of(self, rows: pd.DataFrame, teams: Sequence[TeamSuite]) -> RowOutcome:
        """Run the learned row expectations, and those of a team, on the rows of a shard."""
        outcome = run_rows(self.suite, rows)
        for team in teams:
            outcome = outcome.beside(team.run(rows, "row"))
        return outcome

    def to_files(self) -> Mapping[str, bytes]:
        """File name → bytes, for the bundle."""
        return {
            "suite.json": self.suite.to_json().encode(),
            "outliers.json": self.outliers.to_json().encode(),
            "neighbours.npz": self.neighbours.to_bytes(),
            "projection.npz": self.projection.to_bytes(),
            "calibration.json": self.calibration.to_json().encode(),
            "drift.json": self.drift.to_json().encode(),
            **({BY_CLASS: self.by_class.to_json().encode()} if self.by_class is not None else {}),
        }

    @classmethod
    def from_files(cls, read: Callable[[str], bytes], has: Callable[[str], bool]) -> Knowledge:
        """The other way: `read` gives the bytes of a file of the bundle by its name, `has` says whether it is there.

        What is read is tried on a made-up image at once: what would stop a night raises here, by any name, while it is
        known which file it is in.
        """
        suite = LearnedSuite.from_json(read("suite.json").decode())
        outliers = PropertyOutliers.from_json(read("outliers.json").decode())
        outliers.score(pd.DataFrame(0.0, index=[0], columns=[*NUMERIC_PROPERTIES]))
        projection = Projection.from_bytes(read("projection.npz"))
        embedding = np.zeros((1, len(projection.centre)), np.float32)
        if projection.apply(embedding).shape != (1, EMBEDDING_COMPONENTS):
            raise ValueError(f"axes of the shape {projection.axes.shape}")
        neighbours = NearestNeighbours.from_bytes(read("neighbours.npz"))
        neighbours.score(embedding)
        calibration = Calibration.from_json(read("calibration.json").decode())
        judge_rows(
            calibration.calibrated(np.full((1, 2), 0.5)).max(axis=1),
            Unusual(np.ones(1), [None]),
            np.ones(1),
            [[]],
            calibration,
        )
        return cls(
            suite=suite,
            outliers=outliers,
            neighbours=neighbours,
            projection=projection,
            calibration=calibration,
            drift=DriftReference.from_json(read("drift.json").decode()),
            by_class=ByClass.from_json(read(BY_CLASS).decode()) if has(BY_CLASS) else None,
            estimator=Estimator.from_json(read(ESTIMATES).decode()) if has(ESTIMATES) else None,
        )


def learn_normal(
    profile: pd.DataFrame, embeddings: NDArray[np.float16], classes: Sequence[str], *, refused: int, seed: int
) -> Knowledge:
    """Learn what is normal from the profile (darkroom.schemas.PROFILE) and the embeddings (n, e), rows alike.

    `classes` is the order of the probabilities; `refused` how many files training could not use.
    """
    projection = learn_projection(embeddings)
    neighbours = learn_out_of_distribution(embeddings, profile["split"].to_numpy(), seed=seed)
    outliers = learn_outliers(profile)
    calibration = learn_calibration(profile, classes)
    held = (profile["split"] == "validation").to_numpy()
    # Training images lie in the bank: how far they are from it says nothing.
    far = np.full(len(profile), np.nan)
    far[held] = neighbours.score(embeddings[held])
    probabilities = np.stack([np.asarray(row) for row in profile["probabilities"]])
    judged = judge_rows(
        calibration.calibrated(probabilities).max(axis=1)[held],
        outliers.score(profile[held]),
        far[held],
        [[] for _ in range(held.sum())],
        calibration,
    )
    rows = profile.assign(embedding=list(projection.apply(embeddings)), out_of_distribution_p=far)
    drift = learn_verified(rows, held, profile["group"].to_numpy(), tuple(classes), seed=seed)
    return Knowledge(
        suite=learn_suite(profile, suspect=judged.verdicts.count(Verdict.SUSPECT), refused=refused),
        outliers=outliers,
        neighbours=neighbours,
        projection=projection,
        calibration=calibration,
        drift=drift,
        by_class=learn_by_class(rows, held, profile["group"].to_numpy(), drift),
    )
