"""Knows how bundle.json is read: an ordinary file, signed where that is asked for, and one whose id follows from it.

It is the only file of a bundle that is parsed before a digest of it holds; what it says is believed only then.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from darkroom.errors import BundleTampered, BundleUnreadable
from tasks.bundle.manifest import MANIFEST, SCHEMA_VERSION, bundle_id, classes_digest
from tasks.bundle.signatures import SIGNATURES, check_signed, read_signature

# Schema version → what its statements are in the next one. An older bundle keeps its id, which follows from what was
# sealed; its other files are read by rooms that know what they may lack. There has been one version so far.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
# The largest that a training seals holds a line for each file that it left out.
LARGEST: Final = 64 * 2**20
RESTORE: Final = "restore the bundle from a backup; a wanted change is a new version: train again with `darkroom train`"


def statements_at(path: Path, *, unsigned: bool = False) -> tuple[dict[str, Any], str | None]:
    """What bundle.json of the folder says, and who has signed it; see `believed`.

    Raises: what `believed` does; BundleUnreadable where there is no bundle, or half of one.
    """
    file = path / MANIFEST
    data = _bytes(file)
    signer = None if unsigned else check_signed(data, lambda name: read_signature(path, name), path)
    return believed(data, file), signer


def believed(data: bytes, file: object) -> dict[str, Any]:
    """The bytes of bundle.json as statements; older schemas as this one would say it.

    Raises: BundleUnreadable for what is no bundle.json, or one of another schema; BundleTampered where the id does not
    follow from the rest, or a name leads out of the bundle.
    """
    try:
        if len(data) > LARGEST:
            raise ValueError(f"{len(data):,} bytes, and {LARGEST:,} at most can be meant")
        statements = json.loads(data, parse_constant=_no_number)
        if not isinstance(statements, dict) or type(statements.get("schema_version")) is not int:
            raise ValueError("JSON without a schema version")
        _check_schema(statements["schema_version"], file)
        found = bundle_id(statements)
    except RecursionError as error:
        raise half(file, "JSON that is nested too deeply") from error
    except ValueError as error:  # also an infinite number, and half of a pair of surrogates
        raise half(file, f"no JSON that a seal writes: {error}") from error
    _check_id(statements, found, file)
    _check_names(statements, file)
    for version in range(statements["schema_version"], SCHEMA_VERSION):
        statements = {**MIGRATIONS[version](statements), "schema_version": version + 1}
    return statements


def half(file: object, found: str) -> BundleUnreadable:
    """The refusal of a bundle of which a file cannot be read."""
    return BundleUnreadable(
        "This is half a bundle: a file that belongs to it cannot be read.",
        file=file,
        found=found,
        todo="copy the bundle again, with all of its files, or restore it from a backup",
    )


def is_name(name: object) -> bool:
    """Whether this names a file inside of a bundle, in the one spelling that such a name has."""
    if not isinstance(name, str) or "\0" in name:
        return False
    parts = PurePosixPath(name).parts
    return bool(parts) and PurePosixPath(*parts).as_posix() == name and not {"..", "/"} & set(parts)


def may_be_sealed(name: object) -> bool:
    """Whether a file of this name may be part of a bundle: bundle.json and signatures are beside what they speak of."""
    return is_name(name) and name != MANIFEST and PurePosixPath(str(name)).parts[0] != SIGNATURES


def _bytes(file: Path) -> bytes:
    """The bytes of bundle.json, and not many more than it may have. Nothing that it could be is waited for."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BundleUnreadable(
            "There is no bundle here.",
            file=file.parent,
            expected="a folder with bundle.json, such as models/NAME/1, or models/NAME for the version in use",
            found="a folder without bundle.json" if file.parent.is_dir() else "no such folder",
            todo="name a bundle that `darkroom train` has sealed",
        ) from error
    except OSError as error:
        if file.is_symlink():
            raise linked(file) from error
        raise half(file, error.strerror or "unreadable") from error
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise half(file, "no ordinary file")
        return opened.read(LARGEST + 1)


def replaced(place: object, expected: str, found: str) -> BundleTampered:
    """The refusal of a version that is not the one that somebody has put into use."""
    return BundleTampered(
        "The version in use was replaced by another bundle.",
        file=place,
        expected=expected,
        found=found,
        todo="restore it from a backup, or put it into use knowingly: darkroom promote NAME VERSION",
    )


def linked(file: Path, more: str = "") -> BundleTampered:
    """The refusal of a link where a file or a folder was sealed."""
    return BundleTampered(
        "A file of the bundle was replaced by a link.",
        file=file,
        expected="what was sealed, itself",
        found=f"a link to {file.readlink()}{more}",
        todo=RESTORE,
    )


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _check_schema(version: int, file: object) -> None:
    if version > SCHEMA_VERSION:
        raise BundleUnreadable(
            "This bundle was sealed by a newer darkroom, with a schema that this one does not know.",
            file=file,
            expected=f"schema version {SCHEMA_VERSION} or older",
            found=f"schema version {version}",
            todo="update darkroom: pip install --upgrade darkroom",
        )
    if version < 1:
        raise BundleUnreadable(
            "No darkroom has ever sealed a bundle of this schema.",
            file=file,
            expected=f"schema version 1 to {SCHEMA_VERSION}",
            found=f"schema version {version}",
            todo=RESTORE,
        )


def _check_id(statements: Mapping[str, Any], found: str, file: object) -> None:
    expected = str(statements.get("id"))
    if expected == found:
        return
    classes = statements.get("classes")
    if isinstance(classes, list) and statements.get("classes_digest") != classes_digest(classes):
        raise BundleTampered(
            "The class order was changed by hand: every prediction would bear the wrong name.",
            file=file,
            expected=f"classes with the sha256 {str(statements.get('classes_digest'))[:16]}…",
            found=f"{', '.join(map(str, classes))}: sha256 {classes_digest(classes)[:16]}…",
            todo=RESTORE,
        )
    raise BundleTampered(
        "bundle.json was changed by hand: its id does not follow from what it says.",
        file=file,
        expected=f"id {expected}",
        found=f"statements that give the id {found}",
        todo=RESTORE,
    )


def _check_names(statements: Mapping[str, Any], file: object) -> None:
    """Everything that a stranger's bundle.json names lies where it belongs."""
    digests = statements.get("digests")
    outside = [name for name in digests if not may_be_sealed(name)] if isinstance(digests, dict) else ["no digests"]
    # Both are parts of the path under which a fetched bundle is kept.
    outside += [] if is_name(statements.get("name")) else [f"the name {statements.get('name')!r}"]
    outside += [] if type(statements.get("version")) is int else [f"the version {statements.get('version')!r}"]
    if outside:
        raise BundleTampered(
            "bundle.json names what cannot be part of a bundle: a seal never writes such a name.",
            file=file,
            expected="files below its folder, a name and a number",
            found=", ".join(outside)[:200],
            todo="do not trust where it comes from",
        )
