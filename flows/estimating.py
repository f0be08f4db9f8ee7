"""Where tasks and expectations meet for the corruption ladder: held-out images, worse and worse, and what is seen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from darkroom.progress import Progress
from expectations.class_mix import ClassMix, confusion_of
from expectations.estimates import Estimator, LadderOutputs, learn_displaced, learn_estimator, read_ladder
from expectations.knowledge import Knowledge
from expectations.remedies import ladder_accuracy
from expectations.signs import PROPERTIES
from tasks.corruptions import KINDS, STRENGTHS
from tasks.inference import load_engine
from tasks.training import TrainedModel
from tasks.training.ladder import as_they_are, climb, prepared_wrongly, properties_of, some_of


@dataclass(frozen=True)
class Climbed:
    """Accuracy (kinds, strengths) of `images` held-out images, `hits` of which were right as they are; and what
    estimates the accuracy of nights, where there were enough.
    """

    accuracy: NDArray[np.float64]
    hits: int
    images: int
    estimator: Estimator | None


def climb_and_learn(
    model: TrainedModel, knowledge: Knowledge, most: int, seed: int, progress: Progress
) -> Climbed | None:
    """At most so many held-out images through every corruption; None where none are asked for."""
    rows = some_of(np.flatnonzero(model.profile["split"] == "validation").tolist(), most, seed)
    if not rows:
        return None
    engine = load_engine(model.model_path, model.embedding_layer, input_shape=model.preprocessing.input_shape)

    def forward(tensors: NDArray[np.float32]) -> NDArray[np.float32]:
        found = engine.run(tensors)
        far = knowledge.neighbours.score(found.embedding)
        return np.column_stack([found.probabilities, far, knowledge.projection.apply(found.embedding)])

    worse = climb(forward, model.resized, rows, model.preprocessing, seed, progress, measure=properties_of)
    plain = as_they_are(forward, model.resized, rows, model.preprocessing, properties_of)
    labels = np.array([model.classes.index(label) for label in model.profile["label"].iloc[rows]])
    every = np.concatenate([plain[None], worse.reshape(-1, *worse.shape[2:])])
    k, p = len(model.classes), len(PROPERTIES)
    outputs = LadderOutputs(
        kinds=("", *(kind for kind in KINDS for _ in STRENGTHS)),
        probabilities=every[..., :k],
        far=every[..., k],
        embedding=every[..., k + 1 : -p],
        properties=every[..., -p:],
        labels=labels,
        mistakes={
            name: one[:, k + 1 :]
            for name, one in prepared_wrongly(forward, model.resized, rows, model.preprocessing).items()
        },
    )
    return Climbed(
        accuracy=ladder_accuracy(worse[..., :k], labels),
        hits=int(outputs.right[0].sum()),
        images=len(rows),
        estimator=_learned(outputs, model, knowledge, seed),
    )


def _learned(outputs: LadderOutputs, model: TrainedModel, knowledge: Knowledge, seed: int) -> Estimator | None:
    profile = model.profile
    held = profile[profile["split"] == "validation"]
    training = profile.loc[profile["split"] == "train", list(PROPERTIES)].to_numpy(np.float64)
    reading, ladder = read_ladder(outputs, knowledge.calibration.temperature, training)
    mix = ClassMix(model.classes, confusion_of(held["label"], held["predicted_class"], model.classes))
    validation = float((held["label"] == held["predicted_class"]).mean())
    found = learn_estimator(ladder, reading, mix, validation, len(held), seed=seed)
    return None if found is None else replace(found, displaced=learn_displaced(outputs))
