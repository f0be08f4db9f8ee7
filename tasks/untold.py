"""Nights that nobody has been told of yet: a run that dies between its commit and its word leaves a note behind.

untold/<run>    its bundle; written before the commit, removed when the night was told
"""

from __future__ import annotations

from typing import Final

from darkroom.results import find_commit
from darkroom.storage import Storage
from darkroom.summary import NightSummary
from tasks.staging import Run, Staging, run_lock

_FOLDER: Final = "untold"


def promise(run: Run) -> None:
    """Note that this night is to be told: if this run no longer does, the next one will."""
    run.staging.storage.write(_key(run.id), run.bundle.encode())


def told(storage: Storage, run_id: str) -> None:
    """The night of this run was told."""
    storage.remove(_key(run_id))


def untold(run: Run) -> list[NightSummary]:
    """The nights that were committed or kept back by runs that died before they told; the oldest first."""
    storage = run.staging.storage
    found = [_night_of(storage, name) for name in storage.list(_FOLDER) if name != run.id]
    return sorted((summary for summary in found if summary is not None), key=lambda summary: summary.finished_at)


def _night_of(storage: Storage, run_id: str) -> NightSummary | None:
    """What is to be told of a run; None: it is alive and will tell, or it has not come to its end."""
    lock = storage.try_lock(run_lock(run_id))
    if lock is None:
        return None
    staging = Staging(storage, run_id)
    try:
        bundle = (storage.peek(_key(run_id)) or b"").decode()
        commit = find_commit(storage, bundle, run_id) if bundle else None
        ended = commit or staging.held()
        if ended is None and not storage.exists(staging.key()):
            told(storage, run_id)
        return None if ended is None else ended.summary
    finally:
        lock.release(forget=not storage.exists(staging.key()))


def _key(run_id: str) -> str:
    return f"{_FOLDER}/{run_id}"
