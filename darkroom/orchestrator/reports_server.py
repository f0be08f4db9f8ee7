"""The pages of the nights over HTTP, for links from the Prefect UI: read-only, .html alone, nothing outside the folder.

Whoever reaches the address can read them: by default that is this machine. Where the Prefect server beside it has a
password, they have the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from darkroom import pages
from darkroom.errors import OrchestratorError
from darkroom.orchestrator.origins import Callers, admits

_ANYWHERE: Final = frozenset({"", "0.0.0.0", "::"})
_LARGEST_PORT: Final = 65_535
# The pages bring their styles and pictures inside them, and run nothing.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def page_at(folder: Path, target: str) -> Path | None:
    """The page that a request's target names, `/` being that over all nights; None: it is not to be shown.

    Not shown: what is no .html file, hidden names, names with `..` in any writing, links that lead out of the folder.
    """
    try:
        path = unquote(urlsplit(target).path, errors="strict")
    except ValueError:
        return None
    names = (path if path != "/" else "/index.html").split("/")[1:]
    if not path.startswith("/") or any(not name or name.startswith(".") or {"\\", "\0"} & set(name) for name in names):
        return None
    try:
        root = folder.resolve(strict=True)
        found = root.joinpath(*names).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    inside = found.is_relative_to(root) and found.is_file()
    return found if inside and names[-1].endswith(".html") and found.suffix == ".html" else None


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of a page; everything else is refused in a few words."""

    server: PagesServer
    server_version = "darkroom"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if not self.server.callers.know(self.headers.get("Host", ""), None):  # the Origin: nothing can be changed
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        if not admits(self.headers.get("Authorization"), self.server.password):
            self.send_error(HTTPStatus.UNAUTHORIZED)
            return
        page = page_at(self.server.folder, self.path)
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            content = page.read_bytes()
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", content, with_body=with_body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A line of text: the library's own page would repeat what was asked for."""
        text = f"{code} {HTTPStatus(code).phrase}\n".encode()
        self.close_connection = True
        self._send(HTTPStatus(code), "text/plain; charset=utf-8", text, with_body=self.command != "HEAD")

    def _send(self, code: HTTPStatus, kind: str, content: bytes, *, with_body: bool) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **_HEADERS}.items():
            self.send_header(name, value)
        if code == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="darkroom"')
        self.end_headers()
        if with_body:
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody needs to read who opened which page."""


class PagesServer(ThreadingHTTPServer):
    """Listens from the moment it is made; serves in a thread between `start` and `stop`."""

    daemon_threads = True

    def __init__(self, folder: Path, host: str, port: int, password: str | None = None) -> None:
        self.folder = folder
        self.password = password
        # A foreign name that leads to this machine (DNS rebinding) is none of them.
        self.callers = Callers.of(host, port, filter(None, [os.environ.get(pages.URL)]))
        self.address_family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, name="pages of the nights", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nothing any more, and let the port go."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away is no news."""


@contextlib.contextmanager
def pages_served(
    folder: Path, host: str, port: int | None, beside: int, password: str | None = None
) -> Iterator[str | None]:
    """Serve the pages of a folder while inside, and tell the runs that this process starts where; yields the address.

    Without a `port` it is the one after that of the Prefect server (`beside`); if something else has it, nothing is
    served, None is yielded, and runs tell paths. Raises OrchestratorError where a stated port cannot be had.
    """
    wanted = beside + 1 if port is None else port
    try:
        if wanted > _LARGEST_PORT:
            raise OSError(f"there is no port {wanted}")
        server = PagesServer(folder, host, wanted, password)
    except OSError as error:
        if port is None:
            yield None
            return
        raise OrchestratorError(
            f"The pages cannot be served at port {port} of {host}.",
            found=error,
            todo="choose another --reports-port",
        ) from error
    name = "127.0.0.1" if host in _ANYWHERE else f"[{host}]" if ":" in host else host
    address = f"http://{name}:{server.server_address[1]}"
    told = {pages.URL: os.environ.get(pages.URL) or address, pages.FOLDER: str(folder)}
    before = {variable: os.environ.get(variable) for variable in told}
    server.start()
    try:
        os.environ.update(told)
        yield address
    finally:
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value
        server.stop()
