"""From an intent to a numbered commit, from wherever it was left: by this process, or by whoever comes next.

The number guarantees that each content is committed once: it is taken by exclusive creation, and who finds it taken
looks again at what was scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

from darkroom.errors import CommitConflict, StorageError, WrongUse
from darkroom.results import Commit, Dataset, commit_key, commits, now
from darkroom.storage import Storage, storage_at
from darkroom.summary import NightSummary
from tasks.arrange import Arranged, add_night_rows, arrange, final_folder, scored_ids
from tasks.ledger import open_ledger
from tasks.staging import Intent, Run, RunRecord, Staging, bundle_lock, bundle_lock_name, run_lock

# A table of pyarrow, a frame, or nothing.
Rows: TypeAlias = pd.DataFrame | Any | None
# Datasets whose rows are about the night as a whole: another run's commit takes none of them away.
WHOLE_NIGHT: tuple[Dataset, ...] = ("drift", "estimates")


def intent_of(run: Run, settled: Arranged, summary: NightSummary, drift: Rows, estimates: Rows = None) -> Intent:
    """What `commit` will commit, or a held run would."""
    frozen = run.staging.frozen()
    if frozen is None:
        raise WrongUse("A run is committed after it was settled.", found=f"run {run.id} has no manifest")
    added = add_night_rows(run.staging, run.bundle, run.night, {"drift": drift, "estimates": estimates})
    return Intent(
        base=settled.base,
        bundle=run.bundle,
        night=run.night,
        run=run.id,
        inbox=run.inbox,
        parts=(*settled.parts, *added),
        summary=_counted(summary, settled),
        taken_in_at=frozen.taken_in_at,
    )


def write_intent(staging: Staging, name: str, intent: Intent) -> None:
    """Decide: as `intent.json` to be committed, as `held.json` to be kept back."""
    staging.storage.write(staging.key(name), intent.model_dump_json().encode())


def finish(staging: Staging) -> Commit:
    """Commit what is intended, and remove the staging. Raises StorageError where nothing is intended."""
    done = _finish(staging)
    if done is None:
        raise StorageError(
            "The run was removed while it was being committed.",
            file=staging.storage.describe(staging.key()),
            todo="run the night again",
        )
    return done


def recover(results: Storage | Path | str, bundle: str, *, locked: bool = False) -> list[Commit]:
    """Complete the commits that dead runs of a bundle had decided on.

    `locked`: the caller holds the bundle's lock already.
    """
    storage = storage_at(results)
    done = []
    for name in storage.list("staging"):
        staging = Staging(storage, name)
        record = staging.record()
        if record is None or record.bundle != bundle or staging.intent() is None:
            continue
        lock = storage.try_lock(run_lock(name))
        if lock is None:
            continue
        turn = None if locked else bundle_lock(storage, bundle)
        try:
            finished = _finish(staging)
        finally:
            if turn is not None:
                turn.release()
            lock.release(forget=True)
        if finished is not None:
            done.append(finished)
    return done


def recover_others(results: Storage | Path | str, bundle: str) -> list[Commit]:
    """The same for every other bundle: one that is no longer used has nobody else to do it.

    Their troubles are theirs: what cannot be completed, or is busy, is left as it is.
    """
    storage = storage_at(results)
    done = []
    for other in sorted({record.bundle for record in _records(storage)} - {bundle}):
        turn = storage.try_lock(bundle_lock_name(other))
        if turn is not None:
            with suppress(StorageError):
                done.extend(recover(storage, other, locked=True))
            turn.release()
    return done


def _records(storage: Storage) -> Iterator[RunRecord]:
    for name in storage.list("staging"):
        with suppress(StorageError):
            record = Staging(storage, name).record()
            if record is not None:
                yield record


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
        staging.remove()
        return mine
    return None


def _look_again(staging: Staging, intent: Intent) -> Intent:
    """Others have committed since: take back what is in place, drop what they scored, and decide again."""
    take_back(staging.storage, intent)
    there = {part.dataset for part in intent.parts}
    whole_night = [dataset for dataset in WHOLE_NIGHT if dataset in there]
    arranged = arrange_since(staging, intent.bundle, intent.night, whole_night=whole_night)
    changed = intent.model_copy(
        update={"base": arranged.base, "parts": arranged.parts, "summary": _counted(intent.summary, arranged)}
    )
    write_intent(staging, "intent.json", changed)
    return changed


def _put_in_place(staging: Staging, intent: Intent) -> None:
    for dataset, target in _final_folders(intent):
        staging.storage.move_folder(staging.key("publish", dataset), target)


def take_back(storage: Storage, intent: Intent) -> None:
    """Remove from the results what was put in place and not committed; the staging still has all of it."""
    for _, target in _final_folders(intent):
        storage.remove_folder(target)


def _final_folders(intent: Intent) -> list[tuple[str, str]]:
    datasets = sorted({part.dataset for part in intent.parts})
    return [(name, final_folder(intent.bundle, intent.night, intent.run, name)) for name in datasets]


def arrange_since(staging: Staging, bundle: str, night: date, *, whole_night: Sequence[Dataset] = ()) -> Arranged:
    """Arrange what nobody else has scored since the intake."""
    frozen = staging.frozen()
    ledger = open_ledger(staging.storage, bundle, 0 if frozen is None else frozen.base)
    nothing = pa.array([], pa.string())
    lost = ledger.already_scored(scored_ids(staging)) if ledger.commits else nothing
    base = ledger.newest if frozen is None else max(frozen.base, ledger.newest)
    return arrange(staging, bundle, night, lost, base, whole_night=whole_night)


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
