"""The pages over HTTP: what is a page of the folder is shown, and nothing else is."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkroom import pages
from darkroom.errors import OrchestratorError
from darkroom.orchestrator.reports_server import PagesServer, pages_served

PAGE = "2026-11-23/parts-1-9f2c41d07ab3/run-1/index.html"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pages_beside_secrets(tmp_path_factory.mktemp("results"))


def pages_beside_secrets(results: Path) -> Path:
    """A folder of pages, with what else may lie in it, beside secrets."""
    folder = results / "reports"
    (folder / PAGE).parent.mkdir(parents=True)
    for name in ("index.html", PAGE, "audit of parts/audit.html"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"<p>{name}</p>")
    for name in ("notes.txt", "data.json", ".hidden.html", "page.html.gz", "page.htm"):
        (folder / name).write_text("secret")
    (folder / ".tmp").mkdir()
    (folder / ".tmp" / "index.html").write_text("secret")
    (results / "secret.html").write_text("secret")
    (results / "outside").mkdir()
    (results / "outside" / "index.html").write_text("secret")
    (folder / "linked.html").symlink_to(results / "secret.html")
    (folder / "linked").symlink_to(results / "outside")
    (folder / "disguised.html").symlink_to(folder / "data.json")
    (folder / "round.html").symlink_to(folder / "round.html")
    (folder / "folder.html").mkdir()
    return folder


@pytest.fixture(scope="module")
def server(reports: Path) -> Iterator[PagesServer]:
    serving = PagesServer(reports, "127.0.0.1", 0)
    serving.start()
    yield serving
    serving.stop()


def asked(server: PagesServer, target: str, method: str = "GET", host: str = "") -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    # As it is: a client that tidies the target up would ask for something else.
    connection.putrequest(method, target, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_address[1]}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, dict(answer.getheaders())


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/", "index.html"),
        ("/index.html", "index.html"),
        (f"/{PAGE}", PAGE),
        ("/audit%20of%20parts/audit.html", "audit of parts/audit.html"),
        (f"/{PAGE}?once=more#drift", PAGE),
    ],
)
def test_a_page_is_shown(server: PagesServer, target: str, name: str) -> None:
    status, body, headers = asked(server, target)
    assert (status, body) == (200, f"<p>{name}</p>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"


REFUSED = {
    "a folder": "/2026-11-23",
    "a folder with a slash: no listing": "/2026-11-23/",
    "a folder named like a page": "/folder.html",
    "another suffix": "/notes.txt",
    "JSON": "/data.json",
    "nearly the suffix": "/page.htm",
    "a suffix after it": "/page.html.gz",
    "a hidden file": "/.hidden.html",
    "a hidden folder": "/.tmp/index.html",
    "one up": "/../secret.html",
    "one up, written out": "/%2e%2e/secret.html",
    "one up, with a written slash": "/..%2fsecret.html",
    "one up, twice written": "/%252e%252e/secret.html",
    "up from a folder": "/2026-11-23/../../secret.html",
    "up with a backslash": "/..\\secret.html",
    "up with a written backslash": "/..%5csecret.html",
    "two slashes": "//secret.html",
    "an absolute path": "//etc/hostname",
    "a whole address": "http://127.0.0.1/../secret.html",
    "no slash": "secret.html",
    "a null": "/index.html%00.html",
    "no UTF-8": "/%ff.html",
    "a link out of the folder": "/linked.html",
    "a folder that is a link out": "/linked/index.html",
    "a link to something else inside": "/disguised.html",
    "a link to itself": "/round.html",
    "what is not there": "/nothing.html",
    "a very long name": f"/{'x' * 5000}.html",
}


@pytest.mark.parametrize("target", REFUSED.values(), ids=REFUSED)
def test_what_is_no_page_of_the_folder_is_not_there(server: PagesServer, target: str) -> None:
    status, body, _ = asked(server, target)
    assert (status, body) == (404, "404 Not Found\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_done_but_reading(server: PagesServer, method: str) -> None:
    assert asked(server, "/index.html", method)[0] == 501


def test_head_is_get_without_the_page(server: PagesServer) -> None:
    status, body, headers = asked(server, "/index.html", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, "", str(len("<p>index.html</p>")))


@pytest.mark.parametrize("target", ["/index.html", "/nothing.html"])
def test_every_answer_forbids_scripts_frames_and_guessing(server: PagesServer, target: str) -> None:
    _, _, headers = asked(server, target)
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert not {"script-src", "connect-src"} & policy.keys()
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Python" not in headers["Server"]


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:4201", 200), ("localhost:4201", 200), ("[::1]:4201", 200), ("evil.example", 421)],
)
def test_a_foreign_name_that_leads_to_this_machine_is_refused(server: PagesServer, host: str, status: int) -> None:
    assert asked(server, "/index.html", host=host)[0] == status


def test_it_listens_on_this_machine_alone(server: PagesServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_runs_are_told_the_address_while_it_is_served(
    reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(pages.URL, raising=False)
    monkeypatch.delenv(pages.FOLDER, raising=False)
    page = reports / PAGE
    assert pages.address_of(page) is None
    assert pages.place_of(page) == str(page)
    with pages_served(reports, "127.0.0.1", 0, beside=4200) as address:
        assert pages.address_of(page) == f"{address}/{PAGE}"
        assert pages.address_of(reports / "audit of parts" / "audit.html") == f"{address}/audit%20of%20parts/audit.html"
        assert pages.address_of(tmp_path / "elsewhere" / "reports" / PAGE) is None
        assert pages.address_of(reports / ".." / "secret.html") is None
        assert pages.page_folder(None, "audit-parts") == reports / "audit-parts"
        assert pages.page_folder(tmp_path, "audit-parts") == tmp_path
    assert pages.address_of(page) is None
    assert pages.page_folder(None, "audit-parts") == Path("audit-parts")


def test_an_address_of_the_user_s_own_is_the_one_that_is_told(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pages.URL, "https://reports.example/")
    monkeypatch.delenv(pages.FOLDER, raising=False)
    assert pages.address_of(reports / PAGE) == f"https://reports.example/{PAGE}"
    with pages_served(reports, "127.0.0.1", 0, beside=4200):
        assert pages.address_of(reports / PAGE) == f"https://reports.example/{PAGE}"
    assert os.environ[pages.URL] == "https://reports.example/"


def test_without_a_stated_port_a_taken_one_costs_the_links_and_a_stated_one_is_an_error(reports: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pages_served(reports, "127.0.0.1", None, beside=port - 1) as address:
            assert address is None
        with pytest.raises(OrchestratorError, match="--reports-port"), pages_served(reports, "127.0.0.1", port, 4200):
            pass
    with pages_served(reports, "127.0.0.1", None, beside=65_535) as address:
        assert address is None
