"""Which bundle, code, parameters and person made a row: found from the row, through the commits, and nothing else."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from darkroom.acknowledgements import acknowledgements
from darkroom.decisions import decisions
from darkroom.errors import StorageError, WrongUse
from darkroom.labels import recorded_labels
from darkroom.names import bundle_name, bundle_version, some_of_many, to_text
from darkroom.reasons import FileStatus, Reason, Verdict
from darkroom.results import Commit, bundles, commit_key, commits, read_part
from darkroom.storage import Storage, storage_at
from tasks.bundle import Remembered, history_of
from tasks.quarantine import copies
from tasks.traced import (
    ContentTraced,
    DecisionTraced,
    LabelTraced,
    RowTraced,
    RunTraced,
    SeenTraced,
    Traced,
)

SHORTEST_ID = 8
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})", re.IGNORECASE)
_FILES = ("path", "status", "content_id", "reason")
_PREDICTIONS = ("content_id", "path", "predicted_class", "confidence", "verdict", "reasons", "scored_at")
_QUARANTINE = ("path", "content_id", "reason", "detail")


@dataclass(frozen=True)
class _Sighting:
    """One row of `files`, and the commit that it is in."""

    commit: Commit
    path: str
    status: FileStatus
    content_id: str | None
    reason: str | None

    @property
    def thing(self) -> tuple[str, ...]:
        """A content; or, where nothing was read, a path of an inbox."""
        return (self.content_id,) if self.content_id is not None else (self.commit.inbox, self.path)


def trace(results: Storage | Path | str, row: str, *, models: Path | None = None) -> Traced:
    """Everything that is known of a row: `row` is a content id, its first 8 characters or more, or a path as in the
    results, or in full. `models`: where the bundles were sealed; empty: where each run says that its bundle was.

    Reads the paths of every commit. Raises WrongUse where nothing, or several contents, are meant by an id.
    """
    storage = storage_at(results)
    if not storage.exists("commits"):
        raise WrongUse(
            "There are no results in this folder.",
            file=storage.name,
            expected="a folder with commits in it",
            todo="name the results folder of a scored night",
        )
    done = [commit for bundle in bundles(storage) for commit in commits(storage, bundle)]
    done.sort(key=lambda one: (one.night, one.committed_at), reverse=True)
    runs = _Runs(storage, models)
    found = [_content(storage, own, runs) for own in _sightings(storage, done, row).values()]
    return Traced(asked=row, contents=tuple(found))


def _sightings(storage: Storage, done: list[Commit], row: str) -> dict[tuple[str, ...], list[_Sighting]]:
    """Each thing that a text means, and every time that it was seen under any path; all newest first."""
    identity = _ID.fullmatch(row.strip())
    by_id = _read(storage, done, lambda rows, _: _begins(rows, identity[1].lower())) if identity else {}
    by_path = _read(storage, done, lambda rows, commit: _is_in(rows["path"], _paths(row, commit.inbox)))
    if by_path:
        ids = [thing[0] for thing in by_path if len(thing) == 1]
        all_paths = _read(storage, done, lambda rows, _: _is_in(rows["content_id"], ids)) if ids else {}
        return {thing: all_paths.get(thing, own) for thing, own in by_path.items()}
    if not by_id:
        raise WrongUse(
            "No row of these results is meant by this.",
            expected=f"a content id, at least its first {SHORTEST_ID} characters, or a path as the results have it",
            found=row,
            file=storage.name,
        )
    if len(by_id) > 1:
        raise WrongUse(
            "Several contents begin so.",
            expected="more characters of one of them",
            found=some_of_many(sorted(thing[0] for thing in by_id)),
        )
    return by_id


def _read(
    storage: Storage, done: list[Commit], meant: Callable[[pa.Table, Commit], pa.ChunkedArray]
) -> dict[tuple[str, ...], list[_Sighting]]:
    """The rows of `files` that are meant, by what they are about, in the order of the commits."""
    found: dict[tuple[str, ...], list[_Sighting]] = defaultdict(list)
    for commit in done:
        for part in commit.parts:
            if part.dataset == "files":
                rows = read_part(storage, part, _FILES)
                for one in rows.filter(meant(rows, commit)).to_pylist():
                    sighting = _Sighting(
                        commit, one["path"], FileStatus(one["status"]), one["content_id"], one["reason"]
                    )
                    found[sighting.thing].append(sighting)
    return dict(found)


def _begins(rows: pa.Table, text: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.starts_with(rows["content_id"], text), False)


def _is_in(column: pa.ChunkedArray, texts: list[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(texts, pa.string()))


def _paths(row: str, inbox: str) -> list[str]:
    """What a path in the results of this inbox would be, if a person named it: as it is, or in full."""
    texts = [row, to_text(row)]
    for one in (row, to_text(os.path.realpath(row))):
        if one.startswith(f"{inbox}/"):
            texts.append(one[len(inbox) + 1 :])
    return texts


def _content(storage: Storage, sightings: list[_Sighting], runs: _Runs) -> ContentTraced:
    content_id = sightings[0].content_id
    made: dict[tuple[str, ...], _Sighting] = {}
    others = []
    for one in sightings:
        # What is refused night after night is told once, with its last run.
        key = (one.status, one.commit.bundle, one.reason or "")
        if one.status not in (FileStatus.SCORED, FileStatus.QUARANTINED) or key in made:
            others.append(one)
        else:
            made[key] = one
    return ContentTraced(
        content_id=content_id,
        rows=tuple(_row(storage, one, runs) for one in made.values()),
        seen=tuple(_seen(others)),
        labels=() if content_id is None else tuple(_labels(storage, content_id)),
        decided=() if content_id is None else tuple(_decided(storage, content_id)),
        copy_kept=None if content_id is None else copies(storage).get(content_id),
    )


def _row(storage: Storage, one: _Sighting, runs: _Runs) -> RowTraced:
    run = runs.of(one.commit)
    if one.status is FileStatus.SCORED:
        row = _found(storage, one, "predictions", _PREDICTIONS)
        return RowTraced(
            status=one.status,
            path=row["path"],
            predicted_class=row["predicted_class"],
            confidence=row["confidence"],
            verdict=Verdict(row["verdict"]),
            why_suspect=tuple(row["reasons"]),
            scored_at=row["scored_at"],
            run=run,
        )
    row = _found(storage, one, "quarantine", _QUARANTINE)
    return RowTraced(
        status=one.status, path=row["path"], reason=Reason(row["reason"]), detail=row["detail"] or None, run=run
    )


def _found(storage: Storage, one: _Sighting, dataset: str, columns: tuple[str, ...]) -> dict[str, Any]:
    """The row of that path in another dataset of the same commit."""
    for part in one.commit.parts:
        if part.dataset == dataset:
            rows = read_part(storage, part, columns)
            own = rows.filter(pc.equal(rows["path"], one.path)).to_pylist()
            if own:
                return dict(own[0])
    raise StorageError(
        f"A commit counts a row of {dataset} that it does not hold.",
        file=storage.describe(commit_key(one.commit.bundle, one.commit.number)),
        found=one.path,
        todo="this is a mistake of the program that committed it; the other rows are not touched by it",
    )


def _seen(others: list[_Sighting]) -> Iterator[SeenTraced]:
    """A path that is seen night after night in one line."""
    groups: dict[tuple[str, ...], list[_Sighting]] = defaultdict(list)
    for one in others:
        groups[(one.status, one.path, one.commit.inbox, one.commit.bundle, one.reason or "")].append(one)
    for some in groups.values():
        newest = some[0]
        yield SeenTraced(
            status=newest.status,
            path=newest.path,
            inbox=newest.commit.inbox,
            bundle=newest.commit.bundle,
            first=min(one.commit.night for one in some),
            last=max(one.commit.night for one in some),
            runs=len(some),
            reason=Reason(newest.reason) if newest.reason else None,
        )


def _labels(storage: Storage, content_id: str) -> Iterator[LabelTraced]:
    rows = recorded_labels(storage)
    own = rows[rows["content_id"] == content_id].sort_values("received_at", kind="stable", ascending=False)
    for row in own.to_dict("records"):
        yield LabelTraced(
            label=str(row["label"]),
            labelled_at=pd.Timestamp(row["labelled_at"]).to_pydatetime(),
            received_at=pd.Timestamp(row["received_at"]).to_pydatetime(),
            source=str(row["source"]),
        )


def _decided(storage: Storage, content_id: str) -> Iterator[DecisionTraced]:
    for one in reversed(decisions(storage)):
        for content in one.contents:
            if content.content_id == content_id:
                yield DecisionTraced(
                    number=one.number,
                    act=one.act,
                    why=one.why,
                    by=one.by,
                    at=one.at,
                    flow_run=one.flow_run,
                    content=content,
                )


class _Runs:
    """The runs of commits, each with what people did about it."""

    def __init__(self, storage: Storage, models: Path | None) -> None:
        self.storage = storage
        self.models = models
        self.held = [one for one in decisions(storage) if one.held is not None]
        self.known: dict[tuple[str, int], RunTraced] = {}

    def of(self, commit: Commit) -> RunTraced:
        key = (commit.bundle, commit.number)
        if key not in self.known:
            self.known[key] = self._of(commit)
        return self.known[key]

    def _of(self, commit: Commit) -> RunTraced:
        summary = commit.summary
        return RunTraced(
            commit=commit.number,
            committed_at=commit.committed_at,
            run=commit.run,
            night=commit.night,
            inbox=commit.inbox,
            bundle=commit.bundle,
            bundle_version=bundle_version(commit.bundle),
            verdict=summary.verdict,
            headline=summary.headline,
            report=summary.report,
            versions=summary.versions,
            parameters=dict(summary.parameters),
            whence=summary.whence,
            in_use=self._in_use(commit),
            acknowledged=tuple(
                one
                for one in acknowledgements(self.storage, commit.bundle)
                if one.night == commit.night and one.inbox in (None, commit.inbox)
            ),
            decided=tuple(one for one in self.held if one.held is not None and one.held.run == commit.run),
        )

    def _in_use(self, commit: Commit) -> tuple[Remembered, ...]:
        """What was done with this version of the bundle until the run began."""
        whence = commit.summary.whence
        if self.models is not None:
            folder = self.models / bundle_name(commit.bundle)
        elif whence is not None and whence.bundle_path is not None:
            folder = Path(whence.bundle_path).parent
        else:
            return ()
        began = commit.summary.started_at
        return tuple(one for one in history_of(folder) if one.id == commit.bundle and one.at <= began)
