"""What is told of a night, in which words, and as which numbers; and what is never told."""

from __future__ import annotations

import importlib
import os
import re
import socket
import subprocess
import sys
import tomllib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect import flow
from prefect.blocks.core import Block
from prometheus_client.parser import text_string_to_metric_families

from darkroom.errors import WrongUse
from darkroom.orchestrator import automations, events
from darkroom.project import Project
from darkroom.reasons import Grade, NightCause, NightVerdict
from darkroom.settings import RunOptions
from darkroom.summary import AccuracyEstimate, CauseFound, Counts
from flows.telling import write_metrics
from tasks.report.metrics import METRICS, tell_metrics
from tests.nights import MOMENT, night_summary
from tests.receivers import Web, mail_receiver, web_receiver

# Prefect's imports are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).parent.parent
LABELS = {"bundle": "parts", "inbox": "/srv/inbox"}
ESTIMATE = AccuracyEstimate(rows=40, value=0.8, low=0.7, high=0.9)


@pytest.fixture
def web() -> Iterator[Web]:
    with web_receiver() as web:
        yield web


def values(text: str) -> dict[tuple[str, str], float]:
    """(name, what its own label says) → value; every sample has the labels of the night."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            own = {name: value for name, value in sample.labels.items() if name not in LABELS}
            assert sample.labels == {**LABELS, **own}
            found[sample.name, "".join(own.values())] = sample.value
    return found


def test_the_metrics_of_a_night_are_a_file_that_prometheus_reads(tmp_path: Path) -> None:
    tell_metrics(night_summary(estimate=ESTIMATE), "/srv/inbox/{night:%Y-%m-%d}", str(tmp_path / "textfile"))
    (file,) = (tmp_path / "textfile").iterdir()
    assert re.fullmatch(r"darkroom-parts-inbox-[0-9a-f]{6}\.prom", file.name)
    found = values(file.read_text())
    assert {name for name, _ in found} == {metric.name for metric in METRICS}
    assert {found["darkroom_night_verdict", verdict]: verdict for verdict in NightVerdict}[1.0] == "alarm"
    assert found["darkroom_night_images", "seen"] == 42
    assert found["darkroom_night_images", "quarantined"] == 2
    assert found["darkroom_night_suspect_ratio", ""] == 3 / 40
    assert [found["darkroom_night_accuracy_ratio", bound] for bound in ("low", "value", "high")] == [0.7, 0.8, 0.9]
    assert found["darkroom_night_duration_seconds", ""] == 20
    assert found["darkroom_night_images_per_second", ""] == 2
    assert found["darkroom_night_timestamp_seconds", ""] == datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    assert found["darkroom_last_success_timestamp_seconds", ""] == MOMENT.timestamp() + 20
    assert found["darkroom_bundle_version", ""] == 1


def test_two_cameras_that_both_deliver_to_an_inbox_are_two_files_and_two_series(tmp_path: Path) -> None:
    for inbox in ("/srv/left/inbox", "/srv/right/inbox", "/srv/left/inbox/{night}"):
        tell_metrics(night_summary(), inbox, str(tmp_path))
    texts = [file.read_text() for file in tmp_path.iterdir()]
    assert sorted('inbox="/srv/left/inbox"' in text for text in texts) == [False, True]


def test_a_stated_file_is_replaced_as_a_whole_and_what_is_not_known_is_absent(tmp_path: Path) -> None:
    file = tmp_path / "night.prom"
    tell_metrics(night_summary(estimate=ESTIMATE), "/srv/inbox", str(file))
    empty = night_summary(
        verdict="empty", counts=Counts(), suspect=0, estimate=AccuracyEstimate(rows=0, refused="nothing was scored")
    )
    tell_metrics(empty, "/srv/inbox", str(file))
    found = values(file.read_text())
    assert found["darkroom_night_verdict", "empty"] == 1
    assert not {name for name, _ in found} & {"darkroom_night_accuracy_ratio", "darkroom_night_suspect_ratio"}
    assert list(tmp_path.iterdir()) == [file]


def test_an_address_is_a_pushgateway_and_the_next_night_takes_the_place_of_this_one(web: Web) -> None:
    for night, bundle in (("2026-03-02", "parts-1-0123456789ab"), ("2026-03-03", "parts-2-ba9876543210")):
        summary = night_summary(night=night, bundle_id=bundle)
        tell_metrics(summary, "/srv/inbox/{night:%Y}/{night:%m-%d}", web.url(""))
    assert {(sent.method, sent.path) for sent in web.requests} == {
        ("PUT", f"/metrics/job/darkroom/bundle/parts/inbox@base64/{urlsafe_b64encode(b'/srv/inbox').decode()}")
    }
    assert values(web.requests[1].body.decode())["darkroom_bundle_version", ""] == 2


def test_a_password_in_the_address_of_a_pushgateway_is_refused_because_parameters_are_kept() -> None:
    with pytest.raises(ValueError, match=r"metrics\n.*without user and password"):
        RunOptions(metrics="https://ada:hunter2@push.example.com/")
    assert RunOptions(metrics="https://push.example.com/@home").metrics


def test_the_setting_that_the_page_shows_is_one_of_a_project() -> None:
    page = (ROOT / "docs/being-told.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert Project.model_validate(tomllib.loads(block)).run.metrics == "/var/lib/prometheus/node-exporter"


@pytest.mark.parametrize("target", ["http://127.0.0.1:9", "http://[::1", "/dev/null/textfile"])
def test_metrics_that_cannot_be_written_are_a_warning_and_end_no_night(
    target: str, prefect_api: str, caplog: pytest.LogCaptureFixture
) -> None:
    @flow
    def night() -> str:
        write_metrics(night_summary(), "inbox", RunOptions(metrics=target))
        return "went on"

    assert night() == "went on"
    assert [line.levelname for line in caplog.records if "The metrics could not be written" in line.message] == [
        "WARNING"
    ]


CAUSE = CauseFound(cause=NightCause.SHIFT, grade=Grade.LIKELY, sentence="The lamp is dim.")


@pytest.mark.parametrize(
    ("causes", "told"),
    [
        ((CAUSE, CAUSE), "The lamp is dim. (likely)"),
        ((CauseFound(cause=NightCause.NOTHING, grade=Grade.CERTAIN, sentence="Nothing."),), None),
        ((), None),
    ],
    ids=["the likeliest", "nothing differs", "not looked for"],
)
def test_of_the_causes_the_first_is_told(causes: tuple[CauseFound, ...], told: str | None) -> None:
    assert events.night_told(night_summary(causes=causes)).cause == told


def test_what_is_told_steers_no_chat_and_no_page(tmp_path: Path) -> None:
    told = events.night_told(
        night_summary(headline="\x1b[31mred\n<!channel> <b>, p < 0.01", inbox="/srv/<@U1>", report="/srv/a\u202eb.html")
    )
    assert told.headline == "␛[31mred␊‹!channel> ‹b>, p < 0.01"
    assert told.inbox == "/srv/‹@U1>"
    assert told.report == "/srv/a⟨U+202E⟩b.html"


def test_rows_that_are_kept_back_are_told_as_such() -> None:
    assert events.night_told(night_summary(commit=None)).held
    assert not events.night_told(night_summary()).held


def test_a_server_that_ends_with_the_run_is_told_nothing(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert events.reports_to_a_private_server()
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example:4200/api")
    assert not events.reports_to_a_private_server()


def test_slack_gets_a_title_and_lines(web: Web) -> None:
    block = automations._slack("https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX")
    # Prefect's block knows one address only; what it sends there is what matters.
    block._apprise_client.servers[0].webhook_url = web.url("/services")
    block.notify("It is dark.\nNight 2026-03-02", subject="Alarm: night 2026-03-02")
    (sent,) = web.requests
    assert sent.path == "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
    (shown,) = sent.json["attachments"]
    assert (shown["title"], shown["text"]) == ("Alarm: night 2026-03-02", "It is dark.\nNight 2026-03-02")


def test_a_mail_is_plain_text_with_its_lines() -> None:
    with mail_receiver() as mail:
        block = automations._email(f"mailto://127.0.0.1:{mail.port}?from=darkroom@example.com&to=anna@example.com")
        block.notify("It is <b>dark</b>.\nNächte", subject="Alarm: Nächte")
    (message,) = mail.messages
    assert message.get_content() == "It is <b>dark</b>.\nNächte"
    assert (message["Subject"], mail.recipients) == ("Alarm: Nächte", ["anna@example.com"])


WRONG = [
    ("webhook", "ftp://secret.example.com/x"),
    ("slack", "https://secret.example.com/services/x"),
    ("email", "secret@example.com"),
    ("email", "mailto://ada:secret@"),
    ("email", "json://secret.example.com"),
]


@pytest.mark.parametrize(("kind", "address"), WRONG, ids=[address for _, address in WRONG])
def test_an_address_that_cannot_be_meant_is_refused_and_not_repeated(kind: str, address: str) -> None:
    with pytest.raises(WrongUse) as refused:
        automations.make_channel(kind, address)
    assert "secret" not in str(refused.value) + str(refused.value.__cause__)
    assert refused.value.expected


def notify(address: str, home: Path) -> subprocess.CompletedProcess[str]:
    """`darkroom notify --list` where `darkroom serve` would be at this address, and no server is named."""
    code = (
        "from darkroom.cli import main; from darkroom.orchestrator import automations;"
        f"automations._LOCAL = {address!r}; main()"
    )
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-c", code, "notify", "--list"],
        env={**ours, "PREFECT_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_without_a_server_nobody_can_be_told_and_the_error_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    done = notify(f"http://127.0.0.1:{port}/api", tmp_path)
    assert done.returncode == 3
    assert "start darkroom serve" in done.stderr
    assert "PREFECT_API_URL" in done.stderr


def test_the_server_of_darkroom_serve_need_not_be_named(prefect_api: str, tmp_path: Path) -> None:
    done = notify(prefect_api, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Nobody is told.")


def test_prefect_finds_the_block_for_mail_wherever_darkroom_is_installed() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["prefect.collections"]
    importlib.import_module(stated["darkroom"])
    assert Block.get_block_class_from_key("darkroom-email").get_block_capabilities() == {"notify"}


def test_hours_without_anybody_who_is_told_are_refused_and_change_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "darkroom.cli", "notify", "--silence-hours", "30"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "does not say who is told" in done.stderr
