"""Leaving images out of a bundle: its next version, without what shows them or was made of them one by one.

No flow of Prefect: its server keeps the parameters of every run, and these are content ids.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from darkroom.errors import GateClosed
from expectations.audit import Audit
from expectations.outliers import NearestNeighbours, normalised
from tasks.bundle import Bundle, find_bundle, open_bundle
from tasks.bundle.holding import Holding, held_by
from tasks.bundle.resealing import needs_a_reason, reseal_without
from tasks.forgetting.pages import without_frames
from tasks.forgetting.sought import content_ids
from tasks.goldens import golden_changes
from tasks.inference import load_engine
from tasks.report.untrusted import in_markdown

_BANK, _AUDIT, _CARD, _CARD_PAGE = "neighbours.npz", "audit.json", "card.md", "card.html"


class LeftOut(BaseModel):
    """What a version holds of some images, and the version without them, if it was sealed."""

    model_config = ConfigDict(frozen=True)

    held: Holding
    sealed: str | None = None
    path: str | None = None
    promoted: bool = False

    def as_text(self) -> str:
        """For a person."""
        if self.sealed is None:
            return f"{self.held.sentence} Nothing was sealed."
        folder = Path(str(self.path))
        lines = [self.held.sentence, f"Sealed without: {self.sealed}: {folder}"]
        if not self.promoted:
            lines.append(f'Put it into use: darkroom promote {folder.parent.name} {folder.name} --reason "…"')
        lines.append(f"Then remove the folder {self.held.path}.")
        lines.append("The model is the same, and has learned from them: only a new training changes that.")
        return "\n".join(lines)


def leave_out(bundle: Path, contents: Sequence[str], *, agreed: bool, reason: str, promote: bool = False) -> LeftOut:
    """Say what a bundle holds of these contents (whole ids, or files); once agreed, seal its next version without them.

    Raises: WrongUse where it holds none of them, or there is no reason; GateClosed where its goldens have moved since
    the seal: that is to be agreed to by itself, and first.
    """
    ids = content_ids(contents)
    sealed = open_bundle(find_bundle(bundle))
    held = held_by(sealed, ids)
    if not agreed:
        return LeftOut(held=held)
    needs_a_reason(reason)
    _require_unmoved(sealed)
    files = files_without(sealed, ids)
    done = reseal_without(sealed, ids, files, reason=reason, promote=promote)
    return LeftOut(held=held, sealed=done.id, path=str(done.path), promoted=promote)


def files_without(bundle: Bundle, ids: Set[str]) -> dict[str, bytes]:
    """The files of a bundle that have something of single photos beside its tables, without these."""
    profile = bundle.profile()
    own = profile["content_id"].isin(ids).to_numpy()
    paths = [str(path) for path in profile["path"][own]]
    files: dict[str, bytes] = {}
    if bundle.has(_BANK):
        neighbours = NearestNeighbours.from_bytes(bundle.read_bytes(_BANK))
        theirs = {row.tobytes() for row in normalised(bundle.embeddings()[own]).astype(np.float16)}
        left = [row.tobytes() not in theirs for row in neighbours.bank]
        files[_BANK] = replace(neighbours, bank=neighbours.bank[left]).to_bytes()
    if bundle.has(_AUDIT):
        audit = Audit.from_json(bundle.read_bytes(_AUDIT))
        copies = tuple(one for one in audit.copies if not {one.first.content_id, one.second.content_id} & ids)
        suspects = tuple(one for one in audit.suspects if one.photo.content_id not in ids)
        files[_AUDIT] = replace(audit, copies=copies, suspects=suspects).to_json().encode()
    if bundle.has(_CARD_PAGE):
        page = bundle.read_bytes(_CARD_PAGE).decode()
        for path in paths:
            page = without_frames(page, path)
        files[_CARD_PAGE] = page.encode()
    if bundle.has(_CARD):
        cells = [f"| {in_markdown(path)} |" for path in paths]
        lines = bundle.read_bytes(_CARD).decode().split("\n")
        files[_CARD] = "\n".join(line for line in lines if not any(cell in line for cell in cells)).encode()
    return files


def _require_unmoved(bundle: Bundle) -> None:
    manifest = bundle.manifest
    engine = load_engine(bundle.model_path, manifest.embedding_layer, input_shape=bundle.preprocessing.input_shape)
    if any(change.moved for change in golden_changes(bundle, engine)):
        raise GateClosed(
            "The golden images of this bundle have moved since its seal: that is a decision of its own.",
            file=bundle.path,
            todo=f"see what has moved, and agree to it first: darkroom reseal {bundle.path}",
        )
