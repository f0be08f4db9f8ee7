"""Which night a run is for: from the schedule or from a person, never from the clock on the wall."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from darkroom.settings import NightOptions

_NIGHT_FIELD = re.compile(r"\{night(?::([^{}]*))?\}")


def night_of(options: NightOptions, scheduled: datetime | None) -> date:
    """The night that a run is for.

    `scheduled` is when the run was meant to start, with a time zone, so that late, retried and backfilled runs score
    the right night; a run that nobody scheduled passes the moment of its creation.
    """
    if options.night is not None:
        return options.night
    moment = scheduled if scheduled is not None else datetime.now(UTC)
    return moment.astimezone(ZoneInfo(options.timezone)).date() + timedelta(days=options.night_offset_days)


def folder_of_night(inbox: str, night: date) -> Path:
    """`inbox/{night:%Y-%m-%d}` becomes the folder of that night; a path without a field is itself."""
    return Path(_NIGHT_FIELD.sub(lambda match: night.strftime(match.group(1) or "%Y-%m-%d"), inbox))


def is_a_folder_a_night(inbox: str) -> bool:
    """Whether each night has a folder of its own: where it is missing, nobody delivered."""
    return _NIGHT_FIELD.search(inbox) is not None


def folder_of_nights(inbox: str) -> Path:
    """The folder in which the nights' own folders appear: `inbox` for `inbox/{night:%Y}/{night:%m-%d}`."""
    field = _NIGHT_FIELD.search(inbox)
    before = inbox if field is None else inbox[: field.start()]
    # What follows is the rest of a name, or a name of its own.
    return Path(before.rpartition("/")[0] + "/") if "/" in before else Path()
