"""How often `darkroom explain` names the cause of a single image that was made to have it."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.harness import Measured, Row
from benchmarks.night import data, trashnet_recipe, work
from darkroom import demo_world
from expectations.cause import Cause
from flows.explaining import explain_bytes
from flows.looking import Instruments, proved
from tasks.corruptions import corrupt
from tasks.knobs import Preprocessing
from tasks.stated_prediction import StatedPrediction, read_stated
from tasks.variants import Replay, applied, catalogue

# Thresholds are the bundle's own; what was chosen by hand was chosen on the bundle of half 0. This is the other half.
HALF = 1
EACH = 100
SEED = 20
CLOSE, CLEAR = 0.2, 0.8  # calibrated top-1 minus top-2
MOVES = 0.1
_DAMAGES = ("gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "jpeg", "truncated", "grey")


@cache
def halves() -> tuple[list[Path], list[Path]]:
    """The photos of trashnet that the bundle knows (training and held-out ones), and those that it has never met."""
    photos = sorted((data() / "trashnet").rglob("*.jpg"))
    first = np.random.default_rng(0).permutation(len(photos)) < len(photos) // 2
    known = first == bool(HALF)
    return (
        [photo for photo, one in zip(photos, known, strict=True) if one],
        [photo for photo, one in zip(photos, known, strict=True) if not one],
    )


@cache
def instruments() -> Instruments:
    """A bundle of one half, proved; DARKROOM_EXPLAIN_MODELS may name a folder that keeps it from run to run."""
    models = Path(os.environ.get("DARKROOM_EXPLAIN_MODELS", work() / "explain"))
    name = f"half{HALF}"
    if not (models / name).exists():
        from darkroom.orchestrator import api
        from darkroom.settings import ExaminationOptions

        folder = work() / name
        for photo in halves()[0]:
            (folder / photo.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, folder / photo.parent.name / photo.name)
        recipe = trashnet_recipe().model_copy(update={"validation_share": 0.3})
        with api():
            from flows.train import train

            train(folder, models, name, recipe, ExaminationOptions(ladder_images=0))
    return proved(models / name)


def causes() -> Mapping[str, Measured]:
    """Five kinds of constructed single images, 100 each; the first cause named is the answer."""
    kinds = {
        Cause.PREPARATION: _prepared_otherwise(),
        Cause.NOISE: _damaged(),
        Cause.OTHER_DISTRIBUTION: _others(),
        **_by_margin(),
    }
    figures = {}
    for cause, images in kinds.items():
        answers: list[tuple[str, str]] = []
        for what, content, stated in images:
            told = explain_bytes(content, instruments(), stated)
            answers.append((what, str(told.explanation.cause)))
        right = sum(answer == cause for _, answer in answers)
        wrong = Counter(f"{what} → {answer}" for what, answer in answers if answer != cause)
        figures[f"explain_{str(cause).replace(' ', '_')}"] = Measured(
            right / max(1, len(answers)),
            f"{right} of {len(answers)}" + "".join(f"; {n} × {what}" for what, n in wrong.most_common(6)),
            answers,
            [SEED],
        )
    return figures


Made = tuple[str, bytes, StatedPrediction | None]


def _prepared_otherwise() -> list[Made]:
    """A photo, and what a random variant that flips it, or moves it by MOVES, says of it: every third time all
    probabilities, the class with its confidence, or the class alone (of one that flips).
    """
    rng = np.random.default_rng(SEED)
    pinned, engine, classes = instruments().bundle.preprocessing, instruments().engine, instruments().bundle.classes
    variants = [one for one in catalogue(pinned) if one.stage != "model"]
    made: list[Made] = []
    for photo in rng.permutation(np.array(halves()[1], object)):
        if len(made) == EACH:
            break
        content = photo.read_bytes()
        replay = Replay(engine, [content], pinned)
        own = replay.probabilities(pinned)[0]
        way = len(made) % 3
        for variant in rng.permutation(np.array(variants, object)):
            changed: Preprocessing | None = applied(pinned, [variant])
            theirs = own if changed is None else replay.probabilities(changed)[0]
            flips = theirs.argmax() != own.argmax()
            if np.isnan(theirs[0]) or not (flips or (way < 2 and np.abs(theirs - own).max() >= MOVES)):
                continue
            made.append((variant.name, content, _stated(theirs, way, classes)))
            break
    return made


def _stated(theirs: NDArray[np.float32], way: int, classes: tuple[str, ...]) -> StatedPrediction:
    name = classes[int(theirs.argmax())]
    told = (str([round(float(value), 6) for value in theirs]), f"{name}={theirs.max():.4f}", name)
    return read_stated(told[way], classes)


def _damaged() -> list[Made]:
    rng = np.random.default_rng(SEED + 1)
    photos = rng.permutation(np.array(halves()[1], object))[:EACH]
    kinds = [_DAMAGES[number % len(_DAMAGES)] for number in range(EACH)]
    return [
        (kind, _damage(photo.read_bytes(), kind, SEED + number), None)
        for number, (photo, kind) in enumerate(zip(photos, kinds, strict=True))
    ]


def _damage(content: bytes, kind: str, seed: int) -> bytes:
    rng = np.random.default_rng([seed, 7])
    if kind == "truncated":
        return content[: int(len(content) * rng.uniform(0.2, 0.85))]
    pixels = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
    if kind == "jpeg":
        return _jpeg(pixels, 5)
    if kind == "grey":
        pixels[int(len(pixels) * rng.uniform(0.35, 0.65)) :] = 128
        return _jpeg(pixels)
    return _jpeg(corrupt(pixels, kind, 5 if kind == "motion_blur" else int(rng.integers(3, 6)), seed))


def _others() -> list[Made]:
    """Odd images that can be decoded, drawings in the size of the photos and turned, and parts of the demo's world."""
    with (data() / "images" / "odd.csv").open() as file:
        odd = [row["file"] for row in csv.DictReader(file) if row["pillow_load"] == "ok"]
    chosen = np.random.default_rng(SEED + 2).permutation(np.array(odd, object))[:40]
    made: list[Made] = [("odd", (data() / "images" / "odd" / name).read_bytes(), None) for name in chosen]
    made += [("drawn", _jpeg(_drawing(SEED + number)), None) for number in range(30)]
    parts = work() / "parts"
    demo_world.draw_training(parts, images=40, seed=SEED)
    files = sorted(path for path in parts.rglob("*.*") if path.is_file())[:30]
    return made + [("part", path.read_bytes(), None) for path in files]


def _drawing(seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng([seed, 1])
    size = (384, 512) if seed % 2 else (512, 384)

    def colour() -> tuple[int, int, int]:
        red, green, blue = rng.integers(0, 256, 3).tolist()
        return red, green, blue

    image = Image.new("RGB", size, colour())
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 14))):
        x, y = int(rng.integers(0, size[0])), int(rng.integers(0, size[1]))
        box = (x, y, x + int(rng.integers(20, 200)), y + int(rng.integers(20, 200)))
        if rng.random() < 0.5:
            draw.ellipse(box, fill=colour())
        else:
            draw.rectangle(box, fill=colour())
    return np.asarray(image)


def _by_margin() -> dict[Cause, list[Made]]:
    """Photos that the bundle has never met, as they are: those with a small margin, and as many with a large one."""
    calibrated, found = instruments().knowledge.calibration.calibrated, instruments()
    photos = list(np.random.default_rng(SEED + 3).permutation(np.array(halves()[1], object)))
    contents = [photo.read_bytes() for photo in photos]
    pinned = found.bundle.preprocessing
    ordered = np.sort(calibrated(Replay(found.engine, contents, pinned).probabilities(pinned)), axis=1)
    margin = ordered[:, -1] - ordered[:, -2]

    def those(which: NDArray[np.bool_]) -> list[Made]:
        return [(photos[row].parent.name, contents[row], None) for row in np.flatnonzero(which)[:EACH]]

    return {Cause.CLOSE_CALL: those(margin <= CLOSE), Cause.NOTHING_FOUND: those(margin >= CLEAR)}


def _jpeg(pixels: NDArray[np.uint8], quality: int = 92) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


ROWS: Mapping[str, Row] = {"explain_causes": causes}
