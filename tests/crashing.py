"""Kills a made-up night at every call that changes its results, runs it again, and says what they then hold.

`python -m tests.crashing FOLDER SCENARIO FIRST STEP [ADDRESS]` prints one JSON object. Results lie in the folder, or at
the address of an object store, where each object of a request that removes many is a call of its own. A process of its
own, as it forks: the children start warm (a night takes 50 ms instead of a second), and pytest's own process is never
forked.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pyarrow.parquet as pq

from darkroom.object_storage import ObjectStorage
from darkroom.storage import storage_at
from tasks import staging
from tests import made_up

CHANGING = {os: ("rename", "link", "fsync", "unlink", "rmdir", "mkdir"), obstore: ("put", "copy", "delete")}


def main(folder: Path, scenario: str, first: int, step: int, address: str | None = None) -> dict[str, Any]:
    """Every `step`-th moment from `first` on, until the night outlives its killer."""
    night = SCENARIOS[scenario]
    inbox = made_up.draw_inbox(folder / "inbox")
    place = folder if address is None else Path(address)
    undisturbed = place / "undisturbed"
    within_child(lambda: night(undisturbed, inbox))
    expected = look(undisturbed, folder)
    failures, moment, survived = [], first, False
    while not survived:
        results = place / f"killed-{moment}"
        survived = within_child(lambda at=moment, to=results: _killed_at(at, lambda: night(to, inbox))) == 0  # type: ignore[misc]
        within_child(lambda to=results: night(to, inbox))  # type: ignore[misc]
        found = look(results, folder)
        if found != expected:
            failures.append({"moment": moment, "found": found})
        shutil.rmtree(results, ignore_errors=address is not None)
        moment += step
    return {"moments": (moment - first) // step - 1, "expected": expected, "failures": failures}


def plain_night(results: Path, inbox: Path) -> None:
    made_up.score(results, inbox)


def contended_night(results: Path, inbox: Path) -> None:
    """Locks fail, and while this run is about to commit another one commits the half of its contents."""
    staging.LOCK_PATIENCE_SECONDS = 0.0  # type: ignore[misc] # in a child of its own
    half = inbox.parent / f"{results.name}-half"
    shutil.copytree(inbox / "cam0", half, dirs_exist_ok=True)
    made_up.score(results, inbox, before_commit=lambda run: made_up.score(results, half) and None)


SCENARIOS: dict[str, Callable[[Path, Path], None]] = {"plain": plain_night, "contended": contended_night}


def _killed_at(moment: int, night: Callable[[], None]) -> None:
    """SIGKILL instead of the call with this number."""
    left = moment

    def instead_of(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **named)

        return counted

    for module, names in CHANGING.items():
        for name in names:
            setattr(module, name, instead_of(getattr(module, name)))
    delete = obstore.delete
    obstore.delete = lambda store, keys: [delete(store, key) for key in ([keys] if isinstance(keys, str) else keys)]
    night()


def within_child(work: Callable[[], Any]) -> int:
    """Exit status of a fork that does the work; 0: it lived to the end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit("a night failed: see above")
    return status


def look(results: Path, folder: Path) -> Any:
    """What is in the results, in a child: rows by the commits, rows by a plain reader, paths, and what is left over."""
    report = folder / "look.json"

    def write() -> None:
        parts = [key for key in _parquet_files(results) if key.startswith("predictions/")]
        plain = [content for key in parts for content in _content_ids(results, key)]
        found = {
            # Which of two runs was the first to commit a content may depend on the crash; that one was does not.
            "rows": sorted((content, *made) for content, _, *made in made_up.rows_of(results)),
            "plain": sorted(plain),
            "paths": sorted({*made_up.committed.read(results, "files")["path"]}),
            "balanced": made_up.balanced(results),
            "staging": storage_at(results).list("staging"),
            "unlisted": sorted(_unlisted(results)),
        }
        report.write_text(json.dumps(found))

    within_child(write)
    return json.loads(report.read_text())


def _unlisted(results: Path) -> set[str]:
    """Parts that no commit lists, or lists that no part is there for."""
    there = _parquet_files(results)
    listed = {
        part.path
        for bundle in made_up.committed.bundles(results)
        for commit in made_up.committed.commits(results, bundle)
        for part in commit.parts
    }
    return there ^ listed


def _parquet_files(results: Path) -> set[str]:
    """All that a plain reader sees, who knows nothing of commits."""
    storage = storage_at(results)
    if isinstance(storage, ObjectStorage):
        return {one["path"] for page in obstore.list(storage.store()) for one in page if one["path"][-8:] == ".parquet"}
    return {str(path.relative_to(results)) for path in results.rglob("*.parquet") if ".tmp" not in path.parts}


def _content_ids(results: Path, key: str) -> list[str]:
    with storage_at(results).open(key) as source:
        return pq.read_table(source, columns=["content_id"])["content_id"].to_pylist()  # type: ignore[no-any-return]


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])))
