"""Where the embedding of held-out images goes when all of them look otherwise: what is left after that is the classes'.

Light and colours push every image the same way, and with it the night's mean; known from the corruption ladder and from
the known mistakes, it is taken off before a night is split into classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# What light and colours move. At the model's own size, where the ladder is climbed, these are as on the photos; detail
# is not.
LIGHT: Final = (
    "luminance_mean",
    "luminance_std",
    "luminance_p01",
    "luminance_p99",
    "contrast",
    "saturation",
    "red_share",
    "green_share",
    "blue_share",
)
# A condition of the ladder is like tonight where so much of tonight's shift is left beside it; between and beyond
# strengths by so much.
_UNLIKE: Final = 0.35
_SCALE: Final = (0.5, 2.0)


@dataclass(frozen=True)
class Displaced:
    """Conditions of the ladder by their shift of LIGHT (c, 9), in standard deviations of training, and of the embedding
    (c, d); and the embedding's shift by name of mistake (see prepared_before.Mistake).
    """

    light: tuple[tuple[float, ...], ...]
    embedding: tuple[tuple[float, ...], ...]
    mistakes: Mapping[str, tuple[float, ...]]

    def by_light(self, off: Mapping[str, float]) -> Floats | None:
        """Of images whose properties moved so, name → standard deviations; None where no condition moved them so."""
        tonight = np.array([off.get(name, 0.0) for name in LIGHT])
        known = np.asarray(self.light)
        length = np.maximum((known**2).sum(axis=1), 1e-12)
        scale = np.clip(known @ tonight / length, *_SCALE)
        left = np.linalg.norm(tonight - scale[:, None] * known, axis=1)
        best = int(left.argmin())
        if left[best] > _UNLIKE * np.linalg.norm(tonight):
            return None
        return np.asarray(scale[best] * np.asarray(self.embedding[best]))

    def by_mistake(self, name: str) -> Floats | None:
        """Of images that were prepared so; None where it is not known."""
        return np.asarray(self.mistakes[name]) if name in self.mistakes else None
