"""The training photos that the model sees as nearest to some of a night's images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from expectations.outliers import NearestNeighbours, normalised
from flows.looking import Instruments
from tasks.report.night_page import NearPhoto

NEAREST = 3


def nearest_photos_of(
    tensors: Mapping[str, NDArray[np.float32]], instruments: Instruments
) -> dict[str, tuple[NearPhoto, ...]]:
    """Content id → training photos by the embedding, the nearest first, over all of training, not a sample."""
    if not tensors:
        return {}
    profile = instruments.bundle.profile()
    train = (profile["split"] == "train").to_numpy()
    bank = normalised(instruments.bundle.embeddings()[train]).astype(np.float16)
    positions, distances = NearestNeighbours(bank, np.zeros(0)).nearest(
        instruments.engine.run(np.stack(list(tensors.values()))).embedding, NEAREST
    )
    ids, paths, labels = (profile.loc[train, name].tolist() for name in ("content_id", "path", "label"))
    return {
        content: tuple(
            NearPhoto(ids[place], paths[place], labels[place], float(distance))
            for place, distance in zip(row, far, strict=True)
        )
        for content, row, far in zip(tensors, positions.tolist(), distances.tolist(), strict=True)
    }
