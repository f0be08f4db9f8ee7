"""Attacks by name, each carried out; and that no parameter and no table is left out of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from darkroom.orchestrator.connection import environment_of
from darkroom.orchestrator.deployments import DEPLOYMENTS
from darkroom.project import Project
from darkroom.roots import ROOTS, check_inside
from darkroom.settings import RunOptions
from darkroom.spreadsheets import as_csv
from tasks.bundle import Bundle
from tasks.training.dataset import scan
from tests.attacks import (
    ATTACKS,
    DEPLOYED,
    FORMS,
    NEEDED,
    OF_THEIR_OWN,
    Attack,
    Workshop,
    carried_out,
    filled,
    resolved,
)
from tests.form_fields import fields, flow_of

# Prefect's imports are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("attack", OF_THEIR_OWN, ids=[f"{one.kind}: {one.does}" for one in OF_THEIR_OWN])
def test_an_attack_is_refused(attack: Attack, tmp_path: Path, tiny_bundle: Bundle) -> None:
    refused, told = carried_out(attack, Workshop(tmp_path, tiny_bundle.path))
    assert refused, told
    assert told


@pytest.mark.parametrize(
    "does", ["photos of somebody else to train on", "an inbox behind a link", "a path in place of the night"]
)
def test_what_is_refused_is_taken_where_nobody_looks(
    does: str, tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.roots.is_inside", lambda place, allowed: True)
    (attack,) = [one for one in ATTACKS if (one.kind, one.does) == ("form", does)]
    assert carried_out(attack, Workshop(tmp_path, tiny_bundle.path)) == (False, "NotRefused: nothing was said")


def test_every_attack_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter((one.kind, one.does) for one in ATTACKS).items() if count > 1] == []


@pytest.mark.parametrize("flow", [entry.name for entry in DEPLOYMENTS])
def test_every_path_that_a_form_takes_is_attacked(flow: str) -> None:
    shown = fields(flow_of(flow).parameters.model_dump_for_openapi())
    paths = {field.path for field in shown if field.schema.get("format") == "path"}
    # Groups are the same in every form that has them.
    attacked = {parameter for name, _, parameter in FORMS.values() if name == flow or "." in parameter}
    assert paths - attacked == set()


@pytest.mark.parametrize("flow", NEEDED)
def test_what_stays_inside_is_taken(flow: str, tmp_path: Path, tiny_bundle: Bundle) -> None:
    with Workshop(tmp_path, tiny_bundle.path).project():
        assert flow_of(flow).validate_parameters(NEEDED[flow])


@pytest.mark.parametrize("brought", [{}, DEPLOYED], ids=["none", "those that the form begins with"])
def test_a_run_may_bring_the_job_variables_of_its_deployment(
    brought: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.workers.process import ProcessJobConfiguration

    async def taken(cls: object, run: Any, **where: Any) -> Any:
        return run.job_variables

    monkeypatch.setattr(ProcessJobConfiguration, "resolve_for_flow_run", classmethod(taken))
    assert resolved(brought) == brought


def test_a_person_at_a_terminal_has_no_roots(tmp_path: Path, tiny_bundle: Bundle) -> None:
    with Workshop(tmp_path, tiny_bundle.path).project() as outside, environment_of({ROOTS: ""}):
        flow, typed, _ = FORMS["photos of somebody else to train on"]
        assert flow_of(flow).validate_parameters(filled(typed, {"outside": outside}))


PLACES = {
    "the root itself": ("/srv/parts", True),
    "below it": ("/srv/parts/inbox/a", True),
    "a name that begins alike": ("/srv/parts-2", False),
    "above it": ("/srv", False),
    "up and back": ("/srv/parts/../parts/inbox", True),
    "up": ("/srv/parts/../../etc", False),
    "the folder of a bucket": ("s3://photos/parts", True),
    "below it, with one slash": (Path("s3://photos/parts/a"), True),
    "another folder of it": ("s3://photos/others", False),
    "the same folder of another store": ("gs://photos/parts", False),
    "a whole bucket": ("az://all/of/it", True),
    "a Pushgateway": ("http://push:9091", True),
    "another port of it": ("http://push:90910", False),
    "a name before it": ("http://push:9091@evil.example", False),
    "a scheduler": ("tcp://10.0.0.5:8786", True),
}


@pytest.mark.parametrize(("place", "allowed"), PLACES.values(), ids=PLACES)
def test_a_place_is_below_a_root_or_refused(place: Any, allowed: bool) -> None:
    named = ["/srv/parts", "s3://photos/parts/", "az://all", "http://push:9091", "tcp://10.0.0.5:8786"]
    with environment_of({ROOTS: json.dumps(named)}):
        if allowed:
            check_inside(place)
        else:
            with pytest.raises(Exception, match="outside of the folders"):
                check_inside(place)


def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "night").mkdir(parents=True)
    (tmp_path / "inbox").symlink_to(tmp_path / "disk")
    with environment_of({ROOTS: json.dumps([str(tmp_path / "inbox")])}):
        check_inside(tmp_path / "inbox" / "night")
        check_inside(tmp_path / "disk" / "night")


def test_a_project_s_runs_stay_in_its_folder_and_in_whatever_darkroom_toml_names(tmp_path: Path) -> None:
    assert Project().all_roots(tmp_path)[0] == str(tmp_path)
    run = RunOptions(suites=Path("suites"), metrics="http://push:9091", dask_address="10.0.0.5:8786")
    project = Project(roots=("photos",), inbox="/srv/cameras/{night}", results="s3://photos/parts", run=run)
    assert json.loads(project.environment(tmp_path)[ROOTS]) == [
        f"{tmp_path}/photos",
        f"{tmp_path}/models",
        f"{tmp_path}/models/model",
        "/srv/cameras",
        "s3://photos/parts",
        "http://push:9091",
        "tcp://10.0.0.5:8786",
        f"{tmp_path}/suites",
    ]
    assert f"{tmp_path}/inbox/all" in Project(inbox="inbox/all").all_roots(tmp_path)


def test_groups_of_folders_that_are_formulas_are_read_back(tmp_path: Path) -> None:
    for label in ("=1+1", "gear"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "photos" / label / f"{number}.jpg").touch()
    found = scan(tmp_path / "photos").files
    (tmp_path / "groups.csv").write_text(as_csv(("path", "group"), [(one.path, one.path) for one in found]))
    assert "\n\"'=" in (text := (tmp_path / "groups.csv").read_text()) or "\n'=" in text
    assert [one.path for one in scan(tmp_path / "photos", "column", tmp_path / "groups.csv").files] == [
        one.path for one in found
    ]


def test_tables_for_people_are_written_in_one_place_only() -> None:
    written = re.compile(r"to_csv\(|csv\.writer\(|DictWriter\(|write_csv\(")
    rooms = [file for room in ("darkroom", "flows", "tasks", "expectations") for file in (ROOT / room).rglob("*.py")]
    found = {str(file.relative_to(ROOT)) for file in rooms if written.search(file.read_text())}
    assert found == {"darkroom/spreadsheets.py", "darkroom/demo_world/__init__.py"}  # the names there are our own
