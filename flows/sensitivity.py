"""What wrong preparations would cost a trained network: its held-out images under every variant."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from darkroom.names import from_text
from darkroom.progress import Progress
from expectations.sensitivity import Sensitivity, measure_sensitivity
from tasks.inference import load_engine
from tasks.training import TrainedModel
from tasks.training.ladder import some_of
from tasks.variants import NotShown, Replay, catalogue


def weigh_variants(model: TrainedModel, folder: Path, most: int, seed: int, progress: Progress) -> Sensitivity | None:
    """At most `most` held-out images of `folder`, drawn by seed, under every variant; None where there are none.

    A photo that is gone, or was changed since it was learned from, is left out.
    """
    profile = model.profile
    held = np.flatnonzero(profile["split"] == "validation").tolist()
    rows, photos = [], []
    for row in some_of(held, most, seed):
        photo = _photo(folder / from_text(profile["path"].iloc[row]), str(profile["content_id"].iloc[row]))
        if photo is not None:
            rows.append(row)
            photos.append(photo)
    if not rows:
        return None
    pinned = model.preprocessing
    replay = Replay(
        load_engine(model.model_path, model.embedding_layer, input_shape=pinned.input_shape), photos, pinned, seed=seed
    )
    variants = catalogue(pinned)
    measured, probabilities, not_shown = [], [], {}
    for done, variant in enumerate(variants, start=1):
        progress("sensitivity", done, len(variants), variant.name)
        try:
            found = replay.of([variant])
        except NotShown as reason:
            not_shown[variant.name] = reason.reason
            continue
        if found is not None:
            measured.append((variant.name, variant.what))
            probabilities.append(found)
    return measure_sensitivity(
        measured,
        np.stack(probabilities),
        replay.probabilities(pinned),
        np.array([model.classes.index(label) for label in profile["label"].iloc[rows]]),
        profile["group"].iloc[rows].to_numpy(),
        not_shown,
    )


def _photo(path: Path, content_id: str) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == content_id else None
