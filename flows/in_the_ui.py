"""What a person opens in the Prefect UI: one artifact a kind and bundle, whose older versions are the nights before."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final, Literal

from prefect.artifacts import create_markdown_artifact

from darkroom.pages import address_of, place_of
from tasks.report.artifact import night_artifact, night_told
from tasks.report.artifact_tables import drift_artifact, drift_told, quarantine_artifact, quarantine_told
from tasks.report.night_page import NightPage
from tasks.report.untrusted import in_markdown

Kind = Literal[
    "night", "drift", "quarantine", "progress", "backfill", "card", "goldens", "audit", "diagnosis", "explanation",
    "evaluation",
]  # fmt: skip

_VERSION: Final = re.compile(r"-\d+-[0-9a-f]{12}$")
_LONGEST: Final = 300  # characters: the description stands above the artifact, and cut on its card


def key_of(kind: Kind, bundle_id: str) -> str:
    """`night-parts`: the same for every version of a bundle, so that the UI keeps its nights together.

    Prefect takes lowercase letters, digits and dashes. A name that had others has a digest behind it.
    """
    name = _VERSION.sub("", bundle_id)
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{kind}-{plain}" if plain == name else f"{kind}-{plain}-{hashlib.sha256(name.encode()).hexdigest()[:4]}"


def show(kind: Kind, bundle_id: str, markdown: str, told: str) -> str:
    """Create the artifact in the run at hand; its key. `told` is its sentence, as text."""
    key = key_of(kind, bundle_id)
    create_markdown_artifact(markdown, key=key, description=in_markdown(told, _LONGEST))
    return key


def show_night(page: NightPage) -> list[str]:
    """The night, what differs, and what was set aside; their keys."""
    summary = page.summary
    return [
        show("night", summary.bundle_id, night_artifact(page), night_told(page)),
        show("drift", summary.bundle_id, drift_artifact(page), drift_told(page)),
        show("quarantine", summary.bundle_id, quarantine_artifact(page), quarantine_told(page)),
    ]


def page_line(page: Path | str) -> str:
    """A last line of Markdown: the link to a page, or where it lies."""
    address = address_of(page)
    if address is None:
        return f"\nPage: {in_markdown(place_of(page), 1000)}\n"
    return f"\n[The whole page]({address})\n"
