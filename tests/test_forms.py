"""The forms of the deployments: every parameter is explained and has a fitting input; a wrong value is told by name."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic import Field

from darkroom.errors import DarkroomError
from darkroom.forms import Form, grouped, optional, titled
from darkroom.orchestrator.deployments import DEPLOYMENTS
from darkroom.project import Project
from darkroom.recipe import Backbone
from tasks.bundle import Bundle
from tests.form_fields import FormField, faults, fields, flow_of

# Prefect's imports are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = [entry.name for entry in DEPLOYMENTS]


@cache
def fields_of(name: str) -> list[FormField]:
    return fields(flow_of(name).parameters.model_dump_for_openapi())


FIELDS = [(name, field) for name in NAMES for field in fields_of(name)]


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=lambda value: value if isinstance(value, str) else value.path)
def test_every_parameter_is_explained_and_is_shown_well(name: str, field: FormField) -> None:
    assert faults(field) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_of_a_flow_is_documented_also_where_no_form_shows_it(name: str) -> None:
    from prefect.utilities.callables import parameter_docstrings

    function = flow_of(name).fn
    assert list(parameter_docstrings(inspect.getdoc(function))) == list(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_the_fields_of_a_form_stand_in_the_order_of_the_code_whatever_the_database_makes_of_json(name: str) -> None:
    by_group: dict[str, list[int]] = {}
    for field in fields_of(name):
        by_group.setdefault(field.group, []).append(field.schema["position"])
    assert all(positions == sorted(set(positions)) for positions in by_group.values())


class Look(Form):
    """A group."""

    well: int | None = Field(default=None, ge=1, title="Well", description="May stay empty.")
    so_named: int = Field(default=1, description="Has no title of its own.")
    silent: int = Field(default=1, title="Silent")


def _bad(
    bare: int,
    silent: Annotated[int, titled("Silent")],
    code: Annotated[int, titled("Code")],
    needed: Annotated[int, titled("Needed")],
    good: Annotated[Path | None, optional("Good")] = None,
    pause: Annotated[timedelta, titled("Pause")] = timedelta(seconds=2),
    one: Annotated[Literal["only"], titled("One choice")] = "only",
    either: Annotated[int | str, titled("Either")] = 1,
    anything: Annotated[Any, titled("Anything")] = 1,
    look: Annotated[Look, grouped("Look")] = Look(),  # noqa: B008
) -> None:
    """A form as it should not be.

    Args:
        bare: Has no title.
        code: Written as `code`.
        needed: A number.
        good: May stay empty.
        pause: A duration.
        one: A choice of one.
        either: Two that look alike.
        anything: No type.
        look: A group.

    """


FAULTS = {
    "bare": ["has no title of its own"],
    "silent": ["is not explained"],
    "code": ["is explained in Markdown, which the form does not know"],
    "needed": [],
    "good": ["is a union: the form shows buttons"],
    "pause": ["is a duration"],
    "one": ["is a choice of one"],
    "either": ["is a union: the form shows buttons"],
    "anything": ["has no type"],
    "look": [],
    "look.well": [],
    "look.so_named": ["has no title of its own"],
    "look.silent": ["is not explained"],
}


def test_what_a_form_shows_badly_is_found() -> None:
    from prefect.utilities.callables import parameter_schema

    found = {field.path: faults(field) for field in fields(parameter_schema(_bad).model_dump_for_openapi())}
    assert found == FAULTS


# What the server says when a run is to be created, in the form and to programs. A run of these values never begins.
REFUSED = {
    "no images in a shard": ("score", {"run": {"shard_size": 0}}, "'run.shard_size'", "minimum of 1"),
    "more processes than fit": ("score", {"run": {"processes": 1000}}, "'run.processes'", "maximum of 256"),
    "a policy that does not exist": ("score", {"run": {"on_alarm": "panic"}}, "'run.on_alarm'", "is not one of"),
    "no time zone": ("score", {"night": {"timezone": "Mars/Base"}}, "'night.timezone'", "'Mars/Base' is not one of"),
    "no date": ("score", {"night": {"night": "yesterday"}}, "'night.night'", "does not match"),
    "a number in words": ("score", {"intake": {"expect_at_least": "many"}}, "'intake.expect_at_least'", "not valid"),
    "an unknown field": ("score", {"run": {"shards": 3}}, "'run'", "'shards' was unexpected"),
    "an unknown parameter": ("score", {"shards": 3}, "'shards' was unexpected"),
    "no inbox": ("score", {"inbox": ""}, "'inbox'", "non-empty"),
    "no photos": ("train", {}, "'folder' is a required property"),
    "no backbone": ("train", {"folder": "a", "recipe": {"backbone": "Net"}}, "'recipe.backbone'", "is not one of"),
    "nothing to train on": (
        "train",
        {"folder": "a", "recipe": {"validation_share": 0.95}},
        "'recipe.validation_share'",
        "maximum of 0.9",
    ),
    "noise beyond white": (
        "train",
        {"folder": "a", "recipe": {"augmentation": {"noise": 2}}},
        "'recipe.augmentation.noise'",
        "maximum of 1",
    ),
    "no name": ("train", {"folder": "a", "name": "my model"}, "'name'", "does not match"),
    "a name out of the folder": ("adopt", {"model": "a", "data": "b", "name": "../x"}, "'name'", "does not match"),
    "a negative size": ("adopt", {"model": "a", "data": "b", "image_size": -1}, "'image_size'", "minimum of 0"),
    "groups by column": ("adopt", {"model": "a", "data": "b", "group_by": "column"}, "'group_by'", "is not one of"),
    "no predictions": ("diagnose", {"images": "a", "predictions": ""}, "'predictions'", "non-empty"),
    "code from afar": ("diagnose", {"images": "a", "call": "os:system"}, "'call' was unexpected"),
    "no first night": ("backfill", {"start": "monday", "end": "2026-11-23"}, "'start'", "does not match"),
    "more at once than there may be": (
        "backfill",
        {"start": "2026-11-22", "end": "2026-11-23", "at_once": 9},
        "'at_once'",
        "maximum of 8",
    ),
    "a reason that does not exist": ("quarantine", {"reasons": ["ugly"]}, "'reasons[0]'", "is not one of"),
    "labels by number": ("evaluate", {"labels": 3}, "'labels'", "is not of type 'string'"),
}


@pytest.fixture(scope="module")
def server(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a server that knows the deployments."""
    from prefect.client.orchestration import get_client

    from darkroom.orchestrator.deployments import make_pool, register

    with get_client(sync_client=True) as client:
        make_pool(client)
        register(client, tmp_path_factory.mktemp("served"), Project(), schedule_is_active=False)
        yield client


@pytest.mark.parametrize(("name", "parameters", "says"), [(n, p, s) for n, p, *s in REFUSED.values()], ids=REFUSED)
def test_a_wrong_value_is_refused_by_the_form_and_named(
    server: Any, name: str, parameters: dict[str, Any], says: list[str]
) -> None:
    from prefect.exceptions import PrefectHTTPStatusError

    deployment = server.read_deployment_by_name(f"{name}/{name}")
    with pytest.raises(PrefectHTTPStatusError, match="Error creating flow run") as refused:
        server.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    assert all(one in str(refused.value) for one in says), str(refused.value)


EMPTY = {
    "numbers, dates and folders": (
        "score",
        {"night": {"night": None}, "intake": {"expect_at_least": None}, "run": {"processes": None, "suites": None}},
    ),
    "files and names": ("adopt", {"model": "a", "data": "b", "labels": "", "name": "", "consent": []}),
    "arguments and files of a recipe": (
        "train",
        {"folder": "a", "recipe": {"backbone_arguments": {"alpha": 0.35}, "preprocessing": None, "groups": None}},
    ),
}


@pytest.mark.parametrize(("name", "parameters"), EMPTY.values(), ids=EMPTY)
def test_an_input_that_may_stay_empty_may(server: Any, name: str, parameters: dict[str, Any]) -> None:
    deployment = server.read_deployment_by_name(f"{name}/{name}")
    run = server.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    server.delete_flow_run(run.id)


def test_an_empty_input_is_no_path(tmp_path: Path) -> None:
    given = {"model": tmp_path, "data": tmp_path, "labels": ""}
    assert flow_of("adopt").validate_parameters(given)["labels"] is None


# What no form can know is told by the run, before anything else: name, parameters, the parameter at fault, its error.
TOLD = {
    "a bundle that is not there": ("verify", {"bundle": "nowhere"}, "bundle", "There is no bundle here."),
    "a folder that is no bundle": ("verify", {"bundle": "."}, "bundle", "There is no bundle here."),
    "photos that are not there": ("train", {"folder": "nowhere"}, "folder", "There is no such folder."),
    "photos that are a file": ("train", {"folder": "file"}, "folder", "found: a file"),
    "models in a file": ("train", {"folder": ".", "models": "file/models"}, "models", "there is a file"),
    "a preprocessing that is not there": (
        "train",
        {"folder": ".", "recipe": {"preprocessing": "own.json"}},
        "recipe.preprocessing",
        "There is no such file.",
    ),
    "weights that are not there": (
        "train",
        {"folder": ".", "recipe": {"weights": "mine.keras"}},
        "recipe.weights",
        "There is no such file.",
    ),
    "an inbox that is not there": ("score", {"inbox": "in"}, "inbox", "There is no folder to take images from."),
    "an inbox whose nights are not there": ("score", {"inbox": "in/{night}"}, "inbox", "expected: a folder in"),
    "suites that are not there": (
        "score",
        {"inbox": ".", "run": {"suites": "mine"}},
        "run.suites",
        "There is no such folder.",
    ),
    "results in a file": ("score", {"inbox": ".", "results": "file"}, "results", "there is a file"),
    "a model that is not there": ("adopt", {"model": "a.h5", "data": "."}, "model", "There is no such file."),
    "labelled photos that are not there": ("adopt", {"model": "file", "data": "x"}, "data", "no such folder"),
    "a preset that does not exist": (
        "adopt",
        {"model": "file", "data": ".", "preprocessing": "squash"},
        "preprocessing",
        "There is no such preparation.",
    ),
    "names that are not there": ("adopt", {"model": "file", "data": ".", "labels": "l"}, "labels", "no such file"),
    "training photos that are not there": ("audit", {"data": "nowhere"}, "data", "There is no such folder."),
    "images that are not there": (
        "diagnose",
        {"images": "nowhere", "predictions": "file"},
        "images",
        "There is no such folder.",
    ),
    "nothing to diagnose": ("diagnose", {"images": "."}, "predictions", "There is nothing to diagnose."),
    "labels that are not there": ("evaluate", {"labels": "l.csv"}, "labels", "There is no such file."),
    "an image that is not there": ("explain", {"image": "nowhere.jpg"}, "image", "There is no such file."),
    "an image that is a folder": ("explain", {"image": "."}, "image", "found: a folder"),
    "a seal without a reason": ("reseal", {"agreed": True}, "reason", "expected: a reason in words"),
    "a last night before the first": (
        "backfill",
        {"start": "2026-01-05", "end": "2026-01-03", "inbox": "{night}"},
        "end",
        "expected: not before 2026-01-05\n  found: 2026-01-03",
    ),
    "one folder for all nights": (
        "backfill",
        {"start": "2026-01-05", "end": "2026-01-06", "inbox": "."},
        "inbox",
        "expected: a path that holds the whole date",
    ),
    "a release without a reason": ("quarantine", {"action": "release"}, "note", "Nobody says why."),
    # Programs may ask the server not to look, and there is a switch for that in the form.
    "a time zone that nobody looked at": (
        "score",
        {"inbox": ".", "night": {"timezone": "Mars/Base"}},
        "night.timezone",
        "expected: the name of a time zone, such as Europe/Berlin or UTC\n  found: Mars/Base",
    ),
    "a date that nobody looked at": (
        "score",
        {"inbox": ".", "night": {"night": "yesterday"}},
        "night.night",
        "expected: a valid date",
    ),
    "a field that nobody looked at": ("score", {"inbox": ".", "run": {"shards": 3}}, "run.shards", "no such parameter"),
    "a number that nobody looked at": (
        "adopt",
        {"model": "file", "data": ".", "image_size": -1},
        "image_size",
        "expected: greater than or equal to 0\n  found: -1",
    ),
}


@pytest.mark.parametrize(("name", "parameters", "at_fault", "says"), TOLD.values(), ids=TOLD)
def test_a_wrong_value_fails_the_run_at_once_and_is_named(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api: str,
    name: str,
    parameters: dict[str, Any],
    at_fault: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("{}")
    flow = flow_of(name)
    takes = inspect.signature(flow.fn).parameters
    given = {"bundle": tiny_bundle.path, **parameters} if "bundle" in takes else parameters
    started = time.monotonic()
    state = flow(**given, return_state=True)
    assert time.monotonic() - started < 5
    assert state.is_failed()
    # This is what the page of the run says.
    assert f"  parameter: {at_fault}\n" in state.message
    assert says in state.message
    with pytest.raises(DarkroomError) as error:
        state.result()
    assert error.value.parameter == at_fault


def test_a_wrong_value_is_told_before_anything_heavy_is_imported(
    tiny_bundle: Bundle, tmp_path: Path, prefect_api: str
) -> None:
    code = f"""
        import sys
        from flows.score import score
        from flows.train import train

        calls = (lambda: train(folder="nowhere"), lambda: score(bundle={str(tiny_bundle.path)!r}, inbox="nowhere"))
        for call in calls:
            try:
                call()
            except Exception as error:
                print(type(error).__name__)
        print([one for one in ("tensorflow", "keras", "great_expectations", "matplotlib") if one in sys.modules])
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.stdout.splitlines() == ["WrongUse", "InboxMissing", "[]"], done.stderr


def test_what_an_interrupted_run_left_is_finished_although_its_inbox_is_gone(tmp_path: Path) -> None:
    from darkroom.errors import InboxMissing
    from flows.parameters import delivered

    gone = tmp_path / "inbox"
    with pytest.raises(InboxMissing):
        delivered(str(gone), gone, tmp_path)
    (tmp_path / "staging" / "a-run").mkdir(parents=True)
    delivered(str(gone), gone, tmp_path)


def test_the_backbones_to_choose_from_are_those_of_keras_and_our_small_one() -> None:
    import keras

    there = {name for name in dir(keras.applications) if name[0].isupper()}
    assert there == set(get_args(Backbone)) - {"SmallConvNet"}


COMMANDS = ["train", "adopt", "audit", "diagnose", "evaluate", "explain", "reseal", "score"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_the_form_of_its_flow_begin_with_the_same_values(name: str) -> None:
    import typer.main

    from darkroom.cli import app

    group: Any = typer.main.get_command(app)
    shown = {field.name: field.schema for field in fields_of(name)}
    both = [option for option in group.commands[name].params if option.name in shown]
    assert len(both) > 2
    for option in both:
        default = option.default() if callable(option.default) else option.default
        said = shown[option.name].get("default")
        assert (str(default) if default else "") == (str(said) if said else ""), option.name
