"""The recipe: labelled folders → a network and the profile of what it was trained on."""

from __future__ import annotations

from tasks.training.dataset import Dataset, LabelledFile, Split, scan, split
from tasks.training.recipe import TrainedModel, train_model
from tasks.training.work import Work, work_folder

__all__ = [
    "Dataset",
    "LabelledFile",
    "Split",
    "TrainedModel",
    "Work",
    "scan",
    "split",
    "train_model",
    "work_folder",
]
