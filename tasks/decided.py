"""What a person decides about files in quarantine, carried out: released for the next run, or their copies deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from darkroom.decisions import Act, Content, Decision, decide
from darkroom.names import bundle_name
from darkroom.results import bundles
from darkroom.storage import Storage, storage_at
from tasks.quarantine import copies
from tasks.released import sources, waiting
from tasks.set_aside import SetAside, State


@dataclass(frozen=True)
class Released:
    """What a release came to; `never_read` and `lost` are left as they are: no bytes are known, or none are left."""

    decision: Decision | None
    from_copy: int = 0
    from_place: int = 0
    already: int = 0
    never_read: int = 0
    lost: int = 0
    scored: int = 0


def release_files(
    results: Storage | Path | str, rows: Iterable[SetAside], *, why: str, by: str | None = None, run: str | None = None
) -> Released:
    """Have the next run look at these contents once more, whatever refused them; raises WrongUse without a reason.

    Only what can be read is released: from its copy, or where it was found. `run` is the Prefect run that does it.
    """
    storage = storage_at(results)
    kept = copies(storage)
    count: Counter[str] = Counter()
    contents = []
    for row in rows:
        if row.content_id is None:
            count["never_read"] += 1
        elif row.state is not State.REFUSED:
            count["already" if row.state is State.RELEASED else "scored"] += 1
        elif not sources(storage, row.as_content(), kept):
            count["lost"] += 1
        else:
            count["from_copy" if row.content_id in kept else "from_place"] += 1
            contents.append(row.as_content())
    if not contents:
        return Released(None, **count)
    return Released(
        decide(storage, Act.RELEASE_FILES, why=why, by=by, flow_run=run, contents=contents),
        **count,
    )


@dataclass(frozen=True)
class Deleted:
    """What a deletion came to: copies removed and their bytes; `waiting` are kept for the next run to read."""

    decision: Decision | None
    copies: int = 0
    bytes: int = 0
    waiting: int = 0
    without: int = 0


def delete_copies(
    results: Storage | Path | str, rows: Iterable[SetAside], *, why: str, by: str | None = None, run: str | None = None
) -> Deleted:
    """Remove the copies of these contents, and nothing else: no row, no file of an inbox; none is copied again.

    Who, when and why is recorded first. Raises WrongUse without a reason.
    """
    storage = storage_at(results)
    kept = copies(storage)
    names = {bundle_name(bundle) for bundle in bundles(storage)}
    awaited = {content for name in names for content in waiting(storage, name)}
    gone: dict[str, Content] = {}
    count = Counter({"waiting": 0, "without": 0})
    for row in rows:
        if row.content_id not in kept:
            count["without"] += 1
        elif row.content_id in awaited:
            count["waiting"] += 1
        else:
            gone[str(row.content_id)] = row.as_content()
    if not gone:
        return Deleted(None, **count)
    decision = decide(storage, Act.DELETE_COPIES, why=why, by=by, flow_run=run, contents=gone.values())
    size = 0
    for content in gone:
        size += storage.size(kept[content])
        storage.remove(kept[content])
    return Deleted(decision, len(gone), size, **count)
