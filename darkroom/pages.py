"""Where a page opens in a browser: a page is a file, and a browser follows no link from a server to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

from darkroom.storage import store_address

# `darkroom serve` hands both to its runs: the address of its server of pages, and the folder that it shows.
URL: Final = "DARKROOM_REPORTS_URL"
FOLDER: Final = "DARKROOM_REPORTS_FOLDER"


def address_of(page: Path | str | None) -> str | None:
    """The http address of a page; None where nobody serves it, and only its path can be told.

    With an address alone, a server of the user's own, the folder is the one named `reports` in the page's path. That
    server may also show a folder of an object store.
    """
    url = os.environ.get(URL, "").rstrip("/")
    if not url or page is None:
        return None
    stored = store_address(page)
    if stored is not None:
        beyond = stored.partition("/reports/")[2]
        return f"{url}/{quote(beyond)}" if beyond and FOLDER not in os.environ else None
    path = Path(os.path.abspath(page))  # noqa: PTH100  resolve() would follow a link that is part of the address
    folder = os.environ.get(FOLDER)
    if folder:
        root = Path(os.path.abspath(folder))  # noqa: PTH100
    else:
        root = next((one for one in path.parents if one.name == "reports"), path)
    if root not in path.parents:
        return None
    return f"{url}/{quote(path.relative_to(root).as_posix())}"


def place_of(page: Path | str) -> str:
    """For a person: the address, or the whole path where there is none."""
    return address_of(page) or store_address(page) or os.path.abspath(page)  # noqa: PTH100


def page_folder(given: Path | None, name: str) -> Path:
    """Where a page goes that is of no night: as given, else beside the served pages, else the working folder."""
    if given is not None:
        return given
    folder = os.environ.get(FOLDER)
    return Path(folder) / name if folder else Path(name)
