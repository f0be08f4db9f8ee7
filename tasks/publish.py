"""From finished shards to a numbered commit: each content once, whatever crashes, repeats or overlaps.

The order, and what a crash after each step leaves to whoever comes next:

1. begin_run    takes the run's lock, completes what dead runs had decided   a dead run, to be resumed
2. stage_part   finishes shards                                              the same, with less to do
3. settle       takes the bundle's lock, drops what others scored meanwhile  the same
4. commit       writes the intent                                            a commit to complete
                renames the run's folders into place, takes the next number
                removes the staging

The number guarantees: it is taken by exclusive creation, and who finds it taken looks again at what was scored. Locks
only keep runs from doing work that another one is about to make useless.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from darkroom.errors import StorageError
from darkroom.results import Commit, find_commit
from darkroom.summary import NightSummary
from tasks.arrange import Arranged, published
from tasks.finish import Rows, arrange_since, finish, intent_of, recover, take_back, write_intent
from tasks.held import discard, held, hold, release
from tasks.runs import abandon, begin_run
from tasks.staging import Run, Staging, bundle_lock, stage_part

__all__ = [
    "Arranged",
    "Run",
    "Staging",
    "abandon",
    "begin_run",
    "commit",
    "discard",
    "held",
    "hold",
    "recover",
    "release",
    "settle",
    "settled_quarantine",
    "settled_rows",
    "stage_part",
]


def settle(run: Run) -> Arranged:
    """Decide which rows are this run's, once every shard is finished; the night may be evaluated on exactly these.

    Holds the bundle's lock from here until `commit`, `hold` or `run.close()`. Raises StorageError where a shard is not
    finished, or where earlier commits cannot be read.
    """
    storage = run.staging.storage
    if not run.holds_bundle:
        run.hold_bundle(bundle_lock(storage, run.bundle))
    recover(storage, run.bundle, locked=True)
    intent = run.staging.intent()
    if intent is not None:  # an earlier `commit` of this very run failed halfway, say on a full disk
        if find_commit(storage, run.bundle, run.id) is not None:
            raise StorageError(
                "This run is committed already, although its commit was told as failed.",
                file=storage.describe(run.staging.key()),
                todo="begin the night again: what was finished is kept, and nothing is scored twice",
            )
        take_back(storage, intent)
    return arrange_since(run.staging, run.bundle, run.night)


def settled_rows(run: Run, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The settled predictions, one table a shard; columns as in darkroom.schemas.PREDICTIONS."""
    for key in published(run.staging, "predictions"):
        yield run.staging.read_table(key, columns)


def settled_quarantine(run: Run) -> Iterator[pa.Table]:
    """The settled quarantine rows: for tasks.quarantine.keep_copies and the page."""
    for key in published(run.staging, "quarantine"):
        yield run.staging.read_table(key)


def commit(run: Run, settled: Arranged, summary: NightSummary, drift: Rows = None, estimates: Rows = None) -> Commit:
    """Make the settled rows, the drift rows (schema DRIFT) and the estimates (ESTIMATES) part of the results, for good.

    What can be counted in the summary (counts, trusted, suspect, classes, quarantine_reasons) is taken from the rows;
    its verdict and findings stay as they are. Returns the commit, with its number in its summary.
    """
    write_intent(run.staging, "intent.json", intent_of(run, settled, summary, drift, estimates))
    done = finish(run.staging)
    run.unlock_bundle()
    return done
