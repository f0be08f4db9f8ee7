"""What a Prefect server is told beside the states of runs: events of nights, bundles and skew, each with a payload.

Automations listen to them (`darkroom.orchestrator.notices`), and so may anybody. A server of our own, which ends with
the run, is told nothing: nobody listens there.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from darkroom.errors import DarkroomError, GoldenMismatch
from darkroom.names import without_credentials
from darkroom.orchestrator.connection import reports_to_a_private_server
from darkroom.pages import place_of
from darkroom.reasons import NightCause, NightVerdict
from darkroom.summary import Counts, NightSummary

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.flows import Flow

NIGHT: Final = {verdict: f"darkroom.night.{verdict}" for verdict in NightVerdict}
NIGHT_FAILED: Final = "darkroom.night.failed"
BUNDLE_SEALED: Final = "darkroom.bundle.sealed"
SKEW_FOUND: Final = "darkroom.skew.found"

# The state of a run that did its work and whose night is an alarm (policy `fail`): no failure.
ALARM_STATE: Final = "Alarm"

_LONGEST: Final = 1000  # characters of a sentence
_LONGEST_ERROR: Final = 2000
_TAG: Final = re.compile(r"<(?=[!@#/A-Za-z])")
# A run has one end: whoever tells it again, after a crash, tells the same event.
_NAMESPACE: Final = uuid.UUID("5c7f4c7e-8b8f-4c0e-9d0e-2a3f5a1f6d10")


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True)


class EstimateTold(_Payload):
    """Accuracy without labels. Shares; empty where it is refused."""

    low: float | None = None
    value: float | None = None
    high: float | None = None
    sentence: str


class NightTold(_Payload):
    """A night that came to its end: `darkroom.night.ok`, `.warn`, `.alarm` and `.empty`."""

    night: date
    bundle: str = Field(description="Id of the bundle.")
    inbox: str = Field(description="The folder that was scored.")
    verdict: NightVerdict
    headline: str = Field(description="One sentence that a tired person understands.")
    counts: Counts = Field(description="Paths seen, by what became of them.")
    trusted: int
    suspect: int
    cause: str | None = Field(description="The likeliest cause, in a sentence, where there is one.")
    estimate: EstimateTold | None
    report: str | None = Field(description="Where the page is: its address, where pages are served, else its path.")
    run: str = Field(description="Id of the run in the results, as `darkroom release` takes it.")
    held: bool = Field(description="Whether its rows are kept back until a person decides.")


class NightFailed(_Payload):
    """A night that was not scored: `darkroom.night.failed`, told by the run itself unless it was killed."""

    night: date | None = Field(description="Empty where the parameters do not say.")
    bundle: str = Field(description="As given to the run.")
    inbox: str = Field(description="As given to the run.")
    state: str = Field(description="Failed, Crashed or TimedOut.")
    error: str
    planned: datetime | None = Field(description="When the run was meant to start.")


class BundleSealed(_Payload):
    """A new version of a bundle: `darkroom.bundle.sealed`, of `train` and `adopt`."""

    bundle: str = Field(description="Id of the bundle.")
    path: str


class SkewFound(_Payload):
    """Images are not prepared as in training: `darkroom.skew.found`.

    Of `diagnose`, and of a night whose golden images no longer come out as they were sealed.
    """

    bundle: str = Field(description="Id of the bundle; of a night that did not begin, its path as given.")
    sentence: str
    variants: tuple[str, ...] = Field(default=(), description="The mistake, as knob=value; empty: not known.")
    report: str | None = None


EVENTS: Final[dict[str, type[_Payload]]] = {
    **dict.fromkeys(NIGHT.values(), NightTold),
    NIGHT_FAILED: NightFailed,
    BUNDLE_SEALED: BundleSealed,
    SKEW_FOUND: SkewFound,
}


def night_ended(summary: NightSummary) -> None:
    """Tell that a night came to its end, and how."""
    payload = night_told(summary)
    event = NIGHT[summary.verdict]
    _emit(
        event,
        f"darkroom.night.{summary.bundle_id}.{summary.night}",
        f"night {summary.night} of {summary.bundle_id}",
        payload,
        id=uuid.uuid5(_NAMESPACE, f"{event} {summary.bundle_id} {summary.run_id}"),
    )


def night_told(summary: NightSummary) -> NightTold:
    """What is told of a night."""
    first = next(iter(summary.causes), None)
    if first is not None and first.cause is NightCause.NOTHING:
        first = None
    estimate = summary.estimate
    return NightTold(
        night=summary.night,
        bundle=_shown(summary.bundle_id),
        inbox=_shown(summary.inbox),
        verdict=summary.verdict,
        headline=_shown(summary.headline),
        counts=summary.counts,
        trusted=summary.trusted,
        suspect=summary.suspect,
        cause=None if first is None else _shown(f"{first.sentence} ({first.grade})"),
        estimate=None
        if estimate is None
        else EstimateTold(
            low=estimate.low,
            value=estimate.value,
            high=estimate.high,
            sentence=_shown(estimate.sentence),
        ),
        report=None if summary.report is None else _shown(place_of(summary.report)),
        run=summary.run_id,
        held=summary.commit is None,
    )


def night_failed(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell that a night was not scored: a hook of the flow, for runs that failed or crashed."""
    if state.name == ALARM_STATE or reports_to_a_private_server():
        return
    given = flow_run.parameters
    bundle = _shown(given.get("bundle", ""))
    error = "\n".join(_shown(line) for line in (state.message or "").splitlines())
    payload = NightFailed(
        night=_night_of(flow_run),
        bundle=bundle,
        inbox=_shown(given.get("inbox", "")),
        state=state.name or str(state.type),
        error=error[:_LONGEST_ERROR],
        planned=flow_run.expected_start_time,
    )
    related = _related_to(flow, flow_run)
    night = payload.night or "unknown"
    _emit(NIGHT_FAILED, f"darkroom.night.{bundle}.{night}", f"night {night} of {bundle}", payload, related=related)
    raised = _raised(state)
    if isinstance(raised, GoldenMismatch):
        found = SkewFound(bundle=bundle, sentence=_shown(raised.what))
        _emit(SKEW_FOUND, f"darkroom.bundle.{bundle}", bundle, found, related=related)


def bundle_sealed(bundle: str, path: object) -> None:
    """Tell that there is a new version of a bundle."""
    _emit(
        BUNDLE_SEALED,
        f"darkroom.bundle.{bundle}",
        bundle,
        BundleSealed(bundle=bundle, path=_shown(path)),
    )


def skew_found(bundle: str, sentence: str, variants: tuple[str, ...], report: str) -> None:
    """Tell that predictions were made with images prepared in another way than in training."""
    payload = SkewFound(bundle=bundle, sentence=_shown(sentence), variants=variants, report=_shown(place_of(report)))
    _emit(SKEW_FOUND, f"darkroom.bundle.{bundle}", bundle, payload)


def _shown(text: object) -> str:
    """Text that may quote names of files, for mails and chats: nothing in it steers them, as <!channel> would."""
    from tasks.report.untrusted import visible

    return _TAG.sub("‹", visible(without_credentials(str(text)), _LONGEST))


def _emit(
    event: str,
    resource: str,
    name: str,
    payload: _Payload,
    *,
    related: list[dict[str, str]] | None = None,
    id: uuid.UUID | None = None,
) -> None:
    """Hand an event to Prefect, which sends it in the background and adds the run that we are in."""
    if reports_to_a_private_server():
        return
    from prefect.events import emit_event

    emit_event(
        event=event,
        resource={"prefect.resource.id": resource, "prefect.resource.name": name},
        payload=payload.model_dump(mode="json"),
        related=related,
        id=id,
    )


def _related_to(flow: Flow[Any, Any], flow_run: FlowRun) -> list[dict[str, str]]:
    """The run, its flow and its deployment: in a hook we are no longer in the run, and Prefect does not add them."""
    found = [
        {
            "prefect.resource.id": f"prefect.flow-run.{flow_run.id}",
            "prefect.resource.role": "flow-run",
            "prefect.resource.name": flow_run.name,
        },
        {
            "prefect.resource.id": f"prefect.flow.{flow_run.flow_id}",
            "prefect.resource.role": "flow",
            "prefect.resource.name": flow.name,
        },
    ]
    if flow_run.deployment_id is not None:
        from prefect.runtime import deployment

        found.append(
            {
                "prefect.resource.id": f"prefect.deployment.{flow_run.deployment_id}",
                "prefect.resource.role": "deployment",
                "prefect.resource.name": str(deployment.name),
            }
        )
    return found


def _night_of(flow_run: FlowRun) -> date | None:
    from pydantic import ValidationError

    from darkroom.night import night_of
    from darkroom.settings import NightOptions

    # The run may have failed because of these very parameters.
    with contextlib.suppress(ValidationError, DarkroomError):
        options = NightOptions.model_validate(flow_run.parameters.get("night") or {})
        return night_of(options, flow_run.expected_start_time)
    return None


def _raised(state: State[Any]) -> object:
    """The exception that ended a run, where it can still be had."""
    with contextlib.suppress(Exception):
        return state.result(raise_on_failure=False)
    return None
