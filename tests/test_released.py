"""What lies in quarantine, released for the next run or its copies deleted: made-up nights, real files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from darkroom import results as committed
from darkroom.decisions import Act, decisions
from darkroom.errors import WrongUse
from darkroom.names import from_text
from darkroom.reasons import FileStatus, Reason
from darkroom.settings import QuarantineFilter
from darkroom.storage import storage_at
from tasks.decided import delete_copies, release_files
from tasks.intake import nothing_delivered
from tasks.ledger import open_ledger
from tasks.quarantine import COPIES
from tasks.released import with_released
from tasks.set_aside import SetAside, State, chosen, set_aside
from tests import made_up
from tests.made_up import NIGHT

NEXT = NIGHT + timedelta(days=1)
LATER = NIGHT + timedelta(days=2)
SECOND_VERSION = "parts-2-ba9876543210"
OTHER_BUNDLE = "fruit-1-0123456789ab"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return made_up.draw_inbox(tmp_path / "inbox", images=3, broken=2)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def scored(results: Path) -> list[str]:
    return sorted(committed.read(results, columns=["path"])["path"])


def status_of(results: Path, commit: committed.Commit, content_id: str) -> list[str]:
    files = committed.read(results, "files", columns=["content_id", "status", "run"])
    return sorted(files.loc[(files["run"] == commit.run) & (files["content_id"] == content_id), "status"])


def states(results: Path) -> list[State]:
    return sorted(row.state for row in set_aside(results))


def ids(rows: Iterable[SetAside]) -> set[str | None]:
    return {row.content_id for row in rows}


class TestWhatHappensToday:
    """Without a release: what is refused is looked at again by every run that comes across it, for whatever reason."""

    def test_a_content_refused_for_good_is_looked_at_by_every_run_of_its_inbox(
        self, results: Path, inbox: Path
    ) -> None:
        made_up.score(results, inbox)
        assert made_up.score(results, inbox, night=NEXT).counts.quarantined == 2
        assert made_up.score(results, inbox, night=LATER, mended=True).counts.scored == 2
        assert states(results) == [State.SCORED] * 2

    def test_nobody_looks_again_where_each_night_has_a_folder_of_its_own(self, results: Path, tmp_path: Path) -> None:
        made_up.draw_inbox(tmp_path / str(NIGHT), images=3, broken=2)
        made_up.draw(tmp_path / str(NEXT) / "new.png", 77)
        made_up.score(results, tmp_path / "{night}")
        after = made_up.score(results, tmp_path / "{night}", night=NEXT, mended=True)
        assert (after.counts.seen, after.counts.scored) == (1, 1)
        assert states(results) == [State.REFUSED] * 2


class TestRelease:
    def test_a_content_whose_file_is_gone_is_scored_from_its_copy_by_the_next_run(
        self, results: Path, inbox: Path
    ) -> None:
        made_up.score(results, inbox)
        for path in inbox.glob("broken-*"):
            path.unlink()
        told = release_files(results, set_aside(results), why="the decoder is mended", by="ada")
        assert (told.from_copy, told.from_place) == (2, 0)
        assert states(results) == [State.RELEASED] * 2
        after = made_up.score(results, inbox, night=NEXT, mended=True)
        assert (after.counts.scored, after.counts.quarantined) == (2, 0)
        assert made_up.balanced(results)
        assert states(results) == [State.SCORED] * 2

    def test_its_path_is_the_place_of_the_copy_seen_from_the_inbox(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        gone = (inbox / "broken-0.png").read_bytes()
        (inbox / "broken-0.png").unlink()
        release_files(results, set_aside(results), why="the decoder is mended")
        made_up.score(results, inbox, night=NEXT, mended=True)
        (path,) = [path for path in scored(results) if path.startswith("../")]
        assert path.startswith(f"../results/{COPIES}/")
        assert (inbox / from_text(path)).read_bytes() == gone

    def test_a_content_that_is_still_in_the_inbox_is_taken_in_once_and_from_there(
        self, results: Path, inbox: Path
    ) -> None:
        made_up.score(results, inbox)
        release_files(results, set_aside(results), why="the decoder is mended")
        after = made_up.score(results, inbox, night=NEXT, mended=True)
        assert after.counts.seen == sum(path.is_file() for path in inbox.rglob("*"))
        assert {"broken-0.png", "broken-1.png"} < set(scored(results))

    def test_a_content_that_was_never_copied_is_read_where_another_night_found_it(
        self, results: Path, tmp_path: Path
    ) -> None:
        made_up.draw_inbox(tmp_path / str(NIGHT), images=1, broken=1)
        (tmp_path / str(NEXT)).mkdir()
        made_up.score(results, tmp_path / "{night}")
        shutil.rmtree(results / COPIES)
        told = release_files(results, set_aside(results), why="the decoder is mended")
        assert (told.from_copy, told.from_place) == (0, 1)
        after = made_up.score(results, tmp_path / "{night}", night=NEXT, mended=True)
        assert after.counts.scored == 1
        assert f"../{NIGHT}/broken-0.png" in scored(results)

    def test_what_is_refused_again_is_quarantined_again_and_not_tried_a_third_time(
        self, results: Path, tmp_path: Path
    ) -> None:
        for night in (NIGHT, NEXT, LATER):
            made_up.draw_inbox(tmp_path / str(night), images=1, broken=int(night == NIGHT))
        made_up.score(results, tmp_path / "{night}")
        release_files(results, set_aside(results), why="let us see")
        again = made_up.score(results, tmp_path / "{night}", night=NEXT)
        assert (again.counts.quarantined, again.summary.quarantine_reasons) == (1, {"broken_data": 1})
        (row,) = set_aside(results)
        assert (row.state, row.times, row.night) == (State.REFUSED, 2, NEXT)
        assert row.place == str(tmp_path / str(NIGHT) / "broken-0.png")
        assert made_up.score(results, tmp_path / "{night}", night=LATER).counts.quarantined == 0

    def test_a_format_that_the_next_version_of_the_bundle_allows_is_scored_by_it(
        self, results: Path, inbox: Path
    ) -> None:
        made_up.draw(inbox / "picture.bmp", 88, file_format="BMP")
        made_up.score(results, inbox)
        (inbox / "picture.bmp").unlink()
        rows = chosen(set_aside(results), [Reason.FORMAT_NOT_ALLOWED], QuarantineFilter())
        release_files(results, rows, why="BMP is allowed now")
        unchanged = made_up.score(results, inbox, night=NEXT)
        assert unchanged.summary.quarantine_reasons["format_not_allowed"] == 1
        release_files(results, chosen(set_aside(results), [Reason.FORMAT_NOT_ALLOWED], QuarantineFilter()), why="again")
        allowed = made_up.score(results, inbox, night=LATER, bundle=SECOND_VERSION, formats=("PNG", "JPEG", "BMP"))
        assert status_of(results, allowed, str(rows[0].content_id)) == [FileStatus.SCORED]

    def test_only_the_bundle_and_the_inbox_that_refused_it_take_it_in(
        self, results: Path, inbox: Path, tmp_path: Path
    ) -> None:
        elsewhere = made_up.draw_inbox(tmp_path / "elsewhere", images=1, broken=0)
        made_up.score(results, inbox)
        (inbox / "broken-0.png").unlink()
        release_files(results, set_aside(results), why="the decoder is mended")
        assert made_up.score(results, elsewhere, mended=True).counts.seen == 3
        assert made_up.score(results, inbox, bundle=OTHER_BUNDLE, night=NEXT).counts.seen == 6
        assert State.RELEASED in states(results)
        assert made_up.score(results, inbox, night=NEXT, mended=True).counts.seen == 7

    def test_a_run_that_had_begun_before_the_release_does_not_answer_it(self, results: Path, tmp_path: Path) -> None:
        for night in (NIGHT, NEXT):
            made_up.draw_inbox(tmp_path / str(night), images=1, broken=int(night == NIGHT))
        made_up.score(results, tmp_path / "{night}")

        def release(_: object) -> None:
            release_files(results, set_aside(results), why="the decoder is mended")

        made_up.score(results, tmp_path / "{night}", before_settling=release)
        assert states(results) == [State.RELEASED]
        assert made_up.score(results, tmp_path / "{night}", night=NEXT, mended=True).counts.scored == 1

    def test_a_released_content_waits_while_its_bytes_are_missing(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        (inbox / "broken-0.png").unlink()
        release_files(results, set_aside(results), why="the decoder is mended")
        away = results.parent / "away"
        (results / COPIES).rename(away)
        made_up.score(results, inbox, night=NEXT)
        assert states(results) == [State.REFUSED, State.RELEASED]
        shutil.copytree(away, results / COPIES, dirs_exist_ok=True)
        assert made_up.score(results, inbox, night=LATER, mended=True).counts.scored == 2

    def test_a_copy_that_was_changed_is_not_the_content_that_was_released(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        (inbox / "broken-0.png").unlink()
        release_files(results, set_aside(results), why="the decoder is mended")
        for copy in (results / COPIES).iterdir():
            copy.write_bytes(PNG + b"something else")
        assert made_up.score(results, inbox, night=NEXT, mended=True).counts.scored == 1
        assert states(results) == [State.RELEASED, State.SCORED]

    def test_a_link_that_was_turned_out_of_its_inbox_since_is_not_followed(self, results: Path, tmp_path: Path) -> None:
        for night in (NIGHT, NEXT):
            made_up.draw_inbox(tmp_path / str(night), images=1, broken=int(night == NIGHT))
        made_up.score(results, tmp_path / "{night}")
        shutil.rmtree(results / COPIES)
        release_files(results, set_aside(results), why="the decoder is mended")
        file = tmp_path / str(NIGHT) / "broken-0.png"
        file.rename(tmp_path / "outside.png")
        file.symlink_to(tmp_path / "outside.png")
        assert made_up.score(results, tmp_path / "{night}", night=NEXT, mended=True).counts.scored == 0

    def test_two_runs_at_once_score_a_released_content_once(self, results: Path, tmp_path: Path) -> None:
        for night in (NIGHT, NEXT, LATER):
            made_up.draw_inbox(tmp_path / str(night), images=1, broken=int(night == NIGHT))
        made_up.score(results, tmp_path / "{night}")
        release_files(results, set_aside(results), why="the decoder is mended")

        def another(_: object) -> None:
            made_up.score(results, tmp_path / "{night}", night=LATER, mended=True)

        made_up.score(results, tmp_path / "{night}", night=NEXT, mended=True, before_settling=another)
        contents = committed.read(results, columns=["content_id"])["content_id"]
        assert len(contents) == contents.nunique() == 2
        assert made_up.balanced(results)

    def test_it_is_released_once_and_the_record_says_who_and_why(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        first = release_files(results, set_aside(results), why=" the limit is higher now ", by="ada", run="a-run")
        second = release_files(results, set_aside(results), why="once more")
        assert second.decision is None
        assert second.already == 2
        (record,) = decisions(results)
        assert record == first.decision
        assert (record.number, record.act, record.by, record.why, record.flow_run) == (
            1, Act.RELEASE_FILES, "ada", "the limit is higher now", "a-run",
        )  # fmt: skip
        assert {content.content_id for content in record.contents} == ids(set_aside(results))

    def test_nothing_is_released_without_a_reason_or_without_bytes(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        with pytest.raises(WrongUse, match="kept with its reason"):
            release_files(results, set_aside(results), why=" ")
        shutil.rmtree(results / COPIES)
        shutil.rmtree(inbox)
        assert release_files(results, set_aside(results), why="x").lost == 2
        assert decisions(results) == []


def test_what_one_camera_delivered_is_not_looked_at_with_the_images_of_another(
    results: Path, inbox: Path, tmp_path: Path
) -> None:
    delivered = {camera: tmp_path / "nights" / f"{NIGHT}" / camera for camera in ("left", "right")}
    for folder in delivered.values():
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(inbox, folder)
    made_up.score(results, delivered["left"])
    release_files(results, set_aside(results), why="once more")
    ledger = open_ledger(storage_at(results), made_up.BUNDLE)
    for camera, looked_at in (("left", 2), ("right", 0)):
        later = tmp_path / "nights" / f"{NEXT}" / camera
        later.mkdir(parents=True)
        manifest = nothing_delivered(later, ledger)
        template = f"{tmp_path}/nights/{{night:%Y-%m-%d}}/{camera}"
        found = with_released(manifest, ledger, inbox=template, formats=("jpeg", "png"))
        assert len(found.files) == looked_at


class TestWhatIsThere:
    def test_each_content_is_told_once_with_its_last_refusal(self, results: Path, inbox: Path) -> None:
        shutil.copy(inbox / "broken-0.png", inbox / "again-broken.png")
        made_up.score(results, inbox)
        made_up.score(results, inbox, night=NEXT)
        rows = set_aside(results)
        assert len(rows) == len(ids(rows)) == 2
        assert {(row.night, row.times, row.reason) for row in rows} == {(NEXT, 2, Reason.BROKEN_DATA)}
        assert all(row.copy is not None and (results / row.copy).is_file() for row in rows)

    def test_a_path_that_was_never_read_is_told_until_a_run_finds_it_otherwise(
        self, results: Path, inbox: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "secret.png").write_bytes(PNG)
        (inbox / "link.png").symlink_to(tmp_path / "secret.png")
        made_up.score(results, inbox)
        (row,) = [row for row in set_aside(results) if row.content_id is None]
        assert (row.path, row.reason) == ("link.png", Reason.LINK_OUT_OF_FOLDER)
        assert release_files(results, [row], why="x").never_read == 1
        (inbox / "link.png").unlink()
        made_up.score(results, inbox, night=NEXT)
        assert None not in ids(set_aside(results))

    @pytest.mark.parametrize(
        ("reasons", "which", "count"),
        [
            pytest.param([], {}, 3, id="all"),
            pytest.param([Reason.BROKEN_DATA], {}, 2, id="a reason"),
            pytest.param([Reason.BROKEN_DATA, Reason.UNKNOWN_FORMAT], {}, 3, id="two reasons"),
            pytest.param([Reason.TRUNCATED], {}, 0, id="a reason that nothing has"),
            pytest.param([], {"night": NIGHT}, 3, id="the night"),
            pytest.param([], {"night": NEXT}, 0, id="another night"),
            pytest.param([], {"bundle": "parts"}, 3, id="the bundle's name"),
            pytest.param([], {"bundle": made_up.BUNDLE}, 3, id="the bundle's id"),
            pytest.param([], {"bundle": "fruit"}, 0, id="another bundle"),
            pytest.param([], {"only": ("broken-1.png",)}, 1, id="a path"),
            pytest.param([], {"only": ("broken-1.png", "odd.png")}, 2, id="two paths"),
            pytest.param([], {"only": ("b",)}, 0, id="too short for a content id"),
            pytest.param([Reason.UNKNOWN_FORMAT], {"only": ("broken-1.png",)}, 0, id="both must hold"),
        ],
    )
    def test_a_person_names_some_of_them(
        self, results: Path, inbox: Path, reasons: list[Reason], which: dict[str, object], count: int
    ) -> None:
        (inbox / "odd.png").write_bytes(b"no picture")
        made_up.score(results, inbox)
        assert len(chosen(set_aside(results), reasons, QuarantineFilter.model_validate(which))) == count

    def test_a_content_id_its_beginning_and_the_path_in_full_name_it_too(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        rows = set_aside(results)
        row = rows[0]
        assert row.content_id is not None
        for text in (row.content_id, row.content_id[:8].upper(), str(inbox / row.path)):
            assert chosen(rows, [], QuarantineFilter(only=(text,))) == [row]
        assert chosen(rows, [], QuarantineFilter(inbox=f"{inbox}/../inbox")) == rows
        assert chosen(rows, [], QuarantineFilter(inbox=f"{inbox}/cam0")) == []

    def test_a_folder_without_results_is_wrong_use(self, tmp_path: Path) -> None:
        with pytest.raises(WrongUse, match="no results"):
            set_aside(tmp_path)


class TestDelete:
    def test_copies_are_removed_and_nothing_else(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        before = {path: path.read_bytes() for path in (*inbox.rglob("*"), *results.rglob("*")) if path.is_file()}
        copies = set((results / COPIES).iterdir())
        told = delete_copies(results, set_aside(results), why="seen, and thrown away", by="ada")
        assert (told.copies, told.bytes) == (2, sum(len(before[path]) for path in copies))
        after = {path: path.read_bytes() for path in (*inbox.rglob("*"), *results.rglob("*")) if path.is_file()}
        assert set(before) - set(after) == copies
        assert all(before[path] == after[path] for path in set(before) & set(after))
        (record,) = decisions(results)
        assert (record.act, record.by, record.why) == (Act.DELETE_COPIES, "ada", "seen, and thrown away")
        assert ids(set_aside(results)) == {content.content_id for content in record.contents}

    def test_a_deleted_copy_is_not_made_again(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        delete_copies(results, set_aside(results), why="seen")
        assert made_up.score(results, inbox, night=NEXT).counts.quarantined == 2
        assert list((results / COPIES).iterdir()) == []

    def test_the_copy_that_the_next_run_is_to_read_is_kept(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        release_files(results, set_aside(results)[:1], why="the decoder is mended")
        told = delete_copies(results, set_aside(results), why="seen")
        assert (told.copies, told.waiting) == (1, 1)
        assert len(list((results / COPIES).iterdir())) == 1

    def test_the_copy_of_what_was_scored_since_can_be_deleted(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        made_up.score(results, inbox, night=NEXT, mended=True)
        assert delete_copies(results, set_aside(results), why="scored since").copies == 2

    def test_nothing_is_deleted_without_a_reason(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        with pytest.raises(WrongUse, match="kept with its reason"):
            delete_copies(results, set_aside(results), why="")
        assert len(list((results / COPIES).iterdir())) == 2
