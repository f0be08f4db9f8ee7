"""Stands where the process of a run would be: hands the run to one that scores all of them, and ends when that has.

Run by the worker of `darkroom serve` as `python -S -E handing.py SOCKET`: it imports nothing, and takes no time.
"""

from __future__ import annotations

import os
import socket
import sys


def main(place: str) -> int:
    """The run that the environment names; how it ended."""
    with socket.socket(socket.AF_UNIX) as way:
        way.connect(place)
        way.sendall(os.environ["PREFECT__FLOW_RUN_ID"].encode() + b"\n")
        return int(way.makefile().readline() or 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
