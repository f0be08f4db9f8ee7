"""What lies in quarantine now: each content with its last refusal, its copy, and what became of it since."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from darkroom.decisions import Content
from darkroom.errors import WrongUse
from darkroom.names import bundle_name, to_text
from darkroom.reasons import FileStatus, Reason
from darkroom.results import Commit, bundles, commits, read_part
from darkroom.settings import QuarantineFilter
from darkroom.storage import Storage, storage_at, store_address
from tasks.ledger import Ledger
from tasks.object_inbox import file_at
from tasks.quarantine import COPIES, copies
from tasks.released import Waiting, waiting

_COLUMNS = ("path", "content_id", "reason", "detail", "size")
_SHORTEST_ID = 8


class State(StrEnum):
    """What became of a refused content since."""

    REFUSED = "refused"
    RELEASED = "released"
    SCORED = "scored since"


@dataclass(frozen=True, slots=True)
class SetAside:
    """A content, or a path that was never read, as it was refused last; `times`: in how many runs it was.

    `inbox` and `path` are where a walk came across it last, also where it was refused again since from its copy. `copy`
    is the key of its copy; `released` the number of the release that the next run is to answer.
    """

    path: str
    content_id: str | None
    reason: Reason
    detail: str | None
    size: int | None
    bundle: str
    night: date
    inbox: str
    run: str
    times: int
    state: State
    copy: str | None
    released: int | None

    @property
    def place(self) -> str:
        """The path in full, as text."""
        if store_address(self.inbox) or store_address(self.path):
            return str(store_address(file_at(Path(self.inbox), self.path)))
        return os.path.normpath(f"{self.inbox}/{self.path}")

    def as_content(self) -> Content:
        """For a decision about it. Only of one that was read."""
        assert self.content_id is not None
        return Content(
            content_id=self.content_id,
            bundle=self.bundle,
            inbox=self.inbox,
            path=self.path,
            night=self.night,
            reason=self.reason,
        )


def set_aside(results: Storage | Path | str) -> list[SetAside]:
    """Everything in quarantine, newest night first; memory is that of the contents, however often each was refused.

    What was scored since is still told, because its copy may still be there. A path that was never read is left out as
    soon as a later run of its inbox found it otherwise. Raises WrongUse where there are no results, StorageError where
    a committed part cannot be read.
    """
    storage = storage_at(results)
    if not storage.exists("commits"):
        raise WrongUse(
            "There are no results in this folder.",
            file=storage.name,
            expected="a folder with commits in it",
            todo="name the results folder of a scored night",
        )
    found: list[SetAside] = []
    for name in sorted({bundle_name(bundle) for bundle in bundles(storage)}):
        done = [Ledger(storage, one, tuple(commits(storage, one))) for one in bundles(storage) if _is(one, name)]
        found.extend(_of_name(storage, done, waiting(storage, name)))
    return sorted(found, key=lambda one: (one.night, one.run, one.path), reverse=True)


def chosen(rows: Iterable[SetAside], reasons: Sequence[Reason], which: QuarantineFilter) -> list[SetAside]:
    """Those with one of the reasons (none: all) that the filter lets through."""
    inbox = to_text(store_address(which.inbox) or os.path.realpath(which.inbox)) if which.inbox else None
    only = [one.strip() for one in which.only]
    if not all(only):  # a shell's empty variable must not mean all of them
        raise WrongUse(
            "A file is named by nothing.", parameter="only", expected="content ids or paths", found=list(which.only)
        )

    def meant(row: SetAside) -> bool:
        if (reasons and row.reason not in reasons) or (which.night is not None and row.night != which.night):
            return False
        if which.bundle and which.bundle not in (row.bundle, bundle_name(row.bundle)):
            return False
        if inbox is not None and row.inbox != inbox:
            return False
        return not only or any(_names(one, row) for one in only)

    return [row for row in rows if meant(row)]


def _is(bundle: str, name: str) -> bool:
    return bundle_name(bundle) == name


def _names(text: str, row: SetAside) -> bool:
    """Whether a person means this row: by content id, its beginning, the path as in the results, or in full."""
    if row.content_id is not None and len(text) >= _SHORTEST_ID and row.content_id.startswith(text.lower()):
        return True
    return text in (row.path, row.place) or to_text(text) in (row.path, row.place)


def _of_name(storage: Storage, done: list[Ledger], open_ones: dict[str, Waiting]) -> Iterator[SetAside]:
    kept = copies(storage)
    last: dict[tuple[str, ...], tuple[Commit, dict[str, object]]] = {}
    found_at: dict[tuple[str, ...], tuple[str, str]] = {}
    times: Counter[tuple[str, ...]] = Counter()
    newest_first = sorted(
        (commit for ledger in done for commit in ledger.commits),
        key=lambda one: one.committed_at,
        reverse=True,
    )
    for commit in newest_first:
        for part in commit.parts:
            if part.dataset == "quarantine":
                for row in read_part(storage, part, _COLUMNS).to_pylist():
                    key: tuple[str, ...] = (
                        (row["content_id"],) if row["content_id"] is not None else (commit.inbox, row["path"])
                    )
                    times[key] += 1
                    last.setdefault(key, (commit, row))
                    if _came_across(row["path"], row["content_id"]):
                        found_at.setdefault(key, (commit.inbox, row["path"]))
    ids = pa.array([key[0] for key in last if len(key) == 1], pa.string())
    scored = _scored_since(done, last, ids)
    settled = _found_otherwise(storage, newest_first, [key for key in last if len(key) == 2])
    for key, (commit, row) in last.items():
        if key in settled:
            continue
        content_id = row["content_id"]
        inbox, path = found_at.get(key, (commit.inbox, str(row["path"])))
        one = open_ones.get(str(content_id))
        state = State.SCORED if content_id in scored else State.RELEASED if one is not None else State.REFUSED
        yield SetAside(
            path=path,
            content_id=None if content_id is None else str(content_id),
            reason=Reason(str(row["reason"])),
            detail=None if row["detail"] is None else str(row["detail"]),
            size=row["size"] if isinstance(row["size"], int) else None,
            bundle=commit.bundle,
            night=commit.night,
            inbox=inbox,
            run=commit.run,
            times=times[key],
            state=state,
            copy=kept.get(str(content_id)),
            released=one.decision if one is not None and state is State.RELEASED else None,
        )


def _scored_since(
    done: list[Ledger], last: dict[tuple[str, ...], tuple[Commit, dict[str, object]]], ids: pa.Array
) -> set[str]:
    """Contents that were scored after all: by the bundle that refused them last, or by a run after that."""
    refused = {str(key[0]): commit for key, (commit, _) in last.items() if len(key) == 1}
    since = set()
    for ledger in done:
        for commit in ledger.commits:
            for part in commit.parts if len(ids) else ():
                if part.dataset == "predictions":
                    rows = read_part(ledger.storage, part, ["content_id"])["content_id"]
                    for content in rows.filter(pc.is_in(rows, value_set=ids)).to_pylist():
                        then = refused[content]
                        if commit.bundle == then.bundle or commit.committed_at > then.committed_at:
                            since.add(content)
    return since


def _came_across(path: str, content_id: str | None) -> bool:
    """Whether a walk found it under this path, and not a release in its copy or in the folder of another night."""
    return not path.startswith("../") and f"{COPIES}/{content_id}" not in path


def _found_otherwise(
    storage: Storage, newest_first: list[Commit], never_read: list[tuple[str, ...]]
) -> set[tuple[str, ...]]:
    """Of paths that were never read (inbox, path): those that the last run of their inbox did not quarantine."""
    left: set[tuple[str, ...]] = set()
    for inbox in {key[0] for key in never_read}:
        last = max((one for one in newest_first if one.inbox == inbox), key=lambda one: one.committed_at)
        wanted = pa.array([key[1] for key in never_read if key[0] == inbox], pa.string())
        there: set[str] = set()
        for part in last.parts:
            if part.dataset == "files":
                rows = read_part(storage, part, ["path", "status"])
                still = pc.and_(
                    pc.equal(rows["status"], str(FileStatus.QUARANTINED)), pc.is_in(rows["path"], value_set=wanted)
                )
                there.update(rows["path"].filter(still).to_pylist())
        left |= {(inbox, path) for path in wanted.to_pylist() if path not in there}
    return left
