"""What an evaluation by labels comes to: night by night, beside the estimate, and as text for a person."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict, Field, computed_field

from darkroom.summary import AccuracyEstimate, Share
from tasks.report.untrusted import in_markdown

_SHOWN = 10
_MOST_NIGHTS = 60


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class NightRecord(_Frozen):
    """One night with labels. Shares; `low` to `high` is the 90 % interval of the accuracy."""

    night: date
    scored: int
    labelled: int
    accuracy: float
    low: float
    high: float
    design: str = Field(description="strata: weighed by how they were chosen; as given: nobody knows how.")
    of: int = Field(description="Images of the night that the accuracy stands for.")
    estimate: AccuracyEstimate | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def held(self) -> bool | None:
        """Whether the estimate's interval and that of the labels have a value in common; None without an estimate."""
        told = self.estimate
        if told is None or told.low is None or told.high is None:
            return None
        return told.low <= self.high and self.low <= told.high

    def as_text(self) -> str:
        """One line."""
        late = f", of the first {self.of:,} of {self.scored:,} images" if self.of < self.scored else ""
        chosen = late if self.design == "strata" else ", chosen in an unknown way"
        line = f"{self.night}  {self.accuracy:.1%} ({self.low:.1%} to {self.high:.1%}) of {self.labelled:,} labelled"
        told = self.estimate
        if told is None or told.value is None or told.low is None or told.high is None:
            return f"{line}{chosen}; not estimated"
        word = "held" if self.held else "did NOT hold"
        return f"{line}{chosen}; estimated {told.value:.1%} ({told.low:.1%} to {told.high:.1%}): {word}"


class Elsewhere(_Frozen):
    """Labelled images that this bundle's accuracy is not of."""

    images: int = Field(default=0, description="That other bundles alone have scored.")
    bundles: dict[str, int] = Field(default={}, description="How many of them each bundle has scored.")
    unscored: int = Field(default=0, description="That no bundle has scored.")
    other_classes: int = Field(default=0, description="Scored, but with a label that is no class of this bundle.")

    def sentences(self) -> list[str]:
        """For a person; nothing where nothing is left out."""
        told = ", ".join(f"{n:,} by {bundle}" for bundle, n in self.bundles.items())
        return [
            f"Not counted: {n:,} labelled image{'' if n == 1 else 's'}, {why}."
            for n, why in (
                (self.images, f"scored only by other bundles ({told})"),
                (self.unscored, "scored by no bundle"),
                (self.other_classes, "whose label is no class of this bundle"),
            )
            if n
        ]


class Evaluation(_Frozen):
    """Everything that labels say of a bundle so far, and what became of those that were brought now."""

    bundle_id: str
    classes: tuple[str, ...]
    given: int
    empty: int
    findings: tuple[str, ...] = Field(default=(), description="How the file was read.")
    recorded: int
    unknown: tuple[str, ...]
    ambiguous: tuple[str, ...]
    labelled: int
    elsewhere: Elsewhere = Elsewhere()
    nights: tuple[NightRecord, ...]
    confusion: tuple[tuple[int, ...], ...] = Field(description="Rows: the label; columns: the predicted class.")
    calibration_error: float | None
    calibration: tuple[Share, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def estimator_error(self) -> float | None:
        """Mean absolute error of the estimates, over the nights whose labels were chosen in a known way."""
        off = [
            abs(one.estimate.value - one.accuracy)
            for one in self.nights
            if one.design == "strata" and one.estimate is not None and one.estimate.value is not None
        ]
        return sum(off) / len(off) if off else None

    def beginning(self) -> list[str]:
        """What became of the labels that were brought, and of those that are not counted."""
        lines: list[str] = []
        if self.given or self.empty:
            lines.append(
                f"{self.given:,} labels read, {self.recorded:,} of them new and recorded"
                + (f"; {self.empty:,} rows without a label" if self.empty else "")
                + "."
            )
        lines += self.findings
        for told, paths in (
            ("No scored image is known for", self.unknown),
            ("Several images have had the path; name the night or the content id for", self.ambiguous),
        ):
            if paths:
                more = f", … ({len(paths):,})" if len(paths) > _SHOWN else ""
                lines.append(f"{told}: {', '.join(paths[:_SHOWN])}{more}")
        return lines + self.elsewhere.sentences()

    def as_text(self) -> str:
        """For a person."""
        lines = self.beginning()
        if not self.labelled:
            return "\n".join([*lines, f"No scored image of {self.bundle_id} has a label."])
        lines += [one.as_text() for one in self.nights]
        lines += [self.held_sentence]
        lines.append(f"Calibration error {self.calibration_error:.3f}." + (" Most confused:" if self.confused else ""))
        lines += [f"  {n:,} × {own} taken for {other}" for n, own, other in self.confused[:_SHOWN]]
        return "\n".join(line for line in lines if line)

    @property
    def held_sentence(self) -> str:
        """On how many nights the estimate held; empty where no night can say."""
        judged = [one for one in self.nights if one.design == "strata" and one.held is not None]
        if not judged or self.estimator_error is None:
            return ""
        held = sum(bool(one.held) for one in judged)
        return (
            f"The estimate held on {held} of {len(judged)} nights; mean error {100 * self.estimator_error:.1f} points."
        )

    @property
    def confused(self) -> list[tuple[int, str, str]]:
        """(images, label, prediction) of what was wrong, the commonest first."""
        pairs = [
            (n, own, other)
            for own, row in zip(self.classes, self.confusion, strict=True)
            for other, n in zip(self.classes, row, strict=True)
            if own != other and n
        ]
        return sorted(pairs, reverse=True)


def evaluation_markdown(told: Evaluation) -> str:
    """For the Prefect UI: a line a night, the newest first, and what is taken for what."""
    parts = [f"## Labels of {in_markdown(told.bundle_id)}", *(in_markdown(line, 1000) for line in told.beginning())]
    if not told.labelled:
        return "\n\n".join([*parts, "No scored image has a label."]) + "\n"
    rows = [_night_row(one) for one in reversed(told.nights[-_MOST_NIGHTS:])]
    head = ["| night | labelled | accuracy (90 %) | estimated | held |", "| --- | ---: | --- | --- | --- |"]
    parts += ["\n".join([*head, *rows]), told.held_sentence]
    if told.calibration_error is not None:
        parts.append(f"Calibration error {told.calibration_error:.3f}.")
    if told.confused:
        lines = [f"| {in_markdown(own)} | {in_markdown(other)} | {n:,} |" for n, own, other in told.confused[:_SHOWN]]
        parts.append("\n".join(["| label | taken for | images |", "| --- | --- | ---: |", *lines]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _night_row(one: NightRecord) -> str:
    estimate = one.estimate
    told, held = "–", "–"
    if estimate is not None and estimate.value is not None and estimate.low is not None and estimate.high is not None:
        told = f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"
        held = "yes" if one.held else "**no**"
    accuracy = f"{one.accuracy:.1%} ({one.low:.1%} to {one.high:.1%})"
    return f"| {one.night} | {one.labelled:,} of {one.scored:,} | {accuracy} | {told} | {held} |"
