"""Kills a made-up night at every call that changes the disk, runs it again, and says what the results then hold.

`python -m tests.crashing FOLDER SCENARIO FIRST STEP` prints one JSON object. A process of its own, as it forks: the
children start warm (a night takes 50 ms instead of a second), and pytest's own process is never forked.
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

import pandas as pd

from tasks import staging
from tests import made_up

CHANGING = ("rename", "link", "fsync", "unlink", "rmdir", "mkdir")


def main(folder: Path, scenario: str, first: int, step: int) -> dict[str, Any]:
    """Every `step`-th moment from `first` on, until the night outlives its killer."""
    night = SCENARIOS[scenario]
    inbox = made_up.draw_inbox(folder / "inbox")
    undisturbed = folder / "undisturbed"
    _in_child(lambda: night(undisturbed, inbox))
    expected = _look(undisturbed)
    failures, moment, survived = [], first, False
    while not survived:
        results = folder / f"killed-{moment}"
        survived = _in_child(lambda at=moment, to=results: _killed_at(at, lambda: night(to, inbox))) == 0  # type: ignore[misc]
        _in_child(lambda to=results: night(to, inbox))  # type: ignore[misc]
        found = _look(results)
        if found != expected:
            failures.append({"moment": moment, "found": found})
        shutil.rmtree(results)
        moment += step
    return {"moments": (moment - first) // step - 1, "expected": expected, "failures": failures}


def plain_night(results: Path, inbox: Path) -> None:
    made_up.score(results, inbox)


def contended_night(results: Path, inbox: Path) -> None:
    """Locks fail, and while this run is about to commit another one commits the half of its contents."""
    staging.LOCK_PATIENCE_SECONDS = 0.0  # type: ignore[misc] # in a child of its own
    half = results.parent / f"{results.name}-half"
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

    for name in CHANGING:
        setattr(os, name, instead_of(getattr(os, name)))
    night()


def _in_child(work: Callable[[], Any]) -> int:
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


def _look(results: Path) -> Any:
    """What is in the results, in a child: rows by the commits, rows by a plain reader, paths, and what is left over."""
    report = results.parent / "look.json"

    def look() -> None:
        plain = pd.read_parquet(results / "predictions", columns=["content_id"])["content_id"]
        found = {
            # Which of two runs was the first to commit a content may depend on the crash; that one was does not.
            "rows": sorted((content, *made) for content, _, *made in made_up.rows_of(results)),
            "plain": sorted(plain),
            "paths": sorted({*made_up.committed.read(results, "files")["path"]}),
            "balanced": made_up.balanced(results),
            "staging": sorted(path.name for path in (results / "staging").iterdir()),
            "unlisted": sorted(_unlisted(results)),
        }
        report.write_text(json.dumps(found))

    _in_child(look)
    return json.loads(report.read_text())


def _unlisted(results: Path) -> set[str]:
    """Parts that no commit lists, or lists that no part is there for."""
    there = {str(path.relative_to(results)) for path in results.rglob("*.parquet") if ".tmp" not in path.parts}
    listed = {
        part.path
        for bundle in made_up.committed.bundles(results)
        for commit in made_up.committed.commits(results, bundle)
        for part in commit.parts
    }
    return there ^ listed


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
