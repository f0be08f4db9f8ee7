"""Cells of somebody's table → numbers, lists and class positions; nan and -1 for whatever is none."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from tasks.predictions_table import Columns, check_cells

_PREFIXES: Final = ("p_", "prob_", "probability_", "proba_", "class_", "score_", "logit_", "p", "prob", "")
_LISTS: Final = ("probabilities", "probability", "probs", "proba", "softmax", "scores", "outputs", "output")
_LISTS_MAYBE: Final = ("predictions", "prediction", "pred", "preds", "logits", "y_pred")
_LABELS: Final = (
    "predicted_class",
    "predicted_label",
    "predicted",
    "prediction",
    "pred",
    "pred_class",
    "pred_label",
    "y_pred",
    "top1",
    "top_1",
    "class_name",
    "class",
    "label",
    "category",
)
_NUMBER: Final = re.compile(r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf)", re.IGNORECASE)
_DIGITS: Final = re.compile(r"[-+]?\d*(?:[.,](\d*))?(?:[eE]([-+]?\d{1,9}))?$")


def class_columns(table: Columns, classes: tuple[str, ...], file: Path) -> dict[str, str] | None:
    """Class → its column: named as the class or its number, perhaps with a prefix; None: there are no such columns."""
    if all(name in table.cells for name in classes):
        return {name: name for name in classes}
    by_name = {plain(name): name for name in table.cells}
    best: dict[str, str] = {}
    for prefix in _PREFIXES:
        for keys in (classes, tuple(str(number) for number in range(len(classes)))):
            found = {
                name: by_name[plain(f"{prefix}{key}")]
                for name, key in zip(classes, keys, strict=True)
                if plain(f"{prefix}{key}") in by_name
            }
            best = max(best, found, key=len)
    if len(best) == len(classes):
        return best
    if len(best) < max(2, len(classes) / 2):
        return None
    missing = [name for name in classes if name not in best]
    others = [name for name in table.cells if name not in best.values() and _numeric(table, name)]
    raise WrongUse(
        "The predictions know other classes than the bundle.",
        file=file,
        expected=f"a column for each of {', '.join(classes)[:300]}",
        found=f"none for {', '.join(missing)[:200]}" + (f"; and {', '.join(others)[:200]}" if others else ""),
        todo="diagnose against the bundle that this model was sealed in, or rename the columns",
    )


def expanded(table: Columns, file: Path) -> Columns:
    """A column of class → number, each class as a column of its own: the order in which a cell lists them says nothing.

    Arrow's maps come as pairs. Raises: WrongUse for more cells than a table may have.
    """
    cells: dict[str, list[Any]] = {}
    for column, values in table.cells.items():
        mapped = [_mapping(value) for value in values]
        if not any(mapped):
            cells[column] = list(values)
            continue
        keys = dict.fromkeys(key for one in mapped for key in one)
        check_cells(file, table.rows, len(cells) + len(keys))
        for key in keys:
            cells.setdefault(key, [one.get(key) for one in mapped])
    return replace(table, cells=cells)


def _mapping(cell: Any) -> dict[str, Any]:
    if isinstance(cell, list) and cell and all(isinstance(one, tuple) and len(one) == 2 for one in cell):
        return {str(key): value for key, value in cell}
    return {str(key): value for key, value in cell.items()} if isinstance(cell, Mapping) else {}


def list_column(table: Columns, k: int) -> str | None:
    """The column whose first cell that is not empty lists k numbers."""
    for wanted in (*_LISTS, *_LISTS_MAYBE):
        for name in table.cells:
            first = next((cell for cell in table.cells[name] if cell not in (None, "")), None)
            if plain(name) == wanted and len(_parsed(first)) == k and k > 1:
                return name
    return None


def listed(cell: Any, k: int) -> list[float]:
    """K numbers; nan where the cell holds another number of them."""
    found = _parsed(cell)
    return found if len(found) == k else [math.nan] * k


def _parsed(cell: Any) -> list[float]:
    """A list, or the text of one: JSON's, Python's or numpy's."""
    if isinstance(cell, str):
        return [float(number) for number in _NUMBER.findall(cell)] if cell.lstrip()[:1] in ("[", "(") else []
    if isinstance(cell, list | tuple):
        try:
            return [float(value) for value in cell]
        except (TypeError, ValueError, OverflowError):  # a whole number of hundreds of digits
            return []
    return []


def stated_labels(table: Columns, column: str | None, classes: tuple[str, ...]) -> NDArray[np.int64] | None:
    """The predicted class that a file states beside its probabilities, as far as it is one of ours."""
    if column is None or plain(column) in ("label", "class", "class_name", "category"):  # maybe the truth
        return None
    known = _known(classes)
    return np.array([known.get(plain(str(cell)), -1) for cell in table.cells[column]], np.int64)


def label_column(table: Columns) -> str | None:
    """The column that is named like a predicted class."""
    return first_column(table, _LABELS)


def first_column(table: Columns, wanted: Sequence[str]) -> str | None:
    """The first of these names that is a column, without regard to case."""
    by_name = {plain(name): name for name in table.cells}
    return next((by_name[name] for name in wanted if name in by_name), None)


def labels(table: Columns, column: str, classes: tuple[str, ...], file: Path) -> NDArray[np.int64]:
    """(n,) class positions, -1 for an empty cell. Raises: WrongUse for a class that the bundle does not know."""
    known = _known(classes)
    found = []
    for row, cell in enumerate(table.cells[column]):
        text = "" if cell is None or cell != cell else str(cell)
        if plain(text) in ("", "nan", "none", "null"):
            found.append(-1)
            continue
        tries = (text, plain(text), re.sub(r"\.0$", "", text))
        position = next((known[one] for one in tries if one in known), None)
        if position is None:
            raise WrongUse(
                "The predictions name a class that the bundle does not know.",
                file=file,
                expected=f"one of {', '.join(classes)[:300]}, or a number from 0 to {len(classes) - 1}",
                found=f"{text!r} in row {row + 1} of the column {column!r}",
                todo="diagnose against the bundle that this model was sealed in, or rename the classes",
            )
        found.append(position)
    return np.array(found, np.int64)


def _known(classes: tuple[str, ...]) -> dict[str, int]:
    """What a class may be called → its position; a name wins over a number ('2' may be a class)."""
    numbered = tuple(enumerate(classes))
    return (
        {str(number): number for number, _ in numbered}
        | {plain(name): number for number, name in numbered}
        | {name: number for number, name in numbered}
    )


def numbers(table: Columns, column: str) -> NDArray[np.float64]:
    """(n,) float64, nan for a cell that is no number."""
    return np.array([_number(cell, comma=table.decimal_comma) for cell in table.cells[column]], np.float64)


def _number(cell: Any, *, comma: bool) -> float:
    """A cell as a number; nan for whatever is none. A decimal comma only where columns are not separated by commas."""
    if isinstance(cell, str):
        text = cell.strip().removesuffix("%").strip()
        if "," in text and (comma or text.count(",") == 1) and "." not in text:
            text = text.replace(",", ".")
        try:
            return float(text)
        except ValueError:
            return math.nan
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def decimals(cells: Iterable[Any]) -> int:
    """How many digits stand after the point, at most, in numbers as they were written."""
    most = 0
    for cell in cells:
        found = _DIGITS.match(str(cell).strip().removesuffix("%").strip())
        if found is not None:
            most = max(most, len(found[1] or "") - int(found[2] or 0))
    return most


def list_parts(cells: Sequence[Any]) -> Iterator[str]:
    """The numbers of lists, each as it was written."""
    for cell in cells:
        if isinstance(cell, str):
            yield from _NUMBER.findall(cell)
        else:
            yield from map(repr, _parsed(cell))


def _numeric(table: Columns, column: str) -> bool:
    return bool(np.isfinite(numbers(table, column)).mean() > 0.5)


def plain(name: str) -> str:
    """A name without regard to case, spaces and hyphens."""
    return re.sub(r"[\s-]+", "_", str(name).strip().casefold())
