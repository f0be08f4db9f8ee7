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
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import darkroom
from darkroom import demo_world
from darkroom.cli import app
from darkroom.object_storage import ObjectStorage
from darkroom.reasons import NightVerdict
from darkroom.settings import IntakeOptions, NightOptions, RunOptions
from darkroom.storage import storage_at
from darkroom.summary import NightSummary
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


def test_the_commands_take_an_address(bundle: Bundle, inbox: Path, object_server: ObjectServer, tmp_path: Path) -> None:
    results = object_server.folder()
    score_night(bundle, inbox, Path(results), run={"on_alarm": "hold", "thumbnails": False}, expect_at_least=1000)

    def told(*command: str) -> Any:
        done = CliRunner().invoke(app, [*command, "--results", results, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    (held,) = told("held")
    assert told("release", held["run_id"], "--reason", "it was meant to be few")["commit"] == 1
    rows = darkroom.read(results)
    labels = tmp_path / "labels.csv"
    rows[["path"]].assign(label=rows["predicted_class"]).to_csv(labels, index=False)
    assert told("evaluate", str(labels), "--bundle", str(bundle.path))["nights"]
    assert storage_at(results).list("labels") == ["00000001.parquet"]
    assert told("quarantine", "list")
    assert told("trace", rows["content_id"][0], "--models", str(bundle.path.parents[1]))


def put(folder: Path, address: str) -> str:
    """Every file below, as objects."""
    storage = ObjectStorage(address)
    for path in folder.rglob("*"):
        if path.is_file():
            storage.write(path.relative_to(folder).as_posix(), path.read_bytes())
    return address


def test_inbox_bundle_and_results_in_an_object_store_give_the_rows_of_a_disk(
    bundle: Bundle,
    inbox: Path,
    on_disk: Path,
    object_server: ObjectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows.score import score

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = object_server.folder()
    models = put(bundle.path.parents[1], f"{place}/models")
    delivered = put(inbox, f"{place}/inbox/{NIGHT}")
    (inbox_of_nights, results) = f"{place}/inbox/{{night:%Y-%m-%d}}", Path(f"{place}/inbox/{NIGHT}/results")

    def night(number: int) -> NightSummary:
        return score(  # type: ignore[no-any-return]
            bundle=Path(f"{models}/parts"),
            inbox=inbox_of_nights,
            results=results,
            night=NightOptions(night=NIGHT + timedelta(days=number)),
            intake=IntakeOptions(settle_seconds=3600),
            run=RunOptions(shard_size=20),
        )

    summary = night(0)
    pd.testing.assert_frame_equal(rows_of(results, bundle), rows_of(on_disk, bundle))
    seen = files_of(results)
    seen = seen[seen["path"] != "results"].reset_index(drop=True)
    pd.testing.assert_frame_equal(seen, files_of(on_disk), check_dtype=False)
    assert len(storage_at(results).list("quarantine_files")) == 1
    again = night(0)
    assert (again.counts.scored, again.counts.scored_before) == (0, summary.counts.scored + 1)
    object_server.asked()
    night(0)  # as of a file, the time of an object is believed when it is older than the last look by two seconds
    read = {
        asked.partition("?")[0] for asked in object_server.asked() if f"/inbox/{NIGHT}/" in asked and ".jpg" in asked
    }
    read = {asked.rpartition("/")[2] for asked in read if "/results/" not in asked}
    assert read == {"broken.jpg"}, "only what was refused is read again"
    assert night(1).verdict is NightVerdict.EMPTY
    assert storage_at(delivered).read("broken.jpg") == (inbox / "broken.jpg").read_bytes()
