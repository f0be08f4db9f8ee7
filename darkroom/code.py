"""Which code this is: the git commit that darkroom was installed from, or is run from."""

from __future__ import annotations

import json
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

_SECONDS = 10.0


@lru_cache
def code_commit() -> str | None:
    """The commit; with ` and changes` behind it where the checkout was changed since. None: nobody knows.

    Known where darkroom runs from a checkout, or was installed by pip from a repository (PEP 610).
    """
    return _of_checkout(Path(__file__).resolve().parents[1]) or _of_installation()


def _of_checkout(home: Path) -> str | None:
    top = _git(home, "rev-parse", "--show-toplevel")
    # Installed into an environment inside of a repository of the user's own, that commit would be theirs.
    if top is None or Path(top).resolve() != home:
        return None
    commit = _git(home, "rev-parse", "HEAD")
    changed = _git(home, "status", "--porcelain", "--untracked-files=no")
    return f"{commit} and changes" if commit and changed else commit


def _of_installation() -> str | None:
    try:
        stated = metadata.distribution("darkroom").read_text("direct_url.json")
        return str(json.loads(stated)["vcs_info"]["commit_id"]) if stated else None
    except (metadata.PackageNotFoundError, KeyError, ValueError, TypeError):
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
