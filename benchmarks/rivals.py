"""When others say "drift": their published rules for one number, as functions of reference and night."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Rule = Callable[[Numbers, Numbers], bool]

_LEAST = 1e-4
# NannyML without a wish for chunks cuts the reference into ten.
_CHUNKS = 10


def evidently(reference: Numbers, night: Numbers) -> bool:
    """Its default: up to 1,000 images in the reference p < 0.05 of KS, above it normed Wasserstein ≥ 0.1."""
    if len(reference) <= 1000:
        return _ks_p(reference, night) < 0.05
    return _wasserstein(reference, night) / max(float(reference.std()), 1e-12) >= 0.1


def psi(reference: Numbers, night: Numbers) -> bool:
    """Population stability index over 30 bins of the reference ≥ 0.1, the threshold of Evidently for it."""
    old, new = _binned(reference, night)
    return float(((new - old) * np.log(new / old)).sum()) >= 0.1


def jensen_shannon(reference: Numbers, night: Numbers) -> bool:
    """Jensen–Shannon distance ≥ 0.1: Evidently's and NannyML's."""
    old, new = _binned(reference, night)
    middle = (old + new) / 2
    divergence = ((old * np.log(old / middle)).sum() + (new * np.log(new / middle)).sum()) / 2
    return float(np.sqrt(max(0.0, divergence))) >= 0.1


def nannyml(reference: Numbers, night: Numbers) -> bool:
    """The mean outside mean ± 3 standard deviations of the means of the reference's chunks."""
    means = np.array([chunk.mean() for chunk in np.array_split(reference, _CHUNKS)])
    return abs(float(night.mean()) - float(means.mean())) > 3 * float(means.std())


def deepchecks(reference: Numbers, night: Numbers) -> bool:
    """Earth mover's distance ≥ 0.1, of both without their outer 2.5 %, on a range from 0 to 1 (image properties)."""
    inner = [one[(one >= np.quantile(one, 0.025)) & (one <= np.quantile(one, 0.975))] for one in (reference, night)]
    both = np.concatenate(inner)
    width = float(both.max() - both.min())
    return width > 0 and _wasserstein(*inner) / width >= 0.1


def whylogs(reference: Numbers, night: Numbers) -> bool:
    """P < 0.05 of KS, for each column by itself."""
    return _ks_p(reference, night) < 0.05


RULES: Mapping[str, Rule] = {
    "evidently": evidently,
    "psi": psi,
    "jensen_shannon": jensen_shannon,
    "nannyml": nannyml,
    "deepchecks": deepchecks,
    "whylogs": whylogs,
}


def _wasserstein(first: Numbers, second: Numbers) -> float:
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(first, second))


def _ks_p(first: Numbers, second: Numbers) -> float:
    from scipy.stats import ks_2samp

    return float(ks_2samp(first, second, method="asymp").pvalue)


def _binned(reference: Numbers, night: Numbers) -> tuple[Numbers, Numbers]:
    """Shares of both in equal bins over the range of both; none is empty."""
    edges = np.histogram_bin_edges(np.concatenate([reference, night]), 30)
    shares = [np.maximum(np.histogram(one, edges)[0] / len(one), _LEAST) for one in (reference, night)]
    return shares[0], shares[1]
