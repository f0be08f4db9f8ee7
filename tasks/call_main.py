"""Runs somebody's function on files, in an interpreter of its own: `python call_main.py FOLDER`.

A plain script that imports nothing of darkroom: their folder may hold a `tasks` or `flows` of its own. FOLDER holds
request.json; what the function returns goes back as .npy files without pickles, how it was called in answer.json.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("a path", "a Path", "bytes", "a Pillow image", "an array", "a batch of one array")
_BY_NAME = {
    "a path": ("path", "file", "filename", "filepath", "img_path", "image_path", "file_path", "fname", "image_file"),
    "bytes": ("data", "content", "contents", "raw", "buffer", "image_bytes", "image_data"),
    "a Pillow image": ("img", "image", "pil", "pil_image", "im"),
    "an array": ("x", "arr", "array", "pixels", "frame", "np_image"),
}
_BY_TYPE = {"str": "a path", "Path": "a Path", "PathLike": "a path", "bytes": "bytes", "ndarray": "an array"}


def main() -> None:
    """Read the request, call the function on every file, write the answer."""
    place = Path(sys.argv[1])
    request = json.loads((place / "request.json").read_text(encoding="utf-8"))
    sys.path.insert(0, request["folder"])
    try:
        function: Any = importlib.import_module(request["module"])
        for name in request["function"].split("."):
            function = getattr(function, name)
    except BaseException as problem:
        _write(place, {"error": _said(problem), "stage": "import"})
        return
    files = [Path(file) for file in request["files"]]
    tried: dict[str, str] = {}
    for way in _ways(function):
        try:
            first = _stages(function(_as(way, files[0])))
        except BaseException as problem:
            tried[way] = _said(problem)
            continue
        rows = [_save(place, 0, first)]
        for number, file in enumerate(files[1:], start=1):
            try:
                rows.append(_save(place, number, _stages(function(_as(way, file)))))
            except BaseException as problem:
                rows.append({"error": _said(problem)})
        _write(place, {"way": way, "rows": rows, "tried": tried})
        return
    _write(place, {"error": "; ".join(f"with {way}: {said}" for way, said in tried.items()), "stage": "call"})


def _ways(function: Callable[..., Any]) -> Iterator[str]:
    """By annotation, by the parameter's name, then one after the other."""
    order: list[str] = []
    try:
        parameters = [one for one in inspect.signature(function).parameters.values() if one.name != "self"]
    except (TypeError, ValueError):
        parameters = []
    if parameters:
        stated = parameters[0].annotation
        text = stated if isinstance(stated, str) else getattr(stated, "__name__", str(stated))
        order += [way for word, way in _BY_TYPE.items() if text.split(".")[-1].split("[")[0] == word]
        if text.endswith("Image"):
            order.append("a Pillow image")
        order += [way for way, names in _BY_NAME.items() if parameters[0].name.lower() in names]
    yield from dict.fromkeys([*order, *WAYS])


def _as(way: str, file: Path) -> Any:
    if way == "a path":
        return str(file)
    if way == "a Path":
        return file
    if way == "bytes":
        return file.read_bytes()
    from PIL import Image

    image = Image.open(io.BytesIO(file.read_bytes()))
    if way == "a Pillow image":
        return image
    array = np.asarray(image.convert("RGB"))
    return array if way == "an array" else array[None]


def _stages(returned: Any) -> dict[str, Any]:
    """What came back, as arrays: several where the function returns a tuple or a dict of them. TypeError: nothing."""
    if isinstance(returned, dict):
        if returned and all(_is_number(value) for value in returned.values()):
            return {
                "0": np.array([float(value) for value in returned.values()]),
                "names": [str(one) for one in returned],
            }
        words = [value for value in returned.values() if isinstance(value, str)]
        rest = [value for value in returned.values() if not isinstance(value, str)]
        if len(words) == 1 and all(_is_number(value) for value in rest):
            # A whole number beside a class is its position, and says nothing of how sure the model is.
            sure = [value for value in rest if not isinstance(value, int | np.integer | np.bool_)]
            return {"label": words[0], **({"confidence": float(sure[0])} if len(sure) == 1 else {})}
        return {str(name): _array(value) for name, value in returned.items() if not isinstance(value, str)}
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], str) and _is_number(returned[1]):
        return {"label": returned[0], "confidence": float(returned[1])}
    if isinstance(returned, str):
        return {"label": returned}
    if isinstance(returned, int | np.integer) and not isinstance(returned, bool):
        return {"label": str(int(returned))}  # argmax
    if isinstance(returned, tuple):
        return {str(number): _array(value) for number, value in enumerate(returned)}
    return {"0": _array(returned)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) or (hasattr(value, "item") and getattr(value, "ndim", 1) == 0)


def _array(value: Any) -> np.ndarray[Any, Any]:
    if value is None:
        raise TypeError("it returned None")
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    if array.dtype == object or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise TypeError(f"it returned {type(value).__name__}, which holds no numbers")
    return array


def _save(place: Path, number: int, stages: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"arrays": {}}
    for position, (name, value) in enumerate(stages.items()):
        if isinstance(value, np.ndarray):
            file = f"{number}-{position}.npy"
            np.save(place / file, value, allow_pickle=False)
            row["arrays"][name] = file
        else:
            row[name] = value
    return row


def _said(problem: BaseException) -> str:
    traceback.print_exception(problem)  # for whoever reads what the process said
    return f"{type(problem).__name__}: {problem}"[:500]


def _write(place: Path, answer: dict[str, Any]) -> None:
    unfinished = place / "answer.json.part"
    unfinished.write_text(json.dumps(answer), encoding="utf-8")
    unfinished.replace(place / "answer.json")


if __name__ == "__main__":
    main()
