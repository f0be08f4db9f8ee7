"""The demo as a newcomer runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import darkroom

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def run_demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "darkroom.cli", "demo", "--folder", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = run_demo(tmp_path_factory.mktemp("demo") / "world", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    story: dict[str, Any] = json.loads(done.stdout)
    return story


def test_a_good_night_is_ok_and_the_others_are_alarms(told: dict[str, Any]) -> None:
    assert [night["verdict"] for night in told["nights"]] == ["ok", "alarm", "alarm"]


def test_the_model_has_learned_and_what_is_trusted_is_more_often_right(told: dict[str, Any]) -> None:
    assert told["validation_accuracy"] >= 0.85
    good, _, strange = told["nights"]
    assert good["accuracy_trusted"] >= good["accuracy"] >= 0.85
    assert strange["accuracy_trusted"] >= strange["accuracy"] + 0.05


def test_the_dim_night_is_told_by_its_light(told: dict[str, Any]) -> None:
    assert "luminance" in told["nights"][1]["headline"]


def test_the_broken_files_of_the_strange_night_are_set_aside(told: dict[str, Any]) -> None:
    assert [night["quarantined"] for night in told["nights"]] == [0, 0, 6]


def test_pages_card_and_rows_are_where_the_demo_says(told: dict[str, Any]) -> None:
    for night in told["nights"]:
        page = Path(night["page"])
        assert night["headline"].split(";")[0] in page.read_text()
        assert len(darkroom.read(told["results"], night=night["night"])) == night["images"]
    assert (Path(told["bundle"]) / "card.html").is_file()
    assert "3 nights: 1 ok, 2 alarm." in (Path(told["results"]) / "reports" / "index.html").read_text()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = run_demo(tmp_path)
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
