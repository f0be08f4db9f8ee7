"""`darkroom audit` on a sealed bundle and its photos: what is written, what is listed, and how it ends."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prefect.logging import disable_run_logger

from darkroom.errors import DataFolderError
from expectations.audit import Audit, audit_validation
from flows.audit import audit, draw, look_again, write
from tasks.bundle import Bundle
from tasks.report.audit_page import (
    AuditPage,
    PairShown,
    PhotoShown,
    SessionShown,
    audit_html,
    audit_markdown,
)
from tasks.report.card import Rate
from tasks.training import scan, split


@pytest.fixture(scope="module")
def audited(bundle: Bundle, world: Path, tmp_path_factory: pytest.TempPathFactory, prefect_api: str):  # type: ignore[no-untyped-def]
    out = tmp_path_factory.mktemp("audit")
    return audit(bundle=bundle.path, data=world, out=out), out


def test_a_split_that_kept_sessions_whole_has_no_session_leak(audited) -> None:  # type: ignore[no-untyped-def]
    told, _ = audited
    assert not any("Session leak" in finding for finding in told.findings)
    assert told.not_audited == {}
    assert told.audited == sum(told.audit["images"].values()) > 300


def test_the_stated_accuracy_is_that_of_the_training(audited, bundle: Bundle) -> None:  # type: ignore[no-untyped-def]
    held = bundle.profile().query("split == 'validation'")
    assert audited[0].audit["stated"]["accuracy"] == pytest.approx((held.label == held.predicted_class).mean())
    assert audited[0].audit["stated"]["groups"] == held["group"].nunique()


def test_page_and_json_are_written_and_the_page_loads_nothing(audited) -> None:  # type: ignore[no-untyped-def]
    told, out = audited
    page = (out / "audit.html").read_text()
    assert Path(told.page) == out / "audit.html"
    assert told.sentence.split(":")[0] in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "<script" not in page
    assert Audit.from_json((out / "audit.json").read_bytes()).sentence() == told.sentence
    assert json.loads((out / "audit.json").read_text()) == told.audit


def test_missing_and_changed_photos_are_listed_and_the_rest_is_audited(
    bundle: Bundle, world: Path, tmp_path: Path, prefect_api: str
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(world, photos)
    missing, changed = sorted(path for path in photos.rglob("*.jpg") if "gear" in str(path))[:2]
    missing.unlink()
    Image.new("RGB", (90, 60), "red").save(changed)
    told = audit(bundle=bundle.path, data=photos, out=tmp_path / "out")
    assert set(told.not_audited) == {path.relative_to(photos).as_posix() for path in (missing, changed)}
    assert "changed since the training" in told.not_audited[changed.relative_to(photos).as_posix()]
    assert missing.name in (tmp_path / "out" / "audit.html").read_text()


def test_another_folder_is_refused(bundle: Bundle, tmp_path: Path, prefect_api: str) -> None:
    with pytest.raises(DataFolderError, match="not the folder"):
        audit(bundle=bundle.path, data=tmp_path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_leak_is_shown_and_mended_by_the_groups_that_are_written(
    bundle: Bundle, world: Path, tmp_path: Path, prefect_api: str
) -> None:
    with disable_run_logger():
        seen = look_again.fn(bundle, world)
    mixed = np.random.default_rng(0).random(len(seen.profile)) < 0.3
    profile = seen.profile.assign(split=np.where(mixed, "validation", "train"), group=seen.profile["path"])
    seen = replace(seen, profile=profile)
    prints = seen.fingerprints
    found = audit_validation(profile, seen.features, prints.hashes, prints.pictures, bundle.classes)
    assert not found.honest
    assert "--group-by sub-folder" in found.sentence()
    write.fn(tmp_path, draw(bundle, seen, found, world), found, seen, world)
    page = (tmp_path / "audit.html").read_text()
    assert page.count("data:image/jpeg") >= 12
    assert "Session leak, by sub-folder" in page
    groups = tmp_path / "groups.csv"
    group_of = dict(line.split(",") for line in groups.read_text().splitlines()[1:])
    dataset = scan(world, "column", groups)
    assert set(group_of) == {file.path for file in dataset.files}
    halves = split(dataset, 0.3, seed=1)
    sides = [{dataset.files[row].path.split("/")[1] for row in side} for side in (halves.train, halves.validation)]
    assert not sides[0] & sides[1]


def _jpeg() -> bytes:
    import io

    sink = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(sink, "JPEG")
    return sink.getvalue()


def test_names_from_files_are_text_on_the_page_and_in_the_artifact() -> None:
    nasty = "<img src=x onerror=alert(1)>\u202e|.jpg"
    photo = PhotoShown(nasty, nasty, "train", (nasty,), _jpeg())
    page = AuditPage(
        bundle_id=nasty,
        verdict="in doubt",
        sentence=nasty,
        findings=[nasty],
        accuracies={nasty: Rate.of(8, 10)},
        notes={nasty: nasty},
        pairs=[PairShown(photo, PhotoShown(nasty, nasty, "validation", thumbnail=b"<svg onload=alert(1)>"), nasty)],
        more_pairs=3,
        suspects=[photo],
        more_suspects=2,
        session_sentences=[nasty],
        sessions=[SessionShown(nasty, (photo,))],
        shortcut_sentence=nasty,
        shortcuts=[(nasty,) * 6],
        not_audited={nasty: nasty},
    )
    html, markdown = audit_html(page), audit_markdown(page)
    assert "<img src=x" not in html
    assert "<svg onload" not in html
    assert "\u202e" not in html + markdown
    assert "<img" not in markdown
    assert html.count("data:image/jpeg") == 3
    assert "And 3 more pairs" in html


@pytest.mark.parametrize(("verdict", "accent"), [("stands", "ok"), ("in doubt", "warn"), ("flattered", "alarm")])
def test_the_page_of_an_empty_audit_says_so_in_the_colour_of_its_verdict(verdict: str, accent: str) -> None:
    page = audit_html(AuditPage("b-1", verdict, "Your 0.90 stands.", (), {"as validated": Rate.of(9, 10)}, {}))
    assert f'class="v-{accent}"' in page
    assert "No near-duplicates were found." in page
    assert "No label is suspect." in page
