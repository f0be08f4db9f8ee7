"""Looking at images: one decode, one forward pass, and every doubt about the answer.

The nightly shard and `darkroom.predict` both come through here; it is where tasks and expectations meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from expectations.knowledge import Knowledge
from expectations.outliers import judge_rows
from expectations.suite import RowOutcome, run_rows
from tasks.bundle import Bundle, find_bundle, open_bundle
from tasks.inference import Engine, load_engine
from tasks.workers import Arrived, DecodePool, Job, Refused, Wanted

# A few dozen: enough to keep the engine busy, small enough that the tensors of a batch stay in the cache.
BATCH = 32


@dataclass(frozen=True)
class Instruments:
    """What it takes to look at images: a proved bundle, its engine, and what it knows of normal."""

    bundle: Bundle
    engine: Engine
    knowledge: Knowledge
