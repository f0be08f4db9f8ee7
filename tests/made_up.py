"""Nights without a model: real files, made-up predictions, and the protocol that commits them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from darkroom import results as committed
from darkroom.night import folder_of_night
from darkroom.reasons import NightVerdict, Reason
from darkroom.schemas import (
    CATEGORICAL_PROPERTIES,
    DESCRIPTIVE_PROPERTIES,
    DRIFT,
    ESTIMATES,
    NUMERIC_PROPERTIES,
    PREDICTIONS,
)
from darkroom.storage import storage_at, store_address
from darkroom.summary import Counts, NightSummary
from tasks import publish
from tasks.identity import NotRead
from tasks.intake import take_in
from tasks.ledger import open_ledger
from tasks.object_inbox import fetch, file_at
from tasks.quarantine import Refusal, keep_copies
from tasks.refusal import ImageRefused
from tasks.released import with_released
from tasks.worker_main import read_file

BUNDLE = "parts-1-0123456789ab"
NIGHT = date(2026, 3, 1)
CLASSES = ("bolt", "nut", "washer")
BROKEN = b"broken"


def draw(path: Path, seed: int, size: tuple[int, int] = (9, 6), file_format: str = "PNG") -> bytes:
    """A small, non-square image of its own content; returns its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, file_format)
    return path.read_bytes()


def draw_inbox(inbox: Path, images: int = 9, broken: int = 1) -> Path:
    """Images, a copy of one, broken ones, and a text."""
    for number in range(images):
        draw(inbox / f"cam{number % 2}" / f"image-{number:03d}.png", number)
    (inbox / "again.png").write_bytes((inbox / "cam0" / "image-000.png").read_bytes())
    for number in range(broken):
        (inbox / f"broken-{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + BROKEN + bytes([number]))
    (inbox / "notes.txt").write_text("not an image")
    return inbox


def predictions(rows: pa.Table) -> pa.Table:
    """Made-up rows that depend on the content and on nothing else."""
    made = []
    for row in rows.to_pylist():
        digest = hashlib.sha256(row["content_id"].encode()).digest()
        share = digest[0] / 255
        made.append(
            {
                "content_id": row["content_id"],
                "path": row["path"],
                "predicted_class": CLASSES[digest[1] % 3],
                "confidence": share,
                "margin": share,
                "probabilities": [share, 1 - share, 0.0],
                "embedding": [float(value) for value in digest],
                "verdict": "suspect" if digest[2] % 4 == 0 else "trusted",
                "reasons": ["low_confidence"] if digest[2] % 4 == 0 else [],
                **dict.fromkeys(NUMERIC_PROPERTIES, float(digest[3])),
                **dict.fromkeys(CATEGORICAL_PROPERTIES, "x"),
                **dict.fromkeys(DESCRIPTIVE_PROPERTIES),
                "scored_at": datetime.now(UTC),
            }
        )
    return pa.Table.from_pylist(made, schema=PREDICTIONS)


def bytes_at(place: Path) -> bytes:
    """On a disk, or in an object store."""
    address = store_address(place)
    return read_file(str(place), 10**9) if address is None else fetch(address, 10**9)


def look_at(staging: publish.Staging, shard: int, inbox: Path, *, mended: bool = False) -> None:
    """One shard: what says it is broken is refused (unless the decoder was mended), what is gone or changed is
    deferred, the rest is predicted.
    """
    rows = staging.shard(shard)
    good, refused = [], []
    for position, row in enumerate(rows.to_pylist()):
        try:
            data = bytes_at(file_at(inbox, row["path"]))
        except (ImageRefused, NotRead) as problem:
            refused.append(Refusal(row["path"], row["content_id"], problem.reason, size=row["size"]))
            continue
        if hashlib.sha256(data).hexdigest() != row["content_id"]:
            refused.append(Refusal(row["path"], row["content_id"], Reason.CHANGED_WHILE_READING, size=row["size"]))
        elif BROKEN in data and not mended:
            refused.append(Refusal(row["path"], row["content_id"], Reason.BROKEN_DATA, "made so", row["size"]))
        else:
            good.append(position)
    publish.stage_part(staging, shard, predictions(rows.take(pa.array(good, pa.int64()))), refused, b"sketch")


def summary_of(run: publish.Run, settled: publish.Arranged, verdict: NightVerdict = NightVerdict.OK) -> NightSummary:
    moment = datetime(2026, 3, 2, 2, tzinfo=UTC)
    return NightSummary(
        bundle_id=run.bundle,
        night=run.night,
        run_id=run.id,
        inbox=run.inbox,
        verdict=verdict,
        headline="All is well.",
        counts=Counts(),
        started_at=moment,
        finished_at=moment,
        parameters={"shard_size": 4},
        versions={"darkroom": "0"},
    )


def drift_rows() -> pa.Table:
    row: dict[str, Any] = dict.fromkeys(DRIFT.names)
    words = {"family": "properties", "metric": "sharpness", "statistic_name": "KS", "verdict": "ok"}
    return pa.Table.from_pylist([{**row, **words, "n": 9, "n_reference": 80}], schema=DRIFT)


def estimate_rows() -> pa.Table:
    row: dict[str, Any] = dict.fromkeys(ESTIMATES.names)
    return pa.Table.from_pylist(
        [{**row, "quantity": "accuracy", "name": "ladder", "value": 0.8, "n": 9}], schema=ESTIMATES
    )


def score(
    results: Path,
    inbox: Path,
    *,
    night: date = NIGHT,
    bundle: str = BUNDLE,
    shard_size: int = 4,
    rehash: bool = False,
    formats: tuple[str, ...] = ("PNG", "JPEG"),
    mended: bool = False,
    verdict: NightVerdict = NightVerdict.OK,
    before_shards: Callable[[publish.Run], None] | None = None,
    before_settling: Callable[[publish.Run], None] | None = None,
    before_commit: Callable[[publish.Run], None] | None = None,
) -> committed.Commit:
    """A whole night, in the order in which the flow does it; an inbox may hold the night, as `inbox/{night}`."""
    where, inbox = str(inbox), folder_of_night(str(inbox), night)
    with publish.begin_run(results, bundle, night, inbox) as run:
        if run.staging.frozen() is None:
            ledger = open_ledger(results, bundle)
            manifest = take_in(
                inbox, formats=formats, ledger=ledger, rehash=rehash, settle_seconds=0, exclude=[results]
            )
            manifest = with_released(manifest, ledger, inbox=where, formats=formats)
            run.staging.freeze(manifest, shard_size)
        if before_shards is not None:
            before_shards(run)
        for shard in run.staging.unfinished():
            look_at(run.staging, shard, inbox, mended=mended)
        if before_settling is not None:
            before_settling(run)
        settled = publish.settle(run)
        for rows in publish.settled_quarantine(run):
            keep_copies(storage_at(results), inbox, rows)
        if before_commit is not None:
            before_commit(run)
        return publish.commit(run, settled, summary_of(run, settled, verdict), drift_rows(), estimate_rows())


def rows_of(results: Path) -> list[tuple[str, str, str, str]]:
    """What a reader of the commits sees, without run and time."""
    names = ["content_id", "path", "predicted_class", "verdict"]
    frame = committed.read(results, columns=names)
    return sorted(map(tuple, frame.itertuples(index=False, name=None)))


def balanced(results: Path) -> bool:
    """Whether every commit accounts for every path, and its rows for every scored one."""
    return all(
        commit.counts.balanced
        and _rows(commit, "files") == commit.counts.seen
        and _rows(commit, "predictions") == commit.counts.scored
        and _rows(commit, "quarantine") == commit.counts.quarantined
        for bundle in committed.bundles(results)
        for commit in committed.commits(results, bundle)
    )


def _rows(commit: committed.Commit, dataset: str) -> int:
    return sum(part.rows for part in commit.parts if part.dataset == dataset)


if __name__ == "__main__":
    score(Path(sys.argv[1]), Path(sys.argv[2]))
