"""The doors by which a stranger's bytes come in, and the law of each: a value, or a refusal of ours that can be told.

benchmarks.fuzz looks for bytes that break it, guided by the code that they reach; tests.test_doors knocks at each.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image

from darkroom.errors import DarkroomError
from darkroom.names import from_text
from darkroom.storage import LocalStorage
from expectations.knowledge import Knowledge
from expectations.outliers import judge_rows
from expectations.suite import LearnedSuite, learn_suite
from expectations.validation import finish_rows, run_night, run_rows
from tasks.bundle import Bundle, open_bundle, seal_bundle
from tasks.bundle.manifest import MANIFEST, MODEL, bundle_id, file_digest
from tasks.decode import ImageRefused, Limits, thumbnail
from tasks.goldens.replay import prepare_goldens
from tasks.graphs import read_graph
from tasks.intake import take_in
from tasks.keras_archive import check_archive
from tasks.knobs import FORMATS, OPENCV_FORMATS
from tasks.labels_file import read_labels
from tasks.ledger import open_ledger
from tasks.predictions_file import read_predictions
from tasks.preprocessing import prepare
from tasks.presets import preset
from tasks.properties import measure
from tests.normal_rows import CLASSES, rows_of_sessions
from tests.tiny import draw_images, drawn, encoded, knowing, sealed_contents, tiny_preprocessing

LONGEST_WORD: Final = 5000  # of a refusal: it may quote a file, and is for a person
LIMITS: Final = Limits(max_pixels=1_000_000, max_bytes=1_000_000)
PHOTOS: Final = ("a/one.jpg", "a/two.jpg", "b/two.jpg", "b/three.png")
NOW: Final = datetime(2026, 3, 9, 7, tzinfo=UTC)


@dataclass(frozen=True)
class Door:
    """`enter` takes bytes as far as they get; `seeds` are some that get far."""

    enter: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]


def knock(door: Door, data: bytes) -> str | None:
    """What a refusal says; None where the bytes were let in. Raises whatever is neither."""
    try:
        door.enter(data)
    except (DarkroomError, ImageRefused) as refused:
        said = str(refused)
        if len(said) > LONGEST_WORD:
            raise AssertionError(f"a refusal that cannot be told: {said[:200]}") from refused
        return said
    return None


@cache
def _room() -> Path:
    """A folder of this process, in memory where there is such a place: files are written many times a second."""
    memory = Path("/dev/shm")
    room = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
    _kept.append(room)
    return Path(room.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _written(name: str, data: bytes) -> Path:
    path = _room() / name
    path.write_bytes(data)
    return path


# -- images: a byte that chooses the preparation, then the file


def _preparations() -> Sequence[Any]:
    plain = preset("load_img", size=(16, 24), interpolation="bilinear", formats=FORMATS)
    converting = {"icc": "to_srgb", "alpha": "on_white", "exif_orientation": "applied", "cmyk": "inverted"}
    padded = {"truncated": "padded", "palette": "index", "sixteen_bit": "high_byte", "jpeg_ratio": 2}
    by_opencv = preset("opencv", size=(16, 24), formats=OPENCV_FORMATS)
    return plain, plain.with_knobs(**converting), plain.with_knobs(**padded), by_opencv


PREPARATIONS: Final = _preparations()


def _image(data: bytes) -> None:
    """As a decoding process does it."""
    image = prepare(data[1:], PREPARATIONS[data[0] % len(PREPARATIONS) if data else 0], LIMITS)
    json.dumps(measure(image.header, image.decoded.raster))
    thumbnail(image.pixels, 16)


def several(image: Image.Image) -> dict[str, Any]:
    """How to save it with a second frame, made anew: settings of a JPEG stay on what was saved, and TIFF fails."""
    return {"save_all": True, "append_images": [image.rotate(180)]}


def images() -> list[bytes]:
    """One or two of each format."""
    small, grey = drawn(1, (24, 16)), drawn(2, (17, 9)).convert("L")
    exif = small.getexif()
    exif[0x0112], exif[0x010F] = 6, "somebody"
    return [
        encoded(small, exif=exif),
        encoded(small, progressive=True, comment=b"a comment"),
        encoded(small.convert("CMYK")),
        encoded(small, "MPO", **several(small)),
        encoded(small, "PNG"),
        encoded(small.quantize(16), "PNG", transparency=3),
        encoded(small, "PNG", **several(small)),
        encoded(grey.convert("I;16"), "PNG"),
        encoded(small, "GIF", **several(small)),
        encoded(small, "BMP"),
        encoded(grey.quantize(16), "BMP"),
        encoded(small, "WEBP"),
        encoded(small, "WEBP", lossless=True, **several(small)),
        encoded(small, "TIFF"),
        encoded(small, "TIFF", compression="tiff_lzw"),
        encoded(grey.convert("F"), "TIFF"),
        encoded(small.copy(), "TIFF", **several(small)),
        encoded(small, "PPM"),
        encoded(small, "ICO"),
    ]


# -- an inbox: the length of a name, the name, then the file


def _inbox(data: bytes) -> None:
    length = data[0] if data else 0
    name, content = data[1 : 1 + length].translate(bytes.maketrans(b"/\0", b"__")) or b"_", data[1 + length :]
    name = b"_" if name in (b".", b"..") else name[:255]
    folder = _room() / "inbox"
    folder.mkdir()
    try:
        Path(folder, os.fsdecode(name)).write_bytes(content)
        ledger = open_ledger(LocalStorage(_room() / "no-results"), "none-1-0123456789ab")
        manifest = take_in(folder, formats=("JPEG", "PNG"), ledger=ledger, settle_seconds=0, max_bytes=4096, threads=1)
    finally:
        shutil.rmtree(folder)
    (row,) = manifest.files.to_pylist()
    assert manifest.counts.balanced
    assert os.fsencode(from_text(row["path"])) == name
    assert row["content_id"] in (None, hashlib.sha256(content).hexdigest())
    assert row["content_id"] is not None or row["status"] != "scored"


def _in_an_inbox() -> list[bytes]:
    names = (b"a.png", b"a.jpg", b"notes.txt", b".hidden", b"a.png.part", b"\xff\xfe\n.jpg", "über.heic".encode())
    return [bytes([len(name)]) + name + data for name in names for data in (b"", b"BM", encoded(drawn(1), "PNG"))]


# -- a bundle: a byte that chooses the file, then its content; every digest holds


@cache
def bundle() -> Path:
    """Sealed, with everything that a training knows of normal."""
    photos = _room() / "photos"
    photos.mkdir()
    draw_images(photos, 20)
    contents = sealed_contents(_room() / "tiny.keras", photos, tiny_preprocessing())
    return seal_bundle(_room() / "models", "tiny", knowing(contents)).path


def put(place: Path, name: str, data: bytes) -> None:
    """A file of the bundle is replaced, and every digest and the id follow from it."""
    (place / name).write_bytes(data)
    stated = json.loads((place / MANIFEST).read_text())
    stated["digests"][name] = file_digest(place / name)
    (place / MANIFEST).write_text(json.dumps(stated | {"id": bundle_id(stated)}))


@cache
def files() -> tuple[str, ...]:
    """What is read of a bundle: bundle.json, the first golden, and all but the model and the other goldens."""
    names = sorted(json.loads((bundle() / MANIFEST).read_text())["digests"])
    goldens = [name for name in names if name.startswith("goldens/") and not name.endswith(".parquet")]
    return MANIFEST, goldens[0], *(name for name in names if name not in (*goldens, MODEL, "card.md"))


def _opened(data: bytes) -> None:
    name, content = files()[data[0] % len(files()) if data else 0], data[1:]
    sound, statements = (bundle() / name).read_bytes(), (bundle() / MANIFEST).read_bytes()
    try:
        if name == MANIFEST:
            (bundle() / MANIFEST).write_bytes(_with_id(content))
        else:
            put(bundle(), name, content)
        opened = open_bundle(bundle())
        if name.startswith("goldens/"):
            prepare_goldens(opened.goldens(), opened.preprocessing)
        else:
            opened.profile()
            opened.embeddings()
            _doubted(opened.understood(lambda read: Knowledge.from_files(read, opened.has)))
    finally:
        (bundle() / name).write_bytes(sound)
        (bundle() / MANIFEST).write_bytes(statements)


def _doubted(known: Knowledge) -> None:
    """As the rows of a shard are."""
    rows, _ = _rows()
    embeddings = np.ones((len(rows), len(known.projection.centre)), np.float32)
    known.projection.apply(embeddings)
    judge_rows(
        known.calibration.calibrated(np.stack([*rows["probabilities"]])).max(axis=1),
        known.outliers.score(rows),
        known.neighbours.score(embeddings),
        [[] for _ in range(len(rows))],
        known.calibration,
    )


def _with_id(content: bytes) -> bytes:
    """With the id that follows, where one does: nothing behind it would be read otherwise."""
    with suppress(ValueError, RecursionError, AttributeError):
        stated = json.loads(content)
        return json.dumps(stated | {"id": bundle_id(stated)}).encode() if isinstance(stated, dict) else content
    return content


def _of_a_bundle() -> list[bytes]:
    return [bytes([number]) + (bundle() / name).read_bytes() for number, name in enumerate(files())]


# -- a model: a byte that chooses the part, then its content; Keras and TensorFlow are not asked


def _model(data: bytes) -> None:
    parts = _model_parts()
    which, content = data[0] % (len(parts) + 2) if data else 0, data[1:]
    if which == len(parts):
        read_graph(_written("model.pb", content))
    elif which == len(parts) + 1:
        check_archive(_written("whole.keras", content))
    else:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            for name, part in {**parts, list(parts)[which]: content}.items():
                archive.writestr(name, part)
        check_archive(_written("parts.keras", sink.getvalue()))


@cache
def _model_parts() -> dict[str, bytes]:
    with zipfile.ZipFile(bundle() / MODEL) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist())}


def _of_a_model() -> list[bytes]:
    from tasks.graphs import freeze_keras, write_graph
    from tasks.inference import load_engine

    engine = load_engine(bundle() / MODEL, "embedding")
    graph = write_graph(
        freeze_keras(engine.model, engine.input_shape, "float32", bundle()).definition, _room() / "g.pb"
    )
    parts = [*_model_parts().values(), graph.read_bytes(), (bundle() / MODEL).read_bytes()]
    return [bytes([number]) + part for number, part in enumerate(parts)]


# -- a suite: parsed as of a bundle, and run


@cache
def _rows() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of a small shard, and the metrics of its night."""
    rows, _ = rows_of_sessions(2, 1)
    return rows, pd.DataFrame({"share_suspect": [0.1], "share_quarantined": [0.0]})


def _suite(data: bytes) -> None:
    rows, metrics = _rows()
    there = Bundle.__new__(Bundle)
    object.__setattr__(there, "path", Path("models/tiny/1"))
    object.__setattr__(there, "read_bytes", lambda _: data)
    learned = there.understood(lambda read: LearnedSuite.from_json(read("suite.json").decode()))
    finish_rows(learned, run_rows(learned, rows))
    run_night(learned, metrics, learned.limits(len(rows)))


def _suites() -> list[bytes]:
    rows, session = rows_of_sessions(1, 12)
    profile = rows.assign(split=np.where(session % 4, "train", "validation"), group=session)
    whole = json.loads(learn_suite(profile, suspect=3, refused=1).to_json())
    few = {**whole, "suite": {**whole["suite"], "expectations": whole["suite"]["expectations"][::12]}}
    return [json.dumps(few).encode()]


# -- tables that somebody wrote


def _predictions(data: bytes) -> None:
    read_predictions(_written("theirs", data), CLASSES, PHOTOS)


def _labels(data: bytes) -> None:
    read_labels(_written("labels", data), CLASSES, NOW)


def _table(**columns: Sequence[object]) -> list[bytes]:
    """One table in every form in which tables come."""
    frame = pd.DataFrame(columns)
    parquet = io.BytesIO()
    frame.to_parquet(parquet)
    texts = [frame.to_csv(index=False), frame.to_csv(index=False, sep=";", decimal=",")]
    texts += [frame.to_json(orient=form) for form in ("records", "columns", "index", "split")]
    texts += [frame.to_json(orient="records", lines=True)]
    return [*(text.encode() for text in texts), texts[0].encode("utf-16"), parquet.getvalue()]


def _tables_of_predictions() -> list[bytes]:
    shares = np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.6, 0.3, 0.0], [0.25, 0.25, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0]])
    return [
        *_table(path=PHOTOS, **dict(zip(CLASSES, shares.T, strict=True))),
        *_table(file=PHOTOS, probabilities=shares.tolist()),
        *_table(image=PHOTOS, predicted_class=CLASSES, confidence=[0.5, 99, 1.0, 1e-3]),
    ]


def _tables_of_labels() -> list[bytes]:
    stated = ["2026-03-01", "2026-03-01T07:30:00+02:00", None, "20260302"]
    return [
        *_table(path=PHOTOS, label=CLASSES, labelled_at=stated, night=stated[:1] * 4, source=["ada"] * 4),
        *_table(
            content_id=["0" * 64, "sha256:" + "A" * 64] * 2, label=CLASSES, stratum=["s"] * 4, stratum_rows=[9] * 4
        ),
    ]


DOORS: Final[dict[str, Door]] = {
    "image": Door(_image, lambda: [bytes([n % len(PREPARATIONS)]) + one for n, one in enumerate(images())]),
    "inbox": Door(_inbox, _in_an_inbox),
    "bundle": Door(_opened, _of_a_bundle),
    "model": Door(_model, _of_a_model),
    "suite": Door(_suite, _suites),
    "predictions": Door(_predictions, _tables_of_predictions),
    "labels": Door(_labels, _tables_of_labels),
}
