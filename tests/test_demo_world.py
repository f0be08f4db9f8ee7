"""The drawn world: deterministic, varied as promised, and each kind of night what its name says."""

from __future__ import annotations

import csv
import filecmp
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from darkroom import demo_world
from darkroom.demo_world import CLASSES, NEW_CLASS, NightKind, draw_night, draw_training, truth_path
from darkroom.errors import WrongUse
from tasks.decode import read_header
from tasks.presets import preset
from tasks.properties import measure

IMAGES = 240
BROKEN = {
    "cut-half.jpg",
    "cut-early.jpg",
    "upload-failed.jpg",
    "readme-first.jpg",
    "snapshot.png",
    "panorama.png",
    "notes.txt",
}
_EXIF_TIMES, _TAKEN, _MODEL, _ORIENTATION = 0x8769, 0x9003, 0x0110, 0x0112


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training folder and the three nights, beside each other."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_training(folder / "training", images=IMAGES, seed=5)
    for kind in ("good", "dim", "strange"):
        draw_night(folder / kind, kind, images=80, seed=5)
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def truth(folder: Path) -> dict[str, str]:
    with truth_path(folder).open(newline="") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file)}


def mean_of(folder: Path, name: str) -> float:
    """Of a property, over the photos whose truth is known."""
    knobs = preset("load_img", size=(96, 96)).decode
    values = []
    for path in truth(folder):
        data = (folder / path).read_bytes()
        with Image.open(folder / path) as image:
            values.append(measure(read_header(data, knobs), np.asarray(image.convert("RGB")))[name])
    return float(np.mean(np.array(values, np.float64)))


class TestTraining:
    def test_every_class_is_equally_often_in_every_session(self, drawn: Path) -> None:
        counts = Counter(path.relative_to(drawn / "training").parts[:2] for path in files(drawn / "training"))
        sessions = {session for _, session in counts}
        assert counts == {(kind, session): 5 for kind in CLASSES for session in sessions}
        assert sum(counts.values()) == IMAGES

    def test_the_odd_ones_are_there_for_the_goldens(self, drawn: Path) -> None:
        modes, formats, sizes = Counter[str](), Counter[str](), set()
        for path in files(drawn / "training"):
            with Image.open(path) as image:
                modes[image.mode] += 1
                formats[str(image.format)] += 1
                sizes.add(image.size)
        assert set(modes) == {"RGB", "L", "RGBA"}
        assert set(formats) == {"JPEG", "PNG"}
        assert modes["RGB"] > 0.85 * IMAGES
        assert len(sizes) == 2
        assert all(width != height for width, height in sizes)

    def test_the_session_is_in_the_folder_and_in_the_file(self, drawn: Path) -> None:
        for path in files(drawn / "training"):
            with Image.open(path) as image:
                exif = image.getexif()
            taken = exif.get_ifd(_EXIF_TIMES)[_TAKEN].replace(":", "-", 2)
            day_and_hour, model = path.parent.name.split("h-")
            assert taken.startswith(day_and_hour[:10])
            assert taken[11:13] == day_and_hour[11:]
            assert exif[_MODEL].lower().replace(" ", "-") == model

    def test_no_two_photos_are_the_same(self, drawn: Path) -> None:
        everything = [path.read_bytes() for path in files(drawn) if path.suffix in {".jpg", ".png"}]
        assert len(set(everything)) == len(everything)


class TestSeeds:
    @pytest.mark.parametrize("kind", ["training", "good", "dim", "strange"])
    def test_the_same_seed_draws_the_same_files_and_another_one_others(self, tmp_path: Path, kind: str) -> None:
        for name, seed in (("one", 1), ("again", 1), ("other", 2)):
            if kind == "training":
                draw_training(tmp_path / name, images=24, seed=seed)
            else:
                draw_night(tmp_path / name, kind, images=24, seed=seed)  # type: ignore[arg-type]
        names = [f"{path.relative_to(tmp_path / 'one')}" for path in files(tmp_path / "one")]
        assert names == [f"{path.relative_to(tmp_path / 'again')}" for path in files(tmp_path / "again")]
        same, different, missing = filecmp.cmpfiles(tmp_path / "one", tmp_path / "again", names, shallow=False)
        assert (len(same), different, missing) == (len(names), [], [])
        photos = [name for name in names if Path(name).name not in BROKEN]
        common = [name for name in photos if (tmp_path / "other" / name).exists()]
        assert filecmp.cmpfiles(tmp_path / "one", tmp_path / "other", common, shallow=False)[0] == []

    def test_a_night_has_no_photo_of_the_training_of_the_same_seed(self, drawn: Path) -> None:
        training = {path.read_bytes() for path in files(drawn / "training")}
        assert not training & {path.read_bytes() for path in files(drawn / "good")}


class TestNights:
    @pytest.mark.parametrize("kind", ["good", "dim", "strange"])
    def test_the_truth_knows_every_whole_photo_and_no_path_gives_it_away(self, drawn: Path, kind: str) -> None:
        known = truth(drawn / kind)
        photos = [path.relative_to(drawn / kind) for path in files(drawn / kind) if path.name not in BROKEN]
        assert sorted(known) == sorted(path.as_posix() for path in photos)
        assert len(known) == 80
        assert not any(label in path for path in known for label in (*CLASSES, NEW_CLASS))

    @pytest.mark.parametrize("kind", ["good", "dim"])
    def test_the_classes_are_the_known_ones_equally_often(self, drawn: Path, kind: str) -> None:
        assert Counter(truth(drawn / kind).values()) == dict.fromkeys(CLASSES, 20)

    def test_the_sessions_of_a_night_are_new(self, drawn: Path) -> None:
        before = {path.parent.name for path in files(drawn / "training")}
        assert not before & {path.parent.name for path in files(drawn / "good")}

    def test_the_dim_night_is_dark_soft_and_noisy_and_the_good_one_is_none_of_it(self, drawn: Path) -> None:
        good = {name: mean_of(drawn / "good", name) for name in ("luminance_mean", "sharpness", "noise")}
        dim = {name: mean_of(drawn / "dim", name) for name in good}
        assert 70 < good["luminance_mean"] < 105
        assert dim["luminance_mean"] < 0.8 * good["luminance_mean"]
        assert dim["sharpness"] < 0.6 * good["sharpness"]
        assert dim["noise"] > 1.2 * good["noise"]

    def test_the_strange_night_has_a_new_kind_of_part(self, drawn: Path) -> None:
        assert NEW_CLASS not in CLASSES
        assert Counter(truth(drawn / "strange").values())[NEW_CLASS] == 16

    def test_the_strange_night_has_phone_photos_that_stand_upright_only_with_their_exif(self, drawn: Path) -> None:
        phones = 0
        for path in truth(drawn / "strange"):
            with Image.open(drawn / "strange" / path) as image:
                if image.getexif()[_ORIENTATION] == 6:
                    phones += 1
                    assert image.width > image.height
                    upright = ImageOps.exif_transpose(image)
                    assert upright.width < upright.height
        assert phones == 10

    def test_the_strange_night_has_each_kind_of_broken_file_and_they_are_broken(self, drawn: Path) -> None:
        broken = [path for path in files(drawn / "strange") if path.name in BROKEN]
        assert {path.name for path in broken} == BROKEN
        for path in broken:
            with pytest.raises((UnidentifiedImageError, OSError, Image.DecompressionBombError)):
                Image.open(io.BytesIO(path.read_bytes())).load()
        assert all(path.stat().st_size < 20_000 for path in broken)

    @pytest.mark.parametrize(("images", "sessions"), [(1, 1), (20, 1), (21, 2), (50, 3)])
    def test_a_night_of_any_size_can_be_drawn(self, tmp_path: Path, images: int, sessions: int) -> None:
        draw_night(tmp_path / "deep" / "night", "good", images=images)
        assert len(files(tmp_path / "deep" / "night")) == images
        assert len(list((tmp_path / "deep" / "night").iterdir())) == sessions

    def test_another_kind_of_night_is_refused_with_the_kinds_there_are(self, tmp_path: Path) -> None:
        with pytest.raises(WrongUse, match="good, dim, strange"):
            draw_night(tmp_path / "night", "foggy", images=1)  # type: ignore[arg-type]


def test_the_kinds_of_night_are_the_documented_ones() -> None:
    assert demo_world.__doc__ is not None
    kinds: tuple[NightKind, ...] = ("good", "dim", "strange")
    assert all(f'night "{kind}"' in demo_world.__doc__ for kind in kinds)
