"""What receives notifications in tests: a web server and a mail server on this machine, which keep what they get."""

from __future__ import annotations

import json
import socketserver
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_string, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    """What was sent to the web server."""

    method: str
    path: str
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class Web:
    """A web server; `status` is what it answers."""

    port: int
    requests: list[Request] = field(default_factory=list)
    status: int = 200

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextmanager
def web_receiver() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            web.requests.append(Request(self.command, self.path, self.rfile.read(length)))
            self.send_response(web.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_PUT(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web = Web(server.server_address[1])
    with _serving(server):
        yield web


@dataclass
class Mail:
    """A mail server; what it was told, and the messages."""

    port: int
    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    refuse: int = 0  # so many messages are refused for now


@contextmanager
def mail_receiver() -> Iterator[Mail]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 ready")
            while line := self.rfile.readline().decode().strip():
                command = line[:4].upper()
                if command == "RCPT":
                    mail.recipients.append(line.partition("<")[2].rstrip(">"))
                if command == "EHLO":
                    self.say("250-receiver\r\n250 AUTH PLAIN")
                elif command == "AUTH":
                    mail.logins.append(b64decode(line.split()[-1]).decode())
                    self.say("235 ok")
                elif command == "DATA":
                    self.say("354 go on")
                    self.take()
                elif command == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 ok")

        def take(self) -> None:
            lines: list[str] = []
            while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                lines.append(line.removeprefix("."))
            if mail.refuse:
                mail.refuse -= 1
                self.say("451 later")
                return
            mail.messages.append(message_from_string("\n".join(lines), policy=policy.default))  # type: ignore[arg-type]
            self.say("250 ok")

        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    mail = Mail(server.server_address[1])
    with _serving(server):
        yield mail


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
