"""Knows the versions of a bundle beside each other: which is in use, who changed that, and the next number."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from darkroom.errors import BundleUnreadable, StorageError, WrongUse
from darkroom.storage import LocalStorage, store_address
from tasks.bundle.disk import append_line
from tasks.bundle.fetching import CURRENT, fetch_bundle
from tasks.bundle.manifest import MANIFEST
from tasks.bundle.opening import open_bundle
from tasks.bundle.statements import replaced, statements_at

HISTORY = "history.jsonl"
# Long enough for another writer's two small files, short enough for a person at a terminal.
_PATIENCE_SECONDS = 20.0
# A name is part of paths, of Hive partitions and of ids.
NAME = r"[A-Za-z0-9][A-Za-z0-9._]*(?:-[A-Za-z0-9._]+)*"


def find_bundle(models_or_bundle: Path, name: str | None = None, *, unsigned: bool = False) -> Path:
    """The folder of a bundle; one in an object store is fetched first.

    `models_or_bundle` is the folder of a bundle, or models/NAME for the version in use, or, with `name`, models.

    `unsigned`: as of `open_bundle`.

    Raises: BundleUnreadable where there is none; BundleTampered where the version in use is not the one that was put
    into use; BundleUntrusted where signatures are required, and no trusted key has signed it.
    """
    folder = models_or_bundle if name is None else models_or_bundle / name
    address = store_address(folder)
    if address is not None:
        return fetch_bundle(address, unsigned=unsigned)
    if (folder / MANIFEST).is_file():
        return folder
    current = _current(folder)
    if current is None:
        raise _nothing_in_use(folder)
    path = folder / str(current["version"])
    if not (path / MANIFEST).is_file():
        raise BundleUnreadable(
            "The version in use is not there, or only half of it.",
            file=path,
            expected=f"bundle {current['id']}",
            todo=f"restore it from a backup, or put another version into use: darkroom promote {folder.name} VERSION",
        )
    found = statements_at(path, unsigned=unsigned)[0]["id"]
    if found != current["id"]:
        raise replaced(path, current["id"], found)
    return path


def promote(models: Path, name: str, version: int, reason: str, by: str) -> None:
    """Put a version into use. Who, when and why is appended to history.jsonl first.

    Raises: WrongUse where there is no such version; BundleUnreadable, BundleTampered, BundleUntrusted where it cannot
    be opened.
    """
    path = models / check_name(name) / str(version)
    if not path.is_dir():
        versions = ", ".join(map(str, _versions(models / name))) or "none"
        raise WrongUse(
            f"There is no version {version} of {name}.", file=path, expected=f"one of the versions: {versions}"
        )
    bundle = open_bundle(path)
    put_into_use(models, name, version, bundle.id, reason=reason, by=by)


def put_into_use(
    models: Path, name: str, version: int, bundle_id: str, *, reason: str, by: str, if_none: bool = False
) -> None:
    """Append to history.jsonl, then replace current.json: nothing is in use that the history does not explain.

    `if_none`: only where no version is in use yet.
    """
    lock = LocalStorage(models).try_lock(name, patience=_PATIENCE_SECONDS)
    try:
        if if_none and _current(models / name) is not None:
            return
        remember(models / name, event="promoted", version=version, id=bundle_id, reason=reason, by=by)
        statement = {"schema_version": 1, "version": version, "id": bundle_id}
        LocalStorage(models).write(f"{name}/{CURRENT}", json.dumps(statement, indent=1).encode())
    finally:
        if lock is not None:
            lock.release()


def remember(folder: Path, **what: Any) -> None:
    """Append a line to history.jsonl, for good."""
    line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), **what})
    try:
        append_line(folder / HISTORY, line)
    except OSError as error:
        raise StorageError(
            f"The history of the bundle could not be written: {error.strerror}.",
            file=folder / HISTORY,
            todo="look at the disk and the folder's rights, then run again",
        ) from error


def next_version(folder: Path) -> int:
    """One more than any version that is there, or ever was: a number is never used twice."""
    return max([0, *_versions(folder), *_remembered(folder)]) + 1


def version_in_use(folder: Path) -> int | None:
    """The number of the version in use, whatever lies there; None: none is. BundleUnreadable: nobody can tell."""
    current = _current(folder)
    return None if current is None else int(current["version"])


def check_name(name: str) -> str:
    """The name, if it is one. Raises: WrongUse."""
    if len(name) > 64 or not re.fullmatch(NAME, name):
        raise WrongUse(
            "This cannot be the name of a bundle.",
            expected="letters, digits, and . _ - between them; 64 characters at most",
            found=repr(name),
        )
    return name


def _current(folder: Path) -> dict[str, Any] | None:
    try:
        current = json.loads((folder / CURRENT).read_bytes())
        return {"version": int(current["version"]), "id": str(current["id"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleUnreadable(
            "current.json cannot be read, so nothing says which version is in use.",
            file=folder / CURRENT,
            found=str(error),
            todo=f"put a version into use: darkroom promote {folder.name} VERSION --reason '…'",
        ) from error


def _nothing_in_use(folder: Path) -> BundleUnreadable:
    versions = _versions(folder)
    if versions:
        return BundleUnreadable(
            "No version of this bundle is in use.",
            file=folder,
            expected="current.json",
            found=f"the versions {', '.join(map(str, versions))}",
            todo=f"put one into use: darkroom promote {folder.name} {versions[-1]} --reason '…', or name its folder",
        )
    names = sorted(path.name for path in folder.glob("*") if (path / CURRENT).is_file()) if folder.is_dir() else []
    return BundleUnreadable(
        "There is no bundle here.",
        file=folder,
        expected="the folder of a bundle, or models/NAME for the version in use",
        found=f"a folder with the bundles {', '.join(names)}" if names else None,
        todo=f"name one: {folder / names[0]}" if names else "name a bundle that `darkroom train` has sealed",
    )


def _versions(folder: Path) -> list[int]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


class Remembered(BaseModel):
    """A line of history.jsonl: a version was sealed, or put into use; who, when and why."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event: str
    version: int
    id: str
    reason: str = ""
    by: str = ""
    at: datetime


def history_of(folder: Path) -> list[Remembered]:
    """What history.jsonl of a bundle's folder says, in its order; lines that a writer died in are left out."""
    try:
        lines = (folder / HISTORY).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with suppress(ValidationError):
            found.append(Remembered.model_validate_json(line))
    return found


def _remembered(folder: Path) -> Iterator[int]:
    """Every version that the history names."""
    try:
        lines = (folder / HISTORY).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield int(json.loads(line)["version"])
        except (ValueError, TypeError, KeyError):
            continue  # a writer died in the middle of this line
