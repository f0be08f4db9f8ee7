"""Who runs this process, for records that say who did what."""

from __future__ import annotations

import getpass
import os


def this_person() -> str:
    """The user's name, or their number where they have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
