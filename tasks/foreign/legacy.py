"""Knows how models of Keras 1 and 2 are loaded: by tf_keras, the optional extra `legacy`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom.errors import UnsupportedModel
from tasks.machine import import_tensorflow


def has_legacy() -> bool:
    """Whether tf_keras is installed."""
    try:
        _tf_keras()
    except ImportError:
        return False
    return True


def load_legacy(path: Path, objects: Mapping[str, Any], *, trusted: bool) -> Any:
    """A model of tf_keras. `trusted`: its code was consented to, and may be unpacked.

    Raises: UnsupportedModel where tf_keras is not installed, or cannot load it.
    """
    try:
        tf_keras = _tf_keras()
    except ImportError as error:
        raise UnsupportedModel(
            "This model was saved by an older Keras, and Keras 3 cannot load it.",
            file=path,
            expected="the package tf_keras, which can",
            found="an installation without it",
            todo="pip install 'darkroom[legacy]'",
        ) from error
    try:
        with named(path, ".h5") as file:
            return tf_keras.models.load_model(file, custom_objects=dict(objects), compile=False, safe_mode=not trusted)
    except Exception as error:  # tf_keras raises nearly every type; what a person can do is the same
        raise cannot_load(path, "tf_keras", str(tf_keras.__version__), error) from error


@contextmanager
def named(path: Path, suffix: str) -> Iterator[Path]:
    """The same file under a name that ends as its contents ask for: Keras looks at nothing else."""
    if path.suffix == suffix:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"model{suffix}"
        link.symlink_to(path.absolute())
        yield link


def cannot_load(path: Path, library: str, version: str, error: Exception) -> UnsupportedModel:
    """What a library said when it could not load a model."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return UnsupportedModel(
        f"{library} cannot load the model.",
        file=path,
        expected=f"a model of layers that {library} {version} knows",
        found=lines[0][:300],
        todo="load it where it was made, with the versions it was made with, and save the whole model again, as .keras "
        "or as a SavedModel folder",
    )


def _tf_keras() -> Any:
    import_tensorflow()
    import tf_keras

    return tf_keras
