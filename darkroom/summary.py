"""What a night was, in one small model: the terminal, the artifact, the page and the commit all show this."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from darkroom.reasons import FileStatus, Grade, NightCause, NightVerdict


class _Frozen(BaseModel):
    # Summaries lie in commits: a field of a later minor version must not make them unreadable (results.Commit).
    model_config = ConfigDict(frozen=True, extra="ignore")


class Severity(StrEnum):
    """How much a finding weighs: `critical` makes the night an alarm, `warning` a warn, `info` is only told."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Finding(_Frozen):
    """One thing that a person should know about the night, with its evidence."""

    severity: Severity
    source: str = Field(description="intake, validation, drift, history, quarantine")
    what: str = Field(description="One sentence.")
    evidence: str = ""


class Counts(_Frozen):
    """Every path seen, by what became of it."""

    seen: int = 0
    scored: int = 0
    scored_before: int = 0
    duplicate: int = 0
    quarantined: int = 0
    deferred: int = 0
    not_an_image: int = 0

    @classmethod
    def of(cls, statuses: dict[str, int]) -> Counts:
        """From a count by `FileStatus`; `seen` is their sum."""
        return cls(seen=sum(statuses.values()), **{str(FileStatus(name)): n for name, n in statuses.items()})

    @property
    def balanced(self) -> bool:
        """Seen = scored + scored before + duplicate + quarantined + deferred + not an image."""
        parts = (self.scored, self.scored_before, self.duplicate, self.quarantined, self.deferred, self.not_an_image)
        return self.seen == sum(parts)


class ExpectationResult(_Frozen):
    """One expectation of the suite, as it went tonight."""

    expectation: str = Field(description="For a person: 'luminance_mean between 61.2 and 203.8'.")
    column: str | None = None
    level: str = Field(description="row, table, team")
    severity: Severity
    status: str = Field(description="passed, failed, errored")
    evaluated: int = 0
    unexpected: int = 0
    observed: str = ""
    otherwise: str = Field(default="", description="What is said where it is not met; empty: its own words.")


class Share(_Frozen):
    """A share with its 90 % interval."""

    name: str
    value: float
    low: float
    high: float
    reference: float = Field(description="The same in the training and held-out images.")


class Harm(_Frozen):
    """What the shift of one image property costs, as on the corruption ladder. Shares, not points; losses are < 0."""

    name: str
    shift: float = Field(description="Tonight minus training, in training standard deviations.")
    value: float
    low: float
    high: float
    kinds: tuple[str, ...] = Field(description="The kinds of corruption that it is known from, the most telling first.")

    @property
    def sentence(self) -> str:
        """For a person."""
        words = self.name.replace("_", " ")
        side = "higher" if self.shift > 0 else "lower"
        moved = f"{words[0].upper()}{words[1:]} is {abs(self.shift):.1f} sd {side}"
        return f"{moved}: about {100 * self.value:+.0f} points ({100 * self.low:+.0f} to {100 * self.high:+.0f})."


class AccuracyEstimate(_Frozen):
    """How often the predictions of a night are right, without a label; or why that cannot be said. Shares."""

    rows: int
    validation: float | None = Field(default=None, description="Accuracy on the held-out images.")
    value: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = Field(default="", description="ladder, threshold, difference, confidence, class mix.")
    backtest_error: float | None = Field(
        default=None, description="Mean absolute error on nights of a kind of corruption that the estimator never saw."
    )
    refused: str | None = Field(default=None, description="One sentence; then there is no value.")
    class_mix: tuple[Share, ...] = ()
    harm: tuple[Harm, ...] = ()

    @property
    def sentence(self) -> str:
        """For a person."""
        if self.refused is not None or self.value is None or self.low is None or self.high is None:
            return f"Accuracy is not estimated: {self.refused or 'nothing was scored'}."
        told = f"Estimated accuracy {self.value:.0%} ({self.low:.0%} to {self.high:.0%})"
        told += "" if self.validation is None else f"; on validation {self.validation:.0%}"
        if self.backtest_error is None:
            return f"{told}."
        return (
            f"{told}. The estimator's own error on corruptions it did not know: {100 * self.backtest_error:.1f} points."
        )


class CauseFound(_Frozen):
    """One of the causes of a night: a sentence for 7 in the morning, what speaks for it, what to do."""

    cause: NightCause
    grade: Grade
    sentence: str
    evidence: tuple[str, ...] = ()
    todo: str = ""


class Whence(_Frozen):
    """Who or what started a run, with which code and which parameters."""

    by: str = Field(description="The user of the process; a run from the UI has that of the worker.")
    host: str
    started: Literal["schedule", "deployment", "by hand"] = Field(
        description="by the schedule; from a deployment, in the UI or by the API; or in a terminal or a program."
    )
    scheduled_for: datetime | None = Field(default=None, description="When the run was meant to start.")
    flow_run: str | None = Field(default=None, description="Id of the Prefect run.")
    flow_run_name: str | None = None
    deployment: str | None = None
    tags: tuple[str, ...] = Field(default=(), description="Of the Prefect run: whoever starts it may set some.")
    code: str | None = Field(default=None, description="Git commit of darkroom, where it is known.")
    bundle_path: str | None = None
    parameters: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict, description="All parameters of the flow, those in groups as `group.name`."
    )

    @property
    def sentence(self) -> str:
        """For a person."""
        how = {
            "schedule": f"by the schedule of {self.deployment}",
            "deployment": f"from the deployment {self.deployment}, in the UI or by the API",
            "by hand": "by hand, in a terminal or a program",
        }[self.started]
        return f"started {how}; the process was {self.by}'s on {self.host}"


class NightSummary(_Frozen):
    """A night of one bundle."""

    bundle_id: str
    night: date
    run_id: str
    inbox: str
    verdict: NightVerdict
    headline: str = Field(description="One sentence that a tired person understands.")
    counts: Counts
    trusted: int = 0
    suspect: int = 0
    classes: dict[str, int] = Field(default_factory=dict, description="Predicted class → images.")
    quarantine_reasons: dict[str, int] = Field(default_factory=dict)
    causes: tuple[CauseFound, ...] = Field(default=(), description="The likeliest first.")
    findings: tuple[Finding, ...] = ()
    expectations: tuple[ExpectationResult, ...] = ()
    estimate: AccuracyEstimate | None = Field(default=None, description="None: made before there were estimates.")
    started_at: datetime
    finished_at: datetime
    parameters: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    commit: int | None = Field(default=None, description="Number of the commit; none until it is written.")
    report: str | None = Field(default=None, description="Path of the page.")
    whence: Whence | None = Field(default=None, description="None: made before it was recorded.")
