"""Knows how a bundle comes from an object store: once, and only as it was sealed.

<cache>/bundles/<id>/<name>/<version>/      as it lies in models; found again by its id, and checked each time
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from darkroom.environment import cache_folder
from darkroom.errors import BundleUnreadable
from darkroom.object_storage import ObjectStorage
from tasks.bundle.manifest import MANIFEST, file_digest
from tasks.bundle.signatures import check_signed, keep_signatures
from tasks.bundle.statements import believed, replaced

CURRENT = "current.json"


def fetch_bundle(address: str, *, unsigned: bool = False) -> Path:
    """The folder of a bundle at an address, or of the version in use where the address is that of its name.

    What was fetched is opened like any other bundle, with every digest. `unsigned`: as of `open_bundle`.

    Raises: BundleUnreadable where there is none; BundleUntrusted, BundleTampered where bundle.json is not to be
    believed; StorageError where the store does not answer.
    """
    storage = ObjectStorage(address)
    version, in_use = "", None
    data = storage.peek(MANIFEST)
    if data is None and (current := storage.peek(CURRENT)) is not None:
        number, in_use = _in_use(address, current)
        version = f"{number}/"
        data = storage.peek(f"{version}{MANIFEST}")
    if data is None:
        raise BundleUnreadable(
            "There is no bundle at this address.",
            file=address,
            expected="a folder with bundle.json, such as s3://bucket/models/NAME/1, or one with current.json",
            todo="copy the whole folder of the bundle there, with current.json beside its versions",
        )
    place = f"{address}/{version}".rstrip("/")
    signatures: dict[str, bytes] = {}

    def signature(name: str) -> bytes | None:
        found = storage.peek(f"{version}{name}")
        signatures.update({} if found is None else {name: found})
        return found

    if not unsigned:
        check_signed(data, signature, place)
    # The id follows from all that bundle.json says: what is in the cache under it, with these digests, is this bundle.
    statements = believed(data, f"{place}/{MANIFEST}")
    if in_use not in (None, statements["id"]):
        raise replaced(place, str(in_use), statements["id"])
    folder: Path = cache_folder() / "bundles" / statements["id"] / statements["name"] / str(statements["version"])
    digests = {**statements["digests"], MANIFEST: hashlib.sha256(data).hexdigest()}
    if not _is_whole(folder, digests):
        _fetch(storage, version, folder, data, digests)
    keep_signatures(folder, signatures)
    return folder


def _in_use(address: str, current: bytes) -> tuple[int, str]:
    """The number and the id of the version in use."""
    stated = _object(address, CURRENT, current)
    match stated:
        case {"version": int(version), "id": str(identity)}:
            return version, identity
    raise BundleUnreadable(
        "Nothing says which version is in use.",
        file=f"{address}/{CURRENT}",
        expected="a whole number as its version, and its id",
        found=repr(stated)[:100],
        todo="copy the file again, or name the version in the address",
    )


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
    with suppress(ValueError, RecursionError):
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    raise BundleUnreadable(
        "A file of the bundle is no JSON.",
        file=f"{address}/{name}",
        todo="copy the bundle again, with all of its files",
    )
