"""Why one prediction may be wrong: from the evidence of one image to one sentence and one of five words.

Every bar is learned from the bundle's own images: an image is told apart where at most one in a hundred of those is as
far off, and a call is close where held-out images show that another class is not excluded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from expectations.damage import Sign
from expectations.outliers import FLAGGED
from expectations.standard import COVERAGE, Track
from expectations.steadiness import Moved

_WORDS: Final = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# What damage does not change: where these are as in no training photo, another kind of image came.
FACTS: Final = frozenset({"width", "height", "aspect_ratio", "bit_depth", "mode", "channels", "animated"})


_MOSTLY: Final = 0.4  # beyond it "one in two" is no longer what a person would say


class Cause(StrEnum):
    """The five answers."""

    PREPARATION = "preparation"
    NOISE = "noise"
    OTHER_DISTRIBUTION = "other distribution"
    CLOSE_CALL = "close call"
    NOTHING_FOUND = "nothing found"


@dataclass(frozen=True)
class Theirs:
    """A prediction made elsewhere. `stated` in words; `differs` from the bundle's own; `reproduced_by`: names of the
    variants that give it, the best first, of `tried`; `what`: what the best of them did; `whole`: not only a class is
    stated. `findings`: what else was seen of how it was made.
    """

    stated: str
    differs: bool
    reproduced_by: tuple[str, ...]
    what: str
    tried: int
    whole: bool
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What is known of one image. `refused`: why it gave no pixels, and whether the file is broken rather than of a
    kind that is not taken. `classes`: names and calibrated probabilities, the most probable first. `odd_size`: sizes
    beyond every training photo. `foreign`: facts of
    the file that no training photo has, name and value. p's are nan where too few images were held out;
    `plausible_from` (None then, too): from which probability a class is plausible.
    """

    classes: tuple[tuple[str, float], ...] = ()
    refused: tuple[str, bool] | None = None
    incomplete: bool = False
    theirs: Theirs | None = None
    signs: tuple[Sign, ...] = ()
    unusual_p: float = math.nan
    unusual_property: str | None = None
    far_p: float = math.nan
    foreign: tuple[tuple[str, str], ...] = ()
    odd_size: tuple[tuple[str, str], ...] = ()
    moved: Moved | None = None
    steady_p: float = math.nan
    plausible_from: float | None = None


@dataclass(frozen=True)
class Ground:
    """One cause that something speaks for, and what."""

    cause: Cause
    sentence: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """The cause, one sentence, what else may play a part (the likeliest first), and how often the bundle is right."""

    cause: Cause
    sentence: str
    grounds: tuple[Ground, ...]
    context: str


def explain_image(evidence: Evidence, track: Track) -> Explanation:
    """Weigh the evidence.

    A prediction that a wrong preparation reproduces is the strongest there is. Damage comes before distribution,
    because noise makes an image unlike training and not the other way round; unless the image differs in facts that no
    damage changes. Whatever speaks for the image being another one comes before how close the call is.
    """
    damage, other = _damage(evidence), _other_distribution(evidence)
    swapped = other is not None and _is_another_kind(evidence) and not _is_broken(evidence)
    found = [
        _preparation(evidence),
        *((other, damage) if swapped else (damage, other)),
        _close_call(evidence),
    ]
    grounds = tuple(ground for ground in found if ground is not None)
    if not grounds:
        grounds = (_nothing(evidence, track),)
    if evidence.theirs is not None and grounds[0].cause is not Cause.PREPARATION:
        told = _of_theirs(evidence.theirs), *evidence.theirs.findings
        grounds = (replace(grounds[0], evidence=(*grounds[0].evidence, *told)), *grounds[1:])
    return Explanation(grounds[0].cause, grounds[0].sentence, grounds, _context(track))


def _preparation(evidence: Evidence) -> Ground | None:
    theirs = evidence.theirs
    if theirs is None or not theirs.differs or not theirs.reproduced_by:
        return None
    first, count = theirs.reproduced_by[0], len(theirs.reproduced_by)
    answer = evidence.classes[0] if evidence.classes else ("no answer", math.nan)
    others = "" if count == 1 else f"; so do {count - 1} others of the {theirs.tried} that were tried"
    sentence = f"The preparation differs: their {theirs.stated} is what this model says of the image {theirs.what}"
    if not theirs.whole:
        ways = "preparation turns" if count == 1 else "preparations turn"
        sentence = (
            f"The preparation differs, most likely: {count} of {theirs.tried} wrong {ways} the answer into "
            f"their {theirs.stated}, such as the image {theirs.what}"
        )
    return Ground(
        Cause.PREPARATION,
        f"{sentence}; prepared as in training it is {answer[0]} ({answer[1]:.0%}).",
        (f"{first} reproduces {theirs.stated}{others}", *theirs.findings),
    )


def _damage(evidence: Evidence) -> Ground | None:
    if evidence.refused is not None:
        why, broken = evidence.refused
        return Ground(Cause.NOISE, f"The file is broken: {why}.", (why,)) if broken else None
    grave = [sign for sign in evidence.signs if sign.p <= FLAGGED]
    if evidence.incomplete:
        sentence = "The file is broken: it ends before the image does, and the rest was filled in."
        return Ground(Cause.NOISE, sentence, ("truncated", *map(_told, grave)))
    if not grave:
        return None
    sentence = f"The image is damaged: {grave[0].words}, more so than {_share_of(grave[0].p)} of the known photos."
    return Ground(Cause.NOISE, sentence, tuple(_told(sign) for sign in grave))


def _other_distribution(evidence: Evidence) -> Ground | None:
    if evidence.refused is not None:
        why, broken = evidence.refused
        sentence = f"This is not an image of the kind that the bundle takes: {why}."
        return None if broken else Ground(Cause.OTHER_DISTRIBUTION, sentence, (why,))
    told = []
    if evidence.far_p <= FLAGGED:
        told.append(f"what the model sees in it is farther from training than held-out images, p {evidence.far_p:.2g}")
    if evidence.unusual_p <= FLAGGED and evidence.unusual_property is not None:
        name = evidence.unusual_property.replace("_", " ")
        told.append(f"its {name} is farther off than in held-out images, p {evidence.unusual_p:.2g}")
    told += [f"no training photo has the {name.replace('_', ' ')} {value}" for name, value in evidence.foreign]
    if not told:
        return None
    sizes = ((name.replace("_", " "), value) for name, value in evidence.odd_size)
    told += [f"its {name}, {value}, is beyond every training photo" for name, value in sizes]
    first = told[0].split(", p ")[0]
    return Ground(Cause.OTHER_DISTRIBUTION, f"The image is unlike what the model learned from: {first}.", tuple(told))


def _is_another_kind(evidence: Evidence) -> bool:
    """Unlike training in something that damage does not change."""
    odd = evidence.unusual_p <= FLAGGED and evidence.unusual_property in FACTS
    return odd or bool(evidence.odd_size) or any(name in FACTS for name, _ in evidence.foreign)


def _is_broken(evidence: Evidence) -> bool:
    return evidence.refused is not None or evidence.incomplete


def _close_call(evidence: Evidence) -> Ground | None:
    if len(evidence.classes) < 2:
        return None
    (first, sure), (second, less) = evidence.classes[:2]
    told = []
    if evidence.plausible_from is not None and less >= evidence.plausible_from:
        told.append(
            f"{first} {sure:.0%}, {second} {less:.0%}; held-out images had their own class as low as "
            f"{evidence.plausible_from:.0%} in {1 - COVERAGE:.0%} of all cases"
        )
    moved = evidence.moved
    if moved is not None and moved.flips > 0 and evidence.steady_p <= FLAGGED:
        told.append(f"{moved.flips:.0%} of the slight changes turn the answer, p {evidence.steady_p:.2g}")
    if not told:
        return None
    sentence = f"It is a close call between {first} ({sure:.0%}) and {second} ({less:.0%})"
    if moved is not None:
        sentence += (
            f"; {f'{moved.flips:.0%} of the' if moved.flips else 'no'} slight changes of the image turn the answer"
        )
    return Ground(Cause.CLOSE_CALL, f"{sentence}.", tuple(told))


def _nothing(evidence: Evidence, track: Track) -> Ground:
    told = ["no property, nor what the model sees, is unusual"]
    if not evidence.classes:
        return Ground(Cause.NOTHING_FOUND, "Nothing was found.", tuple(told))
    name, sure = evidence.classes[0]
    sentence = f"Nothing was found: an ordinary image and a clear answer, {name} ({sure:.0%})"
    if evidence.plausible_from is None:
        told = ["too few images were held out to say what is unusual, or how sure is sure"]
        return Ground(
            Cause.NOTHING_FOUND,
            f"Nothing was found, but little could be: too few images were held out to say what is unusual or a close "
            f"call; the answer is {name} ({sure:.0%}).",
            tuple(told),
        )
    if track.clear:
        were = "was" if track.clear_wrong == 1 else "were"
        sentence += f"; of {track.clear:,} held-out images as ordinary and clear, {track.clear_wrong:,} {were} wrong"
    return Ground(Cause.NOTHING_FOUND, f"{sentence}.", tuple(told))


def _of_theirs(theirs: Theirs) -> str:
    if not theirs.differs:
        return f"their {theirs.stated} is what this bundle says, too"
    return f"their {theirs.stated} is not what any of {theirs.tried} single wrong preparations gives"


def _context(track: Track) -> str:
    if not track.n:
        return "How often the bundle is right was not measured: no image was held out."
    told = f"The bundle is right on {track.accuracy:.0%} of images that it had not seen"
    wrong = 1 - track.accuracy
    if wrong * track.n < 0.5:
        return f"{told}."
    if wrong > _MOSTLY:
        return f"{told}: the others are wrong, with or without a reason that can be found."
    each = round(1 / wrong)
    said = _WORDS[each] if each < len(_WORDS) else f"{each:,}"
    return f"{told}: one in {said} is wrong, with or without a reason that can be found."


def _told(sign: Sign) -> str:
    return f"{sign.name.replace('_', ' ')} {sign.value:.3g}, usually {sign.usual:.3g}, p {sign.p:.2g}"


def _share_of(p: float) -> str:
    return f"{math.floor(1000 * (1 - p)) / 10:g} %"
