"""Looking at the shards of a night: on whichever workers, each shard at least once and its rows once.

The only part of a night that may be elsewhere. A worker gets paths and a proof, proves the bundle itself, and leaves
what it found in the staging; whoever asked waits for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from prefect import get_run_logger, task, unmapped
from prefect.cache_policies import NO_CACHE

from darkroom.errors import DarkroomError, WorkersLost
from darkroom.names import from_text
from darkroom.settings import RunOptions
from darkroom.trust import TRUSTED_KEYS, trusted_place
from flows.counting import count
from flows.engines import lacks_engine
from flows.evaluation import RowEvidence, team_suites
from flows.looking import Instruments, Proof, forget_proved, instruments_of, look
from flows.runners import Handful, handfuls, take_share, workers_for
from tasks.bundle import open_bundle
from tasks.object_inbox import file_at, is_there
from tasks.quarantine import Refusal
from tasks.staging import Run, Staging, stage_part
from tasks.workers import Job, Refused

# So often workers may all be lost before the night is given up: what they finished in between is kept.
_ATTEMPTS: Final = 3


def look_at_all(attempt: Run, shards: Sequence[int], proof: Proof, run: RunOptions) -> None:
    """All of these shards, on the workers that the run asks for; of workers that die, others take over what is left."""
    staging, lost = attempt.staging, 0
    same = {"staging": unmapped(staging), "proof": unmapped(proof), "run": unmapped(run)}
    while shards:
        _given_up.discard(staging.run)
        try:
            lacks = partial(lacking, staging, proof, inbox_is_there=_inbox_is_there(staging))
            with workers_for(run, lacks) as workers, _or_given_up(staging):
                workers.runner.map(look_at_shards, {"shards": handfuls(shards, workers.count), **same}).result()  # type: ignore[arg-type]
                return
        except WorkersLost as error:
            lost += 1
            if lost == _ATTEMPTS:
                raise
            get_run_logger().warning("Begun again with what is left: %s", error.what)
            shards = staging.unfinished()


class _GivenUp(Exception):
    """The run was stopped, or has failed, while another thread looked at one of its shards."""


_given_up: set[str] = set()


@contextmanager
def _or_given_up(staging: Staging) -> Iterator[None]:
    """Shards that are at work end with their next batch where this is left by an error: nobody waits for them."""
    try:
        yield
    except BaseException:
        _given_up.add(staging.run)
        raise


def lacking(staging: Staging, proof: Proof, *, inbox_is_there: bool) -> str | None:
    """Asked inside a worker of a cluster: what it cannot see of this run, or do for it."""
    if staging.record() is None:
        return f"this run is not in {staging.storage.describe('staging')}"
    if inbox_is_there and not _inbox_is_there(staging):
        return "the folder of new images is not there"
    if not Path(proof.path).is_dir():
        return f"there is no bundle at {proof.path}"
    return lacks_bundle(proof)


def lacks_bundle(proof: Proof) -> str | None:
    """What this worker lacks to open the bundle of a proof, as strictly as whoever proved it, on the same engine."""
    if proof.signed_by is not None and trusted_place() is None:
        return f"it would believe any bundle: {TRUSTED_KEYS} is not set there"
    try:
        return lacks_engine(open_bundle(Path(proof.path)), proof.engine_name)
    except DarkroomError as error:
        return "; ".join(line.strip() for line in str(error).splitlines())


def _inbox_is_there(staging: Staging) -> bool:
    record = staging.record()
    return record is not None and is_there(Path(from_text(record.inbox)))


@task(name="look at shards", task_run_name="look at {shards}", retries=2, cache_policy=NO_CACHE)
def look_at_shards(shards: Handful, staging: Staging, proof: Proof, run: RunOptions) -> None:
    """Look at some shards, but for those that are finished: a task may be repeated, by whomever."""
    take_share()
    instruments = instruments_of(proof)
    try:
        for shard in shards.shards:
            if staging.run not in _given_up and not staging.is_finished(shard):
                look_at_shard(shard, staging, instruments, run)
    except DarkroomError:  # the next try shall not have a model that came to harm
        forget_proved()
        raise


def look_at_shard(shard: int, staging: Staging, instruments: Instruments, run: RunOptions) -> None:
    """Decode, measure, predict and doubt the images of one shard; its rows, refusals and evidence go to staging."""
    record = staging.record()
    rows = staging.shard(shard).to_pylist() if record is not None else []
    folder = Path(from_text(record.inbox)) if record is not None else Path()
    jobs = [Job(row["path"], file_at(folder, row["path"]), content_id=row["content_id"]) for row in rows]

    def told(done: int, refused: Sequence[Refused]) -> None:
        if staging.run in _given_up:
            raise _GivenUp
        count(staging.run, shard, done, [one.reason for one in refused])

    looked = look(jobs, instruments, processes=run.processes, teams=team_suites(run.suites), told=told)
    instruments.sentinels.check(instruments.engine, len(rows))
    sizes = {row["path"]: row["size"] for row in rows}
    refused = [
        Refusal(str(one.key), one.content_id, one.reason, one.detail, sizes[str(one.key)]) for one in looked.refused
    ]
    evidence = RowEvidence.from_rows(looked.rows, looked.outcome, instruments.knowledge)
    stage_part(staging, shard, looked.rows, refused, evidence.to_bytes())
