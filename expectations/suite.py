"""What rows of a night should look like, learned from the profile: a Great Expectations suite with its evidence.

A bound comes from the outer quantiles of the user's own images, widened by a share of their spread; how many rows may
break it on an unchanged night comes from held-out images, at the size of the night (`mostly`, given when it is run).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
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
# However rare they are in training, fewer than this are no reason to wake somebody.
_FLOORS: Final = {"suspect": 0.05, "quarantined": 0.02}
_SIZES: Final = (10, 25, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
# Images of one session fail together. Held-out sessions are too few to learn by how much: this is assumed at least.
_WITHIN_GROUP: Final = 0.3
# What decides whether an image was prepared as the model's own were; the rest only warns.
CRITICAL: Final = frozenset({"mode", "channels", "bit_depth", "width", "height", "aspect_ratio"})
# Of each kind, what it says beside its column: one of these at least.
_KINDS: Final = {
    "expect_column_values_to_not_be_null": frozenset({"column"}),
    "expect_column_values_to_be_in_set": frozenset({"value_set"}),
    "expect_column_values_to_be_between": frozenset({"min_value", "max_value"}),
}
ALWAYS_MEASURED: Final = ("predicted_class", "confidence")


@dataclass(frozen=True)
class Rate:
    """`happened` of `n` times; `effect` of them are as good as one independent one (images of a session fail together:
    the design effect of cluster sampling, Kish 1965).
    """

    happened: float
    n: int
    effect: float

    def most(self, n: int, tail: float) -> float:
        """The share that n tries exceed with a probability of at most `tail`; one more than that is never excluded.

        Jeffreys' prior on the rate: what never happened may still happen.
        """
        from scipy.stats import binom

        independent = max(1, round(n / self.effect))
        chance = (self.happened / self.effect + 0.5) / (self.n / self.effect + 1)
        return min(1.0, (float(binom.ppf(1 - tail, independent, min(0.5, chance))) + 1) / independent)


@dataclass(frozen=True)
class LearnedSuite:
    """`suite` is a Great Expectations suite as JSON says it; `mostly` is n → id of a row expectation → share of rows;
    `usual` is a column of the night's metrics → how often it happens on unchanged nights.
    """

    suite: Mapping[str, Any]
    mostly: Mapping[int, Mapping[str, float]]
    usual: Mapping[str, Rate]

    def to_json(self) -> str:
        """For the bundle."""
        usual = {name: asdict(rate) for name, rate in self.usual.items()}
        return json.dumps({"suite": self.suite, "mostly": self.mostly, "usual": usual}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> LearnedSuite:
        """The other way. Raises ValueError for a suite that learn_suite could not have written."""
        stored = json.loads(text)
        usual = {name: Rate(**values) for name, values in stored["usual"].items()}
        mostly = {int(n): shares for n, shares in stored["mostly"].items()}
        if not mostly or not all(_is_usual(name, rate) for name, rate in usual.items()):
            raise ValueError("rates that are never learned")
        given = {
            "table": {f"most_{name}" for name in usual},
            "row": set.intersection(*({*map(mostly_parameter, shares)} for shares in mostly.values())),
        }
        for expectation in stored["suite"]["expectations"]:
            _check_learned(expectation, given)
        for share in (share for shares in mostly.values() for share in shares.values()):
            _require(_is_number(share) and 0 <= share <= 1, "mostly", share)
        return cls(stored["suite"], mostly, usual)

    def mostly_at(self, n: int) -> Mapping[str, float]:
        """The shares for a night of n rows: those of the next smaller size, which are never stricter."""
        return self.mostly[max((size for size in self.mostly if size <= n), default=min(self.mostly))]

    def limits(self, n: int) -> Mapping[str, float]:
        """The parameters of the table expectations, for a night of n files."""
        return {f"most_{name}": max(_FLOORS[name], rate.most(n, 1 / _NIGHTS)) for name, rate in self.usual.items()}


def learn_suite(profile: pd.DataFrame, *, suspect: int, refused: int) -> LearnedSuite:
    """Learn from darkroom.schemas.PROFILE: bounds from all images, `mostly` from the held-out ones.

    `suspect` is how many held-out images the other doubts name; `refused` how many files training had to leave out.
    """
    held = held_out(profile)
    groups = profile["group"].nunique()
    candidates = [
        *(_numeric(name, profile[name], groups) for name in NUMERIC_PROPERTIES),
        *(_categorical(name, profile[name], groups) for name in CATEGORICAL_PROPERTIES),
        *(
            _row("expect_column_values_to_not_be_null", name, {}, Severity.CRITICAL, f"{name} is measured", {})
            for name in (*NUMERIC_PROPERTIES, *CATEGORICAL_PROPERTIES, *ALWAYS_MEASURED)
            if name not in NULLABLE_PROPERTIES
        ),
    ]
    rows = [row for row in candidates if row is not None]
    effect = _design_effect(held)
    return LearnedSuite(
        {"name": "learned", "expectations": [*rows, *_of_the_night()]},
        _learn_mostly(rows, held, effect),
        {"suspect": Rate(suspect, len(held), effect), "quarantined": Rate(refused, len(profile) + refused, 1.0)},
    )


def held_out(profile: pd.DataFrame) -> pd.DataFrame:
    """The images that the model did not learn from; all of them where none were held out."""
    held = profile[profile["split"] == "validation"]
    return held if len(held) else profile


def breaks(expectation: Mapping[str, Any], values: pd.Series) -> NDArray[np.bool_]:
    """Which values break a learned row expectation; a missing value breaks only `not null`."""
    kwargs = expectation["kwargs"]
    if expectation["type"] == "expect_column_values_to_not_be_null":
        return np.asarray(values.isna())
    if expectation["type"] == "expect_column_values_to_be_in_set":
        return np.asarray(values.notna() & ~values.isin(kwargs["value_set"]))
    return np.asarray(values.notna() & ~values.between(kwargs["min_value"], kwargs["max_value"]))


def mostly_parameter(identity: str) -> str:
    """The name of the suite parameter for `mostly` of a row expectation: Great Expectations takes identifiers only."""
    return "mostly_" + identity.partition(":")[0]


def _check_learned(expectation: Mapping[str, Any], given: Mapping[str, Set[str]]) -> None:
    """A bundle may be a stranger's, and Great Expectations runs what is asked of it: a row condition is evaluated as
    Python, other kinds read tables by SQL, and a parameter is an expression. What else is never learned would stop a
    night at its first shard. `given` are the parameters that there are, by level.
    """
    kind, kwargs, meta = expectation["type"], expectation["kwargs"], expectation["meta"]
    if kind not in _KINDS:
        raise ValueError(f"an expectation of the kind {kind!r}, which is never learned")
    unknown = sorted(kwargs.keys() - _KINDS[kind] - {"column", "mostly"})
    if unknown or not isinstance(kwargs["column"], str):
        raise ValueError(f"an expectation with {', '.join(unknown) or 'no column'}, which is never learned")
    _require(bool(kwargs.keys() & _KINDS[kind]), "nothing to expect", kwargs)
    _require(meta["level"] in given, "level", meta["level"])
    for name in ("id", "sentence", "otherwise"):
        _require(isinstance(meta.get(name, ""), str) and (name in meta or name == "otherwise"), name, meta.get(name))
    _require(expectation["severity"] in [*Severity], "severity", expectation["severity"])
    for name, value in kwargs.items():
        if name == "value_set":
            _require(
                isinstance(value, list) and all(isinstance(one, str) or _is_number(one) for one in value), name, value
            )
        elif name != "column":
            _require(_is_number(value) or _parameter(value) in given[meta["level"]], name, value)


def _require(learned: bool, name: str, value: object) -> None:
    if not learned:
        raise ValueError(f"an expectation with {name} {str(value)[:80]}, which is never learned")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_usual(name: str, rate: Rate) -> bool:
    numbers = all(_is_number(value) for value in (rate.happened, rate.n, rate.effect))
    return name in _FLOORS and numbers and 0 <= rate.happened <= rate.n and rate.effect >= 1


def _parameter(value: object) -> str | None:
    """The name of a parameter, where it is one, and no expression."""
    if not isinstance(value, dict) or list(value) != ["$PARAMETER"]:
        return None
    name = str(value["$PARAMETER"])
    return name if re.fullmatch(r"(mostly|most)_\w+", name) else None


def _numeric(name: str, values: pd.Series, groups: int) -> dict[str, Any] | None:
    known = values.dropna().astype(float)
    if known.empty:
        return None
    evidence: dict[str, Any] = {"n": len(known), "groups": groups}
    severity = Severity.CRITICAL if name in CRITICAL else Severity.WARNING
    distinct = sorted(known.unique().tolist())
    if len(distinct) <= _FEW_VALUES and len(known) >= 10 * len(distinct):
        sentence = f"{name} is {_listed(distinct)}"
        return _row("expect_column_values_to_be_in_set", name, {"value_set": distinct}, severity, sentence, evidence)
    low, high = (float(np.quantile(known, share)) for share in _QUANTILES)
    spread = float(known.quantile(0.75) - known.quantile(0.25)) or float(known.std() or 1.0)
    bounds = {
        "min_value": min(low - _WIDENED_BY * spread, float(known.min())),
        "max_value": max(high + _WIDENED_BY * spread, float(known.max())),
    }
    evidence |= {"quantiles": dict(zip(map(str, _QUANTILES), (low, high), strict=True)), "iqr": spread}
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
    mostly = {} if what == "missing" else {"mostly": {"$PARAMETER": mostly_parameter(identity)}}
    return {
        "type": kind,
        "kwargs": {"column": column, **kwargs, **mostly},
        "meta": meta,
        "severity": str(severity),
    }


def _of_the_night() -> list[dict[str, Any]]:
    """Simple bounds on the night's own metrics (LearnedSuite.limits): what they may be is given when it is run."""

    def bound(column: str, severity: Severity, sentence: str, otherwise: str, **limits: str) -> dict[str, Any]:
        kwargs = {name: {"$PARAMETER": parameter} for name, parameter in limits.items()}
        meta = {"id": f"night:{column}", "level": "table", "sentence": sentence, "otherwise": otherwise, "evidence": {}}
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
            "Too many files cannot be decoded",
            max_value="most_quarantined",
        ),
        bound(
            "share_suspect",
            Severity.WARNING,
            "few suspect images",
            "Too many images are suspect",
            max_value="most_suspect",
        ),
    ]


def _learn_mostly(rows: list[dict[str, Any]], held: pd.DataFrame, effect: float) -> dict[int, dict[str, float]]:
    """For each size of a night, the share of rows that must hold, so that all expectations together fail on one
    unchanged night in 730.
    """
    tested = [row for row in rows if "mostly" in row["kwargs"]]
    tail = 1 / (_NIGHTS * max(1, len(tested)))
    rates = {
        row["meta"]["id"]: Rate(int(breaks(row, held[row["kwargs"]["column"]]).sum()), len(held), effect)
        for row in tested
    }
    return {n: {name: round(1 - rate.most(n, tail), 4) for name, rate in rates.items()} for n in _SIZES}


def _design_effect(held: pd.DataFrame) -> float:
    a_session = len(held) / max(1, held["group"].nunique())
    return float(1 + (a_session - 1) * _WITHIN_GROUP)


def _listed(values: list[Any]) -> str:
    shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return shown[0] if len(shown) == 1 else "one of " + ", ".join(shown)
