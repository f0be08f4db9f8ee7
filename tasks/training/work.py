"""The folder where a training keeps what it has finished, so that one that was killed is taken up again.

It is named after what decides the outcome, held by a lock that dies with its process, and removed when the bundle is
sealed. Paths, sizes and times stand for the photos themselves: reading 100,000 of them to know that none has changed
would cost as much as decoding them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from darkroom.names import from_text
from darkroom.settings import TrainingRecipe
from darkroom.storage import LocalStorage, Lock
from tasks.decode import decoder_libraries
from tasks.machine import libraries, machine_type
from tasks.training import dataset as datasets
from tasks.training.dataset import Dataset

FOLDER = ".work"
KEPT_DAYS = 14
# Another one is another layout of the folder, or another way from its files to a bundle.
_LAYOUT = 1


@dataclass(frozen=True)
class Work:
    """A training's own folder; `resumed` says whether an earlier process has left something in it."""

    folder: Path
    resumed: bool


@contextmanager
def work_folder(models: Path, folder: Path, recipe: TrainingRecipe) -> Iterator[Work]:
    """The work folder of this training, below `models`/.work, locked; removed when the body ends without an error.

    Two equal trainings at once have a folder each.
    Raises: DataFolderError as `scan` does; StorageError where `models` cannot be written.
    """
    key = work_key(datasets.scan(folder, recipe.group_by, recipe.groups), recipe)
    storage = LocalStorage(models.absolute() / FOLDER)
    name, lock = _take(storage, key)
    try:
        _tidy(storage, keep=name)
        place = storage.root / name
        resumed = place.is_dir()
        place.mkdir(exist_ok=True)
        os.utime(place)
        yield Work(place, resumed)
        storage.remove_folder(name)
        lock.release(forget=True)
    finally:
        lock.release()


def work_key(dataset: Dataset, recipe: TrainingRecipe) -> str:
    """Sixteen hex digits of everything that decides what a training makes: files, recipe, libraries, machine type."""
    beside = [recipe.preprocessing, recipe.groups, Path(recipe.weights)]
    says = {
        "layout": _LAYOUT,
        "recipe": recipe.model_dump(mode="json"),
        "beside": [_stamp(path) for path in beside if path is not None and path.is_file()],
        "libraries": libraries() | decoder_libraries(),
        "machine": machine_type(),
        "classes": dataset.classes,
    }
    digest = hashlib.sha256(json.dumps(says, sort_keys=True).encode())
    for file in dataset.files:
        stamp = _stamp(dataset.folder / from_text(file.path))
        digest.update(json.dumps([file.path, file.label, file.group, *stamp]).encode())
    return digest.hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change; a file that cannot be looked at is left out later, by name."""
    try:
        found = path.stat()
    except OSError:
        return (-1, -1)
    return (found.st_size, found.st_mtime_ns)


def _take(storage: LocalStorage, key: str) -> tuple[str, Lock]:
    for number in count(1):
        name = key if number == 1 else f"{key}-{number}"
        lock = storage.try_lock(name)
        if lock is not None:
            return name, lock
    raise AssertionError


def _tidy(storage: LocalStorage, keep: str) -> None:
    """Remove what nobody has taken up for days."""
    seconds = KEPT_DAYS * 24 * 3600
    storage.tidy(seconds)
    for path in storage.root.iterdir():
        if path.name == keep or path.name.startswith(".") or path.stat().st_mtime > time.time() - seconds:
            continue
        lock = storage.try_lock(path.name)
        if lock is not None:
            storage.remove_folder(path.name)
            lock.release(forget=True)
