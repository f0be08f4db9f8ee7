"""A smooth function through a few noisy points, and how far it can be trusted away from them (a Gaussian process)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Both chosen on real photos by the error on kinds of corruption that the points do not hold; see docs/accuracy.md.
_LENGTH: Final = 1.0  # in root mean squared standard deviations of the coordinates
_LINEAR: Final = 0.5  # weight of the linear part, which carries on where the points end
_JITTER: Final = 1e-4


@dataclass(frozen=True)
class Smooth:
    """Points x (c, d) with values y (c,) whose noise has the variance `noise` (c,); see Rasmussen & Williams,
    "Gaussian Processes for Machine Learning", 2006, section 2.2. The kernel is a squared exponential plus a linear one,
    on standardised coordinates.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    noise: NDArray[np.float64]

    def at(self, where: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Value and its standard deviation (m,), noise left out, at (m, d)."""
        from scipy.linalg import cho_factor, cho_solve

        centre, spread = self.x.mean(axis=0), self.x.std(axis=0)
        spread = np.where(spread > 1e-9, spread, 1.0)
        points, asked = (self.x - centre) / spread, (np.asarray(where, np.float64) - centre) / spread
        middle, unit = float(self.y.mean()), max(float(self.y.std()), 1e-3)
        covariance = _kernel(points, points) + np.diag(self.noise / unit**2 + _JITTER)
        factor = cho_factor(covariance)
        across = _kernel(asked, points)
        value = middle + unit * (across @ cho_solve(factor, (self.y - middle) / unit))
        own = 1 + _LINEAR * (asked**2).mean(axis=1)
        left = own - np.einsum("mc,cm->m", across, cho_solve(factor, across.T))
        return value, unit * np.sqrt(np.maximum(left, 0))


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    size = a.shape[1]
    product = a @ b.T
    apart = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * product
    return np.asarray(np.exp(-np.maximum(apart, 0) / size / (2 * _LENGTH**2)) + _LINEAR * product / size)
