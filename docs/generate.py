"""Writes docs/reference/*.md from the code: `python -m docs.generate`. A test holds the pages to it."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from docs import licences
from docs.markdown import cell, code, default_of, first, model_fields, table, what_it_is

FOLDER: Final = Path(__file__).parent / "reference"
HEAD: Final = "<!-- Written from the code by `python -m docs.generate`: change the code, and run it. -->\n\n"


def parameters() -> str:
    """The parameters of every flow, and the groups that several of them take."""
    from darkroom.orchestrator.deployments import DEPLOYMENTS
    from darkroom.project import Project, Schedule

    pages, groups = [], {}
    for entry in DEPLOYMENTS:
        module, _, name = entry.entrypoint.rpartition(".")
        schema = getattr(importlib.import_module(module), name).parameters.model_dump_for_openapi()
        groups |= schema.get("definitions", {})
        pages.append(f"\n## {entry.name}\n\n{entry.description}\n\n{_fields(schema, groups)}")
    told = [
        f"\n### {_group_title(name)}\n\n{first(schema['description'])}\n\n{_fields(schema, groups)}"
        for name, schema in sorted(groups.items())
        if "properties" in schema
    ]
    settings = [
        [code(f"{group}{name}"), default_of({"default": field.default}, False), field.description or ""]
        for group, form in (("", Project), ("schedule.", Schedule))
        for name, field in form.model_fields.items()
        if field.description
    ]
    return (
        "# Parameters\n\n"
        "Each deployment has a form in the Prefect UI; this is what it asks for. A program gives the names of the "
        "first column, those of a group in a dictionary: "
        "`run_deployment('score/score', parameters={'run': {'shard_size': 500}})`. "
        "A wrong value is refused by the form, or told at once by the run, with its name.\n"
        + "".join(pages)
        + "\n## Groups\n"
        + "".join(told)
        + "\n## darkroom.toml\n\nThe settings of `[intake]` and `[run]` are those of the groups.\n\n"
        + table(["setting", "default", "what it is"], settings)
    )


def _fields(schema: dict[str, Any], groups: dict[str, Any]) -> str:
    rows = []
    for name, field in schema["properties"].items():
        group = field["$ref"].rpartition("/")[2] if "$ref" in field else None
        needed = name in schema.get("required", [])
        kind = (
            f"[{_group_title(group)}](#{_anchor(_group_title(group))})" if group else what_it_is(_whole(field, groups))
        )
        # pydantic does not repeat what the group says of itself.
        told = field.get("description") or groups[str(group)]["description"]
        rows.append([code(name), field["title"], kind, "" if group else default_of(field, needed), told])
    return table(["parameter", "in the form", "type", "default", "what it is"], rows)


def _whole(field: dict[str, Any], groups: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in field.get("items", {}):
        return {**field, "items": groups[field["items"]["$ref"].rpartition("/")[2]]}
    return field


def _group_title(name: str) -> str:
    return name.removesuffix("Options")


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def schemas() -> str:
    """Columns of the Parquet files, fields of the JSON files."""
    from darkroom import schemas as known
    from darkroom.acknowledgements import Acknowledgement
    from darkroom.decisions import Decision
    from darkroom.forgotten import Forgotten, RowsForgotten
    from darkroom.results import Commit, Part, Stored
    from darkroom.summary import (
        AccuracyEstimate,
        CauseFound,
        Counts,
        ExpectationResult,
        Finding,
        Harm,
        NightSummary,
        Share,
        Whence,
    )
    from tasks.bundle import BundleManifest

    told = []
    beside = {"labels": known.LABELS, "profile": known.PROFILE}
    for name, schema in {**known.DATASETS, **beside}.items():
        where = {
            "labels": "`results/labels/<n>.parquet`; what each means: [The results](../results.md#labels).",
            "profile": "`profile.parquet` of a bundle: one row a training or validation image.",
        }.get(name, f"`results/{name}/`; what each means: [The results](../results.md#{name}).")
        properties = {field.name for field in known.PROPERTY_FIELDS}
        rows = [
            [code(field.name), str(field.type), "yes" if field.nullable else ""]
            for field in schema
            if field.name not in properties
        ]
        more = "" if properties.isdisjoint(schema.names) else "\nand the [image properties](#image-properties).\n"
        told.append(f"\n### {name}\n\n{where}\n\n{table(['column', 'type', 'may be null'], rows)}{more}")
    rows = [
        [code(field.name), str(field.type), "yes" if field.name in known.NULLABLE_PROPERTIES else ""]
        for field in known.PROPERTY_FIELDS
    ]
    models = {
        "bundle.json": BundleManifest,
        "commits/<bundle>/<n>.json": Commit,
        "Part": Part,
        "Stored": Stored,
        "NightSummary": NightSummary,
        "Counts": Counts,
        "Whence": Whence,
        "Finding": Finding,
        "ExpectationResult": ExpectationResult,
        "CauseFound": CauseFound,
        "AccuracyEstimate": AccuracyEstimate,
        "Share": Share,
        "Harm": Harm,
        "acknowledgements/<bundle>/<n>.json": Acknowledgement,
        "decisions/<n>.json": Decision,
        "forgotten/<n>.json": Forgotten,
        "RowsForgotten": RowsForgotten,
    }
    return (
        "# Schemas\n\n## Parquet\n\n"
        f"Version {known.RESULTS_SCHEMA_VERSION}, which stands in the metadata of each file as "
        "`darkroom_results_schema`. `bundle`, `night` and `run` are names of folders, and columns for whoever reads a "
        "dataset.\n" + "".join(told) + "\n### Image properties\n\nIn `predictions` and in `profile`; what each means: "
        "[The results](../results.md#image-properties).\n\n"
        + table(["column", "type", "may be null"], rows)
        + "\n## JSON\n"
        + "".join(
            f"\n### {cell(name)}\n\n{first(model.__doc__)}\n\n{model_fields(model)}" for name, model in models.items()
        )
    )


def events() -> str:
    """What the server is told beside the states of runs, and each payload."""
    from darkroom.orchestrator.events import EVENTS, EstimateTold
    from darkroom.summary import Counts

    told = []
    for payload in dict.fromkeys(EVENTS.values()):
        names = ", ".join(name for name, kind in EVENTS.items() if kind is payload)
        when = " ".join((inspect.getdoc(payload) or "").split())
        told.append(f"\n## {names.replace('darkroom.', '')}\n\n{when}\n\n{model_fields(payload)}")
    parts = "".join(
        f"\n## {part.__name__}\n\n{first(part.__doc__)}\n\n{model_fields(part)}" for part in (EstimateTold, Counts)
    )
    return (
        "# Events\n\n"
        "What a Prefect server is told beside the states of runs. They are in the UI under *Event Feed*; automations "
        "listen to their names, and find these fields in `event.payload`.\n" + "".join(told) + parts
    )


def reasons() -> str:
    """Every word that stands in the results, and what it means."""
    from darkroom.reasons import MEANINGS, Reason

    told = []
    for words, meanings in MEANINGS.items():
        rows = [[code(word), meanings[word]] for word in words]
        head = ["word", "meaning"]
        if words is Reason:
            head = ["word", "comes back by itself", "meaning"]
            rows = [[code(word), "yes" if word.retryable else "no", word.sentence] for word in Reason]
        told.append(f"\n## {HEADINGS[words.__name__]}\n\n{first(words.__doc__)}\n\n{table(head, rows)}")
    return "# Reasons and verdicts\n" + "".join(told)


HEADINGS: Final = {
    "FileStatus": "Status of a path",
    "Reason": "Reasons of the quarantine",
    "Verdict": "Verdict of an image",
    "NightVerdict": "Verdict of a night",
    "Suspicion": "Why an image is suspect",
    "FileMistake": "Mistakes before the inbox",
    "NightCause": "Cause of a night",
    "Grade": "How sure a cause is",
}


def errors() -> str:
    """The tree of errors: when each is raised, and what to do."""
    from darkroom import errors as known

    tree = re.sub(r" +exit code \d", "", (known.__doc__ or "").split("\n\n")[1])
    kinds = [kind for _, kind in inspect.getmembers(known, inspect.isclass) if issubclass(kind, known.DarkroomError)]
    rows = []
    for kind in sorted(kinds, key=lambda kind: tree.find(kind.__name__)):
        when, _, todo = (inspect.getdoc(kind) or "").partition("To do:")
        rows.append([code(kind.__name__), str(kind.exit_code), when.strip(), todo.strip()])
    fields = known.WrongUse("").as_dict()
    return (
        f"# Errors\n\n```\n{tree}\n```\n\n"
        "Each says what happened, and where it is known: the parameter, the file, what was expected and found, and "
        "what to do. A command ends with the exit code; a run in the Prefect UI shows the same text as its message.\n\n"
        + table(["error", "exit code", "when", "what to do"], rows)
        + f"\nWith `--json` a command prints one object with {', '.join(map(code, fields))}.\n"
    )


def commands() -> str:
    """Every command with its arguments and options; exit codes; the environment."""
    import typer.main

    from darkroom.cli import app
    from darkroom.environment import READ, SET

    group: Any = typer.main.get_command(app)
    told = [f"\n## darkroom {name}\n\n{first(one.help)}\n\n{_options(one)}" for name, one in group.commands.items()]
    return (
        "# Commands\n\n"
        + "\n\n".join(paragraph.replace("\n", " ") for paragraph in app.info.help.split("\n\n"))  # type: ignore[union-attr]
        + "\n\n`darkroom --version` says which it is, `darkroom COMMAND --help` the same as here.\n"
        + f"\n## Before the command\n\n{_options(group)}"
        + "".join(told)
        + "\n## Environment\n\n"
        + table(["variable", "what it does"], [[code(name), what] for name, what in READ.items()])
        + "\nAlways set, for itself and for what it starts:\n\n"
        + table(["variable", "to"], [[code(name), what] for name, what in SET.items()])
    )


def _options(command: Any) -> str:
    rows = []
    for one in command.params:
        names = ", ".join(map(code, [*one.opts, *one.secondary_opts]))
        argument = one.param_type_name == "argument"
        default = one.default() if callable(one.default) else one.default
        shown = default_of({"default": str(default) if isinstance(default, Path) else default}, one.required)
        rows.append([f"`{one.name.upper()}`" if argument else names, _typed(one), shown, one.help or ""])
    return table(["", "type", "default", "what it is"], rows)


def _typed(option: Any) -> str:
    kind = option.type_descriptor.annotation
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    kind = next((one for one in get_args(kind) if one is not type(None)), kind)
    words = {
        Path: "path",
        str: "text",
        int: "whole number",
        float: "number",
        bool: "yes or no",
        datetime: "date",
        date: "date",
    }
    if inspect.isclass(kind) and issubclass(kind, StrEnum):
        choices = tuple(kind)
    said = "one of " + ", ".join(map(code, choices)) if choices else words[kind]
    return f"{said}, once or more often" if option.multiple or option.nargs == -1 else said


def attacks() -> str:
    """What is tried, kind by kind, and what refuses it."""
    from tests.attacks import ATTACKS

    told = [
        f"\n## {kind}\n\n{about}\n\n"
        + table(
            ["what somebody does", "what refuses it"],
            [[cell(one.does), cell(one.refused_by)] for one in ATTACKS if one.kind == kind],
        )
        for kind, about in _ATTACKED.items()
    ]
    return (
        "# Attacks\n\n"
        f"{len(ATTACKS)} attacks by name, of the table `tests/attacks.py`: each is carried out by the tests and by "
        "`python -m benchmarks trust attacks`, and each is refused with its message. What they are about: "
        "[What a bundle may and may not do](../trust.md), [Where runs may read and write](../operations.md#where-runs-"
        "may-read-and-write).\n" + "".join(told)
    )


_ATTACKED: Final = {
    "form": "Whoever reaches the Prefect UI types into the form of a deployed run; roots are the project's folder and "
    "`s3://photos/parts`. *Elsewhere* is outside of them.",
    "paths": "Names that are asked of the server of pages, that lie in an inbox, or that are keys of the results.",
    "bundle": "A bundle that somebody else has made or changed is opened.",
    "html": "Texts that come from files (names, EXIF, labels, classes) or from people stand on pages.",
    "markdown": "The same in artifacts, which the Prefect UI renders with raw HTML in them.",
    "terminal": "The same in terminals and logs.",
    "csv": "Tables that a person opens in a spreadsheet.",
    "secrets": "Somebody writes a name and a password, or a key, where they do not belong.",
}

PAGES: Final[dict[str, Callable[[], str]]] = {
    "parameters": parameters,
    "schemas": schemas,
    "events": events,
    "reasons": reasons,
    "errors": errors,
    "attacks": attacks,
    "commands": commands,
    "licences": licences.page,
}


def pages() -> Iterator[tuple[Path, str]]:
    """Each page's file and text."""
    for name, write in PAGES.items():
        yield FOLDER / f"{name}.md", HEAD + write()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, text in pages():
        file.write_text(text, encoding="utf-8")
        print(file)
