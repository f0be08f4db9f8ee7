"""Contents that a person has released from quarantine: which still wait for a run, and how the next run takes them in.

A released content is looked at once more: where the walk through the inbox comes across it, like any other; else from
its copy, or from its place in the inbox of another night. It is answered by the first run that begins after the release
and scores it, or refuses it again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from darkroom.decisions import Act, Content, decisions
from darkroom.names import bundle_name, from_text, to_text
from darkroom.night import folder_of_night
from darkroom.reasons import FileStatus
from darkroom.results import bundles, commits, read_part
from darkroom.storage import Storage, storage_at, store_address
from tasks.identity import NotRead, Seen
from tasks.intake import MANIFEST, Manifest, examined, inbox_text
from tasks.ledger import Ledger
from tasks.object_inbox import is_there, look_at_object
from tasks.quarantine import copies, status_of
from tasks.walk import real_path


@dataclass(frozen=True)
class Waiting:
    """A content that was released and that no run has looked at since; `decision` is the number of its release."""

    content: Content
    decision: int
    at: datetime


def waiting(results: Storage | Path | str, name: str) -> dict[str, Waiting]:
    """Content id → what waits for the next run of the bundles with this name.

    Only commits after the oldest release that is still open are looked at, and no more than it takes to answer all.
    """
    storage = storage_at(results)
    open_ones: dict[str, Waiting] = {}
    for decision in decisions(storage, Act.RELEASE_FILES):
        for content in decision.contents:
            if bundle_name(content.bundle) == name:
                open_ones[content.content_id] = Waiting(content, decision.number, decision.at)
    if not open_ones:
        return {}
    oldest = min(one.at for one in open_ones.values())
    versions = [commits(storage, bundle) for bundle in bundles(storage) if bundle_name(bundle) == name]
    later = [commit for version in versions for commit in version if commit.committed_at > oldest]
    for commit in sorted(later, key=lambda one: one.committed_at):
        for part in commit.parts:
            if part.dataset in ("predictions", "quarantine"):
                ids = read_part(storage, part, ["content_id"])["content_id"]
                for content_id in ids.filter(pc.is_in(ids, value_set=pa.array(list(open_ones)))).to_pylist():
                    one = open_ones.get(content_id)
                    # A run that had begun before may have refused it for what has been mended since.
                    if one and (part.dataset == "predictions" or commit.taken_in_at > one.at):
                        del open_ones[content_id]
        if not open_ones:
            break
    return open_ones


def with_released(
    manifest: Manifest, ledger: Ledger, *, inbox: str, formats: Collection[str], max_bytes: int = 200_000_000
) -> Manifest:
    """The manifest, and behind it the released contents that the walk did not come across.

    Those of this inbox, or of any night where each has a folder of its own (`inbox` as the run was given it). Their
    paths are where their bytes are read, relative to the inbox: no path of the walk is one of them. What cannot be
    found now goes on waiting, and so does everything where the inbox itself is not there.
    """
    root = from_text(manifest.inbox)
    if not is_there(Path(root)):
        return manifest
    own = {
        content_id: one.content
        for content_id, one in waiting(ledger.storage, bundle_name(ledger.bundle)).items()
        if _is_ours(one.content, manifest.inbox, inbox)
    }
    if not own:
        return manifest
    ids = pa.array(list(own), pa.string())
    known = {
        *_among(manifest.files["content_id"], ids),
        *ledger.already_scored(ids).to_pylist(),
    }
    kept = copies(ledger.storage)
    rows = [
        row
        for content_id, content in own.items()
        if content_id not in known
        and (row := _row(content, sources(ledger.storage, content, kept), root, formats, max_bytes)) is not None
    ]
    # A file that is being sent again has its own row.
    walked = _among(manifest.files["path"], pa.array([row["path"] for row in rows], pa.string()))
    rows = [row for row in rows if row["path"] not in walked]
    if not rows:
        return manifest
    return replace(manifest, files=pa.concat_tables([manifest.files, pa.Table.from_pylist(rows, schema=MANIFEST)]))


def sources(storage: Storage, content: Content, kept: Mapping[str, str]) -> list[str]:
    """Where its bytes may be, best first: its copy (`kept`: content id → key), its place in the inbox of then."""
    found = []
    if content.content_id in kept:
        copy = storage.describe(kept[content.content_id])
        found.append(store_address(copy) or os.path.realpath(copy))
    # A link in it may have been turned around since: nothing is read from outside of that inbox.
    place = real_path(from_text(content.inbox), content.path, through_link=True)
    if place is not None and (store_address(place) or os.path.isfile(place)):  # noqa: PTH113 - a string
        found.append(place)
    return found


def _among(many: pa.ChunkedArray, few: pa.Array) -> set[str]:
    """Those of a few texts that are among many, without a set of the many."""
    return set(many.filter(pc.is_in(many, value_set=few)).to_pylist())


def _seen_from(root: str, place: str) -> str:
    """The path of a place, relative to the inbox where both are on this machine, else the place itself."""
    here = store_address(root) is None and store_address(place) is None
    return os.path.relpath(place, root) if here else place


def _is_ours(content: Content, this: str, inbox: str) -> bool:
    """Whether it was delivered to this inbox, or to that of its night where each has a folder of its own."""
    return content.inbox in (this, inbox_text(folder_of_night(inbox, content.night)))


def _row(
    content: Content, places: list[str], root: str, formats: Collection[str], max_bytes: int
) -> dict[str, object] | None:
    """A row of the manifest from the first place that holds the content; None: none does."""
    for place in places:
        try:
            seen = Seen.of(os.lstat(place)) if store_address(place) is None else look_at_object(place)
        except (OSError, NotRead):
            continue
        found, problem = examined(place, seen, named_as_image=True, formats=formats, max_bytes=max_bytes)
        if found != content.content_id:
            continue
        row = {
            "path": to_text(_seen_from(root, place)),
            "status": str(FileStatus.SCORED),
            "content_id": found,
            "size": seen.size,
            "mtime_ns": seen.mtime_ns,
            "inode": seen.inode,
        }
        if isinstance(problem, NotRead):
            row |= {
                "status": str(status_of(problem.reason)),
                "reason": str(problem.reason),
                "detail": problem.detail or None,
            }
        return row
    return None
