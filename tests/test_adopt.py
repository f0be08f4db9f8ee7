"""`darkroom adopt`: anybody's model becomes a bundle like any other, and says how sure its preparation is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import darkroom
from darkroom import asking
from darkroom.errors import DataFolderError, WrongUse
from flows.adopt import Adopted, adopt
from tasks.adopting import match_folders
from tasks.bundle import Bundle, open_bundle
from tasks.training.dataset import Dataset, LabelledFile



@pytest.fixture(scope="module")
def theirs(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model as somebody else would bring it: one file, and nothing beside it."""
    path = tmp_path_factory.mktemp("theirs") / "my_model.keras"
    shutil.copyfile(bundle.model_path, path)
    return path


@pytest.fixture(scope="module")
def adopted(theirs: Path, world: Path, tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Adopted:
    """Adopted with nothing stated: order of the outputs and preparation come from the photos."""
    models = tmp_path_factory.mktemp("adopted")
    return adopt(model=theirs, data=world, models=models, group_by="sub-folder", ladder_images=8)


def test_an_adopted_model_is_a_bundle_that_scores_as_it_did_before(
    adopted: Adopted, bundle: Bundle, world: Path
) -> None:
    assert adopted.classes == bundle.classes
    mine = open_bundle(Path(adopted.path))
    assert {"suite.json", "drift.json", "calibration.json", "ladder.json", "preparation.json", "card.html"} <= set(
        mine.manifest.digests
    )
    files = sorted(world.rglob("*.jpg"))[:12]
    before, after = (darkroom.predict(one.path, files) for one in (bundle, mine))
    assert (before["predicted_class"] == after["predicted_class"]).mean() > 0.9, "another filter may win, no more"


def test_what_it_was_trained_with_is_in_the_stated_set_and_the_scaling_is_named(
    adopted: Adopted, bundle: Bundle
) -> None:
    tried = json.loads(open_bundle(Path(adopted.path)).read_bytes("preparation.json"))["tried"]
    plausible = [one["preprocessing"] for one in tried if one["in_set"]]
    assert {one["values"]["divide_by"] for one in plausible} == {127.5}
    pinned = bundle.preprocessing.model_dump(mode="json")
    assert any(one["geometry"] == pinned["geometry"] and one["values"] == pinned["values"] for one in plausible)


def test_the_card_says_where_it_came_from(adopted: Adopted) -> None:
    page = open_bundle(Path(adopted.path)).read_bytes("card.html").decode()
    assert "Where it came from" in page
    assert "my_model.keras" in page
    assert "cannot know" in page


def test_nothing_is_left_of_the_work(adopted: Adopted) -> None:
    assert not any((Path(adopted.path).parents[1] / ".work").glob("adopt-*"))


def test_a_stated_preparation_is_sealed_and_a_list_of_labels_is_followed(
    theirs: Path, world: Path, bundle: Bundle, tmp_path: Path, prefect_api: str
) -> None:
    labels = tmp_path / "names.txt"
    labels.write_text("\n".join(f"{number} {name.upper()}" for number, name in enumerate(bundle.classes)))
    pinned = tmp_path / "preprocessing.json"
    bundle.preprocessing.save(pinned)
    found = adopt(
        model=theirs,
        data=world,
        models=tmp_path / "models",
        labels=labels,
        preprocessing=str(pinned),
        ladder_images=0,
    )
    sealed = open_bundle(Path(found.path))
    assert sealed.preprocessing == bundle.preprocessing
    assert sealed.classes == tuple(name.upper() for name in bundle.classes)
    mine, theirs_was = (one.profile().set_index("content_id")["probabilities"] for one in (sealed, bundle))
    for content, row in mine.items():
        np.testing.assert_allclose(row, theirs_was[content], atol=1e-4)


def test_a_person_at_the_terminal_chooses(
    theirs: Path, world: Path, tmp_path: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    def last(question: str, choices: Sequence[str], default: int) -> int:
        asked.append(choices)
        return len(choices) - 1

    monkeypatch.setattr(asking, "_people", [last])
    found = adopt(model=theirs, data=world, models=tmp_path / "models", ladder_images=0)
    if asked:
        assert found.preparation == asked[0][-1]
        assert any("A person chose" in sentence for sentence in found.sentences)
    else:
        assert len(found.plausible) == 1, "nothing to choose"


def test_too_few_folders_and_no_labels_is_said(
    theirs: Path, world: Path, tmp_path: Path, prefect_api: str
) -> None:
    some = tmp_path / "some"
    for name in sorted(path.name for path in world.iterdir())[:2]:
        shutil.copytree(world / name, some / name)
    with pytest.raises(WrongUse, match="which output"):
        adopt(model=theirs, data=some, models=tmp_path / "models")


@pytest.mark.parametrize(
    ("folders", "classes", "present", "aside", "without"),
    [
        (["Hex Nut", "gear"], ["gear", "hex_nut"], ("gear", "hex_nut"), {}, ()),
        (["gear", "nut", "sky"], ["nut", "gear"], ("nut", "gear"), {"sky": 1}, ()),
        (["gear", "nut"], ["gear", "nut", "bolt"], ("gear", "nut"), {}, ("bolt",)),
    ],
    ids=["spelling", "a folder too many", "a class without photos"],
)
def test_folders_are_matched_to_classes_by_name(
    folders: list[str], classes: list[str], present: tuple[str, ...], aside: dict[str, int], without: tuple[str, ...]
) -> None:
    files = tuple(LabelledFile(f"{name}/1.jpg", name, name) for name in folders)
    found = match_folders(Dataset(Path("photos"), files, tuple(folders), "image"), classes)
    assert (found.dataset.classes, found.aside, found.without) == (present, aside, without)
    assert {file.label for file in found.dataset.files} == set(present)


def test_folders_of_another_subject_are_refused() -> None:
    files = tuple(LabelledFile(f"{name}/1.jpg", name, name) for name in ("cat", "dog"))
    with pytest.raises(DataFolderError, match="not classes of this model"):
        match_folders(Dataset(Path("photos"), files, ("cat", "dog"), "image"), ("gear", "nut"))
