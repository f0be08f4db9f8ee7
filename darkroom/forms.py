"""What the forms of the Prefect UI are told beside a name and a type, and how a wrong value of a parameter is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    WrapValidator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from darkroom.errors import DarkroomError, WrongUse
from darkroom.roots import check_inside

# The server looks at patterns, and not at formats.
DAY: Final = r"^\d{4}-\d{2}-\d{2}$"
# Neither is the name of a place: the one is another name for whatever this machine has, the other for none.
_NO_ZONES: Final = frozenset({"localtime", "Factory"})


def _as_shown(schema: dict[str, Any]) -> None:
    """What pydantic says of a group of fields, as the form shows it best."""
    for position, field in enumerate(schema.get("properties", {}).values()):
        # Postgres keeps JSON in an order of its own.
        field.setdefault("position", position)
        values = [value for value in field.get("anyOf", []) if value != {"type": "null"}]
        if field.get("default", ...) is None and len(values) == 1:
            # `int | None` would be shown as two buttons, int and None. An input that may stay empty says the same, and
            # the server takes null for a field that has a type and no default.
            del field["anyOf"], field["default"]
            field.update(values[0])
        if field.get("format") == "date":
            field["pattern"] = DAY
        if isinstance(field.get("default"), float):
            field["default"] = float(f"{field['default']:.4g}")


class Form(BaseModel):
    """A group of parameters. The form shows its fields in the order of the class; an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_as_shown)


def in_words(form: type[Form], field: str) -> str:
    """What the form says of a field, in one line: the help of a command says the same."""
    told = form.model_fields[field]
    return f"{told.title}. {told.description}"


def titled(title: str, *looks: Callable[[Any], object], **schema: Any) -> Any:
    """What is said of a parameter of a flow behind its type.

    As in `folder: Annotated[Path, titled("Photos", a_folder)]`.

    title
        What the form calls it; Prefect itself shows the bare name.
    looks
        What looks at the value before the run does anything, and raises an error of ours. The error names the
        parameter; so does that for a value of another type, which Prefect would tell in pydantic's words. A path
        reaches them only where it is inside of the roots (`darkroom.roots`).
    schema
        More of the JSON schema: what the form itself can refuse.
    """

    def check(value: Any, handler: Callable[[Any], Any], info: ValidationInfo) -> Any:
        name = info.field_name or ""
        try:
            found = handler(value)
            _stay_inside(found)
            for look in looks:
                look(found)
        except ValidationError as error:
            raise wrong_parameter(error, name) from None
        except DarkroomError as error:
            error.parameter = name if error.parameter is None else f"{name}.{error.parameter}"
            raise
        return found

    field: FieldInfo = Field(json_schema_extra={"title": title, **schema})
    field.metadata.append(WrapValidator(check))
    return field


def _stay_inside(value: Any) -> None:
    """Raises: WrongUse for a path outside of the roots; in a group, it names the field."""
    for field, path in _paths(value):
        try:
            check_inside(path)
        except WrongUse as error:
            error.parameter = field or None
            raise


def _paths(value: Any, field: str = "") -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield field, value
    elif isinstance(value, Form):
        for name, inner in value:
            yield from _paths(inner, f"{field}.{name}".lstrip("."))


def optional(title: str, *looks: Callable[[Any], object], **schema: Any) -> Any:
    """A parameter that may be None: its input may stay empty. Behind its type, as in `Path | SkipJsonSchema[None]`."""

    def look_at_something(value: Any) -> None:
        for look in looks if value is not None else ():
            look(value)

    field: FieldInfo = titled(title, look_at_something, default="", **schema)
    field.metadata.append(BeforeValidator(lambda value: None if value == "" else value))
    return field


def grouped(title: str, *looks: Callable[[Any], object]) -> Any:
    """A parameter that is a `Form`: its fields say their defaults themselves."""
    return titled(title, *looks, default={})


def wrong_parameter(error: ValidationError, *group: str) -> WrongUse:
    """The first thing that pydantic found wrong, as our error; `group` is the parameter that holds the field."""
    first = error.errors()[0]
    name = ".".join(map(str, (*group, *first["loc"])))
    if first["type"] == "extra_forbidden":
        return WrongUse("There is no such parameter.", found=first["input"], parameter=name)
    return WrongUse(
        "A parameter has a wrong value.",
        expected=first["msg"].removeprefix("Value error, ").removeprefix("Input should be "),
        found=None if name.endswith("metrics") else first["input"],  # an address that may hold a password
        parameter=name,
    )


class _Zones:
    """The names of all time zones: a list to choose from."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), "enum": sorted(available_timezones() - _NO_ZONES)}


def _a_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("the name of a time zone, such as Europe/Berlin or UTC")
    return name


TimeZone = Annotated[str, AfterValidator(_a_zone), _Zones()]
