"""What lies beside the committed rows: copies of the quarantine, labels, decisions, and unfinished runs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from darkroom.decisions import Decision, decisions, rewrite_decision
from darkroom.errors import StorageError, WrongUse
from darkroom.labels import label_files
from darkroom.results import parquet_bytes
from darkroom.storage import Storage
from tasks.finish import recover
from tasks.forgetting.sought import Name, Sought
from tasks.quarantine import copies
from tasks.report.past import REPORTS, page_key
from tasks.staging import Staging, run_lock

# -- copies


def copies_of(storage: Storage, sought: Sought) -> dict[str, str]:
    """Content id → key of its copy, of these contents."""
    return {content_id: key for content_id, key in copies(storage).items() if content_id in sought.ids}


# -- labels


def labels_of(storage: Storage, sought: Sought) -> dict[str, list[str | None]]:
    """Files of the record of labels that have some, and the content of each."""
    tables = {key: _table(storage, key) for key in label_files(storage)}
    found = {key: table["content_id"].filter(_labels(table, sought)).to_pylist() for key, table in tables.items()}
    return {key: ids for key, ids in found.items() if ids}


def forget_labels(storage: Storage, key: str, sought: Sought) -> None:
    """Take them out of one file, in one step."""
    table = _table(storage, key)
    storage.write(key, parquet_bytes(table.filter(pc.invert(_labels(table, sought)))))


def _labels(table: pa.Table, sought: Sought) -> pa.ChunkedArray:
    """Labels of these contents; and labels that only name a path, where one of them may be meant by it."""
    by_id = pc.is_in(table["content_id"], value_set=pa.array(sorted(sought.ids), pa.string()))
    rows = table.select(["content_id", "path", "night"]).to_pylist()
    by_name = [row["content_id"] is None and any(_means(row, name) for name in sought.names) for row in rows]
    return pc.or_(by_id, pa.chunked_array([pa.array(by_name, pa.bool_())]))


def _means(row: Mapping[str, Any], name: Name) -> bool:
    """Whether a label may mean a file by its path: as it is, in full, or without its folders (flows.joining)."""
    if row["path"] is None or row["night"] not in (None, name.night):
        return False
    stated = row["path"].replace("\\", "/")
    ends = (
        stated == name.path,
        stated.endswith(f"/{name.path}"),
        "/" not in stated and name.path.endswith(f"/{stated}"),
    )
    return any(ends)


def _table(storage: Storage, key: str) -> pa.Table:
    try:
        return pq.read_table(io.BytesIO(storage.read(key)))
    except pa.ArrowException as error:
        raise StorageError(
            f"Recorded labels cannot be read: {error}.",
            file=storage.describe(key),
            todo="restore the file from a backup, and forget again",
        ) from error


# -- decisions


def decisions_about(storage: Storage, sought: Sought) -> list[Decision]:
    """The decisions that name one of these contents."""
    return [one for one in decisions(storage) if any(about.content_id in sought.ids for about in one.contents)]


def forget_in_decision(storage: Storage, decision: Decision, sought: Sought) -> None:
    """Who decided, when and why stays; what of is left out, in one step."""
    left = tuple(about for about in decision.contents if about.content_id not in sought.ids)
    gone = decision.forgotten + len(decision.contents) - len(left)
    rewrite_decision(storage, decision.model_copy(update={"contents": left, "forgotten": gone}))


# -- unfinished runs


@contextmanager
def unfinished_with(storage: Storage, sought: Sought) -> Iterator[list[Staging]]:
    """The dead runs that have taken one of these contents in; nobody resumes them meanwhile.

    What dead runs had decided to commit is committed first. Raises WrongUse where a run that is alive, or kept back,
    has taken one in.
    """
    records = (Staging(storage, name).record() for name in storage.list("staging"))
    for bundle in sorted({record.bundle for record in records if record is not None}):
        recover(storage, bundle)
    with ExitStack() as locks:
        yield [staging for name in storage.list("staging") if (staging := _dead(storage, name, sought, locks))]


def _dead(storage: Storage, name: str, sought: Sought, locks: ExitStack) -> Staging | None:
    staging = Staging(storage, name)
    lock = storage.try_lock(run_lock(name))
    if lock is None:
        # It may be at its intake, with a content in hand that its manifest does not name yet.
        if staging.frozen() is None or taken_in(staging, sought):
            raise WrongUse(
                "A run that is at work has taken it in.", found=f"run {name}", todo="wait until it has ended"
            )
        return None
    if staging.record() is None:  # what is left of a run that is over
        staging.remove()
        lock.release(forget=True)
        return None
    if not taken_in(staging, sought):
        lock.release()
        return None
    locks.callback(lambda: lock.release(forget=not storage.exists(staging.key())))
    if staging.intent() is not None:
        raise WrongUse("A run that is being committed has taken it in.", found=f"run {name}", todo="forget again")
    if staging.held() is not None:
        raise WrongUse(
            "A run that is kept back has taken it in.",
            found=f"run {name}",
            todo=f"darkroom release {name}, or darkroom discard {name}, with a --reason; then forget again",
        )
    return staging


def taken_in(staging: Staging, sought: Sought) -> set[str]:
    """Which of the contents an unfinished run has in its manifest."""
    key = staging.key("manifest.parquet")
    if not staging.storage.exists(key):
        return set()
    found = staging.read_table(key, ["content_id"])["content_id"]
    ids = pa.array(sorted(sought.ids), pa.string())
    return set(found.filter(pc.is_in(found, value_set=ids)).to_pylist())


def forget_unfinished(staging: Staging) -> None:
    """Remove what a dead run has staged, and the page that it may have drawn: its work begins anew."""
    record = staging.record()
    if record is not None:
        page = page_key(record.night, record.bundle, record.run).rpartition("/")[0]
        staging.storage.remove_folder(f"{REPORTS}/{page}")
    staging.remove()
