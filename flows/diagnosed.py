"""What came of a diagnosis, as a value: for programs as JSON, for a person as text."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from expectations.reproduction import Candidate


class Explanation(BaseModel):
    """One explanation: `knob=value` of each variant (none: the pinned preparation) and how well it fits."""

    model_config = ConfigDict(frozen=True)

    variants: tuple[str, ...]
    share_reproduced: float
    median_difference: float
    worst_difference: float


class Cause(BaseModel):
    """The cause. `variants` is empty where nothing differs and where nothing that was tried explains it."""

    model_config = ConfigDict(frozen=True)

    variants: tuple[str, ...]
    level: str
    alike: tuple[tuple[str, ...], ...]
    share_reproduced: float


class Fixed(BaseModel):
    """Lines for one library; `differs` says where they are not bit for bit."""

    model_config = ConfigDict(frozen=True)

    library: str
    code: str
    differs: str


class Diagnosis(BaseModel):
    """What came of a diagnosis. `same`: there is no difference to explain; `explained`: a difference, and its cause."""

    model_config = ConfigDict(frozen=True)

    bundle_id: str
    same: bool
    explained: bool
    sentence: str
    cause: Cause
    closest: Explanation
    runner_up: Explanation | None
    margin: float | None
    images: int
    undecided_images: int
    tolerance: float
    not_shown: tuple[str, ...]
    not_replayed: dict[str, str]
    findings: tuple[str, ...]
    stages: tuple[dict[str, str], ...]
    mends: tuple[str, ...]
    fixes: tuple[Fixed, ...]
    tried: dict[str, int]
    page: str
    seconds: float

    def as_text(self) -> str:
        """For a person."""
        told = "".join(f"  {one}\n" for one in (*_stage_lines(self.stages), *self.mends, *self.findings))
        code = ""
        if self.fixes:
            lines = "\n".join(f"    {line}" for line in self.fixes[0].code.splitlines())
            code = f"\nThe pinned preparation, {self.fixes[0].library} (others on the page):\n{lines}\n"
        return f"{self.sentence}\n\n{told}{code}\nPage  {self.page}"


def explanation_of(one: Candidate) -> Explanation:
    """A candidate, for programs."""
    return Explanation(
        variants=one.names,
        share_reproduced=one.share,
        median_difference=one.median,
        worst_difference=one.worst,
    )


def _stage_lines(stages: Sequence[dict[str, str]]) -> list[str]:
    return [f"{one['stage']}: {one['verdict']}, {one['difference']}" for one in stages]
