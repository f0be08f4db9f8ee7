"""Being told: real runs of a real server, a receiver on this machine, and one message for each thing that happens."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.events.schemas.events import Event, Resource

from darkroom import demo_world
from darkroom.errors import GoldenMismatch
from darkroom.orchestrator import automations
from darkroom.orchestrator.connection import reporting_to, send_what_waits
from darkroom.orchestrator.events import NIGHT as NIGHT_EVENT
from darkroom.orchestrator.events import NightTold, night_told
from darkroom.orchestrator.notices import Told
from darkroom.settings import ExaminationOptions, HeadOptions, TrainingRecipe
from darkroom.summary import Counts
from flows.diagnose import diagnose
from flows.score import score as score_flow
from flows.train import train
from tasks.bundle import Bundle
from tasks.inference import Engine
from tasks.photos import Photos, photos_in
from tasks.variants import Replay
from tests.nights import night_summary
from tests.receivers import Mail, Web, mail_receiver, web_receiver
from tests.test_reseal import sealed_elsewhere
from tests.test_tutorials import blocks

# Prefect's own warnings are not ours to mend.
pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

NIGHT = "2026-03-02"
SECRET = "/hooks/not-for-everybody"


@dataclass
class Served:
    """`darkroom serve` in a folder, and its command line beside it."""

    address: str
    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, say: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "darkroom.cli", *arguments],
            env={**self.environment, "PREFECT_API_URL": f"{self.address}/api"},
            cwd=self.folder,
            input=say,
            capture_output=True,
            text=True,
            timeout=180,
        )

    def notify(self, *arguments: str, say: str | None = None) -> dict[str, Any]:
        done = self.run("notify", *arguments, "--json", say=say)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def client(self) -> Any:
        from prefect.client.orchestration import SyncPrefectClient

        return SyncPrefectClient(f"{self.address}/api")

    def ask(self, sql: str, *values: Any) -> list[Any]:
        """The server's own database, while it runs."""
        with closing(sqlite3.connect(self.folder / "prefect/prefect.db", timeout=30)) as database, database:
            return database.execute(sql, values).fetchall()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("told")
    log = folder / "serve.log"
    # Tests have inboxes, results and a bundle in folders of their own.
    (folder / "darkroom.toml").write_text(f'roots = [".", "{folder.parents[1]}"]\n')
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**ours, "PREFECT_HOME": str(folder / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    command = [sys.executable, "-m", "darkroom.cli", "serve", "--port", str(port)]
    with (
        log.open("w") as told,
        subprocess.Popen(command, env=environment, cwd=folder, stdout=told, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_for(lambda: "Ctrl-C" in log.read_text(), 120, log.read_text)
            yield Served(f"http://127.0.0.1:{port}", folder, environment)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=90)


@pytest.fixture
def web() -> Iterator[Web]:
    with web_receiver() as web:
        yield web


@pytest.fixture
def mail() -> Iterator[Mail]:
    with mail_receiver() as mail:
        yield mail


def wait_for(answer: Callable[[], Any], seconds: float, otherwise: Callable[[], object] = lambda: "") -> Any:
    end = time.monotonic() + seconds
    while not (found := answer()):
        assert time.monotonic() < end, otherwise()
        time.sleep(0.3)
    return found


def score(served: Served, **parameters: Any) -> Any:
    """A run of the deployment, by the worker, once it has ended."""
    with served.client() as client:
        deployment = client.read_deployment_by_name("score/score")
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id
        wait_for(lambda: client.read_flow_run(run).state.is_final(), 240)
        return client.read_flow_run(run)


def subjects(web: Web) -> list[str]:
    return [str(request.json["subject"]) for request in web.requests]


def events(served: Served, name: str) -> list[Any]:
    from prefect.events.filters import EventFilter, EventNameFilter

    with served.client() as client:
        return list(client.read_events(EventFilter(event=EventNameFilter(name=[name])), limit=50).events)


def test_each_thing_that_happens_is_told_once_in_words_that_say_what_to_do(
    served: Served, web: Web, bundle: Bundle, tmp_path: Path
) -> None:
    results = served.folder / "results"
    places = {"bundle": str(bundle.path), "results": str(results), "night": {"night": NIGHT}}

    # Who is told: the address comes from the input, and no answer repeats it.
    answer = served.notify("--webhook", "-", "--test", say=web.url(SECRET))
    assert answer["sent"] == 1
    assert [one["channels"] for one in answer["told"] if one["channels"]] == [["custom-webhook/darkroom-notify"]] * 5
    assert SECRET not in json.dumps(answer)
    assert {(request.method, request.path) for request in web.requests} == {("POST", SECRET)}
    silence = _bucket(served)  # from now on, also where no night ever comes
    assert timedelta(hours=26) - timedelta(minutes=2) < silence - datetime.now(UTC) <= timedelta(hours=26)

    # An alarm; the policy makes the run end as failed, and it is still told as what it is.
    demo_world.draw_night(tmp_path / "inbox", "good", images=20, seed=1)
    run = score(
        served,
        inbox=str(tmp_path / "inbox"),
        intake={"expect_at_least": 1000},
        run={"on_alarm": "fail", "metrics": str(tmp_path / "metrics")},
        **places,
    )
    assert (run.state.name, run.state.type.value) == ("Alarm", "FAILED")
    wait_for(lambda: len(web.requests) == 2, 30, lambda: subjects(web))
    told = web.requests[1].json
    assert told["subject"] == f"Alarm: night {NIGHT} ({bundle.id})"
    assert "20 of 20 images scored" in told["body"]
    assert "1000" in told["body"].splitlines()[0]
    assert f"Night {NIGHT}, bundle {bundle.id}, inbox {tmp_path / 'inbox'}" in told["body"]
    page = told["body"].partition("Report: ")[2].splitlines()[0]
    with urllib.request.urlopen(page) as answer:
        assert NIGHT in answer.read().decode()
    assert f"Run: {served.address}/runs/flow-run/{run.id}" in told["body"]
    (event,) = wait_for(lambda: events(served, "darkroom.night.alarm"), 20)
    assert event.resource.id == f"darkroom.night.{bundle.id}.{NIGHT}"
    assert event.payload["counts"]["scored"] == 20
    related = {one.role: one.name for one in event.related}
    assert (related["deployment"], related["flow-run"]) == ("score", run.name)
    # It came to its end: the 26 hours begin anew.
    moved = wait_for(lambda: (now := _bucket(served)) != silence and now, 20)
    assert timedelta(hours=26) - timedelta(minutes=2) < moved - datetime.now(UTC) <= timedelta(hours=26)

    assert len(list((tmp_path / "metrics").glob("darkroom-parts-inbox-*.prom"))) == 1

    # A failure: nobody delivered, and nobody ever did.
    run = score(served, inbox=str(tmp_path / "nowhere"), **places)
    wait_for(lambda: len(web.requests) == 3, 30, lambda: subjects(web))
    told = web.requests[2].json
    assert told["subject"] == f"Failed: {run.name}"
    assert told["body"].startswith("InboxMissing: ")
    assert str(tmp_path / "nowhere") in told["body"]
    assert f"Run: {served.address}/runs/flow-run/{run.id}" in told["body"]
    (event,) = wait_for(lambda: events(served, "darkroom.night.failed"), 20)
    assert (event.payload["night"], event.payload["state"]) == (NIGHT, "Failed")
    assert "InboxMissing" in event.payload["error"]
    related = {one.role: one.name for one in event.related}
    assert (related["deployment"], related["flow"], related["flow-run"]) == ("score", "score", run.name)

    # An empty night, as a run tells it.
    _emit(served, night_told(night_summary(bundle_id=bundle.id, verdict="empty", headline="Empty.", counts=Counts())))
    wait_for(lambda: len(web.requests) == 4, 30, lambda: subjects(web))
    assert web.requests[3].json["subject"] == f"Empty: night {NIGHT} ({bundle.id})"
    assert web.requests[3].json["body"].startswith(f"Empty.\nNight {NIGHT}, bundle ")

    # A zombie: it is killed, and nobody is left to say so. What is the same as before is not touched by `notify`.
    silence = _bucket(served)
    _short_patience(served)
    assert _bucket(served) == silence
    killed = _killed(served, places, tmp_path)
    wait_for(lambda: len(web.requests) == 5, 90, lambda: subjects(web))
    told = web.requests[4].json
    assert told["subject"].startswith("Failed: ")
    assert told["body"].startswith("No sign of life for 0.25 minutes: its process was killed")
    assert f"{killed}" in told["body"]
    with served.client() as client:
        assert client.read_flow_run(killed).state.is_crashed()

    # Silence: 26 hours go by without a night.
    _let_hours_pass(served)
    wait_for(lambda: len(web.requests) == 6, 60, lambda: subjects(web))
    assert web.requests[5].json["subject"] == "No night for 26 hours"
    assert f"Prefect: {served.address}/deployments" in web.requests[5].json["body"]

    time.sleep(15)  # three rounds of the server: nothing is told twice
    assert len(web.requests) == 6, subjects(web)


def _bucket(served: Served) -> datetime:
    """When silence will be told, if no night comes to its end before."""
    rows = wait_for(
        lambda: served.ask(
            'SELECT b."end" FROM automation_bucket b JOIN automation a ON a.id = b.automation_id WHERE a.name LIKE ?',
            "darkroom: no night%",
        ),
        20,
    )
    return datetime.fromisoformat(rows[0][0]).replace(tzinfo=UTC)


def _let_hours_pass(served: Served) -> None:
    """The clock of silence, as it will be three seconds before its hours have gone by."""
    end = datetime.now(UTC) + timedelta(seconds=3)
    start, stop = (f"{one:%Y-%m-%d %H:%M:%S.%f}" for one in (end - timedelta(hours=26), end))
    ours = "(SELECT id FROM automation WHERE name = 'darkroom: no night for too long')"
    served.ask(f'UPDATE automation_bucket SET "start" = ?, "end" = ? WHERE automation_id = {ours}', start, stop)
    # The server remembers when it will look next, unless an automation has changed.
    served.ask(f"UPDATE automation SET updated = ? WHERE id = {ours}", stop)


def _short_patience(served: Served) -> None:
    """A run is given up sooner than the command line allows: one that lives says so once a minute."""
    with served.client() as client:
        block = client.read_block_document_by_name(automations.BLOCK, "custom-webhook")
        automations.tell(client, Told((block.id,), served.address, zombie_minutes=0.25))


def _killed(served: Served, places: dict[str, Any], folder: Path) -> Any:
    """A run of the deployment in a process without a worker, killed at work."""
    from prefect.states import Pending

    demo_world.draw_night(folder / "next", "good", images=60, seed=2)
    with served.client() as client:
        deployment = client.read_deployment_by_name("score/score")
        parameters = {**deployment.parameters, **places, "inbox": str(folder / "next")}
        run = client.create_flow_run_from_deployment(deployment.id, state=Pending(), parameters=parameters).id
    environment = {**served.environment, **deployment.job_variables["env"], "PREFECT__FLOW_RUN_ID": f"{run}"}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "prefect.engine"],
        env={**environment, "PREFECT_API_URL": f"{served.address}/api"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    ) as process:
        alive = f"prefect.flow-run.{run}"
        wait_for(lambda: any(one.resource.id == alive for one in events(served, "prefect.flow-run.heartbeat")), 90)
        process.send_signal(signal.SIGKILL)
    return run


def test_mails_and_blocks_of_ones_own_are_told_too_until_nobody_is_to_be_told(
    served: Served, web: Web, mail: Mail
) -> None:
    mailto = f"mailto://ada:hunter2@127.0.0.1:{mail.port}?from=darkroom@example.com&to=anna@example.com&wait=1"
    with reporting_to(f"{served.address}/api"):
        CustomWebhookNotificationBlock(name="ops", url=web.url("/ops"), json_data={"it": "{{body}}"}).save("ops")
    answer = served.notify("--email", "-", "--block", "ops", "--silence-hours", "74", say=mailto)
    assert answer["told"][0]["channels"] == ["darkroom-email/darkroom-notify", "custom-webhook/ops"]
    assert "for 74 hours" in served.run("notify", "--list").stdout
    assert "hunter2" not in served.run("notify", "--list").stdout + json.dumps(answer)

    _emit(served, night_told(night_summary(headline="Class <!channel> is new: <b>12</b> images.")))
    wait_for(lambda: mail.messages and web.requests, 30)
    (message,) = mail.messages
    assert message["Subject"] == "Alarm: night 2026-03-02 (parts-1-0123456789ab)"
    assert (message["To"], mail.logins) == ("anna@example.com", ["\0ada\0hunter2"])
    assert message.get_content_type() == "text/plain"
    assert message.get_content().splitlines()[:2] == [
        "Class ‹!channel> is new: ‹b>12‹/b> images.",
        "40 of 42 images scored, 3 of them suspect; 2 quarantined.",
    ]
    assert web.requests[0].json["it"].startswith("Class ‹!channel>")

    # A mail server that says later is asked again.
    mail.refuse = 1
    answer = served.notify("--test")
    assert (answer["sent"], len(mail.messages), len(web.requests)) == (2, 2, 2)

    assert served.notify("--remove") == {"removed": 6, "told": []}
    with served.client() as client:
        kept = [one.name for one in client.read_block_documents(include_secrets=False)]
        assert kept == ["ops"]
    _emit(served, night_told(night_summary(headline="Nobody hears this.")))
    assert served.run("notify", "--test").returncode == 2
    time.sleep(5)
    assert (len(mail.messages), len(web.requests)) == (2, 2)


def test_the_page_says_commands_that_work_and_its_messages_arrive(served: Served, web: Web) -> None:
    environment = {**served.environment, "PREFECT_API_URL": f"{served.address}/api"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    said = []
    for block in blocks("being-told"):
        if block.kind == "sh" and not block.note.startswith("not in the tests"):
            text = block.text.replace("https://hooks.example.com", web.url(""))
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text], env=environment, capture_output=True, text=True, timeout=240
            )
            assert done.returncode == 0, done.stderr
            said.append(done.stdout)
    assert [(request.path, request.json["subject"]) for request in web.requests] == [
        ("/darkroom", "Test: darkroom can reach you")
    ]
    assert "for 74 hours" in said[1]
    assert said[-1].endswith("6 automations are removed. Nobody is told any more.\n")


def test_a_bundle_that_is_sealed_and_a_skew_that_is_found_are_events(
    served: Served, world: Path, tiny_bundle: Bundle, tiny_engine: Engine, tiny_photos: Path, tmp_path: Path
) -> None:
    # Trained in a moment: what it learns does not matter here.
    recipe = TrainingRecipe(
        backbone="SmallConvNet", weights="none", image_size=32, group_by="sub-folder", head=HeadOptions(epochs=1)
    )
    none = ExaminationOptions(ladder_images=0, sensitivity_images=0, thumbnails=False)
    with _reporting_to(served):
        sealed = train(folder=world, models=tmp_path / "models", name="quick", recipe=recipe, examination=none)
    (event,) = wait_for(lambda: events(served, "darkroom.bundle.sealed"), 20)
    assert event.payload == {"bundle": sealed.bundle_id, "path": sealed.path}
    assert event.resource.id == f"darkroom.bundle.{sealed.bundle_id}"
    assert {one.role for one in event.related} >= {"flow", "flow-run"}

    # Predictions of images whose channels were swapped.
    photos = photos_in(tiny_photos)
    swapped = tiny_bundle.preprocessing.with_knobs(channel_order="bgr")
    theirs = Replay(tiny_engine, Photos(tiny_photos, photos), tiny_bundle.preprocessing).probabilities(swapped)
    frame = pd.DataFrame(theirs, columns=list(tiny_bundle.classes))
    frame.insert(0, "path", photos)
    frame.to_csv(tmp_path / "theirs.csv", index=False)
    with _reporting_to(served):
        diagnose(
            bundle=tiny_bundle.path, images=tiny_photos, predictions=tmp_path / "theirs.csv", out=tmp_path / "diagnosis"
        )
    (event,) = wait_for(lambda: events(served, "darkroom.skew.found"), 20)
    assert (event.payload["bundle"], event.payload["variants"]) == (tiny_bundle.id, ["channel_order=bgr"])
    assert event.payload["report"] == str(tmp_path / "diagnosis" / "diagnosis.html")

    # A night whose golden images come out as others.
    moved = sealed_elsewhere(tiny_bundle, tmp_path / "elsewhere", shift=0.0)
    with _reporting_to(served), pytest.raises(GoldenMismatch):
        score_flow(bundle=moved.path, inbox=str(tiny_photos), results=tmp_path / "results")
    event = wait_for(lambda: [one for one in events(served, "darkroom.skew.found") if not one.payload["variants"]], 20)
    assert event[0].payload["bundle"] == str(moved.path)
    assert "golden images differ" in event[0].payload["sentence"]
    failed = wait_for(lambda: events(served, "darkroom.night.failed"), 20)
    (event,) = [one for one in failed if one.payload["bundle"] == str(moved.path)]
    assert event.payload["error"].startswith("Flow run encountered an exception: GoldenMismatch")


@contextmanager
def _reporting_to(served: Served) -> Iterator[None]:
    """Flows of this process report there, and not to the server of the session."""
    send_what_waits()
    with reporting_to(f"{served.address}/api"):
        yield
        send_what_waits()


def _emit(served: Served, told: NightTold) -> None:
    """An event, as a run would send it."""
    event = Event(
        event=NIGHT_EVENT[told.verdict],
        resource=Resource({"prefect.resource.id": f"darkroom.night.{told.bundle}.{told.night}"}),
        payload=told.model_dump(mode="json"),
    )
    with served.client() as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
