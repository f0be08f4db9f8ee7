"""The Prefect UI in a real browser: a person fills in the form, the schedule starts a run, and both complete."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import LogSort

from darkroom import demo_world
from darkroom.decisions import Act, decisions
from darkroom.orchestrator.deployments import DEPLOYMENTS
from darkroom.results import commits
from tasks.bundle import Bundle
from tests import made_up
from tests.form_fields import fields, flow_of

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
    # Tests have inboxes, results and a bundle in folders of their own.
    (folder / "darkroom.toml").write_text(f'roots = [".", "{folder.parents[1]}"]\n')
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
            end = time.monotonic() + 240
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


@contextmanager
def browser_page() -> Iterator[Any]:
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


@pytest.fixture
def page() -> Iterator[Any]:
    with browser_page() as opened:
        yield opened


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


# A file that was set aside, with a name that would be a script on a page that believes it.
HOSTILE = "<img src=x onerror=alert(1)> & [x](http:evil).jpg"


@dataclass(frozen=True)
class FilledIn:
    """A run that a person started from the form."""

    run: Any
    deployment: Any
    inbox: Path
    results: Path
    night: date


@pytest.fixture(scope="module")
def filled_in(served: Served, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> FilledIn:
    folder = tmp_path_factory.mktemp("filled in")
    inbox, results = folder / "an inbox", served.folder / "results"
    demo_world.draw_night(inbox, "good", images=20, seed=1)
    (inbox / HOSTILE).write_bytes(b"\xff\xd8\xff\xe0 broken")
    night = datetime.now(UTC).date() - timedelta(days=1)
    with client_of(served) as client, browser_page() as page:
        score = client.read_deployment_by_name("score/score")
        before = {run.id for run in client.read_flow_runs()}
        # The first page of somebody who opens the address: the list, the deployment, Run, Custom run.
        page.goto(f"{served.address}/v2/deployments")
        page.get_by_role("link", name="score", exact=True).first.click()
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Custom run").click()
        page.get_by_label("Inbox", exact=True).wait_for()
        assert page.get_by_label("Inbox", exact=True).input_value() == str(served.folder / "inbox/{night:%Y-%m-%d}")
        for sentence in ("The night to score.", "Younger files are looked at twice", "Images a shard"):
            assert page.get_by_text(sentence).count() == 1, f"the form does not explain: {sentence}"
        page.get_by_label("Bundle", exact=True).fill(str(bundle.path))
        page.get_by_label("Inbox", exact=True).fill(str(inbox))
        page.get_by_label("Results", exact=False).first.fill(str(results))
        page.screenshot(path=folder / "form.png", full_page=True)
        page.get_by_role("button", name="Submit").click()
        run = wait_until_ended(client, since=before, log=served.log)
        page.goto(f"{served.address}/v2/runs/flow-run/{run.id}")
        page.get_by_text("Completed").first.wait_for()
        page.wait_for_timeout(1500)
        page.screenshot(path=folder / "run.png", full_page=True)
    return FilledIn(run, score, inbox, results, night)


def test_a_person_fills_in_the_form_and_the_run_completes(filled_in: FilledIn, served: Served, bundle: Bundle) -> None:
    run = filled_in.run
    assert run.deployment_id == filled_in.deployment.id
    assert run.parameters["inbox"] == str(filled_in.inbox)
    assert run.state.is_completed(), served.log.read_text()
    (whence,) = [commit.summary.whence for commit in commits(filled_in.results, bundle.id)]
    assert whence is not None
    assert (whence.started, whence.deployment, whence.flow_run) == ("deployment", "score", str(run.id))


def test_the_run_has_its_night_and_its_bundle_for_a_name_and_its_sentence_for_a_message(
    filled_in: FilledIn, served: Served, page: Any, tmp_path: Path
) -> None:
    assert filled_in.run.name == f"{filled_in.night} parts 1"
    page.goto(f"{served.address}/v2/runs")
    page.get_by_role("link", name=f"{filled_in.night} parts 1").wait_for()
    page.screenshot(path=tmp_path / "runs.png")
    assert re.match(r"(ok|warn|alarm): 20 images scored, 1 set aside", filled_in.run.state.message)


# A line a stage, in this order, and nothing else.
STORY = (
    r"Proved: parts-1-\w+ holds: every digest, and \d+ golden images .* \(keras, [\d.]+ s\)\.",
    r"Intake: 21 paths, 21 images to score",
    r"21 of 21 images in \d+ s, [\d.]+ a second, 1 quarantined",
    r"Settled: 20 scored, \d+ trusted, \d+ suspect; 1 quarantined \(1 \w+\)",
    r"Validation: \d+ of \d+ expectations of the suite were met\.",
    r"Drift: .*\.",
    r"(Estimated accuracy|Accuracy is not estimated).*",
    r"(Cause, \w+: .*)?",
    r"Verdict: (ok|warn|alarm)\. 20 images scored, 1 set aside.*",
    r"The page is written: http://127\.0\.0\.1:\d+/\d{4}-\d\d-\d\d/parts-1-\w+/[\w-]+/index\.html",
    r"Committed as number 1: 20 rows",
    r"Told: the artifacts night-parts, drift-parts, quarantine-parts",
)


def test_the_log_reads_as_a_story(filled_in: FilledIn, served: Served, page: Any, tmp_path: Path) -> None:
    page.goto(f"{served.address}/v2/runs/flow-run/{filled_in.run.id}?tab=Logs")
    page.get_by_text("Told: the artifacts").wait_for()
    page.screenshot(path=tmp_path / "log.png", full_page=True)
    with client_of(served) as client:
        own = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[filled_in.run.id]))
        lines = [line.message for line in client.read_logs(own, sort=LogSort.TIMESTAMP_ASC)]
    told = iter(lines)
    line = next(told)
    for pattern in STORY:
        if re.fullmatch(pattern, line):
            line = next(told, "the end")
        else:
            assert re.fullmatch(pattern, ""), f"{line!r} stands where {pattern!r} should, in {lines}"
    assert line == "the end", lines
    assert all(page.get_by_text(line, exact=True).count() == 1 for line in lines if "http" not in line)


def open_artifact(page: Any, served: Served, run: Any, key: str) -> None:
    """As a person does: the run, its artifacts, the card, the newest version."""
    page.goto(f"{served.address}/v2/runs/flow-run/{run.id}")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("link", name=key).click()
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    page.get_by_role("tab", name="Artifact", exact=True).wait_for()
    page.wait_for_timeout(1000)


def wait_for_pictures(page: Any) -> None:
    """Every picture there is; the editor behind the tab Raw has some without a source."""
    page.wait_for_function("Array.from(document.querySelectorAll('img[src]')).every(one => one.naturalWidth)")


def test_the_artifacts_of_a_night_are_read_and_lead_to_its_page(
    filled_in: FilledIn, served: Served, page: Any, tmp_path: Path
) -> None:
    said: list[str] = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    open_artifact(page, served, filled_in.run, "night-parts")
    page.get_by_role("heading", name="Most suspect").or_(page.get_by_text("20 images scored")).first.wait_for()
    wait_for_pictures(page)
    page.screenshot(path=tmp_path / "night.png", full_page=True)
    assert page.locator("img[src^='data:image/png']").count() == 1
    assert page.locator("img[src^='data:image/jpeg']").count() == 1
    link = page.get_by_role("link", name="The page of this night")
    # What the page says on the way is a breach of its own policy.
    page.on("console", lambda message: said.append(message.text))
    with page.expect_navigation():
        link.click()
    page.get_by_role("heading", level=1).get_by_text("20 images scored").wait_for()
    page.screenshot(path=tmp_path / "page.png")
    wait_for_pictures(page)
    assert page.locator("img").count() > 10
    assert page.evaluate("getComputedStyle(document.body).margin") == "0px"  # its styles are applied
    page.get_by_role("link", name="all nights").click()
    page.get_by_role("link", name=f"{filled_in.night}").first.wait_for()
    assert said == []


def test_the_drift_and_the_quarantine_of_a_night_are_tables_and_names_stay_text(
    filled_in: FilledIn, served: Served, page: Any, tmp_path: Path
) -> None:
    said: list[str] = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    open_artifact(page, served, filled_in.run, "drift-parts")
    page.get_by_role("columnheader", name="measure").wait_for()
    assert page.get_by_role("cell", name="sharpness", exact=True).count() == 1
    page.screenshot(path=tmp_path / "drift.png", full_page=True)
    open_artifact(page, served, filled_in.run, "quarantine-parts")
    page.get_by_role("columnheader", name="reason").wait_for()
    page.get_by_text(HOSTILE, exact=False).wait_for()
    page.screenshot(path=tmp_path / "quarantine.png", full_page=True)
    assert page.locator("img[src='x']").count() == 0
    assert said == []


def test_the_progress_of_a_run_ends_with_every_image(filled_in: FilledIn, served: Served, page: Any) -> None:
    page.goto(f"{served.address}/v2/runs/flow-run/{filled_in.run.id}")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("link", name="progress-parts").get_by_text("21 of 21 images in").wait_for()
    with client_of(served) as client:
        own = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[filled_in.run.id]))
        found = {one.key: one for one in client.read_artifacts(artifact_filter=own)}
    assert found.keys() == {"progress-parts", "night-parts", "drift-parts", "quarantine-parts"}
    assert found["progress-parts"].data == 100
    assert all(len(str(one.data)) < 300_000 for one in found.values())


def open_form(page: Any, served: Served, client: Any, name: str) -> None:
    deployment = client.read_deployment_by_name(f"{name}/{name}")
    page.goto(f"{served.address}/v2/deployments/deployment/{deployment.id}/run")
    page.get_by_role("button", name="Submit").wait_for()


@pytest.mark.parametrize("name", [entry.name for entry in DEPLOYMENTS])
def test_a_form_shows_every_parameter_with_its_title_and_what_it_is(
    served: Served, page: Any, tmp_path: Path, name: str
) -> None:
    page.set_viewport_size({"width": 1300, "height": 5500})
    with client_of(served) as client:
        open_form(page, served, client, name)
    page.get_by_text("Enforce Parameter Schema").wait_for()
    page.wait_for_timeout(500)
    page.screenshot(path=tmp_path / f"{name}.png")
    shown = page.locator("body").inner_text()
    lines = shown.splitlines()
    for field in fields(flow_of(name).parameters.model_dump_for_openapi()):
        title = field.schema["title"]
        assert title in lines or f"{title} (Optional)" in lines, field.path
        assert field.schema["description"].replace("\n", " ") in lines, field.path
    # What the form writes where it does not know what to show.
    assert "Property is type" not in shown


def test_a_wrong_value_gets_its_error_in_the_form_or_at_once_in_the_run(
    served: Served, page: Any, tmp_path: Path
) -> None:
    with client_of(served) as client:
        before = {run.id for run in client.read_flow_runs()}
        open_form(page, served, client, "train")
        page.get_by_label("Name (Optional)", exact=True).fill("my model")
        page.get_by_role("button", name="Submit").click()
        page.get_by_text("'folder' is a required property").first.wait_for()
        page.get_by_text("'my model' does not match").first.wait_for()
        page.evaluate("window.scrollTo(0, 0)")
        page.get_by_text("Parameters").first.scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / "wrong.png")
        page.get_by_label("Name (Optional)", exact=True).fill("model")
        page.get_by_label("Photos", exact=True).fill("nowhere")
        page.get_by_label("Image size (Optional)", exact=True).fill("7")
        page.get_by_role("button", name="Submit").click()
        page.screenshot(path=tmp_path / "out-of-bounds.png")
        told = page.get_by_label("Image size (Optional)", exact=True).evaluate("input => input.validationMessage")
        assert "32" in told
        assert {run.id for run in client.read_flow_runs()} == before
        page.get_by_label("Image size (Optional)", exact=True).fill("224")
        # The form looks at the errors of the attempt before: a click may only show it that there are none any more.
        submit = page.get_by_role("button", name="Submit")
        for _ in range(10):
            submit.click()
            page.wait_for_timeout(3000)
            if {run.id for run in client.read_flow_runs()} != before:
                break
        run = wait_until_ended(client, since=before, log=served.log)
        page.goto(f"{served.address}/v2/runs/flow-run/{run.id}")
        page.get_by_text("There is no such folder.").first.wait_for()
        page.get_by_text("parameter: folder").first.wait_for()
        page.screenshot(path=tmp_path / "told.png")
        tasks = [one for one in client.read_task_runs() if one.flow_run_id == run.id]
    assert run.state.is_failed()
    assert tasks == [], "it has failed at once"


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
        page.get_by_label("Results", exact=False).first.fill(str(results))
        page.get_by_label("Select Action").click()
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
