"""From what was counted, expected and measured to one word and one sentence for the night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from darkroom.reasons import Grade, NightCause, NightVerdict
from darkroom.schemas import metric_in_words
from darkroom.summary import CauseFound, Counts, ExpectationResult, Finding, Severity


@dataclass(frozen=True)
class NightEvidence:
    """What a night's verdict rests on.

    `counted_before` is the number of images that earlier runs of the same night scored; `expect_at_least` the
    number below which a night is too small, and `None` where nobody said and too few nights are known. `further` is
    what else speaks against the night (slices, the sum across nights), `could_have_shown` what a night without drift
    would have shown, `cause` the likeliest one.
    """

    counts: Counts
    expectations: Sequence[ExpectationResult]
    drift: pd.DataFrame
    counted_before: int = 0
    expect_at_least: int | None = None
    inbox_missing: str | None = None
    further: Sequence[Finding] = ()
    could_have_shown: str = ""
    cause: CauseFound | None = None


@dataclass(frozen=True)
class Judgement:
    """The night's verdict, a sentence, and the findings it rests on, the gravest first."""

    verdict: NightVerdict
    headline: str
    findings: tuple[Finding, ...]


def judge_night(evidence: NightEvidence) -> Judgement:
    """Weigh the evidence. The gravest finding decides; a night with nothing to judge is `empty`."""
    findings = sorted(
        [
            *_of_intake(evidence),
            *_of_expectations(evidence.expectations),
            *_of_drift(evidence.drift),
            *evidence.further,
        ],
        key=lambda finding: list(Severity).index(finding.severity),
    )
    images = evidence.counts.scored + evidence.counted_before
    if images == 0 and evidence.counts.quarantined == 0:
        return Judgement(NightVerdict.EMPTY, _empty_sentence(evidence), tuple(findings))
    if any(finding.severity is Severity.CRITICAL for finding in findings):
        verdict = NightVerdict.ALARM
    elif any(finding.severity is Severity.WARNING for finding in findings):
        verdict = NightVerdict.WARN
    else:
        verdict = NightVerdict.OK
    return Judgement(verdict, _sentence(evidence, verdict, findings), tuple(findings))


# How images look explains which expectations they fail; which classes came does not.
_EXPLAINS = {
    **dict.fromkeys((NightCause.PREPARATION, NightCause.NOISE, NightCause.SHIFT), ("drift", "validation")),
    **dict.fromkeys((NightCause.NEW_CLASS, NightCause.CLASS_MIX, NightCause.VALIDATION), ("drift",)),
}


def _told(cause: CauseFound | None) -> tuple[str, tuple[str, ...]]:
    """The sentence of a cause that nothing explains the night as well as, and which findings it explains."""
    if cause is None or cause.cause is NightCause.NOTHING or cause.grade is Grade.POSSIBLE:
        return "", ()
    return f" {cause.sentence}", _EXPLAINS[cause.cause]


def _of_intake(evidence: NightEvidence) -> list[Finding]:
    found = []
    counts = evidence.counts
    images = counts.scored + evidence.counted_before
    if evidence.inbox_missing is not None:
        found.append(
            Finding(
                severity=Severity.CRITICAL,
                source="intake",
                what="The inbox of this night does not exist.",
                evidence=evidence.inbox_missing,
            )
        )
    if evidence.expect_at_least is not None and images < evidence.expect_at_least:
        found.append(
            Finding(
                severity=Severity.CRITICAL,
                source="intake",
                what=f"Far fewer images than usual: {images}, where at least {evidence.expect_at_least} were expected.",
                evidence="expect_at_least, given or learned from past nights",
            )
        )
    if counts.deferred:
        found.append(
            Finding(
                severity=Severity.INFO,
                source="intake",
                what=f"{counts.deferred} files were still being written and wait for the next night.",
            )
        )
    if counts.seen and counts.scored == 0 and counts.quarantined == 0 and evidence.counted_before:
        found.append(
            Finding(
                severity=Severity.INFO, source="intake", what="Nothing new: this night was scored by an earlier run."
            )
        )
    return found


def _of_expectations(results: Sequence[ExpectationResult]) -> list[Finding]:
    found = []
    for result in results:
        if result.status == "passed":
            continue
        share = result.observed or f"{result.unexpected} of {result.evaluated} images"
        found.append(
            Finding(
                # An expectation that could not be evaluated proves nothing: somebody has to look.
                severity=result.severity if result.status == "failed" else Severity.WARNING,
                source="validation",
                what=_not_met(result),
                evidence=share,
            )
        )
    return found


def _not_met(result: ExpectationResult) -> str:
    if result.status == "errored":
        return f"Not evaluated: {result.expectation}."
    return f"{result.otherwise}." if result.otherwise else f"Not as expected: {result.expectation}."


def _of_drift(drift: pd.DataFrame) -> list[Finding]:
    moved = drift[drift["verdict"].isin(["alarm", "warn"])].sort_values("p_corrected")
    # What a single component stands for, nobody can say: the embedding moved or it did not.
    components = moved[moved["family"] == "embedding"]
    led = pd.concat([moved[moved["family"] != "embedding"], components.head(1)]).sort_values("p_corrected")
    found = []
    for row in led.to_dict("records"):
        family, metric = str(row["family"]), str(row["metric"])
        if family == "embedding":
            what = f"The embedding moved, in {len(components)} of {(drift['family'] == 'embedding').sum()} components."
        else:
            name = metric_in_words(family, metric)
            named = name if family == "properties" else f"the {name}"
            what = f"{named[0].upper()}{named[1:]} moved{_direction(row['reference_value'], row['night_value'])}."
        found.append(
            Finding(
                severity=Severity.CRITICAL if row["verdict"] == "alarm" else Severity.WARNING,
                source="drift",
                what=what,
                evidence=f"effect {row['effect']:.2f}, corrected p {row['p_corrected']:.2g}, n {row['n']}",
            )
        )
    return found


def _direction(before: float | None, tonight: float | None) -> str:
    if before is None or tonight is None or pd.isna(before) or pd.isna(tonight):
        return ""
    return f" from {before:.3g} to {tonight:.3g}"


def _empty_sentence(evidence: NightEvidence) -> str:
    counts = evidence.counts
    if evidence.inbox_missing is not None:
        return "Nothing was scored: the inbox of this night does not exist."
    if counts.seen == 0:
        return "Nothing was scored: the inbox is empty."
    if counts.scored_before or counts.duplicate:
        return f"Nothing new came: all {counts.scored_before + counts.duplicate} images were scored on earlier nights."
    if counts.deferred:
        return f"Nothing was scored: {counts.deferred} files are still being written."
    return f"Nothing was scored: none of the {counts.seen} files is an image."


def _sentence(evidence: NightEvidence, verdict: NightVerdict, findings: Sequence[Finding]) -> str:
    counts = evidence.counts
    if counts.scored == 0 and counts.quarantined == 0:
        return "Nothing new: this night was scored by an earlier run."
    start = f"{counts.scored:,} images scored"
    if counts.quarantined:
        start += f", {counts.quarantined:,} set aside"
    told, explained = _told(evidence.cause)
    if verdict is NightVerdict.OK:
        shown = f"; {evidence.could_have_shown}" if evidence.could_have_shown else ""
        if len(evidence.drift) and (evidence.drift["verdict"] == "too_few").all():
            return f"{start}; too few to say whether they differ from training{shown}."
        if told:
            return f"{start}; no alarm.{told}"
        return f"{start}; nothing differs from training beyond what chance explains{shown}."
    decisive = [one for one in findings if one.severity is findings[0].severity and one.source not in explained]
    if not decisive:
        return f"{start}.{told}"
    first = decisive[0].what.rstrip(".")
    more = f", and {len(decisive) - 1} more" if len(decisive) > 1 else ""
    return f"{start}; {first[0].lower()}{first[1:]}{more}.{told}"
