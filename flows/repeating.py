"""A training repeated: what each remedy against overfitting is worth, and whether more data would still help.

Where trainings (tasks) and their measures (expectations) meet. What is finished is kept, so that a run that was killed
goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.settings import TrainingRecipe
from darkroom.storage import LocalStorage
from expectations.remedies import Interval, Outcome, Worth, outcome, worth
from tasks.training.remedies import PLAIN, remedies
from tasks.training.repeats import Repeats

SHARES = (0.25, 0.5, 1.0)
_CURVE_SEEDS = 3


@dataclass(frozen=True)
class LearningPoint:
    """Accuracy on held-out images of a training on a share of the others."""

    share: float
    images: int
    accuracy: Interval


def try_remedies(
    repeats: Repeats, recipe: TrainingRecipe, seeds: Sequence[int], kept: Path, only: Sequence[str] = ()
) -> list[Worth]:
    """Train with and without each remedy, over seeds; measured on the held-out images of each. `kept` is a folder."""
    outcomes = []
    for seed in seeds:  # the seeds outside: a run that is stopped early has whole comparisons
        for name, variant in remedies(recipe).items():
            if not only or name in only or name == PLAIN:
                outcomes.append(_outcome(repeats, name, variant, seed, kept))
    return worth(sorted(outcomes, key=lambda one: list(remedies(recipe)).index(one.remedy)), PLAIN)


def learn_on_less(repeats: Repeats, recipe: TrainingRecipe, seed: int) -> list[LearningPoint]:
    """A learning curve: the same held-out images, and of the others some, whole groups; three draws of each share."""
    accuracies: Mapping[float, list[float]] = {share: [] for share in SHARES}
    images: Mapping[float, list[int]] = {share: [] for share in SHARES}
    for draw in range(_CURVE_SEEDS):
        train, held = repeats.split(seed + draw)
        for share in SHARES:
            some = _some_groups(train, repeats.groups, repeats.labels, share, seed + draw)
            learned = repeats.learned(recipe, some, held, seed + draw)
            right = learned.probabilities(held).argmax(axis=1) == repeats.labels[held]
            accuracies[share].append(float(right.mean()))
            images[share].append(len(some))
    return [LearningPoint(share, round(np.mean(images[share])), Interval.of(accuracies[share])) for share in SHARES]


def _outcome(repeats: Repeats, name: str, variant: TrainingRecipe, seed: int, kept: Path) -> Outcome:
    storage = LocalStorage(kept.absolute())
    key = f"{hashlib.sha256(f'{name} {seed} {variant.model_dump_json()}'.encode()).hexdigest()[:32]}.json"
    known = storage.peek(key)
    if known is not None:
        return Outcome(**json.loads(known))
    train, held = repeats.split(seed)
    learned = repeats.learned(variant, train, held, seed)
    rows = np.concatenate([train, held])
    found = outcome(
        name,
        seed,
        learned.probabilities(rows),
        repeats.labels[rows],
        np.arange(len(rows)) >= len(train),
        learned.climb(held),
        repeats.kinds,
    )
    storage.write(key, json.dumps(asdict(found)).encode())
    return found


def _some_groups(
    train: NDArray[np.int64], groups: NDArray[np.str_], labels: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.int64]:
    """A share of the rows, whole groups, at random; every class keeps a group at least."""
    names = np.random.default_rng([seed, 7]).permutation(np.unique(groups[train]))
    size = {name: int((groups[train] == name).sum()) for name in names}
    chosen: list[str] = []
    taken = 0
    missing = set(labels[train].tolist())
    for name in names:
        own = set(labels[train][groups[train] == name].tolist())
        if taken < share * len(train) or own & missing:
            chosen.append(name)
            taken += size[name]
            missing -= own
    return train[np.isin(groups[train], chosen)]
