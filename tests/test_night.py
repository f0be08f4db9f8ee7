"""The night of a run comes from the schedule, not from the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from darkroom.night import folder_of_night, night_of
from darkroom.settings import NightOptions

CASES = {
    "two at night is for yesterday": (NightOptions(), "2026-11-24T02:00", date(2026, 11, 23)),
    "given wins over the schedule": (NightOptions(night=date(2026, 1, 5)), "2026-11-24T02:00", date(2026, 1, 5)),
    "no offset": (NightOptions(night_offset_days=0), "2026-11-24T02:00", date(2026, 11, 24)),
    "the local date counts, east": (NightOptions(timezone="Asia/Tokyo"), "2026-11-23T17:00", date(2026, 11, 23)),
    "the local date counts, west": (NightOptions(timezone="America/New_York"), "2026-11-24T02:00", date(2026, 11, 22)),
    "the night that the clock goes back": (
        NightOptions(timezone="Europe/Berlin"),
        "2026-10-25T01:00",
        date(2026, 10, 24),
    ),
}


@pytest.mark.parametrize(("options", "scheduled", "night"), CASES.values(), ids=CASES.keys())
def test_the_night_is_the_scheduled_local_date_plus_the_offset(
    options: NightOptions, scheduled: str, night: date
) -> None:
    assert night_of(options, datetime.fromisoformat(scheduled).replace(tzinfo=UTC)) == night


def test_a_time_zone_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValidationError, match=r"name of a time zone.*Mars/Olympus"):
        NightOptions(timezone="Mars/Olympus")


@pytest.mark.parametrize(
    ("inbox", "folder"),
    [("inbox", "inbox"), ("inbox/{night}", "inbox/2026-11-23"), ("in/{night:%Y/%m/%d}/raw", "in/2026/11/23/raw")],
)
def test_an_inbox_may_hold_the_night(inbox: str, folder: str) -> None:
    assert folder_of_night(inbox, date(2026, 11, 23)) == Path(folder)
