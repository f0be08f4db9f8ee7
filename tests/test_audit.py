"""The honest validation: sessions, labels, shortcuts, and the accuracy told again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from darkroom.schemas import CATEGORICAL_PROPERTIES, NUMERIC_PROPERTIES, PROFILE
from expectations.audit import Audit, audit_validation, mending_groups
from expectations.labels import suspect_labels
from expectations.linear_head import cross_fitted, fit_head, folds_of, head_probabilities
from expectations.neighbourhood import compact
from expectations.restated import refit_by_session, restate
from expectations.sessions import candidate_sessions, examine_sessions, joined
from expectations.shortcuts import find_shortcuts
from tasks.fingerprints import fingerprint

CLASSES = ("10 mm", "2 mm", "bolt")  # not in alphabetical order on every machine: the order is the bundle's


def profile_of(n: int = 300, *, seed: int = 0, sessions: int = 30, group_by_session: bool = False) -> pd.DataFrame:
    """A profile whose properties say nothing of the class; sessions are sub-folders; predictions are right in 80 %."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % len(CLASSES)
    session = rng.integers(0, sessions, n)
    predicted = np.where(rng.random(n) < 0.8, label, (label + 1) % len(CLASSES))
    names = [
        f"{CLASSES[c]}/s{s:02d}/{'abcdefgh'[i % 8]}{i}.jpg" for i, (c, s) in enumerate(zip(label, session, strict=True))
    ]
    held = session < sessions // 3 if group_by_session else rng.random(n) < 0.35
    frame = pd.DataFrame(
        {
            "path": names,
            "content_id": [f"{i:064x}" for i in range(n)],
            "split": np.where(held, "validation", "train"),
            "group": [f"s{s:02d}" for s in session] if group_by_session else names,
            "label": [CLASSES[c] for c in label],
            "predicted_class": [CLASSES[c] for c in predicted],
            "probabilities": list(np.eye(len(CLASSES), dtype=np.float32)[predicted]),
            **{name: rng.standard_normal(n) for name in NUMERIC_PROPERTIES},
            **{name: np.full(n, "one") for name in CATEGORICAL_PROPERTIES},
            "camera": "Line 1",
            "captured_at": None,
        }
    )
    return frame[PROFILE.names]


def numbers(profile: pd.DataFrame) -> np.ndarray:
    return np.array([CLASSES.index(label) for label in profile["label"]])


def sessions_of(profile: pd.DataFrame) -> np.ndarray:
    return np.array([path.split("/")[1] for path in profile["path"]])


def features_of(profile: pd.DataFrame, *, by_session: float = 0.0, seed: int = 1) -> np.ndarray:
    """(n, 20): the class in three of them; the session, as strongly as asked, in all."""
    rng = np.random.default_rng(seed)
    session = np.unique(sessions_of(profile), return_inverse=True)[1]
    look = rng.standard_normal((session.max() + 1, 20)) * by_session
    rows = rng.standard_normal((len(profile), 20)) + look[session]
    rows[:, :3] += 2.5 * np.eye(3)[numbers(profile)]
    return rows.astype(np.float32)


def pictures_of(profile: pd.DataFrame, seed: int = 2) -> np.ndarray:
    """(n, 40, 56, 3): each another."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (len(profile), 5, 7, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def audited(profile: pd.DataFrame, features: np.ndarray, pictures: np.ndarray | None = None) -> Audit:
    prints = fingerprint(pictures_of(profile) if pictures is None else pictures)
    return audit_validation(profile, features, prints.hashes, prints.pictures, CLASSES)


# Heads and folds


def test_no_group_is_in_two_folds_and_every_class_is_in_each() -> None:
    rng = np.random.default_rng(0)
    groups, labels = rng.integers(0, 40, 400), rng.integers(0, 3, 400)
    fold = folds_of(groups, labels, seed=3)
    assert all(len(set(fold[groups == group])) == 1 for group in np.unique(groups))
    assert all((labels[fold == one] == label).any() for one in range(5) for label in range(3))
    assert np.bincount(fold).max() < 1.5 * np.bincount(fold).min()


def test_a_head_learns_what_is_linear_and_gives_probabilities() -> None:
    profile = profile_of()
    x, y = compact(features_of(profile)), numbers(profile)
    given = head_probabilities(x, fit_head(x, y, len(CLASSES)))
    assert given.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (given.argmax(axis=1) == y).mean() > 0.85


def test_cross_fitting_knows_nothing_that_only_the_own_group_could_tell() -> None:
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(60), 5)
    label = rng.integers(0, 2, 60)[group]  # each group has a class and a look of its own, and no more
    x = compact(rng.standard_normal((60, 30))[group] + 0.1 * rng.standard_normal((300, 30)))
    apart = cross_fitted(x, label, group, 2).argmax(axis=1) == label
    mixed = cross_fitted(x, label, np.arange(300), 2).argmax(axis=1) == label
    assert mixed.mean() > 0.75
    assert apart.mean() < mixed.mean() - 0.15


def test_a_single_group_can_only_be_guessed() -> None:
    assert (cross_fitted(np.ones((6, 2), np.float32), np.arange(6) % 3, np.zeros(6), 3) == np.float32(1 / 3)).all()


# Labels


@pytest.mark.parametrize("seed", range(3))
def test_flipped_labels_are_first_in_the_ranking(seed: int) -> None:
    profile = profile_of(600, seed=seed)
    x, y = compact(features_of(profile, seed=seed)), numbers(profile)
    rng = np.random.default_rng(seed)
    wrong = rng.choice(600, 30, replace=False)
    given = y.copy()
    given[wrong] = (y[wrong] + rng.integers(1, 3, 30)) % 3
    found = suspect_labels(x, given, np.arange(600), 3)
    assert np.isin(wrong, found.order[:60]).mean() >= 0.8
    assert found.suspect[wrong].mean() > 0.6
    assert found.suspect.mean() < 0.2
    assert (found.instead != given).all()
    assert sorted(found.order.tolist()) == list(range(600))


# Sessions


def test_sessions_are_found_in_folders_times_and_names() -> None:
    profile = profile_of(120, sessions=12)
    start = pd.Timestamp("2026-02-01T08:00:00")
    profile["captured_at"] = [
        (start + pd.Timedelta(hours=3 * (i // 10), seconds=8 * (i % 10))).isoformat() for i in range(120)
    ]
    found = candidate_sessions(profile)
    assert set(found) == {"sub-folder", "capture time", "file-name prefix"}
    assert len(np.unique(found["capture time"])) == 12
    assert len(np.unique(found["file-name prefix"])) == 8


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param([f"{CLASSES[i % 3]}/{CLASSES[i % 3]}{i}.jpg" for i in range(60)], id="the name says the class"),
        pytest.param([f"{CLASSES[i % 3]}/photo {i}.jpg" for i in range(60)], id="the name says nothing"),
        pytest.param([f"{CLASSES[i % 3]}/{chr(97 + i % 26)}{chr(97 + i // 26)}x.jpg" for i in range(60)], id="names"),
        pytest.param([f"{CLASSES[i % 3]}/all/{i}.jpg" for i in range(60)], id="one folder"),
        pytest.param(
            [f"{CLASSES[i % 3]}/{CLASSES[i % 3] if i % 9 else 'new'}{i}.jpg" for i in range(60)], id="a second batch"
        ),
    ],
)
def test_what_parts_nothing_or_everything_is_no_session(paths: list[str]) -> None:
    assert candidate_sessions(profile_of(60).assign(path=paths, group=paths)) == {}


def test_sessions_that_were_kept_whole_are_not_looked_at() -> None:
    assert "sub-folder" not in candidate_sessions(profile_of(group_by_session=True))


@pytest.mark.parametrize(("by_session", "leaks"), [(0.0, False), (1.5, True)], ids=["unlike", "alike"])
def test_a_session_leak_needs_images_that_are_alike(by_session: float, leaks: bool) -> None:
    profile = profile_of()
    views = {"embedding": compact(features_of(profile, by_session=by_session))}
    found = examine_sessions(
        "sub-folder",
        sessions_of(profile),
        profile["split"].to_numpy(),
        numbers(profile),
        views,
        np.arange(len(profile)),
    )
    assert found.leaks is leaks
    assert ("--group-by sub-folder" in found.sentence()) is leaks
    assert found.straddling_validation > 0


def test_chance_names_a_leak_seldom() -> None:
    named = 0
    for seed in range(20):
        profile = profile_of(150, seed=seed, sessions=15)
        views = {"embedding": compact(features_of(profile, seed=seed))}
        named += examine_sessions(
            "x", sessions_of(profile), profile["split"].to_numpy(), numbers(profile), views, np.arange(150)
        ).leaks
    assert named <= 1


def test_partitions_are_joined_through_one_another() -> None:
    found = joined(np.array(["a", "a", "b", "c", "d"]), np.array([1, 2, 2, 3, 4]))
    assert found[0] == found[1] == found[2]
    assert len(set(found.tolist())) == 3


# Shortcuts


def test_a_property_that_goes_with_a_class_is_named_and_tells() -> None:
    profile = profile_of()
    profile.loc[profile["label"] == "bolt", "luminance_mean"] -= 3
    found = find_shortcuts(profile, numbers(profile), CLASSES, profile["group"].to_numpy())
    assert (found.named[0].name, found.named[0].label) == ("luminance_mean", "bolt")
    assert "lower in bolt" in found.named[0].sentence()
    assert found.tell
    assert found.guessing == pytest.approx(1 / 3, abs=0.01)


def test_a_file_format_that_goes_with_a_class_is_named() -> None:
    profile = profile_of()
    profile["format"] = np.where(profile["label"] == "2 mm", "PNG", "JPEG")
    named = find_shortcuts(profile, numbers(profile), CLASSES, profile["group"].to_numpy()).named
    assert [(one.name, one.label) for one in named] == [("format", "")]
    assert named[0].effect == pytest.approx(1)


def test_without_shortcuts_hardly_any_is_named() -> None:
    named = 0
    for seed in range(6):
        profile = profile_of(200, seed=seed)
        named += len(find_shortcuts(profile, numbers(profile), CLASSES, profile["group"].to_numpy()).named)
    assert named <= 1


def test_sessions_are_not_taken_for_independent_images() -> None:
    """Six sessions a class, those of one class in a little more light: proof, if images were drawn one by one."""
    named = {"images": 0, "sessions": 0}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        profile = profile_of(240, seed=seed)
        session = np.arange(240) % 3 + 3 * rng.integers(0, 6, 240)
        light = rng.standard_normal(18) + 1.3 * (np.arange(18) % 3 == 0)
        profile["luminance_mean"] = light[session] + 0.1 * rng.standard_normal(240)
        for name, groups in (("images", np.arange(240)), ("sessions", session)):
            found = find_shortcuts(profile, numbers(profile), CLASSES, groups)
            named[name] += any(one.name == "luminance_mean" for one in found.named)
    assert named["images"] >= 2
    assert named["sessions"] == 0


# The accuracy, told again


def test_nothing_is_restated_from_a_handful() -> None:
    right = np.ones(100, np.bool_)
    assert restate(right, np.arange(100), np.arange(100) < 10, "few") is None
    told = restate(right, np.arange(100), np.arange(100) < 60, "enough")
    assert told is not None
    assert (told.n, told.removed, told.groups) == (60, 40, 60)


def test_a_refit_by_session_takes_off_what_sisters_were_worth() -> None:
    rng = np.random.default_rng(4)
    session = np.repeat(np.arange(80), 8)
    label = rng.integers(0, 2, 80)[session]
    x = compact(rng.standard_normal((80, 40))[session] + 0.2 * rng.standard_normal((640, 40)))
    held = rng.random(640) < 0.3
    right = rng.random(640) < 0.95  # a model that knew the sessions by heart
    told = refit_by_session(x, label, session, held, np.ones(640, np.bool_), right, 2)
    assert told is not None
    assert told.low < 0.6 < 0.8 > told.accuracy
    apart = refit_by_session(x, label, np.arange(640), held, np.ones(640, np.bool_), right, 2)
    assert apart is not None
    assert apart.accuracy == pytest.approx(right[held].mean(), abs=0.05)


def test_an_honest_split_stands() -> None:
    profile = profile_of(group_by_session=True)
    found = audited(profile, features_of(profile, by_session=1.5))
    assert found.honest
    assert found.restated.accuracy == found.stated.accuracy
    assert "stands" in found.sentence()


def test_copies_across_the_split_are_taken_out_and_counted() -> None:
    profile = profile_of(400)
    held = np.flatnonzero(profile["split"] == "validation")
    trained = np.flatnonzero(profile["split"] == "train")
    copies, sources = held[:40], trained[:40]
    pictures, features = pictures_of(profile), features_of(profile)
    pictures[copies] = np.clip(pictures[sources].astype(int) + 3, 0, 255)
    features[copies] = features[sources] + 0.01
    profile.loc[copies, "label"] = profile.loc[sources, "label"].to_numpy()
    truth = (profile["predicted_class"] == profile["label"])[held[40:]].mean()
    profile.loc[copies, "predicted_class"] = profile.loc[copies, "label"]
    found = audited(profile, features, pictures)
    assert found.leaked == 40
    assert found.copy_pairs == {"across": 40, "inside": 0, "contradictory": 0}
    assert found.restated.accuracy == pytest.approx(truth)
    assert found.restated.accuracy < found.stated.accuracy
    assert f"Your {found.stated.accuracy:.2f} is {truth:.2f} ±" in found.sentence()
    assert found.copies[0].across


def test_one_photo_with_two_labels_is_said_to_be_wrong() -> None:
    profile = profile_of(300)
    pictures, features = pictures_of(profile), features_of(profile)
    pictures[0], features[0] = pictures[1], features[1]
    found = audited(profile, features, pictures)
    assert found.copy_pairs["contradictory"] == 1
    assert any("one is wrong" in pair.sentence() for pair in found.copies)


def test_a_session_leak_is_named_refitted_and_mended() -> None:
    profile = profile_of(400, sessions=40)
    found = audited(profile, features_of(profile, by_session=1.5))
    assert found.session_leak is not None
    assert not found.honest
    assert found.restated is found.refitted
    assert "--group-by sub-folder" in found.sentence()
    assert "estimate" in found.sentence()
    groups = mending_groups(found, profile)
    assert len(set(zip(groups.tolist(), sessions_of(profile).tolist(), strict=True))) == 40


def test_a_class_of_one_session_has_labels_that_can_be_judged_all_the_same() -> None:
    profile = profile_of(300)
    profile["group"] = profile["label"]
    found = audited(profile, features_of(profile))
    assert sum(found.suspect_labels.values()) < 60
    assert found.shortcuts.n == 300


def test_an_audit_survives_json() -> None:
    profile = profile_of(200)
    profile["format"] = np.where(profile["label"] == "2 mm", "PNG", "JPEG")
    found = audited(profile, features_of(profile, by_session=1.0))
    assert Audit.from_json(found.to_json()) == found
    assert {field.name for field in dataclasses.fields(Audit)} >= {"stated", "copies", "sessions", "suspects"}


def test_an_audit_is_the_same_twice() -> None:
    profile = profile_of(200)
    features = features_of(profile)
    assert audited(profile, features) == audited(profile, features)
