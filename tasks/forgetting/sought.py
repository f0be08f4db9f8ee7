"""What is to be forgotten: contents, and the names that they had."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from hashlib import file_digest
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from darkroom.errors import WrongUse
from darkroom.names import from_text
from darkroom.storage import store_address

_ID: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """A path that a content had in an inbox on a night."""

    inbox: str
    path: str
    night: date


@dataclass(frozen=True)
class Photo:
    """A training photo, as the pages of nights name it."""

    label: str
    path: str


@dataclass(frozen=True)
class Sought:
    """Contents, the names under which the results have them, and as which training photos bundles have them."""

    ids: frozenset[str]
    names: frozenset[Name] = field(default=frozenset())
    photos: frozenset[Photo] = field(default=frozenset())

    def rows(self, table: pa.Table, inbox: str) -> pa.ChunkedArray:
        """Which rows are about them: by content; or, of a path that was not read that time, by its name."""
        by_id = pc.is_in(table["content_id"], value_set=pa.array(sorted(self.ids), pa.string()))
        paths = sorted({name.path for name in self.names if name.inbox == inbox})
        by_name = pc.is_in(table["path"], value_set=pa.array(paths, pa.string()))
        return pc.or_(by_id, pc.and_(pc.is_null(table["content_id"]), by_name))


def content_ids(contents: Iterable[str]) -> frozenset[str]:
    """Whole content ids, or files whose content is meant. Raises WrongUse for what is neither."""
    found = set()
    for one in contents:
        stated = _ID.fullmatch(one.strip())
        if stated is not None:
            found.add(stated[1].lower())
            continue
        try:
            with Path(one).open("rb") as file:
                found.add(file_digest(file, "sha256").hexdigest())
        except (OSError, ValueError) as error:
            raise WrongUse(
                "This is neither a content id nor a file that can be read.",
                expected="all 64 characters of a content id, as `darkroom trace` tells it, or a file",
                found=one,
            ) from error
    if not found:
        raise WrongUse("Nothing was named.", expected="content ids, or files", found="none")
    return frozenset(found)


def still_delivered(sought: Sought) -> list[str]:
    """Files of inboxes on this machine that still are one of these contents: the next run would score them as new."""
    places = {f"{from_text(name.inbox)}/{from_text(name.path)}" for name in sought.names}
    return sorted(place for place in places if store_address(place) is None and _content_of(place) in sought.ids)


def _content_of(place: str) -> str | None:
    try:
        if not Path(place).is_file():  # a device would never end
            return None
        with Path(place).open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
