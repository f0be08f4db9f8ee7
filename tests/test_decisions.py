from __future__ import annotations

import threading
from pathlib import Path

import pytest

from darkroom.decisions import Act, Content, Decision, decide, decisions
from darkroom.errors import StorageError, WrongUse
from darkroom.person import this_person
from darkroom.reasons import Reason
from tests.made_up import BUNDLE, NIGHT

CONTENT = Content(content_id="0" * 64, bundle=BUNDLE, inbox="/in", path="a.png", night=NIGHT, reason=Reason.TRUNCATED)


def test_a_decision_is_kept_with_who_when_and_why_and_is_read_as_it_was_written(tmp_path: Path) -> None:
    first = decide(tmp_path, Act.RELEASE_FILES, why=" it is whole ", by=" ada ", contents=iter([CONTENT]))
    second = decide(tmp_path, Act.DELETE_COPIES, why="seen", contents=[CONTENT], flow_run="a-run")
    assert (first.number, first.why, first.by, first.contents) == (1, "it is whole", "ada", (CONTENT,))
    assert (second.number, second.by, second.flow_run) == (2, this_person(), "a-run")
    assert decisions(tmp_path) == [first, second]
    assert decisions(tmp_path, Act.DELETE_COPIES) == [second]


def test_of_many_decisions_at_once_each_has_a_number_of_its_own(tmp_path: Path) -> None:
    made: list[Decision] = []
    start = threading.Barrier(8)

    def somebody(who: int) -> None:
        start.wait()
        made.append(decide(tmp_path, Act.DELETE_COPIES, why="seen", by=str(who), contents=iter([CONTENT])))

    threads = [threading.Thread(target=somebody, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.number for one in made) == list(range(1, 9))
    assert sorted(decisions(tmp_path), key=lambda one: one.by) == sorted(made, key=lambda one: one.by)


def test_nothing_is_decided_without_a_reason(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="kept with its reason"):
        decide(tmp_path, Act.RELEASE_FILES, why=" \n")
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    decide(tmp_path, Act.RELEASE_FILES, why="x")
    (tmp_path / "decisions" / "00000001.json").write_text("{")
    with pytest.raises(StorageError, match=r"00000001\.json"):
        decisions(tmp_path)


def test_a_field_of_a_later_version_does_not_make_a_record_unreadable(tmp_path: Path) -> None:
    one = decide(tmp_path, Act.RELEASE_FILES, why="x")
    file = tmp_path / "decisions" / "00000001.json"
    file.write_text(file.read_text().replace("{", '{"mood": "good",', 1))
    assert decisions(tmp_path) == [one]
