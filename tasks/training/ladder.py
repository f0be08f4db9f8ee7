"""How a network does on worse and worse images: held-out images through the corruption ladder and the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.progress import Progress
from darkroom.reasons import FileMistake
from darkroom.schemas import NUMERIC_PROPERTIES
from tasks.corruptions import KINDS, STRENGTHS, corrupt_batch
from tasks.preprocessing import Preprocessing, to_tensor
from tasks.properties import measure_pixels
from tasks.training.rows import Rows

_BATCH = 64

# (n, h, w, 3) tensors → (n, …) outputs.
Forward = Callable[[NDArray[np.float32]], Any]
# (n, h, w, 3) pixels, uint8 → (n, p).
Measure = Callable[[NDArray[np.uint8]], Any]


def climb(
    forward: Forward,
    resized: Rows | NDArray[Any],
    rows: Sequence[int],
    preprocessing: Preprocessing,
    seed: int,
    progress: Progress,
    kinds: Sequence[str] = KINDS,
    measure: Measure | None = None,
) -> NDArray[np.float32]:
    """Outputs (kinds, strengths, images, …) for some rows of `resized` (h, w, 3), 0 … 255, in the order of `rows`.
    With `measure` its columns stand behind those of `forward`.

    Images are corrupted at the model's own size, after geometry: one stage for all, because a corruption of the large
    photo is half undone by making it small. Pixels between whole numbers are rounded first.
    """
    found: list[list[NDArray[Any]]] = []
    done, total = 0, len(kinds) * len(STRENGTHS) * len(rows)
    for kind in kinds:
        strengths = []
        for strength in STRENGTHS:
            parts = []
            for start in range(0, len(rows), _BATCH):
                part = np.asarray(rows[start : start + _BATCH], np.int64)
                worse = corrupt_batch(_whole(resized[part]), kind, strength, seed, ids=part.tolist())
                parts.append(_seen(worse, forward, preprocessing, measure))
                done += len(part)
                progress("ladder", done, total, f"{kind} {strength}")
            strengths.append(np.concatenate(parts))
        found.append(strengths)
    return np.array(found)


def as_they_are(
    forward: Forward,
    resized: Rows,
    rows: Sequence[int],
    preprocessing: Preprocessing,
    measure: Measure | None = None,
) -> NDArray[np.float32]:
    """The same of images that nothing was done to: (images, …)."""
    parts = []
    for start in range(0, len(rows), _BATCH):
        pixels = _whole(resized[np.asarray(rows[start : start + _BATCH], np.int64)])
        parts.append(_seen(pixels, forward, preprocessing, measure))
    return np.concatenate(parts)


# What other programs do to the pixels before they hand over the files (expectations.prepared_before).
MISTAKES: Final[Mapping[FileMistake, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    FileMistake.SWAPPED: lambda pixels: pixels[..., ::-1],
    FileMistake.TURNED: lambda pixels: np.rot90(pixels, axes=(1, 2)),
    FileMistake.NEGATIVE: lambda pixels: 255 - pixels,
    FileMistake.COLOURLESS: lambda pixels: _grey(pixels),
}


def prepared_wrongly(
    forward: Forward, resized: Rows, rows: Sequence[int], preprocessing: Preprocessing
) -> Mapping[FileMistake, NDArray[np.float32]]:
    """Outputs (images, …) by MISTAKES; without those that give pixels of another shape."""
    found: dict[FileMistake, list[NDArray[np.float32]]] = {name: [] for name in MISTAKES}
    for start in range(0, len(rows), _BATCH):
        pixels = _whole(resized[np.asarray(rows[start : start + _BATCH], np.int64)])
        for name, change in MISTAKES.items():
            changed = np.ascontiguousarray(change(pixels))
            if changed.shape == pixels.shape:
                found[name].append(_seen(changed, forward, preprocessing, None))
    return {name: np.concatenate(parts) for name, parts in found.items() if parts}


def properties_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What is measured on pixels (n, h, w, 3): (n, p), in the order of darkroom.schemas.NUMERIC_PROPERTIES."""
    measured = [measure_pixels(one) for one in pixels]
    return np.array([[one[name] for name in NUMERIC_PROPERTIES if name in one] for one in measured], np.float32)


def some_of(rows: Sequence[int], most: int, seed: int) -> list[int]:
    """At most so many of the rows, drawn by seed, in order."""
    if len(rows) <= most:
        return list(rows)
    return sorted(np.random.default_rng([seed, most]).choice(np.asarray(rows), most, replace=False).tolist())


def _seen(
    pixels: NDArray[np.uint8], forward: Forward, preprocessing: Preprocessing, measure: Measure | None
) -> NDArray[np.float32]:
    outputs = np.asarray(forward(to_tensor(pixels, preprocessing.values)), np.float32)
    return outputs if measure is None else np.concatenate([outputs, np.asarray(measure(pixels), np.float32)], axis=1)


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    return np.repeat(_whole(luma)[..., np.newaxis], 3, axis=-1)


def _whole(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.uint8)
