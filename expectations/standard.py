"""What a bundle knows of single images: signs of damage, how steady answers are, when a class is plausible; as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from expectations.damage import DamageScale
from expectations.outliers import FEWEST_HELD_OUT
from expectations.steadiness import Steadiness

# Of held-out images, the share whose own class is among the plausible ones.
COVERAGE: Final = 0.9


@dataclass(frozen=True)
class Standard:
    """Beside Knowledge. `plausible_from`: calibrated probability from which a class is plausible (None: too few images
    were held out). `damage`, `steadiness`: None in a bundle that was sealed without.
    """

    plausible_from: float | None
    damage: DamageScale | None = None
    steadiness: Steadiness | None = None

    def to_json(self) -> str:
        """For the bundle: what is not in the profile."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Standard:
        """The other way."""
        told: dict[str, Any] = json.loads(text)
        return cls(
            told["plausible_from"],
            None if told["damage"] is None else DamageScale.from_dict(told["damage"]),
            None if told["steadiness"] is None else Steadiness.from_dict(told["steadiness"]),
        )


@dataclass(frozen=True)
class Track:
    """How often the bundle was right: `accuracy` of `n` images it had not seen; of the `clear` ones of them, which have
    one plausible class and nothing unusual, `clear_wrong` were wrong.
    """

    accuracy: float
    n: int
    clear: int
    clear_wrong: int


def learn_plausible(calibrated: NDArray[np.floating[Any]], own: NDArray[np.integer[Any]]) -> float | None:
    """From which calibrated probability (n, k) a class is plausible, so that COVERAGE of held-out images have their own
    class (n,) among the plausible ones: split conformal sets (Sadinle, Lei and Wasserman, arXiv 1609.00451).
    """
    n = len(own)
    if n < FEWEST_HELD_OUT:
        return None
    of_own = np.sort(calibrated[np.arange(n), own])
    return float(of_own[int(np.floor((1 - COVERAGE) * (n + 1))) - 1])


def track_of(
    held: pd.DataFrame,
    calibrated: NDArray[np.floating[Any]],
    ordinary: NDArray[np.bool_],
    plausible_from: float | None,
    accuracy: float,
) -> Track:
    """From held-out rows of darkroom.schemas.PROFILE, their calibrated probabilities (n, k), and which are `ordinary`.

    `accuracy` is the honest one, restated where an audit had to.
    """
    clear = ordinary & (np.sort(calibrated, axis=1)[:, -2] < (1.0 if plausible_from is None else plausible_from))
    wrong = (held["predicted_class"] != held["label"]).to_numpy()
    return Track(accuracy, len(held), int(clear.sum()), int((clear & wrong).sum()))
