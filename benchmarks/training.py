"""What is promised of a training: its validation is honest, its recipe helps, it is fast, and a kill costs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import honest, recipes, robust
from benchmarks.harness import Row

ROWS: Mapping[str, Row] = {**honest.ROWS, **recipes.ROWS, **robust.ROWS}
