"""How far a night has come: one counter over all of its shards, told to the Prefect UI, the log and the terminal."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast
from uuid import UUID

import pyarrow.compute as pc
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactUpdate

from darkroom.progress import now, tell
from darkroom.reasons import FileStatus, Reason
from flows.in_the_ui import key_of
from tasks.quarantine import status_of
from tasks.report.view import duration
from tasks.staging import Run, ShardRecord, Staging

_ARTIFACT_SECONDS: Final = 2.0
# Each change is an event, too: a night of hours does not need thousands of them.
_RARER: Final = 1 / 60  # of the time that has gone
_LOG_SECONDS: Final = 15.0
_PATIENCE_SECONDS: Final = 10.0
_TOO_EARLY_SECONDS: Final = 3.0  # to tell a speed
_WINDOW_SECONDS: Final = 30.0  # over which the speed is taken: the first shard loads what later ones have


@dataclass(frozen=True)
class HowFar:
    """Images of a night: looked at (`done`), set aside, also at intake (`quarantined`), and the speed of late."""

    done: int
    total: int
    quarantined: int
    a_second: float | None

    @property
    def percent(self) -> float:
        """0 … 100."""
        return 100.0 * self.done / self.total if self.total else 100.0

    @property
    def pace(self) -> str:
        """For the terminal, which shows the counts itself."""
        told = [] if self.a_second is None else [f"{_speed(self.a_second)} a second"]
        told.append(f"{self.quarantined:,} quarantined")
        if self.a_second and self.done < self.total:
            told.append(f"about {_about((self.total - self.done) / self.a_second)} left")
        return ", ".join(told)

    @property
    def sentence(self) -> str:
        """`1,200 of 3,000 images, 84 a second, 3 quarantined, about 20 s left`."""
        return f"{self.done:,} of {self.total:,} images, {self.pace}"


class Counter:
    """Counts the images of a run: finished shards from the staging, whoever finished them, and those at work here."""

    def __init__(self, staging: Staging, total: int) -> None:
        self._staging = staging
        self._total = total
        # What the intake would not open is set aside already, and not among the images to look at.
        statuses = staging.read_table(staging.key("manifest.parquet"), ["status"])["status"]
        self._aside_before = pc.sum(pc.equal(statuses, str(FileStatus.QUARANTINED))).as_py() or 0
        self._lock = threading.Lock()
        self._finished: set[int] = set()
        self._of_finished = (0, self._aside_before)
        self._at_work: dict[int, tuple[int, int]] = {}
        self.look_around()
        self._begun = time.monotonic()
        self._done_before = self._counts()[0]
        self._seen = deque([(self._begun, self._done_before)])

    def count(self, shard: int, done: int, quarantined: int) -> HowFar:
        """A shard that is at work in this process has come so far."""
        with self._lock:
            if shard not in self._finished:
                self._at_work[shard] = (done, quarantined)
        return self.how_far()

    def look_around(self) -> None:
        """Take in the shards that were finished since, also on other machines."""
        with self._lock:
            known = frozenset(self._finished)
        finished = self._staging.finished(known)
        found = {shard: _counts_of(self._staging, record) for shard, record in finished.items()}
        with self._lock:
            new = found.keys() - self._finished
            self._of_finished = _summed([self._of_finished, *(found[shard] for shard in new)])
            self._finished |= new
            self._at_work = {shard: counts for shard, counts in self._at_work.items() if shard not in new}

    def how_far(self) -> HowFar:
        """Now."""
        moment = time.monotonic()
        with self._lock:
            done, quarantined = self._counts()
            self._seen.append((moment, done))
            while len(self._seen) > 2 and moment - self._seen[1][0] > _WINDOW_SECONDS:
                self._seen.popleft()
            since, before = self._seen[0]
        early = moment - self._begun < _TOO_EARLY_SECONDS
        return HowFar(done, self._total, quarantined, None if early else _rate(done - before, moment - since))

    def in_all(self) -> tuple[HowFar, float]:
        """What this attempt did at its end, with its mean speed, and the seconds that it took."""
        took = time.monotonic() - self._begun
        self.look_around()
        with self._lock:
            done, quarantined = self._counts()
        return HowFar(done, self._total, quarantined, _rate(done - self._done_before, took)), took

    def _counts(self) -> tuple[int, int]:
        return _summed([self._of_finished, *self._at_work.values()])


# Of the runs that are counted in this process, by run id: shards are tasks, and find the counter of their run here.
_counters: dict[str, Counter] = {}


def count(run_id: str, shard: int, done: int, refused: list[Reason]) -> None:
    """A shard tells how many of its images it has looked at. In a process that counts nothing, nobody hears it."""
    counter = _counters.get(run_id)
    if counter is not None:
        aside = sum(status_of(reason) is FileStatus.QUARANTINED for reason in refused)
        far = counter.count(shard, done, aside)
        tell("images", far.done, far.total, far.pace)


@contextmanager
def counted(attempt: Run) -> Iterator[None]:
    """Tell of the run's progress while inside: the artifact every few seconds, the log every fifteen."""
    frozen = attempt.staging.frozen()
    if frozen is None or not frozen.to_score:
        yield
        return
    now("looking at the images")
    counter = Counter(attempt.staging, frozen.to_score)
    teller = _Teller(counter, key_of("progress", attempt.bundle))
    _counters[attempt.id] = counter
    try:
        with teller:
            yield
    finally:
        del _counters[attempt.id]


class _Teller:
    """A thread of its own: a slow server slows nobody down, and one that does not answer stops nothing."""

    def __init__(self, counter: Counter, key: str) -> None:
        self._counter = counter
        self._log = get_run_logger()
        far = counter.how_far()
        self._at_the_end = far, far.sentence
        self._artifact: UUID | None = None
        try:
            made = create_progress_artifact(far.percent, key=key, description=far.sentence)
            self._artifact = cast(UUID, made)  # not awaited: here there is no event loop
        except Exception as error:  # whatever the server has: images are looked at all the same
            self._log.warning("The progress is told here only: %s", error)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress of the night", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        far, took = self._counter.in_all()
        told = f"{far.done:,} of {far.total:,} images in {duration(took)}, {far.pace}"
        self._at_the_end = far, told
        self._over.set()
        self._thread.join(timeout=_PATIENCE_SECONDS)
        if kind is None:
            self._log.info(told)
        else:
            self._log.warning("Stopped at %s", told)

    def _tell(self) -> None:
        begun = logged = time.monotonic()
        shown: HowFar | None = None
        with get_client(sync_client=True) as client:
            while not self._over.wait(self._pause(time.monotonic() - begun)):
                self._counter.look_around()
                far = self._counter.how_far()
                tell("images", far.done, far.total, far.pace)
                if far != shown:
                    self._update(client, far, far.sentence)
                shown = far
                if time.monotonic() - logged >= _LOG_SECONDS and far.done < far.total:
                    self._log.info(far.sentence)
                    logged = time.monotonic()
            self._update(client, *self._at_the_end)

    @staticmethod
    def _pause(gone: float) -> float:
        return min(_LOG_SECONDS, max(_ARTIFACT_SECONDS, gone * _RARER))

    def _update(self, client: SyncPrefectClient, far: HowFar, told: str) -> None:
        try:
            if self._artifact is None:
                return
            client.update_artifact(self._artifact, ArtifactUpdate(data=far.percent, description=told))
        except Exception as error:  # whatever is wrong with it, the images are scored
            self._log.debug("The progress could not be shown: %s", error)


def _counts_of(staging: Staging, record: ShardRecord) -> tuple[int, int]:
    """Images looked at and images quarantined; a file that only waits for the next night is no quarantine."""
    aside = 0
    if record.refused_rows:
        reasons = staging.refused(record)["reason"].to_pylist()
        aside = sum(status_of(Reason(reason)) is FileStatus.QUARANTINED for reason in reasons)
    return record.rows + record.refused_rows, aside


def _summed(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    done, aside = zip(*counts, strict=True)
    return sum(done), sum(aside)


def _rate(images: int, seconds: float) -> float | None:
    return images / seconds if images > 0 and seconds > 0 else None


def _speed(images: float) -> str:
    return f"{images:,.0f}" if images >= 10 else f"{images:.1f}"


def _about(seconds: float) -> str:
    """Nobody believes the seconds of an hour."""
    if seconds < 60:
        return f"{max(5, 5 * round(seconds / 5))} s"
    if seconds < 3600:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
