"""A night from the inbox to the commit: everything accounted for, everything once, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

import darkroom
from darkroom import demo_world
from darkroom.errors import WrongUse
from darkroom.reasons import NightVerdict
from darkroom.settings import IntakeOptions, NightOptions, RunOptions
from darkroom.summary import NightSummary
from tasks.bundle import Bundle
from tasks.inference import KerasEngine, Outputs

NIGHT = date(2026, 3, 2)
# What differs between two runs of the same work.
OF_THE_RUN = ["run", "scored_at"]


def score_night(
    bundle: Bundle, inbox: Path, results: Path, *, night: date = NIGHT, run: object = None, **intake: object
) -> NightSummary:
    from flows.score import score

    return score(
        bundle=bundle.path,
        inbox=str(inbox),
        results=results,
        night=NightOptions(night=night),
        intake=IntakeOptions.model_validate({"settle_seconds": 0, **intake}),
        run=RunOptions.model_validate(run or {"shard_size": 20}),
    )


def command_line(bundle: Bundle, inbox: Path, results: Path) -> list[str]:
    options = ["--night", f"{NIGHT}", "--settle-seconds", "0", "--shard-size", "10", "--no-thumbnails", "--json"]
    return [
        sys.executable,
        "-m",
        "darkroom.cli",
        "score",
        str(bundle.path),
        str(inbox),
        "--results",
        str(results),
        *options,
    ]


def rows_of(results: Path, bundle: Bundle) -> pd.DataFrame:
    rows = darkroom.read(results, bundle=bundle.id).drop(columns=OF_THE_RUN)
    return rows.sort_values("content_id", ignore_index=True)


@pytest.mark.parametrize("policy", ["commit", "hold"])
def test_a_night_whose_run_died_after_the_commit_and_before_its_word_is_told_by_the_next_run_once(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    import flows.score
    import flows.telling

    class Killed(BaseException):
        """As kill -9: nobody handles it."""

    def dies(*_: object) -> None:
        raise Killed

    told: list[tuple[date, NightVerdict, bool]] = []
    monkeypatch.setattr(
        flows.telling.events, "night_ended", lambda night: told.append((night.night, night.verdict, not night.commit))
    )
    inbox, nights = tmp_path / "inbox", [NIGHT + timedelta(days=day) for day in range(4)]
    demo_world.draw_night(inbox, "good", images=12, seed=3)
    night = partial(score_night, bundle, inbox, tmp_path / "results", run={"on_alarm": policy, "thumbnails": False})
    with monkeypatch.context() as patched:
        patched.setattr(flows.score, "tell_night", dies)
        with pytest.raises(Killed):
            night(night=nights[0], expect_at_least=1000)
    assert told == []
    night(night=nights[1], expect_at_least=0)
    assert [one[0] for one in told] == [nights[1]], "to a server of its own, which nobody listens to, nothing is told"
    monkeypatch.setattr(flows.telling, "reports_to_a_private_server", lambda: False)
    for later in nights[2:]:
        night(night=later, expect_at_least=0)
    assert [one[0] for one in told] == [nights[1], NIGHT, *nights[2:]]
    assert told[1] == (NIGHT, NightVerdict.ALARM, policy == "hold")


@pytest.fixture(scope="session")
def drawn_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights") / "good"
    demo_world.draw_night(folder, "good", images=60, seed=11)
    return folder


@pytest.fixture
def inbox(drawn_night: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn_night, tmp_path / "inbox"))


@pytest.mark.usefixtures("prefect_api")
class TestOneNight:
    def test_every_path_is_accounted_for_and_every_image_has_one_row(
        self, bundle: Bundle, inbox: Path, tmp_path: Path
    ) -> None:
        (inbox / "notes.txt").write_text("not an image")
        (inbox / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
        images = sorted(inbox.rglob("*.jpg"))
        shutil.copy(images[0], inbox / "copy.jpg")
        summary = score_night(bundle, inbox, tmp_path / "results")
        files = darkroom.read(tmp_path / "results", "files")
        assert summary.counts.balanced
        assert summary.counts.seen == len(files) == sum(path.is_file() for path in inbox.rglob("*"))
        assert files["status"].value_counts().to_dict() == {
            "scored": 60,
            "duplicate": 1,
            "quarantined": 1,
            "not_an_image": 1,
        }
        assert len(darkroom.read(tmp_path / "results")) == 60
        assert Path(str(summary.report)).is_file()

    def test_the_same_night_twice_scores_nothing_the_second_time(
        self, bundle: Bundle, inbox: Path, tmp_path: Path
    ) -> None:
        results = tmp_path / "results"
        first = score_night(bundle, inbox, results)
        second = score_night(bundle, inbox, results)
        assert (first.counts.scored, second.counts.scored) == (60, 0)
        assert second.verdict is NightVerdict.OK
        assert len(darkroom.read(results)) == 60

    def test_ten_new_images_are_scored_and_nothing_else(self, bundle: Bundle, inbox: Path, tmp_path: Path) -> None:
        results = tmp_path / "results"
        score_night(bundle, inbox, results)
        demo_world.draw_night(tmp_path / "more", "good", images=10, seed=12)
        shutil.copytree(tmp_path / "more", inbox / "more")
        assert score_night(bundle, inbox, results).counts.scored == 10

    def test_renamed_files_are_not_new(self, bundle: Bundle, inbox: Path, tmp_path: Path) -> None:
        results = tmp_path / "results"
        score_night(bundle, inbox, results)
        for number, path in enumerate(sorted(path for path in inbox.rglob("*") if path.is_file())):
            path.rename(path.with_name(f"renamed {number}{path.suffix}"))
        summary = score_night(bundle, inbox, results, night=date(2026, 3, 3))
        assert (summary.counts.scored, summary.counts.scored_before) == (0, 60)
        assert summary.verdict is NightVerdict.EMPTY

    def test_an_empty_inbox_is_an_empty_night_and_not_a_success_in_silence(
        self, bundle: Bundle, tmp_path: Path
    ) -> None:
        (tmp_path / "inbox").mkdir()
        assert score_night(bundle, tmp_path / "inbox", tmp_path / "results").verdict is NightVerdict.EMPTY

    def test_one_image_is_a_night(self, bundle: Bundle, drawn_night: Path, tmp_path: Path) -> None:
        (tmp_path / "inbox").mkdir()
        shutil.copy(next(drawn_night.rglob("*.jpg")), tmp_path / "inbox")
        assert score_night(bundle, tmp_path / "inbox", tmp_path / "results").counts.scored == 1

    def test_fewer_images_than_expected_are_an_alarm(self, bundle: Bundle, inbox: Path, tmp_path: Path) -> None:
        summary = score_night(bundle, inbox, tmp_path / "results", expect_at_least=1000)
        assert summary.verdict is NightVerdict.ALARM
        assert "at least 1000" in summary.headline

    def test_an_inbox_that_is_not_there_is_wrong_use_unless_it_is_a_night_s_own(
        self, bundle: Bundle, tmp_path: Path
    ) -> None:
        with pytest.raises(WrongUse, match="no-such"):
            score_night(bundle, tmp_path / "no-such", tmp_path / "results")
        summary = score_night(bundle, tmp_path / "{night}", tmp_path / "results")
        assert summary.verdict is NightVerdict.EMPTY

    @pytest.mark.real_data
    def test_odd_and_broken_files_are_all_accounted_for(self, bundle: Bundle, data: Path, tmp_path: Path) -> None:
        odd = data / "images" / "odd"
        summary = score_night(bundle, odd, tmp_path / "results")
        assert summary.counts.balanced
        assert summary.counts.seen == sum(path.is_file() for path in odd.rglob("*"))
        quarantine = darkroom.read(tmp_path / "results", "quarantine")
        assert quarantine["reason"].notna().all()
        assert len(quarantine) == summary.counts.quarantined


@pytest.mark.usefixtures("prefect_api")
class TestOneAnswer:
    def test_one_image_alone_in_a_batch_in_the_night_and_in_a_new_process_gives_one_answer(
        self, bundle: Bundle, inbox: Path, tmp_path: Path
    ) -> None:
        results = tmp_path / "results"
        score_night(bundle, inbox, results)
        paths = sorted(inbox.rglob("*.jpg"))[:32]
        night = rows_of(results, bundle).set_index("content_id")
        batch = darkroom.predict(bundle.path, paths)
        alone = pd.concat([darkroom.predict(bundle.path, [path]) for path in paths[:4]])
        code = (
            "import sys, darkroom; "
            "darkroom.predict(sys.argv[1], sys.argv[2:]).to_json(sys.stdout, orient='records', double_precision=15)"
        )
        printed = subprocess.run(
            [sys.executable, "-c", code, str(bundle.path), *map(str, paths[:4])],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        elsewhere = pd.DataFrame(json.loads(printed))
        for rows in (batch, alone, elsewhere):
            told = np.stack([np.asarray(row) for row in rows["probabilities"]])
            seen = np.stack([np.asarray(night.loc[key, "probabilities"]) for key in rows["content_id"]])
            assert np.abs(told - seen).max() <= 1e-5
            assert (rows["predicted_class"].to_numpy() == night.loc[rows["content_id"], "predicted_class"]).all()

    def test_an_image_of_another_size_gets_the_bundle_s_preparation_like_any_other(
        self, bundle: Bundle, tmp_path: Path
    ) -> None:
        for size in ((256, 256), (512, 384), (31, 900)):
            Image.effect_noise(size, 40).convert("RGB").save(tmp_path / f"{size[0]}.png")
        rows = darkroom.predict(bundle.path, sorted(tmp_path.glob("*.png")))
        assert (rows["verdict"] != "quarantined").all()


@pytest.mark.usefixtures("prefect_api")
class TestExactlyOnce:
    def test_two_runs_at_once_over_one_inbox_score_each_content_once(
        self, bundle: Bundle, inbox: Path, tmp_path: Path
    ) -> None:
        results = tmp_path / "results"
        runs = [
            subprocess.Popen(command_line(bundle, inbox, results), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(2)
        ]
        for run in runs:
            _, err = run.communicate(timeout=240)
            assert run.returncode in (0, 1), err.decode()
        rows = darkroom.read(results)
        assert len(rows) == rows["content_id"].nunique() == 60

    def test_a_model_that_comes_to_harm_in_memory_is_found_out_and_its_answers_are_thrown_away(
        self, bundle: Bundle, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        score_night(bundle, inbox, tmp_path / "undisturbed")
        compute, harmed = KerasEngine.run, []

        def run(engine: KerasEngine, tensors: NDArray[np.float32]) -> Outputs:
            if len(tensors) == 20 and not harmed:  # a shard's; the goldens are more, or fewer
                kernel = max((one for one in engine.model.weights if len(one.shape) == 2), key=lambda one: one.shape[0])
                kernel.assign(kernel[::-1])
                harmed.append(engine)
            return compute(engine, tensors)

        monkeypatch.setattr(KerasEngine, "run", run)
        assert score_night(bundle, inbox, tmp_path / "harmed").counts.scored == 60
        assert harmed
        pd.testing.assert_frame_equal(rows_of(tmp_path / "harmed", bundle), rows_of(tmp_path / "undisturbed", bundle))

    @pytest.mark.long
    @pytest.mark.timeout(1500)
    def test_killed_at_random_moments_and_run_again_gives_the_rows_of_an_undisturbed_run(
        self, bundle: Bundle, inbox: Path, tmp_path: Path
    ) -> None:
        score_night(bundle, inbox, tmp_path / "undisturbed")
        undisturbed = rows_of(tmp_path / "undisturbed", bundle)
        moments = random.Random(7)
        command = command_line(bundle, inbox, tmp_path / "results")
        started = time.monotonic()
        assert subprocess.run(command_line(bundle, inbox, tmp_path / "timed"), capture_output=True).returncode in (0, 1)
        whole = time.monotonic() - started
        for _ in range(3):
            run = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            time.sleep(moments.uniform(0.3, 1.0) * whole)
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        assert subprocess.run(command, capture_output=True).returncode in (0, 1)
        pd.testing.assert_frame_equal(rows_of(tmp_path / "results", bundle), undisturbed)
