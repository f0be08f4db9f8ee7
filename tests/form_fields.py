"""A form as the Prefect UI shows it: its fields, one by one, and what is wrong with them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from darkroom.orchestrator.deployments import DEPLOYMENTS


@dataclass(frozen=True)
class FormField:
    """An input, or a group of inputs. `path`: as errors name it, such as run.shard_size."""

    path: str
    schema: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def group(self) -> str:
        return self.path.rpartition(".")[0]


def flow_of(name: str) -> Any:
    """The flow of a deployment."""
    entrypoint = next(entry.entrypoint for entry in DEPLOYMENTS if entry.name == name)
    module, _, function = entrypoint.rpartition(".")
    return getattr(importlib.import_module(module), function)


def fields(schema: dict[str, Any]) -> list[FormField]:
    """All of a form, groups before what is in them."""
    return list(_walk(schema, schema.get("definitions", {}), ""))


def _walk(schema: dict[str, Any], definitions: dict[str, Any], group: str) -> Iterator[FormField]:
    for name, shown in schema.get("properties", {}).items():
        # What stands beside a reference wins, in the form.
        group_of = definitions[shown["$ref"].rpartition("/")[2]] if "$ref" in shown else {}
        whole = {**group_of, **{key: value for key, value in shown.items() if key != "$ref"}}
        path = f"{group}.{name}" if group else name
        yield FormField(path, whole)
        yield from _walk(group_of, definitions, path)


def faults(field: FormField) -> list[str]:
    """What a person would miss or see badly, in words."""
    schema = field.schema
    title, told = schema.get("title", ""), schema.get("description", "")
    automatic = {field.name, field.name.replace("_", " ").title()} if "_" in field.name else {field.name}
    union = any(word in schema for word in ("anyOf", "oneOf", "allOf")) or isinstance(schema.get("type"), list)
    wrong = {
        "has no title of its own": not title or title in automatic,
        "is not explained": len(told) < 5 or told.rstrip()[-1] not in ".?",
        "is explained in Markdown, which the form does not know": "`" in told or "**" in told,
        "is a union: the form shows buttons": union,
        "has no type": not union and "type" not in schema,
        "is a duration": schema.get("format") in ("duration", "time-delta"),
        "is a choice of one": "const" in schema or len(schema.get("enum", "ab")) < 2,
    }
    return [fault for fault, is_so in wrong.items() if is_so]
