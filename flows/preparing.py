"""Infers the preparation of a model that comes without one: from labelled images, stage by stage, and how sure it is.

scaling × order of channels ─► geometry and decoder under those that survive ─► pairs that no library publishes
                            ─► the ranking, the stated set, what is certain, and what scores better than the user's own

A forward pass is one image; there are at most CANDIDATES for each labelled image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import Failed, WrongUse
from darkroom.progress import Progress, tell
from expectations.paired import Better, better_than
from expectations.preparation import Candidate, Certainty, Inferred, Ranked, infer
from flows.preparing_words import better_sentence, certain_sentences
from tasks.inference import BATCH, Engine
from tasks.knobs import Preprocessing
from tasks.presets import preset
from tasks.published import (
    ORDERS,
    SCALINGS,
    commonness,
    geometries,
    in_words,
    knob_families,
    published_values,
    scaled,
    scaling_of,
)
from tasks.variants import Replay

# Preparations that are tried at most, over all stages.
CANDIDATES: Final = 96
# Scalings with an order of channels that go on from the first stage at most, and the odds under which one does not.
_SURVIVORS: Final = 4
_LONG_ODDS: Final = 0.002
_PAIRS: Final = 12
# What labelled photos can prove. A geometry may suit these photos better than the one of the training: a squash beats
# the centre crop that a model was trained with where the objects fill the frame.
_PROVABLE: Final = ("scaling", "channel_order")
# A decoder that refuses a larger share of the images than this is out of the question.
_UNREAD: Final = 0.5
# Images that screen preparations, where there are more.
_SCREEN: Final = 200


@dataclass(frozen=True)
class Row:
    """A preparation that was tried, and what it did."""

    preprocessing: Preprocessing
    found: Ranked


@dataclass(frozen=True)
class InferredPreparation:
    """What is known of a model's preparation. `rows`: every one that was tried, most likely first; `passes`: how many
    images went through the model; `own`: the user's own preparation (`stated`), or what the model's origin publishes.
    """

    rows: tuple[Row, ...]
    certainties: tuple[Certainty, ...]
    images: int
    groups: int
    passes: int
    own: Preprocessing | None
    stated: bool
    better: Better | None
    better_preprocessing: Preprocessing | None

    @property
    def best(self) -> Preprocessing:
        """The most likely."""
        return self.rows[0].preprocessing

    @property
    def plausible(self) -> tuple[Preprocessing, ...]:
        """The stated 95 % set, most likely first."""
        return tuple(row.preprocessing for row in self.rows if row.found.in_set)

    @property
    def told_apart(self) -> tuple[Row, ...]:
        """The stated set, of each preparations that count as one the likeliest."""
        heads: list[Row] = []
        for row in self.rows:
            if row.found.in_set and not any(row.found.name in head.found.one_with for head in heads):
                heads.append(row)
        return tuple(heads)

    def certainty(self, family: str) -> Certainty:
        """Of scaling, channel_order, fit, interpolation, antialias, decoder. KeyError: another."""
        return {one.family: one for one in self.certainties}[family]

    def sentences(self) -> list[str]:
        """For a person: what is certain, what is not, what scores better than their own."""
        sentences = certain_sentences(self.certainties, self.images, self.groups)
        if self.better is not None and self.own is not None and self.better_preprocessing is not None:
            other = self.better_preprocessing
            sentences.append(better_sentence(self.better, self.own, other, self.images, stated=self.stated))
        return sentences

    def as_text(self) -> str:
        """The sentences in one paragraph."""
        return " ".join(self.sentences())


def infer_preparation(
    engine: Engine,
    images: Sequence[bytes],
    labels: NDArray[np.int64],
    *,
    size: tuple[int, int],
    origin: str | None = None,
    scaling_inside: bool = False,
    stated: Preprocessing | None = None,
    groups: NDArray[np.int64] | None = None,
    progress: Progress = tell,
) -> InferredPreparation:
    """Try published preparations on labelled images and say which one the model was trained with, and how sure that is.

    labels (n,): positions in the model's outputs. size: (height, width). origin (`teachable machine`, a module of
    keras.applications), scaling_inside (a Rescaling layer in the model) and stated (the user's own) decide what is
    tried first and is never left out; they prove nothing. groups (n,): sessions.

    Raises: WrongUse for fewer than ten images, labels that are no class, images that no decoder reads.
    """
    if len(images) != len(labels):
        raise WrongUse("Images and labels are not as many.", expected=len(images), found=len(labels))
    own = stated or _published(size, origin)
    trial = _Trial(engine, images, labels, groups, own or geometries(size)[0], origin, progress)
    shapes = [*([stated] if stated else []), *geometries(size, origin)]
    values = _values_in_order(origin, scaling_inside, own)

    trial.add([_with_values(shapes[0], *pair) for pair in values] + ([own] if own else []))
    if not trial.tried or (own is not None and in_words(own) not in trial.tried):
        raise WrongUse(
            "Most of these images cannot be read as the preparation says.",
            expected=f"at least {1 - _UNREAD:.0%} of {len(images)} images",
            found=in_words(own) if own is not None else "no preparation that reads them",
            todo="give the images that the model was validated on, or leave the preparation out to have it inferred",
        )
    surviving = trial.surviving_values(values)
    trial.add(_with_values(shape, *pair) for pair in surviving for shape in shapes)
    trial.add(_pairs(trial.inferred(), trial.tried))
    trial.complete(own)

    inferred = trial.inferred()
    better = trial.better(inferred, own)
    return InferredPreparation(
        rows=tuple(Row(trial.tried[row.name], row) for row in inferred.ranking),
        certainties=inferred.certainties,
        images=len(images),
        groups=inferred.groups,
        passes=trial.passes,
        own=own,
        stated=stated is not None,
        better=better,
        better_preprocessing=None if better is None else trial.tried[better.name],
    )


class _Trial:
    """The preparations tried so far, by name, and what the model said of the images.

    Where there are many images, some of them screen: the rest are shown under those that may win only.
    """

    def __init__(
        self,
        engine: Engine,
        images: Sequence[bytes],
        labels: NDArray[np.int64],
        groups: NDArray[np.int64] | None,
        first: Preprocessing,
        origin: str | None,
        progress: Progress,
    ) -> None:
        self.tried: dict[str, Preprocessing] = {}
        self.passes = 0
        self._engine = engine
        self._replay = Replay(engine, images, first)
        # Evenly spaced: files come sorted by class, and each must be there.
        screen = np.unique(np.linspace(0, len(labels) - 1, min(_SCREEN, len(labels))).round().astype(int))
        self._order = np.concatenate([screen, np.setdiff1d(np.arange(len(labels)), screen)])
        self._screen = len(screen)
        self._labels = labels[self._order]
        self._groups = None if groups is None else groups[self._order]
        self._origin = origin
        self._progress = progress
        self._answers: dict[str, NDArray[np.float32]] = {}  # (images so far, k)

    def add(self, preparations: Iterable[Preprocessing]) -> None:
        """Show the screening images under each preparation that was not tried yet."""
        new = {in_words(one): one for one in preparations}
        new = {name: one for name, one in new.items() if name not in self.tried}
        new = dict(list(new.items())[: CANDIDATES - len(self.tried)])
        for name, said in self._shown(new, self._order[: self._screen]).items():
            # Nobody has trained on files that the decoder does not read.
            if np.isnan(said).any(axis=1).mean() <= _UNREAD:
                self.tried[name] = new[name]
                self._answers[name] = said

    def complete(self, own: Preprocessing | None) -> None:
        """Show the other images under what may win, the user's own, and the best of each value of each knob: what is
        certain must have had a rival to the end. What is left behind is forgotten.
        """
        if self._screen == len(self._order):
            return
        ranking = self.inferred().ranking
        going = {row.name for row in ranking if row.weight >= _LONG_ODDS * ranking[0].weight}
        rivals: dict[tuple[str, str], str] = {}
        for row in ranking:
            for family in knob_families(self.tried[row.name]).items():
                rivals.setdefault(family, row.name)
        going |= {*rivals.values(), *([] if own is None else [in_words(own)])}
        self.tried = {name: one for name, one in self.tried.items() if name in going}
        rest = self._shown(self.tried, self._order[self._screen :])
        self._answers = {name: np.concatenate([self._answers[name], rest[name]]) for name in self.tried}

    def inferred(self) -> Inferred:
        """The statistics of what was tried."""
        answers = np.stack([self._answers[name] for name in self.tried])
        n = answers.shape[1]
        candidates = [
            Candidate(name, knob_families(one), commonness(one, self._origin)) for name, one in self.tried.items()
        ]
        groups = None if self._groups is None else self._groups[:n]
        return infer(answers, self._labels[:n], candidates, provable=_PROVABLE, groups=groups)

    def surviving_values(self, values: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Scalings with an order of channels that the first stage leaves possible; the other order of the best, too."""
        weights: dict[tuple[str, str], float] = {}
        for row in self.inferred().ranking:
            families = knob_families(self.tried[row.name])
            pair = (families["scaling"], families["channel_order"])
            weights[pair] = max(weights.get(pair, 0.0), row.weight)
        order = sorted((pair for pair in weights if pair in values), key=lambda pair: -weights[pair])
        possible = [pair for pair in order if weights[pair] >= _LONG_ODDS * weights[order[0]]][:_SURVIVORS]
        scaling, channels = possible[0]
        other = (scaling, ORDERS[1 - ORDERS.index(channels)])
        return possible if other in possible else [*possible[: _SURVIVORS - 1], other]

    def better(self, inferred: Inferred, own: Preprocessing | None) -> Better | None:
        """What scores better than the user's own."""
        if own is None:
            return None
        answers = np.stack([self._answers[name] for name in self.tried])
        one_with = {row.name: row.one_with for row in inferred.ranking}
        return better_than(in_words(own), one_with, answers, self._labels, list(self.tried), groups=self._groups)

    def _shown(self, preparations: Mapping[str, Preprocessing], rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """A batch of images under all preparations before the next batch: each is decoded once a decoder."""
        parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in preparations}
        done, total = 0, len(rows) * len(preparations)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            for name, one in preparations.items():
                parts[name].append(self._answered(one, batch))
                done += len(batch)
                self._progress("trying preparations", done, total, f"{len(preparations)} of them")
        return {name: np.concatenate(found) for name, found in parts.items()}

    def _answered(self, preparation: Preprocessing, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        tensors = self._replay.tensors(preparation, rows.tolist())
        read = ~np.isnan(tensors[:, 0, 0, 0])
        found = np.full((len(rows), self._classes), np.nan, np.float32)
        if read.any():
            self.passes += int(read.sum())
            # Numbers that the model cannot stand (a half-precision layer overflows) are no preparation of its own.
            with suppress(Failed):
                found[read] = self._engine.run(tensors[read]).probabilities
        return found

    @cached_property
    def _classes(self) -> int:
        tensor = np.zeros((1, *self._engine.input_shape), np.float32)
        return int(self._engine.run(tensor).probabilities.shape[1])


def _published(size: tuple[int, int], origin: str | None) -> Preprocessing | None:
    return preset("teachable_machine", size=size) if origin == "teachable machine" else None


def _with_values(shape: Preprocessing, scaling: str, order: str) -> Preprocessing:
    return shape.with_knobs(**dict(scaled(scaling, order)))


def _values_in_order(origin: str | None, scaling_inside: bool, own: Preprocessing | None) -> list[tuple[str, str]]:
    """Every scaling in both orders of channels, what the model itself says first."""
    first = "identity" if scaling_inside else published_values(origin)
    if own is not None and scaling_of(own.values) in SCALINGS:
        first = scaling_of(own.values)
    ordered = sorted(SCALINGS, key=lambda scaling: scaling != first)
    own_order = {scaling: scaled(scaling).channel_order for scaling in ordered}
    pairs = [(scaling, order) for scaling in ordered for order in ORDERS]
    return sorted(pairs, key=lambda pair: own_order[pair[0]] != pair[1])


def _pairs(inferred: Inferred, tried: Mapping[str, Preprocessing]) -> list[Preprocessing]:
    """Geometries that no library publishes: the fit of one of the stated set, decoded and resized as another."""
    plausible = [tried[name] for name in inferred.plausible]
    made = []
    for one in plausible:
        for other in plausible:
            mixed = one.model_copy(update={"decode": other.decode, "geometry": _refitted(other, one)})
            made.append(mixed)
    known = {one.digest for one in tried.values()}
    return [one for one in dict.fromkeys(made) if one.digest not in known][:_PAIRS]


def _refitted(resized_as: Preprocessing, fitted_as: Preprocessing) -> Any:
    geometry, other = resized_as.geometry, fitted_as.geometry
    rounding = "float32" if geometry.resizer == "tensorflow" else "floor"
    return geometry.model_copy(
        update={"fit": other.fit, "zoom": other.zoom, "pad_value": other.pad_value, "box_rounding": rounding}
    )
