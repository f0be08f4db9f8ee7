from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom import results as committed
from darkroom.errors import StorageError, WrongUse
from darkroom.results import commits, history, learned_minimum, part_bytes, read
from darkroom.schemas import DATASETS, PREDICTIONS
from tests import made_up

SECOND = date(2026, 3, 2)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights of one bundle and one of another; read only."""
    folder = tmp_path_factory.mktemp("nights")
    made_up.score(folder / "results", made_up.draw_inbox(folder / "one", images=5))
    made_up.score(folder / "results", made_up.draw_inbox(folder / "two", images=9), night=SECOND)
    made_up.score(folder / "results", folder / "two", night=SECOND, bundle="parts-2-ffffffffffff")
    return folder / "results"


def test_committed_rows_come_with_bundle_night_and_run(results: Path) -> None:
    frame = read(results, bundle=made_up.BUNDLE)
    assert list(frame.columns) == [*PREDICTIONS.names, "bundle", "night", "run"]
    assert frame.groupby("night").size().to_dict() == {pd.Timestamp("2026-03-01"): 5, pd.Timestamp("2026-03-02"): 4}
    assert frame["content_id"].is_unique


@pytest.mark.parametrize(
    ("chosen", "rows"),
    [
        pytest.param({}, 18, id="all"),
        pytest.param({"bundle": made_up.BUNDLE}, 9, id="bundle"),
        pytest.param({"night": made_up.NIGHT}, 5, id="night"),
        pytest.param({"since": SECOND}, 13, id="since"),
        pytest.param({"until": made_up.NIGHT}, 5, id="until"),
        pytest.param({"night": date(2020, 1, 1)}, 0, id="no such night"),
        pytest.param({"bundle": "nobody-1-000000000000"}, 0, id="no such bundle"),
    ],
)
def test_rows_are_chosen_by_bundle_and_night(results: Path, chosen: dict[str, object], rows: int) -> None:
    frame = read(results, columns=["content_id", "run"], **chosen)  # type: ignore[arg-type]
    assert list(frame.columns) == ["content_id", "run"]
    assert len(frame) == rows


@pytest.mark.parametrize("dataset", list(DATASETS))
def test_every_dataset_can_be_read_with_and_without_rows(results: Path, dataset: str) -> None:
    full = read(results, dataset)
    empty = read(results, dataset, night=date(2020, 1, 1))
    assert list(full.columns) == list(empty.columns)
    assert len(full)
    assert not len(empty)


def test_wrong_words_are_refused_with_the_right_ones(results: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="predictions, files, quarantine, drift"):
        read(results, "prediction")
    with pytest.raises(WrongUse, match="content_id"):
        read(results, columns=["contentid"])
    with pytest.raises(WrongUse, match="no results"):
        read(tmp_path)


def test_pandas_reads_the_predictions_as_a_hive_dataset(results: Path) -> None:
    frame = pd.read_parquet(results / "predictions")
    assert len(frame) == 18
    assert set(frame["bundle"].astype(str)) == {made_up.BUNDLE, "parts-2-ffffffffffff"}
    only = pd.read_parquet(results / "predictions", filters=[("night", "==", "2026-03-02")])
    assert len(only) == 13


def test_duckdb_reads_the_predictions_as_a_hive_dataset(results: Path) -> None:
    query = f"""
        select bundle, cast(night as varchar), count(*) from
        read_parquet('{results}/predictions/**/*.parquet', hive_partitioning = true) group by all order by all
    """
    assert duckdb.sql(query).fetchall() == [
        (made_up.BUNDLE, "2026-03-01", 5),
        (made_up.BUNDLE, "2026-03-02", 4),
        ("parts-2-ffffffffffff", "2026-03-02", 9),
    ]


def test_rows_that_no_commit_lists_are_not_shown(results: Path, tmp_path: Path) -> None:
    made_up.score(tmp_path / "results", made_up.draw_inbox(tmp_path / "inbox", images=3))
    part = next((tmp_path / "results" / "predictions").rglob("*.parquet"))
    stranger = part.parent.parent / "run=nobody" / part.name
    stranger.parent.mkdir()
    stranger.write_bytes(part.read_bytes())
    assert len(pd.read_parquet(tmp_path / "results" / "predictions")) == 6
    assert len(read(tmp_path / "results")) == 3


def spoil(path: Path, how: str) -> None:
    match how:
        case "missing":
            path.unlink()
        case "cut":
            path.write_bytes(path.read_bytes()[:-10])
        case "garbage":
            path.write_bytes(b"\0" * path.stat().st_size)


@pytest.mark.parametrize("how", ["missing", "cut", "garbage"])
@pytest.mark.parametrize("what", ["part", "commit"])
def test_a_spoilt_part_or_commit_is_named(tmp_path: Path, what: str, how: str) -> None:
    results = tmp_path / "results"
    inbox = made_up.draw_inbox(tmp_path / "inbox", images=3)
    made_up.score(results, inbox)
    made_up.score(results, inbox)
    folder = "predictions" if what == "part" else "commits"
    path = sorted(path for path in (results / folder).rglob("*") if path.is_file())[0]
    spoil(path, how)
    with pytest.raises(StorageError) as caught:
        read(results)
    assert str(path) in str(caught.value)
    assert caught.value.todo is not None


def test_a_commit_of_a_newer_darkroom_is_refused_with_a_sentence(tmp_path: Path) -> None:
    made_up.score(tmp_path / "results", made_up.draw_inbox(tmp_path / "inbox", images=3))
    path = next((tmp_path / "results" / "commits").rglob("*.json"))
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(StorageError, match="newer"):
        commits(tmp_path / "results", made_up.BUNDLE)


def test_fields_that_a_later_minor_version_adds_do_not_make_a_commit_unreadable(tmp_path: Path) -> None:
    made_up.score(tmp_path / "results", made_up.draw_inbox(tmp_path / "inbox", images=3))
    path = next((tmp_path / "results" / "commits").rglob("*.json"))
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(_with_news(stored)))
    assert commits(tmp_path / "results", made_up.BUNDLE)[0].counts.scored == stored["counts"]["scored"] == 3


def _with_news(value: object) -> object:
    """A field more in every object that is no mapping of names to numbers or settings."""
    if isinstance(value, list):
        return [_with_news(one) for one in value]
    if not isinstance(value, dict):
        return value
    mappings = ("classes", "quarantine_reasons", "parameters", "versions")
    return {"news": 1} | {key: one if key in mappings else _with_news(one) for key, one in value.items()}


def test_the_commit_file_says_what_programs_ask_first(results: Path) -> None:
    text = (results / "commits" / made_up.BUNDLE / "00000001.json").read_text()
    found = json.loads(text)
    assert found["counts"]["scored"] == 5
    assert found["verdict"] == "ok"
    assert found["parameters"] == {"shard_size": 4}
    assert found["versions"] == {"darkroom": "0"}
    assert committed.Commit.model_validate_json(text).summary.commit == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda rows: rows.drop_columns(["confidence"]), "confidence", id="a column is missing"),
        pytest.param(lambda rows: rows.append_column("extra", rows["path"]), "extra", id="a column too many"),
        pytest.param(
            lambda rows: rows.set_column(1, "path", pa.nulls(len(rows), pa.string())),
            "path",
            id="null where none may be",
        ),
        pytest.param(
            lambda rows: rows.set_column(3, "confidence", pa.array(["much"] * len(rows))), "much", id="a wrong type"
        ),
    ],
)
def test_rows_that_do_not_fit_the_schema_are_not_written(change, message: str) -> None:  # type: ignore[no-untyped-def]
    rows = pa.table({"path": ["a"], "content_id": ["0" * 64], "size": [1]})
    with pytest.raises(StorageError, match=message):
        part_bytes("predictions", change(made_up.predictions(rows)))


def test_a_frame_is_written_in_the_schema_too() -> None:
    rows = made_up.predictions(pa.table({"path": ["a"], "content_id": ["0" * 64], "size": [1]}))
    assert part_bytes("predictions", rows.to_pandas())[1].schema.equals(PREDICTIONS)


def test_history_counts_a_night_that_was_run_twice_once(tmp_path: Path) -> None:
    inbox = made_up.draw_inbox(tmp_path / "inbox", images=5)
    for _ in range(2):
        made_up.score(tmp_path / "results", inbox)
    made_up.draw(inbox / "late.png", 77)
    made_up.score(tmp_path / "results", inbox, night=SECOND)
    past = history(tmp_path / "results", made_up.BUNDLE)
    assert past[["night", "runs", "scored"]].values.tolist() == [[made_up.NIGHT, 2, 5], [SECOND, 1, 1]]
    assert history(tmp_path / "results", made_up.BUNDLE, inbox="/elsewhere").empty


def test_fewer_than_three_nights_teach_nothing() -> None:
    assert learned_minimum([]) is None
    assert learned_minimum([100, 0, 0, 100]) is None


@pytest.mark.parametrize(
    ("past", "low", "high"),
    [
        pytest.param([1000] * 3, 300, 500, id="three steady nights"),
        pytest.param([1000] * 28, 500, 500, id="many steady nights: half"),
        pytest.param([1000, 1100, 900] * 9, 450, 500, id="a month that varies a little"),
        pytest.param([1000, 1000, 1000, 1000, 1000, 100, 100] * 4, 1, 60, id="weekends are no alarm"),
        pytest.param([5, 3, 4], 1, 1, id="few images"),
        pytest.param([10, 1000, 100], 1, 1, id="three nights that say nothing"),
    ],
)
def test_the_learned_minimum_is_far_below_what_nights_bring(past: list[int], low: int, high: int) -> None:
    learned = learned_minimum(past)
    assert learned is not None
    assert low <= learned <= high


@given(st.lists(st.integers(1, 10**7), min_size=3, max_size=60))
def test_the_learned_minimum_is_at_least_one_and_at_most_half_of_the_usual(past: list[int]) -> None:
    learned = learned_minimum(past)
    assert learned is not None
    assert 1 <= learned <= max(1, pd.Series(past[-28:]).median() / 2)
