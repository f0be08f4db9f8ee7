"""Sub-folders and cameras: what they are, that memory stays, that one bad one is named and the good ones are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.results import part_bytes
from darkroom.summary import Severity
from expectations.alarms import Earlier, compare
from expectations.budget import A_YEAR, FEWEST, share_of_slice, share_of_whole
from expectations.reference import DriftReference, learn_reference
from expectations.signs import Signs
from expectations.slices import COMPARED, KEPT, NO_SLICES, Slices, names_of, slice_drift
from expectations.validation import RowOutcome
from flows.evaluation import RowEvidence
from flows.shown_further import slices_shown
from tests.made_up import NIGHT
from tests.normal_rows import CLASSES, rows_of_sessions

EFFECT = 4.0
TOO_FEW = "fewer than 25 images: too few to be compared by themselves"


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    rows, session = rows_of_sessions(1, 150, images=10, rho=0.2)
    return learn_reference(rows, session < 60, session, CLASSES)


@pytest.fixture(scope="module")
def images_alone() -> DriftReference:
    rows, _ = rows_of_sessions(1, 800, images=1, rho=0.0)
    return learn_reference(rows, np.arange(len(rows)) < 300, np.arange(len(rows)), CLASSES)


def night(seed: int, folders: int = 4, sessions: int = 24, images: int = 10, rho: float = 0.2) -> pd.DataFrame:
    """Each session in one folder; sessions take turns."""
    rows, session = rows_of_sessions(seed, sessions, images=images, rho=rho)
    return rows.assign(
        path=[f"line-{where % folders}/{k:05d}.jpg" for k, where in enumerate(session)],
        camera=np.where(session % 2, "Camera A", None),
        content_id=[f"{k:064x}" for k in range(len(rows))],
    )


def with_one_bad(rows: pd.DataFrame, name: str = "line-2/") -> pd.DataFrame:
    bad = rows["path"].str.startswith(name)
    return rows.assign(sharpness=rows["sharpness"] - EFFECT * bad)


def test_a_slice_is_the_first_sub_folder_and_the_camera_and_may_be_none() -> None:
    rows = pd.DataFrame({"path": ["a/b/1.jpg", "a/2.jpg", "3.jpg", "c=d/4.jpg"], "camera": ["X", None, "X", "x" * 500]})
    names = names_of(rows)
    assert names["folder"].tolist() == ["folder=a", "folder=a", pytest.approx(np.nan, nan_ok=True), "folder=c=d"]
    assert names["camera"].dropna().tolist() == ["camera=X", "camera=X", "camera=" + "x" * 120]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(pd.DataFrame({"path": ["1.jpg", "2.jpg"], "camera": [None, None]}), id="no folder and no camera"),
        pytest.param(pd.DataFrame({"path": [], "camera": []}), id="no rows"),
    ],
)
def test_a_flat_inbox_without_cameras_has_no_slices(reference: DriftReference, rows: pd.DataFrame) -> None:
    assert Slices.of(rows, reference) == NO_SLICES


@settings(max_examples=15, deadline=None)
@given(cut=st.integers(0, 240))
def test_slices_of_two_shards_are_those_of_both_together(reference: DriftReference, cut: int) -> None:
    rows = night(5)
    parts = (rows.iloc[:cut].reset_index(drop=True), rows.iloc[cut:].reset_index(drop=True))
    both = Slices.of(parts[0], reference).merge(Slices.of(parts[1], reference))
    whole = {one.name: one for one in Slices.of(rows, reference).found}
    assert {one.name for one in both.found} == set(whole)
    for one in both.found:
        assert one.images == whole[one.name].images
        assert one.sketch.rows == whole[one.name].sketch.rows
        np.testing.assert_array_equal(one.sketch.counts, whole[one.name].sketch.counts)


def test_slices_survive_being_written_with_the_rest_of_a_shard(reference: DriftReference) -> None:
    rows = night(6)
    evidence = RowEvidence(reference.sketch(rows), RowOutcome(), Signs.empty(len(CLASSES)), Slices.of(rows, reference))
    again = RowEvidence.from_bytes(evidence.to_bytes()).slices
    assert [(one.name, one.images, one.sketch.rows) for one in again.found] == [
        (one.name, one.images, one.sketch.rows) for one in evidence.slices.found
    ]
    for one, before in zip(again.found, evidence.slices.found, strict=True):
        np.testing.assert_array_equal(one.sketch.shown, before.sketch.shown)


def test_memory_is_that_of_the_largest_slices_and_the_others_are_counted(reference: DriftReference) -> None:
    rows = night(7, sessions=100, images=3)
    rows["camera"] = None
    rows["path"] = [f"folder-{k % 97:02d}/{k}.jpg" for k in range(len(rows))]
    found = Slices.of(rows, reference)
    assert len(found.found) == KEPT
    assert found.left_out == 97 - KEPT
    both = found.merge(found)
    assert len(both.found) == KEPT
    assert both.left_out == found.left_out
    smallest = min(one.sketch.rows for one in found.found)
    assert (rows["path"].str.partition("/")[0].value_counts() > smallest).sum() <= KEPT


def test_only_the_largest_that_are_not_the_whole_night_are_compared(reference: DriftReference) -> None:
    rows = night(8, folders=30, sessions=90)
    rows["camera"] = "everywhere"
    compared = Slices.of(rows, reference).compared(len(rows))
    assert len(compared) == COMPARED
    assert all(FEWEST <= one.sketch.rows < len(rows) for one in compared)


@pytest.mark.parametrize(
    ("folders", "sizes", "camera", "sentence"),
    [
        ("flat", [300], None, ""),
        ("all", [300], "A", ""),
        (
            "some",
            [60, 60, 60, 24],
            None,
            "3 sub-folders and cameras were compared with training by themselves; 1 more has fewer than 25 images, or "
            "is not among the 20 largest.",
        ),
        ("whole camera", [150, 150], "A", "2 sub-folders and cameras were compared with training by themselves."),
        (
            "many",
            [30] * 22 + [3] * 100,
            None,
            "20 sub-folders and cameras were compared with training by themselves; 102 more have fewer than 25 images, "
            "or are not among the 20 largest.",
        ),
        ("small", [3] * 40, None, f"40 sub-folders and cameras each have {TOO_FEW}."),
        ("one", [290, 10], None, f"1 sub-folder or camera has {TOO_FEW}."),
        (
            "more than are counted",
            [1] * 1200,
            None,
            f"1,000 or more sub-folders and cameras each have {TOO_FEW}.",
        ),
    ],
    ids=["flat", "the night itself", "one too small", "one camera for all", "too many", "small", "one", "uncounted"],
)
def test_a_page_tells_how_many_slices_were_compared_and_how_many_not(
    reference: DriftReference, folders: str, sizes: list[int], camera: str | None, sentence: str
) -> None:
    rows = night(8, sessions=-(-sum(sizes) // 10)).head(sum(sizes))
    place = np.repeat(np.arange(len(sizes)), sizes)
    paths = [f"{k}.jpg" if folders == "flat" else f"line-{one}/{k}.jpg" for k, one in enumerate(place)]
    rows = rows.assign(path=paths, camera=camera)
    shards = [rows.iloc[start : start + 100].reset_index(drop=True) for start in range(0, len(rows), 100)]
    slices = NO_SLICES
    for shard in shards:
        slices = slices.merge(Slices.of(shard, reference))
    compared = compare(reference, reference.sketch(rows), slices, NIGHT, Earlier.none(), A_YEAR)
    assert slices_shown(compared).sentence == sentence


def test_one_bad_folder_is_an_alarm_and_named_with_its_images(reference: DriftReference) -> None:
    rows = with_one_bad(night(9))
    found = slice_drift(reference, Slices.of(rows, reference), len(rows))
    assert found.worst == "folder=line-2"
    assert all(path.startswith("line-2/") for _, path in found.images)
    (first, *others) = found.findings
    assert first.severity is Severity.CRITICAL
    assert first.what.startswith("In the folder line-2 (60 images), sharpness differs from training from ")
    assert found.images[0][1] in first.evidence
    # Camera A took none of it, and what has no camera is in no slice.
    assert not [one for one in others if "line-2" not in one.what]


@pytest.mark.parametrize("rho", [0.05, 0.2, 0.4])
def test_folders_of_unchanged_nights_are_no_alarms(rho: float) -> None:
    rows, session = rows_of_sessions(2, 150, images=10, rho=rho)
    known = learn_reference(rows, session < 60, session, CLASSES)
    for seed in range(20):
        # A folder a session: nothing is alike but what was taken together.
        tonight = night(100 + seed, folders=6, sessions=6, images=30, rho=rho)
        found = slice_drift(known, Slices.of(tonight, known), len(tonight))
        assert found.compared == 7
        assert "alarm" not in set(found.rows["verdict"])


def test_a_camera_or_a_class_that_training_knows_to_be_otherwise_is_no_drift() -> None:
    def by_two(rows: pd.DataFrame) -> pd.DataFrame:
        """Half the images are of a camera that makes them wider, and half of a class that is brighter."""
        wide, bright = np.arange(len(rows)) % 2, np.arange(len(rows)) // 2 % 2
        return rows.assign(
            width=np.where(wide, 1024.0, 640.0),
            luminance_mean=rows["luminance_mean"] + 3 * bright,
            camera=np.where(wide, "Wide", "Narrow"),
            label=np.where(bright, "snow", "coal"),
            path=[f"{'snow' if one else 'coal'}/{k}.jpg" for k, one in enumerate(bright)],
            content_id=[f"{k:064x}" for k in range(len(rows))],
        )

    rows, session = rows_of_sessions(1, 150, images=12, rho=0.1)
    known = learn_reference(by_two(rows), session < 60, session, CLASSES)
    tonight = by_two(night(9, sessions=24, images=12, rho=0.1))
    found = slice_drift(known, Slices.of(tonight, known), len(tonight))
    assert found.compared == 4
    assert set(found.rows["verdict"]) == {"ok"}
    unsharp = tonight.assign(sharpness=tonight["sharpness"] - EFFECT * (tonight["camera"] == "Wide"))
    assert slice_drift(known, Slices.of(unsharp, known), len(unsharp)).worst == "camera=Wide"


def test_who_knows_no_sessions_is_only_warned_of_a_folder(images_alone: DriftReference) -> None:
    rows = with_one_bad(night(9, rho=0.0))
    found = slice_drift(images_alone, Slices.of(rows, images_alone), len(rows))
    assert found.worst == "folder=line-2"
    assert {one.severity for one in found.findings} == {Severity.WARNING}


def test_the_budget_is_shared_with_the_slices() -> None:
    assert share_of_whole(0) == 1
    for slices in range(1, COMPARED + 1):
        assert share_of_whole(slices) + slices * share_of_slice(slices) == pytest.approx(1)


def test_the_rows_of_a_night_and_its_slices_are_one_part_of_the_results(reference: DriftReference) -> None:
    rows = with_one_bad(night(9))
    compared = compare(reference, reference.sketch(rows), Slices.of(rows, reference), NIGHT, Earlier.none(), A_YEAR)
    _, table = part_bytes("drift", compared.rows)
    stored = table.to_pandas()
    assert stored["slice"].isna().sum() == len(reference.metrics)
    bad = stored[(stored["slice"] == "folder=line-2") & (stored["metric"] == "sharpness")].iloc[0]
    assert bad["verdict"] == "alarm"
    assert bad["night_value"] < bad["reference_value"] - 3
    assert set(stored.loc[stored["slice"].notna(), "slice"]) == {
        "camera=Camera A",
        *(f"folder=line-{k}" for k in range(4)),
    }


def test_a_name_that_nobody_should_trust_is_shown_as_it_is_and_cut(reference: DriftReference) -> None:
    rows = with_one_bad(night(9))
    rows["path"] = rows["path"].str.replace("line-2", "<script>" + "x" * 300)
    found = slice_drift(reference, Slices.of(rows, reference), len(rows))
    assert found.worst is not None
    assert found.worst.startswith("folder=<script>xxx")
    assert len(found.worst) < 140


def test_what_is_an_alarm_of_the_whole_night_is_not_told_again_of_its_slices(reference: DriftReference) -> None:
    rows = night(9)
    moved = rows.assign(sharpness=rows["sharpness"] - EFFECT)
    found = compare(reference, reference.sketch(moved), Slices.of(moved, reference), NIGHT, Earlier.none())
    everywhere = found.whole[found.whole["verdict"] == "alarm"]
    assert ("properties", "sharpness") in set(zip(everywhere["family"], everywhere["metric"], strict=True))
    assert (found.slices.rows["verdict"] == "alarm").any()  # in the results it is
    assert not [finding for finding in found.findings if "sharpness" in finding.what]
