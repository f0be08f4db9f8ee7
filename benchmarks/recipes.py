"""What the remedies are worth on trashnet, and whether the default recipe is the one that wins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from benchmarks.harness import Measured, Row
from benchmarks.night import data, work
from darkroom.settings import TrainingRecipe
from expectations.remedies import Interval, Outcome, Worth, worth

SEEDS, LADDER_IMAGES = 5, 100


def ablation() -> Mapping[str, Measured]:
    """The default recipe on the small backbone, with and without each remedy, five seeds: the ladder of corruptions."""
    from flows.repeating import try_remedies
    from tasks.training.remedies import RECIPE
    from tasks.training.repeats import Repeats

    recipe = TrainingRecipe(weights=str(data() / "backbones" / "mobilenet_v2_0.35_224_no_top.keras"))
    place = work() / "ablation"
    place.mkdir()
    repeats = Repeats(data() / "trashnet", recipe, place, lambda *_: None)
    found = {one.remedy: one for one in try_remedies(repeats, recipe, SEEDS, LADDER_IMAGES, place / "outcomes")}
    outcomes = [Outcome(**json.loads(file.read_text())) for file in sorted((place / "outcomes").glob("*.json"))]
    against = {one.remedy: one.difference for one in worth(outcomes, RECIPE)}
    table = "; ".join(_line(one, against[one.remedy]) for one in found.values())
    own = found[RECIPE]
    return {
        "ablation_seeds": Measured(own.seeds, table, [asdict(one) for one in found.values()], list(range(SEEDS))),
        "ladder_gain_of_the_recipe": Measured(
            own.difference.mean,
            f"over plain, 95 % interval {own.difference.low:+.3f} to {own.difference.high:+.3f}; clean accuracy "
            f"{own.accuracy_difference.mean:+.3f} ({own.accuracy_difference.low:+.3f} to "
            f"{own.accuracy_difference.high:+.3f})",
            [asdict(own)],
            list(range(SEEDS)),
        ),
    }


def _line(one: Worth, against: Interval) -> str:
    return (
        f"{one.remedy}: accuracy {one.accuracy.mean:.3f}, gap {one.gap.mean:.3f}, calibration error "
        f"{one.calibration_error.mean:.3f}, ladder {one.ladder.mean:.3f} (against the recipe {against.mean:+.3f}, "
        f"{against.low:+.3f} to {against.high:+.3f})"
    )


ROWS: Mapping[str, Row] = {"ablation": ablation}
