"""From frames and counts to the lines that a person reads; page, artifact and terminal take theirs from here."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from darkroom.reasons import NightVerdict, Reason, Suspicion
from darkroom.summary import Counts, ExpectationResult, NightSummary
from tasks.report.further import LabelledShown
from tasks.report.night_page import Histogram, NightPage

Row = Mapping[Hashable, object]

VERDICT_WORDS: Final[Mapping[NightVerdict, str]] = {
    NightVerdict.OK: "Nothing needs you",
    NightVerdict.WARN: "Worth a look",
    NightVerdict.ALARM: "Look before you trust this night",
    NightVerdict.EMPTY: "Nothing was scored",
}
_NAMED = 3  # names in a sentence, before "and 4 more"


@dataclass(frozen=True)
class Account:
    """One way for a path to end, and how many did."""

    status: str
    meaning: str
    count: int
    share: float


@dataclass(frozen=True)
class ClassShare:
    """One predicted class: images tonight, images in training, and their shares."""

    name: str
    tonight: int
    training: int
    tonight_share: float
    training_share: float


def accounting(counts: Counts) -> list[Account]:
    """Every status with its count, zeros too: the reader can add them up."""
    meanings = {
        "scored": "predicted tonight",
        "scored before": "same content, scored on an earlier night",
        "duplicate": "same content as another path of this night",
        "quarantined": "set aside with a reason",
        "deferred": "waits for the next night",
        "not an image": "neither name nor first bytes are an image's",
    }
    return [
        Account(status, meaning, n, n / counts.seen if counts.seen else 0.0)
        for (status, meaning), n in zip(
            meanings.items(),
            (
                counts.scored,
                counts.scored_before,
                counts.duplicate,
                counts.quarantined,
                counts.deferred,
                counts.not_an_image,
            ),
            strict=True,
        )
    ]


def sum_sentence(counts: Counts) -> str:
    """The sum, written out."""
    accounts = accounting(counts)
    total = " + ".join(f"{account.count:,}" for account in accounts)
    if counts.balanced:
        return f"{total} = {counts.seen:,} seen: every path is accounted for."
    found = sum(account.count for account in accounts)
    return f"{total} = {found:,}, but {counts.seen:,} were seen: the accounts of this night do not balance."


def no_finding_sentence(summary: NightSummary) -> str:
    """What an empty list of findings means: that all was well only where something was checked."""
    if not summary.counts.scored:
        return "No finding; no image was scored tonight, so there was nothing to check."
    if not summary.expectations:
        return "No finding; no expectation was evaluated."
    return "No finding: every check of this night passed."


def class_shares(page: NightPage, most: int) -> tuple[list[ClassShare], int]:
    """Predicted classes tonight beside those of training, most frequent first; and how many more there are."""
    tonight, training = page.summary.classes, page.training_classes
    total, reference = sum(tonight.values()), sum(training.values())
    shares = [
        ClassShare(
            name,
            tonight.get(name, 0),
            training.get(name, 0),
            tonight.get(name, 0) / total if total else 0.0,
            training.get(name, 0) / reference if reference else 0.0,
        )
        for name in {**tonight, **training}
    ]
    shares.sort(key=lambda share: (-max(share.tonight_share, share.training_share), share.name))
    return shares[:most], max(0, len(shares) - most)


def label_sentence(labelled: LabelledShown, summary: NightSummary) -> str:
    """How many images have a label, and how many of them were right."""
    images, right = labelled.images, labelled.right
    if not images:
        return "No image of this night has a label."
    told = f"{images:,} of {summary.counts.scored:,} images have a label; {right:,} of them were predicted so"
    told += ". Weighed by how they were chosen, accuracy is " if labelled.weighed is not None else ": "
    told += share(labelled.share)
    if labelled.low is not None and labelled.high is not None:
        told += f" ({share(labelled.low)} to {share(labelled.high)})"
    alone = labelled.weighed is None and images < summary.counts.scored
    return f"{told}, of the labelled images alone." if alone else f"{told}."


def matrix(labelled: LabelledShown, most: int) -> list[tuple[str, list[tuple[int, float]]]]:
    """Label → (images, share of the label's images) of each prediction; nothing where there are more than `most`."""
    if len(labelled.classes) > most:
        return []
    return [
        (name, [(int(count), float(count / max(1, row.sum()))) for count in row])
        for name, row in zip(labelled.classes, labelled.counts, strict=True)
    ]


def named(names: Sequence[str], most: int = _NAMED) -> str:
    """`a, b, c and 4 more`."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def histogram_sentence(name: str, histogram: Histogram) -> str:
    """The chart in words: where each of the two is centred."""
    tonight, training = (_centre(histogram.edges, counts) for counts in (histogram.night, histogram.training))
    if tonight is None or training is None:
        return f"{name}: no images to draw {'tonight' if tonight is None else 'in training'}."
    return f"{name}: tonight centred at {number(tonight)}, training at {number(training)}."


def expectations_by_weight(results: Iterable[ExpectationResult]) -> list[ExpectationResult]:
    """Failed first, then errored, then passed; within them as the suite had them."""
    order = {"failed": 0, "errored": 1}
    return sorted(results, key=lambda result: order.get(result.status, 2))


def validation_sentence(results: Sequence[ExpectationResult]) -> str:
    """How many expectations were met."""
    met = sum(result.status == "passed" for result in results)
    errored = sum(result.status == "errored" for result in results)
    sentence = f"{met:,} of {len(results):,} expectations of the suite were met"
    return sentence + (f"; {errored:,} could not be evaluated." if errored else ".")


def reason_sentences(row: Row) -> list[str]:
    """Why a prediction is suspect, in words, with the numbers of the row."""
    reasons = [str(reason) for reason in as_list(row.get("reasons"))]
    expected = [reason.split(":")[1:] for reason in reasons if reason.startswith(f"{Suspicion.EXPECTATION}:")]
    told = [_suspicion(reason, row) for reason in reasons if not reason.startswith(f"{Suspicion.EXPECTATION}:")]
    # An image from another camera breaks a dozen at once: one line names them.
    names = [
        column.replace("_", " ") + (f" {' '.join(what)}" if what != ["unexpected"] else "")
        for column, *what in expected
    ]
    return [*told, f"not as expected: {named(names)}"] if names else told


def quarantine_sentence(reason: str) -> str:
    """The sentence of a reason code; a code of a newer version is shown as it is."""
    return Reason(reason).sentence if reason in set(Reason) else reason


def comes_back(reason: str) -> bool:
    """Whether the file is tried again on another night."""
    return reason in set(Reason) and Reason(reason).retryable


def as_float(value: object) -> float | None:
    """A number, or nothing where there is none: frames hold None, NaN and NA for that."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return float(value) if math.isfinite(value) else None


def as_list(value: object) -> list[object]:
    """A list column's cell, which is a list, a tuple, an array, or missing."""
    return list(value) if isinstance(value, list | tuple | np.ndarray) else []


def number(value: float | None) -> str:
    """Three significant digits, thousands kept whole."""
    if value is None:
        return "–"
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")


def p_value(value: float | None) -> str:
    """A p-value, as much of it as matters."""
    if value is None:
        return "–"
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def share(value: float | None) -> str:
    """Percent; one decimal where it says something."""
    if value is None:
        return "–"
    return f"{value:.1%}" if 0 < value < 0.1 or 0.99 < value < 1 else f"{value:.0%}"


def points(value: float) -> str:
    """A share, or a difference of shares, in points: one decimal, a true minus, and no minus before zero."""
    if not math.isfinite(value):
        return "–"
    shown = f"{100 * value:.1f}".replace("-", "−")
    return "0.0" if shown == "−0.0" else shown


def duration(seconds: float) -> str:
    """For a person: `48 s`, `2 min 5 s`, `1 h 20 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _suspicion(reason: str, row: Row) -> str:
    kind = reason.partition(":")[0]
    if kind == Suspicion.UNUSUAL_PROPERTY:
        name = row.get("unusual_property")
        p = as_float(row.get("unusual_p"))
        if not isinstance(name, str):
            return "an unusual image property"
        value = row.get(name)
        shown = number(as_float(value)) if as_float(value) is not None else str(value)
        told = f"unusual {name.replace('_', ' ')}" + (f" of {shown}" if name in row else "")
        return told + (f" (p {p_value(p)})" if p is not None else "")
    if kind == Suspicion.OUT_OF_DISTRIBUTION:
        p = as_float(row.get("out_of_distribution_p"))
        return "unlike the training images" + (f" (p {p_value(p)})" if p is not None else "")
    if kind == Suspicion.LOW_CONFIDENCE:
        confidence = as_float(row.get("confidence"))
        return "the model is unsure" + (f" ({share(confidence)})" if confidence is not None else "")
    return reason.replace("_", " ")


def _centre(edges: NDArray[np.float64], counts: NDArray[np.int64]) -> float | None:
    weights = np.asarray(counts, dtype=np.float64)
    if weights.sum() <= 0:
        return None
    bounds = np.asarray(edges, dtype=np.float64)
    return float(np.average((bounds[:-1] + bounds[1:]) / 2, weights=weights))
