"""The catalogue of plausible mistakes, and their replay."""

from __future__ import annotations

from tasks.variants.catalogue import catalogue
from tasks.variants.replay import NotShown, Replay
from tasks.variants.variant import Variant, applied

__all__ = ["NotShown", "Replay", "Variant", "applied", "catalogue"]
