"""The flow and the command `quarantine`: what a person sees, decides, and what the next night then does."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun

import darkroom
from darkroom import demo_world
from darkroom.decisions import Act, decisions
from darkroom.errors import WrongUse
from darkroom.reasons import Reason
from darkroom.settings import IntakeOptions, NightOptions, QuarantineFilter, RunOptions
from darkroom.summary import NightSummary
from flows.quarantined import QuarantineTold
from tasks.bundle import Bundle
from tasks.decode import Limits
from tasks.quarantine import COPIES
from tests import made_up
from tests.made_up import NIGHT

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A night with four broken pictures, one of a format that is not allowed, and an empty file."""
    inbox = made_up.draw_inbox(tmp_path / "inbox", images=3, broken=4)
    made_up.draw(inbox / "a | b <i>c<i>.bmp", 7, file_format="BMP")
    (inbox / "empty.jpg").write_bytes(b"")
    made_up.score(tmp_path / "results", inbox)
    return tmp_path / "results"


def run(results: Path, action: str = "list", **parameters: Any) -> QuarantineTold:
    from flows.quarantine import quarantine

    return quarantine(results=results, action=action, **parameters)  # type: ignore[no-any-return]


def newest_artifact() -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = [one for one in client.read_artifacts() if one.key == "quarantine"]
    return str(max(found, key=lambda one: one.created).data)


def test_the_list_counts_by_reason_and_shows_each_file_in_the_terminal_and_in_the_ui(results: Path) -> None:
    told = run(results).listed
    assert [(one.reason, one.files, one.copies) for one in told.reasons] == [
        (Reason.BROKEN_DATA, 4, 4),
        (Reason.EMPTY_FILE, 1, 0),
        (Reason.FORMAT_NOT_ALLOWED, 1, 1),
    ]
    assert told.sentence == "6 files are in quarantine. 5 copies kept."
    text, table = told.as_text(), newest_artifact()
    assert "      4        4         0  broken_data: the decoder found broken data" in text
    assert "empty.jpg  (night 2026-03-01, empty_file, no copy" in text
    assert "| broken\\_data | the decoder found broken data | 4 | 4 | 0 |" in table
    assert (
        "| a \\| b &lt;i&gt;c&lt;i&gt;.bmp | 2026-03-01 | format\\_not\\_allowed | BMP; allowed: JPEG, PNG |" in table
    )


def test_a_filtered_list_says_that_it_is_one(results: Path) -> None:
    told = run(results, reasons=(Reason.EMPTY_FILE,), which=QuarantineFilter(night=NIGHT))
    assert told.listed.sentence == "1 file of those asked for is in quarantine."
    told = run(results, which=QuarantineFilter(night=NIGHT + timedelta(days=1)))
    assert told.listed.sentence == "Nothing of those asked for is in quarantine."


def test_a_release_is_recorded_with_the_run_that_made_it_and_told(results: Path) -> None:
    told = run(results, "release", reasons=(Reason.BROKEN_DATA,), note="the decoder is mended", by="ada")
    (record,) = decisions(results)
    assert (record.act, record.by, len(record.contents)) == (Act.RELEASE_FILES, "ada", 4)
    assert record.flow_run is not None
    assert told.done[0] == "Decision 1: 4 files released by ada: the decoder is mended"
    assert told.listed.sentence.startswith("6 files are in quarantine. 4 of them released")
    assert "Decision 1: 4 files released by ada: the decoder is mended" in newest_artifact()


def test_a_deletion_tells_what_it_left(results: Path) -> None:
    told = run(results, "delete", note="seen")
    assert told.done[0].startswith("Decision 1: 5 copies (0.0 MB) deleted by ")
    assert told.done[-1] == "1 had no copy."
    assert (told.listed.files, told.listed.copies) == (6, 0)


@pytest.mark.parametrize("action", ["release", "delete"])
def test_without_a_note_nothing_is_done_and_the_error_names_the_parameter(results: Path, action: str) -> None:
    with pytest.raises(WrongUse, match="parameter: note"):
        run(results, action)
    assert decisions(results) == []


@pytest.mark.parametrize("hours", [0, -1, 1000], ids=str)
def test_nobody_waits_for_nothing_or_for_ever(results: Path, hours: float) -> None:
    with pytest.raises(WrongUse, match="parameter: hours"):
        run(results, "ask", hours=hours)


class TestAsking:
    """Through the API that the form behind Resume talks to; the form itself is filled in in tests/test_ui.py."""

    @staticmethod
    def answered_with(results: Path, *answers: dict[str, object], hours: float = 0.05) -> tuple[QuarantineTold, int]:
        """What the flow told, and how often it asked."""
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:

            def runs() -> list[FlowRun]:
                """Of these results: on the server there are others, which its scheduler plans."""
                return [one for one in client.read_flow_runs() if one.parameters.get("results") == str(results)]

            before = {one.id for one in runs()}

            def answer() -> None:
                for given in answers:
                    paused = None
                    while paused is None:
                        time.sleep(0.2)
                        paused = next((one for one in runs() if one.state is not None and one.state.is_paused()), None)
                    client.resume_flow_run(paused.id, run_input=given)

            answering = threading.Thread(target=answer, daemon=True)
            answering.start()
            told = run(results, "ask", reasons=(Reason.BROKEN_DATA,), hours=hours)
            answering.join(timeout=30)
            (asked,) = [one for one in runs() if one.id not in before]
            assert asked.state is not None
            assert asked.state.is_completed()
        return told, len(answers)

    def test_what_a_person_answers_is_done(self, results: Path) -> None:
        told, _ = self.answered_with(
            results, {"action": "release", "only": ["broken-1.png"], "note": "it is whole", "by": "ada"}
        )
        (record,) = decisions(results)
        assert [content.path for content in record.contents] == ["broken-1.png"]
        assert (record.by, record.why) == ("ada", "it is whole")
        assert told.decision == 1

    def test_an_answer_without_a_reason_is_asked_for_again(self, results: Path) -> None:
        self.answered_with(results, {"action": "delete"}, {"action": "delete", "note": "seen"})
        (record,) = decisions(results)
        assert (record.act, record.why, len(record.contents)) == (Act.DELETE_COPIES, "seen", 4)

    def test_nothing_is_an_answer_too(self, results: Path) -> None:
        told, _ = self.answered_with(results, {"action": "nothing"})
        assert told.done == ("Nothing is to be done.",)
        assert decisions(results) == []

    def test_where_nobody_answers_in_time_nothing_is_done_and_the_run_does_not_fail(self, results: Path) -> None:
        told, _ = self.answered_with(results, hours=2 / 3600)
        assert told.done[0].startswith("Nobody answered")
        assert decisions(results) == []

    def test_where_there_is_nothing_to_ask_about_nobody_is_asked(self, results: Path) -> None:
        told = run(results, "ask", reasons=(Reason.TRUNCATED,))
        assert told.listed.files == 0


class TestWithTheFlowThatScores:
    """Real images and a real decoder, whose limit was too low on the first night."""

    @staticmethod
    def score(bundle: Bundle, inbox: Path, results: Path, nights_later: int) -> NightSummary:
        from flows.score import score

        return score(
            bundle=bundle.path,
            inbox=f"{inbox}/{{night}}",
            results=results,
            night=NightOptions(night=NIGHT + timedelta(days=nights_later)),
            intake=IntakeOptions(settle_seconds=0),
            run=RunOptions(thumbnails=True),
        )

    @pytest.mark.parametrize("left", ["the copy", "the file of that night"])
    def test_what_a_limit_refused_is_scored_when_it_is_raised_and_what_is_broken_comes_back_with_its_reason(
        self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
    ) -> None:
        from flows import looking

        inbox, results = tmp_path / "inbox", tmp_path / "results"
        demo_world.draw_night(inbox / str(NIGHT), "good", images=4, seed=1)
        demo_world.draw_night(inbox / str(NIGHT + timedelta(days=1)), "good", images=3, seed=2)
        photo = next((inbox / str(NIGHT)).rglob("*.jpg"))
        (inbox / str(NIGHT) / "half.jpg").write_bytes(photo.read_bytes()[: photo.stat().st_size // 2])
        with monkeypatch.context() as lowered:
            limits = Limits(max_pixels=100)
            lowered.setattr(looking, "lent_pool", functools.partial(looking.lent_pool, limits=limits))
            first = self.score(bundle, inbox, results, 0)
        assert first.quarantine_reasons == {"too_many_pixels": 5}
        shutil.rmtree(inbox / str(NIGHT) if left == "the copy" else results / COPIES)
        run(results, "release", note="the limit is 100 megapixels now")
        second = self.score(bundle, inbox, results, 1)
        assert (second.counts.seen, second.counts.scored) == (8, 7)
        assert second.quarantine_reasons == {"truncated": 1}
        rows = darkroom.read(results)
        from_quarantine = rows[rows["path"].str.startswith("../")]
        assert len(from_quarantine) == 4
        assert from_quarantine["path"].str.contains(COPIES if left == "the copy" else str(NIGHT)).all()
        told = run(results).listed
        assert told.scored_since == 4
        assert [(one.reason, one.times, one.night) for one in told.newest] == [
            (Reason.TRUNCATED, 2, NIGHT + timedelta(days=1))
        ]


class TestAtTheTerminal:
    @staticmethod
    def darkroom(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "darkroom.cli", "quarantine", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def test_files_are_listed_released_and_their_copies_deleted(self, results: Path) -> None:
        listed = self.darkroom("list", "--results", results, "--json")
        assert json.loads(listed.stdout)["listed"]["files"] == 6
        some = ["--results", results, "--reason", "broken_data", "--only", "broken-0.png"]
        released = self.darkroom("release", *some, "--why", "the decoder is mended")
        assert released.returncode == 0, released.stderr
        assert released.stdout.startswith("Decision 1: 1 file released by ")
        deleted = self.darkroom("delete", "--results", results, "--reason", "broken_data", "--why", "seen", "--json")
        assert json.loads(deleted.stdout)["decision"] == 2
        assert [len(one.contents) for one in decisions(results)] == [1, 3]

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            pytest.param(["release"], "Nobody says why", id="no reason"),
            pytest.param(["list", "--reason", "ugly"], "ugly", id="no such code"),
            pytest.param(["forget"], "forget", id="no such action"),
        ],
    )
    def test_wrong_use_is_told(self, results: Path, arguments: list[str], says: str) -> None:
        done = self.darkroom(*arguments, "--results", results)
        assert done.returncode == 2
        assert says in done.stderr
        assert decisions(results) == []
