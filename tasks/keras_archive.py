"""Knows what a sealed .keras archive may hold, and refuses the rest before Keras opens it.

Keras' safe mode is the second lock, not the first: what it refuses has grown with each of its versions.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, Final

from darkroom.errors import UnsupportedModel
from tasks import hdf5
from tasks.archives import check_unpacked
from tasks.consent import code_in

_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.weights.h5"
_PARTS: Final = frozenset({"metadata.json", _CONFIG, _WEIGHTS})
# Of the arrays that a file's weights say they are, at most so many times the file: Keras does not compress them.
_MOST_TIMES: Final = 4


def check_archive(path: Path) -> None:
    """Look at a .keras archive, of which nothing is loaded.

    Raises: UnsupportedModel where it holds code, reads or writes other files, or would be many times larger in memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_unpacked(archive, path.stat().st_size)
            beside = sorted(set(archive.namelist()) - _PARTS)
            if beside:
                raise ValueError(f"{beside[0]!r}: a classifier is {', '.join(sorted(_PARTS))}, and nothing else")
            config = json.loads(archive.read(_CONFIG))
            _check_weights(archive.read(_WEIGHTS))
    except Exception as error:  # of three parsers
        raise UnsupportedModel(
            "The archive is not one that Keras writes for a classifier.",
            file=path,
            found=(str(error).splitlines() or [type(error).__name__])[0][:200],
            todo="load it where it was made, and save it with model.save('model.keras'); do not trust a stranger's",
        ) from error
    _check_code(config, path)


def _check_weights(data: bytes) -> None:
    import h5py

    with h5py.File(io.BytesIO(data), "r") as file:
        outside = hdf5.outside(file)
        if outside:
            raise ValueError(f"weights that are read from other files: {outside[0]}")
        said = sum(array.nbytes for array in hdf5.arrays(file))
    if said > _MOST_TIMES * len(data):
        raise ValueError(f"weights of {len(data):,} bytes that would be {said:,} in memory")


def _check_code(config: Any, path: Path) -> None:
    try:
        found = code_in(config)
    except RecursionError:
        raise UnsupportedModel("The model's layers are nested too deeply.", file=path) from None
    if not found:
        return
    what = "a Lambda layer" if found[0].name.startswith("Lambda:") else "something that is not only a layer"
    raise UnsupportedModel(
        f"The model holds {what}: code that would run when the model is loaded. darkroom never runs it.",
        file=path,
        found=", ".join(code.sentence for code in found)[:300],
        todo="replace it by a layer of Keras (Rescaling, Normalization, Permute …), and save again; or bring the model "
        "by `darkroom adopt`, which asks for consent and seals what comes of it as a graph",
    )
