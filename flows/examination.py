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
from darkroom.settings import ExaminationOptions, TrainingRecipe
from expectations.audit import Audit, audit_validation
from expectations.knowledge import Knowledge
from expectations.measures import Measures, measure_predictions
from expectations.remedies import Worth, ladder_accuracy
from expectations.splits import Gap, SplitComparison, compare_splits, generalisation_gap
from flows.repeating import LearningPoint, learn_on_less, try_remedies
from tasks.corruptions import KINDS
from tasks.fingerprints import fingerprint
from tasks.training import TrainedModel
from tasks.training.ladder import climb_saved, some_of
from tasks.training.repeats import Repeats


@dataclass(frozen=True)
class Ladder:
    """Accuracy (kinds, strengths) of some held-out images under the corruption ladder, and as they are."""

    kinds: tuple[str, ...]
    accuracy: NDArray[np.float64]
    hits: int
    images: int


@dataclass(frozen=True)
class Examined:
    """What was found. `measures` by split; `remedies` and `learning_curve` are empty where nobody asked for them."""

    measures: dict[str, Measures]
    gap: Gap
    splits: SplitComparison
    audit: Audit
    ladder: Ladder | None
    remedies: Sequence[Worth] = ()
    learning_curve: Sequence[LearningPoint] = ()

    def to_files(self) -> dict[str, bytes]:
        """File name → bytes, for the bundle."""
        files = {"audit.json": self.audit.to_json().encode()}
        if self.ladder is not None:
            told = {"kinds": self.ladder.kinds, "accuracy": self.ladder.accuracy.tolist(), "images": self.ladder.images}
            files["ladder.json"] = json.dumps(told, indent=1).encode()
        if self.remedies:
            files["remedies.json"] = json.dumps([asdict(one) for one in self.remedies], indent=1).encode()
        if self.learning_curve:
            files["learning_curve.json"] = json.dumps([asdict(one) for one in self.learning_curve], indent=1).encode()
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
    """Measure, compare the splits, audit the validation, climb the ladder; repeat the training where that is asked for.

    `work` is the training's folder; what repeated trainings have finished is kept in it.
    """
    profile = model.profile
    held = (profile["split"] == "validation").to_numpy()
    right = (profile["predicted_class"] == profile["label"]).to_numpy()
    rows = profile.assign(embedding=list(knowledge.projection.apply(model.embeddings)), out_of_distribution_p=np.nan)
    prints = fingerprint(model.resized)
    remedies: Sequence[Worth] = ()
    curve: Sequence[LearningPoint] = ()
    if options.remedy_seeds or options.learning_curve:
        place = work / "repeats"
        place.mkdir(exist_ok=True)
        repeats = Repeats(folder, recipe, place, progress)
        seeds = range(recipe.seed, recipe.seed + options.remedy_seeds)
        remedies = try_remedies(repeats, recipe, seeds, place / "outcomes") if seeds else ()
        curve = learn_on_less(repeats, recipe, recipe.seed) if options.learning_curve else ()
    return Examined(
        measures=measure(profile, model.classes),
        gap=generalisation_gap(right, held, profile["group"].to_numpy(), seed=recipe.seed),
        splits=compare_splits(rows, model.classes, seed=recipe.seed),
        audit=audit_validation(
            profile, model.features, prints.hashes, prints.pictures, model.classes, seed=recipe.seed
        ),
        ladder=climb_ladder(model, options.ladder_images, recipe.seed, progress),
        remedies=remedies,
        learning_curve=curve,
    )


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


def climb_ladder(model: TrainedModel, most: int, seed: int, progress: Progress) -> Ladder | None:
    """Some held-out images through every corruption; none where none are asked for."""
    held = np.flatnonzero(model.profile["split"] == "validation").tolist()
    rows = some_of(held, most, seed)
    if not rows:
        return None
    labels = np.array([model.classes.index(label) for label in model.profile["label"].iloc[rows]])
    predicted = np.array([model.classes.index(name) for name in model.profile["predicted_class"].iloc[rows]])
    found = climb_saved(model.model_path, model.resized, rows, model.preprocessing, seed, progress)
    return Ladder(KINDS, ladder_accuracy(found, labels), int((predicted == labels).sum()), len(rows))
