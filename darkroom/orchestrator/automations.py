"""`darkroom notify`: who is told is a block of Prefect, when is an automation; both are found again by their names."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from darkroom.errors import OrchestratorError, WrongUse
from darkroom.orchestrator.notices import NAMES, TEST, TEST_EVENT, Told, automations

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

# The blocks that are made here; those that somebody else made (--block) are left alone.
BLOCK: Final = "darkroom-notify"
_SLACK: Final = ("https://hooks.slack.com/", "https://hooks.slack-gov.com/")
_LOCAL: Final = "http://127.0.0.1:4200/api"
_PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Channel:
    """One who is told: a block of Prefect, by type and name. Its address is a secret, and not here."""

    id: UUID
    kind: str
    name: str

    def as_text(self) -> str:
        """For a person, and as `--block` takes it."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Notice:
    """An automation: when somebody is told, and who."""

    name: str
    description: str
    enabled: bool
    channels: tuple[str, ...]

    def as_text(self) -> str:
        """For a person."""
        who = ", ".join(self.channels) or "–"
        return f"{self.name}{'' if self.enabled else ' (switched off)'}\n    {self.description} → {who}"


@contextlib.contextmanager
def lasting_api() -> Iterator[str]:
    """A server that stays: the one that the user named, else that of `darkroom serve` on this machine.

    Raises: OrchestratorError, if there is none.
    """
    from prefect.settings import PREFECT_API_URL

    from darkroom.orchestrator.connection import api, reporting_to
    from darkroom.orchestrator.server import is_prefect

    with contextlib.ExitStack() as stack:
        if not PREFECT_API_URL.value():
            if not is_prefect(_LOCAL, timeout=5.0):
                raise OrchestratorError(
                    "There is no Prefect server that could tell anybody.",
                    expected="a server that PREFECT_API_URL names, or one at 127.0.0.1:4200",
                    todo="start darkroom serve; if it has another port, set PREFECT_API_URL=http://127.0.0.1:PORT/api",
                )
            stack.enter_context(reporting_to(_LOCAL))
        yield stack.enter_context(api())


def make_channel(kind: str, address: str) -> Channel:
    """Keep an address as a block, in place of the one of this kind that was kept before.

    Raises: WrongUse, which does not repeat the address.
    """
    block = _BLOCKS[kind](address)
    identity = block.save(BLOCK, overwrite=True)
    return Channel(identity, block.get_block_type_slug(), BLOCK)


def find_channel(client: SyncPrefectClient, name: str) -> Channel:
    """A block that somebody made in Prefect, as `type/name` or by its name alone.

    Raises: WrongUse where there is none, several, or one that cannot notify.
    """
    kind, _, rest = name.rpartition("/")
    found = [one for one in _channels(client) if one.name == rest and kind in ("", one.kind)]
    if len(found) == 1:
        return found[0]
    others = ", ".join(one.as_text() for one in found or _channels(client))
    raise WrongUse(
        f"There {'are several blocks' if found else 'is no block for notifications'} of this name.",
        expected=others or "a notification block",
        found=name,
        todo="take one of these" if others else "make one in Prefect's UI, or use --webhook, --slack or --email",
    )


def tell(client: SyncPrefectClient, told: Told) -> None:
    """Create the automations, or change those of their names; what is as it should be is not touched.

    A change would start the clock of `no night for too long` anew.
    """
    for wanted in automations(told):
        existing = client.read_automations_by_name(wanted.name)
        for double in existing[1:]:
            client.delete_automation(double.id)
        if not existing:
            client.create_automation(wanted)
        elif _stated(existing[0]) != _stated(wanted):
            client.update_automation(existing[0].id, wanted)
    used = set(told.blocks)
    for channel in _channels(client):
        if channel.name == BLOCK and channel.id not in used:
            client.delete_block_document(channel.id)


def notices(client: SyncPrefectClient) -> list[Notice]:
    """The automations of ours that the server has."""
    names = {channel.id: channel.as_text() for channel in _channels(client)}
    found = []
    for name in NAMES:
        for one in client.read_automations_by_name(name):
            blocks = [action.block_document_id for action in one.actions if hasattr(action, "block_document_id")]
            told = tuple(names.get(block, "a block that is gone") for block in blocks)
            found.append(Notice(one.name, one.description, one.enabled, told))
    return found


def remove(client: SyncPrefectClient) -> int:
    """Delete the automations and the blocks of ours; returns how many automations there were."""
    found = [one for name in NAMES for one in client.read_automations_by_name(name)]
    for one in found:
        client.delete_automation(one.id)
    for channel in _channels(client):
        if channel.name == BLOCK:
            client.delete_block_document(channel.id)
    return len(found)


def send_test(client: SyncPrefectClient) -> int:
    """Send one message on the way that an alarm would take; returns to how many channels.

    Raises: WrongUse where nobody is told; OrchestratorError where the server could not send it.
    """
    from prefect.events import emit_event
    from prefect.events.worker import EventsWorker

    channels = next((len(one.channels) for one in notices(client) if one.name == TEST), 0)
    if not channels:
        raise WrongUse(
            "Nobody is told yet.", todo="darkroom notify --webhook URL, --slack URL, --email ADDRESS or --block NAME"
        )
    sent = emit_event(TEST_EVENT, {"prefect.resource.id": f"darkroom.notify.{uuid4()}"})
    EventsWorker.drain_all(timeout=10)
    outcomes = _outcomes(client, sent, channels)
    failed = [one for one in outcomes if one.event.endswith("failed")]
    if failed or len(outcomes) < channels:
        told = "; ".join(map(_reason, failed)) or "the receiver refuses it, or cannot be reached"
        raise OrchestratorError(
            "The message could not be sent.",
            found=told,
            todo="check the address, and whether the machine of the Prefect server reaches it",
        )
    return len(outcomes)


def ui_address() -> str:
    """Of the Prefect UI, without a slash at the end, for links in messages."""
    from prefect.settings import PREFECT_UI_URL

    return (PREFECT_UI_URL.value() or "").rstrip("/")


def _outcomes(client: SyncPrefectClient, sent: Any, channels: int) -> list[Any]:
    """What became of the message on each channel, as far as the server says so in time."""
    from prefect.events.filters import EventFilter, EventNameFilter, EventRelatedFilter

    if sent is None:
        return []
    names = EventNameFilter(name=["prefect.automation.action.executed", "prefect.automation.action.failed"])
    related = EventRelatedFilter(id=[f"prefect.event.{sent.id}"])
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        # A filter is of what happened until it was made.
        found = list(client.read_events(EventFilter(event=names, related=related), limit=50).events)
        if len(found) >= channels or time.monotonic() > end:
            return found
        time.sleep(1.0)


def _reason(failed: Any) -> str:
    """Why a message was not sent; Prefect keeps what the mail server or Slack said beside its own word."""
    said = [line for line in str(failed.payload.get("notification_log", "")).splitlines() if "Retry" not in line]
    return said[-1].removeprefix("[WARNING]: ") if said else str(failed.payload.get("reason"))


def _channels(client: SyncPrefectClient) -> list[Channel]:
    """Every block that can notify; no secret of it is read."""
    found = []
    for one in client.read_block_documents(include_secrets=False, limit=200):
        if one.name and one.block_type and "notify" in (one.block_schema.capabilities if one.block_schema else ()):
            found.append(Channel(one.id, one.block_type.slug, one.name))
    return found


def _stated(automation: Any) -> dict[str, Any]:
    """What a person would say of it: nothing that the server adds."""
    fields = {"name", "description", "enabled", "trigger", "actions"}
    return automation.model_dump(include=fields, exclude={"trigger": {"id"}})  # type: ignore[no-any-return]


def _webhook(address: str) -> Any:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    if not address.startswith(("http://", "https://")):
        raise WrongUse("The address of the webhook is not understood.", expected="https://…")
    # The address is a secret of its own: whoever has it can post.
    return CustomWebhookNotificationBlock(
        name=BLOCK,
        url="{{url}}",
        json_data={"subject": "{{subject}}", "body": "{{body}}", "text": "{{subject}}\n{{body}}"},
        secrets={"url": address},
    )


def _slack(address: str) -> Any:
    from prefect.blocks.notifications import SlackWebhook

    if not address.startswith(_SLACK):
        raise WrongUse(
            "The address is none of Slack's.",
            expected=f"{_SLACK[0]}services/…",
            todo="use --webhook for what takes Slack's messages elsewhere, such as Mattermost",
        )
    return SlackWebhook(url=address)


def _email(address: str) -> Any:
    from darkroom.orchestrator.mail import SCHEMES, DarkroomEmail

    if not address.startswith(SCHEMES):
        raise WrongUse("The mail server is not understood.", expected="mailto://USER:PASSWORD@HOST:PORT?from=…&to=…")
    try:
        return DarkroomEmail(url=address)
    except ValueError:
        raise WrongUse(
            "The mail server is not understood.", expected="mailto://USER:PASSWORD@HOST:PORT?from=…&to=…"
        ) from None


_BLOCKS: Final = {"webhook": _webhook, "slack": _slack, "email": _email}
