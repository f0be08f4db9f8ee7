"""The rows of the drift table as lines that a person reads: the gravest first, each effect with direction and unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from darkroom.schemas import CATEGORICAL_PROPERTIES, metric_in_words
from tasks.report.view import Row, as_float, named

# A metric that is spread otherwise than in training: its effect is a relative change, the detectable one still in sd.
SPREAD: Final = "spread"
_GRAVEST_FIRST: Final = ("alarm", "warn", "ok", "too_few")


@dataclass(frozen=True)
class DriftLine:
    """One row of the drift table, with the numbers that are there."""

    family: str
    name: str
    metric: str
    verdict: str
    statistic_name: str
    unit: str
    effect: float | None
    p: float | None
    p_corrected: float | None
    before: float | None
    tonight: float | None
    detectable: float | None
    n: int
    n_reference: int

    @property
    def moved(self) -> bool:
        """Whether this is one of the lines that decide the night's verdict."""
        return self.verdict in ("alarm", "warn")


def drift_lines(drift: pd.DataFrame) -> list[DriftLine]:
    """The drift table's rows, the gravest first, then by corrected p."""
    lines = [_drift_line(row) for row in drift.to_dict("records")]
    return sorted(
        lines,
        key=lambda line: (
            _GRAVEST_FIRST.index(line.verdict) if line.verdict in _GRAVEST_FIRST else len(_GRAVEST_FIRST),
            math.inf if line.p_corrected is None else line.p_corrected,
            -abs(line.effect or 0.0),
        ),
    )


def drift_sentence(lines: Sequence[DriftLine]) -> str:
    """What moved; or, where nothing did, the smallest shift that tonight could have shown."""
    if not lines:
        return "Nothing was compared with training tonight."
    tested = [line for line in lines if line.verdict != "too_few"]
    if not tested:
        return f"Too few images to compare with training: {max(line.n for line in lines):,} tonight."
    moved = [line.name for line in tested if line.moved]
    if moved:
        verb = "differs" if len(moved) == 1 else "differ"
        return f"{len(moved)} of {len(tested)} measures {verb} from training: {named(moved)}."
    detectable = [line.detectable for line in tested if line.detectable is not None and line.unit == "sd"]
    sentence = f"None of {len(tested)} measures differs from training beyond chance."
    if detectable:
        numbers = sum(line.unit != "V" for line in tested)
        where = "any numeric one" if len(detectable) == numbers else f"{len(detectable)} of {numbers} numeric ones"
        sentence += f" A shift of {max(detectable):.2f} standard deviations would have shown in {where}."
    return sentence


def effect(line: DriftLine) -> str:
    """The effect with its sign and unit."""
    if line.effect is None:
        return "–"
    if line.unit == SPREAD:
        return f"{SPREAD} by {abs(line.effect):.0%}"
    shown = (f"{line.effect:+.2f}" if line.unit == "sd" else f"{line.effect:.2f}").replace("-", "−")
    return f"{'0.00' if shown.endswith('0.00') else shown} {line.unit}"


def _drift_line(row: Row) -> DriftLine:
    family, metric = str(row["family"]), str(row["metric"])
    unit = _unit(family, metric, str(row["statistic_name"]))
    before, tonight = as_float(row["reference_value"]), as_float(row["night_value"])
    return DriftLine(
        family=family,
        name=metric_in_words(family, metric),
        metric=metric,
        verdict=str(row["verdict"]),
        statistic_name=str(row["statistic_name"]),
        unit=unit,
        effect=_signed(as_float(row["effect"]), unit, before, tonight),
        p=as_float(row["p_value"]),
        p_corrected=as_float(row["p_corrected"]),
        before=before,
        tonight=tonight,
        detectable=as_float(row["smallest_detectable_effect"]),
        n=int(as_float(row["n"]) or 0),
        n_reference=int(as_float(row["n_reference"]) or 0),
    )


def _signed(effect: float | None, unit: str, before: float | None, tonight: float | None) -> float | None:
    """The drift dataset says how large an effect is; which way it went, the means say."""
    if effect is None or unit != "sd" or before is None or tonight is None or before == tonight:
        return effect
    return math.copysign(effect, tonight - before)


def _unit(family: str, metric: str, statistic_name: str) -> str:
    if family == "predicted_classes" or metric in CATEGORICAL_PROPERTIES:
        return "V"
    return SPREAD if statistic_name == SPREAD else "sd"
