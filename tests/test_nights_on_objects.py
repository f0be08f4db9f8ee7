"""Whole nights whose results, inbox and bundle lie in an object store: the same rows as on a disk."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

import darkroom
from darkroom import demo_world
from darkroom.object_storage import ObjectStorage
from darkroom.storage import storage_at
from tasks.bundle import Bundle
from tests.made_up import balanced
from tests.plugins.object_store import ObjectServer
from tests.test_score_flow import NIGHT, command_line, rows_of, score_night
from tests.tiny import ROOT


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights") / "inbox"
    demo_world.draw_night(folder, "good", images=40, seed=5)
    first = sorted(folder.rglob("*.jpg"))[0]
    (folder / "broken.jpg").write_bytes(first.read_bytes()[:900])
    (folder / "again.jpg").write_bytes(first.read_bytes())
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def on_disk(bundle: Bundle, inbox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("on disk") / "results"
    score_night(bundle, inbox, results)
    return results


def files_of(results: Path | str) -> pd.DataFrame:
    columns = ["path", "status", "content_id", "reason", "size"]
    return darkroom.read(results, "files", columns=columns).sort_values("path", ignore_index=True)


def test_results_in_an_object_store_hold_what_they_hold_on_a_disk(
    bundle: Bundle, inbox: Path, on_disk: Path, object_server: ObjectServer
) -> None:
    results = object_server.folder()
    summary = score_night(bundle, inbox, Path(results))
    storage = storage_at(results)
    pd.testing.assert_frame_equal(rows_of(Path(results), bundle), rows_of(on_disk, bundle))
    pd.testing.assert_frame_equal(files_of(results), files_of(on_disk))
    of_run = ["run"]
    for dataset in ("drift", "estimates", "quarantine"):
        one, other = (darkroom.read(place, dataset).drop(columns=of_run) for place in (results, on_disk))
        pd.testing.assert_frame_equal(one, other)
    assert balanced(Path(results))
    assert storage.list("staging") == []
    broken = hashlib.sha256((inbox / "broken.jpg").read_bytes()).hexdigest()
    assert storage.list("quarantine_files") == [f"{broken}.jpg"]
    assert summary.report is not None
    assert summary.report.startswith(f"{results}/reports/{NIGHT}/")
    page = storage.read(summary.report.removeprefix(f"{results}/")).decode()
    index = storage.read("reports/index.html").decode()
    assert summary.headline in page
    (link,) = {found for found in re.findall(r'href="([^"#]+)"', index) if found.endswith("index.html")}
    assert storage.exists(f"reports/{link}")
    again = score_night(bundle, inbox, Path(results), night=NIGHT + timedelta(days=1))
    assert (again.counts.scored, again.counts.scored_before) == (0, summary.counts.scored + 1)


def test_a_night_that_is_killed_is_resumed_by_the_next_run(
    bundle: Bundle, inbox: Path, on_disk: Path, object_server: ObjectServer
) -> None:
    results = object_server.folder()
    storage = ObjectStorage(results)
    command = command_line(bundle, inbox, Path(results))
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(storage.exists(f"staging/{run}/shards/00001.json") for run in storage.list("staging")):
        assert process.poll() is None, "it was to be killed"
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (dead,) = storage.list("staging")
    summary = score_night(bundle, inbox, Path(results))
    assert summary.run_id == dead
    pd.testing.assert_frame_equal(rows_of(Path(results), bundle), rows_of(on_disk, bundle))


def test_the_commands_take_an_address(
    bundle: Bundle, inbox: Path, object_server: ObjectServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = object_server.folder()
    score_night(bundle, inbox, Path(results), run={"on_alarm": "hold", "thumbnails": False}, expect_at_least=1000)

    def told(*command: str) -> dict[str, object]:
        from darkroom.cli import main

        with pytest.raises(SystemExit) as ended:
            main([*command, "--results", results, "--json"])
        assert ended.value.code == 0, capsys.readouterr().err
        answer: dict[str, object] = json.loads(capsys.readouterr().out)
        return answer

    (held,) = told("held")["held"]  # type: ignore[misc]
    assert told("release", held["run_id"], "--reason", "it was meant to be few")["commit"] == 1
    rows = darkroom.read(results)
    labels = tmp_path / "labels.csv"
    rows[["path"]].assign(label=rows["predicted_class"]).to_csv(labels, index=False)
    assert told("evaluate", str(labels), "--bundle", str(bundle.path))["nights"]
    assert "labels" in storage_at(results).list(".")
    assert told("quarantine", "list")
    assert told("trace", rows["content_id"][0], "--models", str(bundle.path.parents[1]))
