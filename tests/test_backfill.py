"""Many nights afterwards: the right folders, each night once, and one that fails does not stop the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

import darkroom
from darkroom import demo_world
from darkroom.errors import WrongUse
from darkroom.reasons import NightVerdict
from darkroom.results import commits
from darkroom.settings import IntakeOptions, RunOptions
from flows.backfilled import Backfilled, NightOutcome
from tasks.bundle import Bundle
from tests import nights as made_up
from tests.served import wait_until

FIRST = date(2026, 3, 1)
FOLDERS = "inbox/{night:%Y-%m-%d}"
IMAGES = 12


def nights(count: int, start: date = FIRST) -> list[date]:
    return [start + timedelta(days=day) for day in range(count)]


def draw(folder: Path, which: list[date]) -> str:
    """Different images every night; the inbox as a parameter."""
    for night in which:
        demo_world.draw_night(folder / "inbox" / f"{night}", "good", images=IMAGES, seed=night.toordinal())
    return str(folder / FOLDERS)


def backfill(bundle: Bundle, inbox: str, results: Path, **changes: Any) -> Backfilled:
    from flows.backfill import answer
    from flows.backfill import backfill as flow

    asked: dict[str, Any] = {
        "start": FIRST,
        "end": FIRST + timedelta(days=2),
        "bundle": bundle.path,
        "inbox": inbox,
        "results": results,
        "intake": IntakeOptions(settle_seconds=0),
        "run": RunOptions(shard_size=4, thumbnails=False),
    }
    return answer(flow(**{**asked, **changes}, return_state=True))


def rows_of(results: Path) -> dict[date, int]:
    rows = darkroom.read(results)
    assert rows["content_id"].is_unique
    return {night.date(): int(count) for night, count in rows.groupby("night").size().items()}


def came(told: Backfilled) -> dict[date, str]:
    return {outcome.night: outcome.came for outcome in told.nights}


def staged(results: Path, night: date) -> bool:
    """Whether a run of this night is at work, and has looked at a shard."""
    for record in (results / "staging").glob("*/run.json"):
        try:
            if json.loads(record.read_text())["night"] == str(night):
                return any((record.parent / "shards").glob("*.json"))
        except (OSError, ValueError):  # it is being written, or removed
            pass
    return False


def below(pid: int) -> list[psutil.Process]:
    """The processes that score nights for this one."""
    return [
        process
        for process in psutil.Process(pid).children(recursive=True)
        if "flows.night_main" in " ".join(process.cmdline())
    ]


TOMORROW = datetime.now(UTC).date() + timedelta(days=2)


@pytest.mark.parametrize(
    ("start", "end", "inbox", "names"),
    [
        (date(2026, 3, 2), date(2026, 3, 1), FOLDERS, "end"),
        (date(2026, 3, 2), TOMORROW, FOLDERS, "end"),
        (date(2024, 3, 2), date(2026, 3, 1), FOLDERS, "end"),
        (date(2026, 3, 1), date(2026, 3, 2), "inbox", "inbox"),
        (date(2026, 3, 1), date(2026, 3, 2), "inbox/{night:%Y-%m}", "inbox"),
    ],
    ids=["in the wrong order", "not yet", "too many", "one folder for all nights", "one folder a month"],
)
def test_nights_that_cannot_be_meant_are_refused_and_the_parameter_is_named(
    start: date, end: date, inbox: str, names: str
) -> None:
    from flows.backfill import nights_between

    with pytest.raises(WrongUse, match=names):
        nights_between(start, end, inbox)


def test_both_ends_and_a_whole_leap_year_are_meant() -> None:
    from flows.backfill import nights_between

    assert nights_between(FIRST, FIRST, FOLDERS) == [FIRST]
    assert len(nights_between(date(2024, 1, 1), date(2024, 12, 31), FOLDERS)) == 366


def test_nights_with_images_are_left_out_and_empty_ones_are_not(tmp_path: Path) -> None:
    from flows.backfill import scored_before

    inbox = str(tmp_path / FOLDERS)
    folders = {night: str((tmp_path / "inbox" / f"{night}").resolve()) for night in nights(4)}
    made_up.commit_night(tmp_path, FIRST, NightVerdict.EMPTY, inbox=folders[FIRST], scored=0, quarantined=0)
    made_up.commit_night(tmp_path, nights(4)[1], NightVerdict.WARN, inbox=folders[nights(4)[1]])
    made_up.commit_night(tmp_path, nights(4)[2], inbox="/another/camera")
    made_up.commit_night(tmp_path, nights(4)[3], inbox=folders[nights(4)[3]], bundle="parts-2-0123456789ab")
    known = scored_before(tmp_path, made_up.BUNDLE, inbox, nights(4))
    assert {night: outcome.told for night, outcome in known.items()} == {
        nights(4)[1]: "Scored before: warn, 40 images, commit 2."
    }


@pytest.mark.parametrize(
    ("outcomes", "good"),
    [
        (["ok", "warn", "left out"], True),
        (["ok", "empty"], True),
        (["left out", "left out"], True),
        (["ok", "alarm"], False),
        (["ok", "failed"], False),
        (["empty", "empty"], False),
    ],
    ids=["left out", "one is empty", "nothing to do", "an alarm", "a failure", "all are empty"],
)
def test_it_is_good_where_nothing_failed_or_alarmed_and_something_was_there(outcomes: list[Any], good: bool) -> None:
    told = Backfilled(
        bundle_id=made_up.BUNDLE,
        nights=tuple(
            NightOutcome(night=night, came=one, told="")
            for night, one in zip(nights(len(outcomes)), outcomes, strict=True)
        ),
    )
    assert told.good is good
    assert all(f"{night}  {one}" in told.as_text() for night, one in zip(nights(3), outcomes, strict=False))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
class TestNights:
    def test_two_at_once_score_every_night_once_and_a_second_backfill_only_what_is_missing(
        self, bundle: Bundle, tmp_path: Path, prefect_api: str
    ) -> None:
        from prefect.client.orchestration import get_client

        results = tmp_path / "results"
        inbox = draw(tmp_path, [nights(4)[0], nights(4)[1], nights(4)[3]])
        told = backfill(bundle, inbox, results, end=nights(4)[3], at_once=2)
        assert list(came(told).values()) == ["ok", "ok", "empty", "ok"]
        assert rows_of(results) == dict.fromkeys([nights(4)[0], nights(4)[1], nights(4)[3]], IMAGES)
        with get_client(sync_client=True) as client:
            runs = [run for run in client.read_flow_runs() if run.parameters.get("results") == str(results)]
            parents = {client.read_task_run(run.parent_task_run_id).name for run in runs if run.parent_task_run_id}
        assert parents == {f"night {night}" for night in nights(4)}
        assert all(run.state.is_completed() for run in runs)
        draw(tmp_path, [nights(4)[2]])
        again = backfill(bundle, inbox, results, end=nights(4)[3], at_once=2)
        assert list(came(again).values()) == ["left out", "left out", "ok", "left out"]
        assert rows_of(results) == dict.fromkeys(nights(4), IMAGES)

    def test_a_night_whose_process_is_killed_fails_and_the_others_do_not(
        self, bundle: Bundle, tmp_path: Path, prefect_api: str
    ) -> None:
        from prefect.client.orchestration import get_client

        results = tmp_path / "results"
        inbox = draw(tmp_path, nights(3))

        def kill_in_the_second() -> None:
            wait_until(lambda: staged(results, nights(3)[1]), "the second night is at work")
            for process in below(os.getpid()):
                process.kill()

        killer = threading.Thread(target=kill_in_the_second, daemon=True)
        killer.start()
        told = backfill(bundle, inbox, results)
        killer.join(10)
        assert list(came(told).values()) == ["ok", "failed", "ok"]
        assert "SIGKILL" in told.nights[1].told
        assert not told.good
        with get_client(sync_client=True) as client:
            runs = [run for run in client.read_flow_runs() if run.parameters.get("results") == str(results)]
        states = sorted(run.state.name for run in runs)
        assert states == ["Completed", "Completed", "Crashed", "Nights failed"]
        again = backfill(bundle, inbox, results)
        assert list(came(again).values()) == ["left out", "ok", "left out"]
        assert rows_of(results) == dict.fromkeys(nights(3), IMAGES)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
    def test_the_command_that_is_stopped_leaves_no_process_and_no_half_night(
        self, bundle: Bundle, tmp_path: Path, prefect_api: str, number: signal.Signals
    ) -> None:
        inbox = draw(tmp_path, nights(2))
        options = ["--from", f"{FIRST}", "--to", f"{nights(2)[1]}", "--settle-seconds", "0", "--shard-size", "4"]
        command = [sys.executable, "-m", "darkroom.cli", "backfill", str(bundle.path), inbox, *options]
        results = tmp_path / "results"
        stopped = subprocess.Popen([*command, "--at-once", "2"], cwd=tmp_path, stderr=subprocess.DEVNULL)
        wait_until(lambda: staged(results, nights(2)[1]), "the second night is at work")
        children = below(stopped.pid)
        stopped.send_signal(number)
        assert stopped.wait(60) == (130 if number is signal.SIGINT else -signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=30)
        assert len(children) == 2
        assert not alive
        if number is signal.SIGINT:
            return
        done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told = Backfilled.model_validate_json(done.stdout)
        assert {outcome.came for outcome in told.nights} <= {"ok", "left out"}
        assert rows_of(results) == dict.fromkeys(nights(2), IMAGES)
        assert [commit.counts.scored for commit in commits(results, bundle.id)] == [IMAGES] * 2
