"""The evaluation of a night: what its shards left behind, weighed into one verdict."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from darkroom.errors import WrongUse
from darkroom.reasons import NightCause
from darkroom.schemas import ESTIMATES
from darkroom.summary import AccuracyEstimate, CauseFound, Counts, ExpectationResult, Severity
from expectations.alarms import Compared, Earlier, compare
from expectations.budget import A_YEAR, Budget
from expectations.knowledge import Knowledge
from expectations.night_cause import NightSeen, Realised, causes_of, new_class_among
from expectations.packed import pack, unpack
from expectations.signs import Signs
from expectations.sketch import Sketch
from expectations.slices import NO_SLICES, Slices
from expectations.validation import RowOutcome, TeamSuite, finish_rows, run_night
from expectations.verdict import Judgement, NightEvidence, judge_night


@dataclass(frozen=True)
class RowEvidence:
    """What the evaluation needs of some rows: sketches for drift, of all of them and of their slices, how often each
    row expectation failed, and the signs of accuracy.
    """

    sketch: Sketch
    outcome: RowOutcome
    signs: Signs
    slices: Slices = NO_SLICES

    @classmethod
    def from_rows(cls, rows: pd.DataFrame, outcome: RowOutcome, knowledge: Knowledge) -> RowEvidence:
        """Of some rows of the predictions schema."""
        reference = knowledge.drift
        whole = reference.sketch(rows)
        return cls(whole, outcome, knowledge.signs_of(rows), Slices.of(rows, reference, whole))

    def merge(self, other: RowEvidence) -> RowEvidence:
        """Of both sets of rows."""
        return RowEvidence(
            self.sketch.merge(other.sketch),
            self.outcome.merge(other.outcome),
            self.signs.merge(other.signs),
            self.slices.merge(other.slices),
        )

    def to_bytes(self) -> bytes:
        """Kept beside the shard's part in staging."""
        parts = {
            "sketch": self.sketch.to_bytes(),
            "signs": self.signs.to_bytes(),
            "slices": self.slices.to_bytes(),
        }
        arrays = {name: np.frombuffer(data, np.uint8) for name, data in parts.items()}
        return zlib.compress(pack(self.outcome.to_json(), arrays), level=1)  # zeros, most of it

    @classmethod
    def from_bytes(cls, data: bytes) -> RowEvidence:
        """The other way."""
        tallies, parts = unpack(zlib.decompress(data))
        sketch, signs, slices = (parts[name].tobytes() for name in ("sketch", "signs", "slices"))
        return cls(
            Sketch.from_bytes(sketch), RowOutcome.from_json(tallies), Signs.from_bytes(signs), Slices.from_bytes(slices)
        )

    @classmethod
    def of(cls, parts: Iterable[RowEvidence], knowledge: Knowledge) -> RowEvidence:
        """Of all shards; memory is that of one."""
        whole = cls(knowledge.drift.empty_sketch(), RowOutcome(), knowledge.no_signs())
        for part in parts:
            whole = whole.merge(part)
        return whole


@dataclass(frozen=True)
class NightFacts:
    """What is known of a night beside its rows; see expectations.verdict.NightEvidence and night_cause.NightSeen."""

    counts: Counts
    suspect: int
    size: tuple[int, int]
    quarantined: Mapping[str, int] = field(default_factory=dict)
    realised: Realised | None = None
    counted_before: int = 0
    expect_at_least: int | None = None
    inbox_missing: str | None = None


@dataclass(frozen=True)
class Evaluated:
    """A night, weighed."""

    judgement: Judgement
    expectations: tuple[ExpectationResult, ...]
    compared: Compared
    sketch: Sketch
    estimate: AccuracyEstimate
    causes: tuple[CauseFound, ...]

    @property
    def drift(self) -> pd.DataFrame:
        """All drift rows, slices among them, with the columns of darkroom.schemas.DRIFT: what is committed."""
        return self.compared.rows


def evaluate(
    rows: RowEvidence,
    facts: NightFacts,
    knowledge: Knowledge,
    teams: Sequence[TeamSuite],
    *,
    night: date,
    earlier: Earlier,
    budget: Budget = A_YEAR,
) -> Evaluated:
    """Row expectations over the whole night, table expectations, drift of the night, of its slices and across nights;
    from all of it one verdict.
    """
    results = finish_rows(knowledge.suite, rows.outcome)
    looked_at = facts.counts.scored + facts.counts.quarantined
    if looked_at:
        metrics = night_metrics(rows.sketch, facts, knowledge)
        results += run_night(knowledge.suite, metrics, knowledge.suite.limits(looked_at))
        for team in teams:
            results += finish_rows(knowledge.suite, team.run(metrics, "table"))
    compared = compare(knowledge.drift, rows.sketch, rows.slices, night, earlier, budget)
    estimate, causes = _causes(rows, facts, knowledge, results, compared)
    judgement = judge_night(
        NightEvidence(
            counts=facts.counts,
            expectations=results,
            drift=compared.whole,
            counted_before=facts.counted_before,
            expect_at_least=facts.expect_at_least,
            inbox_missing=facts.inbox_missing,
            further=compared.findings,
            could_have_shown=compared.could_have_shown,
            cause=causes[0] if causes else None,
        )
    )
    return Evaluated(judgement, tuple(results), compared, rows.sketch, estimate, causes)


def _causes(
    rows: RowEvidence,
    facts: NightFacts,
    knowledge: Knowledge,
    results: Sequence[ExpectationResult],
    compared: Compared,
) -> tuple[AccuracyEstimate, tuple[CauseFound, ...]]:
    """Accuracy without labels, and the causes; an estimate that rests on known classes is none where new ones came."""
    estimate = knowledge.estimate(rows.signs)
    if knowledge.by_class is None or not facts.counts.scored + facts.counts.quarantined:
        return estimate, ()
    moved = compared.slices.rows
    differ = set(moved.loc[moved["verdict"].isin(["alarm", "warn"]), "slice"])
    seen = NightSeen(
        sketch=rows.sketch,
        drift=compared.whole,
        counts=facts.counts,
        quarantined=facts.quarantined,
        size=facts.size,
        estimate=estimate,
        displaced=None if knowledge.estimator is None else knowledge.estimator.displaced,
        slices=[(one.name, one.sketch) for one in rows.slices.found if one.name in differ],
        further=compared.findings,
        too_many_broken=any(one.column == "share_quarantined" and one.status == "failed" for one in results),
        realised=facts.realised,
        held_out=0 if knowledge.estimator is None else knowledge.estimator.held_out,
        unexpected=tuple(
            one.otherwise or one.expectation
            for one in results
            if one.status == "failed" and one.severity is Severity.CRITICAL
        ),
    )
    causes = causes_of(seen, knowledge.drift, knowledge.by_class)
    if estimate.refused is None and new_class_among(causes):
        why = next(one for one in causes if one.cause is NightCause.NEW_CLASS).evidence[0]
        nothing = dict.fromkeys(("value", "low", "high", "backtest_error"))
        estimate = estimate.model_copy(update={**nothing, "refused": f"new classes may have come: {why}"})
    return estimate, causes


def estimate_rows(estimate: AccuracyEstimate) -> pd.DataFrame:
    """The estimate as rows of darkroom.schemas.ESTIMATES; none of a night without images."""
    if not estimate.rows:
        return pd.DataFrame(columns=ESTIMATES.names)
    accuracy = {
        "quantity": "accuracy",
        "name": estimate.method,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "reference": estimate.validation,
        "backtest_error": estimate.backtest_error,
        "refused": estimate.refused,
    }
    shares = [{"quantity": "class_share", **one.model_dump()} for one in estimate.class_mix]
    harm = [{"quantity": "harm", "reference": 0.0, **one.model_dump(exclude={"kinds"})} for one in estimate.harm]
    rows = pd.DataFrame([accuracy, *shares, *harm], columns=ESTIMATES.names).assign(n=estimate.rows)
    numbers = ["value", "low", "high", "reference", "backtest_error", "shift"]
    return rows.astype(dict.fromkeys(numbers, "float64"))


def night_metrics(sketch: Sketch, facts: NightFacts, knowledge: Knowledge) -> pd.DataFrame:
    """The night in one row, for table expectations: images, share_quarantined, share_suspect, mean_<property>."""
    counts = facts.counts
    row: dict[str, float] = {
        "images": counts.scored,
        "share_quarantined": counts.quarantined / (counts.scored + counts.quarantined),
        "share_suspect": facts.suspect / counts.scored if counts.scored else 0.0,
    }
    for place, known in enumerate(knowledge.drift.metrics):
        if known.metric.family == "properties" and known.metric.numeric and sketch.present[place]:
            row[f"mean_{known.metric.name}"] = float(sketch.sums[place] / sketch.present[place])
    return pd.DataFrame([row])


def team_suites(folder: Path | None) -> list[TeamSuite]:
    """The suites that a team keeps in a folder, *.json; none where no folder is named.

    Raises: WrongUse where the folder, or a suite in it, cannot be read.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise WrongUse("The folder of suites does not exist.", file=folder, todo="create it, or leave `suites` empty")
    return [TeamSuite.parse(path.stem, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
