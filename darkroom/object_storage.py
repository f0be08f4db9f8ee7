"""Results in an object store: what `darkroom.storage` asks for, on Amazon S3, Google Cloud Storage, Azure, and alike.

What an object store has instead of a disk:

- `write_new` is a conditional put, and a store that ignores the condition is refused: it could commit a number twice.
  Where an answer is lost the put is repeated, by the client or on its way, and finds its own object there: each bears a
  token of its writer, and who finds his own token has won.
- `move_folder` is a copy of every object, then the removal of the old ones; repeated after a crash, it goes on.
- `remove_folder` goes object by object; what is half removed is removed by whoever comes next.
- Locks are leases: `darkroom.leases`.

Requests are repeated, later and later, for RETRIED_FOR. Which account it is, the environment or the machine says.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final
from urllib.parse import quote

from darkroom.errors import CommitConflict, StorageError, WrongUse
from darkroom.leases import ALIVE, Found, Leases
from darkroom.object_files import RangedFile
from darkroom.storage import Lock, checked_key

RETRIED_FOR: Final = timedelta(seconds=75)
_TIMEOUT: Final = timedelta(seconds=30)
_HEARTBEAT: Final = timedelta(seconds=5)
_TOKEN: Final = "darkroomwriter"  # of lower-case letters only: Azure takes no other names
_TRIES: Final = 5
_AT_ONCE: Final = 8
_PROVIDERS: Final = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing tells it: bytes, time by the clock of the store, and a tag that its content changes."""

    key: str
    size: int
    written_at: datetime
    e_tag: str

    @classmethod
    def of(cls, key: str, told: Any) -> Entry:
        """From what the client says of it."""
        return cls(key, told["size"], told["last_modified"], str(told.get("e_tag")))


@dataclass(frozen=True)
class ObjectStorage:
    """A folder of a bucket, such as s3://bucket/results. Carries no state: it can be pickled."""

    url: str

    @property
    def name(self) -> str:
        """The address."""
        return self.url

    def describe(self, key: str) -> str:
        """The address."""
        return f"{self.url}/{key}"

    def read(self, key: str) -> bytes:
        """One get."""
        with self._refusing("could not be read", key):
            return self._bytes(key)

    def peek(self, key: str) -> bytes | None:
        """One get."""
        try:
            with self._refusing("could not be read", key, missing=True):
                return self._bytes(key)
        except FileNotFoundError:
            return None

    def write(self, key: str, data: bytes | Iterable[bytes]) -> None:
        """One put; in several parts, and whole with the last one, where it is large."""
        with self._changing("could not be written", key) as store:
            _client().put(store, checked_key(key), data)

    def write_new(self, key: str, data: bytes) -> None:
        """A put that is refused where there is an object."""
        if not self._create(key, data):
            raise CommitConflict(
                "Somebody else has written this first.",
                file=self.describe(key),
                todo="read what is there, and try again",
            )

    def copy(self, source: str, target: str) -> None:
        """By the store itself."""
        with self._changing("could not be copied", target) as store:
            _client().copy(store, checked_key(source), checked_key(target))

    def list(self, folder: str) -> list[str]:
        """Names that share the prefix, up to the next `/`; page by page, however many there are."""
        folders, objects = self.entries(checked_key(folder))
        names = {key.rpartition("/")[2] for key in (*folders, *(one.key for one in objects))}
        return sorted(name for name in names if not name.startswith("."))

    def entries(self, folder: str) -> tuple[Sequence[str], Sequence[Entry]]:
        """Keys of the folders directly in a folder ("" for this one), and its objects, in the order of names."""
        with self._refusing("could not be listed", folder) as store:
            found = _client().list_with_delimiter(store, folder or None)
        folders = sorted(key.rstrip("/") for key in found["common_prefixes"])
        # Consoles make a folder by an object of its name, which is none of its files.
        objects = (Entry.of(one["path"], one) for one in found["objects"] if one["path"].rstrip("/") != folder)
        return folders, sorted(objects, key=lambda one: one.key)

    def holds_anything(self) -> bool:
        """Whether there is an object in this folder, or below."""
        with self._refusing("could not be listed", "") as store:
            return any(page for page in _client().list(store, chunk_size=1))

    @contextmanager
    def got(self, key: str) -> Iterator[Any]:
        """The answer to a get, whose bytes may be streamed; what is not there is a FileNotFoundError."""
        with self._refusing("could not be read", key, missing=True) as store:
            yield _client().get(store, checked_key(key))

    def exists(self, key: str) -> bool:
        """Whether there is an object, or one below."""
        with self._refusing("could not be looked at", key) as store:
            try:
                _client().head(store, checked_key(key))
            except FileNotFoundError:
                return next(self._below(key), None) is not None
            return True

    def size(self, key: str) -> int:
        """As the store says."""
        with self._refusing("could not be looked at", key) as store:
            size: int = _client().head(store, checked_key(key))["size"]
            return size

    def move_folder(self, source: str, target: str) -> None:
        """Copies, then removals. What an earlier attempt has moved already is no longer in the source."""
        left = list(self._below(source))
        if not left and not self.exists(target):
            raise StorageError(
                "A folder of the results could not be moved into place: it is not there.",
                file=self.describe(source),
                todo="run the night again",
            )
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(lambda key: self.copy(key, target + key.removeprefix(source)), left):
                pass
        self._remove_all(source, left)

    def remove_folder(self, key: str) -> None:
        """Object by object, some hundred in a request."""
        self._remove_all(key, list(self._below(key)))

    def remove(self, key: str) -> None:
        """One delete."""
        self._remove_all(key, [key])

    def tidy(self, older_than_seconds: float) -> None:
        """Heartbeats of processes that died. Uploads that never ended are for a rule of the bucket to remove."""
        with self._refusing("could not be listed", ALIVE) as store:
            found = _client().list_with_delimiter(store, ALIVE)["objects"]
        oldest = time.time() - older_than_seconds
        self._remove_all(ALIVE, [one["path"] for one in found if one["last_modified"].timestamp() < oldest])

    def try_lock(self, name: str, patience: float = 0.0) -> Lock | None:
        """A lease. Raises StorageError where the store cannot be written to."""
        return self._leases().take(name, patience)

    def open(self, key: str) -> Any:
        """Read by ranges."""
        import pyarrow as pa

        return pa.PythonFile(RangedFile(self.store(), checked_key(key)), mode="r")

    # -- what leases need

    def find(self, key: str) -> Found | None:
        """The object with what a conditional put needs to replace it; None: there is none."""
        try:
            with self._refusing("could not be read", key, missing=True) as store:
                found = _client().get(store, checked_key(key))
                version = {name: found.meta[name] for name in ("e_tag", "version") if found.meta.get(name)}
                return Found(bytes(found.bytes()), version, found.meta["last_modified"])
        except FileNotFoundError:
            return None

    def place(self, key: str, data: bytes, instead_of: Found | None) -> bool:
        """Write unique bytes where there is still what was found; whether they are there now."""
        if instead_of is None:
            return self._create(key, data)
        with self._changing("could not be written", key) as store:
            try:
                _client().put(store, checked_key(key), data, mode=instead_of.version)
            except (_errors().PreconditionError, FileNotFoundError):
                return self.peek(key) == data  # an answer that was lost: the second try found the first
            return True

    def beat(self, key: str, data: bytes) -> Any:
        """Write it; when, by the clock of the store."""
        store = _store(self.url, os.getpid(), _HEARTBEAT)
        with self._refusing("could not be written", key):
            _client().put(store, checked_key(key), data)
            return _client().head(store, checked_key(key))["last_modified"]

    def drop(self, key: str) -> None:
        """Remove it, if it is there."""
        with self._refusing("could not be removed", key) as store, suppress(FileNotFoundError):
            _client().delete(store, checked_key(key))

    def store(self) -> Any:
        """The client of this process for this folder."""
        return _store(self.url, os.getpid(), RETRIED_FOR)

    # -- inside

    def _create(self, key: str, data: bytes) -> bool:
        """Whether the object that is there now is this one."""
        token = uuid.uuid4().hex
        for tries_left in reversed(range(_TRIES)):
            with self._changing("could not be written", key) as store:
                try:
                    _client().put(store, checked_key(key), data, mode="create", attributes={_TOKEN: token})
                    self._prove_conditions(key, data, token)
                    return True
                except (_errors().AlreadyExistsError, _errors().GenericError):
                    found = self._token(store, key)
                    if found is not None:
                        return found == token
                    # Nothing is there: it was refused because another put was under way, or was not written at all.
                    if not tries_left:
                        raise
                    time.sleep(0.1 * (_TRIES - tries_left))
        raise AssertionError("the last try returns or raises")

    def _token(self, store: Any, key: str) -> str | None:
        """Who wrote the object; None: there is none."""
        try:
            attributes = _client().get(store, checked_key(key)).attributes
        except FileNotFoundError:
            return None
        return str(attributes.get(_TOKEN, ""))

    def _prove_conditions(self, key: str, data: bytes, token: str) -> None:
        """Once a process: the same put again must be refused, by a store that knows the condition."""
        if (self.url, os.getpid()) in _PROVED:
            return
        with self._refusing("could not be written", key) as store:
            try:
                _client().put(store, checked_key(key), data, mode="create", attributes={_TOKEN: token})
            except _errors().AlreadyExistsError:
                _PROVED.add((self.url, os.getpid()))
                return
        raise StorageError(
            "This object store ignores the condition of a put: two runs could commit under one number.",
            file=self.describe(key),
            expected="a second put with If-None-Match: * to be refused",
            found="it was carried out",
            todo="use a store that knows conditional writes, as S3, Google Cloud Storage and Azure do, or a disk",
        )

    def _bytes(self, key: str) -> bytes:
        return bytes(_client().get(self.store(), checked_key(key)).bytes())

    def _below(self, folder: str) -> Iterator[str]:
        """Keys of all objects below; a page at a time."""
        with self._refusing("could not be listed", folder) as store:
            for page in _client().list(store, checked_key(folder), chunk_size=1000):
                yield from (one["path"] for one in page)

    def _remove_all(self, folder: str, keys: Sequence[str]) -> None:
        if not keys:
            return
        with self._changing("could not be removed", folder) as store:
            try:
                _client().delete(store, [checked_key(key) for key in keys])
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                # Some stores say of an object that it is gone already, as after an answer that was lost.
                for key in keys:
                    with suppress(FileNotFoundError):
                        _client().delete(store, key)

    def _leases(self) -> Leases:
        return _leases(self, os.getpid())

    @contextmanager
    def _changing(self, what: str, key: str) -> Iterator[Any]:
        self._leases().require(self.describe(key))
        with self._refusing(what, key) as store:
            yield store

    @contextmanager
    def _refusing(self, what: str, key: str, *, missing: bool = False) -> Iterator[Any]:
        """The store, with its errors as ours; with `missing`, what is not there is a FileNotFoundError."""
        store = self.store()
        try:
            yield store
        except FileNotFoundError as error:
            if missing and "NoSuchBucket" not in str(error):
                raise
            raise self._refusal(what, key, error) from error
        except _errors().BaseError as error:
            raise self._refusal(what, key, error) from error

    def _refusal(self, what: str, key: str, error: Exception) -> StorageError:
        return StorageError(
            f"A file of the results {what}: {_first_line(error)}.", file=self.describe(key), todo=_todo(error)
        )


def bucket_and_key(address: str) -> tuple[str, str]:
    """s3://bucket, and what is behind it."""
    scheme, _, place = address.partition("://")
    bucket, _, key = place.partition("/")
    return f"{scheme}://{bucket}", key


_PROVED: set[tuple[str, int]] = set()


@cache
def _leases(storage: ObjectStorage, process: int) -> Leases:
    return Leases(storage)


@cache
def _store(url: str, process: int, retried_for: timedelta) -> Any:
    """A client of one process: its connections and threads do not survive a fork."""
    _client()
    from obstore.store import from_url

    bucket, folder = bucket_and_key(url)
    # The variables of the environment are read here.
    return from_url(
        f"{bucket}/{quote(folder)}",
        client_options={
            "timeout": min(_TIMEOUT, retried_for),
            "connect_timeout": timedelta(seconds=5),
            # Options that are given hide those of the environment.
            "allow_http": os.environ.get(f"{_PROVIDERS[url[:2]]}_ALLOW_HTTP", "").lower() in ("1", "true"),
        },
        retry_config={
            "max_retries": 100,
            "retry_timeout": retried_for,
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=8), "base": 2},
        },
    )


@cache
def _client() -> Any:
    try:
        import obstore
    except ImportError as error:
        raise WrongUse(
            "An address of an object store needs a library that is not installed.",
            expected="obstore",
            todo="pip install 'darkroom[cloud]'",
        ) from error
    return obstore


def _errors() -> Any:
    from obstore import exceptions

    return exceptions


def _first_line(error: Exception) -> str:
    """Without the addresses of the request, and without what only a debugger wants."""
    return str(error).split("\n")[0].rstrip(" .:")[:300]


def _todo(error: Exception) -> str:
    text = str(error)
    if "NoSuchBucket" in text or "ContainerNotFound" in text:
        return "make the bucket, or name one that is there"
    if isinstance(error, FileNotFoundError):
        return "look whether somebody removed it, and run again"
    if any(word in text for word in ("401 Unauthorized", "403 Forbidden", "credential")):
        return (
            "give this account the right to list, read, write and delete there; darkroom takes it from the environment"
        )
    if "empty path segment" in text or "illegal character sequence" in text:
        return "rename or remove the objects there with an empty part (`//`), `.`, `..` or a line break in their names"
    return "look at the network, the address and the store, and run again: what was finished is kept"
