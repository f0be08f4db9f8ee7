"""The next version of a bundle without an image: nothing of it is left, and everything else is as it was."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from darkroom.cli import app
from darkroom.errors import GateClosed, WrongUse
from darkroom.forgotten import forgotten
from expectations.audit import Audit
from expectations.outliers import NearestNeighbours, normalised
from flows.leaving_out import files_without, leave_out
from tasks.bundle import Bundle, find_bundle, open_bundle, replay_goldens, reseal_bundle
from tasks.bundle.holding import held_by, held_by_bundles
from tasks.bundle.resealing import reseal_without
from tasks.inference import load_engine
from tasks.thumbnails import THUMBNAILS, read_thumbnails
from tests import made_up
from tests.test_reseal import sealed_elsewhere

pytest_plugins = ["tests.plugins.tiny_bundle"]


@pytest.fixture
def own(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the tiny bundle, whose next version a test may seal."""
    folder = tmp_path / "models" / tiny_bundle.manifest.name
    shutil.copytree(tiny_bundle.path, folder / "1")
    current = {"schema_version": 1, "version": 1, "id": tiny_bundle.id}
    (folder / "current.json").write_text(json.dumps(current))
    return open_bundle(folder / "1")


def golden_id(bundle: Bundle, number: int = 0) -> str:
    return hashlib.sha256(bundle.goldens()[number].image).hexdigest()


def test_which_versions_hold_an_image_is_said_with_what_they_hold(own: Bundle) -> None:
    models = own.path.parents[1]
    (found,) = held_by_bundles(models, {golden_id(own)})
    assert (found.goldens, found.rows, found.thumbnails, len(found.photos)) == (1, 1, 0, 1)
    assert found.sentence == f"{own.path} holds 1 golden, 1 row of the profile, and is in use."
    assert held_by_bundles(models, {"0" * 64}) == []
    (own.path / "card.md").write_text("changed")
    (broken,) = held_by_bundles(models, {golden_id(own)})
    assert "cannot be opened, and may hold one" in broken.sentence
    with pytest.raises(WrongUse, match="where they were sealed"):
        held_by_bundles(Path("s3://bucket/models"), {"0" * 64})


def test_forgetting_says_which_bundle_holds_it_and_what_to_type_until_none_does(own: Bundle, tmp_path: Path) -> None:
    inbox, results, content_id = tmp_path / "inbox", tmp_path / "results", golden_id(own)
    made_up.draw_inbox(inbox, images=2)
    (inbox / "ada.jpg").write_bytes(own.goldens()[0].image)
    made_up.score(results, inbox)
    (inbox / "ada.jpg").unlink()
    asked = ["forget", content_id, "--results", str(results), "--models", str(own.path.parents[1]), "--reason", "asked"]

    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    assert "1 image forgotten: 2 rows of 1 night." in told.output
    assert f'darkroom reseal {own.path} --without {content_id} --yes --promote --reason "…"' in told.output
    assert f"Then remove the folders:\n  {own.path}\n" in told.output

    again = CliRunner().invoke(app, [*asked, "--json"])
    answer = json.loads(again.stdout)
    assert (again.exit_code, answer["forgotten"], len(answer["bundles"])) == (0, None, 1)
    assert len(forgotten(results)) == 1

    shutil.rmtree(own.path)
    nothing = CliRunner().invoke(app, asked)
    assert nothing.exit_code == 2
    assert "There is nothing to do" in nothing.output


def test_the_next_version_has_no_golden_row_or_embedding_of_it_and_proves_the_others(own: Bundle) -> None:
    content_id = golden_id(own)
    left = reseal_without(own, {content_id}, {}, reason="she asked us to")
    assert not held_by(left, {content_id}).images
    assert replay_goldens(left, load_engine(left.model_path, left.manifest.embedding_layer)).n == 31
    kept = (own.profile()["content_id"] != content_id).to_numpy()
    pd.testing.assert_frame_equal(left.profile(), own.profile()[kept].reset_index(drop=True))
    np.testing.assert_array_equal(left.embeddings(), own.embeddings()[kept])
    for name in ("model.keras", "preprocessing.json", "suite.json", "drift.json", "card.md"):
        assert left.read_bytes(name) == own.read_bytes(name), name
    (entry,) = left.manifest.metrics["resealed"]
    assert entry["without"] == {"goldens": 1, "thumbnails": 0, "rows": 1}
    history = (own.path.parent / "history.jsonl").read_text()
    assert "she asked us to" in history
    assert content_id not in history
    assert find_bundle(own.path.parent) == own.path


def test_nothing_is_sealed_without_a_reason_an_image_or_a_golden(own: Bundle) -> None:
    with pytest.raises(WrongUse, match="with a reason"):
        reseal_without(own, {golden_id(own)}, {}, reason=" ")
    with pytest.raises(WrongUse, match="holds none of these images"):
        reseal_without(own, {"0" * 64}, {}, reason="she asked us to")
    with pytest.raises(WrongUse, match="No golden image would be left"):
        reseal_without(own, {golden_id(own, number) for number in range(32)}, {}, reason="she asked us to")
    with pytest.raises(GateClosed, match="not known how to leave it out"):
        reseal_without(own, {golden_id(own)}, {"card.md": golden_id(own).encode()}, reason="she asked us to")
    assert [path.name for path in own.path.parent.iterdir() if path.is_dir()] == ["1"]


def test_goldens_that_have_moved_are_agreed_to_first(tiny_bundle: Bundle, tmp_path: Path) -> None:
    moved = sealed_elsewhere(tiny_bundle, tmp_path / "models", shift=0.0)
    with pytest.raises(GateClosed, match="a decision of its own"):
        leave_out(moved.path, [golden_id(moved)], agreed=True, reason="she asked us to")


def test_a_resealed_version_without_an_image_can_be_resealed_after_an_upgrade(own: Bundle) -> None:
    left = reseal_without(own, {golden_id(own)}, {}, reason="she asked us to")
    with pytest.raises(WrongUse, match="nothing to seal again"):
        reseal_bundle(left, (), reason="an upgrade")


def test_nothing_of_a_training_photo_is_left_in_a_bundle_with_all_that_is_learned(
    bundle: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(bundle.path.parent, tmp_path / "models" / "parts")
    own = open_bundle(find_bundle(tmp_path / "models" / "parts"))
    profile, goldens = own.profile(), {golden_id(own, number) for number in range(len(own.goldens()))}
    trained = profile[(profile["split"] == "train") & profile["content_id"].isin(goldens)].iloc[0]
    card = own.read_bytes("card.html").decode()
    on_card = profile[[f"<bdi>{path}</bdi></p>" in card for path in profile["path"]]]
    chosen = {str(trained["content_id"]), *on_card["content_id"].head(1), *_audited(own)}
    pictures = read_thumbnails(own.read_bytes(THUMBNAILS), sorted(chosen))
    assert set(pictures) == chosen

    runner = CliRunner()
    asked = [part for one in sorted(chosen) for part in ("--without", one)]
    told = runner.invoke(app, ["reseal", str(own.path), *asked, "--reason", "she asked us to", "--yes", "--json"])
    assert told.exit_code == 0, told.output
    left = open_bundle(Path(json.loads(told.stdout)["path"]))

    assert not held_by(left, chosen).images
    for path in left.path.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".parquet":
            data += json.dumps(pq.read_table(io.BytesIO(data)).to_pylist(), default=str).encode()
        assert not [one for one in chosen if one.encode() in data], path
        assert not [one for one in pictures.values() if one in data], path
    for name in ("card.html", "card.md"):
        for path in profile.loc[profile["content_id"].isin(chosen), "path"]:
            assert not re.search(rf"(?<![\w/]){re.escape(path)}(?!\w)", left.read_bytes(name).decode()), name
    gone = profile["content_id"].isin(chosen).to_numpy()
    bank = NearestNeighbours.from_bytes(left.read_bytes("neighbours.npz")).bank
    of_trained = normalised(own.embeddings()[gone & (profile["split"] == "train").to_numpy()]).astype(np.float16)
    assert not {row.tobytes() for row in of_trained} & {row.tobytes() for row in bank}
    assert len(bank) == int((left.profile()["split"] == "train").sum())
    assert set(files_without(own, chosen)) == {"neighbours.npz", "audit.json", "card.md", "card.html"}
    unchanged = set(own.manifest.digests) - {"neighbours.npz", "audit.json", "card.md", "card.html", THUMBNAILS}
    for name in unchanged - {"profile.parquet", "embeddings.npy", "goldens/goldens.parquet"}:
        if name.startswith("goldens/") and name not in left.manifest.digests:
            continue
        assert left.read_bytes(name) == own.read_bytes(name), name


def _audited(bundle: Bundle) -> list[str]:
    """A photo that the audit names, where it names any."""
    audit = Audit.from_json(bundle.read_bytes("audit.json"))
    named = [one.first.content_id for one in audit.copies] + [one.photo.content_id for one in audit.suspects]
    return named[:1]
