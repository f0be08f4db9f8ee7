"""Other people's models: what a file really is, what in it would run, and how it becomes one that can be sealed."""

from __future__ import annotations

from tasks.foreign.graph_reading import Scaling
from tasks.foreign.labels import labels_beside, read_labels
from tasks.foreign.opening import ForeignModel, open_foreign
from tasks.foreign.origin import TEACHABLE_MACHINE
from tasks.foreign.outputs import check_outputs_on
from tasks.foreign.reading import Finding, findings_of_behaviour, findings_of_model
from tasks.foreign.sealed import findings_of_sealed

__all__ = [
    "TEACHABLE_MACHINE",
    "Finding",
    "ForeignModel",
    "Scaling",
    "check_outputs_on",
    "findings_of_behaviour",
    "findings_of_model",
    "findings_of_sealed",
    "labels_beside",
    "open_foreign",
    "read_labels",
]
