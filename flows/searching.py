"""The search for what reproduces predictions: singles on few images, mistakes behind the model, pairs, whole pipelines.

Successive halving (Karnin et al., ICML 2013): many explanations are tried on few images, those that fit best on more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.progress import tell
from expectations.answers import Answers, distances, undecided
from expectations.reproduction import Evidence, Names, Reproduction, conclude, weigh, weigh_outputs
from tasks.variants import NotShown, Replay, Variant, applied, catalogue

FEW, FEW_LABELS = 64, 160  # images on which every single variant is tried
_SURVIVORS: Final = 8
# Images, and how many pairs stay after them; these are then tried on all of the few. Two undecided images are enough
# for a first cut, because the right pair fits them exactly. A label says less: more images, and good singles only.
_RUNGS: Final = ((2, 64), (8, 16))
_RUNGS_LABELS: Final = ((16, 64), (48, 16))
_BEAM_LABELS: Final = 8
_IN_ORDER: Final = 512  # images of a variant whose answers depend on the others of a batch


@dataclass(frozen=True)
class Searched:
    """What came of it. `by_name` explains the names of variants; `not_replayed`: variant → why it was not tried;
    `unread`: files that no decoder reads, left out.
    """

    found: Reproduction
    by_name: dict[str, Variant] = field(repr=False)
    not_replayed: dict[str, str]
    singles: int
    pairs: int
    few: int
    unread: int = 0


def search(replay: Replay, theirs: Answers, classes: Sequence[str]) -> Searched:
    """Explain answers about the images of `replay`, in their order; k classes in the bundle's order."""
    variants = catalogue(replay.pinned)
    by_name = {variant.name: variant for variant in variants}
    pinned = replay.probabilities(replay.pinned)
    unread = _unread(replay, variants, np.flatnonzero(np.isnan(pinned[:, 0])))
    if 0 < len(unread) < len(theirs):  # they say nothing, and a shuffled order cannot be put right around a gap
        rest = np.setdiff1d(np.arange(len(theirs)), unread)
        return replace(search(replay.only(rest.tolist()), theirs.rows(rest), classes), unread=len(unread))
    few = telling_rows(theirs, pinned, FEW_LABELS if theirs.kind == "labels" else FEW)
    names, tried, not_replayed = _singles(replay, variants, few)
    some = theirs.rows(few)
    evidence = weigh(some, [(), *names], np.concatenate([pinned[None, few], tried]))
    pairs = 0

    def settle(found: Reproduction) -> Searched:
        return Searched(found, by_name, not_replayed, len(names) + 1, pairs, len(few))

    found, refuted = _on_all(replay, theirs, pinned, by_name, few, evidence)
    if found is not None:
        return settle(found)
    evidence = evidence.without(refuted)
    behind = weigh_outputs(some, list(evidence.replays), np.stack(list(evidence.replays.values())), classes)
    if len(few) < len(theirs):  # an order of rows shows in all of them only
        everything = weigh(theirs, [()], pinned[None])
        whole = conclude(everything + weigh_outputs(theirs, [()], pinned[None], classes), nearly=False)
        if whole.explained:
            return settle(replace(whole, not_shown=conclude(evidence).not_shown))
    found = conclude(evidence + behind, nearly=False)
    if found.explained:
        found = _behind_on_all(replay, theirs, pinned, by_name, few, found, classes)
        if found.explained:
            return settle(found)
        behind = behind.without([one.names for one in behind.candidates])
    by_score = sorted((one for one in evidence.candidates if one.names), key=lambda one: one.score)
    ranked = [one.names[0] for one in by_score if evidence.changes(one.names)]
    usable = [by_name[name] for name in ranked if by_name[name].stage != "model"]
    both, pairs = _tried(replay, some, pinned, few, _pairs(replay, usable, few_good=some.kind == "labels"))
    found, refuted = _on_all(replay, theirs, pinned, by_name, few, evidence + both)
    evidence = (evidence + both).without(refuted)
    if found is None and some.kind != "labels":  # labels say too little for three at once
        three, tried_too = _tried(replay, some, pinned, few, _pipelines(replay, variants, usable))
        pairs += tried_too
        found, refuted = _on_all(replay, theirs, pinned, by_name, few, evidence + three)
        evidence = (evidence + three).without(refuted)
    return settle(found or conclude(evidence + behind))


def _unread(replay: Replay, variants: Sequence[Variant], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those of the rows that no variant reads, either."""
    for variant in variants:
        made = applied(replay.pinned, [variant]) if variant.stage == "decode" and len(rows) else None
        if made is not None:
            rows = rows[np.isnan(replay.probabilities(made, rows.tolist())[:, 0])]
    return rows


def telling_rows(theirs: Answers, pinned: NDArray[np.floating[Any]], most: int) -> NDArray[np.intp]:
    """At most so many rows, in order: half of them those in which the model was least certain or differs from the
    pinned answer most, half spread over all.
    """
    n = len(theirs)
    if n <= most:
        return np.arange(n)
    top = np.sort(np.nan_to_num(pinned), axis=1)
    doubt = top[:, -2] - top[:, -1] + np.minimum(distances(theirs, pinned), 1.0)
    doubt = np.where(undecided(theirs), doubt, doubt - 1)
    chosen = np.argsort(-doubt, kind="stable")[: most // 2]
    rest = np.setdiff1d(np.arange(n), chosen)
    spread = rest[np.linspace(0, len(rest) - 1, most - len(chosen)).round().astype(int)]
    return np.sort(np.concatenate([chosen, spread]))


def _singles(
    replay: Replay, variants: Sequence[Variant], few: NDArray[np.intp]
) -> tuple[list[Names], NDArray[np.float32], dict[str, str]]:
    """Every variant on a few images; those of the model on all, in their order: a batch's statistics depend on it."""
    changed = [(variant, applied(replay.pinned, [variant])) for variant in variants if variant.stage != "model"]
    prepared = [(variant, made) for variant, made in changed if made is not None]
    # Of two that these files cannot tell apart the one that changes less comes first: EXIF applied, before OpenCV.
    prepared.sort(key=lambda one: len(replay.pinned.differences(one[1])))
    answers = [replay.all_probabilities([made for _, made in prepared], few.tolist(), tell)]
    names: list[Names] = [(variant.name,) for variant, _ in prepared]
    not_replayed: dict[str, str] = {}
    for variant in (variant for variant in variants if variant.stage == "model"):
        in_order = variant.knob == "batch_norm"
        if in_order and len(replay) > _IN_ORDER:
            not_replayed[variant.name] = f"it depends on the other images of a batch: more than {_IN_ORDER} images"
            continue
        try:
            rows = list(range(len(replay))) if in_order else few.tolist()
            answered = replay.model_variant(variant, rows)
        except NotShown as reason:
            not_replayed[variant.name] = reason.reason
            continue
        answers.append((answered[few] if in_order else answered)[None])
        names.append((variant.name,))
    return names, np.concatenate(answers), not_replayed


def _on_all(
    replay: Replay,
    theirs: Answers,
    pinned: NDArray[np.float32],
    by_name: dict[str, Variant],
    few: NDArray[np.intp],
    evidence: Evidence,
) -> tuple[Reproduction | None, list[Names]]:
    """The explanation if there is one, on every image: those that fit the few nearly as well are replayed on all. Else
    those that the few suggest and the others refute.
    """
    found = conclude(evidence, nearly=False)
    if not found.explained or len(few) == len(theirs):
        return (found if found.explained else None), []
    runner_up = [] if found.runner_up is None else [found.runner_up.names]
    wanted = dict.fromkeys([found.best.names, *runner_up, *found.alike, *(one.names for one in found.ranking)])
    survivors = [names for names in wanted if names][:_SURVIVORS]
    answers = [replay.of([by_name[name] for name in names]) for names in survivors]
    kept = [(names, one) for names, one in zip(survivors, answers, strict=True) if one is not None]
    whole = weigh(theirs, [(), *(names for names, _ in kept)], np.stack([pinned, *(one for _, one in kept)]))
    settled = conclude(whole, nearly=False)
    if settled.explained:
        return replace(settled, not_shown=found.not_shown), []
    return None, survivors


def _behind_on_all(
    replay: Replay,
    theirs: Answers,
    pinned: NDArray[np.float32],
    by_name: dict[str, Variant],
    few: NDArray[np.intp],
    found: Reproduction,
    classes: Sequence[str],
) -> Reproduction:
    """A mistake behind the model that explains the few, perhaps with one in the preparation, held against all."""
    if len(few) == len(theirs):
        return found
    prepared = tuple(name for name in found.best.names if name in by_name)
    answered = replay.of([by_name[name] for name in prepared]) if prepared else pinned
    if answered is None:
        return replace(found, level="unexplained")
    whole = weigh(theirs, [(), prepared] if prepared else [()], np.stack([pinned, answered] if prepared else [pinned]))
    settled = conclude(whole + weigh_outputs(theirs, [prepared], answered[None], classes), nearly=False)
    return replace(settled, not_shown=found.not_shown)


def _pairs(replay: Replay, usable: Sequence[Variant], *, few_good: bool) -> list[tuple[Variant, ...]]:
    """All pairs of what these files show; with `few_good` those with one of the best."""
    best = {variant.name for variant in (usable[:_BEAM_LABELS] if few_good else usable)}
    pairs = [pair for pair in combinations(usable, 2) if pair[0].name in best]
    return [pair for pair in pairs if applied(replay.pinned, pair) is not None]


def _pipelines(replay: Replay, variants: Sequence[Variant], usable: Sequence[Variant]) -> list[tuple[Variant, ...]]:
    """Another library from end to end, with a slip in the values: decoder, filter and scaling at once, as where a model
    is trained with tf.data and called with load_img.
    """
    decoders = [one for one in variants if one.knob == "decoder"]  # of two that decode alike, either may be named
    filters = [one for one in usable if one.knob in ("resizer", "interpolation")]
    values = [one for one in usable if one.knob in ("scaling", "channel_order")]
    made = [(three, applied(replay.pinned, three)) for three in product(decoders, filters, values)]
    possible = [(three, one) for three, one in made if one is not None]
    # One library for both is what people write: of equals the first is named.
    possible.sort(key=lambda known: known[1].decode.decoder != known[1].geometry.resizer)
    return [three for three, _ in possible]


def _tried(
    replay: Replay,
    some: Answers,
    pinned: NDArray[np.float32],
    few: NDArray[np.intp],
    together: list[tuple[Variant, ...]],
) -> tuple[Evidence, int]:
    """What changes several knobs, fewer and fewer of them on more and more images."""
    tried = len(together)
    order = np.lexsort((-distances(some, pinned[few]), ~undecided(some)))  # undecided first, of them the farthest
    evidence = Evidence(some, (), {})
    rungs: tuple[tuple[int, int], ...] = _RUNGS_LABELS if some.kind == "labels" else _RUNGS
    if len(few) <= rungs[-1][0]:  # of so few images two may show nothing, and all of them cost little more
        rungs = ()
    for images, stay in (*rungs, (len(few), len(together))) if together else ():
        rows = np.sort(order[:images])
        made = [applied(replay.pinned, variants) for variants in together]
        answers = replay.all_probabilities([one for one in made if one is not None], few[rows].tolist(), tell)
        evidence = weigh(some.rows(rows), [tuple(one.name for one in variants) for variants in together], answers)
        ranking = sorted(range(len(together)), key=lambda place: evidence.candidates[place].score)
        together = [together[place] for place in ranking[:stay]]
    return evidence, tried
