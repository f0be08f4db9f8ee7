"""Which rows of a night are worth a label: the most doubtful, and some by lot, so that accuracy is told unbiased."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.reasons import Verdict
from darkroom.summary import Share

DOUBTFUL: Final = "doubtful"
LESS_SURE: Final = "less sure"
SURER: Final = "surer"
TWO_SIDED_90: Final = 1.645
_OF: Final = "-of-"


def worth_labelling(rows: pd.DataFrame, count: int, by_lot: float, seed: int) -> pd.DataFrame:
    """At most `count` rows of a night (predictions schema): a share `by_lot` of them drawn, the others the most
    doubtful; the columns `stratum`, `stratum_rows`, `weight` (rows that one stands for) are added.

    The doubtful are chosen for certain and stand for themselves. The rest is cut at its median confidence, and of each
    half as many are drawn: an estimate that weighs the strata by their rows is unbiased, whatever the doubtful are.
    """
    count = min(count, len(rows))
    # By the content, so that the same night gives the same choice in whatever order its rows were read.
    ordered = rows.sort_values("content_id")
    doubt = ordered.assign(trusted=ordered["verdict"] != Verdict.SUSPECT).sort_values(
        ["trusted", "confidence"], kind="stable"
    )
    # Both halves of the rest are drawn from, or it stands for nothing.
    by_chance = max(2, round(count * by_lot)) if by_lot else 0
    certain = doubt.index[: max(0, count - by_chance)]
    rest = ordered.drop(index=certain).sort_values("confidence", kind="stable").index
    random = np.random.default_rng([seed, len(rows)])
    chosen = [_stratum(rows, certain.to_numpy(), len(certain), DOUBTFUL)]
    left = count - len(certain)
    halves = ((LESS_SURE, rest[: len(rest) // 2]), (SURER, rest[len(rest) // 2 :]))
    for number, (name, half) in enumerate(halves):
        drawn = min(len(half), left // (2 - number))
        chosen.append(_stratum(rows, random.choice(half.to_numpy(), drawn, replace=False), len(half), name))
        left -= drawn
    return pd.concat(chosen)


def _stratum(rows: pd.DataFrame, places: NDArray[Any], size: int, name: str) -> pd.DataFrame:
    weight = size / len(places) if len(places) else 0.0
    return rows.loc[places].assign(stratum=name, stratum_rows=size, weight=weight)


@dataclass(frozen=True)
class Realised:
    """Accuracy of a night by its labels. design: `strata` (weighed by what `worth_labelling` drew), `as given` (nobody
    knows how the images were chosen). `of`: rows of the night that it stands for. Shares; 90 % interval.
    """

    labelled: int
    accuracy: float
    low: float
    high: float
    design: str
    of: int


def choice_name(what: str, rows: int) -> str:
    """The name of a choice from so many rows: more may be scored that night, and the choice does not stand for them."""
    return f"{what}{_OF}{rows}"


def realised(right: NDArray[np.bool_], strata: pd.Series, stratum_rows: pd.Series, rows: int) -> Realised:
    """From labelled rows of a night of so many `rows`: right (n,); the stratum of each, as `choice/name` with a
    `choice_name`, and its number of rows (missing: nobody knows).

    Labels of strata are weighed by the rows that they stand for, as long as every stratum of the choice has one: labels
    may be missing at random inside it (post-stratification: Särndal, Swensson & Wretman, "Model Assisted Survey
    Sampling", 1992, 7.6). The interval is Wilson's for the sample size that has this variance (Korn & Graubard, 1998).
    """
    known = strata.notna().to_numpy() & stratum_rows.notna().to_numpy()
    sizes = dict(zip(strata[known], stratum_rows[known].astype(int), strict=True))
    parts = {name: right[(strata == name).to_numpy()] for name in sizes}
    choices: dict[str, dict[str, int]] = {}
    for name, size in sizes.items():
        choices.setdefault(name.rpartition("/")[0], {})[name] = size
    # Strata that nobody labelled would stand for nothing: then the others do not stand for the night.
    complete = [choice for name, choice in choices.items() if name.endswith(f"{_OF}{sum(choice.values())}")]
    if not complete:
        n = len(right)
        value = float(right.mean())
        return Realised(n, value, *wilson(value, n), "as given", rows)
    # Of several choices of one night the one with the most labels.
    own = max(complete, key=lambda choice: sum(len(parts[name]) for name in choice))
    whole = sum(own.values())
    value = sum(size / whole * float(parts[name].mean()) for name, size in own.items())
    variance = 0.0
    for name, size in own.items():
        n = len(parts[name])
        smoothed = (parts[name].sum() + 1) / (n + 2)
        variance += (size / whole) ** 2 * smoothed * (1 - smoothed) / n * (1 - n / max(size, n))
    labelled = sum(len(parts[name]) for name in own)
    centre = min(max(value, 0.5 / labelled), 1 - 0.5 / labelled)
    effective = centre * (1 - centre) / variance if variance > 0 else float("inf")
    low, high = (value, value) if not np.isfinite(effective) else wilson(value, effective)
    return Realised(labelled, value, low, high, "strata", whole)


def wilson(share: float, n: float, z: float = TWO_SIDED_90) -> tuple[float, float]:
    """Wilson's interval of a share of n; z = 1.645 is 90 %."""
    if n <= 0:
        return 0.0, 1.0
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def reliability(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], bins: int = 5) -> tuple[Share, ...]:
    """Share of right answers, with Wilson's interval, by calibrated confidence in bins of equal width; `reference` is
    the mean confidence, which it should equal.
    """
    which = np.minimum((np.asarray(confidence, np.float64) * bins).astype(int), bins - 1)
    told = []
    for one in np.unique(which):
        inside = which == one
        value = float(right[inside].mean())
        low, high = wilson(value, int(inside.sum()))
        told.append(
            Share(
                name=f"{one / bins:.1f} to {(one + 1) / bins:.1f}",
                value=value,
                low=low,
                high=high,
                reference=float(confidence[inside].mean()),
            )
        )
    return tuple(told)
