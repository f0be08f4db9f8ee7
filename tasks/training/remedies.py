"""The remedies against overfitting, each on and off: recipes to be trained side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from darkroom.settings import AugmentationOptions, FineTuneOptions, TrainingRecipe

PLAIN: Final = "plain"
RECIPE: Final = "recipe"
# What is tried where a recipe leaves a remedy out.
_USUAL: Final = TrainingRecipe(fine_tune=FineTuneOptions(layers=30))


def remedies(recipe: TrainingRecipe) -> Mapping[str, TrainingRecipe]:
    """Name → recipe: without any remedy, as it is, and as it is but for one remedy each.

    Fine-tuning is none where the backbone learns from nothing: there it learns in the first phase.
    """
    found = {PLAIN: _without_any(recipe), RECIPE: recipe}
    for name, (has, without, tried) in _switches(recipe).items():
        found[f"{RECIPE} {'without' if has else 'with'} {name}"] = without if has else tried
    return found


def _without_any(recipe: TrainingRecipe) -> TrainingRecipe:
    return recipe.model_copy(
        update={
            "augmentation": AugmentationOptions.none(),
            "head": recipe.head.model_copy(update={"l2": 0.0, "dropout": 0.0}),
            "fine_tune": FineTuneOptions(),
        }
    )


def _switches(recipe: TrainingRecipe) -> Mapping[str, tuple[bool, TrainingRecipe, TrainingRecipe]]:
    """Remedy → whether the recipe has it, the recipe without, the recipe with the usual strength of it."""

    def head(name: str, value: float) -> TrainingRecipe:
        return recipe.model_copy(update={"head": recipe.head.model_copy(update={name: value})})

    switches = {
        "augmentation": (
            recipe.augmentation.active,
            recipe.model_copy(update={"augmentation": AugmentationOptions.none()}),
            recipe.model_copy(update={"augmentation": _USUAL.augmentation}),
        ),
        "dropout": (recipe.head.dropout > 0, head("dropout", 0.0), head("dropout", _USUAL.head.dropout)),
        "fine-tuning": (
            recipe.fine_tunes,
            recipe.model_copy(update={"fine_tune": FineTuneOptions()}),
            recipe.model_copy(update={"fine_tune": _USUAL.fine_tune}),
        ),
    }
    if recipe.head.dense_units:  # L2 is on the dense layer
        switches["L2"] = (recipe.head.l2 > 0, head("l2", 0.0), head("l2", _USUAL.head.l2))
    if recipe.weights == "none":
        del switches["fine-tuning"]
    return switches
