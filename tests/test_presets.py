"""Every preset against the library that it stands for, bit for bit, on files of every kind."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from darkroom.errors import WrongUse
from darkroom.reasons import Reason
from tasks.knobs import (
    OPENCV_FORMATS,
    OPENCV_INTERPOLATIONS,
    PILLOW_INTERPOLATIONS,
    TENSORFLOW_INTERPOLATIONS,
    Preprocessing,
)
from tasks.preprocessing import ImageRefused, prepare, to_tensor
from tasks.presets import APPLICATION_MODES, PRESETS, application_values, generator_values, named_values, preset

SIZE = (96, 128)  # height, width: not square, so that swapped sides show
AT_LEAST = 200


def _scene(width: int = 83, height: int = 61) -> Image.Image:
    """Edges, a ramp and noise: no two interpolations agree on it."""
    rng = np.random.default_rng(5)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    ramp = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1)
    stripes = ((x // 5 + y // 7) % 2)[..., None] * 60
    noise = rng.integers(-25, 25, (height, width, 3))
    return Image.fromarray(np.clip(ramp + stripes + noise, 0, 255).astype(np.uint8))


def _saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **how)
    return held.getvalue()


def _with_alpha() -> Image.Image:
    image = _scene()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _sixteen_bit() -> Image.Image:
    values = np.asarray(_scene().convert("L")).astype(np.uint16) * 257
    values[:20] //= 300  # so dark that Pillow does not saturate it
    return Image.fromarray(values)


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def _animation() -> bytes:
    frames = [_scene().convert("P"), _scene().transpose(Image.Transpose.FLIP_LEFT_RIGHT).convert("P")]
    return _saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


FILES: dict[str, Callable[[], bytes]] = {
    "rgb.jpg": lambda: _saved(_scene(), "JPEG", quality=92),
    "rgb_444.jpg": lambda: _saved(_scene(), "JPEG", quality=75, subsampling=0),
    "progressive.jpg": lambda: _saved(_scene(), "JPEG", progressive=True),
    "grey.jpg": lambda: _saved(_scene().convert("L"), "JPEG"),
    "cmyk.jpg": lambda: _saved(_scene().convert("CMYK"), "JPEG"),
    "rotated.jpg": lambda: _saved(_scene(), "JPEG", exif=_exif(6)),
    "mirrored.jpg": lambda: _saved(_scene(), "JPEG", exif=_exif(5)),
    "rgb.png": lambda: _saved(_scene(), "PNG"),
    "alpha.png": lambda: _saved(_with_alpha(), "PNG"),
    "grey.png": lambda: _saved(_scene().convert("L"), "PNG"),
    "grey_alpha.png": lambda: _saved(_with_alpha().convert("LA"), "PNG"),
    "palette.png": lambda: _saved(_scene().quantize(64), "PNG"),
    "palette_transparent.png": lambda: _saved(_scene().quantize(64), "PNG", transparency=3),
    "palette_alpha.png": lambda: _saved(_scene().quantize(64), "PNG", transparency=bytes(range(0, 256, 4))),
    "one_bit.png": lambda: _saved(_scene().convert("1"), "PNG"),
    "sixteen_bit.png": lambda: _saved(_sixteen_bit(), "PNG"),
    "rgb.bmp": lambda: _saved(_scene(), "BMP"),
    "still.gif": lambda: _saved(_scene(), "GIF"),
    "animated.gif": _animation,
    "webp_inside.jpg": lambda: _saved(_scene(), "WEBP", lossless=True),
    "png_inside.jpg": lambda: _saved(_scene(), "PNG"),
    "lzw.tif": lambda: _saved(_scene(), "TIFF", compression="tiff_lzw"),
    "rgb.ppm": lambda: _saved(_scene(), "PPM"),
    "rgb.webp": lambda: _saved(_scene(), "WEBP", quality=80),
    "one_pixel.png": lambda: _saved(_scene(1, 1), "PNG"),
    "line.png": lambda: _saved(_scene(200, 2), "PNG"),
}
LISTED_BY_DATASETS = tuple(name for name in FILES if Path(name).suffix in (".bmp", ".gif", ".jpeg", ".jpg", ".png"))
LISTED_BY_GENERATORS = tuple(
    name for name in FILES if Path(name).suffix in (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff")
)
# What TensorFlow says of our files where Pillow reads them; everything else in FILES it decodes.
REFUSED_BY_TENSORFLOW = {"lzw.tif", "rgb.ppm"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "all"
    folder.mkdir()
    for name, make in FILES.items():
        (folder / name).write_bytes(make())
    return folder


@pytest.fixture(scope="module")
def folder_of_many(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of ≥ 200 real photos of every class."""
    folder = tmp_path_factory.mktemp("many") / "all"
    folder.mkdir()
    for photo in photos[:: len(photos) // AT_LEAST]:
        (folder / f"{photo.parent.name}_{photo.name}").symlink_to(photo)
    assert len(list(folder.iterdir())) >= AT_LEAST
    return folder


@pytest.fixture
def many(folder_of_many: Path, record_property: Callable[[str, object], None]) -> Path:
    """Tells how many files are compared; `python -m benchmarks night` reads it."""
    record_property("files", len(list(folder_of_many.iterdir())))
    return folder_of_many


def _same(ours: np.ndarray, theirs: Any, what: object) -> None:
    theirs = np.asarray(theirs).astype(np.float32)
    assert ours.shape == theirs.shape, what
    assert ours.dtype == np.float32
    assert ours.tobytes() == theirs.tobytes(), f"{what}: largest difference {np.abs(ours - theirs).max()}"


def _load_img(path: Path, interpolation: str, fit: str) -> np.ndarray:
    from keras import utils

    with warnings.catch_warnings():  # Pillow's, of palettes with alpha: darkroom keeps them in, Keras does not
        warnings.simplefilter("ignore")
        image = utils.load_img(path, target_size=SIZE, interpolation=interpolation, keep_aspect_ratio=fit == "crop")
        return np.asarray(utils.img_to_array(image))


def _dataset(folder: Path, interpolation: str, fit: str) -> Iterator[tuple[Path, np.ndarray]]:
    from keras import utils

    dataset = utils.image_dataset_from_directory(
        folder.parent,
        labels=None,
        image_size=SIZE,
        batch_size=None,
        shuffle=False,
        verbose=False,
        interpolation=interpolation,
        crop_to_aspect_ratio=fit == "crop",
        pad_to_aspect_ratio=fit == "pad",
    )
    for path, image in zip(dataset.file_paths, dataset, strict=True):
        yield Path(path), image.numpy()


def _generated(folder: Path, interpolation: str, **how: Any) -> Iterator[tuple[Path, np.ndarray]]:
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    flow = ImageDataGenerator(**how).flow_from_directory(
        str(folder.parent),
        target_size=SIZE,
        interpolation=interpolation,
        class_mode=None,
        batch_size=1,
        shuffle=False,
    )
    for path, batch in zip(flow.filepaths, flow, strict=False):
        yield Path(path), batch[0]


def _compare_load_img(files: list[Path], interpolation: str, fit: str) -> int:
    ours = preset("load_img", size=SIZE, interpolation=interpolation, fit=fit)
    for file in files:
        _same(prepare(file.read_bytes(), ours).tensor, _load_img(file, interpolation, fit), file.name)
    return len(files)


def _compare_dataset(folder: Path, interpolation: str, fit: str) -> list[str]:
    ours = preset("image_dataset_from_directory", size=SIZE, interpolation=interpolation, fit=fit)
    seen = []
    for path, theirs in _dataset(folder, interpolation, fit):
        _same(prepare(path.read_bytes(), ours).tensor, theirs, path.name)
        seen.append(path.name)
    return seen


LOAD_IMG = [(interpolation, fit) for interpolation in PILLOW_INTERPOLATIONS for fit in ("squash", "crop")]
DATASET = [
    *((interpolation, "squash") for interpolation in TENSORFLOW_INTERPOLATIONS),
    *((interpolation, fit) for interpolation in ("bilinear", "nearest", "lanczos3") for fit in ("crop", "pad")),
]


@pytest.mark.parametrize(("interpolation", "fit"), LOAD_IMG)
def test_load_img_is_reproduced_for_every_kind_of_file(drawn: Path, interpolation: str, fit: str) -> None:
    files = sorted(drawn.iterdir())
    if fit == "crop":  # Keras computes an empty box for a line, and Pillow refuses it
        files = [file for file in files if file.name != "line.png"]
    assert _compare_load_img(files, interpolation, fit) >= 25


@pytest.mark.real_data
@pytest.mark.parametrize(("interpolation", "fit"), LOAD_IMG)
def test_load_img_is_reproduced_on_real_photos(many: Path, interpolation: str, fit: str) -> None:
    assert _compare_load_img(sorted(many.iterdir()), interpolation, fit) >= AT_LEAST


@pytest.mark.real_data
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_load_img_is_reproduced_on_phone_photos_of_every_orientation(data: Path, interpolation: str) -> None:
    assert _compare_load_img(sorted((data / "images" / "orientation").glob("*.jpg")), interpolation, "squash") == 18


@pytest.mark.real_data
def test_load_img_and_darkroom_refuse_and_read_the_same_odd_files(data: Path) -> None:
    ours = preset("load_img", size=SIZE, interpolation="bilinear")
    compared = 0
    for file in sorted((data / "images" / "odd").iterdir()):
        try:
            theirs = _load_img(file, "bilinear", "squash")
        except Exception:
            with pytest.raises(ImageRefused):
                prepare(file.read_bytes(), ours)
            continue
        _same(prepare(file.read_bytes(), ours).tensor, theirs, file.name)
        compared += 1
    assert compared >= 85


@pytest.mark.parametrize(("interpolation", "fit"), DATASET)
def test_image_dataset_from_directory_is_reproduced(drawn: Path, interpolation: str, fit: str) -> None:
    seen = _compare_dataset(drawn, interpolation, fit)
    assert sorted(seen) == sorted(LISTED_BY_DATASETS)


@pytest.mark.real_data
@pytest.mark.parametrize(("interpolation", "fit"), DATASET)
def test_image_dataset_from_directory_is_reproduced_on_real_photos(many: Path, interpolation: str, fit: str) -> None:
    assert len(_compare_dataset(many, interpolation, fit)) >= AT_LEAST


@pytest.mark.parametrize("name", sorted(REFUSED_BY_TENSORFLOW))
def test_what_tensorflow_cannot_decode_is_refused_by_name(drawn: Path, name: str) -> None:
    import tensorflow as tf

    data = (drawn / name).read_bytes()
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_image(data, channels=3, expand_animations=False)
    with pytest.raises(ImageRefused) as refused:
        prepare(data, preset("tf_image_resize", size=SIZE))
    assert refused.value.reason is Reason.FORMAT_NOT_ALLOWED


@pytest.mark.parametrize("antialias", [False, True], ids=["aliased", "antialiased"])
@pytest.mark.parametrize("interpolation", TENSORFLOW_INTERPOLATIONS)
def test_tf_image_resize_is_reproduced(drawn: Path, interpolation: str, antialias: bool) -> None:
    import tensorflow as tf

    ours = preset("tf_image_resize", size=SIZE, interpolation=interpolation, antialias=antialias)
    for file in sorted(drawn.iterdir()):
        if file.name in REFUSED_BY_TENSORFLOW:
            continue
        image = tf.io.decode_image(file.read_bytes(), channels=3, expand_animations=False)
        theirs = tf.image.resize(image, SIZE, method=interpolation, antialias=antialias)
        _same(prepare(file.read_bytes(), ours).tensor, theirs, file.name)


@pytest.mark.real_data
@pytest.mark.parametrize("antialias", [False, True], ids=["aliased", "antialiased"])
def test_tf_image_resize_is_reproduced_on_real_photos(many: Path, antialias: bool) -> None:
    import tensorflow as tf

    ours = preset("tf_image_resize", size=SIZE, antialias=antialias)
    for file in sorted(many.iterdir()):
        image = tf.io.decode_jpeg(file.read_bytes(), channels=3)
        _same(prepare(file.read_bytes(), ours).tensor, tf.image.resize(image, SIZE, antialias=antialias), file.name)


@pytest.mark.parametrize("grid", ["corner", "align_corners"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_the_sampling_grids_of_tensorflow_1_are_reproduced(drawn: Path, interpolation: str, grid: str) -> None:
    import tensorflow as tf

    ours = preset("tf_image_resize", size=SIZE, interpolation=interpolation, sampling_grid=grid)
    data = (drawn / "rgb.png").read_bytes()
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    method = {"nearest": 1, "bilinear": 0, "bicubic": 2}[interpolation]
    theirs = tf.compat.v1.image.resize(image, SIZE, method=method, align_corners=grid == "align_corners")
    _same(prepare(data, ours).tensor, theirs, grid)


INTER = {"nearest": 0, "bilinear": 1, "bicubic": 2, "area": 3, "lanczos4": 4}  # the numbers of OpenCV's flags


def _compare_opencv(files: list[Path], interpolation: str) -> int:
    import cv2

    ours = preset("opencv", size=SIZE, interpolation=interpolation)
    for file in files:
        theirs = cv2.resize(cv2.imread(str(file)), (SIZE[1], SIZE[0]), interpolation=INTER[interpolation])
        _same(prepare(file.read_bytes(), ours).tensor, theirs[..., ::-1], file.name)
    return len(files)


@pytest.mark.parametrize("interpolation", OPENCV_INTERPOLATIONS)
def test_opencv_is_reproduced_for_every_kind_of_file(drawn: Path, interpolation: str) -> None:
    assert _compare_opencv(sorted(drawn.iterdir()), interpolation) >= 25


@pytest.mark.real_data
@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
def test_opencv_is_reproduced_on_real_photos(many: Path, interpolation: str) -> None:
    assert _compare_opencv(sorted(many.iterdir()), interpolation) >= AT_LEAST


@pytest.mark.real_data
def test_opencv_is_reproduced_on_phone_photos_of_every_orientation(data: Path) -> None:
    assert _compare_opencv(sorted((data / "images" / "orientation").glob("*.jpg")), "bilinear") == 18


FLAGS: dict[str, tuple[dict[str, Any], str]] = {
    "orientation ignored": ({"exif_orientation": "ignored"}, "IMREAD_COLOR|IMREAD_IGNORE_ORIENTATION"),
    "grey": ({"grey": "decoder"}, "IMREAD_GRAYSCALE"),
    "half": ({"jpeg_ratio": 2}, "IMREAD_REDUCED_COLOR_2"),
    "a quarter, grey": ({"jpeg_ratio": 4, "grey": "decoder"}, "IMREAD_REDUCED_GRAYSCALE_4"),
}


@pytest.mark.parametrize("name", ["rotated.jpg", "mirrored.jpg", "rgb_444.jpg", "grey.jpg", "cmyk.jpg"])
@pytest.mark.parametrize(("knobs", "flags"), FLAGS.values(), ids=FLAGS.keys())
def test_the_ways_of_imread_are_knobs(drawn: Path, name: str, knobs: dict[str, Any], flags: str) -> None:
    import cv2

    theirs = cv2.imread(str(drawn / name), sum(getattr(cv2, flag) for flag in flags.split("|")))
    prepared = prepare((drawn / name).read_bytes(), preset("opencv", size=SIZE, **knobs))
    theirs = np.repeat(theirs[..., None], 3, axis=-1) if theirs.ndim == 2 else theirs[..., ::-1]
    assert np.array_equal(prepared.pixels, theirs)


def test_opencv_resizes_what_became_float_before_without_rounding(drawn: Path) -> None:
    import cv2

    data = (drawn / "rgb.png").read_bytes()
    photo = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)
    for interpolation in OPENCV_INTERPOLATIONS:
        ours = preset("opencv", size=SIZE, interpolation=interpolation, rounding="none")
        theirs = cv2.resize(photo, (SIZE[1], SIZE[0]), interpolation=INTER[interpolation])
        _same(prepare(data, ours).tensor, theirs, interpolation)


def test_opencvs_exact_nearest_is_that_of_pillow(drawn: Path) -> None:
    import cv2

    data = (drawn / "rgb.png").read_bytes()
    ours = preset("opencv", size=SIZE, interpolation="nearest", sampling_grid="half_pixel")
    photo = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    theirs = cv2.resize(photo, (SIZE[1], SIZE[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    _same(prepare(data, ours).tensor, theirs, "exact")
    _same(prepare(data, preset("load_img", size=SIZE)).tensor, theirs, "Pillow")


@pytest.mark.parametrize("kind", OPENCV_FORMATS)
def test_opencv_reads_the_formats_that_it_is_said_to(kind: str) -> None:
    more = {"save_all": True, "append_images": [_scene()]} if kind == "MPO" else {}
    prepared = prepare(_saved(_scene(), kind, **more), preset("opencv", size=SIZE))
    assert prepared.header.format == kind
    assert np.abs(prepared.pixels.astype(int) - np.asarray(_scene())).mean() < 12


@pytest.mark.real_data
def test_every_odd_file_is_decoded_or_refused_by_opencv_too(data: Path) -> None:
    ours = preset("opencv", size=SIZE)
    decoded = 0
    for file in sorted((data / "images" / "odd").iterdir()):
        try:
            prepared = prepare(file.read_bytes(), ours)
        except ImageRefused:
            continue
        assert prepared.tensor.tobytes() == prepare(file.read_bytes(), ours).tensor.tobytes(), file.name
        decoded += 1
    assert decoded >= 70


GENERATORS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rescale": {"rescale": 1 / 255.0},
    "rescale_127.5": {"rescale": 1 / 127.5},
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning:PIL")
@pytest.mark.parametrize("how", GENERATORS.values(), ids=GENERATORS.keys())
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "lanczos"])
def test_flow_from_directory_is_reproduced(drawn: Path, interpolation: str, how: dict[str, Any]) -> None:
    values = generator_values(**how)
    ours = preset("image_data_generator", size=SIZE, interpolation=interpolation, values=values)
    seen = []
    for path, theirs in _generated(drawn, interpolation, **how):
        _same(prepare(path.read_bytes(), ours).tensor, theirs, path.name)
        seen.append(path.name)
    assert sorted(seen) == sorted(LISTED_BY_GENERATORS)


@pytest.mark.real_data
def test_flow_from_directory_with_rescale_is_reproduced_on_real_photos(many: Path) -> None:
    ours = preset("image_data_generator", size=SIZE, values=generator_values(rescale=1 / 255.0))
    compared = 0
    for path, theirs in _generated(many, "nearest", rescale=1 / 255.0):
        _same(prepare(path.read_bytes(), ours).tensor, theirs, path.name)
        compared += 1
    assert compared >= AT_LEAST


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning:PIL")
def test_a_generator_rescales_after_its_preprocessing_function(drawn: Path) -> None:
    from keras.applications.mobilenet_v2 import preprocess_input

    values = generator_values(rescale=1 / 255.0, application="mobilenet_v2")
    ours = preset("image_data_generator", size=SIZE, values=values)
    how = {"rescale": 1 / 255.0, "preprocessing_function": preprocess_input}
    for path, theirs in _generated(drawn, "nearest", **how):
        if path.name == "rgb.jpg":
            _same(prepare(path.read_bytes(), ours).tensor, theirs, path.name)


def test_featurewise_numbers_of_a_fitted_generator_are_reproduced(drawn: Path) -> None:
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    plain = preset("image_data_generator", size=SIZE, values=generator_values(rescale=1 / 255.0))
    photos = np.stack([prepare((drawn / name).read_bytes(), plain).resized for name in ("rgb.jpg", "rgb.png")])
    generator = ImageDataGenerator(rescale=1 / 255.0, featurewise_center=True, featurewise_std_normalization=True)
    generator.fit(photos * np.float32(1 / 255.0))
    values = generator_values(
        rescale=1 / 255.0,
        featurewise_mean=tuple(float(number) for number in generator.mean.ravel()),
        featurewise_std=tuple(float(number) for number in generator.std.ravel()),
    )
    theirs = generator.standardize(photos[0].astype(np.float32))
    _same(to_tensor(photos[0], values), theirs, "featurewise")


def _application_modules() -> list[str]:
    from keras import applications

    return [name for name in dir(applications) if hasattr(getattr(applications, name), "preprocess_input")]


def test_every_module_of_keras_applications_is_known() -> None:
    assert set(_application_modules()) == set(APPLICATION_MODES)


@pytest.mark.parametrize("name", sorted(APPLICATION_MODES))
def test_preprocess_input_is_reproduced_for_arrays_tensors_and_datasets(drawn: Path, name: str) -> None:
    import tensorflow as tf
    from keras import applications

    preprocess_input = getattr(applications, name).preprocess_input
    values = application_values(name)
    for interpolation, file in (("nearest", "rgb.jpg"), ("bicubic", "alpha.png")):
        ours = preset("load_img", size=SIZE, interpolation=interpolation, values=values)
        prepared = prepare((drawn / file).read_bytes(), ours)
        loaded = _load_img(drawn / file, interpolation, "squash")
        _same(prepared.tensor, preprocess_input(loaded.copy()), "array")
        _same(prepared.tensor, preprocess_input(loaded[None].copy())[0], "batch")
        _same(prepared.tensor, preprocess_input(tf.constant(loaded)), "tensor")
        mapped = tf.data.Dataset.from_tensors(loaded[None]).map(preprocess_input)
        _same(prepared.tensor, next(iter(mapped))[0], "dataset.map")


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50", "densenet", "efficientnet"])
def test_preprocess_input_is_reproduced_on_real_photos(many: Path, name: str) -> None:
    from keras import applications

    ours = preset("load_img", size=SIZE, interpolation="bilinear", values=name)
    for file in sorted(many.iterdir()):
        theirs = getattr(applications, name).preprocess_input(_load_img(file, "bilinear", "squash"))
        _same(prepare(file.read_bytes(), ours).tensor, theirs, file.name)


@pytest.mark.parametrize(("scale", "offset"), [(1 / 255.0, 0.0), (1 / 127.5, -1.0)], ids=["0_to_1", "-1_to_1"])
def test_a_rescaling_layer_is_reproduced(scale: float, offset: float) -> None:
    from keras import layers

    pixels = np.arange(768, dtype=np.float32).reshape(16, 16, 3) % 256
    values = named_values("identity", rescale=scale, mean=(-offset, -offset, -offset))
    _same(to_tensor(pixels, values), layers.Rescaling(scale, offset=offset)(pixels), "Rescaling")


def test_teachable_machine_is_reproduced(drawn: Path) -> None:
    for size in ((224, 224), SIZE):
        ours = preset("teachable_machine", size=size)
        for name in ("rgb.jpg", "rgb.png", "grey.png", "alpha.png", "line.png", "one_pixel.png"):
            image = Image.open(drawn / name).convert("RGB")
            fitted = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
            theirs = (np.asarray(fitted).astype(np.float32) / 127.5) - 1
            _same(prepare((drawn / name).read_bytes(), ours).tensor, theirs, name)


@pytest.mark.parametrize("interpolation", ["bilinear", "lanczos"])
def test_a_pillow_pad_is_reproduced(drawn: Path, interpolation: str) -> None:
    ours = preset("load_img", size=SIZE, interpolation=interpolation, fit="pad", box_rounding="round")
    for name in ("rgb.jpg", "line.png", "one_pixel.png"):
        image = Image.open(drawn / name).convert("RGB")
        padded = ImageOps.pad(image, (SIZE[1], SIZE[0]), Image.Resampling[interpolation.upper()])
        _same(prepare((drawn / name).read_bytes(), ours).tensor, np.asarray(padded), name)


def test_the_accurate_dct_of_tensorflow_gives_the_pixels_of_pillow(drawn: Path) -> None:
    data = (drawn / "rgb.jpg").read_bytes()
    pillow = prepare(data, preset("load_img", size=SIZE)).pixels
    accurate = prepare(data, preset("tf_image_resize", size=SIZE, dct_method="accurate")).pixels
    fast = prepare(data, preset("tf_image_resize", size=SIZE)).pixels
    assert np.array_equal(pillow, accurate)
    assert not np.array_equal(pillow, fast)


def test_presets_state_every_knob_and_differ_from_each_other() -> None:
    made = {name: preset(name, size=SIZE) for name in PRESETS}
    for one in made.values():
        assert Preprocessing.model_validate(one.model_dump()) == one
    assert made["load_img"] == made["image_data_generator"]
    assert len({one.digest for one in made.values()}) == len(made) - 2  # the dataset and tf.image.resize agree, too


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "no such preset": ("scikit_image", {}),
    "no such interpolation": ("load_img", {"interpolation": "area"}),
    "no such knob": ("load_img", {"colour_space": "lab"}),
    "no such values": ("load_img", {"values": "mobilenet_v9"}),
    "Pillow cannot sample like TensorFlow 1": ("load_img", {"sampling_grid": "corner"}),
    "TensorFlow cannot composite": ("tf_image_resize", {"alpha": "on_white"}),
}


@pytest.mark.parametrize(("name", "how"), WRONG.values(), ids=WRONG.keys())
def test_a_preset_that_cannot_be_is_refused_with_what_can(name: str, how: dict[str, Any]) -> None:
    with pytest.raises(WrongUse) as wrong:
        preset(name, size=SIZE, **how)
    assert wrong.value.expected
