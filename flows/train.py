"""From labelled folders to a sealed bundle."""

from __future__ import annotations
