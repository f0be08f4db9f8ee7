"""From labelled folders to a sealed bundle."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel, ConfigDict

from darkroom.settings import TrainingRecipe
from expectations.knowledge import Knowledge, learn_normal
from tasks.bundle import Bundle, SealedContents, choose_goldens, seal_bundle


class Sealed(BaseModel):
    """A bundle that was just sealed, and how well it does."""

    model_config = ConfigDict(frozen=True)

    bundle_id: str
    path: str
    classes: tuple[str, ...]
    images: dict[str, int]
    left_out: int
    training_accuracy: float
    validation_accuracy: float
    validation_interval: tuple[float, float]
    calibration_error: float
    calibration_error_after: float
    seconds: float

    def as_text(self) -> str:
        """For a person."""
        low, high = self.validation_interval
        left_out = f"; {self.left_out} files left out, see the card" if self.left_out else ""
        return (
            f"{self.bundle_id} is sealed: {len(self.classes)} classes, {self.images['train']} images to train on, "
            f"{self.images['validation']} held out{left_out}.\n"
            f"Right on {self.validation_accuracy:.1%} of the held-out images ({low:.1%} – {high:.1%}), "
            f"on {self.training_accuracy:.1%} of those it was trained on.\n"
            f"Bundle  {self.path}\nCard    {self.path}/card.md"
        )
