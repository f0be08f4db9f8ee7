"""The life of a run: begun, resumed after a crash, abandoned, forgotten."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from darkroom.errors import WrongUse
from darkroom.results import commits, find_commit, now
from darkroom.schemas import RESULTS_SCHEMA_VERSION
from darkroom.storage import Lock, Storage, storage_at
from tasks.finish import recover, recover_others
from tasks.intake import inbox_text
from tasks.staging import Run, RunRecord, Staging, run_lock, valid_id

# The staging of a dead run that nobody resumed. Nothing is lost with it: its contents are simply not scored yet.
ABANDONED_AFTER: Final = timedelta(days=7)


def begin_run(
    results: Storage | Path | str,
    bundle: str,
    night: date,
    inbox: Path,
    run_id: str | None = None,
    *,
    resume: bool = True,
    patience_seconds: float = 0.0,
    on_wait: Callable[[], None] = lambda: None,
) -> Run:
    """Begin, or go on with, the run of a bundle over an inbox for a night.

    First the commits that dead runs had decided on are completed. Then, if an earlier attempt of the same bundle,
    night and inbox died, it is resumed with its id, manifest and finished shards (`resume=False`: forgotten); runs that
    are alive are left alone. `run_id` names a new run; one that was committed already gets a number behind it.
    `patience_seconds`: wait so long for a living run of the same bundle and inbox, instead of doing its work a second
    time for nothing; after that, go on beside it. `on_wait` is called before the waiting begins.

    Raises WrongUse for ids that cannot be names of folders, StorageError as the storage does.
    """
    storage = storage_at(results)
    for what, name in (("bundle", bundle), ("run", run_id)):
        if name is not None and not valid_id(name):
            raise WrongUse(
                f"This cannot be the id of a {what}.", expected="letters, digits, '.', '_', '-'; a letter", found=name
            )
    where = inbox_text(inbox)
    turn = storage.try_lock(_inbox_lock(bundle, where))
    if turn is None and patience_seconds:
        on_wait()
        turn = storage.try_lock(_inbox_lock(bundle, where), patience_seconds)
    try:
        run = _begin(storage, bundle, night, where, run_id, resume=resume)
    except BaseException:
        if turn is not None:
            turn.release()
        raise
    run.hold_inbox(turn)
    return run


def _begin(storage: Storage, bundle: str, night: date, where: str, run_id: str | None, *, resume: bool) -> Run:
    rolled = (*recover(storage, bundle), *recover_others(storage, bundle))
    _clean(storage)
    for name in storage.list("staging"):
        found = _take_dead(storage, name, bundle, night, where)
        if found is None:
            continue
        staging, lock = found
        if resume and find_commit(storage, bundle, name) is None:
            return Run(staging, bundle, night, where, staging.frozen() is not None, rolled, lock)
        _forget(staging, lock)
    staging, lock = _new_staging(storage, bundle, run_id)
    record = RunRecord(run=staging.run, bundle=bundle, night=night, inbox=where, begun_at=now())
    storage.write(staging.key("run.json"), record.model_dump_json().encode())
    return Run(staging, bundle, night, where, False, rolled, lock)


def abandon(run: Run) -> None:
    """Remove what an unfinished run has staged, and close it: there is nothing to go on with."""
    run.staging.remove()
    run.close()


def _take_dead(storage: Storage, name: str, bundle: str, night: date, inbox: str) -> tuple[Staging, Lock] | None:
    """The staging and its lock, if it is an unfinished run of the same work and nobody is alive in it."""
    staging = Staging(storage, name)
    record = staging.record()
    if record is None or (record.bundle, record.night, record.inbox) != (bundle, night, inbox):
        return None
    lock = storage.try_lock(run_lock(name))
    if lock is None:
        return None
    # Who had the lock may have finished, committed or held the run a moment ago.
    same_schema = record.schema_version == RESULTS_SCHEMA_VERSION
    if staging.record() is None or storage.exists(staging.key("held.json")) or staging.intent() or not same_schema:
        lock.release(forget=staging.record() is None)
        return None
    return staging, lock


def _new_staging(storage: Storage, bundle: str, run_id: str | None) -> tuple[Staging, Lock]:
    """A run id that nobody uses or has used, and its lock; the folder is made after it, so nobody sees it unlocked."""
    wanted = run_id or f"{now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    number = 1
    used = {commit.run for commit in commits(storage, bundle)} if run_id is not None else set()
    while True:
        name = wanted if number == 1 else f"{wanted}-{number}"
        number += 1
        if name in used or storage.exists(f"staging/{name}"):
            continue
        lock = storage.try_lock(run_lock(name))
        if lock is None:
            continue
        if not storage.exists(f"staging/{name}"):
            return Staging(storage, name), lock
        lock.release()


def _clean(storage: Storage) -> None:
    """Remove what was left behind: runs that nobody resumed for long, folders without a record, temporary files."""
    storage.tidy(ABANDONED_AFTER.total_seconds())
    for name in storage.list("staging"):
        staging = Staging(storage, name)
        record = staging.record()
        if record is not None and now() - record.begun_at < ABANDONED_AFTER:
            continue
        lock = storage.try_lock(run_lock(name))
        if lock is None:
            continue
        if record is None or (staging.intent() is None and not storage.exists(staging.key("held.json"))):
            _forget(staging, lock)
        else:
            lock.release()


def _inbox_lock(bundle: str, inbox: str) -> str:
    return f"inbox-{hashlib.sha256(f'{bundle}/{inbox}'.encode()).hexdigest()[:32]}"


def _forget(staging: Staging, lock: Lock) -> None:
    staging.remove()
    lock.release(forget=True)
