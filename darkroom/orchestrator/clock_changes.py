"""What a schedule does when the clocks change: which nights nobody would plan a run for."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from darkroom.night import night_of
from darkroom.project import Schedule
from darkroom.settings import NightOptions

_DAYS_AHEAD: Final = 2 * 366
# Prefect looks at no more than 1,000 times of a schedule at once; one a minute is 720.
_AT_ONCE: Final = timedelta(hours=12)


def changes_of_clock(timezone: str, start: date, days: int = _DAYS_AHEAD) -> list[date]:
    """The dates on which the clocks of a time zone change."""
    zone = ZoneInfo(timezone)

    def offset(day: date) -> timedelta | None:
        return datetime(day.year, day.month, day.day, 12, tzinfo=zone).utcoffset()

    ahead = [start + timedelta(days=day) for day in range(days)]
    return [day for day in ahead if offset(day) != offset(day - timedelta(days=1))]


def nights_left_out(schedule: Schedule, start: date) -> list[date]:
    """Nights of the next two years without a run of their own, though the schedule's clock time comes on that date.

    Prefect plans a time that a change of the clock skips for an hour earlier. Where the clocks change at midnight, as
    in Cairo or Santiago, a run at 00:30 is then one of the date before, and so is its night.
    """
    unchanging = schedule.model_copy(update={"timezone": "UTC"})
    left_out: set[date] = set()
    for day in changes_of_clock(schedule.timezone, start):
        # A date begins in one time zone while it ends in another: more days are planned than are asked for.
        left_out |= _planned(unchanging, day, days=1) - _planned(schedule, day, days=3)
    return sorted(left_out)


def _planned(schedule: Schedule, around: date, days: int) -> set[date]:
    """Nights, by Prefect's own planning, so many days before and after a date."""
    from prefect.server.schemas.schedules import CronSchedule

    middle = datetime(around.year, around.month, around.day, 12, tzinfo=UTC)
    planning = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    options = NightOptions(timezone=schedule.timezone, night_offset_days=schedule.night_offset_days)
    starts = (middle + half_day * _AT_ONCE for half_day in range(-2 * days, 2 * days))
    pieces = (asyncio.run(planning.get_dates(start=start, end=start + _AT_ONCE)) for start in starts)
    return {night_of(options, moment.astimezone(UTC)) for piece in pieces for moment in piece}
