"""Knows how a bundle comes from an object store: once, and only as it was sealed.

<cache>/bundles/<id>/<name>/<version>/      as it lies in models; found again by its id, and checked each time
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from darkroom.errors import BundleUnreadable
from darkroom.object_storage import ObjectStorage
from darkroom.storage import checked_key
from tasks.bundle.manifest import MANIFEST, bundle_id, file_digest

CURRENT = "current.json"


def fetch_bundle(address: str) -> Path:
    """The folder of a bundle at an address, or of the version in use where the address is that of its name.

    Raises: BundleUnreadable where there is none; StorageError where the store does not answer. What was fetched is
    opened like any other bundle, with every digest.
    """
    storage = ObjectStorage(address)
    version = ""
    data = storage.peek(MANIFEST)
    if data is None and (current := storage.peek(CURRENT)) is not None:
        version = f"{_version_in_use(address, current)}/"
        data = storage.peek(f"{version}{MANIFEST}")
    if data is None:
        raise BundleUnreadable(
            "There is no bundle at this address.",
            file=address,
            expected="a folder with bundle.json, such as s3://bucket/models/NAME/1, or one with current.json",
            todo="copy the whole folder of the bundle there, with current.json beside its versions",
        )
    statements = _object(address, MANIFEST, data)
    # The id follows from all that bundle.json says: what is in the cache under it, with these digests, is this bundle.
    if statements.get("id") != bundle_id(statements) or not _names_only_inside(statements):
        raise BundleUnreadable(
            "bundle.json was changed by hand: its id does not follow from what it says.",
            file=f"{address}/{version}{MANIFEST}",
            todo="copy the bundle again, with all of its files, or restore it from a backup",
        )
    digests: dict[str, str] = statements["digests"]
    folder: Path = _cache() / statements["id"] / statements["name"] / str(statements["version"])
    digests = {**digests, MANIFEST: hashlib.sha256(data).hexdigest()}
    if not _is_whole(folder, digests):
        _fetch(storage, version, folder, data, digests)
    return folder


def _version_in_use(address: str, current: bytes) -> int:
    version = _object(address, CURRENT, current).get("version")
    if isinstance(version, int):
        return version
    raise BundleUnreadable(
        "The version in use is no number.",
        file=f"{address}/{CURRENT}",
        expected="a whole number as its version",
        found=repr(version)[:100],
        todo="copy the file again, or name the version in the address",
    )


def _names_only_inside(statements: Mapping[str, Any]) -> bool:
    """Whether everything that a stranger's bundle.json names lies where it belongs."""
    names = [statements.get("name"), *statements.get("digests", {})]
    try:
        plain = all(str(checked_key(name)) == name and "\0" not in name for name in names)
        return isinstance(statements.get("version"), int) and plain
    except (TypeError, ValueError):
        return False


def _fetch(storage: ObjectStorage, version: str, folder: Path, manifest: bytes, digests: Mapping[str, str]) -> None:
    """Into a temporary folder, then renamed: of several processes that fetch, one is first, and all are right."""
    unfinished = folder.with_name(f".fetching-{uuid.uuid4().hex}")
    try:
        for name in digests.keys() - {MANIFEST}:
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / name).write_bytes(storage.read(f"{version}{name}"))
        (unfinished / MANIFEST).write_bytes(manifest)
        if folder.exists() and not _is_whole(folder, digests):
            shutil.rmtree(folder)
        with suppress(OSError):  # another process was first
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _is_whole(folder: Path, digests: Mapping[str, str]) -> bool:
    try:
        return all(file_digest(folder / name) == digest for name, digest in digests.items())
    except OSError:
        return False


def _object(address: str, name: str, data: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    raise BundleUnreadable(
        "A file of the bundle is no JSON.",
        file=f"{address}/{name}",
        todo="copy the bundle again, with all of its files",
    )


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkroom" / "bundles"
