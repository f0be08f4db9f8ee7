"""Runs that an alarm keeps back: complete, and not part of the results until a person says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from darkroom.decisions import Act, HeldRun, decide
from darkroom.errors import WrongUse
from darkroom.results import Commit
from darkroom.storage import Storage, storage_at
from darkroom.summary import NightSummary
from tasks.arrange import Arranged
from tasks.finish import Rows, finish, intent_of, write_intent
from tasks.staging import Intent, Run, Staging, bundle_lock, run_lock, valid_id


def hold(run: Run, settled: Arranged, summary: NightSummary, drift: Rows = None, estimates: Rows = None) -> None:
    """Keep a settled run back, until it is released or discarded; it replaces an earlier held run of its night.

    Its contents count as not scored: a later run may score and commit them, and then this one loses them.
    """
    storage = run.staging.storage
    write_intent(run.staging, "held.json", intent_of(run, settled, summary, drift, estimates))
    run.unlock_bundle()
    for earlier in held(storage):
        same_work = (earlier.bundle, earlier.night, earlier.inbox) == (run.bundle, run.night, run.inbox)
        if same_work and earlier.run != run.id:
            with suppress(WrongUse):  # somebody is releasing it at this moment
                discard(storage, earlier.run, why=f"Run {run.id} of the same night is kept back instead.")


def held(results: Storage | Path | str) -> list[Intent]:
    """The runs that are kept back, oldest night first."""
    storage = storage_at(results)
    found = [Staging(storage, name).held() for name in storage.list("staging")]
    return sorted((intent for intent in found if intent), key=lambda intent: (intent.night, intent.run))


def release(results: Storage | Path | str, run_id: str, *, why: str, by: str | None = None) -> Commit:
    """Commit a run that was kept back; what others have scored since is dropped from it.

    Who, when and why is recorded first: nothing is committed that the decisions do not explain.
    """
    storage = storage_at(results)
    with _held_run(storage, run_id) as (staging, intent):
        _record(storage, Act.RELEASE_RUN, intent, why, by)
        write_intent(staging, "intent.json", intent)
        turn = bundle_lock(storage, intent.bundle)
        try:
            return finish(staging)
        finally:
            if turn is not None:
                turn.release()


def discard(results: Storage | Path | str, run_id: str, *, why: str, by: str | None = None) -> None:
    """Remove a run that was kept back, and record who did, when and why.

    Its contents count as not scored: another run will score them.
    """
    storage = storage_at(results)
    with _held_run(storage, run_id) as (staging, intent):
        _record(storage, Act.DISCARD_RUN, intent, why, by)
        staging.remove()


def _record(storage: Storage, act: Act, intent: Intent, why: str, by: str | None) -> None:
    what = HeldRun(run=intent.run, bundle=intent.bundle, night=intent.night, inbox=intent.inbox)
    decide(storage, act, why=why, by=by, held=what)


@contextmanager
def _held_run(storage: Storage, run_id: str) -> Iterator[tuple[Staging, Intent]]:
    staging = Staging(storage, run_id)
    intent = staging.held() if valid_id(run_id) else None
    if intent is None:
        raise WrongUse(
            "No run with this id is kept back.",
            expected=", ".join(intent.run for intent in held(storage)) or "there is none",
            found=run_id,
        )
    lock = storage.try_lock(run_lock(run_id))
    if lock is None:
        raise WrongUse("This run is still alive, or being released.", found=run_id, todo="wait until it has ended")
    try:
        yield staging, intent
    finally:
        lock.release(forget=not storage.exists(staging.key()))
