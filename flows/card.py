"""What the card of a bundle says: from what was learned and examined to the facts that are shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from darkroom.settings import TrainingRecipe
from expectations import remedies, sensitivity
from expectations.knowledge import Knowledge
from expectations.measures import Measures
from expectations.restated import Restated
from flows import examination
from flows.examination import Examined
from flows.pictures import thumbnails_of
from tasks.goldens import Golden
from tasks.machine import libraries
from tasks.report import view
from tasks.report.card import (
    CardFacts,
    Confused,
    EpochLine,
    Honesty,
    Interval,
    Ladder,
    LearningPoint,
    Rate,
    Remedy,
    Sensitivity,
    SplitComparison,
    WrongPreparation,
)
from tasks.report.drift_lines import drift_lines
from tasks.training import TrainedModel
from tasks.training.remedies import RECIPE
from tasks.training.remedies import remedies as recipes_of

_PAIRS, _PICTURES = 6, 4


def card_facts(
    name: str,
    model: TrainedModel,
    examined: Examined,
    knowledge: Knowledge,
    goldens: list[Golden],
    recipe: TrainingRecipe,
    folder: Path,
) -> CardFacts:
    """Everything a person should know of a trained bundle before using it; `folder` is where its photos are."""
    return replace(
        model_facts(name, model, examined.measures, knowledge, goldens, recipe.group_by, folder),
        recipe=settings_of(recipe),
        gap=(100 * examined.gap.value, 100 * examined.gap.low, 100 * examined.gap.high),
        honesty=_honesty(examined),
        curves=tuple(_epoch(one) for one in model.history),
        ladder=ladder_shown(examined.ladder),
        sensitivity=sensitivity_shown(examined.sensitivity),
        remedies=tuple(_remedy(one, recipe) for one in examined.remedies),
        learning_curve=tuple(
            LearningPoint(one.share, one.images, _share(one.accuracy)) for one in examined.learning_curve
        ),
        split_comparison=SplitComparison(examined.splits.sentence, tuple(drift_lines(examined.splits.drift))),
    )


def model_facts(
    name: str,
    model: TrainedModel,
    measures: Mapping[str, Measures],
    knowledge: Knowledge,
    goldens: list[Golden],
    grouping: str,
    folder: Path,
) -> CardFacts:
    """What is known of a model whoever trained it; `folder` is where its photos are, for pictures."""
    splits = {split: model.profile[model.profile["split"] == split] for split in measures}
    return CardFacts(
        name=name,
        created_at=datetime.now(UTC),
        classes=model.classes,
        images={split: dict(Counter(rows["label"])) for split, rows in splits.items()},
        accuracy={split: Rate(one.accuracy, *one.interval, one.n) for split, one in measures.items()},
        confusion=measures["validation"].confusion,
        grouping=grouping,
        groups={split: int(rows["group"].nunique()) for split, rows in splits.items()},
        preprocessing=model.preprocessing.knobs(),
        calibration_error_before=knowledge.calibration.error_before,
        calibration_error_after=knowledge.calibration.error_after,
        temperature=knowledge.calibration.temperature,
        goldens=len(goldens),
        golden_kinds=dict(Counter(golden.why for golden in goldens)),
        versions=libraries(),
        left_out={one.path: one.why for one in model.left_out},
        confused=_confused(model, splits["validation"], folder),
    )


def settings_of(recipe: TrainingRecipe) -> dict[str, object]:
    """The recipe as one flat table."""
    settings = recipe.model_dump(mode="json")
    flat = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    parts = ("augmentation", "head", *(["fine_tune"] if recipe.fine_tunes else []))
    return flat | {f"{part}: {key}": value for part in parts for key, value in settings[part].items()}


def _honesty(examined: Examined) -> Honesty:
    audit = examined.audit
    leak = audit.session_leak
    told = audit.restated
    return Honesty(
        sentence=audit.sentence(),
        stated=_rate(audit.stated),
        restated=None if told.n == audit.stated.n and told is not audit.refitted else _rate(told),
        duplicates=audit.leaked,
        sessions=None if leak is None else leak.sentence(),
        label_suspects=sum(audit.suspect_labels.values()),
        shortcuts=tuple(one.sentence() for one in audit.shortcuts.named),
        in_doubt=leak is not None,
    )


def ladder_shown(found: examination.Ladder | None) -> Ladder | None:
    """The ladder as the card has it."""
    if found is None:
        return None
    accuracy = tuple(tuple(row) for row in found.accuracy.tolist())
    return Ladder(found.kinds, accuracy, Rate.of(found.hits, found.images), found.images)


def sensitivity_shown(found: sensitivity.Sensitivity | None) -> Sensitivity | None:
    """What wrong preparations would cost, as the card has it."""
    if found is None:
        return None
    n = found.images
    rows = tuple(
        WrongPreparation(
            variant=one.variant,
            what=one.what,
            accuracy=Rate(one.accuracy, one.low, one.high, n),
            flips=one.flips,
            worst=one.worst,
            shows=one.shows,
            images_to_tell=one.images_to_tell,
        )
        for one in found.costs
    )
    return Sensitivity(Rate(found.accuracy, found.low, found.high, n), rows, found.not_shown)


def _remedy(one: remedies.Worth, recipe: TrainingRecipe) -> Remedy:
    variant = recipes_of(recipe)[one.remedy]
    return Remedy(
        name=one.remedy,
        settings=_in_short(variant),
        seeds=one.seeds,
        accuracy=_share(one.accuracy),
        gap=_interval(one.gap),
        calibration_error=_share(one.calibration_error),
        ladder=_share(one.ladder),
        by_kind=one.by_kind,
        difference=None if one.remedy == one.against else _interval(one.difference),
        is_recipe=one.remedy == RECIPE,
    )


def _in_short(recipe: TrainingRecipe) -> str:
    head = recipe.head
    told = ["augmentation" if recipe.augmentation.active else "no augmentation"]
    told += [f"L2 {head.l2:g}"] if head.dense_units else []
    told += [f"dropout {head.dropout:g}"]
    told += [f"{recipe.fine_tune.layers} layers fine-tuned"] if recipe.fine_tunes else []
    return ", ".join(told)


def _epoch(line: Mapping[str, object]) -> EpochLine:
    def number(name: str) -> float | None:
        return view.as_float(line.get(name))

    return EpochLine(
        phase=str(line["phase"]),
        epoch=int(number("epoch") or 0),
        loss=number("loss"),
        accuracy=number("accuracy"),
        val_loss=number("val_loss") or 0.0,
        val_accuracy=number("val_accuracy") or 0.0,
    )


def _confused(model: TrainedModel, held: pd.DataFrame, folder: Path) -> tuple[Confused, ...]:
    """The commonest confusions of held-out images, the surest mistakes of each as pictures."""
    wrong = held[held["label"] != held["predicted_class"]]
    wrong = wrong.assign(confidence=[float(np.max(row)) for row in wrong["probabilities"]])
    pairs = Counter(zip(wrong["label"].astype(str), wrong["predicted_class"].astype(str), strict=True))
    commonest = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:_PAIRS]
    shown = {
        (true, called): wrong[(wrong["label"] == true) & (wrong["predicted_class"] == called)]
        .sort_values("confidence", ascending=False, kind="stable")
        .head(_PICTURES)
        for true, called in commonest
    }
    pictured = pd.concat([wrong.head(0), *shown.values()])
    thumbnails = thumbnails_of(pictured[["path", "content_id"]], folder, model.preprocessing)
    return tuple(
        Confused(
            true=pair[0],
            predicted=pair[1],
            n=pairs[pair],
            pictures=tuple(
                (str(row["path"]), float(row["confidence"]), thumbnails[str(row["content_id"])])
                for row in shown[pair].to_dict("records")
                if row["content_id"] in thumbnails
            ),
        )
        for pair in commonest
    )


def _rate(one: Restated) -> Rate:
    return Rate(one.accuracy, one.low, one.high, one.n)


def _share(one: remedies.Interval) -> Interval:
    """Of a share: Student's interval of two seeds may leave what a share can be."""
    found = _interval(one)
    return Interval(found.mean, max(0.0, found.low), min(1.0, found.high)) if found.known else found


def _interval(one: remedies.Interval) -> Interval:
    """One seed has no interval: the card shows that as NaN."""
    return Interval(one.mean, math.nan if one.low is None else one.low, math.nan if one.high is None else one.high)
