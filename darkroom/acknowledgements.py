"""Who has looked at which alarm, when and why: records beside the results that are added to and never changed."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from darkroom.errors import WrongUse
from darkroom.person import this_person
from darkroom.reasons import NightVerdict
from darkroom.records import add_record, read_records
from darkroom.results import bundles, commits, now
from darkroom.storage import Storage, storage_at


class Acknowledgement(BaseModel):
    """One alarm that a person has dealt with: what came up to that night no longer counts in the sum across nights."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int
    bundle: str
    night: date
    inbox: str | None = Field(default=None, description="Whose nights; None: of every inbox of the bundle.")
    reason: str
    by: str
    at: datetime = Field(description="For a person; nothing is decided by it.")


def acknowledge(
    results: Storage | Path | str, night: date, *, reason: str, bundle: str | None = None, by: str | None = None
) -> Acknowledgement:
    """Record that the alarm of a night was dealt with; the sum across nights starts again after it.

    `bundle` may be left out where only one has an alarm that night; `by` is the user of this process where nothing is
    said. It is for the inbox that has the alarm; where several have one, for all of the bundle's. Raises WrongUse where
    no committed night is an alarm, several bundles have one, or the reason is empty.
    """
    storage = storage_at(results)
    if not reason.strip():
        raise WrongUse("An alarm is acknowledged with a reason.", expected="a reason in words", found=reason)
    chosen, inbox = _with_alarm(storage, night, bundle)
    return add_record(
        storage,
        _folder(chosen),
        lambda number: Acknowledgement(
            number=number,
            bundle=chosen,
            night=night,
            inbox=inbox,
            reason=reason.strip(),
            by=by or this_person(),
            at=now(),
        ),
    )


def acknowledgements(results: Storage | Path | str, bundle: str) -> list[Acknowledgement]:
    """The records of a bundle, in the order in which they were made. Raises StorageError where one cannot be read."""
    return read_records(storage_at(results), _folder(bundle), Acknowledgement)


def _folder(bundle: str) -> str:
    return f"acknowledgements/{bundle}"


def _with_alarm(storage: Storage, night: date, bundle: str | None) -> tuple[str, str | None]:
    names = [one for one in bundles(storage) if bundle is None or one == bundle]
    alarms = {
        name: inboxes
        for name in names
        if (
            inboxes := {
                one.inbox for one in commits(storage, name) if one.night == night and one.verdict is NightVerdict.ALARM
            }
        )
    }
    if not alarms:
        raise WrongUse(
            f"There is no alarm to acknowledge on {night}.",
            file=Path(storage.describe("commits")).parent,
            expected="a committed night whose verdict is alarm",
            todo="name another night; a run that is kept back must be released first",
        )
    if len(alarms) > 1:
        raise WrongUse(
            f"Several bundles have an alarm on {night}.",
            expected="one of them",
            found=", ".join(alarms),
            todo="name it",
        )
    ((name, inboxes),) = alarms.items()
    return name, next(iter(inboxes)) if len(inboxes) == 1 else None
