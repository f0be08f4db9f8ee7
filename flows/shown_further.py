"""From what a night was found to be to what its page shows of it: accuracy, slices, nights together."""

from __future__ import annotations

from darkroom.schemas import metric_in_words
from darkroom.summary import AccuracyEstimate
from expectations.alarms import Compared
from expectations.budget import FEWEST
from expectations.slices import COMPARED, SliceDrift
from tasks.report.further import AcrossShown, EstimateShown, SliceShown, SlicesShown

_MOST_HARM = 5
_MOVED = ("alarm", "warn")


def estimate_shown(estimate: AccuracyEstimate | None) -> EstimateShown | None:
    """Accuracy without labels, and what the shifts cost that cost most."""
    if estimate is None or not estimate.rows:
        return None
    return EstimateShown(
        sentence=estimate.sentence,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        validation=estimate.validation,
        notes=tuple(one.sentence for one in estimate.harm[:_MOST_HARM]) if _costs(estimate) else (),
    )


def _costs(estimate: AccuracyEstimate) -> bool:
    """Whether anything is lost to explain: on its own a property's shift may look dearer than the predictions say."""
    value, validation = estimate.value, estimate.validation
    return value is None or validation is None or value < validation


def slices_shown(compared: Compared) -> SlicesShown:
    """The slices that differ, each by the metric that differs most; the worst first, with some of its images."""
    drift = compared.slices
    moved = drift.rows[drift.rows["verdict"].isin(_MOVED)]
    gravest = moved.sort_values(["verdict", "p_corrected"]).drop_duplicates("slice")
    rows = sorted(gravest.to_dict("records"), key=lambda row: row["slice"] != drift.worst)
    shown = tuple(
        SliceShown(
            name=str(row["slice"]).replace("=", " ", 1),
            images=int(row["n"]),
            verdict=str(row["verdict"]),
            metric=metric_in_words(str(row["family"]), str(row["metric"])),
            effect=f"{row['effect']:.2f}",
            p_corrected=float(row["p_corrected"]),
            examples=drift.images if row["slice"] == drift.worst else (),
        )
        for row in rows
    )
    return SlicesShown(shown, slices_sentence(drift))


def slices_sentence(drift: SliceDrift) -> str:
    """How many sub-folders and cameras were compared by themselves, and how many not; empty where there is none."""
    compared, more = drift.compared, drift.left_out
    others = f"{more:,}{' or more' if drift.or_more else ''}"
    if not compared and not more:
        return ""
    if not compared:
        has = "sub-folder or camera has" if more == 1 else "sub-folders and cameras each have"
        return f"{others} {has} fewer than {FEWEST} images: too few to be compared by themselves."
    were = "1 sub-folder or camera was" if compared == 1 else f"{compared:,} sub-folders and cameras were"
    told = f"{were} compared with training by {'itself' if compared == 1 else 'themselves'}"
    has, is_not = ("has", "is not") if more == 1 else ("have", "are not")
    left = f"; {others} more {has} fewer than {FEWEST} images, or {is_not} among the {COMPARED} largest"
    return f"{told}{left if more else ''}."


def across_shown(compared: Compared) -> AcrossShown | None:
    """The sum of evidence across nights; None on the first night."""
    across, budget = compared.across, compared.budget
    if len(across.nights) < 2:
        return None
    alarm_from = float(budget.sum_alarm)
    what = metric_in_words(across.family, across.metric) if across.metric else "anything"
    sentence = f"Over {len(across.nights)} nights together nothing differs from training beyond what chance explains."
    if across.alarms(budget):
        sentence = (
            f"Over {len(across.nights)} nights together, {what} differs from training, since "
            f"{across.first_alarm(budget)}."
        )
    since = "" if across.since is None else f" The sum began again after {across.since}, which was acknowledged."
    return AcrossShown(across.nights, across.sums, alarm_from, sentence + since)
