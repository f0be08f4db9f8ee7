"""What came of forgetting, for a person and for a program."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from darkroom.forgotten import Forgotten
from tasks.bundle.holding import Holding


class Told(BaseModel):
    """What was removed, and what is left to do. Names what was asked for: it is an answer, and kept nowhere."""

    model_config = ConfigDict(frozen=True)

    forgotten: Forgotten | None = None
    artifacts: int | None = Field(default=None, description="Removed from the Prefect server; null: none was asked.")
    completed: tuple[Forgotten, ...] = ()
    unknown: tuple[str, ...] = ()
    delivered: tuple[str, ...] = ()
    bundles: tuple[Holding, ...] = ()
    models: str = ""

    def as_text(self) -> str:
        """For a person."""
        lines = [f"A removal that was interrupted is complete. {one.sentence}" for one in self.completed]
        if self.forgotten is not None:
            lines += [self.forgotten.sentence, f"Recorded as number {self.forgotten.number}, without what they were."]
        lines += [f"Nothing was found of {content_id}." for content_id in self.unknown]
        lines += [f"Still delivered, and scored as new by the next run: {place}" for place in self.delivered]
        if not self.models:
            lines.append("No bundle was looked at: name where they are sealed with --models.")
        lines += [one.sentence for one in self.bundles]
        if any(one.images for one in self.bundles):
            lines += [self._what_to_do()]
        if self.artifacts is None:
            lines.append(
                "The artifacts of these nights were not looked for: no Prefect server is named, or none answers."
            )
        elif self.artifacts:
            lines.append(f"{self.artifacts} artifact(s) of these nights are removed from the Prefect server.")
        lines.append("Not reached: inboxes, backups, logs, other artifacts that Prefect keeps. Remove them by hand.")
        return "\n".join(lines)

    def _what_to_do(self) -> str:
        hold = [one for one in self.bundles if one.images]
        used = [one for one in hold if one.in_use]
        told = ["A bundle is never changed. To leave them out of the next version:"] if used else []
        for one in used:
            asked = " ".join(f"--without {content_id}" for content_id in sorted(one.images))
            told.append(f'  darkroom reseal {one.path} {asked} --yes --promote --reason "…"')
        told += ["Then remove the folders:" if used else "Remove the folders:", *(f"  {one.path}" for one in hold)]
        return "\n".join(told)
