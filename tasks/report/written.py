"""Writes pages and what lies beside them: each file whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from darkroom.errors import StorageError


def write_files(folder: Path, contents: Mapping[str, bytes], what: str) -> None:
    """File name → bytes, each in one step, into `folder`, which is made. `what` names it in the StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            unfinished = folder / f".{name}.{os.getpid()}"
            try:
                unfinished.write_bytes(content)
                unfinished.replace(folder / name)
            finally:
                with suppress(OSError):
                    unfinished.unlink()
    except OSError as error:
        raise StorageError(
            f"The {what} could not be written.",
            file=folder,
            found=error,
            todo="make room, or name a folder that can be written with --out",
        ) from error
