"""When somebody is told, and in which words: the automations that `darkroom notify` creates. Imports Prefect late.

The words are templates of Prefect's SendNotification, rendered by the server from the event and the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from darkroom.orchestrator.deployments import DEPLOYMENTS, POOL
from darkroom.orchestrator.events import NIGHT
from darkroom.reasons import NightVerdict

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

TEST_EVENT: Final = "darkroom.notify.test"
SILENCE_HOURS: Final = 26  # a night of 24 hours, one that is an hour longer, and an hour to score it
ZOMBIE_MINUTES: Final = 10.0
# Said again about the same run within so long, it is the same failure: a worker and its run both report a crash.
_ONCE: Final = timedelta(minutes=10)

_NIGHT_BODY: Final = """\
{{ event.payload.headline }}
{%- if event.payload.cause and event.payload.cause not in event.payload.headline %}
Cause: {{ event.payload.cause }}
{%- endif %}
{%- if event.payload.counts.seen %}
{{ event.payload.counts.scored }} of {{ event.payload.counts.seen }} images scored, \
{{ event.payload.suspect }} of them suspect; {{ event.payload.counts.quarantined }} quarantined.
{%- if event.payload.estimate %}
{{ event.payload.estimate.sentence }}
{%- endif %}
{%- endif %}
Night {{ event.payload.night }}, bundle {{ event.payload.bundle }}, inbox {{ event.payload.inbox }}
{%- if event.payload.report %}
Report: {{ event.payload.report }}
{%- endif %}
{%- if event.payload.held %}
The rows are kept back: darkroom release {{ event.payload.run }} --reason "…", or darkroom discard
{%- endif %}
{%- if flow_run %}
Run: @UI@/runs/flow-run/{{ flow_run.id }}
{%- endif %}"""

# A name of two lines would be a mail that no server takes.
_FAILED_SUBJECT: Final = 'Failed: {{ flow_run.name | replace("\\n", " ") | replace("<", "‹") | truncate(120) }}'
_PLACES: Final = """\
{%- macro place(name) -%}
{%- set told = (flow_run.parameters[name] or "") | string | replace("\\n", " ") | replace("<", "‹") -%}
{{ (told if "@" not in told or "://" not in told else told.split("://")[0] ~ "://…@" ~ told.split("@")[-1]) \
| truncate(300) }}
{%- endmacro -%}
"""
_FAILED_BODY: Final = (
    _PLACES
    + """\
{{ (flow_run.state.message or "Nothing is known of the cause.") \
| replace("Flow run encountered an exception: ", "") | replace("<", "‹") | truncate(900) }}
Run "{{ flow_run.name }}" ended as {{ flow_run.state.name }}. It was planned for \
{{ flow_run.expected_start_time.strftime("%Y-%m-%d %H:%M UTC") }}.
Bundle {{ place("bundle") }}, inbox {{ place("inbox") }}
What was finished is kept: run that night again, and it goes on from there.
Run: @UI@/runs/flow-run/{{ flow_run.id }}"""
)

_SILENCE_BODY: Final = """\
No night came to its end in the last @HOURS@ hours: none was scored, and none was told as empty.
Does the machine run, and `darkroom serve` on it? Is the schedule of the deployment `score` on?
Prefect: @UI@/deployments"""

_TEST_BODY: Final = """\
This is a test. You will be told of an alarm, of an empty night, of a failed run, and when no night came to its end \
for @HOURS@ hours.
Prefect: @UI@/automations"""


@dataclass(frozen=True)
class Told:
    """Who is told, and when: blocks of Prefect, hours without a night, minutes without a sign of life of a run."""

    blocks: tuple[UUID, ...]
    ui: str
    silence_hours: float = SILENCE_HOURS
    zombie_minutes: float = ZOMBIE_MINUTES


ALARM: Final = "darkroom: a night is an alarm"
EMPTY: Final = "darkroom: a night is empty"
FAILED: Final = "darkroom: a night failed"
SILENCE: Final = "darkroom: no night for too long"
ZOMBIE: Final = "darkroom: a run shows no sign of life"
TEST: Final = "darkroom: a test message"
NAMES: Final = (ALARM, EMPTY, FAILED, SILENCE, ZOMBIE, TEST)


def automations(told: Told) -> list[AutomationCore]:
    """Everything that `darkroom notify` creates, by name."""
    hours = f"{told.silence_hours:g}"
    return [
        _automation(
            ALARM,
            "Tells of a night whose verdict is alarm.",
            _event(expect={NIGHT[NightVerdict.ALARM]}),
            _notices(told, "Alarm: night {{ event.payload.night }} ({{ event.payload.bundle }})", _NIGHT_BODY),
        ),
        _automation(
            EMPTY,
            "Tells of a night with nothing to score.",
            _event(expect={NIGHT[NightVerdict.EMPTY]}),
            _notices(told, "Empty: night {{ event.payload.night }} ({{ event.payload.bundle }})", _NIGHT_BODY),
        ),
        _automation(
            FAILED,
            "Tells of a run of `score` that failed or crashed. An alarm is none.",
            _event(
                # By the name of the state: `Alarm`, of the policy `fail`, has the type of a failure, too.
                expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"},
                match_related=_NIGHTLY,
                for_each={"prefect.resource.id"},
                within=_ONCE,
            ),
            _notices(told, _FAILED_SUBJECT, _FAILED_BODY),
        ),
        _automation(
            SILENCE,
            f"Tells when no night came to its end for {hours} hours.",
            _proactive(_SUCCESS, _SUCCESS, timedelta(hours=told.silence_hours), match_related=_NIGHTLY),
            _notices(told, f"No night for {hours} hours", _SILENCE_BODY.replace("@HOURS@", hours)),
        ),
        _automation(
            ZOMBIE,
            f"Marks a run as crashed that shows no sign of life for {told.zombie_minutes:g} minutes.",
            _proactive(
                {"prefect.flow-run.heartbeat"},
                # Whatever a run does is a sign of life, also states of names that are not Prefect's own.
                {"prefect.flow-run.*"},
                timedelta(minutes=told.zombie_minutes),
                match={"prefect.resource.id": "prefect.flow-run.*"},
                match_related={
                    "prefect.resource.role": "flow",
                    "prefect.resource.name": [entry.name for entry in DEPLOYMENTS],
                },
                for_each={"prefect.resource.id"},
            ),
            [_crash(told.zombie_minutes)],
        ),
        _automation(
            TEST,
            "Sends one message: darkroom notify --test.",
            _event(expect={TEST_EVENT}),
            _notices(told, "Test: darkroom can reach you", _TEST_BODY.replace("@HOURS@", hours)),
        ),
    ]


# A night that came to its end, whatever it was: an alarm and an empty one have been told already.
_SUCCESS: Final = set(NIGHT.values())
# By name, not by id: a deployment that is deleted and made anew has another. In our work pool, because somebody else's
# deployment on the same server may well be called `score`.
_NIGHTLY: Final = [
    {
        "prefect.resource.role": "deployment",
        "prefect.resource.name": [entry.name for entry in DEPLOYMENTS if entry.nightly],
    },
    {"prefect.resource.role": "work-pool", "prefect.resource.name": POOL},
]


def _automation(name: str, description: str, trigger: Any, actions: Sequence[Any]) -> AutomationCore:
    from prefect.events.schemas.automations import AutomationCore

    return AutomationCore(name=name, description=description, tags=["darkroom"], trigger=trigger, actions=list(actions))


def _event(**criteria: Any) -> Any:
    from prefect.events.schemas.automations import EventTrigger, Posture

    return EventTrigger(posture=Posture.Reactive, **criteria)


def _proactive(after: set[str], expect: set[str], within: timedelta, **criteria: Any) -> Any:
    """Fires when nothing of `expect` follows the last of `after` for so long.

    Without `after`, Prefect looks at fixed windows one behind the other, and 26 hours may become 75.
    """
    from prefect.events.schemas.automations import EventTrigger, Posture

    return EventTrigger(posture=Posture.Proactive, after=after, expect=expect, within=within, **criteria)


def _notices(told: Told, subject: str, body: str) -> list[Any]:
    from prefect.events.actions import SendNotification

    text = body.replace("@UI@", told.ui)
    return [SendNotification(block_document_id=block, subject=subject, body=text) for block in told.blocks]


def _crash(minutes: float) -> Any:
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState

    message = f"No sign of life for {minutes:g} minutes: its process was killed, or its machine is gone."
    return ChangeFlowRunState(state=StateType.CRASHED, message=message)
