"""The card of a bundle: what was measured is told, what was not is left out, and nothing from a file is believed."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks.report.card import (
    Adopted,
    CardFacts,
    Confused,
    EpochLine,
    Honesty,
    Interval,
    Ladder,
    LearningPoint,
    PreparationLine,
    Rate,
    Remedy,
    Sensitivity,
    SplitComparison,
    WrongPreparation,
    bundle_card,
    bundle_card_html,
)
from tasks.report.card.charts import card_chart, curve_charts, learning_chart
from tasks.report.card.page import remedy_rows
from tasks.report.card.preparations import preparation_rows, sensitivity_sentence, unseen_sentences
from tasks.report.card.weak_spots import kinds, ladder_sentence, limits, weaknesses
from tasks.report.card.words import (
    accuracy_sentence,
    caution,
    curves_sentence,
    headline,
    honesty_findings,
    learning_sentence,
    remedies_sentence,
)
from tasks.report.drift_lines import DriftLine
from tasks.report.page import LARGEST_PAGE
from tests.shown import HOSTILE, Outline, assert_harmless, assert_stays_text, jpeg


def card(**changes: object) -> CardFacts:
    """A card as the first training gives it: nothing beyond accuracy and calibration was measured."""
    facts: dict[str, object] = {
        "name": "parts",
        "created_at": datetime(2026, 5, 1, 12, 30, tzinfo=UTC),
        "classes": ("gear", "washer"),
        "images": {"train": {"gear": 1_080, "washer": 180}, "validation": {"gear": 120, "washer": 45}},
        "accuracy": {"train": Rate.of(1_255, 1_260), "validation": Rate.of(145, 165)},
        "confusion": ((110, 10), (10, 35)),
        "recipe": {"backbone": "MobileNetV2", "learning_rate": 0.001, "groups": None, "flip": True},
        "preprocessing": {"geometry.height": 224, "formats": ("JPEG", "PNG")},
        "calibration_error_before": 0.081,
        "calibration_error_after": 0.024,
        "temperature": 1.7,
        "goldens": 32,
        "golden_kinds": {"grey": 4},
    }
    return CardFacts(**(facts | changes))  # type: ignore[arg-type]


def around(mean: float, reach: float = 0.02) -> Interval:
    return Interval(mean, mean - reach, mean + reach)


def remedy(name: str, difference: Interval | None, ladder: float = 0.6, **changes: object) -> Remedy:
    facts: dict[str, object] = {
        "settings": "0.0001",
        "seeds": 5,
        "accuracy": around(0.82),
        "gap": around(0.05),
        "calibration_error": around(0.03),
        "ladder": around(ladder),
        "by_kind": {"motion_blur": ladder - 0.1, "fog": ladder},
    }
    return Remedy(name, difference=difference, **(facts | changes))  # type: ignore[arg-type]


def wrong(variant: str, hits: int, **changes: object) -> WrongPreparation:
    facts: dict[str, object] = {"what": "prepared wrongly", "flips": 0.4, "worst": 0.97, "shows": 1.0}
    facts |= {"images_to_tell": None if changes.get("shows") == 0 else 3}
    return WrongPreparation(variant, accuracy=Rate.of(hits, 50), **(facts | changes))  # type: ignore[arg-type]


def epochs(*losses: float, phase: str = "head", first: int = 1) -> tuple[EpochLine, ...]:
    return tuple(
        EpochLine(phase, first + place, loss / 2, 1 - loss / 3, loss, 1 - loss / 2) for place, loss in enumerate(losses)
    )


def difference_line(name: str, verdict: str = "ok") -> DriftLine:
    return DriftLine("properties", name, name, verdict, "ks", "sd", 0.5, 0.001, 0.004, 410.0, 498.0, 0.31, 165, 1_260)


def full(text: str = "calm", thumbnail: bytes | None = None) -> CardFacts:
    """A card on which everything was measured, and every word that comes from files or people is `text`."""
    picture = jpeg(1) if thumbnail is None else thumbnail
    return card(
        name=text,
        classes=(text, "washer"),
        images={"train": {text: 80, "washer": 80}, text: {text: 20}},
        accuracy={"train": Rate.of(90, 100), text: Rate.of(80, 100), "validation": Rate.of(80, 100)},
        recipe={text: text},
        golden_kinds={text: 2},
        not_for=(text,),
        versions={text: text},
        grouping=text,
        groups={text: 3},
        left_out={text: text},
        gap=(10.0, 4.0, 16.0),
        honesty=Honesty(text, Rate.of(80, 100), Rate.of(65, 90), 10, text, 3, (text, text)),
        curves=(*epochs(1.2, 0.9), *epochs(0.8, 0.7, 0.9, phase=text, first=3)),
        ladder=Ladder((text, "fog"), ((0.7, 0.5, 0.3, 0.2, 0.1), (0.8, 0.8, 0.7, 0.7, 0.6)), Rate.of(80, 100), 100),
        sensitivity=Sensitivity(
            Rate.of(40, 50), (wrong(text, 20, what=text), wrong("unseen", 40, shows=0.0)), {text: text}
        ),
        remedies=(
            remedy(text, None, 0.5, settings=text, by_kind={text: 0.4}),
            remedy(text, around(0.05), settings=text, is_recipe=True),
        ),
        learning_curve=(LearningPoint(0.5, 80, around(0.7)), LearningPoint(1.0, 160, around(0.8))),
        split_comparison=SplitComparison(text, (difference_line(text, "warn"), difference_line(text, text))),
        confused=(Confused(text, "washer", 9, ((text, 0.8, picture), ("b.jpg", 0.7, b"<svg onload=alert(1)>"))),),
    )


@pytest.fixture(scope="module")
def page() -> str:
    return bundle_card_html(full())


@pytest.fixture(scope="module")
def markdown() -> str:
    return bundle_card(full())


def test_the_card_says_data_recipe_accuracy_and_limits() -> None:
    markdown = bundle_card(card())
    for said in (
        "# parts: Right on 87.9% of images it had not seen (82.0% to 92.0%)", "**Not audited.**",
        "| 0 | gear | 1,080 | 120 |", "| 1 | washer | 180 | 45 |", "| all | 1,260 | 165 |",
        "| validation | 87.9% (82.0% to 92.0%, n 165) |", "Training is 11.7 points above validation",
        "| washer | 77.8% (63.7% to 87.5%, n 45) |", "| gear | 110 | 10 |",
        "0.081", "0.024", "temperature 1.7", "32 training images", "4 grey", "22% of the validation images of washer",
        "Split image by image", "| groups | not set |", "| geometry.height | 224 |", "| flip | yes |",
        "| formats | JPEG, PNG |",
    ):  # fmt: skip
        assert said in markdown, said
    outline = Outline(bundle_card_html(card()))
    assert "87.9%" in outline.text
    assert "What it must not be used for" in outline.text


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        pytest.param(card(), "Right on 87.9% of images it had not seen (82.0% to 92.0%)", id="as validation says"),
        pytest.param(
            card(honesty=Honesty("…", Rate.of(145, 165), Rate(0.83, 0.8, 0.86, 150))),
            "Right on 83.0% of images it had not seen (80.0% to 86.0%)",
            id="restated",
        ),
        pytest.param(
            card(honesty=Honesty("…", Rate.of(145, 165))),
            "Right on 87.9% of images it had not seen (82.0% to 92.0%)",
            id="audited, nothing found",
        ),
        pytest.param(
            card(honesty=Honesty("…", Rate.of(145, 165), Rate.of(0, 0))),
            "Right on 87.9% of images it had not seen (82.0% to 92.0%)",
            id="nothing left to restate it on",
        ),
        pytest.param(
            card(accuracy={"validation": Rate.of(0, 0)}),
            "How often it is right was not measured: no image was held out",
            id="nothing held out",
        ),
        pytest.param(
            card(accuracy={}), "How often it is right was not measured: no image was held out", id="no validation"
        ),
    ],
)
def test_the_title_carries_the_honest_accuracy(facts: CardFacts, said: str) -> None:
    assert headline(facts) == said
    outline = Outline(bundle_card_html(facts))
    assert outline.text.count(said) == 2  # the title of the window, and that of the page
    assert said in bundle_card(facts).partition("\n")[0]


@pytest.mark.parametrize(
    ("honesty", "stamp"),
    [
        pytest.param(None, "not audited", id="not audited"),
        pytest.param(Honesty("…", Rate.of(90, 100)), None, id="nothing found"),
        pytest.param(Honesty("…", Rate.of(90, 100), Rate.of(75, 90)), "flattered", id="flattered"),
        pytest.param(Honesty("…", Rate.of(90, 100), Rate.of(81, 90)), None, id="restated as stated"),
        pytest.param(Honesty("…", Rate.of(90, 100), Rate.of(88, 90)), None, id="restated higher"),
        pytest.param(Honesty("…", Rate.of(90, 100), Rate.of(0, 0)), None, id="nothing left"),
    ],
)
def test_what_to_know_beside_the_title(honesty: Honesty | None, stamp: str | None) -> None:
    told = caution(card(honesty=honesty))
    assert (None if told is None else told[0]) == stamp
    Outline(bundle_card_html(card(honesty=honesty)))


def test_what_the_audit_found_is_told_one_by_one() -> None:
    honesty = Honesty("…", Rate.of(9, 10), None, 1, "2 sessions stand on both sides.", 3, ("Width gives gear away.",))
    assert [sentence for _, _, sentence in honesty_findings(card(honesty=honesty))] == [
        "1 validation image is a near-duplicate of training images.",
        "2 sessions stand on both sides.",
        "3 images have a label that may be wrong.",
        "Width gives gear away.",
    ]
    assert honesty_findings(card(honesty=Honesty("…", Rate.of(9, 10)))) == [
        ("ok", "duplicates", "No validation image is a near-duplicate of a training image.")
    ]


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        pytest.param(None, "Training is 11.7 points above validation: the model knows", id="not measured"),
        pytest.param((11.7, 8.1, 15.2), "Training is 11.7 points (8.1 to 15.2) above validation: ", id="above"),
        pytest.param((1.2, -0.9, 3.3), "1.2 points (−0.9 to 3.3) apart, which is not told from chance", id="chance"),
        pytest.param((-1.2, -3.3, 0.9), "1.2 points (−0.9 to 3.3) apart, which is not told", id="chance, below"),
        pytest.param((-4.0, -6.0, -2.0), "Validation is 4.0 points (2.0 to 6.0) above training", id="below"),
    ],
)
def test_the_gap_is_told_with_its_interval(gap: tuple[float, float, float] | None, said: str) -> None:
    assert said in accuracy_sentence(card(gap=gap))


def ladder(**rows: tuple[float, ...]) -> Ladder:
    return Ladder(tuple(rows), tuple(rows.values()), Rate(0.88, 0.84, 0.91, 300), 300)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        pytest.param(None, "What blur, noise, other light or compression cost was not measured.", id="not measured"),
        pytest.param(
            ladder(fog=(0.8, 0.7, 0.6, 0.5, 0.4), motion_blur=(0.7, 0.5, 0.41, 0.3, 0.1), jpeg=(0.88,) * 5),
            "Under motion blur of strength 3 it is right on 41%, under fog on 60%; clean, on 88% of the same 300 "
            "images. The mean over all kinds and strengths is 63%.",
            id="two bad kinds",
        ),
        pytest.param(
            ladder(jpeg=(0.88, 0.88, 0.87, 0.86, 0.85)),
            "No kind of corruption costs more at strength 3 than the interval of the accuracy allows; the worst is "
            "jpeg, on which it is right on 87%; clean, on 88% of the same 300 images.",
            id="none is bad",
        ),
        pytest.param(
            ladder(fog=(0.5,)),
            "Under fog of strength 1 it is right on 50%; clean, on 88% of the same 300 images. The mean over all "
            "kinds and strengths is 50%.",
            id="one strength",
        ),
    ],
)
def test_the_ladder_is_told_in_a_sentence(measured: Ladder | None, said: str) -> None:
    assert ladder_sentence(measured) == said
    assert said in bundle_card(card(ladder=measured))
    assert said in Outline(bundle_card_html(card(ladder=measured))).text


def test_the_worst_class_and_the_worst_corruption_are_weaknesses_and_limits() -> None:
    weak = card(ladder=ladder(fog=(0.8, 0.6, 0.4, 0.3, 0.2), jpeg=(0.9,) * 5))
    assert weaknesses(weak)[0] == "Of washer it finds 77.8% (63.7% to 87.5%, n 45); 10 were called gear."
    assert "Images under fog: at strength 3 it is wrong on more than half of them." in limits(weak)
    flawless = card(confusion=((120, 0), (0, 45)), ladder=ladder(jpeg=(0.9,) * 5))
    assert weaknesses(flawless)[0] == "No validation image was called by another class's name."
    assert len(limits(flawless)) == 3


PREPARATIONS = {
    "some": (
        (wrong("scaling=twice", 10), wrong("fit=crop", 39, flips=0.02), wrong("grey=luma", 40, flips=0.0)),
        "Prepared wrongly, it is right on as few as 20% of 50 held-out images instead of 80% (scaling=twice: prepared "
        "wrongly). Of 3 wrong preparations 3 show on these images; 1 changes at least one answer in twenty, and 1 "
        "changes no answer, only probabilities.",
    ),
    "none that shows": (
        (wrong("icc=to_srgb", 40, shows=0.0),),
        "No wrong preparation changes a probability of these images by 0.001 or more.",
    ),
}


@pytest.mark.parametrize(("rows", "said"), PREPARATIONS.values(), ids=PREPARATIONS.keys())
def test_what_wrong_preparations_cost_is_told(rows: tuple[WrongPreparation, ...], said: str) -> None:
    sensitivity = Sensitivity(Rate.of(40, 50), rows)
    assert sensitivity_sentence(sensitivity) == said
    assert said in bundle_card(card(sensitivity=sensitivity)).replace("\\", "")
    outline = Outline(bundle_card_html(card(sensitivity=sensitivity)))
    assert said in outline.text
    assert ("The costliest first" in outline.text) == any(row.shows > 0 for row in rows)


def test_a_strip_marks_the_pinned_accuracy_and_what_is_worse_stands_left_of_it() -> None:
    rows = preparation_rows(Sensitivity(Rate.of(40, 50), (wrong("a=b", 10), wrong("c=d", 40, flips=0.0))))
    places = [
        {name: float(value[:-1]) for name, value in (part.split(":") for part in row.css.split(";"))} for row in rows
    ]
    assert places[0]["--m"] < places[0]["--z"] == places[1]["--z"] == places[1]["--m"]
    assert [row.verdict for row in rows] == ["alarm", "empty"]
    assert all(0 <= place["--l"] <= place["--m"] <= place["--l"] + place["--w"] <= 100 for place in places)


def test_what_cannot_be_shown_is_listed_with_the_reason() -> None:
    sensitivity = Sensitivity(Rate.of(40, 50), (wrong("icc=to_srgb", 40, shows=0.0),), {"batch_norm=batch": "none"})
    assert unseen_sentences(sensitivity) == [
        "These images cannot show icc=to_srgb.",
        "batch_norm=batch cannot be shown: none.",
    ]


def test_only_the_costliest_are_open_at_first() -> None:
    rows = tuple(wrong(f"knob={number}", 20 + number) for number in range(20))
    outline = Outline(bundle_card_html(card(sensitivity=Sensitivity(Rate.of(45, 50), rows))))
    assert "8 more that show" in outline.text
    assert all(row.variant in outline.text for row in rows)


def test_the_worst_kind_of_the_ladder_comes_first() -> None:
    rows = kinds(ladder(jpeg=(0.9,) * 5, fog=(0.8, 0.6, 0.4, 0.3, 0.2), noise=(0.7,) * 5))
    assert [row.name for row in rows] == ["fog", "noise", "jpeg"]


@pytest.mark.parametrize(
    ("remedies", "said"),
    [
        pytest.param(
            (
                remedy("plain", None, 0.55),
                remedy("augmentation", Interval(0.041, 0.022, 0.06), 0.59, is_recipe=True),
                remedy("dropout", Interval(0.004, -0.01, 0.018), 0.56),
                remedy("L2", Interval(-0.002, -0.01, 0.006), 0.55),
                remedy("fine-tuning", Interval(-0.022, -0.037, -0.007), 0.53),
            ),
            "Over the corruption ladder, against plain: augmentation gains 4.1 points (2.2 to 6.0); fine-tuning loses "
            "2.2 points (0.7 to 3.7); dropout and L2 are not told from chance. This bundle was made with "
            "augmentation, the best of them on average.",
            id="all three",
        ),
        pytest.param(
            (remedy("plain", None, 0.55, is_recipe=True), remedy("L2", Interval(0.03, 0.01, 0.05), 0.58)),
            "Over the corruption ladder, against plain: L2 gains 3.0 points (1.0 to 5.0). This bundle was made with "
            "plain; the best on average is L2.",
            id="another is better",
        ),
        pytest.param(
            (remedy("plain", None), remedy("L2", around(0.0))),
            "Over the corruption ladder, against plain: L2 is not told from chance.",
            id="chance",
        ),
        pytest.param((remedy("plain", None),), "No remedy was compared with the plain recipe.", id="plain alone"),
    ],
)
def test_what_is_worth_it_is_told(remedies: tuple[Remedy, ...], said: str) -> None:
    assert remedies_sentence(remedies) == said
    assert said in bundle_card(card(remedies=remedies))
    assert said in Outline(bundle_card_html(card(remedies=remedies))).text


bounded = st.floats(-1, 1, allow_nan=False)


@given(st.lists(st.tuples(bounded, bounded, bounded).map(sorted), min_size=1, max_size=8))
def test_dots_intervals_and_zero_stay_inside_their_strip(intervals: list[list[float]]) -> None:
    rows = remedy_rows([remedy("x", Interval(mean, low, high)) for low, mean, high in intervals])
    for row in rows:
        zero, left, width, dot = (float(found) for found in re.findall(r"([\d.-]+)%", row.css or ""))
        assert all(0 <= place <= 100 for place in (zero, left, left + width, dot))
        assert left - 0.11 <= dot <= left + width + 0.11


@pytest.mark.parametrize(
    ("before", "last", "said"),
    [
        pytest.param(around(0.75, 0.03), around(0.825, 0.025), "more images still help", id="helps"),
        pytest.param(around(0.80, 0.03), around(0.825, 0.025), "whether more images help is not told", id="chance"),
        pytest.param(around(0.85, 0.01), around(0.825, 0.01), "whether more images help is not told", id="falls"),
    ],
)
def test_the_last_step_of_the_learning_curve_is_held_against_its_interval(
    before: Interval, last: Interval, said: str
) -> None:
    curve = (LearningPoint(0.5, 255, before), LearningPoint(1.0, 510, last))
    assert said in learning_sentence(curve)
    assert "255 training images to 510" in bundle_card(card(learning_curve=curve))


def test_a_single_training_has_no_interval_and_tells_nothing_from_chance() -> None:
    once = Interval(0.8, math.nan, math.nan)
    facts = card(
        remedies=(
            remedy("plain", None, accuracy=once, ladder=0.6),
            remedy("L2", Interval(0.04, math.nan, math.nan), gap=once, calibration_error=once, seeds=1),
        ),
        learning_curve=(LearningPoint(0.5, 255, Interval(0.7, math.nan, math.nan)), LearningPoint(1.0, 510, once)),
    )
    assert "L2 is not told from chance" in bundle_card(facts)
    assert "whether more images help is not told" in bundle_card(facts)
    for shown in (bundle_card_html(facts), re.sub(r"base64,[\w+/=]+", "", bundle_card(facts))):
        assert not re.search(r"\bnan\b", shown)


def test_one_point_is_no_learning_curve() -> None:
    alone = card(learning_curve=(LearningPoint(1.0, 510, around(0.8)),))
    assert "tells nothing" in bundle_card(alone)
    Outline(bundle_card_html(alone))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        pytest.param(
            card(curves=epochs(1.0, 0.8, 0.9)),
            "3 epochs; the weights of epoch 2 stayed, with a validation loss of 0.800; at the end it was 0.900.",
            id="stopped early",
        ),
        pytest.param(
            card(curves=(*epochs(1.0, 0.5), *epochs(0.7, 0.6, phase="fine-tune", first=3))),
            "4 epochs (2 of head and 2 of fine-tune); the weights of epoch 4 stayed, with a validation loss of 0.600.",
            id="the last phase keeps its own best",
        ),
        pytest.param(
            card(curves=(*epochs(1.0, 0.5), *epochs(0.7, 0.6, phase="fine-tune", first=3)), kept_epoch=2),
            "4 epochs (2 of head and 2 of fine-tune); the weights of epoch 2 stayed, with a validation loss of 0.500; "
            "at the end it was 0.600.",
            id="told which",
        ),
        pytest.param(card(curves=epochs(1.0), kept_epoch=9), "1 epoch.", id="kept is not among them"),
    ],
)
def test_the_curves_are_told_in_a_sentence(facts: CardFacts, said: str) -> None:
    assert curves_sentence(facts) == said
    assert said in Outline(bundle_card_html(facts)).text


def test_the_kept_epoch_is_marked_in_both_charts_and_a_phase_has_its_rule() -> None:
    two = card(curves=(*epochs(1.0, 0.5), *epochs(0.7, 0.6, phase="fine-tune", first=3)))
    for chart in curve_charts(two):
        assert chart.svg.count('class="dot validation"') == 1
        assert re.findall(r'class="rule" d="M([\d.]+) ', chart.svg) == ["150.0"]
    assert all('class="rule"' not in chart.svg for chart in curve_charts(card(curves=epochs(1.0, 0.5))))


@given(st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=9))
def test_charts_of_any_numbers_stay_inside_their_frame(values: list[float]) -> None:
    curves = tuple(
        EpochLine("head", place, None if place % 2 else value, None, value, min(value, 1.0))
        for place, value in enumerate(values)
    )
    sizes = tuple(LearningPoint(1.0, place, around(value, 0)) for place, value in enumerate(values))
    for chart in (*curve_charts(card(curves=curves)), learning_chart(sizes)):
        Outline(chart.svg)
        for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", chart.svg):
            assert 0 <= float(x) <= 300
            assert 0 <= float(y) <= 100
        assert chart.bottom < chart.top


SECTIONS: dict[str, tuple[str, str, Callable[[CardFacts], CardFacts]]] = {
    "curves": ("curves", "## Curves", lambda facts: replace(facts, curves=())),
    "remedies": ("remedies", "## What each remedy is worth", lambda facts: replace(facts, remedies=())),
    "learning curve": ("more", "## Would more images help?", lambda facts: replace(facts, learning_curve=())),
    "splits": ("splits", "## Training against validation", lambda facts: replace(facts, split_comparison=None)),
}


@pytest.mark.parametrize(("anchor", "heading", "without"), SECTIONS.values(), ids=SECTIONS)
def test_what_was_not_measured_has_no_section(
    page: str, anchor: str, heading: str, without: Callable[[CardFacts], CardFacts]
) -> None:
    assert anchor in [attributes.get("id") for _, attributes in Outline(page).elements]
    assert heading in bundle_card(full())
    less = without(full())
    outline = Outline(bundle_card_html(less))
    assert anchor not in [attributes.get("id") for _, attributes in outline.elements]
    assert f"#{anchor}" not in [attributes.get("href") for attributes in outline.all("a")]
    assert heading not in bundle_card(less)


def test_files_left_out_are_listed_with_why() -> None:
    some = card(left_out={f"gear/{n}.jpg": "the file ends before the image does" for n in range(130)})
    text = Outline(bundle_card_html(some)).text
    assert "130 files left out" in text
    assert "gear/99.jpg" in text
    assert "And 30 more." in text
    assert "- gear/0.jpg: the file ends before the image does" in bundle_card(some)
    assert "- and 110 more" in bundle_card(some)


def test_a_card_of_many_classes_lists_the_commonest_confusions() -> None:
    classes = tuple(f"class {n}" for n in range(40))
    confusion = [[10 if i == j else 0 for j in range(40)] for i in range(40)]
    confusion[3][7] = 4
    many = card(classes=classes, confusion=confusion, images={"train": dict.fromkeys(classes, 40)})
    assert "| class 3 | class 7 | 4 |" in bundle_card(many)
    assert "class 7" in Outline(bundle_card_html(many)).text


def test_a_card_without_validation_images_of_a_class_renders() -> None:
    bare = card(
        confusion=((5, 0), (0, 0)), accuracy={"validation": Rate.of(0, 0)}, calibration_error_before=None, goldens=0
    )
    assert "no images" in bundle_card(bare)
    assert "nan" not in Outline(bundle_card_html(bare)).text


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
    ids=["none", "all", "newcombe 1998"],
)
def test_the_interval_of_a_rate_is_wilsons(hits: int, n: int, low: float, high: float) -> None:
    rate = Rate.of(hits, n)
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=5e-5)


def test_the_card_is_one_file_that_loads_and_runs_nothing(page: str) -> None:
    outline = Outline(page)
    assert not {"script", "iframe", "object", "embed", "form", "link", "base"} & {tag for tag, _ in outline.elements}
    for tag, attributes in outline.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "action", "xlink:href"):
                assert (value or "").startswith(("data:image/", "#")), (tag, name)
    for outside in ("http:", "https:", "url(", "@import"):
        assert outside not in page


def test_a_screen_reader_finds_its_way(page: str) -> None:
    outline = Outline(page)
    tags = [tag for tag, _ in outline.elements]
    assert [tags.count(landmark) for landmark in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    assert tags.count("table") == tags.count("caption")
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"] for attributes in outline.all("a")} <= {f"#{one}" for one in ids}
    assert {attributes["aria-labelledby"] for attributes in outline.all("section")} <= set(ids)
    assert all(attributes.get("alt") for attributes in outline.all("img"))
    assert all(attributes.get("aria-hidden") == "true" for attributes in outline.all("svg"))
    assert all(attributes.get("scope") for attributes in outline.all("th"))
    assert all(attributes.get("aria-label") for attributes in outline.all("figure"))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_from_a_file_becomes_markup_on_the_card(page: str, text: str) -> None:
    calm, hostile = Outline(page), Outline(bundle_card_html(full(text)))
    names = ("src", "href", "style", "class", "id")
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in calm.elements]
    for (_, found), (_, expected) in zip(hostile.elements, calm.elements, strict=True):
        assert found.keys() == expected.keys()
        assert [found.get(name) for name in names] == [expected.get(name) for name in names]
    assert_harmless(hostile.text.replace("\n", ""))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_from_a_file_becomes_markup_in_the_markdown(markdown: str, text: str) -> None:
    assert_stays_text(markdown, bundle_card(full(text)))


def confused(pairs: int, size: tuple[int, int]) -> tuple[Confused, ...]:
    return tuple(
        Confused(
            "gear", f"class {pair}", 9, tuple((f"{pair}-{n}.jpg", 0.5, jpeg(n, size, quality=95)) for n in range(7))
        )
        for pair in range(pairs)
    )


@pytest.mark.parametrize("size", [(120, 90), (500, 400)], ids=["small thumbnails", "large thumbnails"])
def test_at_most_six_pairs_of_four_pictures_and_three_megabytes(size: tuple[int, int]) -> None:
    html = bundle_card_html(card(confused=confused(9, size)))
    outline = Outline(html)
    pictures = [attributes["alt"] or "" for attributes in outline.all("img")]
    assert len(html.encode()) <= LARGEST_PAGE < 3_000_000
    assert {f"{pair}-0.jpg" for pair in range(6)} <= {alt.partition(",")[0] for alt in pictures}
    assert (len(pictures) == 24) == (size == (120, 90))
    assert ("pictures were left out" in outline.text) == (len(pictures) < 24)
    assert all(f"{pair}-3.jpg" in outline.text for pair in range(6))
    assert "0-4.jpg" not in outline.text
    assert "class 6" not in outline.text


@pytest.mark.parametrize("size", [(120, 90), (500, 400)], ids=["small thumbnails", "large thumbnails"])
def test_the_markdown_holds_at_most_four_small_pictures(size: tuple[int, int]) -> None:
    markdown = bundle_card(card(confused=confused(9, size)))
    assert markdown.count("data:image/jpeg;base64,") == (4 if size == (120, 90) else 0)
    assert len(markdown) < 200_000
    assert "| gear | class 8 | 9 |" in markdown


def test_bytes_that_are_no_jpeg_are_not_shown(page: str) -> None:
    assert len(Outline(page).all("img")) == 1
    assert Outline(bundle_card_html(full(thumbnail=b"<svg onload=alert(1)>"))).all("img") == []


def test_the_chart_of_the_markdown_is_one_small_opaque_picture() -> None:
    (chart,) = re.findall(r"data:image/png;base64,([\w+/=]+)", bundle_card(full()))
    picture = Image.open(io.BytesIO(base64.b64decode(chart)))
    assert picture.format == "PNG"
    assert picture.convert("RGBA").getextrema()[3] == (255, 255)
    assert len(chart) < 150_000
    assert card_chart(card()) is None


def test_two_cards_of_the_same_facts_are_the_same_bytes() -> None:
    assert bundle_card_html(full()) == bundle_card_html(full())
    assert bundle_card(full()) == bundle_card(full())


def test_the_card_of_an_adopted_model_says_where_it_came_from_and_claims_no_more_than_is_known() -> None:
    preparations = (
        PreparationLine("squash, bilinear, scaling tf", Rate.of(150, 165), True, True),
        PreparationLine("centre crop, LANCZOS, scaling tf", Rate.of(148, 165), False, False),
    )
    adopted = Adopted(("A Keras model in HDF5.",), ("Dropout is inactive.",), preparations)
    facts = card(adopted=adopted, recipe={})
    assert "photos it was adopted with" in headline(facts)
    assert (caution(facts) or ("",))[0] == "adopted"
    for page in (bundle_card(facts), bundle_card_html(facts)):
        assert "Where it came from" in page
        assert "A Keras model in HDF5." in page
        assert "squash, bilinear, scaling tf" in page
        assert "above validation" not in page, "nothing is known of its training"
    assert "Where it came from" not in bundle_card_html(card())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_an_adopted_model_says_of_itself_stays_text(text: str) -> None:
    def told(words: str) -> CardFacts:
        return card(adopted=Adopted((words,), (words,), (PreparationLine(words, Rate.of(1, 2), True, False),)))

    assert_stays_text(bundle_card(told("calm")), bundle_card(told(text)))
    calm, hostile = (Outline(bundle_card_html(told(words))) for words in ("calm", text))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in calm.elements]
    assert_harmless(hostile.text.replace("\n", ""))
