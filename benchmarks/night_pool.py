"""Photos looked at by bundles that lack a class, as they are, prepared wrongly before they came, under other light,
damaged: what nights with a known cause are put together from.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from benchmarks.night import data, trashnet_recipe, work
from flows.looking import Instruments, look, proved
from tasks.corruptions import corrupt
from tasks.workers import Job

Pixels = NDArray[np.uint8]

SEED: Final = 31
EACH: Final = 240  # photos of a condition
STRANGERS: Final = 90  # photos of the class that the bundle lacks, of a condition that is not clean
CLASSES: Final = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
SIDE: Final = 224


def _sized(pixels: Pixels, box: tuple[int, int, int, int] | None = None, size: tuple[int, int] | None = None) -> Pixels:
    image = Image.fromarray(pixels)
    return np.asarray(image.resize(size or image.size, Image.Resampling.BICUBIC, box=box))


def _cropped(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return _sized(pixels, (left, top, left + side, top + side), (SIDE, SIDE))


def _letterboxed(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    small = _sized(pixels, size=(round(width * scale), round(height * scale)))
    framed = np.zeros((SIDE, SIDE, 3), np.uint8)
    top, left = (SIDE - small.shape[0]) // 2, (SIDE - small.shape[1]) // 2
    framed[top : top + small.shape[0], left : left + small.shape[1]] = small
    return framed


def _nearer(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    return _sized(pixels, (0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height))  # type: ignore[arg-type]


def _grey(pixels: Pixels) -> Pixels:
    return np.repeat(np.asarray(Image.fromarray(pixels).convert("L"))[..., None], 3, axis=2)


def _corruption(kind: str, strength: int) -> Callable[[Pixels, int], Pixels]:
    return lambda pixels, number: corrupt(pixels, kind, strength, SEED, image=number)


def _same(change: Callable[[Pixels], Pixels]) -> Callable[[Pixels, int], Pixels]:
    return lambda pixels, number: change(pixels)


Change = Callable[[Pixels, int], Pixels]

# What another program did to the pixels before it handed the files over.
PREPARED: Final[Mapping[str, Change]] = {
    "channels swapped": _same(lambda pixels: pixels[..., ::-1]),
    "a quarter turn": _same(lambda pixels: np.rot90(pixels)),
    "upside down": _same(lambda pixels: pixels[::-1, ::-1]),
    "inverted": _same(lambda pixels: 255 - pixels),
    "without colour": _same(_grey),
    "squashed to the model's size": _same(partial(_sized, size=(SIDE, SIDE))),
    "cropped to the model's size": _same(_cropped),
    "framed in black": _same(_letterboxed),
    "scaled to 0 … 1 and saved": _same(lambda pixels: (pixels / 255).astype(np.uint8)),
}
SHIFTED: Final[Mapping[str, Change]] = {
    "brightness": _corruption("brightness", 3),
    "darkness": _corruption("darkness", 3),
    "contrast": _corruption("contrast", 3),
    "saturate": _corruption("saturate", 3),
    "desaturate": _corruption("desaturate", 3),
    "colour_cast": _corruption("colour_cast", 3),
    "fog": _corruption("fog", 3),
    "nearer": _same(_nearer),
    "another camera": _same(
        lambda pixels: np.clip(_sized(pixels, size=(640, 480)) * 1.08 + 6, 0, 255).astype(np.uint8)
    ),
}
NOISY: Final[Mapping[str, Change]] = {
    "gaussian_noise": _corruption("gaussian_noise", 3),
    "shot_noise": _corruption("shot_noise", 3),
    "impulse_noise": _corruption("impulse_noise", 3),
    "motion_blur": _corruption("motion_blur", 3),
    "defocus_blur": _corruption("defocus_blur", 3),
    "jpeg_compression": _corruption("jpeg_compression", 4),
    "pixelate": _corruption("pixelate", 3),
}
# Two at once.
TWICE: Final[Mapping[str, Change]] = {
    "channels swapped, brightness": lambda pixels, number: SHIFTED["brightness"](pixels, number)[..., ::-1],
    "squashed to the model's size, gaussian_noise": lambda pixels, number: NOISY["gaussian_noise"](
        PREPARED["squashed to the model's size"](pixels, number), number
    ),
    "darkness, motion_blur": lambda pixels, number: NOISY["motion_blur"](SHIFTED["darkness"](pixels, number), number),
}
CLEAN: Final = "as they are"
CONDITIONS: Final[Mapping[str, Change]] = {
    CLEAN: lambda pixels, number: pixels,
    **PREPARED,
    **SHIFTED,
    **NOISY,
    **TWICE,
}


@dataclass(frozen=True)
class Pool:
    """What one bundle, that never saw the class `without`, says of photos: condition → rows of the predictions schema,
    with the column `label`.
    """

    without: str
    instruments: Instruments
    rows: Mapping[str, pd.DataFrame]


def pools(half: int, without: Sequence[str]) -> Iterator[Pool]:
    """One at a time: a bundle of one half of the photos less a class, and what it says of the other half.

    DARKROOM_CAUSES_POOL may name a folder that keeps them from run to run.
    """
    kept = Path(os.environ.get("DARKROOM_CAUSES_POOL", work() / "pool"))
    photos = sorted((data() / "trashnet").rglob("*.jpg"))
    first = np.random.default_rng(SEED).permutation(len(photos)) % 2 == half
    known = [photo for photo, one in zip(photos, first, strict=True) if one]
    asked = [photo for photo, one in zip(photos, first, strict=True) if not one]
    for name in without:
        models = kept / f"half{half}" / f"without-{name}"
        if not models.exists():
            _trained(models, [photo for photo in known if photo.parent.name != name])
        told = models.with_suffix(".pickle")
        rows = pickle.loads(told.read_bytes()) if told.exists() else {}
        for what in CONDITIONS:
            if what not in rows:
                rows[what] = _looked_at(models, asked, name, what, kept / f"half{half}")
                told.write_bytes(pickle.dumps(rows))
        yield Pool(name, proved(models), rows)


def _trained(models: Path, photos: Sequence[Path]) -> None:
    from darkroom.orchestrator import api
    from darkroom.settings import ExaminationOptions

    folder = models.with_name(models.name + "-photos")
    shutil.rmtree(folder, ignore_errors=True)
    for photo in photos:
        (folder / photo.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder / photo.parent.name / photo.name)
    recipe = trashnet_recipe().model_copy(update={"validation_share": 0.3})
    with api():
        from flows.train import train

        train(folder, models.parent, models.name, recipe, ExaminationOptions(ladder_images=100))
    shutil.rmtree(folder)


def _looked_at(models: Path, photos: Sequence[Path], without: str, what: str, kept: Path) -> pd.DataFrame:
    order = np.random.default_rng(SEED).permutation(len(photos))
    ours = [int(k) for k in order if photos[k].parent.name != without]
    new = [int(k) for k in order if photos[k].parent.name == without]
    if what != CLEAN:
        ours, new = ours[:EACH], new[:STRANGERS]
    chosen = ours + new
    folder = kept / "files" / what.replace(" ", "-").replace("…", "to")
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        paths = list(threads.map(lambda k: _saved(photos[k], folder / f"{k:04d}.jpg", what, k), chosen))
    jobs = [Job(str(k), path) for k, path in zip(chosen, paths, strict=True)]
    looked = look(jobs, proved(models))
    assert not looked.refused, looked.refused
    rows = looked.rows
    return rows.assign(label=[photos[int(path)].parent.name for path in rows["path"]])


def _saved(photo: Path, path: Path, what: str, number: int) -> Path:
    """With the photo's own quantisation: only what was changed is to be seen."""
    if path.exists():
        return path
    with Image.open(photo) as image:
        tables: Any = image.quantization  # type: ignore[attr-defined]
        pixels = np.asarray(image.convert("RGB"))
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(CONDITIONS[what](pixels, number))).save(file, "JPEG", qtables=tables)
    path.write_bytes(file.getvalue())
    return path
