"""The evaluation of a night: what the shards left, weighed into one verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd

from darkroom.summary import Counts, ExpectationResult
from expectations.drift import night_drift, night_metrics
from expectations.knowledge import Knowledge
from expectations.sketch import Sketch
from expectations.suite import RowOutcome, finish
from expectations.verdict import Judgement, NightEvidence, judge_night


@dataclass(frozen=True)
class Evaluated:
    """A night, weighed."""

    judgement: Judgement
    expectations: tuple[ExpectationResult, ...]
    drift: pd.DataFrame
    sketch: Sketch
