"""What a run is called in the Prefect UI: the night, the bundle, the folder; never a long path."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Final

from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from darkroom.errors import DarkroomError
from darkroom.names import without_credentials
from darkroom.night import night_of
from darkroom.settings import NightOptions
from tasks.report.untrusted import visible

_FIELD: Final = re.compile(r"\{(\w+)\}")
_LONGEST: Final = 60  # characters of one name


def named(*parts: str) -> Callable[[], str]:
    """A `flow_run_name`: the parts one after another, each with one parameter as in " on {data}".

    A part whose parameter is empty is left out. Prefect names a run before it looks at its parameters: whatever they
    are, the run gets a name, and then an error that says what is wrong with them.
    """

    def name() -> str:
        given = _parameters()
        told = "".join(_filled(part, given) for part in parts).strip()
        return told or str(flow_run.flow_name)

    return name


def _filled(part: str, given: Mapping[str, Any]) -> str:
    field = _FIELD.search(part)
    if field is None:
        return part
    told = _SHORT.get(field[1], _last)(given.get(field[1]))
    return part.replace(field[0], told) if told else ""


def _parameters() -> dict[str, Any]:
    """As given to this run, not validated yet; where nothing is given, the flow's default."""
    context = FlowRunContext.get()
    fn = getattr(getattr(context, "flow", None), "fn", None)
    defaults = inspect.signature(fn).parameters.values() if fn is not None else ()
    known = {one.name: one.default for one in defaults if one.default is not inspect.Parameter.empty}
    return {**known, **flow_run.parameters}


def _night(options: Any) -> str:
    """As the flow itself finds it."""
    try:
        wanted = options if isinstance(options, NightOptions) else NightOptions.model_validate(options or {})
        return f"{night_of(wanted, flow_run.scheduled_start_time)}"
    except (DarkroomError, ValueError):
        return ""


def _bundle(path: Any) -> str:
    """`models/parts` is parts, `models/parts/3` parts 3."""
    place = PurePath(str(path or ""))
    if place.name.isdigit() and place.parent.name:
        return f"{_last(place.parent)} {place.name}"
    return _last(path)


def _last(path: Any) -> str:
    """The last name of a path, or the word itself."""
    told = without_credentials(str(path or ""))
    return visible(PurePath(told).name or told, _LONGEST)


_SHORT: Final[Mapping[str, Callable[[Any], str]]] = {"night": _night, "bundle": _bundle}
