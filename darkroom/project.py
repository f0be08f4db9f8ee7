"""darkroom.toml: what a project scores every night, with what, and when."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final, Self
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom.errors import WrongUse
from darkroom.forms import TimeZone
from darkroom.night import folder_of_nights, is_a_folder_a_night
from darkroom.roots import ROOTS
from darkroom.settings import IntakeOptions, RunOptions
from darkroom.storage import store_address
from darkroom.trust import PROJECT, TRUSTED_KEYS

FILE: Final = PROJECT
PLACES: Final = ("models", "bundle", "inbox", "results")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(_Table):
    """When a night is scored, and which date that run is for."""

    cron: str = Field(default="0 2 * * *", description="Minute, hour, day, month, weekday, in the time zone below.")
    timezone: TimeZone = Field(default="UTC", description="Time zone of the schedule and of the night.")
    night_offset_days: int = Field(default=-1, ge=-31, le=31, description="A run at 02:00 is for yesterday (-1).")


class Project(_Table):
    """A folder that `darkroom serve` works for. Paths are relative to it, or absolute."""

    models: str = Field(default="models", description="Where bundles are sealed.")
    bundle: str = Field(default="models/model", description="What the nights are scored with: the version in use.")
    inbox: str = Field(default="inbox/{night:%Y-%m-%d}", description="Folder of new images; may hold the night.")
    results: str = Field(default="results", description="Folder for predictions, drift, quarantine and pages.")
    trusted_keys: str = Field(
        default="",
        description="Folder of public keys, one of which must have signed a bundle. Empty: none has to.",
    )
    roots: tuple[str, ...] = Field(
        default=(".",),
        description="Folders and addresses below which a run may read and write, beside the places above and those of "
        "[run]: nobody's form leads out of them. /: every folder.",
    )
    schedule: Schedule = Schedule()
    intake: IntakeOptions = IntakeOptions()
    run: RunOptions = RunOptions()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The project of a folder: darkroom.toml, or what is used where there is none.

        Raises: WrongUse that names the setting, what was expected and what was found.
        """
        file = folder / FILE
        try:
            stated = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as error:
            raise WrongUse(f"{FILE} cannot be read.", file=file, expected="a TOML file", found=error) from error
        try:
            return cls.model_validate(stated)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise WrongUse(
                f"The setting {name} has a wrong value.",
                file=file,
                expected=first["msg"].removeprefix("Value error, "),
                found=first.get("input"),
                todo="mend the line, and start again",
            ) from None

    def place(self, name: str, folder: Path) -> str:
        """One of PLACES, so that it does not depend on where a worker runs."""
        # Not resolve(): a symbolic link may be moved on purpose, and {night:…} is no path yet.
        return _below(folder, getattr(self, name))

    def environment(self, folder: Path) -> dict[str, str]:
        """What the runs of this project find in their environment: the policies, for all of their processes."""
        keys = {TRUSTED_KEYS: str(folder.absolute() / self.trusted_keys)} if self.trusted_keys else {}
        return {ROOTS: json.dumps(self.all_roots(folder)), **keys}

    def all_roots(self, folder: Path) -> list[str]:
        """Where its runs may read and write: `roots`, and whatever else darkroom.toml names for them."""
        run = self.run
        inbox = str(folder_of_nights(self.inbox)) if is_a_folder_a_night(self.inbox) else self.inbox
        named = [*self.roots, self.models, self.bundle, inbox, self.results]
        named += [run.metrics, run.scheduler, "" if run.suites is None else str(run.suites)]
        return list(dict.fromkeys(_below(folder, one) for one in named if one))

    def nightly(self) -> dict[str, Any]:
        """What the nightly run is told beside its places: its time zone, and every setting that the file states."""
        told: dict[str, Any] = {"night": self.schedule.model_dump(include={"timezone", "night_offset_days"})}
        for name in ("intake", "run"):
            stated = getattr(self, name).model_dump(mode="json", exclude_unset=True)
            told |= {name: stated} if stated else {}
        return told


def _below(folder: Path, place: str) -> str:
    return store_address(place) or (place if "://" in place else str(folder.absolute() / place))


def example(project: Project) -> str:
    """A darkroom.toml for a person to read and change."""
    # A string of JSON is a string of TOML.
    models, bundle, inbox, results = (json.dumps(getattr(project, name), ensure_ascii=False) for name in PLACES)
    return f'''# What `darkroom serve` does in this folder. Paths are relative to it, or absolute.
models = {models}    # where bundles are sealed
bundle = {bundle}    # what the nights are scored with: the version in use
inbox = {inbox}    # a folder a night; without {{night}}: one growing folder
results = {results}
# trusted_keys = "keys"    # bundles must be signed: a folder with the public keys that will do
# roots = [".", "/srv/photos"]    # runs read and write below these, and the places above; "." is this folder

[schedule]
cron = "{project.schedule.cron}"    # minute, hour, day, month, weekday
timezone = "{project.schedule.timezone}"
night_offset_days = {project.schedule.night_offset_days}    # a run at 02:00 is for yesterday

[intake]
# expect_at_least = 100    # fewer images are an alarm; without: learned from past nights

[run]
# on_alarm = "hold"    # commit: write the rows and say alarm; hold: wait for a person; fail: and the run fails
# false_alarm_nights = 365    # at most one false alarm in so many unchanged nights
'''


def local_timezone(link: Path = Path("/etc/localtime")) -> str:
    """The time zone of this machine by its name, UTC where it has none."""
    parts = link.resolve().parts
    name = "/".join(parts[parts.index("zoneinfo") + 1 :]) if "zoneinfo" in parts else ""
    return name if name in available_timezones() and name != "Etc/UTC" else "UTC"
