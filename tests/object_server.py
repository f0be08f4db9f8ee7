"""An S3 server that can be told to misbehave: moto behind real HTTP on this machine, with faults in between.

`python -m tests.object_server` prints its port and serves until its input ends. A POST to /-/faults says what goes
wrong with the next requests; a GET of /-/requests says what was asked since the last time, one of /-/fill/FOLDER puts
MANY empty objects there.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import Client

BUCKET = "nights"
MANY = 4321
# Which of moto's many services is meant, it reads from the signature; it checks no signature.
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260301/us-east-1/s3/aws4_request"}


class Misbehaving:
    """The server, with faults: each {"method", "key" (a pattern), "fault", "times",
    "every"}; `times` requests have it, each time the last of so many that it fits.
    """

    def __init__(self, server: Callable[..., Iterable[bytes]]) -> None:
        self.server = server
        self.faults: list[dict[str, Any]] = []
        self.asked: list[str] = []
        # moto looks and then writes; a real server does both at once.
        self.turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/-/faults":
            before, self.faults = self.faults, json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            return _answer(start_response, "200 OK", json.dumps(sum(one["met"] for one in before)).encode())
        if path.startswith("/-/fill/"):
            return _answer(start_response, "200 OK", _filled(path.removeprefix("/-/fill/")))
        if path == "/-/requests":
            asked, self.asked = self.asked, []
            return _answer(start_response, "200 OK", json.dumps(asked).encode())
        self.asked.append(f"{method} {path}?{environ['QUERY_STRING']}")
        match self._fault(method, path):
            case "error":
                return _answer(start_response, "500 Internal Server Error", _told("InternalError"))
            case "slow down":
                return _answer(start_response, "503 Slow Down", _told("SlowDown"))
            case "conflict":
                return _answer(start_response, "409 Conflict", _told("ConditionalRequestConflict"))
            case "denied":
                return _answer(start_response, "403 Forbidden", _told("AccessDenied"))
            case "reset":
                _hang_up(environ)
            case "lost answer":
                self._served(environ, lambda *_: None)
                _hang_up(environ)
            case "wrong answer":
                self._served(environ, lambda *_: None)
                return _answer(start_response, "500 Internal Server Error", _told("InternalError"))
            case "gone":
                self._served(environ, lambda *_: None)
                return _answer(start_response, "404 Not Found", _told("NoSuchKey"))
            case "slow":
                time.sleep(1.5)
            case "no conditions":
                environ.pop("HTTP_IF_NONE_MATCH", None)
        return self._served(environ, start_response)

    def _served(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with self.turn:
            return list(self.server(environ, start_response))

    def _fault(self, method: str, path: str) -> str | None:
        for fault in self.faults:
            if (
                fault["times"]
                and (fault["method"] == "ANY" or method in fault["method"])
                and re.search(fault["key"], path)
            ):
                fault["met"] += 1
                if fault["met"] % fault["every"]:
                    continue
                fault["times"] -= 1
                return str(fault["fault"])
        return None


def _filled(folder: str) -> bytes:
    """Many empty objects at once: moto takes 5 ms for each request."""
    store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for number in range(MANY):
        store.put_object(BUCKET, f"{folder}/{number:05d}", b"")
    return b""


def _answer(start_response: Any, status: str, body: bytes) -> list[bytes]:
    start_response(status, [("Content-Length", str(len(body))), ("Content-Type", "application/xml")])
    return [body]


def _told(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told to</Message></Error>".encode()


def _hang_up(environ: dict[str, Any]) -> None:
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


def main() -> None:
    """Serve."""
    server = DomainDispatcherApplication(create_backend_app)
    Client(server).put(f"/{BUCKET}", headers=SIGNED)
    serving = make_server("127.0.0.1", 0, Misbehaving(server), threaded=True)
    serving.RequestHandlerClass.log_request = lambda *_: None  # type: ignore[method-assign, assignment]
    serving.RequestHandlerClass.protocol_version = "HTTP/1.1"
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    print(serving.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
