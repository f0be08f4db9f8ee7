"""What is promised of adopting: somebody's model is a bundle without a line of code, and answers as it always did.

Part of the topic `diagnose`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.harness import Measured, Row
from benchmarks.night import _run, data, work


def adopted_waste() -> Mapping[str, Measured]:
    """The Teachable Machine classifier with its labels and its stated preparation, by the command; the same photos."""
    import darkroom

    adopted = waste_bundle()
    reference = pd.read_csv(data() / "adopt" / "waste" / "predictions_reference.csv")
    rows = darkroom.predict(Path(adopted["path"]), [data() / path for path in reference["path"]])
    found = np.stack(rows["probabilities"].tolist())
    given = reference[list(adopted["classes"])].to_numpy()
    difference = float(np.abs(found - given).max())
    return {
        "adopted_max_probability_difference": Measured(
            difference,
            f"{len(reference)} photos; kept with a difference of {adopted['difference']:.1e} to the original; "
            f"{adopted['kind']}",
        )
    }


@cache
def waste_bundle() -> dict[str, Any]:
    """The classifier as a bundle; what `darkroom adopt --json` says of it."""
    waste = data() / "adopt" / "waste"
    return _run(
        "adopt",
        waste / "keras_model.h5",
        "--data",
        data() / "trashnet",
        "--labels",
        waste / "labels.txt",
        "--preprocessing",
        "teachable_machine",
        "--out",
        work() / "adopted",
        "--name",
        "waste",
    )


ROWS: Mapping[str, Row] = {"adopted_waste": adopted_waste}
