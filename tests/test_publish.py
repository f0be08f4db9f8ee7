from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest

from darkroom.decisions import Act, decisions
from darkroom.errors import StorageError, WrongUse
from darkroom.reasons import NightVerdict, Reason
from darkroom.results import Commit, bundles, commits, find_commit, now, read
from darkroom.storage import LocalStorage
from tasks import publish, runs
from tasks.intake import nothing_delivered, take_in
from tasks.ledger import open_ledger
from tasks.publish import Run, Staging, begin_run, commit, settle, settled_rows, stage_part
from tasks.quarantine import Refusal
from tests import made_up
from tests.made_up import BUNDLE, NIGHT


class Died(Exception):
    """Stands for a process that ends in the middle: its locks go, its staging stays."""


def die(_: object) -> None:
    raise Died


def die_in(results: Path, inbox: Path, at: str, **options: object) -> None:
    with pytest.raises(Died):
        made_up.score(results, inbox, **{at: die}, **options)  # type: ignore[arg-type]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return made_up.draw_inbox(tmp_path / "inbox")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def taken_in(run: Run, inbox: Path, shard_size: int = 4) -> Run:
    ledger = open_ledger(run.staging.storage, run.bundle)
    run.staging.freeze(take_in(inbox, formats=["PNG"], ledger=ledger, settle_seconds=0), shard_size)
    return run


def looked_at(run: Run, inbox: Path) -> Run:
    for shard in run.staging.unfinished():
        made_up.look_at(run.staging, shard, inbox)
    return run


def contents(results: Path) -> list[str]:
    """By a plain reader, who knows nothing of commits."""
    return sorted(pd.read_parquet(results / "predictions", columns=["content_id"])["content_id"])


def staged(results: Path) -> list[str]:
    return sorted(path.name for path in (results / "staging").iterdir())


# -- exactly once


def test_the_same_night_twice_scores_nothing_and_ten_more_score_ten(results: Path, inbox: Path) -> None:
    assert made_up.score(results, inbox).counts.scored == 9
    again = made_up.score(results, inbox)
    assert (again.number, again.counts.scored, again.counts.scored_before) == (2, 0, 10)
    for number in range(10):
        made_up.draw(inbox / f"late-{number}.png", 100 + number)
    assert made_up.score(results, inbox).counts.scored == 10
    for path in [path for path in inbox.rglob("*.png") if path.is_file()]:
        path.rename(path.with_name("renamed-" + path.name))
    assert made_up.score(results, inbox, night=NIGHT + timedelta(days=1)).counts.scored == 0
    assert len(contents(results)) == len(set(contents(results))) == 19
    assert made_up.balanced(results)


def test_another_bundle_scores_everything_again(results: Path, inbox: Path) -> None:
    made_up.score(results, inbox)
    assert made_up.score(results, inbox, bundle="parts-2-ffffffffffff").counts.scored == 9
    assert bundles(results) == [BUNDLE, "parts-2-ffffffffffff"]


def test_a_night_without_images_is_committed_too(results: Path, tmp_path: Path) -> None:
    with begin_run(results, BUNDLE, NIGHT, tmp_path / "nowhere") as run:
        run.staging.freeze(nothing_delivered(tmp_path / "nowhere", open_ledger(results, BUNDLE)), 10)
        assert run.staging.unfinished() == []
        settled = settle(run)
        done = commit(run, settled, made_up.summary_of(run, settled, NightVerdict.EMPTY))
    assert done.verdict is NightVerdict.EMPTY
    assert done.counts.seen == 0
    assert len(read(results, "files")) == 0


def test_what_can_be_counted_in_the_summary_is_counted_from_the_rows(results: Path, inbox: Path) -> None:
    done = made_up.score(results, inbox)
    frame = read(results)
    assert done.summary.trusted == (frame["verdict"] == "trusted").sum()
    assert done.summary.suspect == (frame["verdict"] == "suspect").sum()
    assert done.summary.classes == frame["predicted_class"].value_counts().to_dict()
    assert done.summary.quarantine_reasons == {"broken_data": 1}
    assert done.summary.commit == done.number == 1


@pytest.mark.parametrize("scenario", ["plain", "contended"])
def test_a_night_killed_at_any_call_that_changes_the_disk_is_whole_after_the_next(
    tmp_path: Path, scenario: str
) -> None:
    step = {"plain": 7, "contended": 16}[scenario]
    assert crashing(tmp_path, scenario, step) >= 20


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("scenario", "step"), [("plain", 1), ("contended", 2)])
def test_a_night_killed_at_every_call_or_every_second_that_changes_the_disk_is_whole_after_the_next(
    tmp_path: Path, scenario: str, step: int
) -> None:
    assert crashing(tmp_path, scenario, step) >= 80


def crashing(folder: Path, scenario: str, step: int) -> int:
    """How many moments were tried; every one must leave what an undisturbed night leaves."""
    command = [sys.executable, "-m", "tests.crashing", str(folder), scenario, "0", str(step)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parent.parent)
    report = json.loads(done.stdout)
    assert report["expected"]["rows"]
    assert len(report["expected"]["rows"]) == len(report["expected"]["plain"])
    assert report["failures"] == []
    moments: int = report["moments"]
    return moments


def test_three_processes_at_once_over_one_inbox_score_each_content_once(results: Path, tmp_path: Path) -> None:
    inbox = made_up.draw_inbox(tmp_path / "inbox", images=60)
    command = [sys.executable, "-m", "tests.made_up", str(results), str(inbox)]
    root = Path(__file__).parent.parent
    processes = [subprocess.Popen(command, cwd=root) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(contents(results)) == len(set(contents(results))) == 60
    assert sum(done.counts.scored for done in commits(results, BUNDLE)) == 60
    assert [done.number for done in commits(results, BUNDLE)] == [1, 2, 3]
    assert staged(results) == []
    assert made_up.balanced(results)


def test_what_another_run_scored_meanwhile_is_dropped_before_the_night_is_evaluated(results: Path, inbox: Path) -> None:
    made_up.draw(inbox / "cam0" / "twin.png", 0)
    with begin_run(results, BUNDLE, NIGHT, inbox) as run:
        looked_at(taken_in(run, inbox), inbox)
        other = made_up.score(results, inbox / "cam0")
        settled = settle(run)
        assert (settled.lost, settled.counts.scored, settled.counts.scored_before) == (5, 4, 7)
        assert sum(len(rows) for rows in settled_rows(run)) == settled.trusted + settled.suspect == 4
        done = commit(run, settled, made_up.summary_of(run, settled))
    assert (other.number, done.number, done.counts.scored) == (1, 2, 4)
    assert len(contents(results)) == len(set(contents(results))) == 9
    assert made_up.balanced(results)


# -- crash and resume


def test_a_dead_run_is_resumed_with_its_id_its_manifest_and_its_finished_shards(results: Path, inbox: Path) -> None:
    seen: list[tuple[str, list[int]]] = []

    def first_shard_then_die(run: Run) -> None:
        seen.append((run.id, run.staging.unfinished()))
        made_up.look_at(run.staging, 1, inbox)
        raise Died

    with pytest.raises(Died):
        made_up.score(results, inbox, before_shards=first_shard_then_die)
    made_up.draw(inbox / "after-the-crash.png", 99)
    with begin_run(results, BUNDLE, NIGHT, inbox) as run:
        assert run.resumed
        assert (run.id, [0, 2]) == (seen[0][0], run.staging.unfinished())
        assert seen[0][1] == [0, 1, 2]
    assert made_up.score(results, inbox).counts.scored == 9
    assert made_up.score(results, inbox).counts.scored == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"night": date(2026, 3, 2)}, id="another night"),
        pytest.param({"bundle": "parts-2-ffffffffffff"}, id="another bundle"),
        pytest.param({"inbox": "elsewhere"}, id="another inbox"),
    ],
)
def test_only_the_same_work_is_resumed(results: Path, inbox: Path, tmp_path: Path, other: dict[str, object]) -> None:
    die_in(results, inbox, "before_settling")
    same = {"bundle": BUNDLE, "night": NIGHT, "inbox": inbox}
    with begin_run(results, **{**same, **other}) as run:  # type: ignore[arg-type]
        assert not run.resumed
        assert len(staged(results)) == 2
    with begin_run(results, **same) as run:  # type: ignore[arg-type]
        assert run.resumed


def test_a_dead_run_can_be_forgotten_instead(results: Path, inbox: Path) -> None:
    die_in(results, inbox, "before_settling")
    dead = staged(results)
    with begin_run(results, BUNDLE, NIGHT, inbox, resume=False) as run:
        assert not run.resumed
        assert staged(results) == [run.id] != dead


def test_a_run_that_is_alive_is_left_alone(results: Path, inbox: Path) -> None:
    with begin_run(results, BUNDLE, NIGHT, inbox) as one, begin_run(results, BUNDLE, NIGHT, inbox) as other:
        assert one.id != other.id
        assert not other.resumed
        assert len(staged(results)) == 2


def test_a_run_that_waits_finds_the_work_of_the_living_one_done(results: Path, inbox: Path) -> None:
    with begin_run(results, BUNDLE, NIGHT, inbox) as run, ThreadPoolExecutor(1) as pool:
        told = threading.Event()
        waiting = pool.submit(begin_run, results, BUNDLE, NIGHT, inbox, patience_seconds=60, on_wait=told.set)
        looked_at(taken_in(run, inbox), inbox)
        assert told.wait(20)
        assert not waiting.done()
        commit(run, settled := settle(run), made_up.summary_of(run, settled))
        run.close()
        with waiting.result() as second:
            left = taken_in(second, inbox).staging.shard(0)
            assert left["path"].to_pylist() == ["broken-0.png"]  # what was refused is looked at again every night


def test_an_abandoned_run_leaves_nothing(results: Path, inbox: Path) -> None:
    with begin_run(results, BUNDLE, NIGHT, inbox) as run:
        publish.abandon(taken_in(run, inbox))
    assert staged(results) == []


def test_a_decided_commit_is_completed_by_the_run_of_another_night(
    results: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "write_new", die_at_commits)
        with pytest.raises(Died):
            made_up.score(results, inbox)
    assert commits(results, BUNDLE) == []
    with begin_run(results, BUNDLE, NIGHT + timedelta(days=1), inbox) as run:
        assert [done.night for done in run.rolled_forward] == [NIGHT]
    assert len(made_up.rows_of(results)) == 9


def test_a_decided_commit_is_completed_by_a_run_of_another_bundle(
    results: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "write_new", die_at_commits)
        with pytest.raises(Died):
            made_up.score(results, inbox)
    with begin_run(results, "parts-2-ffffffffffff", NIGHT, inbox) as run:
        assert [done.bundle for done in run.rolled_forward] == [BUNDLE]
    assert len(made_up.rows_of(results)) == 9


_write_new = LocalStorage.write_new


def die_at_commits(storage: LocalStorage, key: str, data: bytes) -> None:
    if key.startswith("commits/"):
        raise Died
    _write_new(storage, key, data)


def test_a_disk_that_is_full_at_the_commit_loses_nothing_and_the_same_run_may_try_again(
    results: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begin_run(results, BUNDLE, NIGHT, inbox) as run:
        looked_at(taken_in(run, inbox), inbox)
        settled = settle(run)
        summary = made_up.summary_of(run, settled)
        for calls_until_full in range(12):
            left = [calls_until_full]

            def full(*_: object, left: list[int] = left, **__: object) -> None:
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(errno.ENOSPC, "No space left on device")

            with monkeypatch.context() as patched:
                real = os.fsync
                patched.setattr(os, "fsync", lambda fd, full=full, real=real: (full(), real(fd))[1])
                with pytest.raises(StorageError, match="No space left"):
                    commit(run, settled, summary)
            settled = settle(run)
        done = commit(run, settled, summary)
    assert done.counts.scored == 9
    assert len(contents(results)) == 9


@dataclass(frozen=True)
class AnswersTooLate(LocalStorage):
    """Does what it is told, and says that it failed: as a store whose answer was lost, and a disk at its last fsync."""

    def write_new(self, key: str, data: bytes) -> None:
        super().write_new(key, data)
        if key.startswith("commits/"):
            raise StorageError("No answer.")


def test_a_commit_that_was_told_as_failed_and_is_there_is_never_taken_back(results: Path, inbox: Path) -> None:
    storage = AnswersTooLate(results)
    with begin_run(storage, BUNDLE, NIGHT, inbox) as run:
        looked_at(taken_in(run, inbox), inbox)
        settled = settle(run)
        with pytest.raises(StorageError, match="No answer"):
            commit(run, settled, made_up.summary_of(run, settled))
        with pytest.raises(StorageError, match="committed already"):
            settle(run)
    assert len(read(results)) == settled.counts.scored
    made_up.score(results, inbox)
    assert sorted(contents(results)) == sorted(set(contents(results)))


def test_old_staging_that_nobody_resumed_is_removed_and_the_young_is_kept(
    results: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_in(results, inbox, "before_settling")
    elsewhere = {"bundle": BUNDLE, "night": NIGHT + timedelta(days=1), "inbox": inbox}
    with begin_run(results, **elsewhere) as run:  # type: ignore[arg-type]
        assert len(staged(results)) == 2
        publish.abandon(run)
    later = now() + runs.ABANDONED_AFTER + timedelta(minutes=1)
    monkeypatch.setattr(runs, "now", lambda: later)
    with begin_run(results, **elsewhere) as run:  # type: ignore[arg-type]
        assert staged(results) == [run.id]


# -- shards


def test_of_two_workers_that_finish_one_shard_the_first_counts(results: Path, inbox: Path) -> None:
    with begin_run(results, BUNDLE, NIGHT, inbox) as run:
        taken_in(run, inbox)
        rows = made_up.predictions(run.staging.shard(1))
        first = stage_part(run.staging, 1, rows, sketch=b"first")
        second = stage_part(Staging(run.staging.storage, run.id), 1, rows, sketch=b"second")
        assert second == first
        assert run.staging.sketch(run.staging.finished()[1]) == b"first"
        looked_at(run, inbox)
        commit(run, settled := settle(run), made_up.summary_of(run, settled))
    assert len(contents(results)) == 9


@pytest.mark.parametrize(
    ("keep", "refuse"),
    [
        pytest.param(slice(0, 3), [], id="one is forgotten"),
        pytest.param(slice(0, 4), [0], id="one is predicted and refused"),
        pytest.param(slice(0, 0), [], id="all are forgotten"),
        pytest.param(slice(0, 3), [3, 3], id="one is refused twice"),
    ],
)
def test_a_shard_that_does_not_account_for_every_image_is_not_staged(
    results: Path, inbox: Path, keep: slice, refuse: list[int]
) -> None:
    with begin_run(results, BUNDLE, NIGHT, inbox) as run:
        rows = taken_in(run, inbox).staging.shard(0)
        refused = [Refusal(rows["path"][n].as_py(), None, Reason.TRUNCATED) for n in refuse]
        predicted = made_up.predictions(rows)[keep]
        with pytest.raises(StorageError, match="exactly once"):
            stage_part(run.staging, 0, predicted, refused)
        assert run.staging.finished() == {}


def test_a_shard_of_another_run_is_not_staged(results: Path, inbox: Path) -> None:
    with begin_run(results, BUNDLE, NIGHT, inbox) as run:
        rows = taken_in(run, inbox).staging.shard(0)
        refused = [Refusal("stranger.png", None, Reason.TRUNCATED)]
        with pytest.raises(StorageError, match="exactly once"):
            stage_part(run.staging, 0, made_up.predictions(rows), refused)


def test_a_worker_that_outlives_its_run_changes_nothing(results: Path, inbox: Path) -> None:
    with begin_run(results, BUNDLE, NIGHT, inbox) as run:
        rows = made_up.predictions(taken_in(run, inbox).staging.shard(0))
        looked_at(run, inbox)
        commit(run, settled := settle(run), made_up.summary_of(run, settled))
    with pytest.raises(StorageError, match="over"):
        stage_part(run.staging, 0, rows)
    assert staged(results) == []


def test_an_unfinished_run_cannot_be_committed(results: Path, inbox: Path) -> None:
    with begin_run(results, BUNDLE, NIGHT, inbox) as run:
        taken_in(run, inbox)
        made_up.look_at(run.staging, 1, inbox)
        with pytest.raises(StorageError, match=r"shards \[0, 2\] missing"):
            settle(run)


def test_what_a_shard_refuses_or_misses_is_quarantined_or_deferred_with_its_reason(results: Path, inbox: Path) -> None:
    def lose(_: Run) -> None:
        (inbox / "cam0" / "image-002.png").unlink()
        (inbox / "cam0" / "image-004.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"another")

    made_up.score(results, inbox, before_shards=lose)
    files = read(results, "files", columns=["path", "status", "reason"]).set_index("path")
    assert files.loc["cam0/image-002.png"].tolist() == ["deferred", "vanished"]
    assert files.loc["cam0/image-004.png"].tolist() == ["deferred", "changed_while_reading"]
    assert files.loc["broken-0.png"].tolist() == ["quarantined", "broken_data"]
    assert read(results, "quarantine")["path"].tolist() == ["broken-0.png"]
    assert made_up.score(results, inbox).counts.scored == 1


# -- ids, and runs that are kept back


def test_a_run_id_that_was_committed_gets_a_number_behind_it(results: Path, inbox: Path) -> None:
    names = []
    for _ in range(2):
        with begin_run(results, BUNDLE, NIGHT, inbox, "flow-run-7") as run:
            looked_at(taken_in(run, inbox), inbox)
            names.append(commit(run, settled := settle(run), made_up.summary_of(run, settled)).run)
    assert names == ["flow-run-7", "flow-run-7-2"]
    assert find_commit(results, BUNDLE, "flow-run-7") is not None


@pytest.mark.parametrize("name", ["", "../up", "a/b", "2026", "a b", "x" * 300, ".hidden", "run=1"])
def test_ids_that_cannot_be_folders_of_a_hive_dataset_are_refused(results: Path, inbox: Path, name: str) -> None:
    with pytest.raises(WrongUse, match="id of a run"):
        begin_run(results, BUNDLE, NIGHT, inbox, name)
    with pytest.raises(WrongUse, match="id of a bundle"):
        begin_run(results, name, NIGHT, inbox)


def kept_back(results: Path, inbox: Path) -> str:
    with begin_run(results, BUNDLE, NIGHT, inbox) as run:
        if run.staging.frozen() is None:
            taken_in(run, inbox)
        looked_at(run, inbox)
        settled = settle(run)
        publish.hold(run, settled, made_up.summary_of(run, settled, NightVerdict.ALARM), made_up.drift_rows())
        return run.id


def test_a_run_that_is_kept_back_is_in_no_results_until_it_is_released(results: Path, inbox: Path) -> None:
    name = kept_back(results, inbox)
    assert [intent.run for intent in publish.held(results)] == [name]
    assert bundles(results) == []
    assert not (results / "predictions").exists()
    done: Commit = publish.release(results, name, why="it is right after all")
    assert (done.run, done.verdict, done.counts.scored) == (name, NightVerdict.ALARM, 9)
    assert len(contents(results)) == 9
    assert len(read(results, "drift")) == 1
    assert publish.held(results) == []
    (decision,) = decisions(results)
    assert (decision.act, decision.why) == (Act.RELEASE_RUN, "it is right after all")
    assert decision.held is not None
    assert (decision.held.run, decision.held.night) == (name, NIGHT)


def test_a_newer_held_run_of_the_night_replaces_the_older(results: Path, inbox: Path) -> None:
    first = kept_back(results, inbox)
    second = kept_back(results, inbox)
    assert first != second
    assert [intent.run for intent in publish.held(results)] == [second] == staged(results)
    (decision,) = decisions(results)
    assert decision.act is Act.DISCARD_RUN
    assert decision.held is not None
    assert decision.held.run == first
    assert second in decision.why


def test_a_released_run_loses_what_was_scored_meanwhile(results: Path, inbox: Path) -> None:
    name = kept_back(results, inbox)
    made_up.score(results, inbox / "cam0")
    assert publish.release(results, name, why="it is right after all").counts.scored == 4
    assert len(contents(results)) == len(set(contents(results))) == 9
    assert made_up.balanced(results)


def test_a_discarded_run_is_gone_and_its_contents_count_as_not_scored(results: Path, inbox: Path) -> None:
    publish.discard(results, kept_back(results, inbox), why="the wrong folder", by="ada")
    assert staged(results) == []
    assert [(one.act, one.by, one.why) for one in decisions(results)] == [(Act.DISCARD_RUN, "ada", "the wrong folder")]
    assert made_up.score(results, inbox).counts.scored == 9


def test_what_is_not_kept_back_cannot_be_released(results: Path, inbox: Path) -> None:
    name = kept_back(results, inbox)
    with pytest.raises(WrongUse, match=name):
        publish.release(results, "another", why="x")
    with pytest.raises(WrongUse, match="kept back"):
        publish.discard(results, "../commits", why="x")
    assert decisions(results) == []


def test_a_run_is_neither_released_nor_discarded_without_a_reason(results: Path, inbox: Path) -> None:
    name = kept_back(results, inbox)
    for act in (publish.release, publish.discard):
        with pytest.raises(WrongUse, match="kept with its reason"):
            act(results, name, why=" ")
    assert [intent.run for intent in publish.held(results)] == [name]
