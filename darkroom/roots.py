"""Knows where a run may read and write: below the roots that an operator named, which all of its processes inherit.

A form is filled in by whoever reaches the Prefect UI; roots are named by whoever runs the worker, in darkroom.toml or
in the environment of a deployment. A command that is typed at a terminal has none: it may what its user may.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from darkroom.errors import WrongUse
from darkroom.storage import local_place, store_address

ROOTS: Final = "DARKROOM_ROOTS"
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def roots() -> tuple[str, ...] | None:
    """Folders, and addresses such as s3://bucket/folder or http://host:9091; None: anywhere.

    Raises: WrongUse where they cannot be read, so that nobody knows what is allowed.
    """
    named = os.environ.get(ROOTS)
    if not named:
        return None
    try:
        found = json.loads(named)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        raise WrongUse(
            f"{ROOTS} cannot be read: nobody knows where runs may read and write.",
            expected='a list in JSON, such as ["/srv/parts", "s3://photos/parts"]',
            found=named,
            todo="mend it in the environment of the deployment",
        )
    return tuple(found)


def check_inside(place: Path | str) -> None:
    """Before anything is opened there. Raises: WrongUse for a place outside of the roots."""
    allowed = roots()
    if allowed is None or is_inside(place, allowed):
        return
    raise WrongUse(
        "This place is outside of the folders and addresses that runs may read and write.",
        file=store_address(place) or place,
        expected=f"a place below {', '.join(allowed) or 'a root, and none is named'}",
        found=_leads_to(place),
        todo="name a place below one of these; who runs the worker may add others: roots in darkroom.toml",
    )


def is_inside(place: Path | str, allowed: Iterable[str]) -> bool:
    """Links and `..` are resolved, of the roots, too; addresses are compared as text, up to a `/`."""
    address = _address(place)
    if address is not None:
        return any(_below(address, root) for root in map(_address, allowed) if root is not None)
    folders = [real for root in allowed if _address(root) is None for real in _real(root)]
    found = _real(place)
    return bool(found) and all(any(_below(real, root) for root in folders) for real in found)


def _address(place: Path | str) -> str | None:
    text = str(place)
    elsewhere = _ADDRESS.match(text) and not text.startswith("file:")
    return store_address(text) or (text.rstrip("/") if elsewhere else None)


def _real(place: Path | str) -> list[str]:
    """Where it leads, read as a path and, where it is one, as a file: address; nothing for what is no path at all."""
    try:
        return sorted({os.path.realpath(one) for one in (place, local_place(place))})
    except ValueError:  # a zero byte, half of a pair of surrogates
        return []


def _below(place: str, root: str) -> bool:
    return place == root or place.startswith(root if root.endswith("/") else f"{root}/")


def _leads_to(place: Path | str) -> str | None:
    if _address(place) is not None:
        return None
    found = _real(place)
    return f"it leads to {found[0]}" if found and found[0] != str(place) else None
