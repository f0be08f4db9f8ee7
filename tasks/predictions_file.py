"""Somebody's predictions → arrays in the bundle's class order, beside the photos that they are about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from tasks.matching import match_paths
from tasks.predictions_cells import (
    class_columns,
    decimals,
    expanded,
    first_column,
    label_column,
    labels,
    list_column,
    list_parts,
    listed,
    numbers,
    plain,
    stated_labels,
)
from tasks.predictions_table import Columns, read_columns

Kind = Literal["probabilities", "top-1 with confidence", "labels"]

_PATHS: Final = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "name")
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
_MOST_DIGITS: Final = 9
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
    rounding
        Half a unit of the last digit that the file writes; 0 where it writes more than nine.
    findings
        What was taken for what, and what was left out, in sentences.
    """

    paths: tuple[str, ...]
    kind: Kind
    probabilities: NDArray[np.float64] | None
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64] | None
    rounding: float
    findings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


def read_predictions(file: Path, classes: Sequence[str], photos: Sequence[str]) -> Predictions:
    """Read predictions about `photos` (paths relative to their folder, with `/`) of a model with these classes.

    Rows that have no photo, or a cell that is not a number, are left out and counted; photos without a row are counted.

    Raises: WrongUse for what cannot be read, has no path column or no prediction, names an unknown class, a photo that
    is ambiguous, or one photo twice with two answers; and where no row is left.
    """
    table = expanded(read_columns(file), file)
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
        rounding=read.rounding,
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
    rounding: float
    findings: tuple[str, ...]


def _path_column(table: Columns, classes: Sequence[str], file: Path) -> str:
    by_name = {plain(name): name for name in table.cells}
    for wanted in _PATHS:
        if wanted in by_name and wanted not in classes:
            return by_name[wanted]
    unnamed = [name for name in table.cells if plain(name) in ("", "unnamed:_0", "__index_level_0__", "index", "id")]
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
    label, confidence = label_column(table), first_column(table, _CONFIDENCES)
    columns = class_columns(table, classes, file)
    if columns is not None:
        values = np.column_stack([numbers(table, columns[name]) for name in classes])
        named = f"One column a class: {', '.join(columns[name] for name in classes)}"[:300] + "."
        digits = decimals(cell for name in classes for cell in table.cells[columns[name]])
        return _from_probabilities(values, digits, [named], stated_labels(table, label, classes))
    holder = list_column(table, len(classes))
    if holder is not None:
        values = np.array([listed(cell, len(classes)) for cell in table.cells[holder]])
        named = f"The column {holder!r} lists a number a class, taken in the bundle's order: {', '.join(classes)}."
        digits = decimals(list_parts(table.cells[holder]))
        return _from_probabilities(values, digits, [named[:300]], stated_labels(table, label, classes))
    if label is None and confidence is not None and len(classes) == 2:
        share = numbers(table, confidence)
        named = f"The column {confidence!r} is taken for the probability of {classes[1]!r}."
        digits = decimals(table.cells[confidence])
        return _from_probabilities(np.column_stack([1 - share, share]), digits, [named], None)
    if label is None:
        raise WrongUse(
            "The predictions hold neither probabilities nor labels.",
            file=file,
            expected=f"a column for each of {', '.join(classes)[:200]}; or one with a list; or predicted_class",
            found=f"columns {', '.join(table.cells)[:300]}",
        )
    predicted = labels(table, label, classes, file)
    findings = [f"The column {label!r} is taken for the predicted class."]
    if confidence is None:
        return _Answers("labels", None, predicted, None, np.asarray(predicted >= 0), 0.0, tuple(findings))
    shares = numbers(table, confidence)
    shares, unit, more = _as_shares(shares, float(np.nanmax(shares, initial=0.0)))
    findings += [f"The column {confidence!r} is taken for its probability.", *more]
    usable = (predicted >= 0) & np.isfinite(shares)
    rounding = unit * _rounding(decimals(table.cells[confidence]))
    return _Answers("top-1 with confidence", None, predicted, shares, usable, rounding, tuple(findings))


def _from_probabilities(
    values: NDArray[np.float64], digits: int, findings: Sequence[str], stated: NDArray[np.int64] | None
) -> _Answers:
    usable = np.asarray(np.isfinite(values).all(axis=1))
    sums = values[usable].sum(axis=1)
    values, unit, more = _as_shares(values, float(np.median(sums)) if len(sums) else 0.0)
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
    return _Answers("probabilities", values, predicted, None, usable, unit * _rounding(digits), tuple(found))


def _as_shares(values: NDArray[np.float64], typical: float) -> tuple[NDArray[np.float64], float, list[str]]:
    """Percentages become shares; and what one unit of the file is then.

    `typical`: the usual sum of a row, or the largest confidence.
    """
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() < 0 or finite.max() <= 1:
        return values, 1.0, []
    sums = values.sum(axis=1) if values.ndim == 2 else None
    percent = abs(typical - 100) <= _PERCENT_OFF if sums is not None else 2 < typical <= 100
    if not percent:
        return values, 1.0, []
    return values / 100, 0.01, ["The numbers are percentages; they were divided by 100."]


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


def _rounding(digits: int) -> float:
    return 0.5 * 10.0**-digits if digits <= _MOST_DIGITS else 0.0
