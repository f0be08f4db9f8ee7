"""Large folders: a night over a million files that were all scored before, and the memory of a night of many images."""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.harness import Measured, Row
from benchmarks.night import _family
from darkroom.results import commits
from darkroom.schemas import PREDICTIONS
from tasks import publish
from tasks.bundle import Bundle
from tasks.intake import take_in
from tasks.ledger import open_ledger
from tests.made_up import predictions, summary_of

KNOWN: Final = 1_000_000
NEW: Final = 10
A_FOLDER: Final = 1_000
TRIALS: Final = 3
FEW, MANY = 1_000, 100_000
DRAWN: Final = 300  # distinct pictures of the memory row; every file has a content of its own
FIRST: Final = date(2026, 3, 1)


@dataclass(frozen=True)
class Cost:
    """Of one process, from its start to its end: wall and processor seconds, the most that it held, in bytes."""

    seconds: float
    processor: float
    peak: int


@contextmanager
def room() -> Iterator[Path]:
    """A folder on the local disk, removed afterwards."""
    folder = Path(mkdtemp(prefix="darkroom-million-"))
    try:
        yield folder
    finally:
        rmtree(folder)


def write_known(inbox: Path, files: int) -> None:
    """Small files that begin as a JPEG does, a thousand a folder, each with a content of its own."""
    for number in range(files):
        folder = inbox / f"{number // A_FOLDER:04d}"
        if number % A_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"image-{number:07d}.jpg").write_bytes(b"\xff\xd8\xff" + number.to_bytes(8, "big"))


def commit_all(sealed: Bundle, inbox: Path, results: Path, night: date) -> None:
    """The night on which all of it was new, with the functions of the flow and made-up predictions."""
    with publish.begin_run(results, sealed.id, night, inbox) as run:
        formats = sealed.preprocessing.decode.formats
        ledger = open_ledger(results, sealed.id)
        run.staging.freeze(take_in(inbox, formats=formats, ledger=ledger, settle_seconds=2), 2000)
        for shard in run.staging.unfinished():
            publish.stage_part(run.staging, shard, made_up(run.staging.shard(shard)))
        settled = publish.settle(run)
        publish.commit(run, settled, summary_of(run, settled))


def made_up(rows: pa.Table) -> pa.Table:
    """One made-up prediction for all of them: of earlier nights only the content ids are read."""
    table = predictions(rows.slice(0, 1)).take(pa.array(np.zeros(len(rows), np.int64)))
    for name in ("content_id", "path"):
        table = table.set_column(PREDICTIONS.get_field_index(name), PREDICTIONS.field(name), rows[name])
    return table


def start_night(sealed: Bundle, inbox: Path, results: Path, night: date) -> subprocess.Popen[bytes]:
    """`darkroom score` in a process of its own, against the server that is named in the environment."""
    command = [sys.executable, "-m", "darkroom.cli", "score", str(sealed.path), str(inbox), "--results", str(results)]
    return subprocess.Popen(
        [*command, "--night", str(night), "--json"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def cost_of_night(sealed: Bundle, inbox: Path, results: Path, night: date) -> Cost:
    """Times by the kernel; memory by its high-water mark, looked at a few times a second: what the kernel tells at the
    end has the memory of this process in it, which the other one began as.
    """
    started = time.perf_counter()
    process = start_night(sealed, inbox, results, night)
    peak, ended = 0, 0
    while not ended:
        peak = max(peak, _most_resident(process.pid))
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        time.sleep(0 if ended else 0.1)
    if os.waitstatus_to_exitcode(status) not in (0, 1):  # 1: an alarm
        raise RuntimeError(f"the night of {night} ended with {os.waitstatus_to_exitcode(status)}")
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, peak)


def _most_resident(process: int) -> int:
    """Bytes; 0 where it is gone, or has not begun."""
    try:
        found = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in found.splitlines() if line.startswith("VmHWM")), 0)


def no_op_night() -> Mapping[str, Measured]:
    """A million files that were all scored before, and ten photos that were not; start-up counts."""
    from benchmarks.speed import bundle, draw_photo
    from darkroom.orchestrator import api

    sealed = bundle(0.35, "load_img")
    costs = []
    with room() as folder, api():
        inbox, results = folder / "inbox", folder / "results"
        write_known(inbox, KNOWN)
        commit_all(sealed, inbox, results, FIRST)
        for trial in range(1, TRIALS + 1):
            for number in range(NEW):
                new = inbox / f"{number:04d}" / f"new-{trial}.jpg"
                draw_photo(trial * NEW + number).save(new, quality=90)
            costs.append(cost_of_night(sealed, inbox, results, FIRST + timedelta(days=trial)))
            counts = commits(results, sealed.id)[-1].counts
            if (counts.scored, counts.scored_before) != (NEW, KNOWN + NEW * (trial - 1)):
                raise RuntimeError(f"the night was another one: {counts}")
    seconds, gigabytes = [cost.seconds for cost in costs], [cost.peak / 1e9 for cost in costs]
    processor = statistics.median(cost.processor for cost in costs)
    return {
        "no_op_seconds": Measured(
            statistics.median(seconds),
            f"{min(seconds):.1f} – {max(seconds):.1f} of `darkroom score` from its start to its end, against a server "
            f"that runs; {processor:.1f} s of processor",
            [vars(cost) for cost in costs],
        ),
        "no_op_gigabytes": Measured(max(gigabytes), "resident, at most, of the process that runs the flow", gigabytes),
    }


def write_many(inbox: Path, drawn: list[bytes], files: int) -> None:
    """JPEGs with a comment of their own: a picture of few, and a content that no other file has."""
    for number in range(files):
        folder = inbox / f"{number // A_FOLDER:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        comment = number.to_bytes(8, "big")
        begin, rest = drawn[number % len(drawn)][:2], drawn[number % len(drawn)][2:]
        marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big")
        (folder / f"image-{number:07d}.jpg").write_bytes(begin + marker + comment + rest)


def peak_of(night: subprocess.Popen[bytes]) -> int:
    """The largest sum of resident sizes of a run and of all that it starts, in bytes, looked at five times a second.

    Pages that they share count in each; proportional sizes would depend on what else runs on the machine.
    """
    largest = 0
    while night.poll() is None:
        largest = max(largest, sum(map(_resident, _family(night.pid))))
        time.sleep(0.2)
    return largest


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def memory() -> Mapping[str, Measured]:
    """A night of a hundred thousand images beside one of a thousand: the run with everything that it starts."""
    from benchmarks.speed import bundle, draw_photo
    from darkroom.orchestrator import api

    def encoded(seed: int) -> bytes:
        file = io.BytesIO()
        draw_photo(seed).save(file, "JPEG", quality=90)
        return file.getvalue()

    sealed = bundle(0.35, "load_img")
    drawn = [encoded(seed) for seed in range(DRAWN)]
    peaks: dict[int, int] = {}
    with room() as folder, api():
        for files in (FEW, MANY):
            inbox, results = folder / f"inbox-{files}", folder / f"results-{files}"
            write_many(inbox, drawn, files)
            peaks[files] = peak_of(start_night(sealed, inbox, results, FIRST))
            scored = commits(results, sealed.id)[-1].counts.scored
            if scored != files:
                raise RuntimeError(f"{scored} of {files} images were scored")
            rmtree(inbox)
    note = ", ".join(f"{files:,} images: {peak / 1e6:,.0f} MB" for files, peak in peaks.items())
    trials: list[Any] = [peaks]
    return {"memory_ratio": Measured(peaks[MANY] / peaks[FEW], f"{note} (resident, summed over all processes)", trials)}


ROWS: Mapping[str, Row] = {"no_op_night": no_op_night, "memory": memory}
