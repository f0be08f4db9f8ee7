"""`darkroom trace`: which bundle, code, parameters and person made a row, and what people decided about it since."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from darkroom import code, demo_world
from darkroom import results as committed
from darkroom.acknowledgements import acknowledge
from darkroom.decisions import Act
from darkroom.errors import StorageError, WrongUse
from darkroom.labels import record_labels
from darkroom.reasons import FileStatus, NightVerdict, Reason
from darkroom.schemas import LABELS
from darkroom.settings import IntakeOptions, NightOptions, QuarantineFilter, RunOptions
from tasks import publish
from tasks.bundle import Bundle, history_of, promote
from tasks.decided import delete_copies, release_files
from tasks.set_aside import chosen, set_aside
from tasks.trace import trace
from tasks.traced import ContentTraced, RowTraced
from tests import made_up
from tests.made_up import BUNDLE, NIGHT

NEXT = NIGHT + timedelta(days=1)
SECOND_VERSION = "parts-2-ba9876543210"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return made_up.draw_inbox(tmp_path / "inbox", images=3, broken=1)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def one(results: Path, row: str) -> ContentTraced:
    (found,) = trace(results, row).contents
    return found


def row(results: Path, text: str) -> RowTraced:
    (found,) = one(results, text).rows
    return found


def id_of(results: Path, path: str) -> str:
    files = committed.read(results, "files", columns=["path", "content_id"])
    return str(files.loc[files["path"] == path, "content_id"].iloc[0])


class TestWhatIsFound:
    def test_a_scored_row_by_id_by_its_beginning_by_path_and_by_the_path_in_full(
        self, results: Path, inbox: Path
    ) -> None:
        commit = made_up.score(results, inbox)
        content_id = id_of(results, "cam1/image-001.png")
        for text in (
            content_id,
            content_id[:8],
            content_id.upper(),
            f"sha256:{content_id}",
            "cam1/image-001.png",
            str(inbox / "cam1/image-001.png"),
        ):
            found = one(results, text)
            assert found.content_id == content_id, text
            assert [(made.status, made.path) for made in found.rows] == [(FileStatus.SCORED, "cam1/image-001.png")]
        run = row(results, content_id).run
        assert (run.commit, run.run, run.night, run.inbox) == (1, commit.run, NIGHT, str(inbox))
        assert (run.bundle, run.bundle_version, run.verdict) == (BUNDLE, 1, NightVerdict.OK)
        assert (run.versions, run.parameters) == ({"darkroom": "0"}, {"shard_size": 4})

    def test_a_duplicate_leads_to_the_row_of_its_content(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        found = one(results, "cam0/image-000.png")
        assert [made.path for made in found.rows] == ["again.png"]
        assert [(seen.status, seen.path) for seen in found.seen] == [(FileStatus.DUPLICATE, "cam0/image-000.png")]
        assert "cam0/image-000.png: duplicate of again.png" in trace(results, "cam0/image-000.png").as_text()

    def test_a_quarantined_row_and_all_that_was_decided_about_it(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        (inbox / "broken-0.png").unlink()
        release_files(results, set_aside(results), why="let us see", by="ada")
        made_up.score(results, inbox, night=NEXT)
        delete_copies(results, chosen(set_aside(results), [Reason.BROKEN_DATA], QuarantineFilter()), why="seen")
        found = one(results, "broken-0.png")
        (made,) = found.rows
        assert (made.status, made.reason, made.detail) == (FileStatus.QUARANTINED, Reason.BROKEN_DATA, "made so")
        assert made.path.startswith("../results/")
        assert [(seen.status, seen.path) for seen in found.seen] == [(FileStatus.QUARANTINED, "broken-0.png")]
        assert [(decision.number, decision.act) for decision in found.decided] == [
            (2, Act.DELETE_COPIES),
            (1, Act.RELEASE_FILES),
        ]
        assert found.decided[1].by == "ada"
        assert found.copy_kept is None

    def test_a_path_that_was_never_read_can_be_traced(self, results: Path, inbox: Path) -> None:
        (inbox / "link.png").symlink_to("/etc/hostname")
        made_up.score(results, inbox)
        found = one(results, "link.png")
        assert found.content_id is None
        assert [(made.status, made.reason) for made in found.rows] == [
            (FileStatus.QUARANTINED, Reason.LINK_OUT_OF_FOLDER)
        ]

    def test_a_path_that_was_merely_seen_can_be_traced(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        found = one(results, "notes.txt")
        assert found.rows == ()
        assert [seen.status for seen in found.seen] == [FileStatus.NOT_AN_IMAGE]

    def test_what_is_seen_night_after_night_is_told_in_one_line(self, results: Path, inbox: Path) -> None:
        for later in range(4):
            made_up.score(results, inbox, night=NIGHT + timedelta(days=later))
        scored = one(results, "cam1/image-001.png")
        assert [made.run.night for made in scored.rows] == [NIGHT]
        assert [(seen.runs, seen.first, seen.last) for seen in scored.seen] == [(3, NEXT, NIGHT + timedelta(days=3))]
        refused = one(results, "broken-0.png")
        assert [made.run.night for made in refused.rows] == [NIGHT + timedelta(days=3)]
        assert [(seen.status, seen.runs) for seen in refused.seen] == [(FileStatus.QUARANTINED, 3)]

    def test_a_path_that_was_another_content_each_night_is_all_of_them_newest_first(
        self, results: Path, inbox: Path
    ) -> None:
        made_up.score(results, inbox)
        made_up.draw(inbox / "cam1/image-001.png", 99)
        made_up.score(results, inbox, night=NEXT)
        found = trace(results, "cam1/image-001.png").contents
        assert [content.rows[0].run.night for content in found] == [NEXT, NIGHT]
        assert len({content.content_id for content in found}) == 2

    def test_each_version_of_the_bundle_that_scored_it_is_a_row(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        made_up.score(results, inbox, night=NEXT, bundle=SECOND_VERSION)
        found = one(results, "cam1/image-001.png")
        assert [(made.run.bundle, made.run.bundle_version) for made in found.rows] == [(SECOND_VERSION, 2), (BUNDLE, 1)]

    @pytest.mark.parametrize("text", ["nothing", "0123456789abcdef", "abc", "../..", ""], ids=repr)
    def test_what_is_not_there_is_wrong_use(self, results: Path, inbox: Path, text: str) -> None:
        made_up.score(results, inbox)
        with pytest.raises(WrongUse, match="No row of these results"):
            trace(results, text)

    def test_a_beginning_that_several_contents_have_is_wrong_use_and_names_them(
        self, results: Path, inbox: Path
    ) -> None:
        seen: dict[str, bytes] = {}
        for number in range(1_000_000):  # 32 bits: two of about 80,000 begin alike
            data = b"\x89PNG\r\n\x1a\n%d" % number
            beginning = hashlib.sha256(data).hexdigest()[:8]
            if beginning in seen:
                break
            seen[beginning] = data
        (inbox / "one.png").write_bytes(data)
        (inbox / "other.png").write_bytes(seen[beginning])
        made_up.score(results, inbox)
        with pytest.raises(WrongUse, match="Several contents begin so") as caught:
            trace(results, beginning)
        assert str(caught.value).count(beginning) == 2
        assert row(results, hashlib.sha256(data).hexdigest()[:20]).path == "one.png"

    def test_a_folder_without_results_is_wrong_use(self, tmp_path: Path) -> None:
        with pytest.raises(WrongUse, match="no results"):
            trace(tmp_path, "a.png")

    def test_a_part_that_is_lost_is_an_error_and_not_an_answer(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        shutil.rmtree(results / "predictions")
        with pytest.raises(StorageError, match="missing"):
            trace(results, "cam1/image-001.png")


class TestWhoDidWhat:
    def test_labels_and_acknowledgements_are_told_with_who_and_why(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox, verdict=NightVerdict.ALARM)
        content_id = id_of(results, "cam1/image-001.png")
        acknowledge(results, NIGHT, reason="lamp replaced", by="ada")
        moment = datetime(2026, 3, 9, tzinfo=UTC)
        stated = dict.fromkeys(LABELS.names) | {"content_id": content_id, "label": "nut", "source": "bob.csv"}
        record_labels(results, pd.DataFrame([stated | {"labelled_at": moment, "received_at": moment}]))
        found = one(results, content_id)
        assert [(label.label, label.source) for label in found.labels] == [("nut", "bob.csv")]
        assert [(known.by, known.reason) for known in found.rows[0].run.acknowledged] == [("ada", "lamp replaced")]
        text = trace(results, content_id).as_text()
        assert "acknowledged by ada" in text
        assert "nut, of 2026-03-09, from bob.csv" in text

    def test_who_released_a_run_that_was_kept_back_is_told(self, results: Path, inbox: Path) -> None:
        def keep_back(run: publish.Run) -> None:
            settled = publish.settle(run)
            publish.hold(run, settled, made_up.summary_of(run, settled, NightVerdict.ALARM))
            raise InterruptedError

        with pytest.raises(InterruptedError):
            made_up.score(results, inbox, before_commit=keep_back)
        (waiting,) = publish.held(results)
        publish.release(results, waiting.run, why="it was meant to be dim", by="ada")
        (decision,) = row(results, "cam1/image-001.png").run.decided
        assert (decision.act, decision.by, decision.why) == (Act.RELEASE_RUN, "ada", "it was meant to be dim")

    def test_who_sealed_and_promoted_the_bundle_until_then_is_told(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        models = results.parent / "models"
        (models / "parts").mkdir(parents=True)
        happened = [
            ("sealed", BUNDLE, "trained", "ada", "2026-02-01T10:00:00Z"),
            ("promoted", BUNDLE, "best", "bob", "2026-02-02T10:00:00Z"),
            ("promoted", SECOND_VERSION, "newer", "bob", "2026-02-03T10:00:00Z"),
            ("promoted", BUNDLE, "back again", "eve", "2026-05-01T10:00:00Z"),
        ]
        names = ("event", "id", "reason", "by", "at")
        lines = [{**dict(zip(names, one, strict=True)), "version": 1} for one in happened]
        (models / "parts" / "history.jsonl").write_text("\n".join([*map(json.dumps, lines), '{"half']))
        (found,) = trace(results, "cam1/image-001.png", models=models).contents
        told = [(event.event, event.by, event.reason) for event in found.rows[0].run.in_use]
        assert told == [("sealed", "ada", "trained"), ("promoted", "bob", "best")]

    def test_a_run_from_before_this_was_recorded_says_so(self, results: Path, inbox: Path) -> None:
        made_up.score(results, inbox)
        commit = results / "commits" / BUNDLE / "00000001.json"
        stated = json.loads(commit.read_text())
        del stated["summary"]["whence"]
        commit.write_text(json.dumps(stated))
        assert "started    not recorded" in trace(results, "cam1/image-001.png").as_text()


class TestARealRun:
    @pytest.mark.usefixtures("prefect_api")
    def test_a_row_tells_its_run_code_parameters_bundle_and_person(self, bundle: Bundle, tmp_path: Path) -> None:
        from prefect import tags

        from flows.score import score

        demo_world.draw_night(tmp_path / "inbox", "good", images=2, seed=3)
        results = tmp_path / "results"
        with tags("audit-7"):
            summary = score(
                bundle=bundle.path,
                inbox=str(tmp_path / "inbox"),
                results=results,
                night=NightOptions(night=date(2026, 3, 5), timezone="Europe/Berlin"),
                intake=IntakeOptions(settle_seconds=0),
                run=RunOptions(thumbnails=False),
            )
        whence = summary.whence
        assert whence is not None
        assert (whence.started, whence.deployment, whence.tags) == ("by hand", None, ("audit-7",))
        assert whence.flow_run is not None
        assert whence.parameters["night.timezone"] == "Europe/Berlin"
        assert whence.parameters["night.night"] == "2026-03-05"
        assert whence.parameters["intake.settle_seconds"] == 0
        assert whence.parameters["run.thumbnails"] is False
        assert whence.parameters["bundle"] == whence.bundle_path == str(bundle.path)
        path = str(committed.read(results)["path"][0])
        command = [sys.executable, "-m", "darkroom.cli", "trace", path, "--results", str(results)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        for told in (
            f"{bundle.id}, version 1, {bundle.path}",
            f"sealed by {whence.by}",
            f"promoted by {whence.by}",
            f"by hand, in a terminal or a program; the process was {whence.by}'s on {whence.host}",
            f"({whence.flow_run}), tags audit-7",
            "night.timezone=Europe/Berlin",
            f"git commit {code.code_commit()}",
            "tensorflow 2.",
            f"page       {summary.report}",
        ):
            assert told in done.stdout, done.stdout
        spoken = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60).stdout)
        assert spoken["contents"][0]["rows"][0]["run"]["whence"]["flow_run"] == whence.flow_run


class TestTheBundlesHistory:
    def test_promotions_are_added_with_who_when_and_why_and_nothing_before_is_changed(
        self, tiny_models: Path, tmp_path: Path
    ) -> None:
        models = Path(shutil.copytree(tiny_models, tmp_path / "models"))
        before = (models / "tiny" / "history.jsonl").read_text()
        promote(models, "tiny", 2, reason="better at night", by="ada")
        after = (models / "tiny" / "history.jsonl").read_text()
        assert after.startswith(before)
        last = history_of(models / "tiny")[-1]
        assert (last.event, last.version, last.by, last.reason) == ("promoted", 2, "ada", "better at night")
        assert last.at.tzinfo is not None


class TestTheCode:
    def git(self, folder: Path, *arguments: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def test_a_checkout_has_its_commit_and_says_that_it_was_changed(self, tmp_path: Path) -> None:
        self.git(tmp_path, "init")
        (tmp_path / "a.py").write_text("1")
        self.git(tmp_path, "add", "a.py")
        self.git(tmp_path, "commit", "-m", "x")
        commit = self.git(tmp_path, "rev-parse", "HEAD")
        assert code._of_checkout(tmp_path) == commit
        (tmp_path / "a.py").write_text("2")
        assert code._of_checkout(tmp_path) == f"{commit} and changes"

    def test_a_repository_of_the_user_s_around_an_installation_is_not_ours(self, tmp_path: Path) -> None:
        self.git(tmp_path, "init")
        (tmp_path / "site-packages").mkdir()
        assert code._of_checkout(tmp_path / "site-packages") is None
