"""How the reference says things: tables, types and bounds in words, the fields of a model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what a cell may not hold is written so that it may."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines) + "\n"


def cell(text: str) -> str:
    """Text as it may stand in a table."""
    # Angle brackets outside of code would be read as HTML.
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def code(value: object) -> str:
    """As it is typed."""
    return f"`{value}`"


def what_it_is(schema: dict[str, Any]) -> str:
    """The type of a field, and its bounds, in words."""
    if "enum" in schema:
        choices = schema["enum"]
        return "the name of a time zone" if "Europe/Berlin" in choices else "one of " + ", ".join(map(code, choices))
    kind = {
        "integer": "whole number",
        "number": "number",
        "boolean": "yes or no",
        "object": "numbers by name",
        "string": {"path": "path", "date": "date"}.get(schema.get("format", ""), "text"),
    }.get(schema["type"], "")
    if schema["type"] == "array":
        return f"list of {what_it_is(schema['items'])}" if "type" in schema["items"] else "list"
    bounds = [
        f"{sign} {schema[word]}"
        for word, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤"))
        if word in schema
    ]
    return ", ".join([kind, *bounds])


def default_of(schema: dict[str, Any], required: bool) -> str:
    """What it is where nobody says."""
    if required:
        return "needed"
    default = schema.get("default")
    if default in (None, "", [], {}):
        return "empty"
    return ("yes" if default else "no") if isinstance(default, bool) else code(default)


def first(text: str | None) -> str:
    """The first paragraph of a docstring."""
    return " ".join((inspect.cleandoc(text or "")).split("\n\n")[0].split())


def model_fields(model: Any) -> str:
    """The fields of a pydantic model."""
    rows = [
        [code(name), _type(field.annotation), field.description or ""] for name, field in model.model_fields.items()
    ]
    rows += [
        [code(name), _type(field.return_type), first(inspect.getdoc(field.wrapped_property))]
        for name, field in model.model_computed_fields.items()
    ]
    return table(["field", "type", "what it is"], rows)


def _type(annotation: Any) -> str:
    # Where a type is defined is nothing that a reader of files asks.
    text = re.sub(r"\b(?:\w+\.)+(?=\w)", "", inspect.formatannotation(annotation))
    return code(text.replace(" | ", " or "))
