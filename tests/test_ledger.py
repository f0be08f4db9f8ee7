from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkroom.errors import StorageError
from tasks import ledger as rooms
from tasks.intake import inbox_text
from tasks.ledger import open_ledger
from tests import made_up


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[set[str]]]:
    """Results of three nights over one growing inbox, and what each night scored; read only."""
    folder = tmp_path_factory.mktemp("ledger")
    scored: list[set[str]] = []
    for night in range(3):
        for number in range(4):
            made_up.draw(folder / "inbox" / f"{night}-{number}.png", 10 * night + number)
        made_up.score(folder / "results", folder / "inbox", night=date(2026, 3, 1 + night), shard_size=3)
        known = {content for content, *_ in made_up.rows_of(folder / "results")}
        scored.append(known.difference(*scored))
    return folder, scored


def test_what_was_scored_is_found_since_any_commit(nights: tuple[Path, list[set[str]]]) -> None:
    folder, scored = nights
    ledger = open_ledger(folder / "results", made_up.BUNDLE)
    asked = pa.array([*sorted(set.union(*scored)), "f" * 64])
    assert ledger.newest == 3
    for since in range(4):
        found = ledger.already_scored(asked, since).to_pylist()
        assert sorted(found) == sorted(set().union(*scored[since:]))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.data(), at_once=st.sampled_from([1, 3, 1000]))
def test_of_any_contents_those_that_were_scored_are_found_once(
    nights: tuple[Path, list[set[str]]], chosen: st.DataObject, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scored = nights
    every = sorted(set.union(*scored))
    asked = chosen.draw(st.lists(st.sampled_from([*every, "0" * 64, "1" * 64])))
    monkeypatch.setattr(rooms, "_ROWS_AT_ONCE", at_once)
    found = open_ledger(folder / "results", made_up.BUNDLE).already_scored(pa.array(asked, pa.string())).to_pylist()
    assert sorted(found) == sorted(set(asked) & set(every))


def test_one_bundle_does_not_know_what_another_scored(nights: tuple[Path, list[set[str]]]) -> None:
    folder, scored = nights
    ledger = open_ledger(folder / "results", "parts-2-ffffffffffff")
    assert ledger.newest == 0
    assert len(ledger.already_scored(pa.array(sorted(scored[0])))) == 0
    assert ledger.index_of(inbox_text(folder / "inbox")) is None


def test_the_index_is_that_of_the_inbox_and_of_its_last_night(tmp_path: Path) -> None:
    one, two = made_up.draw_inbox(tmp_path / "one", images=3), made_up.draw_inbox(tmp_path / "two", images=5)
    for path in [*one.rglob("*"), *two.rglob("*")]:
        os.utime(path, (10**9, 10**9))
    for inbox in (one, two):
        made_up.score(tmp_path / "results", inbox)
    index = open_ledger(tmp_path / "results", made_up.BUNDLE).index_of(inbox_text(one))
    assert index is not None
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    assert sorted(index["path"].to_pylist()) == [name for name in names if not name.startswith("broken")]


def test_nobody_says_what_was_scored_when_a_part_cannot_be_read(tmp_path: Path) -> None:
    inbox = made_up.draw_inbox(tmp_path / "inbox", images=3)
    made_up.score(tmp_path / "results", inbox)
    part = next((tmp_path / "results" / "predictions").rglob("*.parquet"))
    part.unlink()
    made_up.draw(inbox / "new.png", 99)
    with pytest.raises(StorageError, match="part-00000") as caught:
        made_up.score(tmp_path / "results", inbox)
    assert "backup" in str(caught.value)
