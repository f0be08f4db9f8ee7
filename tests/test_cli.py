"""The command line: what a person types, what a program reads, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from darkroom import __version__, demo_world
from tasks.bundle import Bundle

COMMANDS = (
    "demo",
    "train",
    "adopt",
    "audit",
    "diagnose",
    "evaluate",
    "suspects",
    "explain",
    "verify",
    "score",
    "held",
    "release",
    "discard",
    "acknowledge",
    "quarantine",
    "trace",
    "forget",
    "predict",
    "promote",
    "sign",
    "serve",
)
HEAVY = ("tensorflow", "keras", "prefect", "pandas", "pyarrow", "great_expectations", "scipy", "numpy")


def darkroom(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "darkroom.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240)


def test_help_lists_every_command_and_the_exit_codes() -> None:
    told = darkroom("--help").stdout
    assert all(command in told for command in COMMANDS)
    assert "0 done, 1 a gate or an alarm says no, 2 wrong use, 3 failed" in told


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, darkroom.cli; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_version_is_that_of_the_package() -> None:
    assert darkroom("--version").stdout.strip() == f"darkroom {__version__}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_speaks_json(command: str) -> None:
    told = darkroom(command, "--help")
    assert told.returncode == 0
    assert "Usage" in told.stdout
    assert "--json" in told.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["nonsense"], 2, "No such command", id="unknown command"),
        pytest.param(["score", "models/none", "inbox"], 3, "There is no bundle", id="no bundle"),
        pytest.param(["score", "models/none", "inbox", "--night", "yesterday"], 2, "night", id="no date"),
        pytest.param(["score", "m", "i", "--timezone", "Mars/Base"], 2, "time zone", id="no such time zone"),
        pytest.param(["score", "m", "i", "--shard-size", "0"], 2, "shard_size", id="a shard of nothing"),
        pytest.param(["score", "m", "i", "--false-alarm-nights", "1"], 2, "false_alarm_nights", id="an alarm a day"),
        pytest.param(["acknowledge", "2026-01-01", "--reason", "x"], 2, "no alarm to acknowledge", id="no alarm"),
        pytest.param(["score", "m", "i", "--on-alarm", "panic"], 2, "panic", id="no such way"),
        pytest.param(["train", "no-such-folder"], 2, "no-such-folder", id="no photos"),
        pytest.param(["train", ".", "--backbone-argument", "alpha"], 2, "name=number", id="half an argument"),
        pytest.param(["train", ".", "--recipe", "no.json"], 2, "The recipe cannot be read", id="no recipe"),
        pytest.param(["audit", "nowhere", "--data", "."], 3, "There is no bundle", id="nothing to audit"),
        pytest.param(["audit", "nowhere"], 2, "--data", id="audit of no photos"),
        pytest.param(
            ["diagnose", "--bundle", "nowhere", "--images", ".", "--predictions", "x.csv"],
            3,
            "There is no bundle",
            id="nothing to diagnose against",
        ),
        pytest.param(["diagnose", "--bundle", "m", "--images", "."], 2, "nothing to diagnose", id="no predictions"),
        pytest.param(["verify", "nowhere"], 3, "There is no bundle", id="nothing to verify"),
        pytest.param(
            ["release", "some-run", "--reason", "x", "--results", "."],
            2,
            "No run with this id",
            id="nothing to release",
        ),
        pytest.param(["trace", "a.jpg"], 2, "no results", id="nothing to trace"),
        pytest.param(["quarantine", "list"], 2, "no results", id="nothing in quarantine"),
        pytest.param(
            ["discard", "../..", "--reason", "x", "--results", "."], 2, "No run with this id", id="no way out"
        ),
    ],
)
def test_wrong_use_and_failure_have_their_own_exit_code_and_a_message_without_traceback(
    arguments: list[str], code: int, says: str, tmp_path: Path
) -> None:
    done = darkroom(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_program_gets_errors_as_json_too(tmp_path: Path) -> None:
    done = darkroom("verify", tmp_path / "nowhere", "--json")
    assert done.returncode == 3
    assert "There is no bundle" in json.loads(done.stdout)["what"]


def test_no_character_of_a_file_name_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    done = darkroom("verify", tmp_path / "evil\x1b[2Jname")
    assert "\x1b[2J" not in done.stderr
    assert "evil" in done.stderr


def test_verify_tells_that_the_goldens_are_as_they_were(bundle: Bundle) -> None:
    done = darkroom("verify", bundle.path, "--json")
    assert done.returncode == 0
    proof = json.loads(done.stdout)
    assert proof["bundle_id"] == bundle.id
    assert proof["goldens"] >= 32


def test_predict_says_one_when_a_file_cannot_be_scored(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    demo_world.draw_night(tmp_path / "night", "good", images=2, seed=5)
    good = sorted((tmp_path / "night").rglob("*.jpg"))[0]
    assert darkroom("predict", bundle.path, good).returncode == 0
    done = darkroom("predict", bundle.path, good, tmp_path / "broken.jpg", "--json")
    assert done.returncode == 1
    assert [row["verdict"] == "quarantined" for row in json.loads(done.stdout)] == [False, True]


def test_an_alarm_that_is_held_is_no_part_of_the_results_until_it_is_released(bundle: Bundle, tmp_path: Path) -> None:
    import darkroom as package

    demo_world.draw_night(tmp_path / "inbox", "dim", images=40, seed=5)
    place = ["--results", tmp_path / "results"]
    night = ["--night", "2026-03-03", "--settle-seconds", 0, "--on-alarm", "hold", "--no-thumbnails"]
    done = darkroom("score", bundle.path, tmp_path / "inbox", *place, *night, "--expect-at-least", 100)
    assert done.returncode == 1, done.stderr
    assert "darkroom release" in done.stdout
    (kept,) = json.loads(darkroom("held", *place, "--json").stdout)
    assert kept["verdict"] == "alarm"
    all_nights = tmp_path / "results" / "reports" / "index.html"
    assert f"run <bdi>{kept['run_id']}</bdi>" in all_nights.read_text(encoding="utf-8")
    released = darkroom("release", kept["run_id"], "--reason", "the lamp was meant to be dim", *place)
    assert released.returncode == 0
    assert len(package.read(tmp_path / "results")) == 40
    assert "Kept back" not in all_nights.read_text(encoding="utf-8")
    assert "1 night: 1 alarm." in all_nights.read_text(encoding="utf-8")
    assert json.loads(darkroom("held", *place, "--json").stdout) == []


def test_many_files_are_decoded_by_no_more_processes_than_there_are_cores(bundle: Bundle, world: Path) -> None:
    import threading

    import psutil

    import darkroom

    files = sorted(world.rglob("*.jpg"))[: 8 * (os.cpu_count() or 1)]
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            children = [child for child in psutil.Process().children() if "tasks.worker_main" in _words(child)]
            most = max(most, len(children))

    watcher = threading.Thread(target=watch)
    watcher.start()
    rows = darkroom.predict(bundle.path, files)
    done.set()
    watcher.join()
    assert len(rows) == len(files)
    assert 0 < most <= (os.cpu_count() or 1)


def _words(process: Any) -> list[str]:
    import psutil

    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
