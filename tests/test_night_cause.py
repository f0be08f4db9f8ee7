"""The causes of a night: each is named where it was made, none where nothing was, and two at once are both told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from darkroom.reasons import Grade, NightCause, NightVerdict, Reason
from darkroom.schemas import CATEGORICAL_PROPERTIES, EMBEDDING_COMPONENTS
from darkroom.summary import AccuracyEstimate, Counts, ExpectationResult, Finding, Severity
from expectations.alarms import Earlier, compare
from expectations.by_class import ByClass, learn_by_class
from expectations.displaced import LIGHT, Displaced
from expectations.moved import left_behind
from expectations.night_cause import NightSeen, Realised, causes_of, new_class_among
from expectations.reference import DriftReference, learn_reference
from expectations.slices import NO_SLICES, Slices
from expectations.verdict import NightEvidence, judge_night
from flows.nights_before import realised_before
from tasks.report.labelled import LabelledNight, write_labelled
from tests.made_up import NIGHT

CLASSES = ("ash", "birch", "cedar", "dogwood")
SIZE = (96, 96)  # what the model takes
USUAL = {
    "width": (640.0, 0.0),
    "height": (480.0, 0.0),
    "aspect_ratio": (4 / 3, 0.0),
    "bit_depth": (8.0, 0.0),
    "bytes_per_pixel": (0.3, 0.05),
    "jpeg_quality": (92.0, 1.0),
    "luminance_mean": (150.0, 15.0),
    "luminance_std": (50.0, 6.0),
    "luminance_p01": (25.0, 8.0),
    "luminance_p99": (235.0, 6.0),
    "clipped_black": (0.001, 0.0005),
    "clipped_white": (0.002, 0.001),
    "contrast": (0.7, 0.06),
    "saturation": (0.3, 0.05),
    "red_share": (0.38, 0.01),
    "green_share": (0.33, 0.005),
    "blue_share": (0.29, 0.01),
    "entropy": (7.2, 0.2),
    "sharpness": (6.0, 0.8),
    "edge_density": (0.1, 0.02),
    "noise": (2.0, 0.4),
    "blockiness": (1.0, 0.1),
}
Change = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def photos(seed: int, mix: Sequence[float], images: int = 200, strangers: int = 0) -> pd.DataFrame:
    """Rows of the predictions schema with `label`: each class has its place in the embedding, and a colour of its own;
    strangers have another place.
    """
    rng = np.random.default_rng(seed)
    label = np.concatenate([np.repeat(np.arange(4), np.round(np.array(mix) * (images - strangers)).astype(int))])
    label = np.concatenate([label, np.full(strangers, 4)])
    n = len(label)
    rows = pd.DataFrame({name: rng.normal(mean, sd, n) for name, (mean, sd) in USUAL.items()})
    rows["saturation"] += np.array([0.03, -0.03, 0.0, 0.0, 0.02])[label]
    for name in CATEGORICAL_PROPERTIES:
        rows[name] = "usual"
    places = 2.0 * np.eye(5, EMBEDDING_COMPONENTS)
    rows["embedding"] = list((places[label] + rng.normal(size=(n, EMBEDDING_COMPONENTS))).astype(np.float32))
    known = np.where(label == 4, rng.integers(0, 4, n), label)
    sure = rng.uniform(0.6, 0.95, n)
    probabilities = np.where(np.arange(4) == known[:, None], sure[:, None], (1 - sure[:, None]) / 3)
    rows["probabilities"] = list(probabilities.astype(np.float32))
    rows["predicted_class"] = np.array(CLASSES)[known]
    rows["confidence"] = sure
    rows["out_of_distribution_p"] = rng.random(n)
    rows["label"] = np.array([*CLASSES, "nothing known"])[label]
    rows["path"] = [f"{k}.jpg" for k in range(n)]
    rows["content_id"] = [f"{k:064x}" for k in range(n)]
    rows["camera"] = None
    return rows


EVEN = (0.25, 0.25, 0.25, 0.25)


@pytest.fixture(scope="module")
def known() -> tuple[DriftReference, ByClass]:
    rows = photos(1, EVEN, images=600)
    held = np.random.default_rng(2).random(len(rows)) < 0.4
    reference = learn_reference(rows, held, np.arange(len(rows)), CLASSES)
    return reference, learn_by_class(rows, held, np.arange(len(rows)), reference)


def seen(rows: pd.DataFrame, reference: DriftReference, **changes: Any) -> NightSeen:
    sketch = reference.sketch(rows)
    compared = compare(reference, sketch, changes.pop("cut", NO_SLICES), NIGHT, Earlier.none())
    facts: dict[str, Any] = {
        "drift": compared.whole,
        "counts": Counts(seen=len(rows), scored=len(rows)),
        "quarantined": {},
        "size": SIZE,
        "estimate": AccuracyEstimate(rows=len(rows), validation=0.9, value=0.9, low=0.85, high=0.95),
        "further": compared.findings,
        "held_out": 240,
    }
    return NightSeen(sketch=sketch, **(facts | changes))


def moved(**by: float) -> Change:
    """Every image, by so many standard deviations."""
    return lambda rows, rng: rows.assign(**{name: rows[name] + far * USUAL[name][1] for name, far in by.items()})


def swapped(*pairs: tuple[str, str]) -> Change:
    def change(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        new = {one: rows[other] for pair in pairs for one, other in (pair, pair[::-1])}
        return rows.assign(**new)

    return change


def negative(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return rows.assign(
        luminance_mean=255 - rows["luminance_mean"],
        luminance_p01=255 - rows["luminance_p99"],
        luminance_p99=255 - rows["luminance_p01"],
        red_share=(255 - 450 * rows["red_share"]) / 315,
        blue_share=(255 - 450 * rows["blue_share"]) / 315,
    )


MADE = {
    "red and blue swapped": (swapped(("red_share", "blue_share")), NightCause.PREPARATION, Grade.LIKELY),
    "turned by a quarter": (swapped(("width", "height")), NightCause.PREPARATION, Grade.LIKELY),
    "negatives": (negative, NightCause.PREPARATION, Grade.LIKELY),
    "without colour": (lambda rows, rng: rows.assign(saturation=0.0), NightCause.PREPARATION, Grade.CERTAIN),
    "black": (
        lambda rows, rng: rows.assign(luminance_mean=0.0, luminance_p01=0.0, luminance_p99=0.5),
        NightCause.PREPARATION,
        Grade.LIKELY,
    ),
    "the model's own size": (
        lambda rows, rng: rows.assign(width=96.0, height=96.0, aspect_ratio=1.0, noise=rows["noise"] - 0.5),
        NightCause.PREPARATION,
        Grade.CERTAIN,
    ),
    "another size": (
        lambda rows, rng: rows.assign(width=800.0, height=600.0),
        NightCause.SHIFT,
        Grade.LIKELY,
    ),
    "brighter": (moved(luminance_mean=1.5, luminance_p99=1.0), NightCause.SHIFT, Grade.LIKELY),
    "a blue lamp": (moved(red_share=-2, blue_share=3, saturation=-1.5), NightCause.SHIFT, Grade.LIKELY),
    "less noise": (moved(noise=-1.5), NightCause.SHIFT, Grade.LIKELY),
    "noisy": (moved(noise=3, edge_density=3, sharpness=1), NightCause.NOISE, Grade.LIKELY),
    "blurred": (moved(sharpness=-2, noise=-1, edge_density=-1), NightCause.NOISE, Grade.LIKELY),
    "compressed": (moved(blockiness=4, entropy=-2), NightCause.NOISE, Grade.LIKELY),
}


@pytest.mark.parametrize(("change", "cause", "grade"), MADE.values(), ids=MADE)
def test_what_was_done_to_the_images_is_the_first_cause(
    known: tuple[DriftReference, ByClass], change: Change, cause: NightCause, grade: Grade
) -> None:
    reference, by_class = known
    first = causes_of(seen(change(photos(3, EVEN), np.random.default_rng(0)), reference), reference, by_class)[0]
    assert (first.cause, first.grade) == (cause, grade)
    assert first.todo


@pytest.mark.parametrize("seed", range(10, 20))
def test_an_unchanged_night_has_no_cause(known: tuple[DriftReference, ByClass], seed: int) -> None:
    reference, by_class = known
    (only,) = causes_of(seen(photos(seed, EVEN, images=120), reference), reference, by_class)
    assert only.cause is NightCause.NOTHING


def test_another_mix_of_known_classes_is_no_shift_and_no_new_class(known: tuple[DriftReference, ByClass]) -> None:
    reference, by_class = known
    (only,) = causes_of(seen(photos(4, (0.7, 0.1, 0.1, 0.1)), reference), reference, by_class)
    assert only.cause is NightCause.CLASS_MIX
    assert only.sentence.startswith("Other classes came than in training: ash ")


def test_a_new_class_is_told_and_takes_the_estimate_away(known: tuple[DriftReference, ByClass]) -> None:
    reference, by_class = known
    causes = causes_of(seen(photos(5, EVEN, strangers=80), reference), reference, by_class)
    assert causes[0].cause is NightCause.NEW_CLASS
    assert new_class_among(causes)


def test_the_shares_of_a_mix_are_those_that_came(known: tuple[DriftReference, ByClass]) -> None:
    reference, by_class = known
    mix = (0.5, 0.3, 0.15, 0.05)
    split = by_class.split(reference.sketch(photos(6, mix, images=400)), reference)
    assert np.abs(split.shares - mix).max() < 0.1
    assert split.p > 0.01


@pytest.mark.parametrize(
    ("change", "second"),
    [
        pytest.param(moved(luminance_mean=2, luminance_p99=2), NightCause.SHIFT, id="and brighter"),
        pytest.param(moved(noise=4, edge_density=4), NightCause.NOISE, id="and noisy"),
    ],
)
def test_behind_a_wrong_preparation_the_other_cause_is_told(
    known: tuple[DriftReference, ByClass], change: Change, second: NightCause
) -> None:
    reference, by_class = known
    rng = np.random.default_rng(0)
    rows = change(swapped(("red_share", "blue_share"))(photos(7, EVEN), rng), rng)
    first, then, *_ = causes_of(seen(rows, reference), reference, by_class)
    assert (first.cause, then.cause) == (NightCause.PREPARATION, second)


def test_broken_files_are_a_cause_only_where_they_are_more_than_usual(known: tuple[DriftReference, ByClass]) -> None:
    reference, by_class = known
    counts = Counts(seen=240, scored=200, quarantined=40)
    facts = {
        "counts": counts,
        "quarantined": {Reason.TRUNCATED: 30, Reason.EMPTY_FILE: 5, Reason.FORMAT_NOT_ALLOWED: 5},
    }
    rows = photos(8, EVEN)
    (only,) = causes_of(seen(rows, reference, **facts, too_many_broken=True), reference, by_class)
    assert only.cause is NightCause.NOISE
    assert only.sentence.startswith("35 of 240 files are broken")
    (usual,) = causes_of(seen(rows, reference, **facts), reference, by_class)
    assert usual.cause is NightCause.NOTHING


def test_one_line_that_hands_over_bgr_is_named_with_its_folder(known: tuple[DriftReference, ByClass]) -> None:
    reference, by_class = known
    rows = photos(9, EVEN).sample(frac=1, random_state=1).reset_index(drop=True)
    rows["path"] = [f"line-{k % 4}/{k}.jpg" for k in range(len(rows))]
    bad = rows["path"].str.startswith("line-2")
    swap = swapped(("red_share", "blue_share"))(rows, np.random.default_rng(0))
    rows = rows.where(~bad, swap)
    slices = Slices.of(rows, reference)
    cut = [(one.name, one.sketch) for one in slices.compared(len(rows))]
    causes = causes_of(seen(rows, reference, slices=cut), reference, by_class)
    assert causes[0].cause is NightCause.PREPARATION
    assert "folder line-2 (50 images)" in causes[0].sentence


def test_what_only_a_slice_shows_is_the_cause_of_a_night_without_any_other(
    known: tuple[DriftReference, ByClass],
) -> None:
    reference, by_class = known
    further = (
        Finding(severity=Severity.WARNING, source="drift", what="In the folder a, noise differs.", evidence="p"),
    )
    (only,) = causes_of(seen(photos(8, EVEN), reference, further=further), reference, by_class)
    assert (only.cause, only.sentence) == (NightCause.SHIFT, "In the folder a, noise differs.")


def test_files_of_another_kind_are_a_shift_of_which_no_number_tells(known: tuple[DriftReference, ByClass]) -> None:
    reference, by_class = known
    (only,) = causes_of(seen(photos(8, EVEN).assign(format="PNG"), reference), reference, by_class)
    assert only.cause is NightCause.SHIFT
    assert "format" in only.sentence


@pytest.mark.parametrize(
    ("realised", "cause"),
    [
        pytest.param(Realised(120, 0.7, 0.04), NightCause.VALIDATION, id="far below validation"),
        pytest.param(Realised(20, 0.8, 0.09), NightCause.NOTHING, id="within chance"),
        pytest.param(Realised(20_000, 0.87, 0.001), NightCause.NOTHING, id="within what held-out images know"),
        pytest.param(None, NightCause.NOTHING, id="no labels"),
    ],
)
def test_labels_that_say_otherwise_on_quiet_nights_accuse_the_validation(
    known: tuple[DriftReference, ByClass], realised: Realised | None, cause: NightCause
) -> None:
    reference, by_class = known
    (only,) = causes_of(seen(photos(8, EVEN), reference, realised=realised), reference, by_class)
    assert only.cause is cause


def test_too_few_images_have_no_cause_but_broken_files(known: tuple[DriftReference, ByClass]) -> None:
    reference, by_class = known
    few = photos(3, EVEN, images=12)
    (only,) = causes_of(seen(few, reference), reference, by_class)
    assert (only.cause, only.grade) == (NightCause.NOTHING, Grade.POSSIBLE)
    facts = {"counts": Counts(seen=24, scored=12, quarantined=12), "quarantined": {Reason.BROKEN_DATA: 12}}
    (broken,) = causes_of(seen(few, reference, **facts, too_many_broken=True), reference, by_class)
    assert broken.cause is NightCause.NOISE


@pytest.mark.parametrize(
    ("share", "left"),
    [
        pytest.param(1.0, pytest.approx(0.0, abs=0.05), id="all images"),
        pytest.param(0.5, pytest.approx(0.5, abs=0.1), id="half of them"),
        pytest.param(0.0, pytest.approx(1.0, abs=0.15), id="none"),
    ],
)
def test_what_is_left_behind_tells_in_how_many_images_a_property_moved(
    known: tuple[DriftReference, ByClass], share: float, left: object
) -> None:
    reference, _ = known
    rows = photos(9, EVEN, images=400)
    chosen = np.arange(len(rows)) % 100 < 100 * share
    rows["luminance_mean"] += np.where(chosen, 60.0, 0.0)
    (row,) = [k for k, one in enumerate(reference.metrics) if one.metric.name == "luminance_mean"]
    assert left_behind(reference.metrics[row], reference.sketch(rows).counts[row], 1.0) == left


def test_with_many_classes_the_mix_is_not_solved_and_shifts_are_told_all_the_same() -> None:
    classes = tuple(f"kind {k:02d}" for k in range(20))
    rows = photos(1, EVEN, images=800)
    label = np.arange(len(rows)) % 20
    rows["label"] = rows["predicted_class"] = np.array(classes)[label]
    rows["probabilities"] = list(np.eye(20, dtype=np.float32)[label])
    held = np.arange(len(rows)) % 3 == 0
    reference = learn_reference(rows, held, np.arange(len(rows)), classes)
    by_class = learn_by_class(rows, held, np.arange(len(rows)), reference)
    split = by_class.split(reference.sketch(rows), reference)
    assert np.isnan([split.p, split.mix_p]).all()
    night = MADE["brighter"][0](rows.iloc[:200], np.random.default_rng(0))
    first = causes_of(seen(night.reset_index(drop=True), reference), reference, by_class)[0]
    assert first.cause is NightCause.SHIFT


def test_what_is_known_of_classes_comes_back_from_the_bundle(known: tuple[DriftReference, ByClass]) -> None:
    _, by_class = known
    assert ByClass.from_json(by_class.to_json()) == by_class


@pytest.mark.parametrize(
    ("grade", "leads"),
    [pytest.param(Grade.LIKELY, True, id="likely"), pytest.param(Grade.POSSIBLE, False, id="possible")],
)
def test_the_sentence_of_a_night_is_its_cause_where_that_is_likely(
    known: tuple[DriftReference, ByClass], grade: Grade, leads: bool
) -> None:
    reference, by_class = known
    night = seen(MADE["red and blue swapped"][0](photos(3, EVEN), np.random.default_rng(0)), reference)
    cause = causes_of(night, reference, by_class)[0].model_copy(update={"grade": grade})
    judged = judge_night(NightEvidence(counts=night.counts, expectations=(), drift=night.drift, cause=cause))
    assert judged.verdict is NightVerdict.ALARM
    assert judged.headline.endswith(cause.sentence) is leads


LIGHTER = {"luminance_mean": 2.0, "luminance_p99": 1.5, "luminance_p01": 1.5}


def displaced_by(step: float) -> Displaced:
    """A ladder of two kinds: brighter images go one way in the embedding, paler ones another."""
    brighter, paler = (np.zeros(EMBEDDING_COMPONENTS) for _ in range(2))
    brighter[10], paler[11] = step, step
    light = [[LIGHTER.get(name, 0.0) for name in LIGHT], [-2.0 * (name == "saturation") for name in LIGHT]]
    return Displaced(
        tuple(map(tuple, light)),
        (tuple(brighter), tuple(paler)),
        {"swapped": tuple(paler)},
    )


def pushed(rows: pd.DataFrame, component: int, by: float) -> pd.DataFrame:
    way = by * np.eye(EMBEDDING_COMPONENTS)[component]
    return rows.assign(embedding=[np.asarray(row, np.float32) + way for row in rows["embedding"]])


@pytest.mark.parametrize(
    ("mix", "strangers", "second"),
    [
        pytest.param(EVEN, 0, None, id="brighter"),
        pytest.param(EVEN, 80, NightCause.NEW_CLASS, id="brighter, and a new class"),
        pytest.param((0.7, 0.1, 0.1, 0.1), 0, NightCause.CLASS_MIX, id="brighter, in another mix"),
    ],
)
@pytest.mark.parametrize(
    ("change", "component"),
    [
        pytest.param(moved(**LIGHTER), 10, id="as on the ladder"),
        pytest.param(moved(**{name: 1.4 * far for name, far in LIGHTER.items()}), 10, id="between its strengths"),
        pytest.param(swapped(("red_share", "blue_share")), 11, id="a known mistake"),
    ],
)
def test_behind_what_all_images_show_the_classes_are_told(
    known: tuple[DriftReference, ByClass],
    change: Change,
    component: int,
    mix: Sequence[float],
    strangers: int,
    second: NightCause | None,
) -> None:
    reference, by_class = known
    rows = change(photos(21, mix, images=240, strangers=strangers), np.random.default_rng(0))
    rows = pushed(rows, component, 2.1 if component == 10 and rows["luminance_mean"].mean() > 185 else 1.5)
    causes = causes_of(seen(rows, reference, displaced=displaced_by(1.5)), reference, by_class)
    assert [one.cause for one in causes[1:2]] == ([] if second is None else [second])
    assert all(one.grade is Grade.POSSIBLE for one in causes[1:])


def test_what_is_on_no_ladder_says_nothing_of_classes(known: tuple[DriftReference, ByClass]) -> None:
    reference, by_class = known
    rows = pushed(moved(contrast=4)(photos(21, EVEN, strangers=80), np.random.default_rng(0)), 12, 1.5)
    causes = causes_of(seen(rows, reference, displaced=displaced_by(1.5)), reference, by_class)
    assert [one.cause for one in causes] == [NightCause.SHIFT]


def learned(rows: pd.DataFrame, groups: np.ndarray) -> tuple[DriftReference, ByClass]:
    held = np.random.default_rng(2).random(len(rows)) < 0.4
    reference = learn_reference(rows, held, groups, CLASSES)
    return reference, learn_by_class(rows, held, groups, reference)


@pytest.mark.parametrize("images", [pytest.param(100, id="few photos"), pytest.param(240, id="some photos")])
def test_what_is_learned_from_few_photos_invents_no_new_class(images: int) -> None:
    photographed = photos(1, EVEN, images=images)
    reference, by_class = learned(photographed, np.arange(len(photographed)))
    told = [causes_of(seen(photos(seed, EVEN), reference), reference, by_class)[0].cause for seed in range(40, 70)]
    assert told.count(NightCause.NOTHING) >= 29


def test_sessions_of_one_class_each_are_no_other_mix() -> None:
    def of_sessions(seed: int, sessions: int) -> tuple[pd.DataFrame, np.ndarray]:
        label = np.random.default_rng(seed).integers(0, 4, sessions)
        parts = [photos(1000 * seed + k, np.eye(4)[one], images=10) for k, one in enumerate(label)]
        return pd.concat(parts, ignore_index=True), np.repeat(np.arange(sessions), 10)

    reference, by_class = learned(*of_sessions(1, 80))
    nights = [of_sessions(seed, 20)[0] for seed in range(2, 22)]
    told = [causes_of(seen(night, reference), reference, by_class)[0].cause for night in nights]
    assert told.count(NightCause.CLASS_MIX) <= 1


@pytest.mark.parametrize("directions", [0, 1, 3, 6])
def test_an_embedding_of_few_directions_says_nothing_of_classes(directions: int) -> None:
    def flat(rows: pd.DataFrame) -> pd.DataFrame:
        few = np.arange(EMBEDDING_COMPONENTS) < directions
        return rows.assign(embedding=[np.where(few, row, 0).astype(np.float32) for row in rows["embedding"]])

    rows = flat(photos(1, EVEN, images=400))
    reference, by_class = learned(rows, np.arange(len(rows)))
    (only,) = causes_of(seen(flat(photos(5, EVEN, strangers=80)), reference), reference, by_class)
    assert only.cause is NightCause.NOTHING


def test_what_one_class_looks_like_is_no_mistake() -> None:
    def grey_ash(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(saturation=rows["saturation"].where(rows["label"] != "ash", 0.0))

    rows = grey_ash(photos(1, EVEN, images=400))
    reference, by_class = learned(rows, np.arange(len(rows)))
    night = grey_ash(photos(3, (1.0, 0.0, 0.0, 0.0)))
    assert NightCause.PREPARATION not in [one.cause for one in causes_of(seen(night, reference), reference, by_class)]


def test_a_property_of_three_images_does_not_speak_for_all(known: tuple[DriftReference, ByClass]) -> None:
    reference, by_class = known
    rows = photos(8, EVEN)
    rows["jpeg_quality"] = np.where(np.arange(len(rows)) < 3, 40.0, np.nan)
    (only,) = causes_of(seen(rows, reference), reference, by_class)
    assert only.cause is NightCause.NOTHING


def test_less_noise_and_more_edges_are_no_damage(known: tuple[DriftReference, ByClass]) -> None:
    reference, by_class = known
    rows = moved(noise=-1.5, edge_density=2)(photos(8, EVEN), np.random.default_rng(0))
    assert NightCause.NOISE not in [one.cause for one in causes_of(seen(rows, reference), reference, by_class)]


@pytest.mark.parametrize(
    ("design", "when", "counts"),
    [
        pytest.param("strata", NIGHT - timedelta(days=1), True, id="drawn by lot"),
        pytest.param("as given", NIGHT - timedelta(days=1), False, id="whatever somebody labelled"),
        pytest.param("strata", NIGHT, False, id="of this night"),
    ],
)
def test_only_labels_drawn_by_lot_and_of_nights_before_doubt_the_validation(
    tmp_path: Path, design: str, when: date, counts: bool
) -> None:
    one = LabelledNight(night=when, labelled=100, accuracy=0.7, low=0.62, high=0.78, design=design)
    write_labelled(tmp_path, "parts", (one,))
    found = realised_before(tmp_path, "parts", NIGHT)
    assert (found is not None) is counts
    if found is not None:
        assert (found.labelled, found.accuracy, found.error) == (100, 0.7, pytest.approx(0.08 / 1.645))


def test_a_mix_of_classes_is_not_the_headline_of_a_night_whose_files_are_wrong(
    known: tuple[DriftReference, ByClass],
) -> None:
    reference, by_class = known
    night = seen(photos(4, (0.7, 0.1, 0.1, 0.1)), reference)
    failed = ExpectationResult(
        expectation="mode is RGB", level="row", severity=Severity.CRITICAL, status="failed", observed="10%"
    )
    cause = causes_of(night, reference, by_class)[0]
    judged = judge_night(NightEvidence(counts=night.counts, expectations=(failed,), drift=night.drift, cause=cause))
    assert judged.headline == f"200 images scored; not as expected: mode is RGB. {cause.sentence}"


def test_a_night_without_an_alarm_tells_its_cause_all_the_same(known: tuple[DriftReference, ByClass]) -> None:
    reference, by_class = known
    night = seen(photos(5, EVEN, strangers=80), reference)
    cause = causes_of(night, reference, by_class)[0]
    quiet = night.drift.assign(verdict="ok")
    judged = judge_night(NightEvidence(counts=night.counts, expectations=(), drift=quiet, cause=cause))
    assert judged.headline == f"200 images scored; no alarm. {cause.sentence}"
