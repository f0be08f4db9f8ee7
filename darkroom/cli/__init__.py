"""The command line: reads what a person typed, runs a flow, says what came of it.

Exit codes: 0 done, 1 a gate or an alarm says no, 2 wrong use, 3 failed.
"""

from __future__ import annotations

# Importing a module adds its commands; `darkroom --help` lists them in this order.
# isort: off
import darkroom.cli.projects
import darkroom.cli.bundles
import darkroom.cli.nights
import darkroom.cli.records
import darkroom.cli.past_nights
import darkroom.cli.telling
import darkroom.cli.images  # noqa: F401

# isort: on
from darkroom.cli.shared import app

__all__ = ["app", "main"]


def main() -> None:
    """The console command."""
    app()
