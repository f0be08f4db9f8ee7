"""Knows what a file or folder really is, by its first bytes and its contents, whatever its name says."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from darkroom.errors import UnsupportedModel
from tasks import hdf5

Kind = Literal["keras", "hdf5", "savedmodel"]
_CAN_BE_BROUGHT: Final = "a Keras classifier: .keras, .h5, a SavedModel folder, or an export of Teachable Machine"
_SAVE_AGAIN: Final = "load it where it was made, and save the whole model: model.save('model.keras')"
_TORCH_PICKLE = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


@dataclass(frozen=True)
class Sniffed:
    """A file or folder that may hold a Keras classifier. `sentence` says what it is, for a person."""

    path: Path
    kind: Kind
    sentence: str


def sniff(path: Path, work: Path) -> Sniffed:
    """What a file or folder is. Archives of a Teachable Machine export are unpacked into `work`.

    Raises: UnsupportedModel for what holds no whole Keras model, with what it is instead.
    """
    if not path.exists():
        raise _refused(path, "There is no such file.", "no such file", "look at the path")
    if path.is_dir():
        return _folder(path)
    with path.open("rb") as file:
        first = file.read(4096)
    if first.startswith(b"PK"):
        return _zip(path, work)
    if first.startswith(b"\x89HDF\r\n\x1a\n"):
        return _hdf5(path)
    found, todo = _what_else(path, first)
    raise _refused(path, "This is not a Keras model.", found, todo)


def _folder(path: Path) -> Sniffed:
    names = {entry.name for entry in path.iterdir()}
    if "saved_model.pb" in names:
        if not (path / "variables" / "variables.index").is_file():
            raise _refused(
                path,
                "This is half of a SavedModel: its weights are missing.",
                "saved_model.pb without variables/variables.index",
                "copy the whole folder: saved_model.pb, variables/ and assets/ belong together",
            )
        return Sniffed(path, "savedmodel", "a SavedModel folder")
    inner = sorted(name for name in names if (path / name).is_dir() and (path / name / "saved_model.pb").is_file())
    models = sorted(name for name in names if name.endswith((".keras", ".h5", ".hdf5"))) + inner
    if "model.weights.h5" in names and "config.json" in names:
        found, todo = "an unpacked .keras archive", "bring the .keras file itself, not the folder unpacked from it"
    elif "model.json" in names:
        found = "a TensorFlow.js model"
        todo = "bring the Keras model that it was converted from; Teachable Machine: Export, Tensorflow, Keras"
    elif models:
        found, todo = f"a folder that holds {', '.join(models[:5])}", f"name one of them: {path / models[0]}"
    else:
        found = f"a folder with {', '.join(sorted(names)[:5])}" if names else "an empty folder"
        todo = "name a model's file, or the folder that holds saved_model.pb"
    raise _refused(path, "This folder is not a model.", found, todo)


def _zip(path: Path, work: Path) -> Sniffed:
    if not zipfile.is_zipfile(path):
        raise _refused(
            path,
            "The file is cut off: it begins as a zip archive (.keras), and its end is missing.",
            f"the first {path.stat().st_size:,} bytes of an archive",
            "copy or download it again; compare its size with the original's",
        )
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "config.json" in names and any(name.startswith("model.weights") for name in names):
            return Sniffed(path, "keras", "a .keras archive of Keras 3")
        inner = next((name for name in names if PurePosixPath(name).name == "keras_model.h5"), None)
        saved = next((name for name in names if PurePosixPath(name).name == "saved_model.pb"), None)
        if inner is not None or saved is not None:
            folder = _unpacked(archive, work / "unpacked", path)
            if inner is not None:
                within = _hdf5(folder / inner)
                return Sniffed(within.path, "hdf5", f"a zip archive of Teachable Machine that holds {within.sentence}")
            within = _folder(folder / PurePosixPath(saved or "").parent)
            return Sniffed(within.path, within.kind, f"a zip archive that holds {within.sentence}")
    if any(name.endswith("data.pkl") for name in names):
        found, todo = "a PyTorch model (a zip of pickles)", "darkroom scores Keras models; convert it where it was made"
    elif "config.json" in names and "metadata.json" in names:
        found, todo = "a .keras archive without weights", _SAVE_AGAIN
    elif any(name.endswith(".npy") for name in names):
        found, todo = "arrays of NumPy (.npz)", _SAVE_AGAIN
    elif any(name.endswith(".tflite") for name in names):
        found, todo = (
            "a zip with a TensorFlow Lite model",
            "Teachable Machine: Export, Tensorflow, Keras, and bring that",
        )
    else:
        found = f"a zip archive with {', '.join(sorted(names)[:4]) or 'nothing in it'}"
        todo = "unpack it, and name the model in it"
    raise _refused(path, "This archive is not a Keras model.", found, todo)


def _unpacked(archive: zipfile.ZipFile, folder: Path, path: Path) -> Path:
    """Unpack below a folder and nowhere else."""
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename).parts
        if entry.is_dir():
            continue
        if not parts or ".." in parts or parts[0] == "/" or "\\" in entry.filename:
            raise _refused(path, "The archive would write outside of its folder.", entry.filename, "do not trust it")
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    return folder


def _hdf5(path: Path) -> Sniffed:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            _refuse_links(file, path)
            config = file.attrs.get("model_config")
            names = set(file.keys())
            weights = "layer_names" in file.attrs or {"layers", "_layer_checkpoint_dependencies"} & names
            version = text(file.attrs.get("keras_version"))
    except OSError as error:
        cut = "truncated" in str(error)
        raise _refused(
            path,
            "The file is cut off: it is HDF5 (.h5), and its end is missing." if cut else "The HDF5 file is damaged.",
            f"{path.stat().st_size:,} bytes: {str(error).splitlines()[0][:160]}",
            "copy or download it again; compare its size with the original's",
        ) from error
    if config is None:
        what = (
            "weights without a model (model.save_weights)" if weights else f"HDF5 with {', '.join(sorted(names)[:4])}"
        )
        raise _refused(
            path,
            "The file holds no model: nothing in it says which layers the numbers belong to."
            if weights
            else "This HDF5 file was not written by Keras.",
            what,
            "build the model by its own code, load these weights into it, and save the whole: model.save('model.keras')"
            if weights
            else _SAVE_AGAIN,
        )
    named = "" if path.suffix in (".h5", ".hdf5") else f", although it is named {path.suffix or path.name}"
    return Sniffed(path, "hdf5", f"a legacy HDF5 model of Keras {version or 'of an unknown version'}{named}")


def _refuse_links(file: Any, path: Path) -> None:
    found = hdf5.outside(file)
    if found:
        raise _refused(path, "The HDF5 file reads other files.", "; ".join(found[:3]), "do not trust it")


def text(value: Any) -> str:
    """An attribute of HDF5, which is str, bytes or missing."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _what_else(path: Path, first: bytes) -> tuple[str, str]:
    """(what it is, what to do) for what is no archive and no HDF5."""
    start = first.lstrip(b"\xef\xbb\xbf \t\r\n")
    convert = "darkroom scores Keras models; bring the Keras model that this was converted from"
    if not first:
        return "an empty file", "copy or download it again"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: the model itself was never downloaded", "run `git lfs pull` in that repository"
    if start[:200].lower().startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return (
            "a web page: a download that led to a log-in or error page",
            "open the link in a browser and download the file itself (GitHub: the raw file)",
        )
    if first[4:8] == b"TFL3":
        return "a TensorFlow Lite model (.tflite)", f"{convert}; Teachable Machine: Export, Tensorflow, Keras"
    if first.startswith(_TORCH_PICKLE):
        return "a PyTorch model (a pickle)", "darkroom scores Keras models; convert it where it was made"
    if first[:1] == b"\x80" and first[1:2] in b"\x02\x03\x04\x05":
        joblib = b"joblib" in first or b"sklearn" in first or path.suffix == ".joblib"
        what = "a pickle of joblib or scikit-learn" if joblib else "a pickle"
        return what, f"darkroom never unpickles: that runs whatever is in it. If it holds a Keras model, {_SAVE_AGAIN}"
    if start.startswith((b"{", b"[")):
        return _json(path), _SAVE_AGAIN
    if path.name == "saved_model.pb":
        return "saved_model.pb alone: the graph of a SavedModel without its weights", f"name its folder: {path.parent}"
    if path.suffix == ".pb":
        return "a frozen graph, or another protocol buffer, alone", f"bring the SavedModel folder or .h5. {convert}"
    if _is_onnx(path, first):
        return "an ONNX model", convert
    return f"a file of {path.stat().st_size:,} bytes that begins with {first[:8]!r}", f"bring {_CAN_BE_BROUGHT}"


def _json(path: Path) -> str:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return "text that begins like JSON"
    if isinstance(content, dict) and {"modelTopology", "weightsManifest"} & content.keys():
        return "the model.json of a TensorFlow.js model"
    if isinstance(content, dict) and {"class_name", "config"} <= content.keys():
        return "an architecture as JSON (model.to_json), without weights"
    return "a JSON file"


def _is_onnx(path: Path, first: bytes) -> bool:
    # Field 1 of an ONNX ModelProto is its version, a small number; then the name of what produced it.
    begins = first[:1] == b"\x08" and 1 <= first[1] <= 20
    return begins and (path.suffix == ".onnx" or first[2:3] in (b"\x12", b"\x3a", b"B"))


def _refused(path: Path, what: str, found: str, todo: str) -> UnsupportedModel:
    return UnsupportedModel(what, file=path, expected=_CAN_BE_BROUGHT, found=found, todo=todo)
