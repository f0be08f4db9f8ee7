"""Where a row comes from, as a value: what was made of a content, by which run, and what people decided about it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime

from pydantic import BaseModel, ConfigDict

from darkroom.acknowledgements import Acknowledgement
from darkroom.decisions import Act, Content, Decision
from darkroom.reasons import FileStatus, NightVerdict, Reason, Verdict
from darkroom.summary import Whence
from tasks.bundle import Remembered


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class RunTraced(_Frozen):
    """The run that made a row: which commit, bundle, code and parameters; who started it, and who dealt with it.

    `in_use`: what the history of the bundle says of this version; empty where no history was found.
    """

    commit: int
    committed_at: datetime
    run: str
    night: date
    inbox: str
    bundle: str
    bundle_version: int | None
    verdict: NightVerdict
    headline: str
    report: str | None
    versions: dict[str, str]
    parameters: dict[str, str | int | float | bool | None]
    whence: Whence | None
    in_use: tuple[Remembered, ...] = ()
    acknowledged: tuple[Acknowledgement, ...] = ()
    decided: tuple[Decision, ...] = ()


class RowTraced(_Frozen):
    """A row of `predictions` or of `quarantine`, and the run that made it."""

    status: FileStatus
    path: str
    predicted_class: str | None = None
    confidence: float | None = None
    verdict: Verdict | None = None
    why_suspect: tuple[str, ...] = ()
    scored_at: datetime | None = None
    reason: Reason | None = None
    detail: str | None = None
    run: RunTraced


class SeenTraced(_Frozen):
    """A path that was seen and made no row of its own, over all nights together; `first` and `last` night."""

    status: FileStatus
    path: str
    inbox: str
    bundle: str
    first: date
    last: date
    runs: int
    reason: Reason | None = None


class LabelTraced(_Frozen):
    """A label that somebody gave this content."""

    label: str
    labelled_at: datetime
    received_at: datetime
    source: str


class DecisionTraced(_Frozen):
    """A decision about this content; `number` is that of its record."""

    number: int
    act: Act
    why: str
    by: str
    at: datetime
    flow_run: str | None
    content: Content


class ContentTraced(_Frozen):
    """One content (or a path that was never read: without an id), with everything that is known of it, newest first."""

    content_id: str | None
    rows: tuple[RowTraced, ...] = ()
    seen: tuple[SeenTraced, ...] = ()
    labels: tuple[LabelTraced, ...] = ()
    decided: tuple[DecisionTraced, ...] = ()
    copy_kept: str | None = None


class Traced(_Frozen):
    """The answer to `darkroom trace`: of a path that was several contents, each, newest first."""

    asked: str
    contents: tuple[ContentTraced, ...]

    def as_text(self) -> str:
        """For a terminal."""
        return "\n\n".join("\n".join(_content(one)) for one in self.contents)


def _content(one: ContentTraced) -> Iterator[str]:
    yield f"content {one.content_id}" if one.content_id else "a path that was never read: its content is not known"
    for row in one.rows:
        yield ""
        yield from _row(row)
    if one.seen:
        yield ""
    for seen in one.seen:
        yield _seen(seen, one)
    for label in one.labels:
        yield f"label      {label.label}, of {label.labelled_at:%Y-%m-%d}, from {label.source}"
    for decision in one.decided:
        yield f"decision   {decision.number}: {decision.act}, {_who(decision.by, decision.at, decision.why)}"
    if one.copy_kept:
        yield f"copy       {one.copy_kept}"


def _row(row: RowTraced) -> Iterator[str]:
    if row.status is FileStatus.SCORED:
        doubts = f" ({', '.join(row.why_suspect)})" if row.why_suspect else ""
        yield f"scored as {row.predicted_class}, confidence {row.confidence:.3f}, {row.verdict}{doubts}"
    else:
        detail = f" ({row.detail})" if row.detail else ""
        yield f"quarantined: {row.reason}{detail}"
    yield f"  path       {row.path}"
    yield from (f"  {line}" for line in _run(row.run))


def _run(run: RunTraced) -> Iterator[str]:
    yield f"inbox      {run.inbox}"
    yield f"night      {run.night}: {run.verdict}. {run.headline}"
    for one in run.acknowledged:
        yield f"           acknowledged {_who(one.by, one.at, one.reason)}"
    yield f"run        {run.run}, commit {run.commit} at {run.committed_at:%Y-%m-%d %H:%M:%S %Z}"
    for decision in run.decided:
        yield f"           {decision.act}, {_who(decision.by, decision.at, decision.why)}"
    whence = run.whence
    if whence is None:
        yield "started    not recorded: the run is older than this record"
    else:
        yield f"started    {whence.sentence.removeprefix('started ')}"
        if whence.flow_run is not None:
            tags = f", tags {', '.join(whence.tags)}" if whence.tags else ""
            yield f"           Prefect run {whence.flow_run_name} ({whence.flow_run}){tags}"
        if whence.scheduled_for is not None:
            yield f"           meant to start at {whence.scheduled_for:%Y-%m-%d %H:%M:%S %Z}"
    version = "" if run.bundle_version is None else f", version {run.bundle_version}"
    place = f", {whence.bundle_path}" if whence is not None and whence.bundle_path else ""
    yield f"bundle     {run.bundle}{version}{place}"
    for event in run.in_use:
        yield f"           {event.event} {_who(event.by, event.at, event.reason)}"
    commit = f", git commit {whence.code}" if whence is not None and whence.code else ""
    yield f"code       darkroom {run.versions.get('darkroom', 'of an unknown version')}{commit}"
    libraries = ", ".join(f"{name} {version}" for name, version in run.versions.items() if name != "darkroom")
    yield f"libraries  {libraries}" if libraries else "libraries  not recorded"
    told = whence.parameters if whence is not None and whence.parameters else run.parameters
    yield "parameters " + ", ".join(f"{name}={value}" for name, value in told.items() if value is not None)
    if run.report:
        yield f"page       {run.report}"


def _seen(seen: SeenTraced, content: ContentTraced) -> str:
    nights = f"night {seen.first}" if seen.first == seen.last else f"nights {seen.first} to {seen.last}"
    why = f" ({seen.reason})" if seen.reason else ""
    scored = next((row.path for row in content.rows if row.status is FileStatus.SCORED), None)
    of = f" of {scored}" if seen.status is FileStatus.DUPLICATE and scored else ""
    runs = "1 run" if seen.runs == 1 else f"{seen.runs} runs"
    return f"seen       {seen.path}: {seen.status.replace('_', ' ')}{of}{why}, {runs} of {seen.bundle}, {nights}"


def _who(by: str, at: datetime, why: str) -> str:
    return f"by {by or 'nobody known'}, {at:%Y-%m-%d %H:%M}" + (f": {why}" if why else "")
