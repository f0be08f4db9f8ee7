"""Somebody's predictions → arrays in the bundle's class order, beside the photos that they are about."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from tasks.matching import match_paths
from tasks.predictions_table import Columns, read_columns

Kind = Literal["probabilities", "top-1 with confidence", "labels"]

_PATHS: Final = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "name")
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
_CONFIDENCES: Final = (
    "confidence",
    "conf",
    "score",
    "probability",
    "prob",
    "proba",
    "max_prob",
    "max_probability",
    "top1_prob",
    "p",
)
_NUMBER: Final = re.compile(r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf)", re.IGNORECASE)
_PERCENT_OFF: Final = 2.0  # how far a row of percentages may be from 100, rounded as they are
_FAR: Final = 1e-2


@dataclass(frozen=True)
class Predictions:
    """What somebody's model said of n photos, in the order of their file.

    paths
        As `photos` names them.
    probabilities
        (n, k) float64 in the bundle's class order, as they were written: maybe logits, maybe sums far from 1. None
        where the file has none.
    predicted
        (n,) positions in the bundle's classes: the largest probability, or the label that the file states.
    confidence
        (n,) of the predicted class, where the file states only that.
    findings
        What was taken for what, and what was left out, in sentences.
    """

    paths: tuple[str, ...]
    kind: Kind
    probabilities: NDArray[np.float64] | None
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64] | None
    findings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


def read_predictions(file: Path, classes: Sequence[str], photos: Sequence[str]) -> Predictions:
    """Read predictions about `photos` (paths relative to their folder, with `/`) of a model with these classes.

    Rows that have no photo, or a cell that is not a number, are left out and counted; photos without a row are counted.

    Raises: WrongUse for what cannot be read, has no path column or no prediction, names an unknown class, a photo that
    is ambiguous, or one photo twice with two answers; and where no row is left.
    """
    table = read_columns(file)
    column = _path_column(table, classes, file)
    names = ["" if cell is None else str(cell) for cell in table.cells[column]]
    matched = match_paths(names, photos, file)
    rest = replace(table, cells={name: cells for name, cells in table.cells.items() if name != column})
    read = _answers(rest, tuple(classes), file)
    found = [f"The column {column!r} names the photos.", *table.findings, *matched.findings, *read.findings]
    kept, more = _once(names, matched.photos, read, file)
    found += more
    without = len(photos) - len({matched.photos[row] for row in kept})
    if without:
        found.append(f"{without:,} of {len(photos):,} photos have no row.")
    rows = np.asarray(kept, np.intp)
    return Predictions(
        paths=tuple(photos[position] for row in kept if (position := matched.photos[row]) is not None),
        kind=read.kind,
        probabilities=None if read.probabilities is None else read.probabilities[rows],
        predicted=read.predicted[rows],
        confidence=None if read.confidence is None else read.confidence[rows],
        findings=tuple(found),
    )


@dataclass(frozen=True)
class _Answers:
    """Every row of the file; `usable` where all its cells are finite numbers or known classes."""

    kind: Kind
    probabilities: NDArray[np.float64] | None
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64] | None
    usable: NDArray[np.bool_]
    findings: tuple[str, ...]


def _path_column(table: Columns, classes: Sequence[str], file: Path) -> str:
    plain = {_plain(name): name for name in table.cells}
    for wanted in _PATHS:
        if wanted in plain and wanted not in classes:
            return plain[wanted]
    unnamed = [name for name in table.cells if _plain(name) in ("", "unnamed:_0", "__index_level_0__", "index", "id")]
    for name in unnamed:
        if all(re.search(r"\.\w{2,5}$", str(cell)) for cell in table.cells[name]):
            return name
    raise WrongUse(
        "The predictions do not say which photo a row is about.",
        file=file,
        expected=f"a column named {', '.join(_PATHS[:6])} or so",
        found=f"columns {', '.join(table.cells)[:300]}",
        todo="write a column `path` beside the predictions",
    )


def _answers(table: Columns, classes: tuple[str, ...], file: Path) -> _Answers:
    """Probabilities where there are any, else labels, with their confidence where that is stated."""
    label, confidence = _label_column(table), _first(table, _CONFIDENCES)
    columns = _class_columns(table, classes, file)
    if columns is not None:
        values = np.column_stack([_numbers(table, columns[name]) for name in classes])
        named = f"One column a class: {', '.join(columns[name] for name in classes)}"[:300] + "."
        return _from_probabilities(values, [named], _stated(table, label, classes))
    holder = _list_column(table, len(classes))
    if holder is not None:
        values = np.array([_listed(cell, len(classes)) for cell in table.cells[holder]])
        named = f"The column {holder!r} lists a number a class, taken in the bundle's order: {', '.join(classes)}."
        return _from_probabilities(values, [named[:300]], _stated(table, label, classes))
    if label is None and confidence is not None and len(classes) == 2:
        share = _numbers(table, confidence)
        named = f"The column {confidence!r} is taken for the probability of {classes[1]!r}."
        return _from_probabilities(np.column_stack([1 - share, share]), [named], None)
    if label is None:
        raise WrongUse(
            "The predictions hold neither probabilities nor labels.",
            file=file,
            expected=f"a column for each of {', '.join(classes)[:200]}; or one with a list; or predicted_class",
            found=f"columns {', '.join(table.cells)[:300]}",
        )
    predicted = _labels(table, label, classes, file)
    findings = [f"The column {label!r} is taken for the predicted class."]
    if confidence is None:
        return _Answers("labels", None, predicted, None, predicted >= 0, tuple(findings))
    shares = _numbers(table, confidence)
    shares, more = _as_shares(shares, float(np.nanmax(shares, initial=0.0)))
    findings += [f"The column {confidence!r} is taken for its probability.", *more]
    usable = (predicted >= 0) & np.isfinite(shares)
    return _Answers("top-1 with confidence", None, predicted, shares, usable, tuple(findings))


def _from_probabilities(
    values: NDArray[np.float64], findings: Sequence[str], stated: NDArray[np.int64] | None
) -> _Answers:
    usable = np.isfinite(values).all(axis=1)
    sums = values[usable].sum(axis=1)
    values, more = _as_shares(values, float(np.median(sums)) if len(sums) else 0.0)
    found = [*findings, *more]
    good = values[usable]
    if len(good) and (good.min() < 0 or good.max() > 1 + _FAR):
        found.append(f"These are no probabilities: they go from {good.min():.4g} to {good.max():.4g}.")
    elif len(good) and np.abs(good.sum(axis=1) - 1).max() > _FAR:
        sums = good.sum(axis=1)
        found.append(f"The numbers of a row do not sum to 1, but to between {sums.min():.4g} and {sums.max():.4g}.")
    predicted = np.where(usable, np.nan_to_num(values, nan=-np.inf).argmax(axis=1), -1)
    if stated is not None:
        other = int(((stated != predicted) & usable & (stated >= 0)).sum())
        if other:
            found.append(f"In {other:,} rows the stated class is not the one with the largest probability.")
    return _Answers("probabilities", values, predicted, None, usable, tuple(found))


def _as_shares(values: NDArray[np.float64], typical: float) -> tuple[NDArray[np.float64], list[str]]:
    """Percentages become shares. `typical`: the usual sum of a row, or the largest confidence."""
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() < 0 or finite.max() <= 1:
        return values, []
    sums = values.sum(axis=1) if values.ndim == 2 else None
    percent = abs(typical - 100) <= _PERCENT_OFF if sums is not None else 2 < typical <= 100
    if not percent:
        return values, []
    return values / 100, ["The numbers are percentages; they were divided by 100."]


def _once(
    names: Sequence[str], photos: Sequence[int | None], read: _Answers, file: Path
) -> tuple[list[int], list[str]]:
    """The rows that are kept: with a photo, with numbers, each photo once."""
    first: dict[int, int] = {}
    unusable = twice = 0
    for row, position in enumerate(photos):
        if position is None:
            continue
        if not read.usable[row]:
            unusable += 1
        elif position not in first:
            first[position] = row
        elif _same(read, first[position], row):
            twice += 1
        else:
            raise WrongUse(
                "One photo has two different predictions.",
                file=file,
                expected="a row a photo",
                found=f"{names[first[position]]!r} in row {first[position] + 1} and {names[row]!r} in row {row + 1}",
                todo="keep the predictions of one model and one run; write whole paths where base names repeat",
            )
    findings = []
    if unusable:
        findings.append(f"{unusable:,} rows were left out: a cell is empty or not a number.")
    if twice:
        findings.append(f"{twice:,} rows say again what another row says.")
    if not first:
        raise WrongUse(
            "No row of the predictions can be used.", file=file, expected="numbers", found=" ".join(findings)
        )
    return sorted(first.values()), findings


def _same(read: _Answers, one: int, other: int) -> bool:
    if read.probabilities is not None:
        return bool(np.array_equal(read.probabilities[one], read.probabilities[other]))
    if read.confidence is not None and read.confidence[one] != read.confidence[other]:
        return False
    return bool(read.predicted[one] == read.predicted[other])


def _class_columns(table: Columns, classes: tuple[str, ...], file: Path) -> dict[str, str] | None:
    """Class → its column: named as the class or its number, perhaps with a prefix; None: there are no such columns."""
    if all(name in table.cells for name in classes):
        return {name: name for name in classes}
    plain = {_plain(name): name for name in table.cells}
    best: dict[str, str] = {}
    for prefix in _PREFIXES:
        for keys in (classes, tuple(str(number) for number in range(len(classes)))):
            found = {
                name: plain[_plain(f"{prefix}{key}")]
                for name, key in zip(classes, keys, strict=True)
                if _plain(f"{prefix}{key}") in plain
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


def _list_column(table: Columns, k: int) -> str | None:
    for wanted in (*_LISTS, *_LISTS_MAYBE):
        for name in table.cells:
            if _plain(name) == wanted and len(_parsed(table.cells[name][0])) == k and k > 1:
                return name
    return None


def _listed(cell: Any, k: int) -> list[float]:
    found = _parsed(cell)
    return found if len(found) == k else [math.nan] * k


def _parsed(cell: Any) -> list[float]:
    """A list, or the text of one: JSON's, Python's or numpy's."""
    if isinstance(cell, str):
        return [float(number) for number in _NUMBER.findall(cell)] if cell.lstrip()[:1] in ("[", "(") else []
    if isinstance(cell, Mapping | list | tuple):
        values = list(cell.values()) if isinstance(cell, Mapping) else list(cell)
        try:
            return [float(value) for value in values]
        except (TypeError, ValueError):
            return []
    return []


def _stated(table: Columns, column: str | None, classes: tuple[str, ...]) -> NDArray[np.int64] | None:
    """The predicted class that a file states beside its probabilities, as far as it is one of ours."""
    if column is None or _plain(column) in ("label", "class", "class_name", "category"):  # maybe the truth
        return None
    known = _known(classes)
    return np.array([known.get(_plain(str(cell)), -1) for cell in table.cells[column]], np.int64)


def _label_column(table: Columns) -> str | None:
    return _first(table, _LABELS)


def _first(table: Columns, wanted: Sequence[str]) -> str | None:
    plain = {_plain(name): name for name in table.cells}
    return next((plain[name] for name in wanted if name in plain), None)


def _labels(table: Columns, column: str, classes: tuple[str, ...], file: Path) -> NDArray[np.int64]:
    known = _known(classes)
    found = []
    for row, cell in enumerate(table.cells[column]):
        text = "" if cell is None or cell != cell else str(cell)
        if _plain(text) in ("", "nan", "none", "null"):
            found.append(-1)
            continue
        tries = (text, _plain(text), re.sub(r"\.0$", "", text))
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
        | {_plain(name): number for number, name in numbered}
        | {name: number for number, name in numbered}
    )


def _numbers(table: Columns, column: str) -> NDArray[np.float64]:
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
    except (TypeError, ValueError):
        return math.nan


def _numeric(table: Columns, column: str) -> bool:
    return bool(np.isfinite(_numbers(table, column)).mean() > 0.5)


def _plain(name: str) -> str:
    """A name without regard to case, spaces and hyphens."""
    return re.sub(r"[\s-]+", "_", str(name).strip().casefold())
