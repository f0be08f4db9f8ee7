"""A model that was made elsewhere, as a bundle: the answer of `adopt`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from flows.origin import Origin, Outcome
from tasks.bundle import Bundle
from tasks.bundle.versions import version_in_use
from tasks.published import in_words


class Adopted(BaseModel):
    """A model that was made elsewhere, as a bundle."""

    model_config = ConfigDict(frozen=True)

    bundle_id: str
    path: str
    in_use: bool
    kind: str
    classes: tuple[str, ...]
    images: int
    accuracy: float
    interval: tuple[float, float]
    difference: float
    preparation: str
    plausible: tuple[str, ...]
    sentences: tuple[str, ...]
    findings: tuple[str, ...]

    def as_text(self) -> str:
        """For a person."""
        low, high = self.interval
        told = "\n".join(f"  {sentence}" for sentence in (*self.sentences, *self.findings))
        name, version = Path(self.path).parent.name, Path(self.path).name
        unused = f"It is not in use; to use it: darkroom promote {name} {version} --reason …\n"
        return (
            f"{self.bundle_id} is sealed: {self.kind}, right on {self.accuracy:.1%} of the photos that it "
            f"was measured on ({low:.1%} – {high:.1%}).\n{told}\n{'' if self.in_use else unused}"
            f"Bundle  {self.path}\nCard    {self.path}/card.html"
        )


def adopted_as(bundle: Bundle, origin: Origin, outcome: Outcome) -> Adopted:
    """What a person and programs are told of the sealed bundle."""
    measured = outcome.measures["validation"]
    inferred = origin.preparation.inferred
    return Adopted(
        bundle_id=bundle.id,
        path=str(bundle.path),
        in_use=version_in_use(bundle.path.parent) == bundle.manifest.version,
        kind=origin.model.kind,
        classes=bundle.classes,
        images=sum(one.n for one in outcome.measures.values()),
        accuracy=measured.accuracy,
        interval=measured.interval,
        difference=origin.model.difference,
        preparation=in_words(origin.preparation.chosen),
        plausible=tuple(in_words(one) for one in inferred.plausible),
        sentences=origin.sentences(),
        findings=origin.findings(),
    )
