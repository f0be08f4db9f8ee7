"""When the clocks change every night comes exactly once, planned by Prefect's own schedule, and in its own folder."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from darkroom.errors import WrongUse
from darkroom.night import folder_of_night, night_of
from darkroom.orchestrator.clock_changes import changes_of_clock, nights_left_out
from darkroom.orchestrator.deployments import check_schedule
from darkroom.project import Project, Schedule
from darkroom.settings import NightOptions

# Prefect's imports are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

INBOX = "inbox/{night:%Y-%m-%d}"
CHANGES = {
    "Berlin, spring": ("Europe/Berlin", date(2026, 3, 29)),
    "Berlin, autumn": ("Europe/Berlin", date(2026, 10, 25)),
    "New York, spring": ("America/New_York", date(2026, 3, 8)),
    "New York, autumn": ("America/New_York", date(2026, 11, 1)),
    "Lord Howe, half an hour, spring": ("Australia/Lord_Howe", date(2026, 10, 4)),
    "Lord Howe, half an hour, autumn": ("Australia/Lord_Howe", date(2026, 4, 5)),
    "Cairo, at midnight, spring": ("Africa/Cairo", date(2026, 4, 24)),
    "Cairo, at midnight, autumn": ("Africa/Cairo", date(2026, 10, 30)),
    "Santiago, at midnight, spring": ("America/Santiago", date(2026, 9, 6)),
}
CRONS = ("0 1 * * *", "30 1 * * *", "0 2 * * *", "30 2 * * *", "0 3 * * *", "30 23 * * *")


def planned(cron: str, timezone: str, start: datetime, end: datetime) -> list[datetime]:
    """What the server plans: again and again, from the present on, three runs ahead, each moment once."""
    from prefect.server.schemas.schedules import CronSchedule

    schedule = CronSchedule(cron=cron, timezone=timezone)
    moments = set()
    now = start
    while now < end:
        moments |= {moment.astimezone(UTC) for moment in schedule._get_dates_generator(n=3, start=now)}
        now += timedelta(minutes=30)
    return sorted(moment for moment in moments if moment < end)


@pytest.mark.parametrize("cron", CRONS)
@pytest.mark.parametrize(("timezone", "day"), CHANGES.values(), ids=CHANGES.keys())
def test_every_night_around_a_change_of_the_clocks_comes_exactly_once_in_its_own_folder(
    timezone: str, day: date, cron: str
) -> None:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    runs = planned(cron, timezone, noon - timedelta(days=4), noon + timedelta(days=4))
    folders = [folder_of_night(INBOX, night_of(NightOptions(timezone=timezone), run)) for run in runs]
    first = night_of(NightOptions(timezone=timezone), runs[0])
    assert first <= day - timedelta(days=3)
    assert folders == [Path(f"inbox/{first + timedelta(days=n)}") for n in range(len(runs))]
    assert len(runs) >= 7


@pytest.mark.parametrize(("timezone", "day"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_the_clocks_is_found(timezone: str, day: date) -> None:
    assert day in changes_of_clock(timezone, date(2026, 1, 2), days=365)


@pytest.mark.parametrize(
    ("cron", "timezone"),
    [("0 2 * * *", "Europe/Berlin"), ("*/5 * * * *", "America/Santiago"), ("30 2 * * 1-5", "America/New_York"),
     ("0 0 * * *", "UTC"), ("0 0 * * *", "Europe/Berlin"), ("30 0 * * 1-5", "America/Santiago"),
     ("0 1 * * *", "Africa/Cairo")],
)  # fmt: skip
def test_a_schedule_that_plans_every_night_is_left_alone(cron: str, timezone: str) -> None:
    assert nights_left_out(Schedule(cron=cron, timezone=timezone), date(2026, 1, 1)) == []
    check_schedule(Project(schedule=Schedule(cron=cron, timezone=timezone)))


@pytest.mark.parametrize(
    ("cron", "timezone", "day"),
    [("0 0 * * *", "Africa/Cairo", date(2026, 4, 24)), ("30 0 * * *", "America/Santiago", date(2026, 9, 6))],
)
def test_a_schedule_is_refused_exactly_where_prefect_would_leave_a_night_out(
    cron: str, timezone: str, day: date
) -> None:
    # At a midnight that does not exist Prefect plans an hour earlier under Python 3.12, and an hour later since 3.13.
    schedule = Schedule(cron=cron, timezone=timezone)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    runs = planned(cron, timezone, noon - timedelta(days=3), noon + timedelta(days=3))
    lost = day - timedelta(days=1) not in {night_of(NightOptions(timezone=timezone), run) for run in runs}
    assert (day - timedelta(days=1) in nights_left_out(schedule, date(2026, 1, 1))) == lost
    if lost:
        with pytest.raises(WrongUse, match="left out when the clocks change") as caught:
            check_schedule(Project(schedule=schedule))
        assert f"{cron} in {timezone}" in str(caught.value)
