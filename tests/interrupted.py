"""Trains, and kills itself at a chosen moment: `python -m tests.interrupted FOLDER MODELS PHASE MOMENT RECIPE`.

PHASE is a stage of the progress, killed at its MOMENT-th report; or a step of the flow, killed as it is called; or
`none`. Everything is recorded at once, so that every moment has something to go on from. Prints the bundle's path.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

from darkroom.settings import TrainingRecipe


def main(folder: Path, models: Path, phase: str, moment: int, recipe: TrainingRecipe) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from darkroom.orchestrator import api

    from flows import train as flow
    from tasks.bundle import sealing
    from tasks.training import learning, outputs, pixels, work

    pixels.RECORD_SECONDS = outputs.RECORD_SECONDS = learning.CHECKPOINT_SECONDS = 0.0
    left = moment

    def tell(stage: str, done: int, total: int, note: str = "") -> None:
        nonlocal left
        if stage == phase:
            left -= 1
            if left <= 0:
                _die()

    flow.tell = tell  # type: ignore[attr-defined]
    places = {"learn what is normal": (flow, "learn_normal"), "choose goldens": (flow, "choose_goldens")}
    places |= {"seal": (sealing, "record_in_new_process"), "sealed": (work.LocalStorage, "remove_folder")}
    if phase in places:
        setattr(*places[phase], _dying)
    with api():
        print(flow.train(folder=folder, models=models, name="parts", recipe=recipe).path)


def _dying(*_: Any, **__: Any) -> Any:
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]), sys.argv[3], int(sys.argv[4]), TrainingRecipe.model_validate_json(sys.argv[5]))
