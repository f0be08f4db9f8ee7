"""The Prefect UI in a real browser: a person fills in the form, the schedule starts a run, and both complete."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from darkroom import demo_world
from darkroom.decisions import Act, decisions
from darkroom.results import commits
from tasks.bundle import Bundle
from tests import made_up

# Prefect's and Playwright's own warnings are not ours to mend.
pytestmark = [pytest.mark.long, pytest.mark.browser, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

RUN_SECONDS = 240.0


@dataclass
class Served:
    """`darkroom serve` in a folder."""

    address: str
    folder: Path
    log: Path

    @property
    def api(self) -> str:
        return f"{self.address}/api"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    log = folder / "serve.log"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**ours, "PREFECT_HOME": str(folder / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "2"}
    command = [sys.executable, "-m", "darkroom.cli", "serve", "--port", str(port)]
    with (
        log.open("w") as told,
        subprocess.Popen(command, env=environment, cwd=folder, stdout=told, stderr=subprocess.STDOUT) as process,
    ):
        try:
            end = time.monotonic() + 120
            while "Ctrl-C" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.5)
            yield Served(f"http://127.0.0.1:{port}", folder, log)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=90)
    assert process.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text()


@contextmanager
def client_of(served: Served) -> Iterator[Any]:
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(served.api) as client:
        yield client


@pytest.fixture
def page() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if browser_path is None:
        pytest.skip("no chromium or chrome on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1500})
        page.set_default_timeout(30_000)
        yield page
        browser.close()


def wait_until_ended(client: Any, *, since: set[Any], log: Path) -> Any:
    """The first run that was not there before, once it has ended."""
    return wait_until(client, lambda state: state.is_final(), since=since, log=log)


def wait_until(client: Any, reached: Callable[[Any], bool], *, since: set[Any], log: Path) -> Any:
    """The first run that was not there before, once its state is so."""
    end = time.monotonic() + RUN_SECONDS
    while time.monotonic() < end:
        for run in client.read_flow_runs():
            if run.id not in since and run.state is not None and reached(run.state):
                return run
        time.sleep(1)
    raise AssertionError(f"no run came so far within {RUN_SECONDS:.0f} s\n{log.read_text()}")


def test_a_person_fills_in_the_form_and_the_run_completes(
    served: Served, page: Any, bundle: Bundle, tmp_path: Path
) -> None:
    inbox, results = tmp_path / "an inbox", tmp_path / "results"
    demo_world.draw_night(inbox, "good", images=20, seed=1)
    with client_of(served) as client:
        score = client.read_deployment_by_name("score/score")
        before = {run.id for run in client.read_flow_runs()}
        # The first page of somebody who opens the address: the list, the deployment, Run, Custom run.
        page.goto(f"{served.address}/v2/deployments")
        page.get_by_role("link", name="score", exact=True).first.click()
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Custom run").click()
        page.get_by_label("inbox", exact=True).wait_for()
        assert page.get_by_label("inbox", exact=True).input_value() == str(served.folder / "inbox/{night:%Y-%m-%d}")
        for sentence in ("The night to score.", "Younger files are looked at twice", "Images a shard"):
            assert page.get_by_text(sentence).count() == 1, f"the form does not explain: {sentence}"
        page.get_by_label("bundle", exact=True).fill(str(bundle.path))
        page.get_by_label("inbox", exact=True).fill(str(inbox))
        page.get_by_label("results", exact=False).first.fill(str(results))
        page.screenshot(path=tmp_path / "form.png", full_page=True)
        page.get_by_role("button", name="Submit").click()
        run = wait_until_ended(client, since=before, log=served.log)
        page.goto(f"{served.address}/v2/runs/flow-run/{run.id}")
        page.get_by_text("Completed").first.wait_for()
        page.wait_for_timeout(1500)
        page.screenshot(path=tmp_path / "run.png", full_page=True)
    assert run.deployment_id == score.id
    assert run.parameters["inbox"] == str(inbox)
    assert run.state.is_completed(), served.log.read_text()
    (whence,) = [commit.summary.whence for commit in commits(results, bundle.id)]
    assert whence is not None
    assert (whence.started, whence.deployment, whence.flow_run) == ("deployment", "score", str(run.id))


def test_the_schedule_starts_a_run_of_last_night_that_completes(
    served: Served, page: Any, bundle: Bundle, tmp_path: Path
) -> None:
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.client.schemas.schedules import IntervalSchedule

    # The server plans runs once a minute: sooner than that it would plan the one of tomorrow.
    start = datetime.now(UTC) + timedelta(seconds=90)
    night = start.date() - timedelta(days=1)
    inbox, results = tmp_path / "inbox", tmp_path / "results"
    demo_world.draw_night(inbox / f"{night}", "good", images=20, seed=1)
    parameters = {"bundle": str(bundle.path), "inbox": f"{inbox}/{{night:%Y-%m-%d}}", "results": str(results)}
    with client_of(served) as client:
        score = client.read_deployment_by_name("score/score")
        before = {run.id for run in client.read_flow_runs()}
        client.update_deployment(score.id, DeploymentUpdate(parameters=parameters))
        schedule = IntervalSchedule(interval=timedelta(days=1), anchor_date=start)
        client.create_deployment_schedules(score.id, [(schedule, True)])
        run = wait_until_ended(client, since=before, log=served.log)
        page.goto(f"{served.address}/v2/runs/flow-run/{run.id}")
        page.get_by_text("Completed").first.wait_for()
        page.wait_for_timeout(1500)
        page.screenshot(path=tmp_path / "scheduled.png", full_page=True)
    assert run.auto_scheduled
    assert abs(run.expected_start_time - start) < timedelta(seconds=1)
    assert run.state.is_completed(), served.log.read_text()
    (whence,) = [commit.summary.whence for commit in commits(results, bundle.id)]
    assert whence is not None
    assert (whence.started, whence.deployment, whence.scheduled_for) == ("schedule", "score", run.expected_start_time)


def test_a_person_is_asked_about_the_quarantine_and_answers_in_the_form(
    served: Served, page: Any, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    made_up.score(results, made_up.draw_inbox(tmp_path / "inbox", broken=3))
    with client_of(served) as client:
        before = {run.id for run in client.read_flow_runs()}
        page.goto(f"{served.address}/v2/deployments")
        page.get_by_role("link", name="quarantine", exact=True).first.click()
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Custom run").click()
        page.get_by_label("results", exact=False).first.fill(str(results))
        page.get_by_label("Select action").click()
        page.get_by_role("option", name="ask").click()
        page.get_by_role("button", name="Submit").click()
        paused = wait_until(client, lambda state: state.is_paused(), since=before, log=served.log)
        page.goto(f"{served.address}/v2/runs/flow-run/{paused.id}")
        page.get_by_role("button", name="Open menu").click()
        page.get_by_role("menuitem", name="Resume").click()
        form = page.get_by_role("dialog")
        form.get_by_text("3 files are in quarantine. 3 copies kept.").wait_for()
        form.get_by_label("Select Action").click()
        page.get_by_role("option", name="release").click()
        form.get_by_label("Select Reason").click()
        page.get_by_role("option", name="broken_data").click()
        title = form.get_by_text("Resume Flow Run").bounding_box()
        page.mouse.click(title["x"] + 20, title["y"] + 8)  # a list of many stays open until one clicks beside it
        page.get_by_role("option").first.wait_for(state="hidden")
        form.get_by_label("Note").fill("the decoder is mended")
        form.get_by_label("By (Optional)").fill("ada")
        page.screenshot(path=tmp_path / "resume.png")
        form.get_by_role("button", name="Resume").click()
        run = wait_until(client, lambda state: state.is_final(), since=before, log=served.log)
        page.goto(f"{served.address}/v2/runs/flow-run/{run.id}")
        page.get_by_text("Decision 1: 3 files released by ada: the decoder is mended").wait_for()
        page.screenshot(path=tmp_path / "answered.png", full_page=True)
    assert run.state.is_completed(), served.log.read_text()
    (record,) = decisions(results)
    assert (record.act, record.by, record.flow_run) == (Act.RELEASE_FILES, "ada", str(run.id))
