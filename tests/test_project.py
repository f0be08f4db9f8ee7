"""A user's own project: darkroom.toml, and what `darkroom init` writes."""

from __future__ import annotations

import configparser
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.beginning import UNIT, begin, unit
from darkroom.errors import StorageError, WrongUse
from darkroom.orchestrator.deployments import DEPLOYMENTS, check_schedule
from darkroom.project import FILE, Project, Schedule, local_timezone

SCORE = next(entry for entry in DEPLOYMENTS if entry.name == "score")


def stated(folder: Path, text: str) -> Project:
    (folder / FILE).write_text(text)
    return Project.read(folder)


def test_a_folder_without_a_file_has_the_places_that_the_readme_names(tmp_path: Path) -> None:
    assert Project.read(tmp_path) == Project()
    assert SCORE.parameters(Project(), tmp_path)["bundle"] == f"{tmp_path}/models/model"


def test_what_the_file_states_is_what_the_nightly_run_is_told(tmp_path: Path) -> None:
    project = stated(
        tmp_path,
        """
        bundle = "/srv/models/parts"
        inbox = "cameras/{night:%Y}/{night:%m-%d}"
        [schedule]
        cron = "30 4 * * 1-5"
        timezone = "Europe/Berlin"
        [intake]
        expect_at_least = 100
        [run]
        on_alarm = "hold"
        """,
    )
    assert SCORE.parameters(project, tmp_path) == {
        "bundle": "/srv/models/parts",
        "inbox": f"{tmp_path}/cameras/{{night:%Y}}/{{night:%m-%d}}",
        "results": f"{tmp_path}/results",
        "night": {"timezone": "Europe/Berlin", "night_offset_days": -1},
        "intake": {"expect_at_least": 100},
        "run": {"on_alarm": "hold"},
    }


WRONG = {
    "no TOML": ("bundle = ", "a TOML file"),
    "an unknown setting": ('inboxes = "a"', "inboxes"),
    "an unknown setting of the run": ("[run]\nshards = 3", "run.shards"),
    "a policy that does not exist": ('[run]\non_alarm = "shout"', "run.on_alarm"),
    "a time zone that does not exist": ('[schedule]\ntimezone = "Mars/Olympus"', "schedule.timezone"),
    "a number out of its bounds": ("[schedule]\nnight_offset_days = 99", "schedule.night_offset_days"),
}


@pytest.mark.parametrize(("text", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_setting_is_named_with_its_file(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(WrongUse, match=FILE if named == "a TOML file" else named) as caught:
        stated(tmp_path, text)
    assert named in str(caught.value)
    assert caught.value.file == str(tmp_path / FILE)


def test_a_schedule_that_prefect_would_not_understand_is_refused_before_a_server_starts() -> None:
    with pytest.raises(WrongUse, match=r"schedule\.cron"):
        check_schedule(Project(schedule=Schedule(cron="61 2 * * *")))


NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\x7f"), min_size=1, max_size=20)


@given(st.builds(Project, models=NAMES, bundle=NAMES, inbox=NAMES, results=NAMES))
def test_what_init_writes_is_read_back_as_it_was_meant(
    tmp_path_factory: pytest.TempPathFactory, project: Project
) -> None:
    from darkroom.project import example

    assert stated(tmp_path_factory.mktemp("project"), example(project)) == project


def test_init_makes_a_project_that_serve_understands_and_changes_nothing_that_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    command = [sys.executable, "-m", "darkroom.cli", "init", str(folder), "--timezone", "Europe/Berlin", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["written"] == [str(folder / UNIT), str(folder / FILE)]
    assert Project.read(folder).schedule.timezone == "Europe/Berlin"
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["inbox", "models", "results"]
    before = (folder / FILE).read_bytes()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, json.loads(again.stdout)["what"]) == (2, "There is a project here already.")
    assert (folder / FILE).read_bytes() == before


def test_a_unit_that_somebody_wrote_is_kept(tmp_path: Path) -> None:
    (tmp_path / UNIT).write_text("mine")
    with pytest.raises(StorageError, match="could not be written"):
        begin(tmp_path, Project())
    assert (tmp_path / UNIT).read_text() == "mine"
    assert not (tmp_path / FILE).exists()


def test_a_folder_with_flows_of_its_own_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (warning,) = begin(tmp_path, Project()).warnings
    assert "tasks" in warning


def test_the_unit_starts_this_darkroom_in_this_folder_and_stops_it_with_ctrl_c(tmp_path: Path) -> None:
    folder = tmp_path / "100 % photos"
    read = configparser.ConfigParser(interpolation=None, strict=True)
    read.optionxform = str  # type: ignore[method-assign,assignment]
    read.read_string(unit(folder))
    service = read["Service"]
    assert service["WorkingDirectory"] == str(folder).replace("%", "%%")
    command, *arguments = shlex.split(service["ExecStart"])
    assert (Path(command).name, arguments) == ("darkroom", ["serve"])
    assert service["KillSignal"] == "SIGINT"


@pytest.mark.parametrize(
    ("link", "name"),
    [
        ("/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin"),
        ("/usr/share/zoneinfo/Etc/UTC", "UTC"),
        ("/somewhere/else", "UTC"),
        ("/usr/share/zoneinfo/Mars/Olympus", "UTC"),
    ],
)
def test_the_time_zone_of_the_machine_is_known_by_its_name(tmp_path: Path, link: str, name: str) -> None:
    (tmp_path / "localtime").symlink_to(link)
    assert local_timezone(tmp_path / "localtime") == name
