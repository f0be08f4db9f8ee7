"""The lines that are offered as a fix make the tensor that `prepare` makes: they are run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.preprocessing import Preprocessing, prepare
from tasks.presets import preset
from tasks.report.fixes import Fix, fixes
from tests.tiny import drawn, encoded

SIZE = (40, 56)
TORCH = {"values": "torch"}
PINNED = {
    "load_img, bilinear, −1 … 1": preset("load_img", size=SIZE, interpolation="bilinear", values="tf"),
    "load_img, nearest, caffe": preset("load_img", size=SIZE, values="caffe"),
    "load_img, a crop of whole pixels": preset("load_img", size=SIZE, interpolation="bicubic", fit="crop", **TORCH),
    "generator, 1/255": preset("image_data_generator", size=SIZE, rescale=1 / 255),
    "a dataset from a directory": preset("image_dataset_from_directory", size=SIZE, values="tf"),
    "tf.image with antialias, rounded": preset("tf_image_resize", size=SIZE, antialias=True, rounding="round"),
    "Teachable Machine": preset("teachable_machine", size=SIZE),
    "OpenCV, linear": preset("opencv", size=SIZE, values="torch"),
    "OpenCV, nearest": preset("opencv", size=SIZE, interpolation="nearest", values="tf"),
    "OpenCV, area, EXIF ignored": preset("opencv", size=SIZE, interpolation="area", exif_orientation="ignored"),
    "EXIF applied, padded": preset(
        "load_img", size=SIZE, interpolation="lanczos", fit="pad", box_rounding="round", exif_orientation="applied"
    ),
}


def run(fix: Fix, path: Path) -> np.ndarray:
    names: dict[str, Any] = {"path": str(path)}
    exec(fix.code, names)
    return np.asarray(names["x"])


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    path.write_bytes(encoded(drawn(3, (150, 90)), exif=exif, quality=92))
    return path


@pytest.mark.parametrize("name", PINNED)
def test_every_line_gives_the_pinned_tensor_or_says_what_differs(name: str, photo: Path) -> None:
    pinned = PINNED[name]
    expected = prepare(photo.read_bytes(), pinned).tensor
    offered = fixes(pinned)
    assert {fix.library for fix in offered} == {"Pillow", "Keras", "tf.data", "OpenCV", "darkroom"}
    for fix in offered[:-1]:
        found = run(fix, photo)
        assert found.shape == expected.shape, fix.code
        assert found.dtype == np.float32, fix.code
        if not fix.differs:
            np.testing.assert_array_equal(found, expected, err_msg=fix.code)
        else:  # one level of the decoder, some levels of another crop: never another scale or channel order
            spread = float(expected.max() - expected.min())
            assert np.abs(found - expected).mean() <= 0.05 * spread, fix.code


@pytest.mark.parametrize("name", ["load_img, bilinear, −1 … 1", "Teachable Machine", "a dataset from a directory"])
def test_the_library_that_is_pinned_is_exact(name: str) -> None:
    assert fixes(PINNED[name])[0].differs == ""


def test_the_line_of_darkroom_is_always_there_and_runs(photo: Path, tmp_path: Path, monkeypatch: Any) -> None:
    twice: Preprocessing = PINNED["generator, 1/255"].with_knobs(times=2)
    (own,) = fixes(twice)
    twice.save(tmp_path / "preprocessing.json")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(run(own, photo), prepare(photo.read_bytes(), twice).tensor)
