"""Labelled folders: a folder a class, maybe a sub-folder a session; and how they are split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from darkroom.errors import DataFolderError, UnsupportedModel
from darkroom.names import to_text
from darkroom.spreadsheets import out_of_a_cell
from tasks.formats import FORMAT_EXTENSIONS

FEWEST_IMAGES = 10
_IMAGES = frozenset("." + suffix.lower().lstrip(".") for names in FORMAT_EXTENSIONS.values() for suffix in names)
# Names that datasets for other kinds of models bring along.
_OTHER_TASKS = {
    "Annotations": "objects to detect (Pascal VOC)",
    "annotations": "objects to detect (COCO)",
    "masks": "segmentation",
    "SegmentationClass": "segmentation (Pascal VOC)",
}

# Names of parts of a dataset that somebody has split already.
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing", "holdout"})

GroupBy = Literal["image", "sub-folder", "column"]


@dataclass(frozen=True)
class LabelledFile:
    """One training image: path relative to the dataset's folder, class, and what must not straddle the split."""

    path: str
    label: str
    group: str


@dataclass(frozen=True)
class Dataset:
    """The files of a folder, sorted by path; the classes, sorted by name: that is the order of the model's outputs.
    `no_class`: folder → images, of folders that were left out because they are none and hold few.
    """

    folder: Path
    files: tuple[LabelledFile, ...]
    classes: tuple[str, ...]
    group_by: GroupBy
    no_class: Mapping[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Class → images, in class order."""
        found = Counter(file.label for file in self.files)
        return {name: found[name] for name in self.classes}


@dataclass(frozen=True)
class Split:
    """Positions in the dataset's files."""

    train: tuple[int, ...]
    validation: tuple[int, ...]


def scan(
    folder: Path,
    group_by: GroupBy = "image",
    groups: Path | None = None,
    *,
    no_class: Callable[[str], bool] = lambda name: False,
) -> Dataset:
    """Find the images of a folder a class. With `sub-folder` the group is the folder below the class (a session of that
    name is one session, whichever class it is in); with `column` a CSV gives path and group. A folder of few images is
    left out where `no_class` says that it is none.

    Raises: DataFolderError with what is wrong and what to do; UnsupportedModel for data of another kind of model.
    """
    if not folder.is_dir():
        raise DataFolderError(
            "There is no such training folder.",
            file=folder,
            expected="a folder that holds a folder a class",
            found="a file" if folder.exists() else "nothing",
            todo="look at the path; a folder of another machine must be mounted",
        )
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise _unreadable_folder(error) from error
    _require_classification(folder, entries)
    classes = tuple(entry.name for entry in entries if entry.is_dir())
    files = [file for name in classes for file in _files_of(folder, name, group_by)]
    counts = Counter(file.label for file in files)
    left = {name: counts[name] for name in classes if counts[name] < FEWEST_IMAGES and no_class(name)}
    classes = tuple(name for name in classes if name not in left)
    files = [file for file in files if file.label in classes]
    _require_enough(folder, classes, files, [entry for entry in entries if entry.is_file()])
    if group_by == "column":
        files = _grouped(files, groups)
    return Dataset(folder, tuple(sorted(files, key=lambda file: file.path)), classes, group_by, left)


def split(dataset: Dataset, share: float, seed: int) -> Split:
    """Hold out about `share` of each class; no group is on both sides; the same seed gives the same split.

    Groups are dealt in random order, the largest first among equals of need: each goes to the validation side as long
    as that brings the classes closer to their share.

    Raises: DataFolderError where groups leave a class on one side only.
    """
    labels = np.array([dataset.classes.index(file.label) for file in dataset.files])
    names, groups = np.unique([file.group for file in dataset.files], return_inverse=True)
    content = np.zeros((len(names), len(dataset.classes)), np.int64)
    np.add.at(content, (groups, labels), 1)
    wanted = content.sum(axis=0) * share
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-content[order].sum(axis=1), kind="stable")]
    held = np.zeros(len(dataset.classes))
    chosen = np.zeros(len(names), np.bool_)
    for group in order:
        if np.abs(wanted - held - content[group]).sum() < np.abs(wanted - held).sum():
            held += content[group]
            chosen[group] = True
    validation = chosen[groups]
    for position, name in enumerate(dataset.classes):
        sides = {"train": ~validation, "validation": validation}
        for side, rows in sides.items():
            if not (labels[rows] == position).any():
                raise DataFolderError(
                    f"The class {name!r} would have no images for {side}.",
                    file=dataset.folder / name,
                    expected="at least two groups (sessions) in each class",
                    found=f"{len(set(groups[labels == position]))} groups with images of this class",
                    todo="add sessions of this class, change the validation share or the seed, or group by image",
                )
    return Split(tuple(np.flatnonzero(~validation).tolist()), tuple(np.flatnonzero(validation).tolist()))


def _require_classification(folder: Path, entries: Sequence[Path]) -> None:
    for entry in entries:
        if entry.name in _OTHER_TASKS:
            raise UnsupportedModel(
                f"This looks like data for {_OTHER_TASKS[entry.name]}; darkroom trains classifiers, a label an image.",
                file=entry,
                expected="a folder a class, with nothing but images in it",
                todo=f"if {entry.name!r} is a class of yours, give its folder another name",
            )
    parts = [entry.name for entry in entries if entry.is_dir()]
    if len(parts) > 1 and all(part.lower() in _SPLITS for part in parts):
        raise DataFolderError(
            "The folder is split already: its folders are parts of a dataset, not classes.",
            file=folder,
            expected="a folder a class",
            found=", ".join(parts),
            todo=f"name the one to train on, such as {folder / parts[0]}: darkroom holds out a share of it by itself",
        )
    tables = [entry for entry in entries if entry.suffix.lower() in (".csv", ".json", ".xml") and entry.is_file()]
    if tables and not any(entry.is_dir() for entry in entries):
        raise UnsupportedModel(
            "The labels are in a file beside the images: several labels an image are not supported.",
            file=tables[0],
            expected="a folder a class; one label an image",
            todo="sort the images into one folder for each class",
        )
    for entry in entries:
        if entry.is_dir():
            beside = next((file for file in sorted(entry.rglob("*.txt")) if _is_yolo(file)), None)
            if beside is not None:
                raise UnsupportedModel(
                    "There are boxes beside the images (YOLO): darkroom trains classifiers, not detectors.",
                    file=beside,
                    todo="remove the label files if one label an image, the folder's name, is meant",
                )


def _is_yolo(file: Path) -> bool:
    if not any(file.with_suffix(suffix).exists() for suffix in (".jpg", ".jpeg", ".png")):
        return False
    with file.open(errors="replace") as lines:
        first = lines.readline().split()
    try:
        return len(first) >= 5 and all(0 <= float(word) <= 1 for word in first[1:5])
    except ValueError:
        return False


def _files_of(folder: Path, label: str, group_by: GroupBy) -> list[LabelledFile]:
    found = []
    for place, below, names in os.walk(folder / label, onerror=_unreadable):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            file = Path(place) / name
            if name.startswith(".") or file.suffix.lower() not in _IMAGES:
                continue
            path = to_text(file.relative_to(folder))
            inside = file.relative_to(folder / label).parts
            group = to_text(inside[0]) if group_by == "sub-folder" and len(inside) > 1 else path
            found.append(LabelledFile(path, label, group))
    return found


def _unreadable(error: OSError) -> None:
    raise _unreadable_folder(error) from error


def _unreadable_folder(error: OSError) -> DataFolderError:
    return DataFolderError(
        "A training folder cannot be read.",
        file=error.filename,
        expected="the right to list it",
        found=error.strerror,
        todo="give this user the right, or take the folder out of the training folder",
    )


def _require_enough(folder: Path, classes: Sequence[str], files: Sequence[LabelledFile], loose: Sequence[Path]) -> None:
    if not classes or not files:
        images = sum(path.suffix.lower() in _IMAGES for path in loose)
        raise DataFolderError(
            "There is nothing to train on.",
            file=folder,
            expected="a folder a class, with images in each",
            found=f"{len(classes)} folders with {len(files)} images, and {images} images beside them",
            todo="sort the images into one folder for each class",
        )
    if len(classes) < 2:
        raise DataFolderError(
            "One class is nothing to tell apart.",
            file=folder,
            expected="two classes at least",
            found=classes[0],
            todo=f"add a folder of what is not {classes[0]!r}; or name the folder above, if this one is a class",
        )
    counts = Counter(file.label for file in files)
    scarce = [name for name in classes if counts[name] < FEWEST_IMAGES]
    if scarce:
        raise DataFolderError(
            f"Too few images in {', '.join(map(repr, scarce))}.",
            file=folder / scarce[0],
            expected=f"at least {FEWEST_IMAGES} images a class",
            found=", ".join(f"{name}: {counts[name]}" for name in scarce),
            todo="add images, or take the folder out if it is no class",
        )


def _grouped(files: Sequence[LabelledFile], groups: Path | None) -> list[LabelledFile]:
    if groups is None:
        raise DataFolderError("group_by=column needs a CSV with the columns path and group.", todo="give --groups FILE")
    try:
        table = pd.read_csv(groups, dtype=str)
        table = table.dropna(subset=["path", "group"])
        groups_of = dict(zip(table["path"], table["group"], strict=True))
        known = {out_of_a_cell(path): group for path, group in groups_of.items()} | groups_of
    except (OSError, ValueError, KeyError) as error:
        raise DataFolderError(
            "The groups cannot be read.",
            file=groups,
            expected="a CSV with the columns path and group",
            found=error,
            todo="write the columns path and group, a row an image",
        ) from error
    missing = [file.path for file in files if file.path not in known]
    if missing:
        raise DataFolderError(
            f"{len(missing)} images have no group.",
            file=groups,
            expected="a row for every image, its path relative to the training folder",
            found=f"none for {missing[0]}",
            todo="give every image a group; an image of its own may have its path for one",
        )
    return [LabelledFile(file.path, file.label, str(known[file.path])) for file in files]
