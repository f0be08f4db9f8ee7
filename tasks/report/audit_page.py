"""The audit's page: the accuracy told again, and the pictures that say why, in one offline HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tasks.report.card import Rate
from tasks.report.page import environment
from tasks.report.sheet import sheet
from tasks.report.thumbnails import data_uri
from tasks.report.untrusted import in_markdown
from tasks.report.written import write_files

_PICTURES: Final = 12  # on a sheet of the artifact


@dataclass(frozen=True)
class PhotoShown:
    """One image on the page: its class, where it is from, and what is said of it. `thumbnail` is JPEG, or empty."""

    path: str
    label: str
    split: str
    lines: tuple[str, ...] = ()
    thumbnail: bytes = b""

    @property
    def picture(self) -> str | None:
        """The thumbnail inside the page itself."""
        return data_uri("image/jpeg", self.thumbnail) if self.thumbnail.startswith(b"\xff\xd8\xff") else None

    @property
    def alt(self) -> str:
        """The picture in words."""
        return f"{self.path}, {self.split}, labelled {self.label}"


@dataclass(frozen=True)
class PairShown:
    """One photo twice."""

    first: PhotoShown
    second: PhotoShown
    said: str


@dataclass(frozen=True)
class SessionShown:
    """A session on both sides of the split, with a few of its images."""

    name: str
    photos: tuple[PhotoShown, ...]


@dataclass(frozen=True)
class AuditPage:
    """An audit, ready to be shown. `accuracies`: what was left out → accuracy, the stated one first; `notes`: name of
    such a row → what kind of figure it is. `shortcuts`: property, class, effect, p, median in the class, elsewhere.
    """

    bundle_id: str
    verdict: str  # stands, in doubt, flattered
    sentence: str
    findings: Sequence[str]
    accuracies: Mapping[str, Rate]
    notes: Mapping[str, str]
    pairs: Sequence[PairShown] = ()
    more_pairs: int = 0
    suspects: Sequence[PhotoShown] = ()
    more_suspects: int = 0
    session_sentences: Sequence[str] = ()
    sessions: Sequence[SessionShown] = ()
    shortcut_sentence: str = ""
    shortcuts: Sequence[tuple[str, str, str, str, str, str]] = ()
    not_audited: Mapping[str, str] = field(default_factory=dict)  # path → why


def audit_html(page: AuditPage) -> str:
    """The page as text; every name from a file is shown as text."""
    return environment().get_template("audit.html.j2").render(page=page)


def audit_markdown(page: AuditPage) -> str:
    """The sentence, the figures, the findings and a sheet of what is suspected, for the Prefect UI."""
    rows = "\n".join(f"| {in_markdown(name)} | {in_markdown(str(rate))} |" for name, rate in page.accuracies.items())
    told = "\n".join(f"- {in_markdown(finding, 600)}" for finding in page.findings)
    return (
        f"## Audit of {in_markdown(page.bundle_id)}\n\n{in_markdown(page.sentence, 600)}\n\n"
        f"| accuracy | 95 % interval |\n|---|---|\n{rows}\n\n{told}\n"
        + _sheet("One photo twice, in pairs", [photo for pair in page.pairs for photo in (pair.first, pair.second)])
        + _sheet("Labels to look at", page.suspects)
    )


def _sheet(title: str, photos: Sequence[PhotoShown]) -> str:
    """The first photos as one picture with numbers, and a line each."""
    shown = photos[:_PICTURES]
    if not shown:
        return ""
    given = [one.thumbnail for one in shown]
    picture = f"![{in_markdown(title)}]({data_uri('image/jpeg', sheet(given))})\n\n" if any(given) else ""
    lines = "\n".join(
        f"{number}. {in_markdown(one.label)} · {one.split} · {in_markdown(one.path)}"
        + (f" · {in_markdown('; '.join(one.lines), 600)}" if one.lines else "")
        for number, one in enumerate(shown, start=1)
    )
    return f"\n### {title}\n\n{picture}{lines}\n"


def write_audit(folder: Path, page: AuditPage, files: Mapping[str, bytes]) -> Path:
    """Write `folder`/audit.html and what lies beside it, each in one step. Raises StorageError."""
    write_files(folder, {**files, "audit.html": audit_html(page).encode()}, "audit")
    return folder / "audit.html"
