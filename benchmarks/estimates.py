"""What is promised of accuracy without labels: under corruptions that the estimator never saw, on clean nights, with
other classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Measured, Row
from benchmarks.ladder_bench import MIXED, SEED, SHORTER, SPLITS, bench, benches, model_of, neighbours_of, seen
from darkroom.summary import AccuracyEstimate
from expectations.backtest import METHODS, Points, estimated


def left_out() -> Mapping[str, Measured]:
    """Nights of 300 images under a kind of corruption that the estimator never saw, every kind and strength."""
    rows: list[dict[str, Any]] = []
    by_method: dict[str, list[float]] = {method: [] for method in (*METHODS, "validation", "same corruption")}
    for number, split in enumerate(benches()):
        for kind in dict.fromkeys(split.outputs.kinds):
            if not kind:
                continue
            known = split.learned(kind)
            points = Points(np.asarray(known.signs), np.asarray(known.accuracy), known.images)
            for condition in (c for c, one in enumerate(split.outputs.kinds) if one == kind):
                night, real = split.asked(known.reading, condition, split.night)
                rows.append({"split": number, "kind": kind, **_told(known.estimate(night), real)})
                for method in METHODS:
                    value = float(estimated(method, points, night.means[None])[0][0])
                    by_method[method].append(abs(value - real))
                by_method["validation"].append(abs(known.validation - real))
                of_ladder = float(split.outputs.right[condition, split.ladder].mean())
                by_method["same corruption"].append(abs(of_ladder - real))
    answered = [row for row in rows if not row["refused"]]
    kinds = {
        kind: float(np.mean([row["error"] for row in answered if row["kind"] == kind]))
        for kind in dict.fromkeys(row["kind"] for row in rows)
    }
    worst = sorted(kinds, key=lambda kind: -kinds[kind])[:3]
    others = ", ".join(f"{method} {100 * np.mean(found):.1f}" for method, found in by_method.items())
    seeds = list(range(SPLITS))
    return {
        "unseen_kind_error_points": Measured(
            100 * float(np.mean([row["error"] for row in answered])),
            f"worst {', '.join(f'{kind} {100 * kinds[kind]:.1f}' for kind in worst)}; alone: {others}",
            rows,
            seeds,
        ),
        "unseen_kind_covered": Measured(float(np.mean([row["held"] for row in answered])), f"{len(answered)} nights"),
        "unseen_kind_width_points": Measured(100 * float(np.median([row["width"] for row in answered])), "median"),
        "unseen_kind_refused": Measured(float(np.mean([row["refused"] for row in rows])), f"of {len(rows)} nights"),
    }


def shorter_ladder() -> Mapping[str, Measured]:
    """The same with 200 images on the ladder, as a bundle has them that nobody asked for more."""
    off, held, width = [], [], []
    for split in benches():
        shorter = replace(split, ladder=split.ladder[:SHORTER])
        for kind in dict.fromkeys(kind for kind in split.outputs.kinds if kind):
            known = shorter.learned(kind)
            for condition in (c for c, one in enumerate(split.outputs.kinds) if one == kind):
                night, real = shorter.asked(known.reading, condition, split.night)
                told = _told(known.estimate(night), real)
                off.append(told["error"])
                held.append(told["held"])
                width.append(told["width"])
    note = (
        f"covered {np.mean(held):.3f}, median width {100 * np.nanmedian(width):.1f}, refused {np.isnan(off).mean():.3f}"
    )
    return {"unseen_kind_error_points_200": Measured(100 * float(np.nanmean(off)), note)}


def clean() -> Mapping[str, Measured]:
    """Nights of images as they are; and the same with another mix of classes (Dirichlet, all weights 1)."""
    rows: list[dict[str, Any]] = []
    mixed: list[dict[str, Any]] = []
    shares: list[float] = []
    for number, split in enumerate(benches()):
        known = split.learned()
        night, real = split.asked(known.reading, 0, split.night)
        rows.append(_told(known.estimate(night), real))
        random = np.random.default_rng([SEED, number, 1])
        labels = split.outputs.labels[split.night]
        counts = np.bincount(labels, minlength=len(split.classes))
        for _ in range(10):
            wanted = random.dirichlet(np.ones(len(split.classes)))
            weight = wanted[labels] / counts[labels]
            # Each image once: a rare class that is drawn again and again would be a night of few images.
            images = random.choice(split.night, MIXED, replace=False, p=weight / weight.sum())
            night, real = split.asked(known.reading, 0, images)
            estimate = known.estimate(night)
            mixed.append(_told(estimate, real))
            own = np.bincount(split.outputs.labels[images], minlength=len(split.classes)) / len(images)
            shares += [one.low <= true <= one.high for one, true in zip(estimate.class_mix, own, strict=True)]
    error = _mean_error(mixed)
    return {
        "clean_error_points": _mean_error(rows),
        "clean_covered": Measured(float(np.mean([row["held"] for row in rows])), f"{len(rows)} nights", rows),
        "class_mix_covered": Measured(
            float(np.mean([row["held"] for row in mixed if not row["refused"]])),
            f"error {error.value:.1f} points, {error.note}, of {MIXED} images; refused ones left out",
            mixed,
        ),
        "class_shares_covered": Measured(float(np.mean(shares)), "interval of 90 %"),
    }


def new_class() -> Mapping[str, Measured]:
    """Each class left out of training in turn: how well single images of it are told, and nights refused by its share;
    and drawn and odd images against photos.
    """
    everything = seen()
    near: dict[str, float] = {}
    refused: dict[str, list[bool]] = {"10%": [], "30%": [], "50%": []}
    for number, name in enumerate(everything.classes):
        model = model_of(dense=False, without=number)
        ours = np.flatnonzero(everything.labels != number)
        order = np.random.default_rng([SEED, number, 2]).permutation(ours)
        made = bench(model, np.sort(order[: len(ours) // 2]), np.sort(order[len(ours) // 2 :]), without=number)
        strangers = np.flatnonzero(everything.labels == number)
        near[name] = auroc(made.outputs.far[0, strangers], made.outputs.far[0, made.night])
        known = made.learned()
        random = np.random.default_rng([SEED, number, 3])
        for told, share in (("10%", 0.1), ("30%", 0.3), ("50%", 0.5)):
            for _ in range(5):
                new = random.choice(strangers, round(200 * share))
                images = np.concatenate([random.choice(made.night, 200 - len(new)), new])
                refused[told].append(known.estimate(made.asked(known.reading, 0, images)[0]).refused is not None)
    model = model_of(dense=False)
    half = np.arange(len(everything.labels)) % 2 == 0
    neighbours = neighbours_of(model, np.flatnonzero(half))
    ours = neighbours.score(model(everything.features[0, ~half])[1])
    far = auroc(neighbours.score(model(everything.strange)[1]), ours)
    each = ", ".join(f"{name} {value:.2f}" for name, value in near.items())
    nights = ", ".join(f"{np.mean(found):.0%} where {share} are new" for share, found in refused.items())
    return {
        "near_auroc": Measured(float(np.mean(list(near.values()))), f"{each}; refused: {nights}", [near, refused]),
        "far_auroc": Measured(far, f"{len(everything.strange)} drawn and odd images"),
    }


ROWS: Mapping[str, Row] = {
    "left_out": left_out,
    "clean": clean,
    "new_class": new_class,
    "shorter_ladder": shorter_ladder,
}


def auroc(strangers: NDArray[np.floating[Any]], ours: NDArray[np.floating[Any]]) -> float:
    """How often a stranger has the smaller p than one of ours; ties count half."""
    below = (strangers[:, None] < ours[None]).mean()
    return float(below + (strangers[:, None] == ours[None]).mean() / 2)


def _told(estimate: AccuracyEstimate, real: float) -> dict[str, Any]:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return {"refused": True, "why": estimate.refused, "error": float("nan"), "held": False, "width": float("nan")}
    held = estimate.low <= real <= estimate.high
    error, width = abs(estimate.value - real), estimate.high - estimate.low
    return {"refused": False, "why": estimate.method, "error": error, "held": held, "width": width}


def _mean_error(rows: list[dict[str, Any]]) -> Measured:
    answered = [row["error"] for row in rows if not row["refused"]]
    return Measured(100 * float(np.mean(answered)), f"{len(answered)} of {len(rows)} nights", rows)
