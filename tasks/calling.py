"""Somebody's own predict or preprocess function, called on files in a process that can be killed, from the outside.

What the function prints, changes or breaks stays in its process; arrays come back as .npy files that hold no pickle.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import Failed, WrongUse
from darkroom.names import as_detail

_TARGET: Final = re.compile(r"(.+):([A-Za-z_][\w.]*)$")
_SAID: Final = 2000


@dataclass(frozen=True)
class Returned:
    """What the function returned for one file: arrays by name, or a label with its confidence, or an error."""

    arrays: dict[str, NDArray[Any]]
    names: tuple[str, ...] = ()
    label: str | None = None
    confidence: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Called:
    """`way`: what the function was given (`a path`, `bytes`, …); `rejected`: ways that it did not take, and why;
    `said`: the end of what it printed.
    """

    way: str
    returned: tuple[Returned, ...]
    rejected: dict[str, str]
    said: str


def call(target: str, files: Sequence[Path], *, seconds: float = 120.0, folder: Path | None = None) -> Called:
    """Call `module:function` (a module, or a .py file) on files; `folder` (the current one) is on its path.

    It may take a path, bytes, a Pillow image or an array: tried by annotation, by name, then in turn on the first file.

    Raises: WrongUse for a target that is not understood, cannot be imported, or takes none of these; Failed where the
    process dies or is not done after `seconds`.
    """
    module, function, folder = _target(target, folder)
    with tempfile.TemporaryDirectory(prefix="darkroom-call-") as name:
        place = Path(name)
        request = {
            "module": module,
            "function": function,
            "folder": str(folder),
            "files": [str(file.absolute()) for file in files],
        }
        (place / "request.json").write_text(json.dumps(request), encoding="utf-8")
        how, said = _run(place, folder, seconds)
        answer = _answer(place)
        if answer is None:
            raise Failed(
                "The function did not come back."
                if how is None
                else "The process of the function ended before it was done.",
                file=target,
                expected=f"an answer for {len(files)} files within {seconds:g} s",
                found=f"{'still running' if how is None else f'exit code {how}'}; it said: {said or 'nothing'}",
                todo="call it on one file by hand; ask for fewer images",
            )
        if "error" in answer:
            importing = answer.get("stage") == "import"
            raise WrongUse(
                "The function cannot be imported." if importing else "The function takes none of what was tried.",
                file=target,
                expected="module:function, importable from its folder"
                if importing
                else "a function of a path, bytes, a Pillow image or an array that returns numbers or a label",
                found=as_detail(answer["error"], 1500),
                todo="stand in the folder of the module" if importing else None,
            )
        rows = tuple(_returned(place, row) for row in answer["rows"])
    return Called(str(answer["way"]), rows, {str(k): as_detail(v) for k, v in answer["tried"].items()}, said)


def _target(target: str, folder: Path | None) -> tuple[str, str, Path]:
    found = _TARGET.match(target)
    if found is None:
        raise WrongUse(
            "The function to call is not understood.", expected="module:function, such as serve:predict", found=target
        )
    module, function = found[1], found[2]
    if module.endswith(".py"):
        file = Path(module)
        if not file.is_file():
            raise WrongUse("There is no such module.", file=file, todo="name a .py file, or a module of this folder")
        return file.stem, function, file.absolute().parent
    return module, function, (folder or Path.cwd()).absolute()


def _run(place: Path, folder: Path, seconds: float) -> tuple[int | None, str]:
    """Exit code, None where the time was over; and the end of what it said."""
    script = Path(__file__).with_name("call_main.py")
    with (place / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-P", str(script), str(place)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            start_new_session=True,  # its children end with it
        )
        try:
            how: int | None = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            how = None
        finally:
            _end(process)
    return how, as_detail((place / "said.txt").read_bytes()[-_SAID:].decode(errors="replace").strip(), _SAID)


def _end(process: subprocess.Popen[bytes]) -> None:
    import contextlib
    import signal

    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answer(place: Path) -> dict[str, Any] | None:
    try:
        answer = json.loads((place / "answer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def _returned(place: Path, row: dict[str, Any]) -> Returned:
    if "error" in row:
        return Returned({}, error=as_detail(row["error"]))
    arrays: dict[str, NDArray[Any]] = {
        as_detail(name, 60): np.load(place / Path(file).name, allow_pickle=False)
        for name, file in row["arrays"].items()
    }
    confidence = row.get("confidence")
    return Returned(
        arrays,
        names=tuple(map(str, row.get("names", ()))),
        label=None if row.get("label") is None else str(row["label"]),
        confidence=None if confidence is None else float(confidence),
    )
