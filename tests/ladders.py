"""A made-up model on a made-up ladder: confidence and distance that follow how often it is right."""

from __future__ import annotations

import numpy as np

from darkroom.schemas import EMBEDDING_COMPONENTS
from expectations.class_mix import ClassMix, confusion_of
from expectations.estimates import Estimator, LadderOutputs, learn_estimator, read_ladder
from expectations.signs import PROPERTIES, Reading, Signs, in_spreads

CLASSES = ("ash", "birch", "cedar")
KINDS = ("blur", "smear", "dark", "grain", "haze")
SHARPNESS, LUMINANCE = PROPERTIES.index("sharpness"), PROPERTIES.index("luminance_mean")
# What moves with sharpness: a corruption moves more than one property, and a new class none.
DETAIL = tuple(PROPERTIES.index(name) for name in ("edge_density", "noise", "entropy"))
# By how many standard deviations a step of each kind moves sharpness and brightness.
MOVES = {"blur": (-0.8, 0), "smear": (-0.7, 0), "dark": (0.1, -1.8), "grain": (0.8, 0), "haze": (-0.6, 0.9), "": (0, 0)}


def outputs(
    seed: int, images: int, conditions: list[tuple[str, int]], mix: tuple[float, ...] = (0.5, 0.3, 0.2)
) -> LadderOutputs:
    """Images under kinds and strengths: each step costs accuracy, confidence and nearness; `mix` of the classes."""
    rng = np.random.default_rng(seed)
    k = len(CLASSES)
    labels = rng.choice(k, images, p=mix)
    probabilities, embedding, far, properties = [], [], [], []
    for kind, strength in conditions:
        harm = 0.35 * strength * (1.1 if kind in ("blur", "grain") else 1.0)
        logits = rng.normal(0, 1.0, (images, k))
        logits[np.arange(images), labels] += 2.6 - harm
        shares = np.exp(1.5 * logits)
        probabilities.append(shares / shares.sum(axis=1, keepdims=True))
        places = rng.normal(0, 1, (images, EMBEDDING_COMPONENTS))
        places[:, 0] += harm
        embedding.append(places)
        far.append(np.clip(rng.random(images) * np.exp(-1.5 * harm), 0.005, 1))
        measured = rng.normal(0, 1, (images, len(PROPERTIES)))
        sharper, brighter = MOVES[kind]
        measured[:, [SHARPNESS, *DETAIL]] += sharper * strength
        measured[:, LUMINANCE] += brighter * strength
        properties.append(measured)
    kinds = tuple(kind for kind, _ in conditions)
    return LadderOutputs(
        kinds, np.stack(probabilities), np.stack(embedding), np.stack(far), np.stack(properties), labels
    )


def learned(seed: int = 0, images: int = 200, without: str = "") -> Estimator:
    """The estimator of the made-up model; without a kind, if one is named."""
    conditions = [("", 0), *((kind, step) for kind in KINDS if kind != without for step in range(1, 6))]
    seen = outputs(seed, images, conditions)
    reading, ladder = read_ladder(seen, 1.0, np.random.default_rng(seed).normal(0, 1, (400, len(PROPERTIES))))
    names = [CLASSES[label] for label in seen.labels]
    predicted = [CLASSES[place] for place in seen.probabilities[0].argmax(axis=1)]
    mix = ClassMix(CLASSES, confusion_of(names, predicted, CLASSES))
    found = learn_estimator(ladder, reading, mix, float(seen.right[0].mean()), images, seed=0)
    assert found is not None
    return found


def night(reading: Reading, seen: LadderOutputs, condition: int = 0) -> Signs:
    """The signs of one condition's images."""
    signs = reading.images(seen.probabilities[condition], seen.embedding[condition], seen.far[condition])
    moved = in_spreads(seen.properties[condition], reading.property_centre, reading.property_spread)
    predicted = np.bincount(seen.probabilities[condition].argmax(axis=1), minlength=len(CLASSES))
    return Signs(signs.sum(axis=0), moved.sum(axis=0), predicted, len(signs))
