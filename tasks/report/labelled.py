"""What labels said of each night, kept beside the pages for the one over all nights: `darkroom evaluate` writes it.

reports/labels/<bundle>.json    derived from the record of labels, and replaced whole by every evaluation
"""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from darkroom.errors import StorageError
from darkroom.storage import Storage, storage_at

_FOLDER: Final = "reports/labels"


class LabelledNight(BaseModel):
    """A night with labels: accuracy with its 90 % interval (shares), from so many labelled images of these `runs`;
    `design` says how they were chosen (expectations.labelling).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    night: date
    labelled: int
    accuracy: float
    low: float
    high: float
    design: str = ""
    runs: tuple[str, ...] = ()


_NIGHTS: Final = TypeAdapter(tuple[LabelledNight, ...])


def write_labelled(results: Storage | Path | str, bundle: str, nights: tuple[LabelledNight, ...]) -> None:
    """In place of what an earlier evaluation said of this bundle. Raises StorageError."""
    storage_at(results).write(_key(bundle), _NIGHTS.dump_json(nights, indent=1))


def labelled_nights(results: Storage | Path | str, bundle: str) -> dict[date, LabelledNight]:
    """What the last evaluation said; nothing where none was, or where its file is lost: the next one writes it anew."""
    with suppress(StorageError, ValidationError):
        data = storage_at(results).peek(_key(bundle))
        if data is not None:
            return {one.night: one for one in _NIGHTS.validate_json(data)}
    return {}


def _key(bundle: str) -> str:
    return f"{_FOLDER}/{bundle}.json"
