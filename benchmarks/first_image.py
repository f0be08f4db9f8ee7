"""`darkroom`, as a person calls it, and the moment at which the first image has passed the network.

Run by benchmarks.speed as `python -m benchmarks.first_image FILE score …`: the file is made at that moment.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Listen to the progress of the command, as the bar in the terminal does."""
    from darkroom import progress
    from darkroom.cli import main as command

    mark = Path(sys.argv.pop(1))

    def show(stage: str, done: int, *_: object) -> None:
        if stage == "images" and done:
            mark.touch()

    progress._watchers.append(show)
    command()


if __name__ == "__main__":
    main()
