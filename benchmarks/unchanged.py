"""A generated world of unchanged nights, as numbers: shapes as image properties have them, sessions that are alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.schemas import CATEGORICAL_PROPERTIES, EMBEDDING_COMPONENTS, NUMERIC_PROPERTIES
from expectations.reference import DriftReference, learn_reference
from expectations.sketch import BINS
from expectations.verification import learn_verified

CLASSES = ("ash", "birch", "cedar", "dogwood", "elm", "fir")
SIZES = (50, 100, 200, 500, 1000)
FOLDERS, CAMERAS = 3, 2
_LATENT = len(NUMERIC_PROPERTIES) + len(CATEGORICAL_PROPERTIES) + len(CLASSES) + EMBEDDING_COMPONENTS + 1


@dataclass(frozen=True)
class World:
    """Sessions of `session` images; ρ is the share of the variance that is between them."""

    session: int
    rho: float

    def latent(self, random: np.random.Generator, nights: int, n: int, columns: int) -> NDArray[np.float32]:
        """Normals (columns, nights, n) of unit variance, alike inside a session."""
        own = random.standard_normal((columns, nights, n), np.float32)
        if self.session == 1 or not self.rho:
            return own
        sessions = -(-n // self.session)
        between = random.standard_normal((columns, nights, sessions), np.float32)
        own *= np.float32(np.sqrt(1 - self.rho))
        own += np.float32(np.sqrt(self.rho)) * np.repeat(between, self.session, axis=2)[..., :n]
        return own

    def sessions(self, n: int) -> NDArray[np.int64]:
        """The session of each of n images."""
        return np.arange(n) // self.session


def values(latent: NDArray[np.float32]) -> dict[tuple[str, str], NDArray[Any]]:
    """(family, metric) → values (…), from latents (columns, …): each image property with a shape of its own kind."""
    from scipy.special import ndtr

    found: dict[tuple[str, str], NDArray[Any]] = {}
    rows = iter(latent)
    common = None
    for name in NUMERIC_PROPERTIES:
        z = next(rows)
        # Tonal properties of an image depend on each other.
        common = z if common is None else common
        z = z if z is common else np.float32(0.6) * common + np.float32(0.8) * z
        found["properties", name] = {
            "width": np.where(z > 1.2, 1024.0, 640.0),
            "height": np.where(z > 1.2, 768.0, np.where(z < -1, 400.0, 480.0)),
            "bit_depth": np.full(z.shape, 8.0),
            "jpeg_quality": np.where(z > 1.5, 75.0, np.where(z < -1.8, 90.0, 95.0)),
            "clipped_black": np.maximum(0.0, z - 1.3),
            "clipped_white": np.maximum(0.0, z - 0.3),
            "noise": np.exp(z),
            "bytes_per_pixel": np.exp(0.7 * z),
            "luminance_p01": np.floor(8 + 8 * z).clip(0),
        }.get(name, z)
    shares = dict(zip(CATEGORICAL_PROPERTIES, (0.02, 0.10, 0.005, 0.30, 0.03, 0.0), strict=True))
    for name in CATEGORICAL_PROPERTIES:
        z = next(rows)
        found["properties", name] = np.where(ndtr(z) < shares[name], "rare", "usual")
    logits = np.exp(3 * np.stack([next(rows) for _ in CLASSES]))
    probabilities = logits / logits.sum(axis=0)
    for row, name in enumerate(CLASSES):
        found["probabilities", name] = probabilities[row]
    found["predicted_classes", "predicted_class"] = np.asarray(CLASSES)[probabilities.argmax(axis=0)]
    for component in range(EMBEDDING_COMPONENTS):
        found["embedding", f"component_{component + 1:02d}"] = next(rows)
    found["out_of_distribution", "share_far"] = (ndtr(next(rows)) <= 0.05).astype(float)
    return found


def frame(found: Mapping[tuple[str, str], NDArray[Any]]) -> pd.DataFrame:
    """Values (n,) as rows of the predictions schema, as far as drift reads them."""
    rows = pd.DataFrame({name: found["properties", name] for name in (*NUMERIC_PROPERTIES, *CATEGORICAL_PROPERTIES)})
    rows["probabilities"] = list(np.stack([found["probabilities", name] for name in CLASSES], axis=1))
    rows["predicted_class"] = found["predicted_classes", "predicted_class"]
    components = [found["embedding", f"component_{k + 1:02d}"] for k in range(EMBEDDING_COMPONENTS)]
    rows["embedding"] = list(np.stack(components, axis=1))
    rows["out_of_distribution_p"] = np.where(found["out_of_distribution", "share_far"] > 0, 0.01, 0.5)
    return rows


def draw(world: World, random: np.random.Generator, count: int, n: int) -> dict[tuple[str, str], NDArray[Any]]:
    """Values (count, n) of nights."""
    return values(world.latent(random, count, n, _LATENT))


def learned(
    world: World, found: Mapping[tuple[str, str], NDArray[Any]], held: float, *, seed: int | None = None
) -> DriftReference:
    """A reference from values (n,), of which a share was held out, whole sessions; with a seed it is verified."""
    rows = frame(found)
    session = world.sessions(len(rows))
    held_out = session < held * (session.max() + 1)
    if seed is not None:
        return learn_verified(rows, held_out, session, CLASSES, seed=seed)
    return learn_reference(rows, held_out, session, CLASSES)


def bundle(world: World, random: np.random.Generator, images: int, held: float) -> DriftReference:
    """A reference of so many images."""
    return learned(world, {key: column[0] for key, column in draw(world, random, 1, images).items()}, held)


@dataclass(frozen=True)
class Nights:
    """Sketches of nights, cut by folder and camera: counts (nights, folders, cameras, m, BINS), clipped sums and images
    (nights, folders, cameras, m).
    """

    counts: NDArray[np.int64]
    clipped: NDArray[np.float64]
    present: NDArray[np.int64]

    def whole(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Of each night."""
        return self.counts.sum(axis=(1, 2)), self.clipped.sum(axis=(1, 2)), self.present.sum(axis=(1, 2))

    def slices(self) -> list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]:
        """Of each folder, and of each camera."""
        folders = [
            (self.counts[:, k].sum(1), self.clipped[:, k].sum(1), self.present[:, k].sum(1)) for k in range(FOLDERS)
        ]
        cameras = [
            (self.counts[:, :, k].sum(1), self.clipped[:, :, k].sum(1), self.present[:, :, k].sum(1))
            for k in range(CAMERAS)
        ]
        return folders + cameras


def sketched(
    reference: DriftReference,
    world: World,
    random: np.random.Generator,
    found: Mapping[tuple[str, str], NDArray[Any]],
    moved: Mapping[tuple[str, str], float] | None = None,
) -> Nights:
    """Values (count, n) of nights as sketches, each session in a folder and of a camera; `moved` shifts metrics by
    training standard deviations.
    """
    count, n = next(iter(found.values())).shape
    session = world.sessions(n)
    folder = random.integers(0, FOLDERS, (count, int(session.max()) + 1))[:, session]
    camera = random.integers(0, CAMERAS, (count, int(session.max()) + 1))[:, session]
    cell = ((np.arange(count)[:, None] * FOLDERS + folder) * CAMERAS + camera).ravel()
    cells, m = count * FOLDERS * CAMERAS, len(reference.metrics)
    counts = np.zeros((cells, m, BINS), np.int64)
    clipped = np.zeros((cells, m))
    for row, known in enumerate(reference.metrics):
        metric, key = known.metric, (known.metric.family, known.metric.name)
        column = found[key].ravel()
        if metric.numeric:
            numbers = column.astype(np.float64) + (moved or {}).get(key, 0.0) * known.unit
            codes = np.searchsorted(metric.edges, numbers, side="right")
            clipped[:, row] = np.bincount(cell, weights=metric.clip(numbers), minlength=cells)
        else:
            codes = np.full(len(column), len(metric.categories))
            for number, name in enumerate(metric.categories):
                codes[column == name] = number
        counts[:, row] = np.bincount(cell * BINS + codes, minlength=cells * BINS).reshape(cells, BINS)
    shape = (count, FOLDERS, CAMERAS, m)
    present = counts.sum(axis=2)
    return Nights(counts.reshape(*shape, BINS), clipped.reshape(shape), present.reshape(shape))


def nights(
    reference: DriftReference,
    world: World,
    random: np.random.Generator,
    count: int,
    n: int,
    moved: Mapping[tuple[str, str], float] | None = None,
) -> Nights:
    """`count` nights of n images."""
    return sketched(reference, world, random, draw(world, random, count, n), moved)
