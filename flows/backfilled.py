"""Many nights that were scored afterwards, night by night: the answer of `backfill`."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from darkroom.summary import NightSummary
from tasks.report.untrusted import visible

Came = Literal["ok", "warn", "alarm", "empty", "failed", "left out"]


class NightOutcome(BaseModel):
    """What came of one night."""

    model_config = ConfigDict(frozen=True)

    night: date
    came: Came = Field(description="The verdict of the night; failed: nobody knows it; left out: scored before.")
    told: str = Field(description="One sentence.")
    scored: int = 0
    quarantined: int = 0
    report: str | None = Field(default=None, description="Path of the page.")

    @classmethod
    def of(cls, summary: NightSummary) -> NightOutcome:
        """Of a night that was scored."""
        kept_back = "" if summary.commit is not None else f" Kept back: darkroom release {summary.run_id} --reason '…'"
        return cls(
            night=summary.night,
            came=summary.verdict.value,
            told=f"{summary.headline}{kept_back}",
            scored=summary.counts.scored,
            quarantined=summary.counts.quarantined,
            report=summary.report,
        )

    def as_text(self) -> str:
        """One line for a person."""
        return f"{self.night}  {self.came:<8}  {visible(self.told)}"


class Backfilled(BaseModel):
    """What came of all nights, the oldest first."""

    model_config = ConfigDict(frozen=True)

    bundle_id: str
    nights: tuple[NightOutcome, ...]

    def count(self, *came: Came) -> int:
        """Nights of which this came."""
        return sum(outcome.came in came for outcome in self.nights)

    @property
    def good(self) -> bool:
        """No night failed or is an alarm, and they are not all empty."""
        return not self.count("failed", "alarm") and self.count("empty") < len(self.nights)

    @property
    def headline(self) -> str:
        """One sentence: `7 nights with parts-1-…: 5 ok, 1 failed, 1 left out.`."""
        order: tuple[Came, ...] = ("failed", "alarm", "warn", "ok", "empty", "left out")
        told = ", ".join(f"{n} {came}" for came in order if (n := self.count(came)))
        return f"{len(self.nights)} night{'s' * (len(self.nights) != 1)} with {self.bundle_id}: {told}."

    def as_text(self) -> str:
        """For a person."""
        return "\n".join([self.headline, *(f"  {outcome.as_text()}" for outcome in self.nights)])
