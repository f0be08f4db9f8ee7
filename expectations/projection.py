"""The embedding in 32 numbers: its principal components, learned once and kept in every row."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.schemas import EMBEDDING_COMPONENTS


@dataclass(frozen=True)
class Projection:
    """centre (e,), axes (e, EMBEDDING_COMPONENTS); axes that the embedding does not have are zero."""

    centre: NDArray[np.float32]
    axes: NDArray[np.float32]

    def apply(self, embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(n, e) → (n, EMBEDDING_COMPONENTS)."""
        return np.asarray((np.asarray(embeddings, np.float32) - self.centre) @ self.axes, np.float32)

    def to_bytes(self) -> bytes:
        """For the bundle."""
        file = io.BytesIO()
        np.savez(file, centre=self.centre, axes=self.axes)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Projection:
        """The other way."""
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return cls(stored["centre"], stored["axes"])


def learn_projection(embeddings: NDArray[np.floating[Any]]) -> Projection:
    """Principal components of embeddings (n, e); the sign of each is fixed by its largest weight."""
    rows = np.asarray(embeddings, np.float64)
    centre = rows.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(rows - centre, rowvar=False).reshape(rows.shape[1], rows.shape[1]))
    kept = vectors[:, ::-1][:, :EMBEDDING_COMPONENTS]
    kept = kept * np.sign(kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])])
    axes = np.zeros((rows.shape[1], EMBEDDING_COMPONENTS), np.float32)
    axes[:, : kept.shape[1]] = kept
    return Projection(centre.astype(np.float32), axes)
