"""`darkroom init`: a folder that `darkroom serve` works for, with what a system needs to start it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from darkroom.errors import StorageError, WrongUse
from darkroom.night import folder_of_nights, is_a_folder_a_night
from darkroom.project import FILE, Project, example
from darkroom.storage import store_address

UNIT = "darkroom.service"
# Python would find a user's own modules of these names before darkroom's: docs/operations.md.
_OURS = ("flows", "tasks", "expectations")


@dataclass(frozen=True)
class Begun:
    """A new project: what was written, and what a person should know or do next."""

    folder: Path
    written: tuple[Path, ...]
    warnings: tuple[str, ...]
    todo: tuple[str, ...]

    def as_text(self) -> str:
        """For a person."""
        lines = [f"A project is in {self.folder}"]
        lines += [f"  wrote {path.relative_to(self.folder)}" for path in self.written]
        lines += [f"  careful: {warning}" for warning in self.warnings]
        return "\n".join([*lines, "Next:", *(f"  {number}. {one}" for number, one in enumerate(self.todo, 1))])


def begin(folder: Path, project: Project) -> Begun:
    """Write darkroom.toml, the systemd unit and the folders of a project; nothing that is there is changed.

    Raises: WrongUse where there is a project already; StorageError where the folder cannot be written.
    """
    folder = folder.absolute()
    if (folder / FILE).exists():
        raise WrongUse(
            "There is a project here already.", file=folder / FILE, todo="change that file, or choose another folder"
        )
    files = {UNIT: unit(folder), FILE: example(project)}  # the file that makes it a project comes last
    try:
        inbox = folder_of_nights(project.place("inbox", folder))
        for place in (project.place("models", folder), project.place("results", folder), inbox):
            if store_address(place) is None:
                Path(place).mkdir(parents=True, exist_ok=True)
        written = []
        for name, text in files.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
            written.append(folder / name)
    except OSError as error:
        raise StorageError(
            f"The project could not be written: {error.strerror}.",
            file=error.filename,
            todo="choose a folder that this user may write, and that has no file of this name",
        ) from error
    return Begun(folder, tuple(written), _warnings(folder), _todo(folder, project))


def unit(folder: Path) -> str:
    """A systemd unit that serves the project: `Ctrl-C` at a stop, and up again after a crash or a reboot."""
    command = Path(sys.executable).with_name("darkroom")
    return f"""# sudo cp {UNIT} /etc/systemd/system/ && sudo systemctl enable --now darkroom
# Or for your user alone: ~/.config/systemd/user/, and systemctl --user.
[Unit]
Description=darkroom: scores the nights of {_escaped(folder)}
After=network.target

[Service]
WorkingDirectory={_escaped(folder)}
ExecStart="{_escaped(command)}" serve
# Under /etc/systemd/system state who runs it, and that user needs a home for Prefect's database:
# User=darkroom
KillSignal=SIGINT
# To darkroom alone: it ends its runs, and the server last.
KillMode=mixed
# Runs at work get twenty seconds to end, then the server stops.
TimeoutStopSec=90
Restart=on-failure
RestartSec=10
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full

[Install]
WantedBy=default.target
"""


def _escaped(path: Path) -> str:
    """A path in a unit: % starts a specifier there."""
    return str(path).replace("%", "%%")


def _warnings(folder: Path) -> tuple[str, ...]:
    found = [name for name in _OURS if (folder / name).exists() or (folder / f"{name}.py").exists()]
    if not found:
        return ()
    return (f"{', '.join(found)} bear names of darkroom's own modules; start with the command darkroom, not python -m",)


def _todo(folder: Path, project: Project) -> tuple[str, ...]:
    inbox = project.place("inbox", folder)
    how = f"{folder_of_nights(inbox)}, a folder a night" if is_a_folder_a_night(inbox) else inbox
    bundle = Path(project.bundle)
    return (
        f"cd {folder}",
        f"darkroom train PHOTOS --models {project.models} --name {bundle.name}    (or darkroom adopt)",
        "darkroom serve    (Prefect's UI, the schedule, the worker)",
        f"put new images into {how}",
    )
