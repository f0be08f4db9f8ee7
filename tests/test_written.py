"""Results that an older darkroom has written are read as they were read then, and a newer one's are refused.

`tests/written/<schema version>/<what was new>/` is a results folder of two nights, as a darkroom of that time wrote it,
and `<what was new>.json` beside it what `darkroom.read` gave then. A version that changes the columns of the results,
or raises RESULTS_SCHEMA_VERSION, brings a folder of its own; the old ones stay as they are.
"""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import darkroom
from darkroom.acknowledgements import acknowledgements
from darkroom.errors import StorageError
from darkroom.labels import recorded_labels
from darkroom.results import Commit, bundles, commits, history
from darkroom.schemas import DATASETS, RESULTS_SCHEMA_VERSION
from flows.forget import forget
from flows.nights_before import nights_before
from tasks.ledger import open_ledger
from tasks.report.index_page import index_html, write_index
from tasks.report.past import drift_of, past_nights
from tasks.trace import trace

WRITTEN = Path(__file__).parent / "written"
NIGHTS = [date(2026, 11, 23), date(2026, 11, 24)]
# In the order in which they came.
OF_ALL_TIMES = {1: ("first", "slices", "estimates", "forgetting")}
NAMES = [f"{version}/{name}" for version, names in OF_ALL_TIMES.items() for name in names]


@pytest.fixture(params=NAMES)
def written(request: pytest.FixtureRequest) -> Path:
    """A results folder that nobody may change."""
    return WRITTEN / str(request.param)


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "results"))


def done(results: Path) -> tuple[Commit, ...]:
    (bundle,) = bundles(results)
    return tuple(commits(results, bundle))


def as_then(written: Path, dataset: str) -> dict[str, list[Any]]:
    """What this dataset was read as when it was written; no rows where there was no such dataset."""
    told: dict[str, Any] = json.loads(written.with_suffix(".json").read_text())
    found: dict[str, list[Any]] = told.get(dataset, {"columns": [], "data": []})
    return found


def test_there_is_a_folder_of_every_version_and_the_newest_has_the_columns_of_today() -> None:
    assert sorted(OF_ALL_TIMES) == list(range(1, RESULTS_SCHEMA_VERSION + 1)), "a new version: write a folder of it"
    assert sorted(f"{path.parent.name}/{path.name}" for path in WRITTEN.glob("*/*/")) == sorted(NAMES)
    newest = WRITTEN / NAMES[-1]
    for dataset, schema in DATASETS.items():
        stored = [pq.read_schema(path) for path in (newest / dataset).rglob("*.parquet")]
        assert stored
        for one in stored:
            assert one.equals(schema), f"other columns than before in {dataset}: write a folder of them, keep this one"
            assert one.metadata[b"darkroom_results_schema"] == str(RESULTS_SCHEMA_VERSION).encode()


@pytest.mark.parametrize("dataset", DATASETS)
def test_rows_are_read_as_they_were_then_and_what_was_not_there_is_missing(written: Path, dataset: str) -> None:
    rows, then = darkroom.read(written, dataset), as_then(written, dataset)
    assert {*DATASETS[dataset].names} <= {*rows.columns}
    listed = [part.rows for one in done(written) for part in one.parts if part.dataset == dataset]
    assert len(rows) == len(then["data"]) == sum(listed)
    now = json.loads(rows[then["columns"]].to_json(orient="split", index=False, date_format="iso"))
    assert now["data"] == then["data"]
    known = {name for path in (written / dataset).rglob("*.parquet") for name in pq.read_schema(path).names}
    assert all(rows[name].isna().all() for name in {*DATASETS[dataset].names} - known)


def test_commits_history_and_ledger_know_what_was_done(written: Path) -> None:
    assert [one.night for one in done(written)] == NIGHTS
    assert all(one.counts.balanced and one.counts.scored and one.counts.quarantined for one in done(written))
    (bundle,) = bundles(written)
    gone = sum(part.forgotten for one in done(written) for part in one.parts if part.dataset == "predictions")
    assert history(written, bundle)["scored"].sum() == len(darkroom.read(written)) + gone
    assert bool(gone) is (written.name == "forgetting")
    contents = pa.array(darkroom.read(written)["content_id"].to_list(), pa.string())
    assert open_ledger(written, bundle).already_scored(contents).to_pylist() == contents.to_pylist()


def test_drift_is_summed_across_nights_and_drawn_on_the_page_over_all_of_them(written: Path) -> None:
    (bundle,) = bundles(written)
    before = nights_before(written, bundle, None, NIGHTS[-1] + timedelta(days=1))
    assert before.lost == ()
    acknowledged = {one.night for one in acknowledgements(written, bundle)}
    assert {*before.rows["night"]} == {night for night in NIGHTS if night > max(acknowledged, default=date.min)}
    past = past_nights(written, bundle)
    assert [one.night for one in past] == NIGHTS
    assert {*drift_of(written, past)["night"]} == {*NIGHTS}
    page = index_html(written)
    assert all(f"{night}" in page for night in NIGHTS)


def test_an_image_is_traced_and_forgotten(copy: Path) -> None:
    rows = darkroom.read(copy)
    content = str(rows["content_id"].iloc[0])
    assert trace(copy, content).contents
    write_index(copy)
    forget(copy, [content], why="asked to", by="ada", models=None)
    left = darkroom.read(copy)
    assert sorted(left["content_id"]) == sorted(rows.loc[rows["content_id"] != content, "content_id"])
    assert not [path for path in copy.rglob("*.json") if content in path.read_text()]
    assert content not in set(darkroom.read(copy, "files")["content_id"])


def test_labels_that_came_then_are_still_known(written: Path) -> None:
    stored = sum(pq.read_metadata(path).num_rows for path in (written / "labels").glob("*.parquet"))
    assert len(recorded_labels(written)) == stored
    assert bool(stored) is (written.name in ("estimates", "forgetting"))


@pytest.mark.parametrize("how", ["alike but for its number", "of another form"])
def test_a_newer_schema_is_refused_with_a_sentence(copy: Path, how: str) -> None:
    path = max((copy / "commits").rglob("*.json"))
    stored = {**json.loads(path.read_text()), "schema_version": RESULTS_SCHEMA_VERSION + 1}
    if how == "of another form":
        del stored["parts"]
    path.write_text(json.dumps(stored))
    with pytest.raises(StorageError, match="newer") as refused:
        darkroom.read(copy)
    assert "upgrade darkroom" in (refused.value.todo or "")
    assert str(path) in str(refused.value)
