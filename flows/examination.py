"""The examination of a training: how well, how honest, how robust; and on request what its remedies are worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.progress import Progress
from darkroom.schemas import EMBEDDING_COMPONENTS
from darkroom.settings import ExaminationOptions, TrainingRecipe
from expectations.audit import Audit, audit_validation
from expectations.estimates import Estimator
from expectations.knowledge import ESTIMATES, Knowledge
from expectations.measures import Measures, measure_predictions
from expectations.projection import learn_projection
from expectations.remedies import Worth
from expectations.sensitivity import Sensitivity
from expectations.splits import Gap, SplitComparison, compare_splits, generalisation_gap
from flows.estimating import climb_and_learn
from flows.repeating import LearningPoint, learn_on_less, try_remedies
from flows.sensitivity import weigh_variants
from flows.single import Single, learn_single
from tasks.corruptions import KINDS
from tasks.fingerprints import fingerprint
from tasks.training import TrainedModel
from tasks.training.repeats import Repeats


@dataclass(frozen=True)
class Ladder:
    """Accuracy (kinds, strengths) of some held-out images under the corruption ladder, and as they are."""

    kinds: tuple[str, ...]
    accuracy: NDArray[np.float64]
    hits: int
    images: int
    estimator: Estimator | None = None

    def to_files(self) -> dict[str, bytes]:
        """File name → bytes, for the bundle."""
        files = {"ladder.json": self.to_json().encode()}
        return files if self.estimator is None else files | {ESTIMATES: self.estimator.to_json().encode()}

    def to_json(self) -> str:
        """For the bundle."""
        told = {"kinds": self.kinds, "accuracy": self.accuracy.tolist(), "images": self.images}
        return json.dumps(told, indent=1, allow_nan=False)


@dataclass(frozen=True)
class Examined:
    """What was found. `measures` by split; `remedies` and `learning_curve` are empty where nobody asked for them."""

    measures: dict[str, Measures]
    gap: Gap
    splits: SplitComparison
    audit: Audit
    ladder: Ladder | None
    sensitivity: Sensitivity | None = None
    single: Single | None = None
    remedies: Sequence[Worth] = ()
    learning_curve: Sequence[LearningPoint] = ()

    def to_files(self) -> dict[str, bytes]:
        """File name → bytes, for the bundle."""
        files = {"audit.json": self.audit.to_json().encode()}
        if self.ladder is not None:
            files |= self.ladder.to_files()
        if self.sensitivity is not None:
            files["sensitivity.json"] = self.sensitivity.to_json().encode()
        if self.single is not None:
            files |= self.single.to_files()
        repeated = {
            "remedies.json": [asdict(one) for one in self.remedies],
            "learning_curve.json": [asdict(one) for one in self.learning_curve],
        }
        for name, found in repeated.items():
            if found:
                files[name] = json.dumps(found, indent=1, allow_nan=False).encode()
        return files


def examine(
    model: TrainedModel,
    knowledge: Knowledge,
    recipe: TrainingRecipe,
    options: ExaminationOptions,
    folder: Path,
    work: Path,
    progress: Progress,
) -> Examined:
    """Measure, compare the splits, audit the validation, climb the ladder, weigh wrong preparations; repeat the
    training where that is asked for.

    `work` is the training's folder; what repeated trainings have finished is kept in it.
    """
    profile = model.profile
    held = (profile["split"] == "validation").to_numpy()
    right = (profile["predicted_class"] == profile["label"]).to_numpy()
    rows = profile.assign(embedding=list(_unlearned(model)), out_of_distribution_p=np.nan)
    prints = fingerprint(model.resized)
    remedies: Sequence[Worth] = ()
    curve: Sequence[LearningPoint] = ()
    if options.remedy_seeds or options.learning_curve:
        repeats = Repeats(folder, recipe, work, progress)
        kept = work / "repeated"
        if options.remedy_seeds:
            remedies = try_remedies(repeats, recipe, options.remedy_seeds, options.ladder_images, kept)
        if options.learning_curve:
            curve = learn_on_less(repeats, recipe, kept)
    return Examined(
        measures=measure(profile, model.classes),
        gap=generalisation_gap(right, held, profile["group"].to_numpy()),
        splits=compare_splits(rows, model.classes),
        audit=audit_validation(
            profile, model.features, prints.hashes, prints.pictures, model.classes, seed=recipe.seed
        ),
        ladder=climb_ladder(model, knowledge, options.ladder_images, recipe.seed, progress),
        sensitivity=weigh_variants(model, folder, options.sensitivity_images, recipe.seed, progress),
        single=learn_single(model, recipe.seed, progress, thumbnails=options.thumbnails),
        remedies=remedies,
        learning_curve=curve,
    )


def _unlearned(model: TrainedModel) -> NDArray[np.float32]:
    """What the splits are compared by: components of features that no training image has changed; NaN where the network
    has learned from its first layer on.
    """
    if model.features is model.embeddings:
        return np.full((len(model.profile), EMBEDDING_COMPONENTS), np.nan, np.float32)
    return learn_projection(model.features).apply(model.features)


def measure(profile: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, Measures]:
    """How well the model does on the images it learned from, and on those it did not."""
    measures = {}
    for split in ("train", "validation"):
        rows = profile[profile["split"] == split]
        measures[split] = measure_predictions(
            np.stack([np.asarray(row) for row in rows["probabilities"]]),
            np.array([classes.index(label) for label in rows["label"]]),
            rows["group"].to_numpy(),
            classes,
        )
    return measures


def climb_ladder(model: TrainedModel, knowledge: Knowledge, most: int, seed: int, progress: Progress) -> Ladder | None:
    """Some held-out images through every corruption; none where none are asked for."""
    climbed = climb_and_learn(model, knowledge, most, seed, progress)
    if climbed is None:
        return None
    return Ladder(KINDS, climbed.accuracy, climbed.hits, climbed.images, climbed.estimator)
