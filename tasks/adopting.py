"""An adopted model and labelled photos: which of its outputs the folders are, and what it says of every photo."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from darkroom.errors import DataFolderError
from darkroom.names import from_text, some_of_many
from darkroom.progress import Progress
from tasks.inference import Engine
from tasks.preprocessing import Preprocessing
from tasks.training import TrainedModel
from tasks.training import dataset as datasets
from tasks.training.dataset import Dataset
from tasks.training.examples import Examples
from tasks.training.pixels import decode_all
from tasks.training.profile import profile_of
from tasks.workers import Arrived, DecodePool, Job, Wanted

# Half of the photos say what is normal, on the other half the accuracy is measured.
_MEASURED = 0.5


@dataclass(frozen=True)
class Matched:
    """The photos whose folder is a class of the model, labelled by the model's names; `aside`: folder → photos that no
    output speaks of; `without`: classes of the model that no photo shows.
    """

    dataset: Dataset
    aside: Mapping[str, int]
    without: tuple[str, ...]

    def sentences(self) -> tuple[str, ...]:
        """What of the photos and what of the model is not used; nothing where all of it is."""
        said = []
        if self.aside:
            folders = some_of_many([f"{name} ({count:,})" for name, count in self.aside.items()])
            said.append(f"No output of the model is one of these folders, which were left aside: {folders}.")
        if self.without:
            said.append(f"No photo shows {some_of_many(self.without)}: of these classes nothing is known.")
        return tuple(said)


def match_folders(dataset: Dataset, classes: Sequence[str]) -> Matched:
    """Folders to the model's classes by name; case, spaces, dashes and underscores do not count.

    Raises: DataFolderError where fewer than two folders are classes of the model.
    """
    class_of = {folder: class_of_folder(folder, classes) for folder in dataset.classes}
    named = {folder: name for folder, name in class_of.items() if name is not None}
    twice = [name for name, count in Counter(named.values()).items() if count > 1]
    if twice:
        raise DataFolderError(
            f"Two folders are the class {twice[0]!r}.",
            file=dataset.folder,
            found=", ".join(folder for folder, name in named.items() if name == twice[0]),
            todo="move the photos of one into the other, or rename it",
        )
    if len(set(named.values())) < 2:
        raise DataFolderError(
            "The folders are not classes of this model.",
            file=dataset.folder,
            expected=f"folders named as two classes at least: {some_of_many(classes)}",
            found=", ".join(dataset.classes),
            todo="name the folders as the classes, or give the names of the outputs with --labels",
        )
    files = tuple(replace(file, label=named[file.label]) for file in dataset.files if file.label in named)
    present = tuple(name for name in classes if name in set(named.values()))
    aside = Counter(file.label for file in dataset.files if file.label not in named)
    without = tuple(name for name in classes if name not in present)
    left = {**aside, **dataset.no_class}
    return Matched(Dataset(dataset.folder, files, present, dataset.group_by), left, without)


def class_of_folder(folder: str, classes: Sequence[str]) -> str | None:
    """The class that a folder is named as, if it is one and only one."""
    if folder in classes:
        return folder
    alike = [name for name in classes if _plain(name) == _plain(folder)]
    return alike[0] if len(alike) == 1 else None


def _plain(name: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFC", name).casefold() if one not in " -_")


def readable(dataset: Dataset, rows: Sequence[int], preprocessing: Preprocessing) -> list[int]:
    """Those of the rows whose file is an image; the others are left out, and listed, when all photos are looked at.

    Decoded where it can be killed: after this, other decoders may try the same files in this process.
    """
    jobs = [Job(key=row, path=dataset.folder / from_text(dataset.files[row].path)) for row in rows]
    with DecodePool(preprocessing, Wanted(tensor=False, properties=False)) as pool:
        return sorted(int(one.key) for one in pool.run(jobs) if isinstance(one, Arrived))


def look_at_photos(
    engine: Engine,
    model_path: Path,
    embedding_layer: str,
    dataset: Dataset,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    work: Path,
    seed: int,
    progress: Progress,
) -> TrainedModel:
    """What a training leaves, without one: half of the photos are called `train` and say what is normal, the other half
    `validation`. `classes` are the model's, in the order of its outputs.
    """
    pixels = decode_all(dataset, preprocessing, work, progress)
    usable = Dataset(dataset.folder, pixels.files, dataset.classes, dataset.group_by)
    split = datasets.split(usable, _MEASURED, seed)
    n = len(pixels.files)
    examples = Examples(pixels.resized, np.arange(n), np.zeros(n, np.int64), preprocessing)
    probabilities, embeddings = [], []
    done = 0
    for tensors in examples.batches():
        outputs = engine.run(tensors)
        probabilities.append(outputs.probabilities)
        embeddings.append(outputs.embedding.astype(np.float16))
        done += len(tensors)
        progress("predict", done, n, "images")
    embedding = np.concatenate(embeddings)
    return TrainedModel(
        model_path=model_path,
        preprocessing=preprocessing,
        classes=tuple(classes),
        embedding_layer=embedding_layer,
        profile=profile_of(pixels, split, tuple(classes), np.concatenate(probabilities)),
        embeddings=embedding,
        history=[],
        left_out=pixels.left_out,
        resized=pixels.resized,
        features=embedding,
    )
