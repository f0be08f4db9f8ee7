"""Knows which training images make good goldens: the odd ones first, then every class, then a fair sample."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from darkroom.errors import DataFolderError
from darkroom.names import from_text
from darkroom.schemas import CATEGORICAL_PROPERTIES
from tasks.goldens.record import Golden

# A preparation goes wrong on images that are unlike the rest: each extreme is (why, column, largest?).
_EXTREMES = (
    ("widest", "aspect_ratio", True),
    ("tallest", "aspect_ratio", False),
    ("largest", "_area", True),
    ("smallest", "_area", False),
    ("lowest JPEG quality", "jpeg_quality", False),
    ("least confident", "_confidence", False),
    ("most confident", "_confidence", True),
    ("darkest", "luminance_mean", False),
    ("brightest", "luminance_mean", True),
    ("sharpest", "sharpness", True),
    ("most colourful", "saturation", True),
)


def choose_goldens(profile: pd.DataFrame, files: Path | Mapping[str, Path], n: int = 32) -> list[Golden]:
    """Choose the goldens of a bundle; the same profile gives the same goldens.

    First one image of each rare format, mode, orientation and depth, then the extremes, one of each class, and the
    rest from all classes in turn. Training and validation images alike. `profile` is darkroom.schemas.PROFILE.
    `files` is the folder that the profile's paths are relative to, or the file of each path. `n` is how many: fewer
    where the profile has fewer distinct images, and more (at most 3 n) where rare kinds and classes alone are more.

    Raises: DataFolderError where an image is gone or is no longer the one in the profile.
    """
    rows = _with_helpers(profile)
    chosen: dict[int, str] = {}
    for row, why in _kinds(rows, chosen):
        if row in chosen:
            chosen[row] += f", {why}"
        elif len(chosen) < 3 * n:
            chosen[row] = why
    for row in _in_turn(rows):
        if len(chosen) >= n:
            break
        chosen.setdefault(row, f"class {rows['label'].iloc[row]}")
    return [_golden(number, rows.iloc[row], why, files) for number, (row, why) in enumerate(chosen.items())]


def _with_helpers(profile: pd.DataFrame) -> pd.DataFrame:
    """One row a content, in an order that file names do not touch, with the area and confidence of each."""
    rows = profile.drop_duplicates("content_id").sort_values("content_id", ignore_index=True)
    return rows.assign(
        _area=rows["width"] * rows["height"],
        _confidence=[float(np.max(probabilities)) for probabilities in rows["probabilities"]],
    )


def _kinds(rows: pd.DataFrame, chosen: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    for column in (*CATEGORICAL_PROPERTIES, "bit_depth"):
        values = rows[column].map(_word)
        counts = values.value_counts()
        # The most frequent value needs no special place: the rest of the goldens will have it.
        for value in sorted(counts.index[1:], key=lambda value: (counts[value], value)):
            having = np.flatnonzero(values == value)
            if not any(row in chosen for row in having):
                yield int(having[0]), f"{column} {value}"
    for why, column, largest in _EXTREMES:
        numbers = rows[column].to_numpy(dtype=np.float64, na_value=np.nan)
        if np.isfinite(numbers).any() and np.nanmin(numbers) < np.nanmax(numbers):
            yield int(np.nanargmax(numbers) if largest else np.nanargmin(numbers)), why
    wrong = np.flatnonzero((rows["split"] == "validation") & (rows["predicted_class"] != rows["label"]))
    if len(wrong):
        yield int(wrong[0]), "held out, and predicted wrongly"
    for label in sorted(set(rows["label"])):
        of_class = np.flatnonzero(rows["label"] == label)
        if not any(row in chosen for row in of_class):
            yield int(of_class[0]), f"class {label}"


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in_turn(rows: pd.DataFrame) -> list[int]:
    """All rows: the first of each class, the second of each class, …"""
    turn = rows.groupby("label").cumcount()
    return [int(row) for row in rows.assign(_turn=turn).sort_values(["_turn", "label"]).index]


def _golden(number: int, row: pd.Series, why: str, files: Path | Mapping[str, Path]) -> Golden:
    path = files / from_text(row["path"]) if isinstance(files, Path) else files[row["path"]]
    try:
        image = path.read_bytes()
    except OSError as error:
        raise DataFolderError(
            f"A training image could not be read again: {error.strerror}.",
            file=path,
            todo="leave the training folder as it is until the bundle is sealed, and train again",
        ) from error
    digest = hashlib.sha256(image).hexdigest()
    if digest != row["content_id"]:
        raise DataFolderError(
            "A training image changed during the training.",
            file=path,
            expected=f"sha256 {row['content_id']}",
            found=f"sha256 {digest}",
            todo="leave the training folder as it is until the bundle is sealed, and train again",
        )
    # The name says why, never what the file was called: a bundle travels further than the training folder.
    word = re.sub(r"[^a-z0-9]+", "-", why.lower()).strip("-")[:40] or "class"
    extension = re.sub(r"[^a-z0-9]+", "", str(row["format"]).lower()) or "image"
    return Golden(name=f"{number:03d}-{word}.{extension}", image=image, why=why)
