"""Who may ask a server of ours: which names it has, which pages of a browser, and with which password.

A server on the loopback address is not out of reach: a page of any site that is open in a browser on this machine may
send requests to it, and with DNS rebinding under a name of its own (Jackson et al., CCS 2007). Prefect by itself takes
requests from pages of every origin, and bodies without a content type, for which a browser asks no server beforehand;
whoever can start a run can state its command.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import urlsplit

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_POLICY_VIOLATION: Final = 1008  # RFC 6455, section 7.4.1

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


def is_loopback(host: str) -> bool:
    """Whether a server that listens at `host` is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Callers:
    """Whose requests are answered; `names`, None: under any, of a server that others reach and that has a password."""

    names: frozenset[str] | None
    origins: frozenset[str]

    @classmethod
    def of(cls, host: str, port: int, addresses: Iterable[str] = ()) -> Self:
        """Of a server at `host` and `port` that is also reached, through a proxy, at the http(s) `addresses`."""
        outside = [split for split in map(urlsplit, addresses) if split.scheme and split.hostname]
        names = {*_LOOPBACK, host, *(str(split.hostname) for split in outside)}
        ours = {f"http://{f'[{name}]' if ':' in name else name}:{port}" for name in (*_LOOPBACK, host)}
        origins = {*ours, *(f"{split.scheme}://{split.netloc.rpartition('@')[2]}".lower() for split in outside)}
        return cls(frozenset(names) if is_loopback(host) else None, frozenset(origins))

    def know(self, host: str, origin: str | None) -> bool:
        """Whether a request with these headers is no other site's.

        Programs state no Origin; a browser does wherever something might be changed, or read by another site's page.
        """
        if origin is not None and origin not in self.origins:
            return False
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return self.names is None or name in self.names


class OnlyOurPages:
    """An ASGI application before which requests that another site's page has made are refused, sockets too."""

    def __init__(self, app: _App, callers: Callers) -> None:
        self._app = app
        self._callers = callers

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Hand the request on, or refuse it."""
        if scope["type"] not in {"http", "websocket"} or self._known(scope["headers"]):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        else:
            kind = (b"content-type", b"text/plain; charset=utf-8")
            await send({"type": "http.response.start", "status": int(HTTPStatus.FORBIDDEN), "headers": [kind]})
            told = b"403 Forbidden: a request of another site, or under a name that is not this server's\n"
            await send({"type": "http.response.body", "body": told})

    def _known(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        listed = [(name, value.decode("latin-1")) for name, value in headers]
        hosts = [value for name, value in listed if name == b"host"] or [""]
        origins: list[str | None] = [value for name, value in listed if name == b"origin"]
        return all(self._callers.know(host, origin) for host in hosts for origin in origins or [None])


def admits(authorization: str | None, password: str | None) -> bool:
    """Whether a header has the `user:password` that is asked for (RFC 7617); None: none is."""
    if password is None:
        return True
    scheme, _, credentials = (authorization or "").strip().partition(" ")
    try:
        stated = base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(stated, password.encode())
