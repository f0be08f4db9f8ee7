"""E-mail for notifications: a block of Prefect's kind, sent through any SMTP server.

Prefect has blocks for e-mail services, none for plain SMTP. Servers find this one through the entry point
`prefect.collections` wherever darkroom is installed. Imports Prefect: import it late.
"""

from __future__ import annotations

from typing import Final

from prefect.blocks.notifications import AbstractAppriseNotificationBlock
from pydantic import Field, SecretStr

SCHEMES: Final = ("mailto://", "mailtos://")
_RETRIES: Final = 3
_WAIT_SECONDS: Final = 10.0


class DarkroomEmail(AbstractAppriseNotificationBlock):
    """Sends notifications by e-mail through any SMTP server."""

    _block_type_name = "darkroom e-mail"
    _block_type_slug = "darkroom-email"
    _description = "Sends notifications by e-mail through any SMTP server."

    url: SecretStr = Field(
        title="Mail server and addresses",
        description="mailto://USER:PASSWORD@HOST:PORT?from=SENDER&to=RECIPIENT,… ; mailtos:// for a server with TLS.",
        examples=["mailtos://darkroom:secret@smtp.example.com:587?from=darkroom@example.com&to=anna@example.com"],
    )

    def block_initialization(self) -> None:
        """Open the address; raises ValueError, without the address, where it is none of e-mail."""
        from apprise import Apprise, AppriseAsset, NotifyFormat

        address = self.url.get_secret_value()
        asset = AppriseAsset(
            app_id="darkroom",
            app_desc="darkroom",
            # A mail server that is busy for a moment must not cost an alarm.
            default_service_retry=_RETRIES,
            default_service_wait=_WAIT_SECONDS,
        )
        server = Apprise.instantiate(address, asset=asset) if address.startswith(SCHEMES) else None
        if server is None:
            raise ValueError("expected mailto://USER:PASSWORD@HOST:PORT?from=SENDER&to=RECIPIENT")
        # As HTML, which is what it would be otherwise, lines run together, and what a file is called may be markup.
        server.notify_format = NotifyFormat.TEXT
        self._apprise_client = Apprise(asset=asset)
        self._apprise_client.add(server)
