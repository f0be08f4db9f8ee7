"""Forget: remove images from results, by content id, with a record that it was done and not what it was.

What is to be removed is written down first, as `forgetting/<removal>.json`, and that is removed last: whoever forgets
next completes what was interrupted. What lies beside the rows is found by the names that they have: the rows go last.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from darkroom.errors import StorageError, WrongUse
from darkroom.forgotten import Forgotten, Removal, record_forgotten
from darkroom.orchestrator.artifacts import remove_artifacts
from darkroom.person import this_person
from darkroom.results import now
from darkroom.storage import LocalStorage, Storage, storage_at, store_address
from flows.forgotten import Told
from flows.labels_shown import one_at_a_time
from tasks.bundle.holding import held_by_bundles
from tasks.forgetting.beside import (
    copies_of,
    decisions_about,
    forget_in_decision,
    forget_labels,
    forget_unfinished,
    labels_of,
    taken_in,
    unfinished_with,
)
from tasks.forgetting.pages import other_pages_with, pages_with
from tasks.forgetting.rows import InCommit, forget_rows, in_commits, named
from tasks.forgetting.sought import Name, Photo, Sought, content_ids, still_delivered
from tasks.staging import Staging

_FOLDER: Final = "forgetting"
_PATIENCE_SECONDS: Final = 20.0
# Artifacts of a night that show what was scored or set aside, and the datasets that say so.
_SHOWN: Final = ("night", "drift", "quarantine")
_SHOWN_OF: Final = frozenset({"predictions", "quarantine"})


class _Begun(BaseModel):
    """A removal until it is complete: the only file that says what is removed."""

    model_config = ConfigDict(frozen=True)

    removal: Removal
    ids: tuple[str, ...]
    names: tuple[Name, ...]
    photos: tuple[Photo, ...]

    @property
    def key(self) -> str:
        return f"{_FOLDER}/{self.removal.removal}.json"

    @property
    def sought(self) -> Sought:
        return Sought(frozenset(self.ids), frozenset(self.names), frozenset(self.photos))


def forget(
    results: Path, contents: Sequence[str], *, why: str, by: str = "", models: Path | None = Path("models")
) -> Told:
    """Remove contents (whole content ids, or files) from results; and say which bundles below `models` hold them.

    Killed at any moment and called again, it completes. Raises: WrongUse where nothing is known of any of them, a run
    that is alive or kept back has taken one in, or there is no reason; StorageError.
    """
    ids = content_ids(contents)
    _needs_a_reason(why, ids)
    storage = storage_at(results)
    _needs_results(storage)
    looked_in = models if models is not None and (store_address(models) or models.is_dir()) else None
    with _alone(storage):
        interrupted = list(_interrupted(storage))
        carried_out = [_complete(storage, begun) for begun in interrupted]
        completed = tuple(one for one, _ in carried_out)
        bundles = held_by_bundles(looked_in, ids) if looked_in is not None else []
        photos = frozenset(Photo(label, path) for one in bundles for label, path in one.photos)
        with unfinished_with(storage, Sought(ids)) as dead:
            sought = named(storage, Sought(ids, photos=photos))
            _needs_a_reason(why, {one for name in sought.names for one in (name.path, Path(name.path).name)})
            removal, found = _look(storage, sought, dead, why, by)
            done = None
            if removal is not None:
                done, artifacts = _carry_out(storage, _begin(storage, removal, sought), dead)
                carried_out.append((done, artifacts))
    known = found.union(*(begun.ids for begun in interrupted), *(one.images for one in bundles)) & ids
    if not known:
        raise WrongUse(
            "There is nothing to do: nothing is known of it. It never came here, or was forgotten already; which of "
            "the two, nobody can say, because nothing is kept of what was forgotten.",
            file=storage.name,
            found=", ".join(sorted(ids)),
            todo="look the row up with darkroom trace: a file that was saved anew is another content",
        )
    return Told(
        forgotten=done,
        artifacts=None if any(n is None for _, n in carried_out) else sum(n or 0 for _, n in carried_out),
        completed=completed,
        unknown=tuple(sorted(ids - known)),
        delivered=tuple(still_delivered(Sought(ids, sought.names.union(*(begun.names for begun in interrupted))))),
        bundles=tuple(bundles),
        models=str(looked_in or ""),
    )


def _look(
    storage: Storage, sought: Sought, dead: Sequence[Staging], why: str, by: str
) -> tuple[Removal | None, frozenset[str]]:
    """How much there is of it, for the record, and of which contents; None: nothing."""
    found = {(one.commit.bundle, one.commit.number): one for one in in_commits(storage, sought)}
    copies = copies_of(storage, sought)
    labels = [one for own in labels_of(storage, sought).values() for one in own]
    decided = decisions_about(storage, sought)
    pages = [*pages_with(storage, sought, found), *other_pages_with(storage, sought)]
    if not any((found, copies, labels, decided, pages, dead)):
        return None, frozenset()
    known: set[str | None] = {*copies, *labels, *(one for own in found.values() for one in own.ids)}
    known |= {about.content_id for one in decided for about in one.contents}
    known |= {content_id for staging in dead for content_id in taken_in(staging, sought)}
    # A page may show a training photo that is in no row.
    of_these = frozenset(one for one in sought.ids if one in known) or sought.ids
    removal = Removal(
        removal=uuid.uuid4().hex,
        why=why.strip(),
        by=by.strip() or this_person(),
        at=now(),
        images=len(of_these),
        rows=tuple(rows for one in found.values() for rows in one.counted),
        commits=len(found),
        copies=len(copies),
        labels=len(labels),
        decisions=len(decided),
        pages=len(pages),
        unfinished=len(dead),
    )
    return removal, of_these


def _begin(storage: Storage, removal: Removal, sought: Sought) -> _Begun:
    begun = _Begun(removal=removal, ids=tuple(sought.ids), names=tuple(sought.names), photos=tuple(sought.photos))
    storage.write(begun.key, begun.model_dump_json().encode())
    return begun


def _complete(storage: Storage, begun: _Begun) -> tuple[Forgotten, int | None]:
    with unfinished_with(storage, begun.sought) as dead:
        return _carry_out(storage, begun, dead)


def _carry_out(storage: Storage, begun: _Begun, dead: Sequence[Staging]) -> tuple[Forgotten, int | None]:
    """Each step leaves everything readable, and does nothing where it was done. Also how many artifacts are gone."""
    sought = begun.sought
    found = {(one.commit.bundle, one.commit.number): one for one in in_commits(storage, sought)}
    with one_at_a_time(storage):
        for page in pages_with(storage, sought, found):
            storage.write(page.key, page.data)
    for folder in other_pages_with(storage, sought):
        storage.remove_folder(folder)
    artifacts = remove_artifacts(_shown_by(found.values()), _SHOWN)
    for key in copies_of(storage, sought).values():
        storage.remove(key)
    for key in labels_of(storage, sought):
        forget_labels(storage, key, sought)
    for decision in decisions_about(storage, sought):
        forget_in_decision(storage, decision, sought)
    for staging in dead:
        forget_unfinished(staging)
    for one in found.values():
        forget_rows(storage, one, sought)
    if isinstance(storage, LocalStorage):  # what writers that were killed have left may hold it, too
        storage.tidy(0.0)
    done = record_forgotten(storage, begun.removal)
    storage.remove(begun.key)
    return done, artifacts


def _shown_by(found: Iterable[InCommit]) -> Iterator[str]:
    """The Prefect runs whose artifacts may show one."""
    for one in found:
        whence = one.commit.summary.whence
        if whence is not None and whence.flow_run is not None and _SHOWN_OF & {rows.dataset for rows in one.counted}:
            yield whence.flow_run


def _interrupted(storage: Storage) -> Iterator[_Begun]:
    for name in storage.list(_FOLDER):
        key = f"{_FOLDER}/{name}"
        try:
            yield _Begun.model_validate_json(storage.read(key))
        except ValidationError as error:
            raise StorageError(
                f"A removal that was interrupted cannot be read: {error.errors()[0]['msg']}.",
                file=storage.describe(key),
                todo="remove the file, and forget the same contents again",
            ) from error


@contextmanager
def _alone(storage: Storage) -> Iterator[None]:
    lock = storage.try_lock(_FOLDER, _PATIENCE_SECONDS)
    if lock is None:
        raise WrongUse("Somebody else is forgetting something here.", file=storage.name, todo="wait, and try again")
    try:
        yield
    finally:
        lock.release(forget=True)


def _needs_a_reason(why: str, unsaid: Set[str]) -> None:
    words = {word.strip("'\"(),;:.") for word in why.split()}
    if not words or words & unsaid:
        raise WrongUse(
            "A removal is recorded with its reason, and not with what was removed.",
            parameter="reason",
            expected="why, in words that name neither the image nor its file",
            found=repr(why),
        )


def _needs_results(storage: Storage) -> None:
    if not storage.exists("commits") and not storage.exists("staging"):
        raise WrongUse(
            "There are no results in this folder.",
            file=storage.name,
            expected="a folder with commits in it",
            todo="name the results folder of a scored night",
        )
