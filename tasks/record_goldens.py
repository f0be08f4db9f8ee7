"""Knows nothing but how to be a process: a request on stdin, the goldens recorded, one line of JSON on stdout."""

from __future__ import annotations

import json
import sys

from darkroom.errors import DarkroomError
from tasks.goldens.recording import record


def main() -> int:
    """Record the goldens of the folder that the request names; an expected error is an answer, too."""
    try:
        answer = record(json.load(sys.stdin))
    except DarkroomError as error:
        answer = dict(error.as_dict())
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
