"""A night as metrics for Prometheus: a text file that a collector reads, or a push."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from darkroom.night import folder_of_nights, is_a_folder_a_night
from darkroom.reasons import NightVerdict
from darkroom.summary import NightSummary
from tasks.report.untrusted import visible

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

JOB: Final = "darkroom"
_PUSH_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Metric:
    """One gauge of a night: its name, what it says, and its values by the labels that it adds to bundle and inbox."""

    name: str
    what: str
    label: str = ""


VERDICT: Final = Metric("darkroom_night_verdict", "1 for the verdict of the last night, 0 for the others.", "verdict")
IMAGES: Final = Metric("darkroom_night_images", "Paths of the last night, by what became of them.", "status")
SUSPECT: Final = Metric("darkroom_night_suspect_ratio", "Share of the scored images that are suspect.")
ACCURACY: Final = Metric(
    "darkroom_night_accuracy_ratio", "Accuracy without labels, and its 90 % interval; absent if refused.", "bound"
)
SECONDS: Final = Metric("darkroom_night_duration_seconds", "From the start of the run to its verdict.")
SPEED: Final = Metric("darkroom_night_images_per_second", "Images scored a second of it.")
DATE: Final = Metric("darkroom_night_timestamp_seconds", "The night, as midnight UTC of its date.")
LAST: Final = Metric(
    "darkroom_last_success_timestamp_seconds", "When a night last came to its end, whatever its verdict."
)
VERSION: Final = Metric("darkroom_bundle_version", "Version of the bundle that scored the last night.")
METRICS: Final = (VERDICT, IMAGES, SUSPECT, ACCURACY, SECONDS, SPEED, DATE, LAST, VERSION)


def tell_metrics(summary: NightSummary, inbox: str, target: str) -> None:
    """Write the metrics of a night to a `.prom` file, to one in a folder, or push them to an http address.

    A file is replaced as a whole. `inbox` is as stated, with {night}: a night's own folder would make a new series each
    night. Raises OSError, ValueError or HTTPException where that cannot be done; no night depends on it.
    """
    from prometheus_client import push_to_gateway, write_to_textfile

    labels = _labels(summary, inbox)
    registry = metrics(summary, labels)
    if target.startswith(("http://", "https://")):
        push_to_gateway(target, job=JOB, registry=registry, grouping_key=labels, timeout=_PUSH_SECONDS)
        return
    file = Path(target) if target.endswith(".prom") else Path(target) / f"{_file_name(labels)}.prom"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(file), registry)


def metrics(summary: NightSummary, labels: dict[str, str]) -> CollectorRegistry:
    """Every gauge, with its values."""
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()
    gauges = {
        metric: Gauge(metric.name, metric.what, [*labels, *([metric.label] if metric.label else [])], registry=registry)
        for metric in METRICS
    }
    for metric, label, value in _values(summary):
        gauges[metric].labels(**labels, **({metric.label: label} if metric.label else {})).set(value)
    return registry


def _values(summary: NightSummary) -> Iterator[tuple[Metric, str, float]]:
    for verdict in NightVerdict:
        yield VERDICT, str(verdict), float(verdict is summary.verdict)
    for status, count in summary.counts.model_dump().items():
        yield IMAGES, status, count
    scored = summary.counts.scored
    if scored:
        yield SUSPECT, "", summary.suspect / scored
    estimate = summary.estimate
    if estimate is not None and estimate.refused is None:
        for bound, share in (("low", estimate.low), ("value", estimate.value), ("high", estimate.high)):
            if share is not None:
                yield ACCURACY, bound, share
    seconds = (summary.finished_at - summary.started_at).total_seconds()
    yield SECONDS, "", seconds
    if seconds > 0:
        yield SPEED, "", scored / seconds
    yield DATE, "", _midnight(summary)
    yield LAST, "", summary.finished_at.timestamp()
    yield VERSION, "", float(_bundle(summary)[1])


def _labels(summary: NightSummary, inbox: str) -> dict[str, str]:
    """A bundle by its name and an inbox by its folder: the series go on with the next version and night."""
    folder = folder_of_nights(inbox) if is_a_folder_a_night(inbox) else Path(inbox)
    return {"bundle": visible(_bundle(summary)[0]), "inbox": visible(str(folder.absolute()), 1000)}


def _bundle(summary: NightSummary) -> tuple[str, int]:
    """Name and version out of `<name>-<version>-<12 hex>`."""
    name, version, _ = summary.bundle_id.rsplit("-", 2)
    return name, int(version)


def _midnight(summary: NightSummary) -> float:
    from datetime import UTC, datetime, time

    return datetime.combine(summary.night, time(), UTC).timestamp()


def _file_name(labels: dict[str, str]) -> str:
    """To be read by a person, and another one for each inbox: two cameras may both deliver to an `inbox`."""
    which = hashlib.sha256(labels["inbox"].encode()).hexdigest()[:6]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", f"darkroom-{labels['bundle']}-{Path(labels['inbox']).name}-{which}")
