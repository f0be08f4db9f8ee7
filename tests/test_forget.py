"""Images are forgotten wherever something of them lies; every other row stays, and nothing says what they were."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from darkroom import results as committed
from darkroom.decisions import decisions
from darkroom.errors import StorageError, WrongUse
from darkroom.forgotten import forgotten
from darkroom.labels import recorded_labels
from darkroom.results import commits, read_part
from darkroom.storage import storage_at
from darkroom.summary import Whence
from flows.forget import forget
from tasks.forgetting.pages import BLANK, page_without
from tasks.forgetting.rows import forget_rows, in_commits
from tasks.forgetting.sought import Photo, Sought
from tasks.publish import begin_run
from tests import made_up, remembered
from tests.made_up import BUNDLE, NIGHT
from tests.plugins.object_store import ObjectServer
from tests.remembered import BROKEN, SEEN, content_of, rows_of, traces
from tests.shown import Outline


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results and their inbox; read only."""
    folder = tmp_path_factory.mktemp("remembered")
    remembered.remember(folder / "results", folder / "inbox")
    return folder


@pytest.fixture
def inbox(world: Path) -> Path:
    return world / "inbox"


@pytest.fixture
def results(world: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(world / "results", tmp_path / "results"))


@pytest.fixture
def ids(inbox: Path) -> frozenset[str]:
    return frozenset(content_of(inbox, path) for path in (SEEN, BROKEN))


def needles(ids: frozenset[str], inbox: Path) -> dict[str, bytes]:
    """Of each image its id and its paths, and of its pictures the end."""
    names = {SEEN: SEEN.encode(), BROKEN: BROKEN.encode(), "twice.png": b"twice.png"}
    return {**{f"id {one[:8]}": one.encode() for one in ids}, **names, **remembered.pictures(ids)}


def asked(results: Path, contents: frozenset[str] | list[str], why: str = "asked to", **options: object) -> object:
    return forget(results, sorted(contents), why=why, by="ada", **{"models": None, **options})  # type: ignore[arg-type]


def test_nothing_of_an_image_is_left_anywhere_and_every_other_row_is(
    results: Path, inbox: Path, ids: frozenset[str]
) -> None:
    before, others = traces(results, needles(ids, inbox)), rows_of(results, ids)
    for place in ("predictions/", "files/", "quarantine/", "quarantine_files/", "commits/", "labels/", "decisions/"):
        assert any(f" in {place}" in one for one in before), place
    assert any("picture" in one and " in reports/" in one for one in before)
    assert any(" in staging/" in one for one in before)
    asked(results, ids)
    assert traces(results, needles(ids, inbox)) == []
    assert rows_of(results) == rows_of(results, ids) == others


def test_what_was_done_is_recorded_and_not_what_it_was_about(results: Path, ids: frozenset[str]) -> None:
    asked(results, ids)
    (record,) = forgotten(results)
    counted = {(one.dataset, str(one.night), one.bundle[:7]): one.rows for one in record.rows}
    assert counted == {
        ("files", "2026-03-01", "parts-1"): 3, ("files", "2026-03-02", "parts-1"): 3,
        ("files", "2026-03-02", "parts-2"): 3, ("predictions", "2026-03-01", "parts-1"): 1,
        ("predictions", "2026-03-02", "parts-2"): 1, ("quarantine", "2026-03-01", "parts-1"): 1,
        ("quarantine", "2026-03-02", "parts-1"): 1, ("quarantine", "2026-03-02", "parts-2"): 1,
    }  # fmt: skip
    assert (record.number, record.why, record.by, record.images, record.commits) == (1, "asked to", "ada", 2, 3)
    assert (record.copies, record.labels, record.decisions, record.pages, record.unfinished) == (1, 5, 1, 3, 1)
    assert record.sentence.startswith("2 images forgotten: 14 rows of 2 nights, 1 copy in quarantine, 5 labels")


def test_commits_and_decisions_say_how_much_is_missing_and_the_counts_of_the_night_stay(
    results: Path, ids: frozenset[str]
) -> None:
    then = commits(results, BUNDLE)
    asked(results, ids)
    for before, after in zip(then, commits(results, BUNDLE), strict=True):
        assert after.counts == before.counts
        assert [part.rows + part.forgotten for part in after.parts] == [part.rows for part in before.parts]
        assert all(part.instead_of is None for part in after.parts)
    (decision,) = decisions(results)
    assert (len(decision.contents), decision.forgotten, decision.why) == (1, 1, "the decoder was mended")


def test_a_label_that_names_a_path_goes_where_that_path_may_have_meant_the_image(
    results: Path, ids: frozenset[str]
) -> None:
    asked(results, ids)
    left = recorded_labels(results)[["content_id", "path"]]
    assert left["content_id"].dropna().tolist() == ["f" * 64]
    assert left["path"].dropna().tolist() == ["other.png"]


def test_a_page_keeps_the_frames_of_the_others_and_stays_well_formed(results: Path, ids: frozenset[str]) -> None:
    pages = sorted((results / "reports").glob("*/*/*/index.html"))
    before = [Outline(page.read_text()) for page in pages]
    asked(results, ids)
    for page, then in zip(pages, before, strict=True):
        now = Outline(page.read_text())
        assert 0 < len(now.all("img")) < len(then.all("img"))
        assert len(now.all("li")) <= len(then.all("li"))
        assert "cam0/image-000.png" in now.text or "cam0/image-000.png" not in then.text
        assert "forgotten" in now.text


def test_a_page_that_cannot_be_drawn_without_it_for_sure_is_blanked() -> None:
    sought = Sought(frozenset({"a" * 64}))
    changed = b"<!DOCTYPE html><p>somebody wrote of cam0/ada.jpg by hand</p>"
    assert page_without(changed, frozenset({"cam0/ada.jpg"}), sought, None) == BLANK.encode()
    assert page_without(changed, frozenset({"ada.jpg", "cam0/ada"}), sought, None) == changed
    assert page_without(b"\xff\xfe", frozenset({"cam0/ada.jpg"}), sought, None) == BLANK.encode()


def test_a_training_photo_disappears_from_beside_the_others(results: Path) -> None:
    pages = [page.read_bytes() for page in (results / "reports").glob("*/*/*/index.html")]
    page = next(page for page in pages if remembered.PHOTO.path.encode() in page)
    photo = Photo(remembered.PHOTO.label, remembered.PHOTO.path)
    after = page_without(page, frozenset(), Sought(frozenset({"a" * 64}), photos=frozenset({photo})), None).decode()
    assert photo.path not in after
    assert 0 < len(Outline(after).all("img")) < len(Outline(page.decode()).all("img"))


def test_forgetting_the_same_again_is_nothing_to_do_as_is_what_never_came(results: Path, ids: frozenset[str]) -> None:
    asked(results, ids)
    before = remembered.whole(results)
    for contents in (ids, ["0" * 64]):
        with pytest.raises(WrongUse, match="nothing to do: nothing is known of it"):
            asked(results, contents)
    assert remembered.whole(results) == before


def test_what_is_known_is_forgotten_and_what_is_not_is_told(results: Path, inbox: Path) -> None:
    told = asked(results, [content_of(inbox, SEEN), "0" * 64])
    assert told.unknown == ("0" * 64,)  # type: ignore[attr-defined]
    assert len(forgotten(results)) == 1


def test_a_file_stands_for_its_content_and_one_that_is_still_delivered_is_told(results: Path, inbox: Path) -> None:
    told = asked(results, [str(inbox / SEEN)])
    assert told.delivered == (f"{inbox}/{SEEN}", f"{inbox}/twice.png")  # type: ignore[attr-defined]


def test_an_image_that_is_delivered_again_is_scored_as_new(tmp_path: Path) -> None:
    inbox, results = made_up.draw_inbox(tmp_path / "inbox", images=3), tmp_path / "results"
    made_up.score(results, inbox)
    asked(results, [content_of(inbox, "cam0/image-002.png")])
    again = made_up.score(results, inbox, night=NIGHT + timedelta(days=1))
    assert (again.counts.scored, again.counts.scored_before) == (1, 3)


@pytest.mark.parametrize(
    ("contents", "why", "says"),
    [
        pytest.param(["deadbeef"], "asked to", "neither a content id nor a file", id="half an id"),
        pytest.param(["no-such.jpg"], "asked to", "neither a content id nor a file", id="no such file"),
        pytest.param([], "asked to", "Nothing was named", id="nothing"),
        pytest.param(["0" * 64], " ", "recorded with its reason", id="no reason"),
        pytest.param(["0" * 64], f"it was {'0' * 64}.", "not with what was removed", id="the id as reason"),
        pytest.param(["SEEN"], "the photo image-004.png", "not with what was removed", id="its name as reason"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_changed(
    results: Path, inbox: Path, contents: list[str], why: str, says: str
) -> None:
    before = remembered.whole(results)
    with pytest.raises(WrongUse, match=says):
        asked(results, [content_of(inbox, SEEN) if one == "SEEN" else one for one in contents], why)
    assert remembered.whole(results) == before


def test_results_that_are_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="no results in this folder"):
        asked(tmp_path, ["0" * 64])


def test_a_run_that_is_alive_with_it_is_waited_for(results: Path, inbox: Path, ids: frozenset[str]) -> None:
    before = remembered.whole(results)
    with begin_run(results, "third-1-0123456789ab", NIGHT + timedelta(days=1), inbox) as run:
        assert run.resumed
        with pytest.raises(WrongUse, match="at work has taken it in"):
            asked(results, ids)
    assert remembered.whole(results) == before


def test_a_run_that_is_kept_back_with_it_is_decided_about_first(results: Path, inbox: Path) -> None:
    from tasks.publish import discard, hold, settle

    with begin_run(results, "fourth-1-0123456789ab", NIGHT, inbox) as run:
        remembered.made_up_manifest(run, inbox)
        for shard in run.staging.unfinished():
            made_up.look_at(run.staging, shard, inbox)
        settled = settle(run)
        hold(run, settled, made_up.summary_of(run, settled), made_up.drift_rows())
    with pytest.raises(WrongUse, match="kept back has taken it in") as caught:
        asked(results, [content_of(inbox, SEEN)])
    assert f"darkroom discard {run.id}" in str(caught.value.todo)
    discard(results, run.id, why="looked at")
    asked(results, [content_of(inbox, SEEN)])


def test_a_file_that_is_not_as_committed_is_not_rewritten(results: Path, inbox: Path, ids: frozenset[str]) -> None:
    part = next(one for one in commits(results, BUNDLE)[0].parts if one.dataset == "predictions")
    data = bytearray((results / part.path).read_bytes())
    data[20] ^= 1
    (results / part.path).write_bytes(data)
    with pytest.raises(StorageError):
        asked(results, [read_part(storage_at(results), part, ["content_id"])["content_id"][0].as_py()])
    assert (results / part.path).read_bytes() == data


def test_a_reader_that_knew_the_part_before_reads_what_its_commit_lists_now(results: Path, ids: frozenset[str]) -> None:
    storage = storage_at(results)
    before = [(part, read_part(storage, part)) for one in commits(results, BUNDLE) for part in one.parts]
    asked(results, ids)
    for part, rows in before:
        now = read_part(storage, part)
        if "content_id" in rows.column_names:
            rows = rows.filter(pc.invert(pc.is_in(rows["content_id"], pa.array(sorted(ids)))))
        assert now.equals(rows)


def test_a_reader_sees_a_part_before_or_after_at_every_step(
    results: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at after each call that changes the disk, by a reader of the commits and by one of the folder."""
    ids = frozenset({content_of(inbox, SEEN)})
    before, others, seen = rows_of(results), rows_of(results, ids), set()
    rename = os.rename

    def looked(*args: object) -> None:
        rename(*args)  # type: ignore[arg-type]
        now = rows_of(results)
        for reader, rows in now.items():
            assert Counter(others[reader]) <= Counter(rows) <= Counter(before[reader])
        seen.add(len(now["files by plain"]))

    monkeypatch.setattr(os, "rename", looked)
    storage, sought = storage_at(results), Sought(ids)
    for one in list(in_commits(storage, sought)):
        forget_rows(storage, one, sought)
    assert len(seen) == 4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reached", [True, False])
def test_the_artifacts_of_the_runs_that_showed_it_are_removed_where_a_server_is_reached(
    results: Path, inbox: Path, ids: frozenset[str], prefect_api: str, reached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
    from prefect.context import refresh_global_settings_context

    monkeypatch.delenv("DARKROOM_PRIVATE_API")  # one that lasts
    if not reached:
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    refresh_global_settings_context()
    commit, other = commits(results, BUNDLE)[0], uuid4()
    whence = Whence(by="ada", host="here", started="by hand", flow_run=str(uuid4()))
    summary = commit.summary.model_copy(update={"whence": whence})
    committed.rewrite_commit(storage_at(results), commit.model_copy(update={"summary": summary}))
    with SyncPrefectClient(prefect_api) as client:
        for run in (UUID(whence.flow_run), other):
            for key in ("night-parts", "drift-parts", "quarantine-parts", "progress-parts"):
                client.create_artifact(ArtifactCreate(key=key, type="markdown", data=SEEN, flow_run_id=run))  # type: ignore[call-arg]

        def left(run: UUID) -> list[str | None]:
            of_it = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
            return sorted(one.key for one in client.read_artifacts(artifact_filter=of_it))  # type: ignore[type-var]

        told = forget(results, sorted(ids), why="asked to", by="ada", models=None)
        assert told.artifacts == (3 if reached else None)
        assert left(UUID(whence.flow_run)) == (["progress-parts"] if reached else left(other))
        assert len(left(other)) == 4
    assert ("3 artifact(s)" if reached else "not looked for") in told.as_text()
    assert forgotten(results)
    monkeypatch.undo()
    refresh_global_settings_context()


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(1500)])])
def test_a_removal_that_is_killed_at_any_call_that_changes_the_disk_is_complete_after_the_next(
    tmp_path: Path, step: int
) -> None:
    command = [sys.executable, "-m", "tests.remembered", str(tmp_path), "0", str(step)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parent.parent)
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["moments"] >= 100 // step


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_removal_that_is_killed_at_a_call_that_changes_the_object_store_is_complete_after_the_next(
    tmp_path: Path, object_server: ObjectServer
) -> None:
    command = [sys.executable, "-m", "tests.remembered", str(tmp_path), "5", "17", object_server.folder()]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parent.parent)
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["moments"] >= 2


def test_results_in_an_object_store_forget_as_those_on_a_disk(tmp_path: Path, object_server: ObjectServer) -> None:
    import obstore

    results, inbox = Path(object_server.folder()), made_up.draw_inbox(tmp_path / "inbox", images=5, broken=2)
    for night in (NIGHT, NIGHT + timedelta(days=1)):
        made_up.score(results, inbox, night=night)
    ids = frozenset(content_of(inbox, path) for path in (SEEN, BROKEN))
    storage = storage_at(results)
    listed = [(part, read_part(storage, part)) for one in commits(results, BUNDLE) for part in one.parts]
    asked(results, ids)
    keys = [one["path"] for page in obstore.list(storage.store()) for one in page]  # type: ignore[attr-defined]
    found = b"".join(key.encode() + storage.read(key) for key in keys)
    assert not [one for one in ids if one.encode() in found]
    for dataset in remembered.EVERY_ROW:
        tables = [rows["content_id"].to_pylist() for part, rows in listed if part.dataset == dataset]
        before = Counter(one for table in tables for one in table if one not in ids)
        frame = committed.read(results, dataset, columns=["content_id"]).astype(object)
        assert Counter(frame["content_id"].where(frame["content_id"].notna(), None)) == before
    with pytest.raises(WrongUse, match="nothing to do"):
        asked(results, ids)
    assert made_up.score(results, inbox, night=NIGHT + timedelta(days=2)).counts.scored == 1
