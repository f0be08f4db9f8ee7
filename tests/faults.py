"""Kinds of fault, and the moments at which they strike a made-up night; the same night afterwards, undisturbed, has to
hold what a night holds that nothing happened to.

`python -m tests.faults FOLDER ADDRESS FIRST STEP MOST KIND …` prints a JSON list. Like tests.crashing it forks children
that start warm; results lie in the folder, or, where the address is not empty, in an object store that misbehaves.
"""

from __future__ import annotations

import builtins
import errno
import json
import os
import random
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from darkroom.errors import DarkroomError
from tasks import staging
from tests import made_up
from tests.crashing import look, within_child

CLEAR_ERROR, UNCLEAR_ERROR = 3, 1
# Calls that change a disk, and calls that read an inbox.
CHANGING: Final = tuple((os, name) for name in ("rename", "link", "fsync", "unlink", "rmdir", "mkdir"))
READING: Final = (*((os, name) for name in ("open", "pread", "read", "fstat", "scandir")), (made_up, "bytes_at"))
IMAGES: Final = 16

Strike = Callable[[], None]

# Made when a fault strikes: a kill tells nobody.
_mark: Path | None = None


@dataclass(frozen=True)
class Place:
    """Where a night is: its results and inbox; `moment` also seeds what the fault draws."""

    results: Path
    inbox: Path
    moment: int

    def draw(self, among: Sequence[Path]) -> Path:
        """One of them, another one at another moment."""
        return random.Random(self.moment).choice(sorted(among))


@dataclass(frozen=True)
class Kind:
    """A fault. `arm` puts it into this process, a fork, before the night; `clear`: where the night ends by it, it ends
    with an error of ours, as a person gets it. `adds`: it brings an image that was not there.
    """

    arm: Callable[[Place], None]
    clear: bool = True
    adds: bool = False


# -- when ------------------------------------------------------------------------------------------------------------


def at(place: Place, calls: Sequence[tuple[Any, str]], strike: Strike, *, lasting: bool = False) -> None:
    """Before the call with the moment's number, of all of these, strike; `lasting`: before each later one as well."""
    left = place.moment

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == -1 or (lasting and left < 0):
                _tell_mark()
                strike()
            return call(*given, **named)

        return counted

    for module, name in calls:
        setattr(module, name, before(getattr(module, name)))


def _tell_mark() -> None:
    if _mark is not None and not _mark.exists():
        _mark.touch()


def _fails(number: int, *, lasting: bool = False, calls: Sequence[tuple[Any, str]] = CHANGING) -> Kind:
    def strike() -> None:
        raise OSError(number, os.strerror(number))

    return Kind(lambda place: at(place, calls, strike, lasting=lasting))


def _raises(error: BaseException) -> Kind:
    def strike() -> None:
        raise error

    return Kind(lambda place: at(place, CHANGING, strike), clear=False)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# -- the power goes --------------------------------------------------------------------------------------------------


def _power_cut(place: Place, *, in_any_order: bool) -> None:
    """What no fsync has reached is lost: all of it, or some of it, whichever the disk had written."""
    unsafe: list[tuple[Path, Callable[[], None]]] = []  # folder, and how to take the change back
    calls = {name: getattr(os, name) for _, name in CHANGING}

    def rename(source: Any, target: Any, **named: Any) -> None:
        calls["rename"](source, target, **named)
        unsafe.append((Path(target).parent, lambda: calls["rename"](target, source)))

    def link(source: Any, target: Any, **named: Any) -> None:
        calls["link"](source, target, **named)
        unsafe.append((Path(target).parent, lambda: calls["unlink"](target)))

    def fsync(descriptor: int) -> None:
        calls["fsync"](descriptor)
        folder = Path(f"/proc/self/fd/{descriptor}").resolve()
        unsafe[:] = [one for one in unsafe if one[0] != folder]

    os.rename, os.link, os.fsync = rename, link, fsync  # type: ignore[assignment]

    def strike() -> None:
        chance = random.Random(place.moment)
        for _, take_back in reversed(unsafe):
            if not in_any_order or chance.random() < 0.5:
                try:
                    take_back()
                except OSError:
                    continue  # what it was about has gone with an earlier one
        _kill()

    at(place, CHANGING, strike)


def _torn_write(place: Place) -> None:
    """Of the file that is being written half is there; nobody has synced it."""
    last: list[Path] = []
    opened, synced = os.fdopen, os.fsync

    def fdopen(descriptor: int, *given: Any, **named: Any) -> Any:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if place.results in path.parents:
            last[:] = [path]
        return opened(descriptor, *given, **named)

    def fsync(descriptor: int) -> None:
        synced(descriptor)
        last.clear()

    os.fdopen, os.fsync = fdopen, fsync  # type: ignore[assignment]

    def strike() -> None:
        for path in last:
            if path.exists():
                os.truncate(path, path.stat().st_size // 2)
        _kill()

    at(place, CHANGING, strike)


# -- the machine, and others on it -----------------------------------------------------------------------------------


def _clock(place: Place, days: int) -> None:
    seconds, nanoseconds = time.time, time.time_ns

    def strike() -> None:
        time.time = lambda: seconds() + days * 86_400
        time.time_ns = lambda: nanoseconds() + days * 86_400 * 10**9

    at(place, CHANGING, strike)


def _another_run(place: Place, *, dies: bool) -> None:
    """The same night once more, at the same time; without patience, as in two runs that were started by hand."""
    staging.LOCK_PATIENCE_SECONDS = 0.0  # type: ignore[misc] # in a fork
    plain = {(module, name): getattr(module, name) for module, name in CHANGING}

    def other() -> None:
        for (module, name), call in plain.items():
            setattr(module, name, call)
        if dies:
            at(Place(place.results, place.inbox, 30), CHANGING, _kill)
        made_up.score(place.results, place.inbox)

    at(place, CHANGING, lambda: within_child(other))


def _gone(place: Place, folder: str) -> None:
    at(place, CHANGING, lambda: shutil.rmtree(place.results / folder, ignore_errors=True))


# -- the inbox -------------------------------------------------------------------------------------------------------


def _in_the_inbox(change: Callable[[Path, Place], None], *, adds: bool = False) -> Kind:
    """While it is read, something happens to one of the images."""

    def arm(place: Place) -> None:
        one = place.draw([*place.inbox.rglob("image-*.png")])
        at(place, READING, lambda: change(one, place))

    return Kind(arm, adds=adds)


def _replace(path: Path, place: Place) -> None:
    made_up.draw(path.with_suffix(".new"), 10_000 + place.moment)
    os.replace(path.with_suffix(".new"), path)  # noqa: PTH105 - calls of this module are not counted


def _write_over(path: Path, place: Place) -> None:
    made_up.draw(path, 10_000 + place.moment)


def _grow(path: Path, _: Place) -> None:
    with builtins.open(path, "ab") as file:  # noqa: PTH123
        file.write(b"more")


def _cut(path: Path, _: Place) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _become(make: Callable[[Path], Any]) -> Callable[[Path, Place], None]:
    def change(path: Path, _: Place) -> None:
        path.unlink()
        make(path)

    return change


def _touch(path: Path, _: Place) -> None:
    os.utime(path, (1, 1))


def _folder_gone(path: Path, _: Place) -> None:
    shutil.rmtree(path.parent)


# -- what earlier nights left ----------------------------------------------------------------------------------------


def _earlier(spoil: Callable[[Path], None], pattern: str) -> Kind:
    """A file of the night before is not what it was."""

    def arm(place: Place) -> None:
        spoil(place.draw([*place.results.glob(pattern)]))

    return Kind(arm)


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


ON_DISK: Final[dict[str, Kind]] = {
    "killed": Kind(lambda place: at(place, CHANGING, _kill)),
    "stopped by a person": _raises(KeyboardInterrupt()),
    "out of memory": _raises(MemoryError()),
    "disk full": _fails(errno.ENOSPC, lasting=True),
    "disk full for a moment": _fails(errno.ENOSPC),
    "over the quota": _fails(errno.EDQUOT, lasting=True),
    "became read-only": _fails(errno.EROFS, lasting=True),
    "not permitted": _fails(errno.EACCES),
    "input/output error": _fails(errno.EIO),
    "stale handle": _fails(errno.ESTALE),
    "too many open files": _fails(errno.EMFILE),
    "power cut": Kind(lambda place: _power_cut(place, in_any_order=False)),
    "power cut, written in any order": Kind(lambda place: _power_cut(place, in_any_order=True)),
    "write cut short": Kind(_torn_write),
    "clock set back": Kind(lambda place: _clock(place, -400)),
    "clock set forward": Kind(lambda place: _clock(place, 400)),
    "another run at the same time": Kind(lambda place: _another_run(place, dies=False)),
    "another run that dies": Kind(lambda place: _another_run(place, dies=True)),
    "temporary files removed": Kind(lambda place: _gone(place, ".tmp")),
    "locks removed": Kind(lambda place: _gone(place, ".locks")),
    "image deleted": _in_the_inbox(lambda path, _: path.unlink()),
    "image replaced": _in_the_inbox(_replace, adds=True),
    "image written over": _in_the_inbox(_write_over, adds=True),
    "image grows": _in_the_inbox(_grow, adds=True),
    "image cut short": _in_the_inbox(_cut, adds=True),
    "image becomes a folder": _in_the_inbox(_become(Path.mkdir)),
    "image becomes a pipe": _in_the_inbox(_become(os.mkfifo)),
    "image becomes a link out": _in_the_inbox(_become(lambda path: path.symlink_to("/etc/passwd"))),
    "image becomes empty": _in_the_inbox(_become(Path.touch)),
    "image gets another time": _in_the_inbox(_touch),
    "folder deleted": _in_the_inbox(_folder_gone),
    "image cannot be read": _fails(errno.EIO, calls=READING),
    "image not permitted": _fails(errno.EACCES, calls=READING),
    "image on a stale handle": _fails(errno.ESTALE, calls=READING),
}
# Other kinds strike between two nights: what the first has committed is spoilt, and mended after the second.
BETWEEN_NIGHTS: Final[dict[str, Kind]] = {
    "earlier rows cut short": _earlier(_halve, "*/**/*.parquet"),
    "earlier rows with another byte": _earlier(_flip, "*/**/*.parquet"),
    "earlier rows gone": _earlier(Path.unlink, "*/**/*.parquet"),
    "earlier commit cut short": _earlier(_halve, "commits/**/*.json"),
    "earlier commit of zeros": _earlier(_zero, "commits/**/*.json"),
}
# What a store answers to one request, or to all from then on.
IN_THE_STORE: Final[dict[str, tuple[str, int]]] = {
    "store: server error": ("error", 1),
    "store: asked to slow down": ("slow down", 1),
    "store: connection reset": ("reset", 1),
    "store: answer lost": ("lost answer", 1),
    "store: done, and error told": ("wrong answer", 1),
    "store: conflict told": ("conflict", 1),
    "store: denied": ("denied", 1),
    "store: away": ("reset", 10**6),
}


def main(folder: Path, address: str, first: int, step: int, most: int, *kinds: str) -> list[dict[str, Any]]:
    """Each kind at every `step`-th moment from `first` on: at most so many, and until a night is over before it."""
    moments = range(first, first + step * most, step)
    return [
        at_moments(folder / f"{number}", f"{address}/{number}" if address else "", moments, kind)
        for number, kind in enumerate(kinds)
    ]


def at_moments(folder: Path, address: str, moments: Sequence[int], kind: str) -> dict[str, Any]:
    """One kind: at how many moments it struck, how many nights ended by it with a clear error, what was wrong after."""
    template = made_up.draw_inbox(folder / "template", images=IMAGES)
    inbox = folder / "inbox"
    place = Path(address) if address else folder
    undisturbed = place / "undisturbed"
    _draw_again(template, inbox)
    if kind in BETWEEN_NIGHTS:
        _first_night(undisturbed, inbox, template)
    within_child(lambda: made_up.score(undisturbed, inbox))
    expected = look(undisturbed, folder)
    failures, clear, met = [], 0, 0
    for moment in moments:
        here = Place(place / f"struck-{moment}", inbox, moment)
        _draw_again(template, inbox)
        outcome, struck = _struck(kind, here, folder, template)
        if not struck:
            break
        met += 1
        clear += outcome == CLEAR_ERROR
        _draw_again(template, inbox)
        again = _outcome(lambda at=here: made_up.score(at.results, at.inbox))  # type: ignore[misc]
        wrong = ["the next run fails"] if again else _differences(expected, look(here.results, folder), kind)
        if outcome == UNCLEAR_ERROR:
            wrong.append("an error that is not ours")
        if wrong:
            failures.append({"moment": moment, "wrong": wrong})
        shutil.rmtree(here.results, ignore_errors=True)
    return {"kind": kind, "moments": met, "clear_errors": clear, "failures": failures}


def _struck(kind: str, place: Place, folder: Path, template: Path) -> tuple[int, bool]:
    """How the night ended, and whether the fault came before its end."""
    if kind in IN_THE_STORE:
        fault, times = IN_THE_STORE[kind]
        _misbehave([{"method": "ANY", "key": "struck", "fault": fault, "times": times, "every": place.moment + 1}])
        outcome = _outcome(lambda: made_up.score(place.results, place.inbox))
        met = _misbehave([])
        return outcome, met > place.moment
    if kind in BETWEEN_NIGHTS:
        _first_night(place.results, place.inbox, template)
        kept = folder / "kept"
        shutil.copytree(place.results, kept)
        BETWEEN_NIGHTS[kind].arm(place)
        outcome = _outcome(lambda: made_up.score(place.results, place.inbox))
        # Mended, as from a backup: what this night added stays.
        shutil.copytree(kept, place.results, dirs_exist_ok=True)
        shutil.rmtree(kept)
        return outcome, True
    mark = folder / "struck"
    mark.unlink(missing_ok=True)

    def night() -> None:
        ON_DISK[kind].arm(place)
        made_up.score(place.results, place.inbox)

    return _outcome(night, mark), mark.exists()


def _first_night(results: Path, inbox: Path, template: Path) -> None:
    """Of a part of the images; the others come with the second."""
    shutil.rmtree(inbox / "cam1")
    within_child(lambda: made_up.score(results, inbox, night=made_up.NIGHT - timedelta(days=1)))
    _draw_again(template, inbox)


def _draw_again(template: Path, inbox: Path) -> None:
    shutil.rmtree(inbox, ignore_errors=True)
    shutil.copytree(template, inbox)


def _outcome(work: Callable[[], Any], mark: Path | None = None) -> int:
    """Exit status of a fork that does the work; −9 for one that was killed."""
    global _mark
    child = os.fork()
    if child == 0:
        status = UNCLEAR_ERROR
        try:
            _mark = mark
            work()
            status = 0
        except DarkroomError:
            status = CLEAR_ERROR
        except (KeyboardInterrupt, MemoryError):
            status = 0  # by whoever asked for it
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _differences(expected: dict[str, Any], found: dict[str, Any], kind: str) -> list[str]:
    """What is not as after an undisturbed night; an image that the fault brought may have its row, once."""
    known = {row[0] for row in expected["rows"]}
    adds = kind in ON_DISK and ON_DISK[kind].adds
    strangers = [row for row in found["rows"] if row[0] not in known]
    wrong = [] if len(strangers) <= adds else [f"{len(strangers)} rows that nobody brought"]
    rows = [row for row in found["rows"] if row[0] in known]
    plain = [content for content in found["plain"] if content in known]
    if rows != expected["rows"]:
        wrong.append(f"{len(rows)} rows, {len(expected['rows'])} expected")
    if plain != expected["plain"] or len(found["plain"]) != len(found["rows"]):
        wrong.append(f"{len(found['plain'])} rows in the files")
    if not {*expected["paths"]} <= {*found["paths"]}:  # a folder that could not be listed is a path, too
        wrong.append("paths that are not accounted for")
    return wrong + [name for name in ("balanced", "staging", "unlisted") if found[name] != expected[name]]


def _misbehave(faults: list[dict[str, Any]]) -> int:
    """Tell the server of `tests.object_server`; returns how often the faults before were met."""
    body = json.dumps([{**one, "met": 0} for one in faults]).encode()
    request = urllib.request.Request(f"{os.environ['AWS_ENDPOINT_URL']}/-/faults", body, method="POST")
    with urllib.request.urlopen(request) as answer:
        return int(answer.read())


if __name__ == "__main__":
    numbers = [int(number) for number in sys.argv[3:6]]
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], *numbers, *sys.argv[6:])))
