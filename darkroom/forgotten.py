"""That images were forgotten: who had them removed, when and why, and how much; never what they were.

forgotten/00000001.json …    one a removal, added to and never changed
"""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from darkroom.records import add_record, read_records
from darkroom.results import Dataset
from darkroom.storage import Storage, storage_at

_FOLDER: Final = "forgotten"


class _Kept(BaseModel):
    # A field of a later version must not make a record unreadable.
    model_config = ConfigDict(frozen=True, extra="ignore")


class RowsForgotten(_Kept):
    """How many rows of one dataset of one night."""

    dataset: Dataset
    bundle: str
    night: date
    rows: int


class Removal(_Kept):
    """What was decided, and how much of it there was. Holds no content id, no path, and no digest of either."""

    removal: str = Field(description="Drawn by lot: a removal that was interrupted and completed is recorded once.")
    why: str
    by: str
    at: datetime
    images: int = Field(description="Contents that something was found of.")
    rows: tuple[RowsForgotten, ...] = ()
    commits: int = Field(default=0, description="Commits that were rewritten.")
    copies: int = Field(default=0, description="Files of the quarantine.")
    labels: int = Field(default=0, description="Rows of the record of labels.")
    decisions: int = Field(default=0, description="Decisions that named one of the images.")
    pages: int = Field(default=0, description="Pages that showed one, or named its file.")
    unfinished: int = Field(default=0, description="Unfinished runs, whose work began anew.")

    @property
    def sentence(self) -> str:
        """For a person."""
        rows = sum(one.rows for one in self.rows)
        nights = len({one.night for one in self.rows})
        counted = (
            (rows, f"row{_s(rows)} of {nights:,} night{_s(nights)}"),
            (self.copies, f"cop{'y' if self.copies == 1 else 'ies'} in quarantine"),
            (self.labels, f"label{_s(self.labels)}"),
            (self.decisions, f"decision{_s(self.decisions)} that named one"),
            (self.pages, f"page{_s(self.pages)} redrawn"),
            (self.unfinished, f"unfinished run{_s(self.unfinished)}"),
        )
        told = ", ".join(f"{n:,} {what}" for n, what in counted if n)
        return f"{self.images:,} image{_s(self.images)} forgotten: {told}."


class Forgotten(Removal):
    """A removal that was carried out."""

    number: int


def record_forgotten(results: Storage | Path | str, removal: Removal) -> Forgotten:
    """Record that it was done, once. Raises StorageError."""
    storage = storage_at(results)
    for one in forgotten(storage):
        if one.removal == removal.removal:
            return one
    return add_record(storage, _FOLDER, lambda number: Forgotten(number=number, **dict(removal)))


def forgotten(results: Storage | Path | str) -> list[Forgotten]:
    """Every removal, in the order in which they were made. Raises StorageError where a record is broken."""
    return read_records(storage_at(results), _FOLDER, Forgotten)


def _s(n: int) -> str:
    return "" if n == 1 else "s"
