"""Everything in which a night is compared with training: as a whole, slice by slice, and across nights; one budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd

from darkroom.names import some_of_many
from darkroom.schemas import DRIFT, metric_in_words
from darkroom.summary import Finding, Severity
from expectations.across_nights import Accumulated, accumulate
from expectations.budget import A_YEAR, FEWEST, FEWEST_TO_ADD, Budget, share_of_whole
from expectations.drift import night_drift
from expectations.reference import DriftReference
from expectations.sketch import Sketch
from expectations.slices import SliceDrift, Slices, slice_drift


@dataclass(frozen=True)
class Earlier:
    """What was committed before: drift rows (darkroom.schemas.DRIFT, with `night`) of this bundle and inbox, and the
    nights whose alarms somebody has acknowledged. `lost`: nights whose rows cannot be read.
    """

    rows: pd.DataFrame
    acknowledged: tuple[date, ...] = ()
    lost: tuple[date, ...] = ()

    @classmethod
    def none(cls) -> Earlier:
        """The first night."""
        return cls(pd.DataFrame(columns=[*DRIFT.names, "night"]))


@dataclass(frozen=True)
class Compared:
    """A night held against training. `whole` and `slices.rows` have the columns of darkroom.schemas.DRIFT."""

    whole: pd.DataFrame
    slices: SliceDrift
    across: Accumulated
    budget: Budget
    findings: tuple[Finding, ...] = ()
    could_have_shown: str = ""
    budget_sentence: str = ""

    @property
    def rows(self) -> pd.DataFrame:
        """What is committed."""
        if self.slices.rows.empty:
            return self.whole
        return pd.concat(
            [self.whole.astype(object), self.slices.rows.astype(object)], ignore_index=True
        ).infer_objects()


def compare(
    reference: DriftReference,
    sketch: Sketch,
    slices: Slices,
    night: date,
    earlier: Earlier,
    budget: Budget = A_YEAR,
) -> Compared:
    """Hold a night against training. `findings` are those beside the whole night's own rows."""
    told = reference.verification.sentence(budget) if reference.verification is not None else ""
    if not sketch.rows:
        nothing = pd.DataFrame(columns=DRIFT.names)
        before = accumulate(earlier.rows, reference, until=night, acknowledged=earlier.acknowledged)
        return Compared(nothing, SliceDrift(nothing), before, budget, budget_sentence=told)
    share = share_of_whole(len(slices.compared(sketch.rows)))
    whole = night_drift(reference, sketch, budget, share=share)
    everywhere = whole[whole["verdict"] == "alarm"]
    told_already = frozenset(zip(everywhere["family"], everywhere["metric"], strict=True))
    by_slice = slice_drift(reference, slices, sketch.rows, budget, told_already=told_already)
    columns = ["family", "metric", "slice", "n", "p_beyond", "night"]
    both = [frame[columns] for frame in (earlier.rows, whole.assign(night=night)) if len(frame)]
    across = accumulate(pd.concat(both), reference, until=night, acknowledged=earlier.acknowledged)
    return Compared(
        whole,
        by_slice,
        across,
        budget,
        (
            *by_slice.findings,
            *_of_lost(earlier.lost),
            *(() if (across.family, across.metric) in told_already else _of_sum(across, budget)),
        ),
        could_have_shown(whole),
        told,
    )


def could_have_shown(whole: pd.DataFrame) -> str:
    """Half a sentence: the smallest shift of any numeric property that 95 of 100 such nights would have shown; or, of
    a night that is too small, what can be said all the same.
    """
    if whole.empty:
        return ""
    most = int(whole["n"].max())
    if most < FEWEST:
        still = " and counts in the sum across nights" if most >= FEWEST_TO_ADD else ""
        return f"at least {FEWEST} are compared by themselves; each image was checked alone{still}"
    numbers = whole[(whole["family"] == "properties") & whole["reference_value"].notna() & (whole["n"] >= FEWEST)]
    smallest = numbers["smallest_detectable_effect"].astype(float).dropna()
    if smallest.empty:
        return "the bundle has seen too few sessions for any shift to show"
    some = "any" if len(smallest) == len(numbers) else f"{len(smallest)} of {len(numbers)}"
    of = "numeric property" if some == "any" else "numeric properties"
    return f"a shift of {smallest.max():.2f} standard deviations in {some} {of} would have shown"


def _of_lost(nights: Sequence[date]) -> Sequence[Finding]:
    if not nights:
        return []
    return [
        Finding(
            severity=Severity.WARNING,
            source="history",
            what=f"The sum across nights lacks {some_of_many([str(night) for night in nights], 5)}.",
            evidence="a committed drift file is missing or broken: restore it from a backup",
        )
    ]


def _of_sum(across: Accumulated, budget: Budget) -> Sequence[Finding]:
    if not across.alarms(budget):
        return []
    since = across.first_alarm(budget)
    what = metric_in_words(across.family, across.metric)
    return [
        Finding(
            severity=Severity.CRITICAL,
            source="drift",
            what=f"Over {len(across.nights)} nights together, {what} differs from training.",
            evidence=(
                f"sum of evidence {across.now:,.0f}, an alarm from {budget.sum_alarm:,.0f} on, since {since}; "
                f"{across.share:.0%} of it is {what}; `darkroom acknowledge` starts it again"
            ),
        )
    ]
