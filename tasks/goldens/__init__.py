"""Golden images: chosen at training, recorded when the bundle is sealed, replayed before anything is scored."""

from __future__ import annotations

from tasks.goldens.changes import GoldenChange, golden_changes
from tasks.goldens.choosing import choose_goldens
from tasks.goldens.record import Golden, SealedGolden
from tasks.goldens.replay import GoldenReplay, replay_goldens

__all__ = [
    "Golden",
    "GoldenChange",
    "GoldenReplay",
    "SealedGolden",
    "choose_goldens",
    "golden_changes",
    "replay_goldens",
]
