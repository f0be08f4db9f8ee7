"""A training repeated: what each remedy against overfitting is worth, and whether more data would still help.

Where trainings (tasks) and their measures (expectations) meet. Every training that is finished is kept, so that a run
that was killed goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import DataFolderError
from darkroom.settings import TrainingRecipe
from darkroom.storage import LocalStorage
from expectations.remedies import Interval, Outcome, Worth, outcome, worth
from tasks.training.ladder import some_of
from tasks.training.remedies import PLAIN, remedies
from tasks.training.repeats import Repeats

SHARES = (0.25, 0.5, 1.0)
CURVE_SEEDS = 3
# Of the images to learn from, these say when to stop; none of those that are counted.
STOP_SHARE = 0.1
_TRIES = 50


@dataclass(frozen=True)
class LearningPoint:
    """Accuracy on held-out images of a training on a share of the others."""

    share: float
    images: int
    accuracy: Interval


@dataclass(frozen=True)
class Sides:
    """One seed's rows: to learn from, to know when to stop, and held out."""

    seed: int
    learn: NDArray[np.int64]
    stop: NDArray[np.int64]
    held: NDArray[np.int64]

    @property
    def held_to_train(self) -> float:
        """Held-out images for each that is learned from."""
        return len(self.held) / (len(self.learn) + len(self.stop))


def try_remedies(
    repeats: Repeats, recipe: TrainingRecipe, seeds: int, ladder_images: int, kept: Path, only: Sequence[str] = ()
) -> list[Worth]:
    """Train with and without each remedy, over so many seeds from the recipe's on; measured on the held-out images of
    each, up to `ladder_images` of them on the corruption ladder. `kept` is a folder.
    """
    variants = remedies(recipe)
    outcomes = []
    for sides in usable_seeds(repeats, recipe, seeds):  # outside: a run that is stopped has whole comparisons
        for name, variant in variants.items():
            if not only or name in only or name == PLAIN:
                outcomes.append(_outcome(repeats, name, variant, sides, ladder_images, kept))
    return worth(sorted(outcomes, key=lambda one: list(variants).index(one.remedy)), PLAIN)


def learn_on_less(repeats: Repeats, recipe: TrainingRecipe, kept: Path) -> list[LearningPoint]:
    """A learning curve: the same held-out images, and of the others some, whole groups; three draws of each share."""
    points = []
    draws = list(usable_seeds(repeats, recipe, CURVE_SEEDS))
    for share in SHARES:
        found = [_on_less(repeats, recipe, sides, share, kept) for sides in draws]
        ratio = max(sides.held_to_train for sides in draws)
        accuracy = Interval.of([one["accuracy"] for one in found], ratio)
        points.append(LearningPoint(share, round(float(np.mean([one["images"] for one in found]))), accuracy))
    return points


def usable_seeds(repeats: Repeats, recipe: TrainingRecipe, wanted: int) -> Iterator[Sides]:
    """So many seeds from the recipe's on; a seed whose split leaves a class on one side only is passed over.

    Raises: DataFolderError where fewer than that are found among fifty: sessions are too few to split them again.
    """
    found = 0
    for seed in islice(count(recipe.seed), wanted + _TRIES):
        sides = _sides(repeats, seed)
        if sides is not None:
            yield sides
            found += 1
        if found == wanted:
            return
    raise DataFolderError(
        "These images cannot be split in enough ways to repeat the training.",
        expected=f"{wanted} seeds under which every class is on both sides, twice",
        found=f"{found} among the first {wanted + _TRIES}",
        todo="ask for fewer seeds, or leave out --ablate and --learning-curve; add sessions to the scarce classes",
    )


def _sides(repeats: Repeats, seed: int) -> Sides | None:
    # Where sessions are few, a tenth of the images is less than one of them.
    for share in (STOP_SHARE, None):
        with suppress(DataFolderError):
            train, held = repeats.split(seed)
            learn, stop = repeats.split(seed, among=train, share=share)
            return Sides(seed, learn, stop, held)
    return None


def _outcome(
    repeats: Repeats, name: str, variant: TrainingRecipe, sides: Sides, ladder_images: int, kept: Path
) -> Outcome:
    storage = LocalStorage(kept.absolute())
    key = _key("outcome", name, sides.seed, ladder_images, repeats.kinds, variant.model_dump_json())
    known = storage.peek(key)
    if known is not None:
        return Outcome(**json.loads(known))
    learned = repeats.learned(variant, sides.learn, sides.stop, sides.seed)
    rows = np.concatenate([sides.learn, sides.held])
    climbers = np.array(some_of(sides.held.tolist(), max(1, ladder_images), sides.seed), np.int64)
    found = outcome(
        name,
        sides.seed,
        learned.probabilities(rows),
        repeats.labels[rows],
        np.arange(len(rows)) >= len(sides.learn),
        learned.climb(climbers),
        repeats.labels[climbers],
        repeats.kinds,
    )
    storage.write(key, json.dumps(asdict(found), allow_nan=False).encode())
    return found


def _on_less(repeats: Repeats, recipe: TrainingRecipe, sides: Sides, share: float, kept: Path) -> dict[str, Any]:
    storage = LocalStorage(kept.absolute())
    key = _key("curve", sides.seed, share, recipe.model_dump_json())
    known = storage.peek(key)
    if known is not None:
        return dict(json.loads(known))
    some = some_groups(sides.learn, repeats.groups, repeats.labels, share, sides.seed)
    learned = repeats.learned(recipe, some, sides.stop, sides.seed)
    right = learned.probabilities(sides.held).argmax(axis=1) == repeats.labels[sides.held]
    found = {"images": len(some), "accuracy": float(right.mean())}
    storage.write(key, json.dumps(found).encode())
    return found


def _key(*facts: object) -> str:
    return f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.json"


def some_groups(
    rows: NDArray[np.int64], groups: NDArray[Any], labels: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.int64]:
    """A share of the rows, whole groups, at random; every class that is there keeps a group at least."""
    _, group = np.unique(groups[rows], return_inverse=True)
    _, label = np.unique(labels[rows], return_inverse=True)
    has = np.zeros((group.max() + 1, label.max() + 1), np.int64)
    np.add.at(has, (group, label), 1)
    order = np.random.default_rng([seed, 7]).permutation(len(has))
    reached = np.cumsum(has[order], axis=0)
    before = np.concatenate([np.zeros((1, has.shape[1]), np.int64), reached[:-1]])
    enough = before.sum(axis=1) >= share * len(rows)
    first_of_a_class = ((before == 0) & (has[order] > 0)).any(axis=1)
    return rows[np.isin(group, order[~enough | first_of_a_class])]
