"""The recipe: labelled folders → a network and the profile of what it was trained on."""

from __future__ import annotations

from tasks.training.dataset import Dataset, LabelledFile, Split, scan, split
from tasks.training.measures import Measures, measure_predictions
from tasks.training.recipe import TrainedModel, cross_validate, train_model

__all__ = [
    "Dataset",
    "LabelledFile",
    "Measures",
    "Split",
    "TrainedModel",
    "cross_validate",
    "measure_predictions",
    "scan",
    "split",
    "train_model",
]
