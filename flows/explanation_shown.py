"""From what is known of one image to what its page shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from darkroom.names import to_text
from expectations.outliers import FLAGGED
from expectations.placing import Place
from flows.explaining import Told
from flows.shaking import Shake, Shaken
from tasks.bundle import Bundle
from tasks.preprocessing import Preprocessing
from tasks.report.explain_page import ExplainPage, GroundShown, MoveShown, PhotoNear, PlaceShown
from tasks.report.view import number

_VARIANTS: Final = 24
_FACTS: Final = (
    "camera",
    "captured_at",
    "format",
    "mode",
    "width",
    "height",
    "bit_depth",
    "exif_orientation",
    "icc_class",
)


def page_of(image: Path, told: Told, bundle: Bundle) -> ExplainPage:
    """Everything, or for a file without pixels why it has none."""
    explanation, evidence = told.explanation, told.evidence
    common = {
        "image": to_text(image.name),
        "bundle_id": bundle.id,
        "cause": str(explanation.cause),
        "sentence": explanation.sentence,
        "context": explanation.context,
        "grounds": tuple(GroundShown(str(one.cause), one.sentence, one.evidence) for one in explanation.grounds),
    }
    seen, shaken = told.seen, told.shaken
    if seen is None or shaken is None:
        return ExplainPage(**common)  # type: ignore[arg-type]
    answer = evidence.classes[0]
    return ExplainPage(
        **common,  # type: ignore[arg-type]
        stated="" if evidence.theirs is None else evidence.theirs.stated,
        classes=evidence.classes,
        plausible_from=evidence.plausible_from,
        decoded=seen.arrived.thumbnail or b"",
        seen=seen.arrived.resized,
        facts=_facts(seen.row, bundle.preprocessing),
        places=tuple(_place(one) for one in told.places),
        neighbours=tuple(
            PhotoNear(one.label, one.predicted, one.path, one.distance, one.thumbnail) for one in told.neighbours
        ),
        far=_far(evidence.far_p),
        variants=_moves(shaken.variants, answer, bundle)[:_VARIANTS],
        variants_said=_variants_said(shaken, answer[0], bundle),
        slight=_moves(shaken.slight, answer, bundle),
        slight_said=_slight_said(shaken, evidence.steady_p),
    )


def _moves(changes: Sequence[Shaken], answer: tuple[str, float], bundle: Bundle) -> list[MoveShown]:
    """The largest loss of the first answer first."""
    place, sure = bundle.classes.index(answer[0]), answer[1]
    found = []
    for one in changes:
        best = int(one.probabilities.argmax())
        found.append(
            MoveShown(
                what=one.what,
                name=one.name,
                answer=bundle.classes[best],
                confidence=float(one.probabilities[best]),
                change=float(one.probabilities[place]) - sure,
                flips=best != place,
            )
        )
    return sorted(found, key=lambda one: one.change)


def _variants_said(shaken: Shake, answer: str, bundle: Bundle) -> str:
    place = bundle.classes.index(answer)
    turned = sum(int(one.probabilities.argmax()) != place for one in shaken.variants)
    told = f"{turned} of {len(shaken.variants) + shaken.unmoved} wrong preparations turn the answer"
    if shaken.unmoved:
        told += f"; {shaken.unmoved} do not touch it on this file"
    if shaken.refused:
        told += f"; {len(shaken.refused)} could not read the file"
    more = len(shaken.variants) - _VARIANTS
    return f"{told}." + (f" The {_VARIANTS} largest moves are shown." if more > 0 else "")


def _slight_said(shaken: Shake, steady_p: float) -> str:
    turned = round(shaken.moved.flips * len(shaken.slight))
    told = f"{turned or 'None'} of {len(shaken.slight)} slight changes {'turns' if turned == 1 else 'turn'} the answer"
    if math.isfinite(steady_p):
        told += f"; {steady_p:.0%} of the held-out images lose as much probability or more"
    return f"{told}."


def _far(far_p: float) -> str:
    if not math.isfinite(far_p):
        return "By what the model sees in them. Too few images were held out to say how far is far."
    said = "is far from them" if far_p <= FLAGGED else "is about as near to them as held-out images are"
    return f"By what the model sees in them. The image {said} (p {far_p:.2g})."


def _place(place: Place) -> PlaceShown:
    if place.training is None or place.quantile is None or isinstance(place.value, str):
        share = 0.0 if place.share is None else place.share
        said = "as no training photo" if not share else f"as {share:.0%} of the training photos"
        return PlaceShown(_words(place.name), str(place.value), said, None, share <= FLAGGED)
    least, low, median, high, most = place.training
    left, right = min(least, place.value), max(most, place.value)
    width = right - left
    strip = tuple(0.5 if width <= 0 else (one - left) / width for one in (low, median, high, place.value))
    beyond = place.value < least or place.value > most
    if beyond:
        said = f"{'below' if place.value < least else 'above'} every training photo ({number(least)} to {number(most)})"
    else:
        said = f"above {place.quantile:.0%} of the training photos"
    return PlaceShown(_words(place.name), number(place.value), said, (strip[0], strip[1], strip[2], strip[3]), beyond)


def _facts(row: object, preprocessing: Preprocessing) -> dict[str, str]:
    values: dict[str, object] = dict(row) if isinstance(row, dict) else {}
    told = {
        _words(name): number(value) if isinstance(value, float) else str(value)
        for name in _FACTS
        if (value := values.get(name)) is not None
    }
    knobs = preprocessing.geometry
    told["decoded by"] = preprocessing.decode.decoder
    told["resized"] = f"{knobs.fit} to {knobs.width} × {knobs.height}, {knobs.resizer} {knobs.interpolation}"
    return told


def _words(name: str) -> str:
    return name.replace("_", " ")
