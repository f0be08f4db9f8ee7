"""A small world to try darkroom in: metal parts on an inspection line, photographed in sessions.

Everything is drawn with numpy and Pillow, from a seed: the same seed gives the same files.

| folder | what is in it |
|---|---|
| training | `<class>/<session>/<name>.jpg`: four kinds of parts; a few photos are grey, a few are PNG with alpha |
| night "good" | `<session>/<name>.jpg`: new sessions from the distribution of the training sessions |
| night "dim" | the same parts under a failing lamp, through a soft lens |
| night "strange" | good photos, and between them a new kind of part, phone photos on their side, broken files |

The truth of a night lies beside its folder, where scoring does not look: `<folder>.truth.csv`, columns path and label.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from darkroom.demo_world.broken import draw_broken
from darkroom.demo_world.scene import (
    LINE_CAMERAS,
    Camera,
    Conditions,
    Session,
    dim_conditions,
    line_conditions,
    phone_conditions,
)
from darkroom.errors import WrongUse

NightKind = Literal["good", "dim", "strange"]

CLASSES: Final[tuple[str, ...]] = ("bracket", "gear", "hex_nut", "washer")
NEW_CLASS: Final = "bolt"
SESSION_IMAGES: Final = 20
GREY_SHARE: Final = 0.06
ALPHA_SHARE: Final = 0.012

_TRAINING_START: Final = datetime(2026, 2, 9, 6)
_NIGHT_START: Final = {
    "good": datetime(2026, 3, 2, 18),
    "dim": datetime(2026, 3, 3, 18),
    "strange": datetime(2026, 3, 4, 18),
}
# Streams of chance that never meet: one number for the training folder, one for each kind of night.
_STREAMS: Final = {"training": 0, "good": 1, "dim": 2, "strange": 3}


@dataclass(frozen=True)
class _Drawn:
    kind: str  # what the photo shows
    session: str
    name: str
    content: bytes


def draw_training(folder: Path, *, images: int = 640, seed: int = 0) -> None:
    """Draw a labelled folder: `<folder>/<class>/<session>/<name>`, every class equally often in every session.

    Args:
        folder: made if need be; files of the same name are overwritten.
        images: how many; sessions have 20 each, the last one the rest.
        seed: another seed is another folder of the same world.

    """
    for drawn in _draw_line("training", _TRAINING_START, images, seed):
        target = folder / drawn.kind / drawn.session
        target.mkdir(parents=True, exist_ok=True)
        (target / drawn.name).write_bytes(drawn.content)


def draw_night(folder: Path, kind: NightKind, *, images: int = 160, seed: int = 0) -> None:
    """Draw one night's inbox, `<folder>/<session>/<name>`, and its truth beside it.

    Args:
        folder: made if need be; its truth is `<folder>.truth.csv`.
        kind: "good", "dim" or "strange".
        images: how many whole images; the broken files of a strange night (six, and a note) come on top.
        seed: another seed is another night of the same kind.

    """
    if kind not in _NIGHT_START:
        raise WrongUse("There is no such kind of night.", expected=", ".join(_NIGHT_START), found=kind)
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    drawings = _draw_strange(images, seed) if kind == "strange" else _draw_line(kind, _NIGHT_START[kind], images, seed)
    sample = b""
    for drawn in drawings:
        (folder / drawn.session).mkdir(exist_ok=True)
        (folder / drawn.session / drawn.name).write_bytes(drawn.content)
        rows.append((f"{drawn.session}/{drawn.name}", drawn.kind))
        sample = sample or (drawn.content if drawn.name.endswith(".jpg") else b"")
    if kind == "strange" and sample:
        draw_broken(folder / rows[0][0].split("/")[0], sample)
    with truth_path(folder).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        writer.writerows(sorted(rows))


def truth_path(folder: Path) -> Path:
    """Where the truth of a drawn night lies."""
    return folder.with_name(folder.name + ".truth.csv")


def _draw_line(stream: str, start: datetime, images: int, seed: int) -> Iterator[_Drawn]:
    """Sessions at the line, cameras in turn, four hours apart on each."""
    conditions_of = dim_conditions if stream == "dim" else line_conditions
    for number, first in enumerate(range(0, images, SESSION_IMAGES)):
        rng = np.random.default_rng([seed, _STREAMS[stream], number])
        camera = LINE_CAMERAS[number % len(LINE_CAMERAS)]
        hour = start + timedelta(hours=(4 if stream == "training" else 1) * (number // len(LINE_CAMERAS)))
        count = min(SESSION_IMAGES, images - first)
        kinds = [CLASSES[(first + i) % len(CLASSES)] for i in range(count)]
        yield from _draw_session(conditions_of(camera, rng), hour, kinds, rng)


def _draw_strange(images: int, seed: int) -> Iterator[_Drawn]:
    """Two thirds as ever; one photo in five shows a bolt; the rest was taken with a phone."""
    bolts, phones = images // 5, images // 8
    usual = images - bolts - phones
    stream = _STREAMS["strange"]
    start = _NIGHT_START["strange"]
    line = [CLASSES[i % len(CLASSES)] for i in range(usual)] + [NEW_CLASS] * bolts
    np.random.default_rng([seed, stream]).shuffle(line)
    for number, first in enumerate(range(0, len(line), SESSION_IMAGES)):
        rng = np.random.default_rng([seed, stream, number])
        camera = LINE_CAMERAS[number % len(LINE_CAMERAS)]
        hour = start + timedelta(hours=number // len(LINE_CAMERAS))
        yield from _draw_session(line_conditions(camera, rng), hour, line[first : first + SESSION_IMAGES], rng)
    if phones:
        rng = np.random.default_rng([seed, stream, 1_000_000])
        kinds = [CLASSES[i % len(CLASSES)] for i in range(phones)]
        yield from _draw_session(phone_conditions(rng), start + timedelta(hours=5), kinds, rng)


def _draw_session(conditions: Conditions, start: datetime, kinds: list[str], rng: Generator) -> Iterator[_Drawn]:
    """Photograph parts of the given kinds in random order, a few seconds apart."""
    camera = conditions.camera
    session = Session(conditions, rng)
    name = f"{start:%Y-%m-%d-%H}h-{camera.name.lower().replace(' ', '-')}"
    at = start
    for number, index in enumerate(rng.permutation(len(kinds))):
        at += timedelta(seconds=float(rng.uniform(4, 12)))
        pixels = session.photograph(kinds[index], rng)
        suffix, content = _encode(pixels, camera, at, rng)
        yield _Drawn(kinds[index], name, f"part-{start:%m%d%H}{camera.width}-{number:03d}.{suffix}", content)


def _encode(pixels: NDArray[np.uint8], camera: Camera, at: datetime, rng: Generator) -> tuple[str, bytes]:
    """The file: mostly JPEG; now and then grey, or a PNG whose margin the labelling tool made transparent."""
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0110] = camera.name  # Model
    exif[0x0112] = camera.orientation
    exif.get_ifd(0x8769)[0x9003] = f"{at:%Y:%m:%d %H:%M:%S}"  # DateTimeOriginal
    chance = rng.random()
    quality = camera.quality + int(rng.integers(-2, 3))
    buffer = io.BytesIO()
    if chance < ALPHA_SHARE and camera.orientation == 1:
        alpha = Image.new("L", image.size)
        margin = int(rng.integers(8, 20))
        alpha.paste(255, (margin, margin, image.width - margin, image.height - margin))
        image.putalpha(alpha)
        image.save(buffer, "PNG", exif=exif, compress_level=3)
        return "png", buffer.getvalue()
    if chance < ALPHA_SHARE + GREY_SHARE and camera.orientation == 1:
        image = image.convert("L")
    image.save(buffer, "JPEG", quality=quality, exif=exif)
    return "jpg", buffer.getvalue()
