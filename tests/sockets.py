"""Every address that Python processes talk to, recorded by all of them: an audit hook that no library can go round."""

from __future__ import annotations

import ast
import ipaddress
import os
import socket
from pathlib import Path

_HOOK = """
import os, sys

def _record(event, arguments, file=os.environ["RECORDED_SOCKETS"]):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[0] if event in ("socket.getaddrinfo", "socket.gethostbyname") else arguments[1]
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{os.getpid()}\\t{address!r}\\n".encode())
        os.close(descriptor)

sys.addaudithook(_record)
"""


class Sockets:
    """Add `environment` to that of a process: it and the Python processes below it are recorded."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_HOOK)
        self._file = folder / "recorded"
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        self.environment = {"PYTHONPATH": path, "RECORDED_SOCKETS": str(self._file)}

    def recorded(self) -> set[tuple[int, str]]:
        """(process, host): empty for a socket of this machine's file system."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return {(int(pid), _host(address)) for pid, _, address in (line.partition("\t") for line in lines)}

    def leaving(self) -> set[str]:
        """Hosts that are not this machine."""
        return {host for _, host in self.recorded() if not _is_here(host)}

    def assert_local_only(self, processes: int) -> None:
        """And at least so many processes were heard of: a recorder that records nothing proves nothing."""
        assert self.leaving() == set()
        assert len({pid for pid, _ in self.recorded()}) >= processes


def _host(address: str) -> str:
    """Of an address as `repr` wrote it: ('127.0.0.1', 4200), '/run/x', b'name', None."""
    value = ast.literal_eval(address)
    host = value[0] if isinstance(value, tuple) else value
    if isinstance(host, bytes):
        host = host.decode()
    return "" if host is None or str(host).startswith(("/", "\0")) else str(host)


def _is_here(host: str) -> bool:
    if host in ("", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
