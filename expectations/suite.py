"""What rows of a night should look like, learned from the profile: a Great Expectations suite with its evidence.

A bound comes from the outer quantiles of the user's own images, widened by a share of their spread; how many rows may
break it on an unchanged night comes from held-out images, at the size of the night (`mostly`, given when it is run).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.schemas import CATEGORICAL_PROPERTIES, NULLABLE_PROPERTIES, NUMERIC_PROPERTIES
from darkroom.summary import Severity

_QUANTILES: Final = (0.005, 0.995)
_WIDENED_BY: Final = 0.5  # of the interquartile range, on both sides
_FEW_VALUES: Final = 4  # so many distinct numbers or fewer are a set, not a range
_NIGHTS: Final = 730.0  # one false failure of the whole suite in so many unchanged nights
_SIZES: Final = (10, 25, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
# Images of one session fail together. Held-out sessions are too few to learn by how much: this is assumed at least.
_WITHIN_GROUP: Final = 0.3
# What decides whether an image was prepared as the model's own were; the rest only warns.
CRITICAL: Final = frozenset({"mode", "channels", "bit_depth", "width", "height", "aspect_ratio"})
ALWAYS_MEASURED: Final = ("predicted_class", "confidence")


@dataclass(frozen=True)
class LearnedSuite:
    """`suite` is a Great Expectations suite as JSON says it; `mostly` is n → id of a row expectation → share of rows."""

    suite: Mapping[str, Any]
    mostly: Mapping[int, Mapping[str, float]]

    def to_json(self) -> str:
        """For the bundle."""
        return json.dumps({"suite": self.suite, "mostly": self.mostly}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> LearnedSuite:
        """The other way."""
        stored = json.loads(text)
        return cls(stored["suite"], {int(n): shares for n, shares in stored["mostly"].items()})

    def mostly_at(self, n: int) -> Mapping[str, float]:
        """The shares for a night of n rows: those of the next smaller size, which are never stricter."""
        return self.mostly[max((size for size in self.mostly if size <= n), default=min(self.mostly))]


def learn_suite(profile: pd.DataFrame) -> LearnedSuite:
    """Learn from darkroom.schemas.PROFILE: bounds from all images, `mostly` from the held-out ones."""
    groups = profile["group"].nunique()
    rows = [
        *(_numeric(name, profile[name], groups) for name in NUMERIC_PROPERTIES),
        *(_categorical(name, profile[name], groups) for name in CATEGORICAL_PROPERTIES),
        *(
            _row("expect_column_values_to_not_be_null", name, {}, Severity.CRITICAL, f"{name} is measured", {})
            for name in (*NUMERIC_PROPERTIES, *CATEGORICAL_PROPERTIES, *ALWAYS_MEASURED)
            if name not in NULLABLE_PROPERTIES
        ),
    ]
    rows = [row for row in rows if row is not None]
    return LearnedSuite(
        {"name": "learned", "expectations": [*rows, *_of_the_night()]}, _learn_mostly(rows, profile)
    )


def breaks(expectation: Mapping[str, Any], values: pd.Series) -> NDArray[np.bool_]:
    """Which values break a learned row expectation; a missing value breaks only `not null`."""
    kwargs = expectation["kwargs"]
    if expectation["type"] == "expect_column_values_to_not_be_null":
        return np.asarray(values.isna())
    if expectation["type"] == "expect_column_values_to_be_in_set":
        return np.asarray(values.notna() & ~values.isin(kwargs["value_set"]))
    return np.asarray(values.notna() & ~values.between(kwargs["min_value"], kwargs["max_value"]))


def _numeric(name: str, values: pd.Series, groups: int) -> dict[str, Any] | None:
    known = values.dropna().astype(float)
    if known.empty:
        return None
    evidence = {"n": len(known), "groups": groups}
    severity = Severity.CRITICAL if name in CRITICAL else Severity.WARNING
    distinct = sorted(known.unique().tolist())
    if len(distinct) <= _FEW_VALUES and len(known) >= 10 * len(distinct):
        sentence = f"{name} is {_listed(distinct)}"
        return _row("expect_column_values_to_be_in_set", name, {"value_set": distinct}, severity, sentence, evidence)
    low, high = known.quantile(_QUANTILES[0]), known.quantile(_QUANTILES[1])
    spread = float(known.quantile(0.75) - known.quantile(0.25)) or float(known.std() or 1.0)
    bounds = {
        "min_value": float(min(low - _WIDENED_BY * spread, known.min())),
        "max_value": float(max(high + _WIDENED_BY * spread, known.max())),
    }
    evidence |= {"quantiles": dict(zip(map(str, _QUANTILES), (float(low), float(high)), strict=True)), "iqr": spread}
    sentence = f"{name} between {bounds['min_value']:.4g} and {bounds['max_value']:.4g}"
    return _row("expect_column_values_to_be_between", name, bounds, severity, sentence, evidence)


def _categorical(name: str, values: pd.Series, groups: int) -> dict[str, Any] | None:
    known = values.dropna()
    if known.empty:
        return None
    counts = known.value_counts().sort_index()
    severity = Severity.CRITICAL if name in CRITICAL else Severity.WARNING
    evidence = {"n": len(known), "groups": groups, "counts": {str(key): int(n) for key, n in counts.items()}}
    values_seen = [str(key) for key in counts.index]
    sentence = f"{name} is {_listed(values_seen)}"
    return _row("expect_column_values_to_be_in_set", name, {"value_set": values_seen}, severity, sentence, evidence)


def _row(
    kind: str, column: str, kwargs: Mapping[str, Any], severity: Severity, sentence: str, evidence: Mapping[str, Any]
) -> dict[str, Any]:
    what = "missing" if kind.endswith("not_be_null") else "unexpected"
    identity = f"{column}:{what}"
    meta = {"id": identity, "level": "row", "sentence": sentence, "evidence": dict(evidence)}
    mostly = {} if what == "missing" else {"mostly": {"$PARAMETER": f"mostly {identity}"}}
    return {
        "type": kind,
        "kwargs": {"column": column, **kwargs, **mostly},
        "meta": meta,
        "severity": str(severity),
    }


def _of_the_night() -> list[dict[str, Any]]:
    """Simple bounds on the night's own metrics (expectations.night): what they may be is given when it is run."""

    def bound(column: str, severity: Severity, sentence: str, **limits: str) -> dict[str, Any]:
        kwargs = {name: {"$PARAMETER": parameter} for name, parameter in limits.items()}
        meta = {"id": f"night:{column}", "level": "table", "sentence": sentence, "evidence": {}}
        return {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": column, **kwargs},
            "meta": meta,
            "severity": str(severity),
        }

    return [
        bound(
            "share_quarantined",
            Severity.CRITICAL,
            "few files that cannot be decoded",
            max_value="most_quarantined",
        ),
        bound("share_suspect", Severity.WARNING, "few suspect images", max_value="most_suspect"),
    ]


def _learn_mostly(rows: list[dict[str, Any]], profile: pd.DataFrame) -> dict[int, dict[str, float]]:
    """For each size of a night, the share of rows that must hold so that an unchanged night rarely fails.

    A row of an unchanged night breaks a bound with a probability of which the held-out images give an estimate
    (Jeffreys' prior: bounds that nothing broke may still be broken); images of a session break it together, so that n
    of them are as good as n / (1 + (m − 1) ρ) independent ones, m to a session. The share is the binomial quantile at
    one false failure in 730 nights over all expectations.
    """
    from scipy.stats import binom

    held = profile[profile["split"] == "validation"] if (profile["split"] == "validation").any() else profile
    a_session = len(held) / max(1, held["group"].nunique())
    effect = 1 + (a_session - 1) * _WITHIN_GROUP
    tested = [row for row in rows if "mostly" in row["kwargs"]]
    level = 1 - 1 / (_NIGHTS * max(1, len(tested)))
    table: dict[int, dict[str, float]] = {}
    for n in _SIZES:
        independent = max(1, round(n / effect))
        table[n] = {}
        for row in tested:
            broken = float(breaks(row, held[row["kwargs"]["column"]]).sum())
            chance = (broken / effect + 0.5) / (len(held) / effect + 1)
            most = float(binom.ppf(level, independent, min(0.5, chance))) + 1
            table[n][row["meta"]["id"]] = round(max(0.0, 1 - most / independent), 4)
    return table


def _listed(values: list[Any]) -> str:
    shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return shown[0] if len(shown) == 1 else "one of " + ", ".join(shown)
