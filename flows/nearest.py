"""The training photos that the model sees as nearest to some of a night's images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from expectations.outliers import NearestNeighbours, normalised
from flows.looking import Instruments
from tasks.report.night_page import NearPhoto

NEAREST = 3


def bank_of(instruments: Instruments) -> NearestNeighbours:
    """Over all of training, where the bank that scores may be a sample."""
    bundle = instruments.bundle
    train = (bundle.profile()["split"] == "train").to_numpy()
    bank = normalised(bundle.embeddings()[train]).astype(np.float16)
    return NearestNeighbours(bank, instruments.knowledge.neighbours.held_out)


def nearest_photos_of(
    tensors: Mapping[str, NDArray[np.float32]], instruments: Instruments
) -> dict[str, tuple[NearPhoto, ...]]:
    """Content id → training photos by the embedding, the nearest first."""
    if not tensors:
        return {}
    profile = instruments.bundle.profile()
    training = profile[profile["split"] == "train"]
    embeddings = instruments.engine.run(np.stack(list(tensors.values()))).embedding
    positions, distances = bank_of(instruments).nearest(embeddings, NEAREST)
    ids, paths, labels = (training[name].tolist() for name in ("content_id", "path", "label"))
    return {
        content: tuple(
            NearPhoto(ids[place], paths[place], labels[place], float(distance))
            for place, distance in zip(row, far, strict=True)
        )
        for content, row, far in zip(tensors, positions.tolist(), distances.tolist(), strict=True)
    }
