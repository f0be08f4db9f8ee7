"""Who reaches the server: by default this machine's own programs and pages, and others with a password and TLS."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from darkroom import demo_world
from darkroom.errors import WrongUse
from darkroom.orchestrator import serve
from darkroom.orchestrator.origins import Callers, OnlyOurPages, admits
from darkroom.orchestrator.reports_server import PagesServer
from darkroom.results import commits
from tasks.bundle import Bundle
from tests.served import Serve, free_port, wait_until

DOCS = Path(__file__).parent.parent / "docs" / "operations.md"
PAIR = "ada:secret"
OURS = Callers.of("127.0.0.1", 4200, ["https://darkroom.example/api", "http://127.0.0.1:4200/api"])

# -- names and origins


@pytest.mark.parametrize(
    ("host", "origin", "known"),
    [
        ("127.0.0.1:4200", None, True),
        ("localhost:4200", "http://localhost:4200", True),
        ("[::1]:4200", "http://[::1]:4200", True),
        ("127.0.0.1:4200", "https://darkroom.example", True),
        ("darkroom.example", "https://darkroom.example", True),
        ("127.0.0.1:4200", "http://127.0.0.1:8888", False),
        ("127.0.0.1:4200", "https://127.0.0.1:4200", False),
        ("127.0.0.1:4200", "http://darkroom.example", False),
        ("127.0.0.1:4200", "https://darkroom.example.evil.example", False),
        ("127.0.0.1:4200", "null", False),
        ("127.0.0.1:4200", "", False),
        ("evil.example:4200", None, False),
        ("127.0.0.1.evil.example", None, False),
        ("evil.example@127.0.0.1.evil.example", None, False),
        ("[", None, False),
        ("", None, False),
    ],
)
def test_a_request_has_a_name_and_an_origin_of_ours(host: str, origin: str | None, known: bool) -> None:
    assert OURS.know(host, origin) is known


def test_others_may_name_a_server_that_they_reach_as_they_like_and_their_pages_still_not_ask() -> None:
    everywhere = Callers.of("0.0.0.0", 4200)
    assert everywhere.know("machine.example:4200", None)
    assert not everywhere.know("machine.example:4200", "http://evil.example")


@pytest.mark.parametrize(("kind", "refused"), [("http", 403), ("websocket", 1008)])
def test_the_application_never_hears_of_a_request_of_another_site(kind: str, refused: int) -> None:
    heard: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        heard.append(dict(scope["headers"]).get(b"origin"))

    def ask(*headers: tuple[bytes, bytes]) -> list[Any]:
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)

        async def receive() -> Any:
            raise AssertionError

        scope = {"type": kind, "headers": [(b"host", b"127.0.0.1:4200"), *headers]}
        asyncio.run(OnlyOurPages(application, OURS)(scope, receive, send))
        return [message.get("status", message.get("code")) for message in said][:1]

    ours, other = (b"origin", b"http://127.0.0.1:4200"), (b"origin", b"http://evil.example")
    assert [ask(), ask(ours)] == [[], []]
    assert [ask(other), ask(ours, other), ask((b"host", b"evil.example"))] == [[refused]] * 3
    assert heard == [None, ours[1]]


EVIL = {"Origin": "http://evil.example"}
CROSS_SITE = {
    # A browser sends both without asking the server beforehand.
    "a body without a type": ("POST", "/flow_runs/filter", b"{}", EVIL),
    "no body": ("POST", "/deployments/9f86d081-884c-4d65-9a2f-eaa0c55ad015/pause_deployment", b"", EVIL),
    "the question before a request": ("OPTIONS", "/flow_runs/filter", b"", EVIL),
    "reading": ("GET", "/admin/version", b"", EVIL),
    "a page from a file": ("POST", "/flow_runs/filter", b"{}", {"Origin": "null"}),
    "a foreign name": ("GET", "/admin/version", b"", {"Host": "evil.example"}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("method", "path", "body", "headers"), CROSS_SITE.values(), ids=CROSS_SITE)
def test_a_page_of_another_site_cannot_ask_the_server(
    prefect_api: str, method: str, path: str, body: bytes, headers: dict[str, str]
) -> None:
    def asked(**headers: str) -> int:
        connection = http.client.HTTPConnection(prefect_api.split("/")[2], timeout=60)
        connection.request(method, f"/api{path}", body or None, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    assert asked(**headers) == 403
    assert asked() != 403


@pytest.mark.filterwarnings("ignore")
def test_a_page_of_another_site_cannot_listen_to_events(prefect_api: str) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    address = f"{prefect_api.replace('http', 'ws')}/events/out"
    with connect(address, subprotocols=["prefect"], proxy=None):  # type: ignore[list-item]
        pass
    with pytest.raises(InvalidStatus, match="403"):
        connect(address, subprotocols=["prefect"], origin="http://evil.example", proxy=None)  # type: ignore[list-item,arg-type]


# -- the password


def basic(pair: str) -> str:
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


@pytest.mark.parametrize(
    ("authorization", "admitted"),
    [
        (basic(PAIR), True),
        (basic(PAIR).replace("Basic", "basic"), True),
        (None, False),
        ("", False),
        ("Basic", False),
        (basic("ada:secret "), False),
        (basic("ada:wrong"), False),
        (basic(""), False),
        (basic("ada:sécret"), False),
        (PAIR, False),
        ("Basic ada:secret", False),
        (basic(PAIR).replace("Basic", "Bearer"), False),
        ("Basic ñ", False),
    ],
)
def test_only_the_password_admits(authorization: str | None, admitted: bool) -> None:
    assert admits(authorization, PAIR) is admitted
    assert admits(authorization, None)


def test_the_pages_ask_for_the_password_and_say_how(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>the nights</p>")
    server = PagesServer(tmp_path, "127.0.0.1", 0, PAIR)
    server.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        for path in ("/", "/nothing.html"):  # nobody learns which pages there are
            assert asked(f"{address}{path}", None) == (401, "401 Unauthorized\n", 'Basic realm="darkroom"')
        assert asked(f"{address}/", PAIR) == (200, "<p>the nights</p>", None)
    finally:
        server.stop()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("host", "pair", "says"),
    [
        ("0.0.0.0", None, "it would have no password"),
        ("::", None, "it would have no password"),
        ("", None, "it would have no password"),
        ("192.0.2.7", None, "it would have no password"),
        ("machine.example", None, "it would have no password"),
        ("0.0.0.0", "secret", "user:password"),
        ("127.0.0.1", "ada:", "user:password"),
        ("127.0.0.1", "ada:sécret", "in ASCII"),
    ],
)
def test_without_a_password_nobody_else_is_let_in(
    host: str, pair: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_SERVER_API_AUTH_STRING, temporary_settings

    monkeypatch.chdir(tmp_path)
    stated = {PREFECT_SERVER_API_AUTH_STRING: pair} if pair is not None else {}
    cleared = {PREFECT_SERVER_API_AUTH_STRING, PREFECT_API_AUTH_STRING}
    with (
        temporary_settings(updates=stated, restore_defaults=cleared - stated.keys()),
        pytest.raises(WrongUse, match=f"(?s){says}") as refused,
    ):
        serve(host, free_port())
    assert pair is None or pair not in str(refused.value)
    assert "PREFECT_SERVER_API_AUTH_STRING=" in (refused.value.todo or "")
    assert not list(tmp_path.iterdir())


# -- as docs/operations.md says it


def documented(language: str) -> str:
    """The block of the section on exposing; the one of shell is that for another machine."""
    section = DOCS.read_text().split("\n## Exposing it\n")[1].split("\n## ")[0]
    (block,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(block)


def variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"^(?:export )?(\w+)=(.*)$", block, re.MULTILINE))


def put_in(text: str, places: dict[str, str]) -> str:
    for written, here in places.items():
        assert written in text, f"{written} is no longer in the documents"
        text = text.replace(written, here)
    return text


def asked(address: str, pair: str | None, trusted: ssl.SSLContext | None = None) -> tuple[int, str, str | None]:
    """Status, body, how to authenticate."""
    request = urllib.request.Request(address, headers={} if pair is None else {"Authorization": basic(pair)})
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted), NoRedirect()
    )
    try:
        answer: Any = opener.open(request, timeout=60)
    except urllib.error.HTTPError as refused:
        answer = refused
    with answer:
        return answer.status, answer.read().decode(), answer.headers.get("WWW-Authenticate")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass
class Exposed:
    """A project that is served, behind nginx as the documents configure it."""

    serving: Serve
    address: str
    certificate: Path
    pages: str

    @property
    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)

    @property
    def elsewhere(self) -> dict[str, str]:
        """The environment of somebody on another machine."""
        stated = variables(documented("sh").replace("https://darkroom.example", self.address))
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        home = str(self.serving.folder / "elsewhere")
        return {**ours, **stated, "PREFECT_API_SSL_CERT_FILE": str(self.certificate), "PREFECT_HOME": home}


@contextmanager
def behind_nginx(folder: Path, site: str, port: int) -> Iterator[None]:
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        pytest.skip("no nginx on this machine")
    (folder / "site").write_text(site)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    whose = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{whose}pid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}include {folder}/site;\n}}\n"
    )
    command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: listens(process.pid, port) or process.poll() is not None, "nginx listens", seconds=30)
            assert process.poll() is None, process.communicate()[1]
            yield
        finally:
            process.terminate()


def listens(pid: int, port: int) -> bool:
    return port in {place.port for place in listening(pid)}


def listening(pid: int) -> list[Any]:
    """Where a process and its children wait for connections."""
    parent = psutil.Process(pid)
    found = [one.net_connections("inet") for one in (parent, *parent.children(recursive=True))]
    return [one.laddr for connections in found for one in connections if one.status == psutil.CONN_LISTEN]


@pytest.fixture(scope="module")
def exposed(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exposed]:
    folder, proxy = tmp_path_factory.mktemp("exposed"), tmp_path_factory.mktemp("nginx")
    port, key, certificate = free_port(), proxy / "own.key", proxy / "own.crt"
    address = f"https://localhost:{port}"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*made.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    demo_world.draw_night(folder / "inbox", "good", images=12, seed=3)
    (folder / "darkroom.toml").write_text(f'bundle = "{bundle.path}"\ninbox = "inbox"\nresults = "results"\n')
    stated = variables(put_in(documented("ini"), {"https://darkroom.example": address}))
    with Serve(folder, **stated) as serving:
        serving.start()
        found = re.search(r"Pages\s+http://127\.0\.0\.1:(\d+)", serving.told())
        assert found, serving.told()
        places = {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "server_name darkroom.example": "server_name localhost",
            "/etc/ssl/darkroom.example.crt": str(certificate),
            "/etc/ssl/darkroom.example.key": str(key),
            "http://127.0.0.1:4200": serving.address,
            "http://127.0.0.1:4201": f"http://127.0.0.1:{found[1]}",
        }
        with behind_nginx(proxy, put_in(documented("nginx"), places), port):
            yield Exposed(serving, address, certificate, f"http://127.0.0.1:{found[1]}")


LONG = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def night(exposed: Exposed) -> subprocess.CompletedProcess[str]:
    """A night that somebody elsewhere asks for, with the last line of the documented commands."""
    line = documented("sh").splitlines()[-1]
    assert line.startswith("prefect deployment run ")
    command = [sys.executable, "-m", *line.split(), "--watch"]
    return subprocess.run(
        command, env=exposed.elsewhere, cwd=exposed.certificate.parent, capture_output=True, text=True, check=False
    )


class TestBehindTheProxyOfTheDocuments:
    pytestmark = LONG

    def test_a_night_that_is_asked_for_from_elsewhere_is_scored(
        self, exposed: Exposed, night: subprocess.CompletedProcess[str], bundle: Bundle
    ) -> None:
        assert night.returncode == 0, night.stdout + night.stderr + exposed.serving.told()
        (commit,) = commits(exposed.serving.folder / "results", bundle.id)
        assert commit.counts.scored == 12

    @pytest.mark.parametrize("path", ["/api/admin/version", "/api/flows/count", "/nights/"])
    def test_api_and_pages_are_answered_with_the_password_and_not_without(
        self, exposed: Exposed, night: Any, path: str
    ) -> None:
        method = "POST" if path.endswith("count") else None
        for pair, status in ((None, 401), ("ada:wrong", 401), (PAIR, 200)):
            assert over_tls(exposed, path, pair, method) == status, (path, pair)

    def test_the_frame_of_the_ui_says_to_whoever_opens_it_that_it_wants_a_password(self, exposed: Exposed) -> None:
        status, told, _ = asked(f"{exposed.address}/ui-settings", None, exposed.trusted)
        settings = json.loads(told)
        assert (status, settings["auth"]) == (200, "BASIC")
        assert settings["api_url"] == f"{exposed.address}/api"

    @pytest.mark.parametrize(("pair", "answer"), [(PAIR, "auth_success"), ("ada:wrong", None), (None, None)])
    def test_events_come_through_a_socket_to_whoever_has_the_password(
        self, exposed: Exposed, pair: str | None, answer: str | None
    ) -> None:
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect

        address = f"{exposed.address.replace('https', 'wss')}/api/events/in"
        with connect(address, subprotocols=["prefect"], ssl=exposed.trusted, proxy=None) as socket:  # type: ignore[list-item]
            socket.send(json.dumps({"type": "auth", "token": pair}))
            if answer is None:
                with pytest.raises(ConnectionClosed):
                    socket.recv(timeout=30)
            else:
                assert json.loads(socket.recv(timeout=30))["type"] == answer

    @pytest.mark.browser
    def test_a_person_opens_the_ui_and_is_asked_once(self, exposed: Exposed, night: Any) -> None:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_context(ignore_https_errors=True).new_page()
            page.set_default_timeout(30_000)
            page.goto(f"{exposed.address}/v2/deployments")
            page.locator("input[type=password]").fill(PAIR)
            page.keyboard.press("Enter")
            page.get_by_role("link", name="score", exact=True).first.wait_for()
            page.goto(f"{exposed.address}/v2/runs")
            page.get_by_text("Completed").first.wait_for()
            browser.close()

    def test_server_and_pages_listen_on_this_machine_alone(self, exposed: Exposed) -> None:
        process = exposed.serving.process
        assert process is not None
        places = listening(process.pid)
        assert exposed.serving.port in {place.port for place in places}
        assert {place.ip for place in places} == {"127.0.0.1"}

    def test_the_password_is_kept_nowhere(self, exposed: Exposed, night: Any) -> None:
        folder = exposed.serving.folder
        kept = [path for path in folder.rglob("*") if path.is_file() and PAIR.encode() in path.read_bytes()]
        assert kept == []

    def test_a_night_that_would_report_without_the_password_says_which_variable_has_it(
        self, exposed: Exposed, bundle: Bundle, tmp_path: Path
    ) -> None:
        environment = {**exposed.elsewhere, "PREFECT_API_AUTH_STRING": "ada:wrong"}
        places = [str(bundle.path), str(exposed.serving.folder / "inbox"), "--results", str(tmp_path / "results")]
        command = [sys.executable, "-m", "darkroom.cli", "score", *places]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 3, done.stderr
        assert "wants a password" in done.stderr
        assert "PREFECT_API_AUTH_STRING" in done.stderr


def over_tls(exposed: Exposed, path: str, pair: str | None, method: str | None) -> int:
    headers = {} if pair is None else {"Authorization": basic(pair)}
    connection = http.client.HTTPSConnection(exposed.address.split("/")[2], context=exposed.trusted, timeout=60)
    connection.request(method or "GET", path, "{}" if method else None, {**headers, "Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status
