"""Which of the causes: from everything that is known of a night to a ranking, with what speaks for each and what to do.

What explains most comes first. A wrong preparation moves properties, so it is looked for before a shift; damage comes
before other light, because noise moves the light a little and light hardly moves the noise; what the properties do not
explain is the classes': new ones lie beside the known ones, another mix lies among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.names import as_detail
from darkroom.reasons import Grade, NightCause, Reason
from darkroom.schemas import CATEGORICAL_PROPERTIES, metric_in_words
from darkroom.summary import AccuracyEstimate, CauseFound, Counts, Finding
from expectations.budget import FEWEST
from expectations.by_class import ByClass, Split
from expectations.displaced import Displaced
from expectations.moved import Moved, usual_of
from expectations.prepared_before import Mistake, mistake_of
from expectations.reference import DriftReference
from expectations.sketch import Sketch

# The embedding lies beside all mixes of known classes: worth telling, and hardly by chance.
_NEW_P: Final = 1e-2
_NEW_LIKELY_P: Final = 1e-3
_MIX_P: Final = 1e-3
_MIX_BESIDE_P: Final = 1e-2  # behind another cause, where it wakes nobody
_MIX_SHARE: Final = 0.15  # of the images that are of another class than usual
# Standard deviations inside a class that the embedding must lie beside: for a word at all; to be likely, or where the
# images look otherwise and what that does is known so well only.
_LEAST_APART: Final = 0.25
_BESIDE: Final = 0.4
_LEADS: Final = 1.5  # damage over light
# Validation is doubted from so many points, and so many standard errors, on.
_LEAST_LOST: Final = 0.05
_LOST_ERRORS: Final = 3.0
_BROKEN_SHARE: Final = 0.02
_MANY_BROKEN: Final = 0.1  # fewer come behind what the images themselves tell
_BROKEN: Final = frozenset(
    {Reason.EMPTY_FILE, Reason.UNKNOWN_FORMAT, Reason.BROKEN_DATA, Reason.TRUNCATED, Reason.DECODER_CRASHED}
)
_NAMED: Final = 3
_NAME: Final = 60
_DAMAGED: Final[Mapping[str, str]] = {
    "noise": "they are noisy",
    "edge_density": "they are noisy",
    "sharpness": "they are not sharp",
    "blockiness": "they are compressed too strongly, or were enlarged",
    "jpeg_quality": "they were saved with a low JPEG quality",
}


@dataclass(frozen=True)
class Realised:
    """What labels that were drawn by lot say of earlier nights without a finding: accuracy, and its standard error."""

    labelled: int
    accuracy: float
    error: float


@dataclass(frozen=True)
class NightSeen:
    """What is known of a night. `drift` is that of all its images (darkroom.schemas.DRIFT); `slices` (name, sketch) are
    those that differ; `further` what was found in slices and across nights; `displaced` what is known of images
    that look otherwise. `quarantined` counts reasons,
    `too_many_broken` where they are more than the suite allows; `unexpected` names critical expectations that were
    not met; `size` (height, width) is what the model takes; validation is of `held_out` images.
    """

    sketch: Sketch
    drift: pd.DataFrame
    counts: Counts
    quarantined: Mapping[str, int]
    size: tuple[int, int]
    estimate: AccuracyEstimate
    displaced: Displaced | None = None
    slices: Sequence[tuple[str, Sketch]] = ()
    further: Sequence[Finding] = ()
    too_many_broken: bool = False
    unexpected: Sequence[str] = ()
    held_out: int = 0
    realised: Realised | None = None


def causes_of(night: NightSeen, reference: DriftReference, by_class: ByClass) -> tuple[CauseFound, ...]:
    """The causes of a night, the likeliest first: one at least."""
    if night.sketch.rows < FEWEST:
        return (_broken(night) or _too_few(night.sketch.rows),)
    split = by_class.split(night.sketch, reference)
    mistake = mistake_of(usual_of(night.sketch, reference, by_class, split, night.size))
    moved = Moved.of(night.sketch, reference, by_class, split, mistake)
    telling = _Telling.NOT if mistake is not None or moved.everywhere else _Telling.PLAINLY
    displaced = _displaced(night.displaced, mistake, moved)
    if displaced is not None:
        beside = by_class.split(night.sketch, reference, displaced)
        # What moved in a part of the images may be a new class: not where it explains where the embedding went.
        if telling is _Telling.NOT or beside.p > _NEW_P >= split.p:
            split, telling = beside, _Telling.BESIDE
            moved = Moved.of(night.sketch, reference, by_class, split, mistake)
    new = _new_class(moved, split, telling)
    broken = _broken(night)
    of_slice = None if mistake is not None else _preparation_of_a_slice(night, reference, by_class)
    found = [
        _preparation(mistake),
        None if moved.everywhere else of_slice,
        broken if _broken_share(night) >= _MANY_BROKEN else None,
        *_of_properties(night, moved, in_part=new is None),
        new,
        _class_mix(reference, by_class, split, telling),
        of_slice if moved.everywhere else None,
        broken if _broken_share(night) < _MANY_BROKEN else None,
    ]
    told = [one for one in found if one is not None]
    if not told:
        return (_of_files(night) or _further(night) or _little(night) or _validation(night) or _nothing(night),)
    return tuple(sorted(told, key=lambda one: one.grade is Grade.POSSIBLE))


class _Telling(Enum):
    """Whether the classes of a night can be told: it looks as in training; otherwise, in a known way; in another."""

    PLAINLY = auto()
    BESIDE = auto()
    NOT = auto()


def _displaced(known: Displaced | None, mistake: Mistake | None, moved: Moved) -> NDArray[np.float64] | None:
    """Where the embedding of all images went; None where that is not known."""
    # Two at once add up to what neither tells, and what damage does at the model's own size is another thing.
    if known is None or (mistake is not None and moved.everywhere) or moved.damaged:
        return None
    if mistake is None and not moved.off:
        return None
    return known.by_mistake(mistake.name) if mistake is not None else known.by_light(moved.every)


def new_class_among(causes: Sequence[CauseFound]) -> bool:
    """Whether an accuracy that is estimated from known classes says nothing of this night."""
    return any(one.cause is NightCause.NEW_CLASS and one.grade is not Grade.POSSIBLE for one in causes)


def _preparation(mistake: Mistake | None, of: str = "The files") -> CauseFound | None:
    if mistake is None:
        return None
    return CauseFound(
        cause=NightCause.PREPARATION,
        grade=Grade.CERTAIN if mistake.certain else Grade.LIKELY,
        sentence=f"{of} came prepared otherwise than in training: {mistake.what}.",
        evidence=(mistake.evidence,),
        todo=mistake.todo,
    )


def _preparation_of_a_slice(night: NightSeen, reference: DriftReference, by_class: ByClass) -> CauseFound | None:
    for name, sketch in night.slices:
        split = by_class.split(sketch, reference)
        mistake = mistake_of(usual_of(sketch, reference, by_class, split, night.size))
        if mistake is not None:
            kind, _, which = name.partition("=")
            of = f"The files of the {kind} {which} ({sketch.rows:,} images)"
            return _preparation(replace(mistake, certain=False), of)
    return None


def _broken(night: NightSeen) -> CauseFound | None:
    if not night.too_many_broken or _broken_share(night) < _BROKEN_SHARE:
        return None
    broken = {reason: n for reason, n in night.quarantined.items() if reason in _BROKEN}
    number, looked_at = sum(broken.values()), night.counts.scored + night.counts.quarantined
    told = [f"{Reason(reason).sentence}: {n:,}" for reason, n in sorted(broken.items(), key=lambda one: -one[1])]
    return CauseFound(
        cause=NightCause.NOISE,
        grade=Grade.LIKELY,
        sentence=f"{number:,} of {looked_at:,} files are broken; {told[0]}.",
        evidence=tuple(told[1:]),
        todo="Look at how files are copied: a transfer that was cut off, a full disk, a folder that is read too early.",
    )


def _broken_share(night: NightSeen) -> float:
    number = sum(n for reason, n in night.quarantined.items() if reason in _BROKEN)
    return number / max(night.counts.scored + night.counts.quarantined, 1)


def _of_properties(night: NightSeen, moved: Moved, *, in_part: bool) -> list[CauseFound | None]:
    """Damage and shift, whichever leads first; `in_part`: also what moved in a part of the images, which new classes
    would explain.
    """
    sign, damage = moved.damage
    others = moved.others(damaged=damage > 0)
    name = others[0] if others else ""
    damage_leads = damage > 0 and damage >= _LEADS * abs(moved.off.get(name, 0.0))
    signs, beside = moved.others(damaged=False), others
    noise = shift = None
    if moved.damaged or (damage_leads and in_part):
        noise = CauseFound(
            cause=NightCause.NOISE,
            grade=Grade.LIKELY if damage_leads else Grade.POSSIBLE,
            sentence=f"The images are damaged: {_DAMAGED[sign]}{_cost(night)}.",
            evidence=tuple(moved.told(one) for one in (sign, *(one for one in signs if one not in (sign, *beside)))),
            todo="Look at some of them at full size; then at lens, focus, exposure time and compression.",
        )
    if name in moved.everywhere or (name and not damage_leads and in_part):
        shift = CauseFound(
            cause=NightCause.SHIFT,
            grade=Grade.LIKELY,
            sentence=f"The images are {moved.words(name)} than in training: {moved.told(name)}{_cost(night)}.",
            evidence=(*(moved.told(one) for one in beside[1 : _NAMED + 1]), *_slice(night), *_harm(night)),
            todo="Look for what changed: lamp, exposure, camera, place. Put it back, or label some and train again.",
        )
    return [noise, shift]


def _new_class(moved: Moved, split: Split, telling: _Telling) -> CauseFound | None:
    # Images that look otherwise, all of them, lie beside the classes as well.
    if telling is _Telling.NOT or not split.p <= _NEW_P:
        return None
    if split.apart < (_BESIDE if telling is _Telling.BESIDE else _LEAST_APART):
        return None
    likely = split.p <= _NEW_LIKELY_P and split.apart >= _BESIDE and telling is _Telling.PLAINLY
    others = [name for name in moved.others(damaged=False) if name not in moved.everywhere]
    in_part = [f"in a part of the images {moved.told(name)}" for name in others[:_NAMED]]
    light = f"; or a part of them is {moved.words(others[0])}, known ones in another light" if others else ""
    return CauseFound(
        cause=NightCause.NEW_CLASS,
        grade=Grade.LIKELY if likely else Grade.POSSIBLE,
        sentence=f"Images {'came' if likely else 'may have come'} that the model has no class for: no mix of its "
        f"classes looks like this night{light}.",
        evidence=(
            f"the embedding lies {split.apart:.2f} standard deviations beside every mix of known classes, p "
            f"{split.p:.1g}",
            *in_part,
        ),
        todo="Look at the most suspect images: what they have in common is new. Label some, and train with them.",
    )


def _class_mix(reference: DriftReference, by_class: ByClass, split: Split, telling: _Telling) -> CauseFound | None:
    if telling is _Telling.NOT or not split.mix_p <= (_MIX_P if telling is _Telling.PLAINLY else _MIX_BESIDE_P):
        return None
    known = by_class.known
    other = float(np.abs(split.shares - known).sum() / 2)
    if other < _MIX_SHARE:
        return None
    order = np.argsort(-np.abs(split.shares - known))[:_NAMED]
    told = [
        f"{as_detail(reference.classes[k], _NAME)} {split.shares[k]:.0%}, in training {known[k]:.0%}" for k in order
    ]
    return CauseFound(
        cause=NightCause.CLASS_MIX,
        grade=Grade.LIKELY if telling is _Telling.PLAINLY and split.p > _NEW_P else Grade.POSSIBLE,
        sentence=f"Other classes came than in training: {told[0]}.",
        evidence=(*told[1:], f"as the embedding tells, if nothing else changed; p {split.mix_p:.1g}"),
        todo="Nothing is wrong with the images. If this mix stays, train with it: a model expects what it has seen.",
    )


def _of_files(night: NightSeen) -> CauseFound | None:
    """Where all that moved is of what kind the files are."""
    moved = night.drift[night.drift["verdict"].isin(["alarm", "warn"])]
    kinds = [name for name in moved["metric"] if name in CATEGORICAL_PROPERTIES]
    if not kinds:
        return None
    return CauseFound(
        cause=NightCause.SHIFT,
        grade=Grade.LIKELY,
        sentence=f"The files are of another kind than in training: {kinds[0].replace('_', ' ')}{_cost(night)}.",
        evidence=tuple(name.replace("_", " ") for name in kinds[1:]),
        todo="Look for what writes the files: another program, camera or export.",
    )


def _further(night: NightSeen) -> CauseFound | None:
    """What only a slice shows, or many nights together."""
    found = [one for one in night.further if one.source == "drift"]
    if not found:
        return None
    return CauseFound(
        cause=NightCause.SHIFT,
        grade=Grade.LIKELY,
        sentence=found[0].what,
        evidence=(found[0].evidence, *(one.what for one in found[1:_NAMED])),
        todo="Look for what is particular to it: one lamp, one camera, one place; or what has changed slowly.",
    )


def _little(night: NightSeen) -> CauseFound | None:
    """A property that is an alarm, and moved too little for its cause to be told."""
    moved = night.drift[(night.drift["verdict"] == "alarm") & (night.drift["family"] == "properties")]
    if moved.empty:
        return None
    names = [str(name).replace("_", " ") for name in moved.sort_values("p_corrected")["metric"]]
    return CauseFound(
        cause=NightCause.SHIFT,
        grade=Grade.POSSIBLE,
        sentence=f"The images look a little otherwise than in training: {names[0]}{_cost(night)}.",
        evidence=tuple(names[1 : _NAMED + 1]),
        todo="Look for what changed; where the accuracy holds, it can wait.",
    )


def _validation(night: NightSeen) -> CauseFound | None:
    realised, validation = night.realised, night.estimate.validation
    moved = night.drift["verdict"].isin(["alarm", "warn"]).any()
    if moved or night.unexpected or realised is None or validation is None or not night.held_out:
        return None
    lost = validation - realised.accuracy
    error = float(np.hypot(realised.error, np.sqrt(validation * (1 - validation) / night.held_out)))
    if lost < max(_LEAST_LOST, _LOST_ERRORS * error):
        return None
    return CauseFound(
        cause=NightCause.VALIDATION,
        grade=Grade.LIKELY,
        sentence=f"Nothing differs from training, and yet labels say {realised.accuracy:.0%} where validation said "
        f"{validation:.0%}: the model may have overfitted, or its validation flattered it.",
        evidence=(
            f"{realised.labelled:,} labels of nights on which nothing differed, of images that were drawn by lot: "
            f"{realised.accuracy:.1%}, {100 * lost:.0f} points less than on {night.held_out:,} held-out images, whose "
            f"standard error together is {100 * error:.1f}",
        ),
        todo="Run `darkroom audit` on the training data: it looks for copies, sessions and wrong labels.",
    )


def _nothing(night: NightSeen) -> CauseFound:
    moved = night.drift[night.drift["verdict"].isin(["alarm", "warn"])]
    if moved.empty and night.unexpected:
        sentence = f"None of the known causes explains what was not as expected: {night.unexpected[0]}."
        return CauseFound(cause=NightCause.NOTHING, grade=Grade.POSSIBLE, sentence=sentence)
    if moved.empty:
        sentence = "Nothing differs from training beyond what chance explains."
        return CauseFound(cause=NightCause.NOTHING, grade=Grade.LIKELY, sentence=sentence)
    first = moved.sort_values("p_corrected").iloc[0]
    return CauseFound(
        cause=NightCause.NOTHING,
        grade=Grade.POSSIBLE,
        sentence="Something differs, and none of the known causes explains it: "
        f"{metric_in_words(str(first['family']), str(first['metric']))}.",
        todo="Look at the most suspect images.",
    )


def _too_few(images: int) -> CauseFound:
    sentence = f"{images:,} images are too few to tell causes apart; at least {FEWEST} are needed."
    return CauseFound(cause=NightCause.NOTHING, grade=Grade.POSSIBLE, sentence=sentence)


def _cost(night: NightSeen) -> str:
    """What it costs, where that is known."""
    value, validation = night.estimate.value, night.estimate.validation
    if value is None or validation is None or value >= validation:
        return ""
    return f"; estimated accuracy {value:.0%}, on validation {validation:.0%}"


def _harm(night: NightSeen) -> tuple[str, ...]:
    return tuple(one.sentence for one in night.estimate.harm[:1]) if _cost(night) else ()


def _slice(night: NightSeen) -> tuple[str, ...]:
    return tuple(one.what for one in night.further if one.source == "drift")[:1]
