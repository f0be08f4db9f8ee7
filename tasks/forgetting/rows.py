"""Rows of committed parts: counted, and taken out so that every reader sees a part as it was, or as it is without them.

A part is replaced in one step, and its commit says what it holds. Both cannot change at once, so that the commit first
says both: what the file will hold, and what it holds until then.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from darkroom.errors import StorageError
from darkroom.forgotten import RowsForgotten
from darkroom.results import Commit, Dataset, Part, Stored, bundles, commits, parquet_bytes, read_part, rewrite_commit
from darkroom.storage import Storage
from darkroom.summary import CauseFound, Finding, NightSummary
from tasks.forgetting.sought import Name, Sought

# A row of `files` leads to the rows of the other two: it goes first.
_DATASETS: Final[tuple[Dataset, ...]] = ("files", "quarantine", "predictions")
# The evidence of a slice that moved ends with the paths of some of its images.
_EXAMPLES: Final = "; some of its images: "


@dataclass(frozen=True)
class InCommit:
    """What a commit has of what is sought: rows by dataset, whose, and the paths that its pages may show."""

    commit: Commit
    rows: dict[Dataset, int]
    ids: frozenset[str]
    paths: frozenset[str]

    @property
    def counted(self) -> tuple[RowsForgotten, ...]:
        """For the record."""
        bundle, night = self.commit.bundle, self.commit.night
        return tuple(
            RowsForgotten(dataset=name, bundle=bundle, night=night, rows=n) for name, n in self.rows.items() if n
        )


def named(storage: Storage, sought: Sought) -> Sought:
    """The same contents with every name that the committed rows have for them."""
    names = {
        Name(commit.inbox, path, commit.night)
        for commit in _commits(storage)
        for part in _parts(commit)
        for path in _own(storage, part, Sought(sought.ids), commit.inbox)["path"].to_pylist()
    }
    return Sought(sought.ids, sought.names | names, sought.photos)


def in_commits(storage: Storage, sought: Sought) -> Iterator[InCommit]:
    """The commits that have rows of it. Raises StorageError where a committed part cannot be read."""
    for commit in _commits(storage):
        own = {part: _own(storage, part, sought, commit.inbox) for part in _parts(commit)}
        rows = {name: sum(len(table) for part, table in own.items() if part.dataset == name) for name in _DATASETS}
        half_done = any(part.instead_of is not None for part in commit.parts)
        if any(rows.values()) or half_done:
            ids, paths = (
                frozenset(value for table in own.values() for value in table[name].to_pylist() if value is not None)
                for name in ("content_id", "path")
            )
            yield InCommit(commit, rows, ids, paths)


def forget_rows(storage: Storage, found: InCommit, sought: Sought) -> None:
    """Take the rows out of the parts of one commit. After a kill at any moment, called again, it completes them."""
    replaced: dict[str, tuple[Part, bytes | None]] = {
        part.path: _without(storage, part, sought, found.commit.inbox) for part in _parts(found.commit)
    }
    if all(replaced[part.path] == (part, None) for part in _parts(found.commit)):
        return
    summary = _without_examples(found.commit.summary, found.paths)
    both = [replaced[part.path][0] if part.path in replaced else part for part in found.commit.parts]
    rewrite_commit(storage, found.commit.model_copy(update={"parts": tuple(both), "summary": summary}))
    for path, (_, data) in replaced.items():
        if data is not None:
            storage.write(path, data)
    done = [part.model_copy(update={"instead_of": None}) for part in both]
    rewrite_commit(storage, found.commit.model_copy(update={"parts": tuple(done), "summary": summary}))


def _without(storage: Storage, part: Part, sought: Sought, inbox: str) -> tuple[Part, bytes | None]:
    """The part as its commit is to list it, and the bytes that its file is to hold; None: it holds them already."""
    data = storage.read(part.path)
    there = _what_it_holds(storage, part, data)
    table = pq.read_table(io.BytesIO(data))
    kept = table.filter(pc.invert(sought.rows(table, inbox)))
    whole = part.rows + part.forgotten
    if len(kept) == len(table):
        update = {**there.model_dump(), "forgotten": whole - there.rows, "instead_of": None}
        return part.model_copy(update=update), None
    fewer = parquet_bytes(kept)
    update = {
        "rows": len(kept),
        "bytes": len(fewer),
        "sha256": sha256(fewer).hexdigest(),
        "forgotten": whole - len(kept),
        "instead_of": there,
    }
    return part.model_copy(update=update), fewer


def _what_it_holds(storage: Storage, part: Part, data: bytes) -> Stored:
    """Which of the two that its commit allows. Raises StorageError where it is neither: nothing is made of that."""
    digest = sha256(data).hexdigest()
    for one in (Stored(rows=part.rows, bytes=part.bytes, sha256=part.sha256), part.instead_of):
        if one is not None and one.sha256 == digest:
            return one
    raise StorageError(
        "A committed file is not as it was committed, so nothing is taken out of it.",
        file=storage.describe(part.path),
        expected=f"sha256 {part.sha256}",
        found=f"sha256 {digest}",
        todo="restore the file from a backup, and forget again",
    )


def _own(storage: Storage, part: Part, sought: Sought, inbox: str) -> pa.Table:
    """Path and content of each row that is about it."""
    table = read_part(storage, part, ["path", "content_id"])
    return table.filter(sought.rows(table, inbox))


def _parts(commit: Commit) -> list[Part]:
    own = [part for part in commit.parts if part.dataset in _DATASETS]
    return sorted(own, key=lambda part: _DATASETS.index(part.dataset))


def _commits(storage: Storage) -> Iterator[Commit]:
    for bundle in bundles(storage):
        yield from commits(storage, bundle)


def _without_examples(summary: NightSummary, paths: frozenset[str]) -> NightSummary:
    def finding(one: Finding) -> Finding:
        return one.model_copy(update={"evidence": bare(one.evidence, paths)})

    def cause(one: CauseFound) -> CauseFound:
        return one.model_copy(update={"evidence": tuple(bare(said, paths) for said in one.evidence)})

    return summary.model_copy(
        update={
            "findings": tuple(map(finding, summary.findings)),
            "causes": tuple(map(cause, summary.causes)),
        }
    )


def bare(evidence: str, paths: frozenset[str]) -> str:
    """Evidence without its list of examples, where one of the paths is among them."""
    told, listed, examples = evidence.partition(_EXAMPLES)
    return told if listed and any(path in examples for path in paths) else evidence
