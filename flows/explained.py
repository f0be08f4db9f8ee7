"""What came of an explanation, for programs and for the terminal."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from darkroom.names import to_text
from flows.explaining import Told
from flows.shaking import Shaken
from tasks.bundle import Bundle
from tasks.report.untrusted import visible


class Moves(BaseModel):
    """How often an answer turned, of so many changes that were tried."""

    model_config = ConfigDict(frozen=True)

    tried: int
    turned: int


class ExplainedGround(BaseModel):
    """One cause that something speaks for."""

    model_config = ConfigDict(frozen=True)

    cause: str
    sentence: str
    evidence: tuple[str, ...]


class Near(BaseModel):
    """A training photo near the image; `distance` between embeddings of length one, 0 … 2."""

    model_config = ConfigDict(frozen=True)

    path: str
    label: str
    distance: float


class Explained(BaseModel):
    """What came of an explanation. `probabilities` are calibrated, the most probable first; p's are null where too few
    images were held out, and everything about pixels is empty where the file gave none.
    """

    model_config = ConfigDict(frozen=True)

    bundle_id: str
    image: str
    content_id: str | None
    cause: str
    sentence: str
    context: str
    grounds: tuple[ExplainedGround, ...]
    reproduced_by: tuple[str, ...] = ()
    predicted_class: str | None = None
    confidence: float | None = None
    probabilities: dict[str, float] = {}
    verdict: str = "quarantined"
    reasons: tuple[str, ...] = ()
    unusual_p: float | None = None
    unusual_property: str | None = None
    out_of_distribution_p: float | None = None
    nearest: tuple[Near, ...] = ()
    variants: Moves = Moves(tried=0, turned=0)
    slight_changes: Moves = Moves(tried=0, turned=0)
    page: str = ""

    def as_text(self) -> str:
        """For a person."""
        lines = (
            [] if self.predicted_class is None else [f"{self.predicted_class} ({self.confidence:.0%}), {self.verdict}"]
        )
        for place, ground in enumerate(self.grounds):
            lines += [
                f"{'also ' if place else ''}{ground.cause}: {ground.sentence}",
                *(f"  {e}" for e in ground.evidence),
            ]
        lines.append("")
        if self.variants.tried:
            lines.append(
                f"{self.variants.turned} of {self.variants.tried} wrong preparations and {self.slight_changes.turned} "
                f"of {self.slight_changes.tried} slight changes turn the answer."
            )
        if self.nearest:
            lines.append(f"Nearest training photos: {', '.join(one.label for one in self.nearest)}")
        lines += [self.context, "", f"Page  {self.page}"]
        # Labels, paths and EXIF are anybody's text; a path is never cut.
        return "\n".join(visible(line, longest=4096) for line in lines)


def record_of(image: Path, data: bytes, told: Told, bundle: Bundle) -> Explained:
    """Without the page, which is written later."""
    explanation, evidence = told.explanation, told.evidence
    seen, shaken = told.seen, told.shaken
    common = {
        "bundle_id": bundle.id,
        "image": to_text(image),
        "content_id": hashlib.sha256(data).hexdigest(),
        "cause": str(explanation.cause),
        "sentence": explanation.sentence,
        "context": explanation.context,
        "grounds": tuple(
            ExplainedGround(cause=str(one.cause), sentence=one.sentence, evidence=one.evidence)
            for one in explanation.grounds
        ),
    }
    if seen is None or shaken is None:
        reasons = () if told.refused is None else (str(told.refused.reason),)
        return Explained.model_validate({**common, "reasons": reasons})
    answer, sure = evidence.classes[0]
    return Explained.model_validate(
        {
            **common,
            "reproduced_by": () if evidence.theirs is None else evidence.theirs.reproduced_by,
            "predicted_class": answer,
            "confidence": sure,
            "probabilities": dict(evidence.classes),
            "verdict": str(seen.row["verdict"]),
            "reasons": told.suspicions,
            "unusual_p": _number(evidence.unusual_p),
            "unusual_property": evidence.unusual_property,
            "out_of_distribution_p": _number(evidence.far_p),
            "nearest": tuple(Near(path=one.path, label=one.label, distance=one.distance) for one in told.neighbours),
            "variants": _moves(shaken.variants, answer, bundle, len(shaken.variants) + shaken.unmoved),
            "slight_changes": _moves(shaken.slight, answer, bundle, len(shaken.slight)),
        }
    )


def _moves(changes: Sequence[Shaken], answer: str, bundle: Bundle, tried: int) -> Moves:
    turned = sum(bundle.classes[int(one.probabilities.argmax())] != answer for one in changes)
    return Moves(tried=tried, turned=turned)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
