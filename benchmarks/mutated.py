"""Nights of images that went bad in every way there is: none is lost, none stops a night, none holds it up.

`python -m benchmarks.mutated SLOWEST ARGUMENT …` is `darkroom ARGUMENT …`, which writes to the file SLOWEST how many
seconds the file took that took longest, from the question to a decoding process until its answer.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from shutil import copyfile, rmtree
from typing import Any, Final

from PIL import Image, features

from benchmarks.harness import Measured
from benchmarks.million import peak_of, room
from darkroom import results as committed
from darkroom.reasons import FileStatus, Reason
from tasks.bundle import Bundle, seal_bundle
from tasks.decode import Limits
from tasks.formats import FORMAT_EXTENSIONS, sniff
from tasks.intake import IMAGE_SUFFIXES
from tasks.knobs import FORMATS
from tests.doors import several
from tests.mutations import mutated as mutate
from tests.tiny import draw_images, drawn, encoded, knowing, sealed_contents, tiny_preprocessing

FILES: Final = 100_000
A_NIGHT: Final = 20_000
SEED: Final = 11
FIRST: Final = date(2026, 3, 1)
# Of larger ones few would fit on a disk, and mutations would meet pixels only.
_LARGEST: Final = 24_000
_PHOTOS: Final = 12
# How late an answer may come that is killed at the limit: the parent waits, kills, and says so.
_GRACE: Final = 1.0
_SAVED: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("JPEG", {"quality": 85}),
    ("JPEG", {"quality": 70, "progressive": True, "comment": b"a comment"}),
    ("PNG", {}),
    ("GIF", {}),
    ("BMP", {}),
    ("WEBP", {"quality": 80}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", {"compression": "jpeg"}),
)


@dataclass(frozen=True)
class Night:
    """How one went: files in its inbox, the exit code, the largest memory (bytes), the slowest file (seconds), files
    that are not accounted for once, and the others by what became of them.
    """

    files: int
    exit_code: int
    peak: int
    slowest: float
    lost: int
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]


def mutated(files: int = FILES, a_night: int = A_NIGHT) -> Mapping[str, Measured]:
    """The files as they are, then mutated ones: each a row of the predictions or of the quarantine, exactly once."""
    from darkroom.orchestrator import api

    nights: list[Night] = []
    started = time.perf_counter()
    with room() as folder, api():
        sealed = _bundle(folder)
        sound = folder / "inbox-0"
        sources = _sources(sound)
        nights.append(_night(sealed, sound, folder / "results", 0))
        draw = random.Random(SEED)
        known = {hashlib.sha256(data).digest() for data in sources}
        for number in range(1, -(-files // a_night) + 1):
            inbox = folder / f"inbox-{number}"
            _write(inbox, sources, min(a_night, files - (number - 1) * a_night), known, draw)
            nights.append(_night(sealed, inbox, folder / "results", number))
    seconds = time.perf_counter() - started
    bad, limit = nights[1:], Limits().max_seconds
    statuses, reasons = Counter[str](), Counter[str]()
    for night in bad:
        statuses.update(night.statuses)
        reasons.update(night.reasons)
    slowest = max(night.slowest for night in nights)
    whole = f"{len(nights)} nights in {seconds:,.0f} s, the first of them {nights[0].files} files as they are"
    return {
        "mutated_files": Measured(sum(night.files for night in bad), whole, [vars(night) for night in nights], [SEED]),
        "mutated_crashes": Measured(
            sum(night.exit_code not in (0, 1) for night in nights),  # 1: an alarm, for so many that cannot be read
            f"the largest of them took {max(night.peak for night in nights) / 1e9:.2f} GB, with its decoding processes",
        ),
        "mutated_unaccounted": Measured(
            sum(night.lost for night in nights), ", ".join(f"{n:,} {one}" for one, n in statuses.most_common())
        ),
        "mutated_hangs": Measured(
            sum(night.slowest > limit + _GRACE for night in nights),
            f"the slowest file took {slowest:.1f} s, the limit is {limit:g} s; quarantined: "
            + ", ".join(f"{n:,} {one}" for one, n in reasons.most_common()),
        ),
    }


def _bundle(folder: Path) -> Bundle:
    """The tiny model of the tests, for every format; what it knows of normal is learned from drawn photos."""
    photos = folder / "photos"
    photos.mkdir()
    draw_images(photos, 200)
    preprocessing = tiny_preprocessing().with_knobs(formats=FORMATS, icc="to_srgb")
    return seal_bundle(folder, "tiny", knowing(sealed_contents(folder / "tiny.keras", photos, preprocessing)))


def _sources(inbox: Path) -> list[bytes]:
    """The odd files of DARKROOM_DATA where it is set, and photos, its own or drawn ones, in every format; as an inbox
    of files that nobody has touched. What comes back is those that are small enough to be mutated.
    """
    inbox.mkdir()
    data = os.environ.get("DARKROOM_DATA")
    odd = [path for path in sorted(Path(data, "images").rglob("*.*")) if path.suffix in IMAGE_SUFFIXES] if data else []
    for number, path in enumerate(odd):
        copyfile(path, inbox / f"{number:04d}{path.suffix}")
    photos = sorted(Path(data, "trashnet").rglob("*.jpg"))[:: 2527 // _PHOTOS][:_PHOTOS] if data else []
    images = [_small(path) for path in photos] or [drawn(seed, (96, 72)) for seed in range(_PHOTOS)]
    ways = [*_SAVED, *([("AVIF", {})] if features.check("avif") else [])]
    for number, image in enumerate(images):
        for way, (kind, how) in enumerate(ways):
            shown = image.quantize(64) if kind == "PNG" and number % 2 else image
            (inbox / f"{number}-{way}{FORMAT_EXTENSIONS[kind][0]}").write_bytes(encoded(shown, kind, **how))
        for kind in ("GIF", "PNG", "WEBP", "TIFF", "MPO"):
            (inbox / f"{number}-several{FORMAT_EXTENSIONS[kind][0]}").write_bytes(
                encoded(image.copy(), kind, **several(image))
            )
    found = {path.read_bytes() for path in inbox.iterdir() if path.stat().st_size <= _LARGEST}
    return sorted(data for data in found if sniff(data) in FORMATS)


def _small(path: Path) -> Image.Image:
    with Image.open(path) as photo:
        return photo.convert("RGB").resize((96, 72))


def _write(inbox: Path, sources: list[bytes], files: int, known: set[bytes], draw: random.Random) -> None:
    """So many files, each with a content that no other has, named as the image that it was."""
    inbox.mkdir()
    for number, data in enumerate(_contents(sources, files, known, draw)):
        suffix = FORMAT_EXTENSIONS[sniff(data[1]) or "JPEG"][0]
        (inbox / f"{number:06d}{suffix}").write_bytes(data[0])


def _contents(
    sources: list[bytes], files: int, known: set[bytes], draw: random.Random
) -> Iterator[tuple[bytes, bytes]]:
    """(mutated, as it was)."""
    while files:
        source, other = draw.choice(sources), draw.choice(sources)
        _, data = mutate(source, other, draw)
        digest = hashlib.sha256(data).digest()
        if digest not in known:
            known.add(digest)
            files -= 1
            yield data, source


def _night(sealed: Bundle, inbox: Path, results: Path, number: int) -> Night:
    """`darkroom score` in a process of its own, and what a reader finds of it; the inbox is removed."""
    night, slowest = FIRST + timedelta(days=number), inbox.with_suffix(".slowest")
    command = ["score", str(sealed.path), str(inbox), "--results", str(results), "--night", str(night), "--json"]
    with inbox.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mutated", str(slowest), *command], stdout=log, stderr=log
        )
        peak = peak_of(process)
    if process.returncode not in (0, 1):
        print(inbox.with_suffix(".log").read_text(errors="replace")[-4000:], file=sys.stderr)
    there = {path.name for path in inbox.iterdir()}
    lost, statuses, reasons = accounted(results, night, there)
    rmtree(inbox)
    return Night(len(there), process.returncode, peak, float(slowest.read_text()), lost, dict(statuses), dict(reasons))


def accounted(results: Path, night: date, there: set[str]) -> tuple[int, Counter[str], Counter[str]]:
    """How many files are not exactly once what they are said to be; the files by status, the refused by reason.

    A scored file is one row of the predictions, a quarantined one is one of the quarantine, with a reason; a duplicate
    has the content of one of these.
    """
    files, rows, refused = (
        committed.read(results, dataset, night=night) for dataset in ("files", "predictions", "quarantine")
    )
    seen, predicted, held = Counter(files["path"]), Counter(rows["path"]), Counter(refused["path"])
    contents = {*rows["content_id"], *refused["content_id"]}
    wrong = set(there ^ seen.keys()) | (predicted.keys() | held.keys()) - there
    for name, status, content in zip(files["path"], files["status"], files["content_id"], strict=True):
        once = (seen[name], predicted[name], held[name])
        right = {FileStatus.SCORED: (1, 1, 0), FileStatus.QUARANTINED: (1, 0, 1)}.get(status)
        if once != right and not (status == FileStatus.DUPLICATE and once == (1, 0, 0) and content in contents):
            wrong.add(name)
    wrong |= {name for name, reason in zip(refused["path"], refused["reason"], strict=True) if reason not in [*Reason]}
    return len(wrong), Counter(files["status"]), Counter(refused["reason"])


def main(slowest: Path, *arguments: str) -> None:
    """`darkroom`, with a look at its watch."""
    from darkroom.cli import app
    from tasks.worker_process import WorkerProcess

    longest, ask = 0.0, WorkerProcess.ask

    def timed(self: WorkerProcess, *question: Any) -> Any:
        nonlocal longest
        if self._connection is None:
            self._start()  # which the limit is not about
        started = time.perf_counter()
        try:
            return ask(self, *question)
        finally:
            longest = max(longest, time.perf_counter() - started)

    WorkerProcess.ask = timed  # type: ignore[method-assign]
    try:
        app(list(arguments))
    finally:
        slowest.write_text(f"{longest}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
