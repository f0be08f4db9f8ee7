"""From a begun run to a numbered commit: each content once, whatever crashes, repeats or overlaps.

The order, and what a crash after each step leaves to whoever comes next:

1. begin_run   takes the run's lock, and completes what dead runs had decided    a dead run, to be resumed
2. stage_part  finishes shards (tasks.staging)                                    the same, with less to do
3. settle      takes the bundle's lock; contents that others have scored since the intake are dropped    the same
4. commit      writes the intent                                                  a commit that anybody completes
               renames the run's folders into place, then takes the next number
               removes the staging

The number guarantees: it is taken by exclusive creation, and who finds it taken looks again at what was scored. Locks
only keep runs from doing work that another one is about to make useless.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa

from darkroom.errors import CommitConflict, StorageError, WrongUse
from darkroom.results import Commit, commit_key, commits, find_commit, now
from darkroom.schemas import RESULTS_SCHEMA_VERSION
from darkroom.storage import Lock, Storage, storage_at
from darkroom.summary import NightSummary
from tasks.arrange import Arranged, add_drift, arrange, final_folder, published, scored_ids
from tasks.intake import inbox_text
from tasks.ledger import open_ledger
from tasks.staging import Intent, Run, RunRecord, Staging

# A run that hangs while it holds the bundle's lock must not stop the others: after this they go on without.
LOCK_PATIENCE_SECONDS: Final = 1800.0
# The staging of a dead run that nobody resumed. Nothing is lost with it: its contents are simply not scored yet.
ABANDONED_AFTER: Final = timedelta(days=7)

_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def begin_run(
    results: Storage | Path | str,
    bundle: str,
    night: date,
    inbox: Path,
    run_id: str | None = None,
    *,
    resume: bool = True,
) -> Run:
    """Begin, or go on with, the run of a bundle over an inbox for a night.

    First the commits that dead runs had decided on are completed. Then, if an earlier attempt of the same bundle,
    night and inbox died, it is resumed with its id, manifest and finished shards (`resume=False`: forgotten); runs that
    are alive are left alone. `run_id` names a new run; one that was committed already gets a number behind it.

    Raises WrongUse for ids that cannot be names of folders, StorageError as the storage does.
    """
    storage = storage_at(results)
    for what, name in (("bundle", bundle), ("run", run_id)):
        if name is not None and not _NAME.fullmatch(name):
            raise WrongUse(
                f"This cannot be the id of a {what}.", expected="letters, digits, '.', '_', '-'; a letter", found=name
            )
    rolled = tuple(recover(storage))
    _clean(storage)
    where = inbox_text(inbox)
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


def settle(run: Run) -> Arranged:
    """Decide which rows are this run's, once every shard is finished; the night may be evaluated on exactly these.

    Holds the bundle's lock from here until `commit`, `hold` or `run.close()`. Raises StorageError where a shard is not
    finished, or where earlier commits cannot be read.
    """
    storage = run.staging.storage
    if not run.holds_bundle:
        run.hold_bundle(_bundle_lock(storage, run.bundle))
    recover(storage, run.bundle, locked=True)
    return _arrange_since(run.staging, run.bundle, run.night)


def settled_rows(run: Run, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The settled predictions, one table a shard; columns as in darkroom.schemas.PREDICTIONS."""
    for key in published(run.staging, "predictions"):
        yield run.staging.read_table(key, columns)


def settled_quarantine(run: Run) -> Iterator[pa.Table]:
    """The settled quarantine rows: for tasks.quarantine.keep_copies and the page."""
    for key in published(run.staging, "quarantine"):
        yield run.staging.read_table(key)


def commit(run: Run, settled: Arranged, summary: NightSummary, drift: pa.Table | pd.DataFrame | None = None) -> Commit:
    """Make the settled rows and the drift rows (schema DRIFT) part of the results, for good.

    What can be counted in the summary (counts, trusted, suspect, classes, quarantine_reasons) is taken from the rows;
    its verdict and findings stay as they are. Returns the commit, with its number in its summary.
    """
    storage = run.staging.storage
    _write_intent(run.staging, "intent.json", _intent(run, settled, summary, drift))
    done = _finish(run.staging)
    run.unlock_bundle()
    if done is None:
        raise StorageError(
            "The run was removed while it was being committed.", file=storage.describe(run.staging.key())
        )
    return done


def hold(run: Run, settled: Arranged, summary: NightSummary, drift: pa.Table | pd.DataFrame | None = None) -> None:
    """Keep a complete run back, until it is released or discarded; it replaces an earlier held run of its night."""
    storage = run.staging.storage
    _write_intent(run.staging, "held.json", _intent(run, settled, summary, drift))
    run.unlock_bundle()
    for earlier in held(storage):
        if earlier.run != run.id and (earlier.bundle, earlier.night, earlier.inbox) == (
            run.bundle,
            run.night,
            run.inbox,
        ):
            discard(storage, earlier.run)


def held(results: Storage | Path | str) -> list[Intent]:
    """The runs that are kept back, oldest night first."""
    storage = storage_at(results)
    found = []
    for name in storage.list("staging"):
        data = storage.peek(Staging(storage, name).key("held.json"))
        if data is not None:
            found.append(Intent.model_validate_json(data))
    return sorted(found, key=lambda intent: (intent.night, intent.run))


def release(results: Storage | Path | str, run_id: str) -> Commit:
    """Commit a run that was kept back; what others have scored since is dropped from it."""
    storage = storage_at(results)
    with _held_run(storage, run_id) as staging:
        storage.write(staging.key("intent.json"), storage.read(staging.key("held.json")))
        bundle_lock = _bundle_lock(storage, _intent_of(staging).bundle)
        try:
            done = _finish(staging)
        finally:
            if bundle_lock is not None:
                bundle_lock.release()
    if done is None:
        raise StorageError("The run was removed while it was released.", file=storage.describe(staging.key()))
    return done


def discard(results: Storage | Path | str, run_id: str) -> None:
    """Remove a run that was kept back. Its contents count as not scored: another run will score them."""
    storage = storage_at(results)
    with _held_run(storage, run_id) as staging:
        storage.remove_folder(staging.key())


def abandon(run: Run) -> None:
    """Remove what an unfinished run has staged, and close it: there is nothing to go on with."""
    run.staging.storage.remove_folder(run.staging.key())
    run.close()


def recover(results: Storage | Path | str, bundle: str | None = None, *, locked: bool = False) -> list[Commit]:
    """Complete the commits that dead runs had decided on (of one bundle; of all).

    `locked`: the caller holds the bundle's lock already.
    """
    storage = storage_at(results)
    done = []
    for name in storage.list("staging"):
        staging = Staging(storage, name)
        intent = staging.intent()
        if intent is None or (bundle is not None and intent.bundle != bundle):
            continue
        lock = storage.try_lock(_lock_name(name))
        if lock is None:
            continue
        bundle_lock = None if locked else _bundle_lock(storage, intent.bundle)
        try:
            finished = _finish(staging)
        finally:
            if bundle_lock is not None:
                bundle_lock.release()
            lock.release(forget=True)
        if finished is not None:
            done.append(finished)
    return done


def _finish(staging: Staging) -> Commit | None:
    """From the intent to the commit, from wherever an earlier attempt stopped; None: there is nothing to finish."""
    storage = staging.storage
    while (intent := staging.intent()) is not None:
        newer = commits(storage, intent.bundle, intent.base)
        mine = next((commit for commit in newer if commit.run == intent.run), None)
        if mine is None and newer:
            intent = _look_again(staging, intent)
        if mine is None:
            _put_in_place(staging, intent)
            mine = _number(intent, intent.base + 1)
            try:
                storage.write_new(commit_key(intent.bundle, mine.number), mine.model_dump_json(indent=1).encode())
            except CommitConflict:
                continue
        storage.remove_folder(staging.key())
        return mine
    return None


def _look_again(staging: Staging, intent: Intent) -> Intent:
    """Others have committed since: take back what is in place, drop what they scored, and decide again."""
    for dataset in sorted({part.dataset for part in intent.parts}):
        staging.storage.remove_folder(final_folder(intent.bundle, intent.night, intent.run, dataset))
    arranged = _arrange_since(staging, intent.bundle, intent.night)
    changed = intent.model_copy(
        update={"base": arranged.base, "parts": arranged.parts, "summary": _counted(intent.summary, arranged)}
    )
    _write_intent(staging, "intent.json", changed)
    return changed


def _put_in_place(staging: Staging, intent: Intent) -> None:
    storage = staging.storage
    for dataset in sorted({part.dataset for part in intent.parts}):
        target = final_folder(intent.bundle, intent.night, intent.run, dataset)
        if not storage.exists(target):
            storage.move_folder(staging.key("publish", dataset), target)


def _arrange_since(staging: Staging, bundle: str, night: date) -> Arranged:
    frozen = staging.frozen()
    ledger = open_ledger(staging.storage, bundle, 0 if frozen is None else frozen.base)
    nothing = pa.array([], pa.string())
    lost = ledger.already_scored(scored_ids(staging)) if ledger.commits else nothing
    base = ledger.newest if frozen is None else max(frozen.base, ledger.newest)
    return arrange(staging, bundle, night, lost, base)


def _intent(run: Run, settled: Arranged, summary: NightSummary, drift: pa.Table | pd.DataFrame | None) -> Intent:
    frozen = run.staging.frozen()
    if frozen is None:
        raise WrongUse("A run is committed after it was settled.", found=f"run {run.id} has no manifest")
    return Intent(
        base=settled.base,
        bundle=run.bundle,
        night=run.night,
        run=run.id,
        inbox=run.inbox,
        parts=(*settled.parts, *add_drift(run.staging, run.bundle, run.night, drift)),
        summary=_counted(summary, settled),
        taken_in_at=frozen.taken_in_at,
    )


def _counted(summary: NightSummary, arranged: Arranged) -> NightSummary:
    return summary.model_copy(
        update={
            "counts": arranged.counts,
            "trusted": arranged.trusted,
            "suspect": arranged.suspect,
            "classes": arranged.classes,
            "quarantine_reasons": arranged.quarantine_reasons,
        }
    )


def _number(intent: Intent, number: int) -> Commit:
    fields = {name: getattr(intent, name) for name in Intent.model_fields if name not in ("base", "summary")}
    return Commit(
        number=number, summary=intent.summary.model_copy(update={"commit": number}), committed_at=now(), **fields
    )


def _write_intent(staging: Staging, name: str, intent: Intent) -> None:
    staging.storage.write(staging.key(name), intent.model_dump_json().encode())


def _intent_of(staging: Staging) -> Intent:
    return Intent.model_validate_json(staging.storage.read(staging.key("intent.json")))


def _take_dead(storage: Storage, name: str, bundle: str, night: date, inbox: str) -> tuple[Staging, Lock] | None:
    """The staging and its lock, if it is an unfinished run of the same work and nobody is alive in it."""
    staging = Staging(storage, name)
    record = staging.record()
    if record is None or (record.bundle, record.night, record.inbox) != (bundle, night, inbox):
        return None
    lock = storage.try_lock(_lock_name(name))
    if lock is None:
        return None
    # Who had the lock may have finished, committed or held the run a moment ago.
    same_schema = record.schema_version == RESULTS_SCHEMA_VERSION
    if staging.record() is None or storage.exists(staging.key("held.json")) or staging.intent() or not same_schema:
        lock.release(forget=staging.record() is None)
        return None
    return staging, lock


def _new_staging(storage: Storage, bundle: str, run_id: str | None) -> tuple[Staging, Lock]:
    """A run id that nobody uses or has used, and its lock; the folder is made only then, so it is never seen unlocked."""
    wanted = run_id or f"{datetime.now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    number = 1
    used = {commit.run for commit in commits(storage, bundle)} if run_id is not None else set()
    while True:
        name = wanted if number == 1 else f"{wanted}-{number}"
        number += 1
        if name in used or storage.exists(f"staging/{name}"):
            continue
        lock = storage.try_lock(_lock_name(name))
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
        lock = storage.try_lock(_lock_name(name))
        if lock is None:
            continue
        if staging.intent() is None and not storage.exists(staging.key("held.json")):
            _forget(staging, lock)
        else:
            lock.release()


def _forget(staging: Staging, lock: Lock) -> None:
    staging.storage.remove_folder(staging.key())
    lock.release(forget=True)


@contextmanager
def _held_run(storage: Storage, run_id: str) -> Iterator[Staging]:
    staging = Staging(storage, run_id)
    if not _NAME.fullmatch(run_id) or not storage.exists(staging.key("held.json")):
        raise WrongUse(
            "No run with this id is kept back.",
            expected=", ".join(intent.run for intent in held(storage)) or "there is none",
            found=run_id,
        )
    lock = storage.try_lock(_lock_name(run_id))
    if lock is None:
        raise WrongUse("This run is still alive, or being released.", found=run_id, todo="wait until it has ended")
    try:
        yield staging
    finally:
        lock.release(forget=not storage.exists(staging.key()))


def _bundle_lock(storage: Storage, bundle: str) -> Lock | None:
    return storage.try_lock(f"bundle-{bundle}", LOCK_PATIENCE_SECONDS)


def _lock_name(run: str) -> str:
    return f"run-{run}"
