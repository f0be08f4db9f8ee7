"""Rows of unchanged nights, made of numbers: sessions that are alike inside, as far as rho says."""

from __future__ import annotations

import numpy as np
import pandas as pd

from darkroom.schemas import CATEGORICAL_PROPERTIES, EMBEDDING_COMPONENTS, NUMERIC_PROPERTIES

CLASSES = ("ash", "birch", "cedar", "dogwood")


def rows_of_sessions(seed: int, sessions: int, images: int = 20, rho: float = 0.3) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows with the columns that drift reads, `images` a session, and the session of each."""
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(sessions), images)

    def normal(columns: int) -> np.ndarray:
        between = rng.normal(size=(sessions, columns))[session]
        return np.sqrt(rho) * between + np.sqrt(1 - rho) * rng.normal(size=(len(session), columns))

    rows = pd.DataFrame(normal(len(NUMERIC_PROPERTIES)), columns=list(NUMERIC_PROPERTIES))
    for name in CATEGORICAL_PROPERTIES:
        rows[name] = np.where(rng.random(len(rows)) < 0.9, "usual", "rare")
    logits = np.exp(2 * normal(len(CLASSES)))
    probabilities = (logits / logits.sum(axis=1, keepdims=True)).astype(np.float32)
    rows["probabilities"] = list(probabilities)
    rows["predicted_class"] = np.array(CLASSES)[probabilities.argmax(axis=1)]
    rows["confidence"] = probabilities.max(axis=1)
    rows["embedding"] = list(normal(EMBEDDING_COMPONENTS).astype(np.float32))
    rows["out_of_distribution_p"] = rng.random(len(rows))
    return rows, session
