"""Which replay reproduces predictions that were made elsewhere, or that none does.

A variant explains predictions when it reproduces them row by row, within what their digits and another machine may add.
Being closest is not enough: among a thousand wrong preparations one is always closest. Where the rows agree only
roughly, it must stand far apart from every other as well (`nearly`): the same mistake on another version of a library.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from expectations.answers import Answers, distances, largest_change, undecided
from expectations.outputs import output_mistakes

Level = Literal["same", "reproduced", "nearly", "unexplained"]
Names = tuple[str, ...]

# What a variant must change on these images for them to show it; below it, machines differ more.
SHOWN: Final = 1e-3
# Shares of rows within the tolerance: of all, and of those that the model was not certain of.
_ALL, _UNDECIDED = 0.95, 0.90
_LABELS: Final = 0.99  # another model as good as this one agrees on nine labels in ten
# Some variant explains all of ten or twenty labels of another model in a fifth to a half of the draws; of fifty, none.
_FEWEST_LABELS, _FEWEST_FLIPS = 40, 3
_NOTHING: Final = 1e-6
_FLOOR: Final = 1e-5  # closer than this is as close as can be
# `nearly`: half of the undecided rows within this, nine in ten within five times it, and every other variant
# that these files can show at least so many times as far in the geometric mean.
_NEAR, _APART = 0.01, 2.0


@dataclass(frozen=True)
class Candidate:
    """One explanation: `names` of its variants (none: the pinned preparation), and how the answers fit.

    score: mean over rows of the log distance beyond rounding, smaller is better. share, share_undecided: of the rows
    that are reproduced. median, p95, worst: distances in probability.
    """

    names: Names
    score: float
    share: float
    share_undecided: float
    median: float
    p95: float
    worst: float
    rows: int


@dataclass(frozen=True)
class Reproduction:
    """Theirs against every replay. `alike` are explanations that these files cannot tell from the best.

    level: `same`, the pinned preparation reproduces the answers; `reproduced`, the best does; `nearly`, it is close and
    nothing else is (with no names: the pinned one, on another machine or in another precision); `unexplained`.
    """

    level: Level
    best: Candidate
    alike: tuple[Names, ...]
    runner_up: Candidate | None
    not_shown: Names
    ranking: tuple[Candidate, ...]
    rows: int
    undecided: int
    tolerance: float

    @property
    def explained(self) -> bool:
        """Whether something, be it the pinned preparation, reproduces the answers, nearly at least."""
        return self.level != "unexplained"

    @property
    def variants(self) -> Names:
        """The cause: empty where nothing differs, or nothing explains it."""
        return () if self.level == "unexplained" else self.best.names

    @property
    def margin(self) -> float | None:
        """How many more rows, as a share, the best reproduces than the first that differs from it."""
        return None if self.runner_up is None else self.best.share - self.runner_up.share


@dataclass(frozen=True)
class Evidence:
    """Candidates that were tried on the same rows, and their replays. `read_as`: for mistakes behind the model, the one
    that the answers were read with (such as logits); only what was read in one way can be compared.
    """

    theirs: Answers
    candidates: tuple[Candidate, ...]
    replays: dict[Names, NDArray[np.floating[Any]]] = field(repr=False)
    read_as: dict[Names, str] = field(default_factory=dict)

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(
            self.theirs,
            self.candidates + other.candidates,
            self.replays | other.replays,
            self.read_as | other.read_as,
        )

    def without(self, refuted: Collection[Names]) -> Evidence:
        """Without explanations that other rows have refuted."""
        return replace(self, candidates=tuple(one for one in self.candidates if one.names not in refuted))

    def alike(self, one: Names, other: Names) -> bool:
        """Whether these files cannot tell two explanations from each other."""
        same = self.read_as.get(one, "") == self.read_as.get(other, "")
        return same and self._change(one, other) <= 2 * self.theirs.tolerance

    def shown(self, names: Names) -> bool:
        """Whether an explanation differs visibly from the pinned preparation on these files."""
        return names in self.read_as or self._change(names, ()) >= max(SHOWN, 2 * self.theirs.rounding)

    def changes(self, names: Names) -> bool:
        """Whether an explanation differs at all: too little to be named, maybe enough beside another."""
        return self._change(names, ()) > _NOTHING

    def _change(self, one: Names, other: Names) -> float:
        return float(largest_change(self.theirs.kind, self.replays[one], self.replays[other]).max(initial=0.0))


def weigh(theirs: Answers, names: Sequence[Names], replays: NDArray[np.floating[Any]]) -> Evidence:
    """Preparations against the answers: `replays` (variants, n, k), NaN rows where that variant cannot read a file.

    A file that none of them can read says nothing.
    """
    readable = np.isfinite(replays).all(axis=2).any(axis=0)
    rows = readable if readable.any() else None
    found = [_candidate(theirs, one, replay, rows) for one, replay in zip(names, replays, strict=True)]
    return Evidence(theirs, tuple(found), dict(zip(names, replays, strict=True)))


def weigh_outputs(
    theirs: Answers, names: Sequence[Names], replays: NDArray[np.floating[Any]], classes: Sequence[str]
) -> Evidence:
    """Every mistake behind the model on top of every preparation."""
    mistakes = output_mistakes(theirs, classes)
    found: list[Candidate] = []
    kept: dict[Names, NDArray[np.floating[Any]]] = {}
    read_as: dict[Names, str] = {}
    for one, replay in zip(names, replays, strict=True):
        for mistake in mistakes:
            outcome = mistake.undo(theirs, replay)
            if outcome is None:
                continue
            names_now = (*one, f"{mistake.knob}={outcome.value}")
            found.append(_candidate(outcome.theirs, names_now, outcome.replay, outcome.rows))
            kept[names_now] = outcome.replay
            read_as[names_now] = "" if outcome.theirs is theirs else outcome.value
    return Evidence(theirs, tuple(found), kept, read_as)


def conclude(evidence: Evidence, *, nearly: bool = True) -> Reproduction:
    """The ranking and the decision. The pinned preparation, with no names, must be among the candidates.

    `nearly`: whether a rough agreement may be an answer; False while more explanations are still to be tried.
    """
    theirs = evidence.theirs
    shown = {names: evidence.shown(names) for names in evidence.replays}
    # Sorting is stable and singles come first: of equals the simplest wins.
    ranking = sorted(evidence.candidates, key=lambda one: (round(one.score, 6), len(one.names)))
    best = first = ranking[0]
    if not shown[first.names]:  # what changes less than anybody can see is no cause
        best = next(one for one in ranking if not one.names)
    alike = tuple(one.names for one in ranking if one is not best and evidence.alike(one.names, best.names))
    others = [
        one for one in ranking if one is not best and one.names not in alike and (shown[one.names] or not one.names)
    ]
    runner_up = others[0] if others else None
    level = _level(theirs, first, others, nearly=nearly)
    if level == "reproduced" and not best.names:
        # What fits better changes too little to be named; that the pinned one fits, too, is not said by that.
        level = "same" if best.share >= (_LABELS if theirs.kind == "labels" else _ALL) else "nearly"
    return Reproduction(
        level=level,
        best=best,
        alike=alike,
        runner_up=runner_up,
        not_shown=tuple(names[0] for names, can in shown.items() if len(names) == 1 and not can),
        ranking=tuple(ranking[:50]),
        rows=len(theirs),
        undecided=int(undecided(theirs).sum()),
        tolerance=theirs.tolerance,
    )


def _candidate(
    theirs: Answers,
    names: Names,
    replay: NDArray[np.floating[Any]],
    rows: NDArray[np.bool_] | None = None,
) -> Candidate:
    far = distances(theirs, replay)
    open_rows = undecided(theirs)
    if rows is not None:
        far, open_rows = far[rows], open_rows[rows]
    fits = far <= theirs.tolerance
    beyond = np.maximum(far - theirs.rounding, 0.0)
    return Candidate(
        names=names,
        score=float(np.log(beyond + _FLOOR).mean()),
        share=float(fits.mean()),
        share_undecided=float(fits[open_rows].mean()) if open_rows.any() else float(fits.mean()),
        median=float(np.median(far[open_rows] if open_rows.any() else far)),
        p95=float(np.quantile(far, 0.95)),
        worst=float(far.max()),
        rows=len(far),
    )


def _level(theirs: Answers, best: Candidate, others: Sequence[Candidate], *, nearly: bool) -> Level:
    if theirs.kind == "labels":
        return "reproduced" if best.share >= _LABELS and _labels_suffice(best, others) else "unexplained"
    if best.share >= _ALL and best.share_undecided >= _UNDECIDED:
        return "reproduced"
    if nearly and best.median <= _NEAR and best.p95 <= 5 * _NEAR:
        apart = min((one.score - best.score for one in others), default=np.inf)
        if apart >= np.log(_APART):
            return "nearly"
    return "unexplained"


def _labels_suffice(best: Candidate, others: Sequence[Candidate]) -> bool:
    """Whether so many labels speak against the pinned preparation that one explanation of all is no luck."""
    pinned = next((one for one in others if not one.names), None)
    if not best.names or pinned is None:
        return True
    flips = round((1 - pinned.share) * pinned.rows)
    return best.rows >= _FEWEST_LABELS and flips >= _FEWEST_FLIPS * len(best.names)
