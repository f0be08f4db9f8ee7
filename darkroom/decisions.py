"""What a person decided about files that were set aside and nights that were kept back: who, when and why, for good.

decisions/00000001.json …    one a decision, added to and never changed
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from darkroom.errors import WrongUse
from darkroom.person import this_person
from darkroom.reasons import Reason
from darkroom.records import add_record, read_records, rewrite_record
from darkroom.results import now
from darkroom.storage import Storage, storage_at

_FOLDER: Final = "decisions"


class Act(StrEnum):
    """What was decided."""

    RELEASE_FILES = "release files"
    DELETE_COPIES = "delete copies"
    RELEASE_RUN = "release run"
    DISCARD_RUN = "discard run"


class _Kept(BaseModel):
    # A field of a later version must not make a record unreadable.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Content(_Kept):
    """A content that a decision is about, as it was refused last."""

    content_id: str
    bundle: str = Field(description="Id of the bundle that it was refused for.")
    inbox: str
    path: str
    night: date
    reason: Reason


class HeldRun(_Kept):
    """A run that was kept back."""

    run: str
    bundle: str
    night: date
    inbox: str


class Decision(_Kept):
    """One decision: about files that were set aside (`contents`), or about a run that was kept back (`held`)."""

    number: int
    act: Act
    why: str
    by: str
    at: datetime = Field(description="For a person, and to tell which runs began after it.")
    flow_run: str | None = Field(default=None, description="Id of the Prefect run that carried it out.")
    contents: tuple[Content, ...] = ()
    forgotten: int = Field(default=0, description="Contents that it was about, and that have been forgotten since.")
    held: HeldRun | None = None


def decide(
    results: Storage | Path | str,
    act: Act,
    *,
    why: str,
    by: str | None = None,
    flow_run: str | None = None,
    contents: Iterable[Content] = (),
    held: HeldRun | None = None,
) -> Decision:
    """Record a decision; `by` is the user of this process where nothing is said. Raises WrongUse without a reason."""
    if not why.strip():
        raise WrongUse("A decision is kept with its reason.", expected="why, in words", found=repr(why))
    kept = tuple(contents)
    return add_record(
        storage_at(results),
        _FOLDER,
        lambda number: Decision(
            number=number,
            act=act,
            why=why.strip(),
            by=(by or "").strip() or this_person(),
            at=now(),
            flow_run=flow_run,
            contents=kept,
            held=held,
        ),
    )


def decisions(results: Storage | Path | str, act: Act | None = None) -> list[Decision]:
    """The decisions (of one kind), in the order in which they were made. Raises StorageError where one is broken."""
    return [one for one in read_records(storage_at(results), _FOLDER, Decision) if act is None or one.act is act]


def rewrite_decision(storage: Storage, decision: Decision) -> None:
    """Replace a decision in one step: for contents that are forgotten, and for nothing else."""
    rewrite_record(storage, _FOLDER, decision.number, decision)
