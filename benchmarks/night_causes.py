"""Nights of real photos that were made to have a cause, or two: how often the page names it first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.harness import Measured
from benchmarks.night_pool import CLEAN, NOISY, PREPARED, SHIFTED, TWICE, Pool, pools
from darkroom.reasons import Grade, NightCause, Reason
from darkroom.summary import CauseFound, Counts
from expectations.alarms import Earlier
from expectations.validation import RowOutcome
from flows.evaluation import NightFacts, RowEvidence, evaluate

# What was chosen by hand was chosen on half 0, with glass and paper left out.
HALF: Final = 1
WITHOUT: Final = ("cardboard", "glass", "metal", "paper", "plastic")
EACH: Final = 8  # nights of a cause, of each bundle
SIZES: Final = (100, 201)
SEED: Final = 12
LEAST_MIX: Final = 0.25  # of the images are of another class than in training
NEW: Final = (0.35, 0.7)  # share of the images that are of the class that the bundle lacks
BROKEN: Final = (0.08, 0.2)

Night = tuple[frozenset[NightCause], str, pd.DataFrame, int]


def causes() -> Mapping[str, Measured]:
    """200 nights with one cause, 50 with two, 40 unchanged; five bundles that each lack a class."""
    trials: list[dict[str, Any]] = []
    for number, pool in enumerate(pools(HALF, WITHOUT)):
        random = np.random.RandomState([SEED, number])
        for true, what, rows, broken in (*_single(pool, random), *_double(pool, random, number)):
            trials.append({"without": pool.without, "true": sorted(true), "what": what, **_told(pool, rows, broken)})
    one = [trial for trial in trials if len(trial["true"]) == 1]
    two = [trial for trial in trials if len(trial["true"]) == 2]
    unchanged = [trial for trial in trials if not trial["true"]]
    others = [trial for trial in one + unchanged if NightCause.PREPARATION not in trial["true"]]
    top = _share(one, _first)
    each = {
        str(cause): _share(
            [t for t in one if t["true"] == [cause]], lambda trial: trial["found"][0] == trial["true"][0]
        )
        for cause in NightCause
        if any(t["true"] == [cause] for t in one)
    }
    missed = Counter(f"{t['what']} → {t['found'][0]}" for t in one if not _first(t))
    unseen = Counter(t["what"] for t in two if not set(t["true"]) <= set(t["found"][:2]))
    grades = {str(grade): [t["found"][0] in t["true"] for t in one + two if t["grade"] == grade] for grade in Grade}
    told = ", ".join(f"{cause} {value:.0%}" for cause, value in each.items())
    sure = ", ".join(f"{grade} {np.mean(right):.0%} of {len(right)}" for grade, right in grades.items() if right)
    return {
        "night_cause_first": Measured(
            top, f"{len(one)} nights; {told}; {sure}; not: {_counted(missed)}", trials, [SEED]
        ),
        "night_causes_both": Measured(
            _share(two, lambda trial: set(trial["true"]) <= set(trial["found"][:2])),
            f"{len(two)} nights; either first {_share(two, lambda t: t['found'][0] in t['true']):.0%}; "
            f"not both: {_counted(unseen)}",
        ),
        "night_preparation_falsely": Measured(
            _share(others, lambda trial: NightCause.PREPARATION in trial["found"]), f"of {len(others)} nights"
        ),
        "night_nothing_named": Measured(
            _share(unchanged, lambda trial: trial["found"][0] != NightCause.NOTHING),
            f"of {len(unchanged)} unchanged nights",
        ),
    }


def _single(pool: Pool, random: np.random.RandomState) -> Iterator[Night]:
    prepared = [what for what in PREPARED if what != "upside down"]  # not to be seen on these photos
    for number in range(EACH):
        for cause, kinds in (
            (NightCause.PREPARATION, prepared),
            (NightCause.SHIFT, list(SHIFTED)),
            (NightCause.NOISE, [*NOISY, "broken files"]),
        ):
            what = kinds[number % len(kinds)]
            yield frozenset({cause}), what, *_drawn(pool, random, what)
        share = random.uniform(*NEW)
        yield frozenset({NightCause.NEW_CLASS}), f"new class {share:.0%}", *_drawn(pool, random, CLEAN, new=share)
        yield frozenset({NightCause.CLASS_MIX}), "class mix", *_drawn(pool, random, CLEAN, mix=_mix(pool, random))
        yield frozenset(), "unchanged", *_drawn(pool, random, CLEAN)


def _double(pool: Pool, random: np.random.RandomState, number: int) -> Iterator[Night]:
    """Each pair of causes once a bundle."""
    preparation, shift, noise, new, mix = (
        NightCause.PREPARATION,
        NightCause.SHIFT,
        NightCause.NOISE,
        NightCause.NEW_CLASS,
        NightCause.CLASS_MIX,
    )
    made, light = (("channels swapped", "a quarter turn", "without colour"), ("brightness", "saturate", "colour_cast"))
    prepared, lit = made[number % len(made)], light[number % len(light)]
    damaged = ("broken files", "jpeg_compression")[number % 2]
    share = random.uniform(*NEW)
    for true, what in zip(((preparation, shift), (preparation, noise), (shift, noise)), TWICE, strict=True):
        yield frozenset(true), what, *_drawn(pool, random, what)
    for other, what in ((preparation, prepared), (shift, lit), (noise, damaged)):
        yield frozenset({other, mix}), f"{what}, mix", *_drawn(pool, random, what, mix=_mix(pool, random))
        yield frozenset({other, new}), f"{what}, new class {share:.0%}", *_drawn(pool, random, what, new=share)
    yield (
        frozenset({mix, new}),
        f"mix, new class {share:.0%}",
        *_drawn(pool, random, CLEAN, mix=_mix(pool, random), new=share),
    )


def _drawn(
    pool: Pool, random: np.random.RandomState, what: str, mix: Mapping[str, float] | None = None, new: float = 0.0
) -> tuple[pd.DataFrame, int]:
    """Rows of a night, each photo once, and how many files beside them are broken."""
    rows = pool.rows[CLEAN if what == "broken files" else what]
    n = random.randint(*SIZES)
    broken = round(n * random.uniform(*BROKEN)) if what == "broken files" else 0
    known, strangers = rows[rows["label"] != pool.without], rows[rows["label"] == pool.without]
    came = strangers.sample(min(round(n * new), len(strangers)), random_state=random)
    of_known = round(len(came) / new * (1 - new)) if new else n
    if mix is None:
        parts = [known.sample(min(of_known, len(known)), random_state=random)]
    else:
        parts = [
            some.sample(min(len(some), round(of_known * mix[name])), random_state=random)
            for name, some in known.groupby("label")
        ]
    return pd.concat([*parts, came]).reset_index(drop=True), broken


def _mix(pool: Pool, random: np.random.RandomState) -> Mapping[str, float]:
    """Shares of classes that differ enough from those of training."""
    known = pool.instruments.knowledge.drift.classes
    by_class = pool.instruments.knowledge.by_class
    assert by_class is not None
    while True:
        shares = random.dirichlet(np.full(len(known), 0.7))
        if np.abs(shares - by_class.known).sum() / 2 >= LEAST_MIX and shares.max() < 0.6:
            return dict(zip(known, shares.tolist(), strict=True))


def _told(pool: Pool, rows: pd.DataFrame, broken: int) -> dict[str, Any]:
    """What the page of the night says."""
    instruments = pool.instruments
    knowledge = instruments.knowledge
    facts = NightFacts(
        counts=Counts(seen=len(rows) + broken, scored=len(rows), quarantined=broken),
        suspect=int((rows["verdict"] == "suspect").sum()),
        size=instruments.bundle.preprocessing.input_shape[:2],
        quarantined={Reason.TRUNCATED: broken} if broken else {},
    )
    # Row expectations say nothing of causes, and take seconds.
    evidence = RowEvidence.from_rows(rows, RowOutcome(), knowledge)
    evaluated = evaluate(evidence, facts, knowledge, (), night=date(2026, 3, 2), earlier=Earlier.none())
    found: Sequence[CauseFound] = evaluated.causes
    return {
        "found": [one.cause for one in found],
        "grade": found[0].grade,
        "images": len(rows),
        "sentence": found[0].sentence,
        "refused": evaluated.estimate.refused is not None,
    }


def _first(trial: dict[str, Any]) -> bool:
    return bool(trial["found"][0] == trial["true"][0])


def _share(trials: Sequence[dict[str, Any]], holds: Any) -> float:
    return float(np.mean([bool(holds(trial)) for trial in trials])) if trials else float("nan")


def _counted(missed: Counter[str]) -> str:
    return ", ".join(f"{n} × {what}" for what, n in missed.most_common(12)) or "none"
