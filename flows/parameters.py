"""The parameters that flows share: what the form calls them, and what is looked at before a run does anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic.json_schema import SkipJsonSchema

from darkroom.errors import InboxMissing, WrongUse
from darkroom.forms import grouped, optional, titled
from darkroom.night import folder_of_night, folder_of_nights, is_a_folder_a_night
from darkroom.roots import check_inside
from darkroom.settings import ExaminationOptions, IntakeOptions, NightOptions, RunOptions, TrainingRecipe
from darkroom.storage import storage_at, store_address
from darkroom.trust import trusted_place
from flows.runners import its_cluster
from tasks.bundle import find_bundle
from tasks.bundle.versions import NAME
from tasks.object_inbox import is_there

_LOOK: Final = "look at the path; a relative one is below the folder in which the run works: "


def a_folder(path: Path) -> None:
    """Raises: WrongUse."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        todo = _LOOK + str(Path.cwd())
        raise WrongUse("There is no such folder.", file=path, expected="a folder", found=found, todo=todo)


def a_file(path: Path) -> None:
    """Raises: WrongUse."""
    if not path.is_file():
        found = "a folder" if path.exists() else "nothing"
        todo = _LOOK + str(Path.cwd())
        raise WrongUse("There is no such file.", file=path, expected="a file", found=found, todo=todo)


def a_file_or_folder(path: Path) -> None:
    """Raises: WrongUse."""
    if not path.exists():
        todo = _LOOK + str(Path.cwd())
        raise WrongUse("There is no such file.", file=path, expected="a file or a folder", found="nothing", todo=todo)


def writable_results(path: Path) -> None:
    """Raises: WrongUse where no folder can be made; StorageError where an object store does not answer."""
    if store_address(path) is None:
        writable(path)
    else:
        storage_at(path).exists("commits")


def writable(path: Path) -> None:
    """Raises: WrongUse where no folder can be made."""
    if store_address(path) is not None:
        raise WrongUse("This is written to a disk.", file=store_address(path), todo="name a folder, and copy it then")
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise WrongUse("A folder is to be written here, and there is a file.", file=there, todo="name another folder")
    if not os.access(there, os.W_OK):
        raise WrongUse(
            "This folder cannot be written.",
            file=path,
            found=f"no right to write {there}",
            todo="name another folder, or give the user of the worker the right",
        )


def an_inbox(stated: str) -> None:
    """Whether it stays inside of the roots on any night: what stands in {night:…} may hold more than a date.

    Raises: WrongUse.
    """
    check_inside(stated)
    check_inside(folder_of_night(stated, date(2000, 1, 1)))


def its_places(run: RunOptions) -> None:
    """The folder of the user's own suites, and who else is told or asked. Raises: WrongUse."""
    if run.suites is not None:
        _named("suites", a_folder, run.suites)
    _named("metrics", check_inside, run.metrics or None)
    _named("dask_address", check_inside, run.scheduler or None)


def its_files(recipe: TrainingRecipe) -> None:
    """The files that a recipe names. Raises: WrongUse."""
    _named("preprocessing", a_file, recipe.preprocessing)
    _named("groups", a_file, recipe.groups)
    if recipe.weights not in ("imagenet", "none"):
        _named("weights", check_inside, Path(recipe.weights))
        _named("weights", a_file, Path(recipe.weights))


def delivered(inbox: str, folder: Path, results: Path) -> None:
    """Whether images can have come at all, before the bundle is proved.

    Raises: WrongUse where the folder of this night is a link out of the roots; InboxMissing where the inbox is mistyped
    or not mounted. Where a run was interrupted it may yet have
    something to finish, whatever became of the folder since: it looks for itself.
    """
    _named("inbox", check_inside, folder)
    place = folder_of_nights(inbox) if is_a_folder_a_night(inbox) else folder
    if is_there(place) or storage_at(results).list("staging"):
        return
    raise InboxMissing(
        "There is no folder to take images from.",
        parameter="inbox",
        file=folder,
        expected=f"a folder {place}",
        todo=_LOOK + str(Path.cwd()),
    )


def needs_no_signature(promote: bool) -> None:
    """Raises: WrongUse for a version that would be in use before anybody could have signed it."""
    if promote and trusted_place() is not None:
        raise WrongUse(
            "A version cannot be put into use as it is sealed: bundles must be signed here.",
            expected="a version that is signed first: darkroom sign, then darkroom promote",
            todo="seal it without putting it into use",
        )


def _named(field: str, look: Callable[[Any], None], place: Path | str | None) -> None:
    try:
        if place is not None:
            look(place)
    except WrongUse as error:
        error.parameter = field
        raise


# The form shows no name as an empty input.
NAME_PATTERN: Final = f"^{NAME}$"
NAME_OR_NOTHING: Final = f"^({NAME})?$"

BundlePath = Annotated[Path, titled("Bundle", find_bundle, minLength=1)]
InboxPath = Annotated[str, titled("Inbox", an_inbox, minLength=1)]
ResultsPath = Annotated[Path, titled("Results", writable_results, minLength=1)]
ModelsPath = Annotated[Path, titled("Models", writable, minLength=1)]
PageFolder = Annotated[Path | SkipJsonSchema[None], optional("Folder of the page", writable)]
Promote = Annotated[bool, titled("Put into use", needs_no_signature)]
NightForm = Annotated[NightOptions, grouped("Which night")]
IntakeForm = Annotated[IntakeOptions, grouped("Intake")]
RunForm = Annotated[RunOptions, grouped("The run", its_places, its_cluster)]
RecipeForm = Annotated[TrainingRecipe, grouped("Recipe", its_files)]
ExaminationForm = Annotated[ExaminationOptions, grouped("Examination")]
