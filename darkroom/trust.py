"""Knows whose signature a bundle must bear: the policy, which every process of a run inherits.

It is a folder of public keys, or one of them, named by `darkroom --trusted-keys`, by the environment, or by
darkroom.toml, the first of these. Where none names any, a bundle needs no signature.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from darkroom.errors import WrongUse

TRUSTED_KEYS: Final = "DARKROOM_TRUSTED_KEYS"
PROJECT: Final = "darkroom.toml"


def trusted_place() -> Path | None:
    """The folder of trusted public keys, or the one key; None: whoever sealed a bundle is believed."""
    named = os.environ.get(TRUSTED_KEYS, "")
    return Path(named) if named else None


@contextmanager
def trusting(named: Path | None, folder: Path) -> Iterator[None]:
    """Inside, and in every process that is started inside, the policy of a command that is typed in `folder`.

    `named`: what was typed. It wins over the environment, and that over darkroom.toml.

    Raises: WrongUse where darkroom.toml cannot be read, so that nobody knows what it asks for.
    """
    before = os.environ.get(TRUSTED_KEYS)
    place = named or trusted_place() or _stated(folder)
    if place is not None:
        os.environ[TRUSTED_KEYS] = str(folder.absolute() / place)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(TRUSTED_KEYS, None)
        else:
            os.environ[TRUSTED_KEYS] = before


def _stated(folder: Path) -> Path | None:
    """What darkroom.toml says, and nothing else of it: a mistake elsewhere in it is told by `darkroom serve`."""
    file = folder / PROJECT
    try:
        stated = tomllib.loads(file.read_text(encoding="utf-8")).get("trusted_keys", "")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WrongUse(f"{PROJECT} cannot be read.", file=file, expected="a TOML file", found=error) from error
    if not isinstance(stated, str):
        raise WrongUse(
            "The setting trusted_keys has a wrong value.",
            file=file,
            expected="the path of a folder of public keys",
            found=stated,
            todo="mend the line, and start again",
        )
    return Path(stated) if stated else None
