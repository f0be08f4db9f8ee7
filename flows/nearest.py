"""The training photos that the model sees as nearest to some images, for a page: those that `darkroom explain` finds."""

from __future__ import annotations

NEAREST = 3
