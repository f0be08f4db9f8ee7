"""What is promised of nights in production: by the schedule, whatever is killed, when the clocks change, afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from benchmarks.harness import Measured, Row
from darkroom import demo_world
from darkroom.night import folder_of_night, night_of
from darkroom.settings import ExaminationOptions, HeadOptions, IntakeOptions, NightOptions, RunOptions, TrainingRecipe
from tasks.bundle import Bundle, open_bundle
from tests.scheduled import Nights, killed_alone, killed_and_stopped, worker_and_server_die
from tests.served import Serve
from tests.sockets import Sockets

ZONES: Final = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Santiago")
CRONS: Final = ("0 1 * * *", "0 2 * * *", "30 2 * * *", "0 3 * * *", "30 23 * * *")
FIRST: Final = date(2026, 3, 1)


@cache
def work() -> Path:
    """A new folder for this run."""
    return Path(mkdtemp(prefix="darkroom-benchmarks-"))


def place(name: str) -> Path:
    folder = work() / name
    folder.mkdir()
    return folder


@cache
def bundle() -> Bundle:
    """Trained on the drawn world, as that of the tests."""
    from darkroom.orchestrator import api

    demo_world.draw_training(work() / "training", images=320, seed=3)
    head = HeadOptions(dense_units=32, dropout=0.2, epochs=6)
    recipe = TrainingRecipe(
        backbone="SmallConvNet", weights="none", image_size=64, group_by="sub-folder", validation_share=0.35, head=head
    )
    with api():
        from flows.train import train

        sealed = train(
            folder=work() / "training",
            models=work() / "models",
            name="parts",
            recipe=recipe,
            examination=ExaminationOptions(sensitivity_images=12),
        )
    return open_bundle(Path(sealed.path))


def three_nights() -> Mapping[str, Measured]:
    """By the scheduler; everything killed in the second, stopped and started in the third; every socket recorded."""
    nights = Nights(place("three"), bundle(), 3)
    sockets = Sockets(nights.folder / "sockets")
    with Serve(nights.folder, **sockets.environment) as serve:
        runs = killed_and_stopped(nights, serve)
        with serve.client() as client:
            (schedule,) = client.read_deployment_by_name("score/score").schedules
    found = nights.found()
    attempts = ", ".join(f"{run.state.name} at attempt {run.run_count}" for run in runs)
    processes = len({pid for pid, _ in sockets.recorded()})
    return {
        "three_nights_right": Measured(found.right, attempts),
        "three_nights_doubled": Measured(found.doubled, "rows too many"),
        "schedule_alive": Measured(int(schedule.active), "after kill -9, Ctrl-C, and two starts"),
        "sockets_leaving": Measured(
            len(sockets.leaving()), f"of {processes} processes: server, worker, runs, decoders", [*sockets.leaving()]
        ),
    }


def killed() -> Mapping[str, Measured]:
    """The process of a run alone; a worker alone; a server under a run."""
    first = Nights(place("alone"), bundle(), 2)
    with Serve(first.folder) as serve:
        killed_alone(first, serve)
    second = Nights(place("restarted"), bundle(), 2)
    worker_and_server_die(second)
    found = [first.found(), second.found()]
    return {
        "killed_nights_right": Measured(sum(one.right for one in found), "run killed, worker killed, server restarted"),
        "killed_rows_doubled": Measured(sum(one.doubled for one in found), "two people start one night at once, too"),
    }


def clock_changes() -> Mapping[str, Measured]:
    """Both changes of a year, planned as the server does it, again and again from the present on."""
    from darkroom.orchestrator.clock_changes import changes_of_clock

    wrong, nights = [], 0
    for zone in ZONES:
        for change in changes_of_clock(zone, date(2026, 1, 2), days=364):
            for cron in CRONS:
                folders = _planned(cron, zone, change)
                nights += len(folders)
                first = date.fromisoformat(folders[0].name)
                if folders != [Path(f"inbox/{first + timedelta(days=n)}") for n in range(len(folders))]:
                    wrong.append((zone, change, cron))
    return {
        "clock_change_schedules_wrong": Measured(
            len(wrong), f"{nights} nights, {len(ZONES)} zones, {len(CRONS)} hours", wrong
        )
    }


def _planned(cron: str, zone: str, change: date) -> list[Path]:
    from prefect.server.schemas.schedules import CronSchedule

    schedule = CronSchedule(cron=cron, timezone=zone)
    noon = datetime(change.year, change.month, change.day, 12, tzinfo=UTC)
    moments: set[datetime] = set()
    for half_hours in range(2 * 24 * 8):
        now = noon - timedelta(days=4) + half_hours * timedelta(minutes=30)
        moments |= {moment.astimezone(UTC) for moment in schedule._get_dates_generator(n=3, start=now)}
    return [
        folder_of_night("inbox/{night:%Y-%m-%d}", night_of(NightOptions(timezone=zone), moment))
        for moment in sorted(moments)
    ]


def backfill() -> Mapping[str, Measured]:
    """Seven nights by the command, two at once; then the same command again."""
    folder = place("backfill")
    for day in range(7):
        night = FIRST + timedelta(days=day)
        demo_world.draw_night(folder / "inbox" / f"{night}", "good", images=12, seed=night.toordinal())
    command = [sys.executable, "-m", "darkroom.cli", "backfill", str(bundle().path), "inbox/{night:%Y-%m-%d}"]
    options = ["--from", f"{FIRST}", "--to", f"{FIRST + timedelta(days=6)}", "--at-once", "2", "--settle-seconds", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    codes, seconds = [], []
    for _ in range(2):
        started = time.perf_counter()
        done = subprocess.run([*command, *options], cwd=folder, env=environment, capture_output=True, text=True)
        codes.append(done.returncode)
        seconds.append(time.perf_counter() - started)
    right, doubled = _nights_in(folder)
    return {
        "backfill_nights_right": Measured(right, f"exit codes {codes}; {seconds[0]:.0f} s, again {seconds[1]:.0f} s"),
        "backfill_rows_doubled": Measured(doubled, "two at once, and the command a second time"),
    }


def _nights_in(folder: Path) -> tuple[int, int]:
    """Nights whose rows are the images of their own folder; rows too many."""
    import hashlib

    import darkroom

    rows = darkroom.read(folder / "results")
    right = 0
    for night, group in rows.groupby("night")["content_id"]:
        files = (path for path in (folder / "inbox" / f"{night.date()}").rglob("*") if path.is_file())
        right += {hashlib.sha256(file.read_bytes()).hexdigest() for file in files} == set(group)
    return right, int(rows["content_id"].duplicated().sum())


def overhead() -> Mapping[str, Measured]:
    """What Prefect adds to a night: a run against a running server, less the work in its tasks; five nights, warm."""
    from prefect.client.orchestration import get_client

    from darkroom.orchestrator import api

    folder = place("overhead")
    trials: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(api())
        client = stack.enter_context(get_client(sync_client=True))
        from flows.score import score

        for number in range(6):
            night = FIRST + timedelta(days=number)
            demo_world.draw_night(folder / f"{night}", "good", images=12, seed=night.toordinal())
            started = time.perf_counter()
            score(
                bundle=bundle().path,
                inbox=str(folder / "{night:%Y-%m-%d}"),
                results=folder / "results",
                night=NightOptions(night=night),
                intake=IntakeOptions(settle_seconds=0),
                run=RunOptions(thumbnails=False),
            )
            whole = time.perf_counter() - started
            run = client.read_flow_runs(limit=1, sort="START_TIME_DESC")[0]  # type: ignore[arg-type]
            time.sleep(2)  # task runs are told by events, a moment later
            tasks = [task for task in client.read_task_runs() if task.flow_run_id == run.id]
            inside = sum(task.total_run_time.total_seconds() for task in tasks)
            trials.append({"whole": whole, "tasks": inside, "number": len(tasks)})
    warm = sorted(trial["whole"] - trial["tasks"] for trial in trials[1:])
    note = f"{trials[1]['number']} tasks; a night of 12 images took {trials[-1]['whole']:.1f} s"
    return {"prefect_overhead_seconds": Measured(warm[len(warm) // 2], note, trials)}


ROWS: Mapping[str, Row] = {
    "three_nights": three_nights,
    "killed": killed,
    "clock_changes": clock_changes,
    "backfill": backfill,
    "overhead": overhead,
}
