"""A few goldens that stay at hand: what a proved engine said of them it must say to the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import GoldenMismatch
from tasks.goldens.replay import OTHER_ENGINE_TOLERANCE, GoldenNow

if TYPE_CHECKING:
    from tasks.inference import Engine

_MOST: Final = 8


@dataclass(frozen=True)
class Sentinels:
    """Tensors (n, h, w, 3) of goldens, and what the engine answered to them (n, k) in this process, once proved.

    A model in memory can come to harm after its proof: memory that was given back too early, a fault of the machine.
    It then answers fast, plausibly and wrongly.
    """

    tensors: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    @classmethod
    def of(cls, goldens: Sequence[GoldenNow], engine: Engine) -> Self:
        """Of the first few goldens, as they were prepared for the proof."""
        tensors = np.stack([one.values for one in goldens[:_MOST] if one.values is not None])
        return cls(tensors, engine.run(tensors).probabilities)

    def check(self, engine: Engine, images: int) -> None:
        """Ask again after so many images: one golden for each hundred of them.

        Raises: GoldenMismatch where the engine answers otherwise than it did; Failed where it has no answer.
        """
        asked = slice(1 + images // 100)
        gap = float(np.abs(engine.run(self.tensors[asked]).probabilities - self.probabilities[asked]).max())
        if not gap <= OTHER_ENGINE_TOLERANCE:
            raise GoldenMismatch(
                "The model answers otherwise than when it was proved, in this very process. What it has said since its "
                "last check is thrown away.",
                expected=f"probabilities within {OTHER_ENGINE_TOLERANCE:g} of those of the proof",
                found=f"a difference of {gap:.2g} ({engine.name})",
                todo="run the night again: it goes on where it was; if this comes back, use the engine keras and test "
                "the memory of this machine",
            )
