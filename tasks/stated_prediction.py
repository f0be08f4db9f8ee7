"""One prediction as a person states it: a class, a class with its confidence, or a number for each class."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from darkroom.roots import check_inside

_WAYS: Final = "a class, class=confidence, a list of probabilities in the bundle's class order, or a JSON object"
_MOST_DIGITS: Final = 9
_SUM_OFF: Final = 0.02


@dataclass(frozen=True)
class StatedPrediction:
    """`predicted`: position in the bundle's classes. `confidence` of it, or all `probabilities` (k,), where stated;
    `rounding`: half a unit of the last digit that was written; `findings`: what was seen of how it was made.
    """

    predicted: int
    confidence: float | None = None
    probabilities: NDArray[np.float64] | None = None
    rounding: float = 0.0
    findings: tuple[str, ...] = ()

    def in_words(self, classes: Sequence[str]) -> str:
        """`metal with 0.93`."""
        sure = self.confidence if self.probabilities is None else float(self.probabilities[self.predicted])
        return classes[self.predicted] + ("" if sure is None else f" with {sure:.4g}")

    def distance(self, probabilities: NDArray[np.floating[Any]]) -> float:
        """How far an answer (k,) is from what was stated, in probability, beyond rounding; of a class alone 0 or 1."""
        if self.probabilities is not None:
            off = float(np.abs(probabilities - self.probabilities).max())
        elif int(probabilities.argmax()) != self.predicted:
            return 1.0
        else:
            off = 0.0 if self.confidence is None else abs(float(probabilities[self.predicted]) - self.confidence)
        return max(0.0, off - self.rounding)


def read_stated(text: str, classes: Sequence[str]) -> StatedPrediction:
    """Read `metal`, `metal=0.93`, `metal=93%`, `[0.1, 0.9]`, `{"metal": 0.9, …}`, or a JSON file with one of the last.

    Raises: WrongUse for an unknown class, a wrong number of numbers, or numbers that are no probabilities.
    """
    told = text.strip()
    if told in classes:
        return StatedPrediction(classes.index(told))
    if told.endswith(".json"):
        check_inside(Path(told))
    if told.endswith(".json") and Path(told).is_file():
        try:
            told = Path(told).read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise _wrong(text, _WAYS, f"a file that cannot be read as text: {error}") from error
    if told[:1] in ("[", "{"):
        return _listed(told, classes)
    name, separator, number = told.rpartition("=")
    if not separator:
        raise _wrong(text, f"one of the classes {', '.join(classes)[:200]}; or {_WAYS}")
    label = _position(name.strip(), classes, text)
    confidence, rounding = _share(number.strip(), text)
    return StatedPrediction(label, confidence, None, rounding)


def _listed(told: str, classes: Sequence[str]) -> StatedPrediction:
    try:
        # The text of each number is kept: its digits say how it was rounded.
        value = json.loads(told, parse_float=str, parse_int=str)
    except ValueError as error:
        raise _wrong(told, _WAYS) from error
    if isinstance(value, dict):
        unknown = [name for name in value if name not in classes]
        if unknown:
            raise _wrong(unknown[0], f"one of the classes {', '.join(classes)[:200]}")
        if len(value) == 1:
            ((name, number),) = value.items()
            confidence, rounding = _share(str(number), told)
            return StatedPrediction(classes.index(name), confidence, None, rounding)
        value = [value.get(name, "0") for name in classes]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # as a model's predict gives it: one row
    if not isinstance(value, list) or len(value) != len(classes) or not all(isinstance(one, str) for one in value):
        raise _wrong(told, f"{len(classes)} numbers, one for each of {', '.join(classes)[:200]}")
    read = [_share(one, told) for one in value]
    numbers = np.array([share for share, _ in read])
    # JSON drops zeros at the end: the longest number says how many digits there were.
    rounding = min((rounded for share, rounded in read if share not in (0, 1)), default=0.0)
    if abs(numbers.sum() - 1) > _SUM_OFF + len(classes) * rounding:
        raise _wrong(told, "probabilities that sum to 1", f"numbers that sum to {numbers.sum():.4g}")
    return StatedPrediction(int(numbers.argmax()), None, numbers, rounding)


def _position(name: str, classes: Sequence[str], text: str) -> int:
    if name not in classes:
        raise _wrong(text, f"one of the classes {', '.join(classes)[:200]}")
    return list(classes).index(name)


def _share(number: str, text: str) -> tuple[float, float]:
    percent = number.endswith("%")
    digits = number.rstrip("% ")
    try:
        value = float(digits)
    except ValueError as error:
        raise _wrong(text, _WAYS) from error
    unit = 0.01 if percent else 1.0
    if not math.isfinite(value) or not 0 <= value * unit <= 1 + 1e-3:
        raise _wrong(text, "probabilities from 0 to 1, or percent", number)
    written = re.search(r"\.(\d+)$", digits)
    places = len(written[1]) if written else (_MOST_DIGITS + 1 if "e" in digits.lower() or value in (0, 1) else 0)
    return value * unit, 0.0 if places > _MOST_DIGITS else 0.5 * 10.0**-places * unit


def _wrong(text: str, expected: str, found: str | None = None) -> WrongUse:
    return WrongUse("The stated prediction is not understood.", expected=expected, found=found or text[:200])
