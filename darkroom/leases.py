"""Locks on an object store, which has none: small objects that name a living process, and its heartbeat.

    .locks/<name>           who holds the lock: taken by a conditional put, so that of many one gets it
    .locks/alive/<process>  written anew every few seconds while its process holds anything

A process that is killed stops writing. Another one on the same machine sees at once that it is gone; elsewhere its
heartbeat must be TAKEN_OVER_AFTER seconds old, by the clock of the store alone: two of its own stamps are compared.

Locks only save work, and the numbers of commits guarantee; yet nobody should work on what was taken over. A process
that could not write its heartbeat for HELD_FOR seconds (it was stopped, or the network was) changes nothing from then
on. Between the two lies more time than a request is retried, so that none of its requests is still on its way.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from darkroom.errors import StorageError

LOCKS: Final = ".locks"
ALIVE: Final = f"{LOCKS}/alive"

RENEWED_EVERY: Final = 10.0
HELD_FOR: Final = 60.0
TAKEN_OVER_AFTER: Final = 180.0
_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Found:
    """An object as it was found: what a conditional put needs to replace exactly this one."""

    data: bytes
    version: dict[str, str]
    written_at: datetime


class Objects(Protocol):
    """What leases need of an object store."""

    def find(self, key: str) -> Found | None:
        """The object, or None."""

    def place(self, key: str, data: bytes, instead_of: Found | None) -> bool:
        """Write it if what is there is still `instead_of` (None: nothing); whether it is there now."""

    def beat(self, key: str, data: bytes) -> datetime:
        """Write it, without trying for long; when, by the clock of the store."""

    def drop(self, key: str) -> None:
        """Remove it, if it is there."""


@dataclass
class Leases:
    """The locks that this process holds in one place, and its heartbeat while any is held or wanted."""

    objects: Objects
    process: str = field(default_factory=lambda: uuid.uuid4().hex)
    _held: dict[str, bytes] = field(default_factory=dict)
    _trying: threading.Lock = field(default_factory=threading.Lock)
    _users: int = 0
    _turn: threading.RLock = field(default_factory=threading.RLock)
    _beaten: float = 0.0
    _store_time: datetime | None = None
    _lost: bool = False
    _ended: threading.Event = field(default_factory=threading.Event)

    def take(self, name: str, patience: float) -> Lease | None:
        """The lock, waiting at most `patience` seconds; None: a living process has it."""
        deadline = time.monotonic() + patience
        self._begin()
        taken = False
        try:
            while not (taken := self._try(name)) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        finally:
            if not taken:
                self._end()
        return Lease(self, name) if taken else None

    def release(self, name: str, *, forget: bool) -> None:
        """Let others have it. One that was lost belongs to somebody else by now, and is left alone.

        Where the store does not answer, the lock is free when the heartbeat of this process has ended.
        """
        key, data = f"{LOCKS}/{name}", self._held.pop(name)
        with suppress(StorageError):
            found = self.objects.find(key) if self.alive() else None
            if found is not None and found.data == data:
                if forget:
                    self.objects.drop(key)
                else:
                    self.objects.place(key, _lock(None), found)
        self._end()

    def alive(self) -> bool:
        """Whether this process may go on: it holds nothing, or nobody can have taken over what it holds."""
        return not self._held or (not self._lost and clock() - self._beaten < HELD_FOR)

    def require(self, file: str) -> None:
        """Raises StorageError where others may have taken over what this process was doing."""
        if not self.alive():
            raise StorageError(
                "This process was away for so long that another one may have taken over its work: it changes nothing.",
                file=file,
                expected=f"a heartbeat in {LOCKS} every {RENEWED_EVERY:g} s",
                found=f"none for {HELD_FOR:g} s or more",
                todo="run again when the object store answers: what was finished is kept, and nothing is scored twice",
            )

    def _try(self, name: str) -> bool:
        """One thread at a time: what this process has in the store and not yet in its hand must not look free."""
        with self._trying:
            return self._put_ours(name)

    def _put_ours(self, name: str) -> bool:
        key, data = f"{LOCKS}/{name}", _lock(self.process)
        found = self.objects.find(key)
        if found is not None and not self._is_free(name, found):
            return False
        if not self.objects.place(key, data, instead_of=found):
            return False
        self._held[name] = data
        return True

    def _is_free(self, name: str, lock: Found) -> bool:
        holder = json.loads(lock.data)["process"]
        if holder is None:
            return True
        if holder == self.process:
            return name not in self._held
        heartbeat = self.objects.find(f"{ALIVE}/{holder}")
        if heartbeat is None or _is_gone(json.loads(heartbeat.data)["on"]):
            return True
        now = self._store_time
        return now is not None and (now - heartbeat.written_at).total_seconds() > TAKEN_OVER_AFTER

    def _begin(self) -> None:
        with self._turn:
            if not self._users:
                self._lost = False
                self._beat()
                self._ended = threading.Event()
                threading.Thread(target=self._go_on, args=(self._ended,), name="leases", daemon=True).start()
            self._users += 1

    def _end(self) -> None:
        with self._turn:
            self._users -= 1
            if not self._users:
                self._ended.set()
                with suppress(StorageError):
                    self.objects.drop(f"{ALIVE}/{self.process}")

    def _go_on(self, ended: threading.Event) -> None:
        while not ended.wait(RENEWED_EVERY):
            with self._turn, suppress(StorageError):  # the next one may arrive
                if not ended.is_set():
                    self._beat()

    def _beat(self) -> None:
        begun = clock()
        self._store_time = self.objects.beat(f"{ALIVE}/{self.process}", json.dumps({"on": _mark()}).encode())
        # Between two heartbeats so far apart somebody may have come, seen that there is none, and gone to work.
        self._lost |= bool(self._users) and clock() - self._beaten > TAKEN_OVER_AFTER - HELD_FOR
        self._beaten = begun


@dataclass
class Lease:
    """A held lock."""

    leases: Leases
    name: str
    _released: bool = False

    def release(self, *, forget: bool = False) -> None:
        """Let go; with `forget`, its object is removed as well."""
        if not self._released:
            self._released = True
            self.leases.release(self.name, forget=forget)


def _lock(process: str | None) -> bytes:
    return json.dumps({"process": process, "taken": uuid.uuid4().hex}).encode()


def clock() -> float:
    """Seconds, also those for which the machine slept, where there is such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _mark(pid: int | None = None) -> dict[str, Any] | None:
    """Which process this is, of all that ever ran on this machine; None where the system does not tell, or has none."""
    pid = os.getpid() if pid is None else pid
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        names = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None
    return None if state in "ZX" else {"machine": f"{machine}/{names}", "pid": pid, "since": fields[18]}


def _is_gone(mark: dict[str, Any] | None) -> bool:
    """Whether this was a process of this very machine that no longer lives."""
    own = _mark()
    return mark is not None and own is not None and mark["machine"] == own["machine"] and _mark(mark["pid"]) != mark
