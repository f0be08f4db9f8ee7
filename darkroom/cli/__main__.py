"""`python -m darkroom.cli`."""

from __future__ import annotations

from darkroom.cli import main

main()
