"""How far an image is from training: by its properties, by its embedding; and whether to trust its prediction."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.reasons import Suspicion, Verdict
from darkroom.schemas import NUMERIC_PROPERTIES
from expectations.accuracy import Calibration

# With n held-out images the smallest conformal p is 1 / (n + 1): under 99 nothing could ever be flagged at 1 in 100.
FEWEST_HELD_OUT: Final = 99
# Of images like the held-out ones, one in a hundred is flagged by each score.
FLAGGED: Final = 0.01
NEIGHBOURS: Final = 10
_LARGEST_BANK: Final = 20_000
_ROWS_AT_ONCE: Final = 512


@dataclass(frozen=True)
class Unusual:
    """For n rows: conformal p of the most unusual property (nan: cannot be said), and its name."""

    p: NDArray[np.float64]
    named: list[str | None]


@dataclass(frozen=True)
class PropertyOutliers:
    """Median and spread of each property below and above it, on training images; the scores of held-out images."""

    names: tuple[str, ...]
    median: tuple[float, ...]
    below: tuple[float, ...]
    above: tuple[float, ...]
    held_out: tuple[float, ...]

    def score(self, rows: pd.DataFrame) -> Unusual:
        """P on the *maximum* over the properties: a p for each, corrected, could never be small enough to fire."""
        scores = self._scores(rows)
        worst = scores.argmax(axis=1)
        largest = scores[np.arange(len(rows)), worst]
        p = conformal(largest, np.asarray(self.held_out))
        return Unusual(
            p, [self.names[column] if value > 0 else None for column, value in zip(worst, largest, strict=True)]
        )

    def _scores(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        values = rows[list(self.names)].to_numpy(np.float64)
        off = values - np.asarray(self.median)
        spread = np.where(off < 0, self.below, self.above)
        return np.asarray(np.nan_to_num(np.abs(off) / spread))

    def to_json(self) -> str:
        """For the bundle."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PropertyOutliers:
        """The other way."""
        return cls(**{name: tuple(values) for name, values in json.loads(text).items()})


def learn_outliers(profile: pd.DataFrame) -> PropertyOutliers:
    """Learn from darkroom.schemas.PROFILE: spreads on training rows, scores on held-out ones."""
    train = profile[profile["split"] == "train"]
    names = [name for name in NUMERIC_PROPERTIES if train[name].notna().any()]
    median, below, above = [], [], []
    for name in names:
        values = train[name].dropna().to_numpy(np.float64)
        centre = float(np.median(values))
        # Where most values are one and the same, any other is far away: a hundredth of the value is the unit then.
        floor = max(abs(centre) * 0.01, 1e-3)
        low, high = np.quantile(values, [0.05, 0.95])
        median.append(centre)
        below.append(max(float(centre - low), floor))
        above.append(max(float(high - centre), floor))
    learned = PropertyOutliers(tuple(names), tuple(median), tuple(below), tuple(above), ())
    held = profile[profile["split"] == "validation"]
    scores = learned._scores(held).max(axis=1) if len(held) else np.zeros(0)
    return PropertyOutliers(
        learned.names, learned.median, learned.below, learned.above, tuple(np.sort(scores).tolist())
    )


@dataclass(frozen=True)
class NearestNeighbours:
    """Out of distribution by distance: `bank` (m, e) float16, normalised embeddings of training images; `held_out`, the
    distances of held-out images to it, sorted (Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors",
    arXiv 2204.06507). It also fires on blurred images of known classes: a night is never an alarm by it alone.
    """

    bank: NDArray[np.float16]
    held_out: NDArray[np.float64]

    def score(self, embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Conformal p of (n, e) embeddings; nan where too few images were held out."""
        return conformal(self.distance(embeddings), self.held_out)

    def distance(self, embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Mean distance (n,) to the k nearest; memory is that of some hundred rows against the bank."""
        bank = self.bank.astype(np.float32)
        k = min(NEIGHBOURS, len(bank))
        parts = [np.zeros(0)]
        for start in range(0, len(embeddings), _ROWS_AT_ONCE):
            cosine = normalised(embeddings[start : start + _ROWS_AT_ONCE]) @ bank.T
            nearest = np.partition(cosine, -k, axis=1)[:, -k:].astype(np.float64)
            parts.append(np.sqrt(np.maximum(0, 2 - 2 * nearest)).mean(axis=1))
        return np.concatenate(parts)

    def nearest(self, embeddings: NDArray[np.floating[Any]], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Positions in the bank, and distances, of the k nearest of (n, e) embeddings, the nearest first."""
        cosine = (normalised(embeddings) @ self.bank.astype(np.float32).T).astype(np.float64)
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        return order, np.sqrt(np.maximum(0, 2 - 2 * np.take_along_axis(cosine, order, 1)))

    def to_bytes(self) -> bytes:
        """For the bundle."""
        file = io.BytesIO()
        np.savez(file, bank=self.bank, held_out=self.held_out)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> NearestNeighbours:
        """The other way."""
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return cls(stored["bank"], stored["held_out"])


def learn_out_of_distribution(
    embeddings: NDArray[np.floating[Any]], split: NDArray[Any], *, seed: int = 0
) -> NearestNeighbours:
    """Bank from training rows, distances from held-out ones: what calibrates is never what is searched."""
    train = np.flatnonzero(split == "train")
    if len(train) > _LARGEST_BANK:
        train = np.sort(np.random.default_rng(seed).choice(train, _LARGEST_BANK, replace=False))
    empty = NearestNeighbours(normalised(embeddings[train]).astype(np.float16), np.zeros(0))
    held = empty.distance(embeddings[split == "validation"])
    return NearestNeighbours(empty.bank, np.sort(held))


def normalised(embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Rows of length one."""
    rows = np.asarray(embeddings, np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def conformal(scores: NDArray[np.floating[Any]], held_out: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(1 + held-out scores at least as large) / (n + 1); nan where n is under FEWEST_HELD_OUT. `held_out` is sorted."""
    n = len(held_out)
    if n < FEWEST_HELD_OUT:
        return np.full(len(scores), np.nan)
    as_large = n - np.searchsorted(held_out, scores, side="left")
    return np.asarray((1 + as_large) / (n + 1))


@dataclass(frozen=True)
class Judged:
    """For n rows: the verdict, and why."""

    verdicts: list[str]
    reasons: list[list[str]]


def judge_rows(
    confidence: NDArray[np.floating[Any]],
    unusual: Unusual,
    far: NDArray[np.float64],
    expectations: Sequence[Sequence[str]],
    calibration: Calibration,
) -> Judged:
    """`suspect` for whatever speaks against a row: an unusual property, an embedding far from training, a confidence at
    which held-out images were guesses, a failed expectation (already named as a reason).
    """
    reasons = []
    for row, failed in enumerate(expectations):
        why = []
        if unusual.p[row] <= FLAGGED:
            why.append(f"{Suspicion.UNUSUAL_PROPERTY}:{unusual.named[row]}")
        if far[row] <= FLAGGED:
            why.append(str(Suspicion.OUT_OF_DISTRIBUTION))
        if confidence[row] <= calibration.low_confidence:
            why.append(str(Suspicion.LOW_CONFIDENCE))
        reasons.append([*why, *failed])
    return Judged([str(Verdict.SUSPECT if why else Verdict.TRUSTED) for why in reasons], reasons)
