"""What is promised of a diagnosis: the cause is named, anybody's model is adopted, its preparation inferred."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import adopting, diagnose_predictions, explain_causes, preparations
from benchmarks.harness import Row

ROWS: Mapping[str, Row] = {**adopting.ROWS, **preparations.ROWS, **diagnose_predictions.ROWS, **explain_causes.ROWS}
