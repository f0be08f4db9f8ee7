"""What is promised of a diagnosis: the cause is named, and a preparation that nobody stated is inferred."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import preparations
from benchmarks.harness import Row

ROWS: Mapping[str, Row] = {**preparations.ROWS}
