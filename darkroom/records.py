"""Records that are only added to: one numbered file each, and of many writers at once each gets a number of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from darkroom.errors import CommitConflict, StorageError
from darkroom.storage import Storage

_RECORD: Final = re.compile(r"(\d{8})\.json")
_TRIES: Final = 100


R = TypeVar("R", bound=BaseModel)


def add_record(storage: Storage, folder: str, make: Callable[[int], R]) -> R:
    """Write what `make` makes of the next number, for good. Raises StorageError where no number is to be had."""
    for _ in range(_TRIES):
        number = max(_numbers(storage, folder), default=0) + 1
        record = make(number)
        try:
            storage.write_new(_key(folder, number), record.model_dump_json(indent=1).encode())
        except CommitConflict:
            continue  # somebody else took this number
        return record
    raise StorageError(
        "A record could not be written: its number was taken each time.",
        file=storage.describe(_key(folder, number)),
        todo="look who else writes there, then try again",
    )


def read_records(storage: Storage, folder: str, model: type[R]) -> list[R]:
    """All of them, in the order of their numbers. Raises StorageError where one cannot be read."""
    found = []
    for number in _numbers(storage, folder):
        key = _key(folder, number)
        try:
            found.append(model.model_validate_json(storage.read(key)))
        except ValidationError as error:
            raise StorageError(
                f"A record cannot be read: {error.errors()[0]['msg']}.",
                file=storage.describe(key),
                todo="restore the file from a backup",
            ) from error
    return found


def rewrite_record(storage: Storage, folder: str, number: int, record: BaseModel) -> None:
    """Replace one in one step: for what is forgotten, and for nothing else."""
    storage.write(_key(folder, number), record.model_dump_json(indent=1).encode())


def _numbers(storage: Storage, folder: str) -> list[int]:
    return sorted(int(found[1]) for name in storage.list(folder) if (found := _RECORD.fullmatch(name)))


def _key(folder: str, number: int) -> str:
    return f"{folder}/{number:08d}.json"
