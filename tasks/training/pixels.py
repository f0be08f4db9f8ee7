"""Every training image, decoded once: its pixels after geometry in one file on disk, its properties in a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.errors import DataFolderError
from darkroom.names import from_text
from darkroom.progress import Progress
from tasks.preprocessing import Preprocessing
from tasks.training.dataset import FEWEST_IMAGES, Dataset, LabelledFile
from tasks.workers import DecodePool, Job, Refused, Wanted


@dataclass(frozen=True)
class LeftOut:
    """A file that is not trained on, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Pixels:
    """`resized` (n, h, w, 3), uint8 or float32, on disk; rows as in `files` and `properties`."""

    resized: NDArray[np.uint8 | np.float32]
    properties: pd.DataFrame
    files: tuple[LabelledFile, ...]
    content_ids: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def decode_all(dataset: Dataset, preprocessing: Preprocessing, work: Path, progress: Progress) -> Pixels:
    """Decode a dataset into `work`/resized.npy; memory does not grow with it.

    Left out, and listed: what cannot be decoded; a content seen before; a content that has two labels.
    Raises: DataFolderError where a class keeps too few images.
    """
    total = len(dataset.files)
    height, width, channels = preprocessing.input_shape
    dtype = np.dtype(np.float32 if preprocessing.geometry.rounding == "none" else np.uint8)
    jobs = [Job(key=row, path=dataset.folder / from_text(file.path)) for row, file in enumerate(dataset.files)]
    store = np.lib.format.open_memmap(work / "resized.npy", "w+", dtype, (total, height, width, channels))
    wanted = Wanted(tensor=False, resized=True, properties=True)
    label_of: dict[str, str] = {}
    kept: list[LabelledFile] = []
    properties, content_ids, left_out = [], [], []
    with DecodePool(preprocessing, wanted) as pool:
        for done, one in enumerate(pool.run(jobs), start=1):
            progress("decode", done, total, "images")
            file = dataset.files[int(one.key)]
            if isinstance(one, Refused):
                left_out.append(LeftOut(file.path, f"{one.reason.sentence}: {one.detail}"))
                continue
            if one.content_id in label_of:
                same = label_of[one.content_id] == file.label
                left_out.append(LeftOut(file.path, "a copy" if same else f"a copy of a {label_of[one.content_id]}"))
                continue
            label_of[one.content_id] = file.label
            store[len(kept)] = one.resized
            kept.append(file)
            properties.append(one.properties)
            content_ids.append(one.content_id)
    store.flush()
    _require_enough(dataset, kept, left_out)
    resized = np.load(work / "resized.npy", mmap_mode="r")[: len(kept)]
    return Pixels(resized, pd.DataFrame(properties), tuple(kept), tuple(content_ids), tuple(left_out))


def _require_enough(dataset: Dataset, kept: Sequence[LabelledFile], left_out: Sequence[LeftOut]) -> None:
    for name in dataset.classes:
        images = sum(file.label == name for file in kept)
        if images < FEWEST_IMAGES:
            raise DataFolderError(
                f"Too few images of the class {name!r} can be used.",
                file=dataset.folder / name,
                expected=f"at least {FEWEST_IMAGES}",
                found=f"{images}; left out: {', '.join(f'{one.path} ({one.why})' for one in left_out[:3])} …",
                todo="replace the broken images and the copies",
            )
