"""The pinned preparation as lines of code for users of Keras, tf.data, Pillow and OpenCV, as far as each library can.

`path` is a file's path, `x` (height, width, 3) float32: the model's input. Where a library cannot do a step, Pillow
does it inside the lines; where that does not give the pinned tensor bit for bit, the fix says what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tasks.knobs import Preprocessing, Values

_UNUSUAL: Final = {"jpeg_ratio": 1, "thumbnail": 0, "reencoded": 0, "grey": "no", "alpha": "dropped", "icc": "ignored"}
_TURNS: Final = ("ignored", "applied")
_CV2: Final = {
    "nearest": "INTER_NEAREST",
    "bilinear": "INTER_LINEAR",
    "bicubic": "INTER_CUBIC",
    "area": "INTER_AREA",
    "lanczos4": "INTER_LANCZOS4",
}


@dataclass(frozen=True)
class Fix:
    """Lines that prepare an image as pinned. `imports` go above them; `differs` is empty where the tensor is bit-equal
    for ordinary 8-bit RGB images, else it says in which step the library does otherwise.
    """

    library: str
    imports: tuple[str, ...]
    lines: tuple[str, ...]
    differs: str = ""

    @property
    def code(self) -> str:
        """Everything, to be pasted."""
        return "\n".join((*self.imports, *self.lines))


def fixes(pinned: Preprocessing) -> tuple[Fix, ...]:
    """One fix a library, the library itself first that is pinned; darkroom's own, which is always exact, last."""
    own = Fix(
        "darkroom",
        ("from pathlib import Path", "from tasks.preprocessing import Preprocessing, prepare"),
        ('x = prepare(Path(path).read_bytes(), Preprocessing.load(Path("preprocessing.json"))).tensor',),
    )
    if not _writable(pinned):
        return (own,)
    makers: dict[str, Callable[[Preprocessing], Fix]] = {
        "pillow": _pillow,
        "keras": _keras,
        "tensorflow": _tf_data,
        "opencv": _opencv,
    }
    first = pinned.geometry.resizer
    order = sorted(makers, key=lambda name: name != first)
    return (*(makers[name](pinned) for name in order), own)


def _writable(pinned: Preprocessing) -> bool:
    """Whether the preparation is one that a few lines can say."""
    knobs = pinned.knobs()
    usual = all(knobs[name] == value for name, value in _UNUSUAL.items())
    plain = knobs["exif_orientation"] in _TURNS and knobs["layout"] == "channels_last" and knobs["zoom"] == 1
    grids = ("half_pixel", "corner") if knobs["resizer"] == "opencv" else ("half_pixel",)
    if knobs["times"] != 1 or knobs["sampling_grid"] not in grids:
        return False
    return usual and plain


def _pillow(pinned: Preprocessing) -> Fix:
    opened = f'{_opened(pinned)}.convert("RGB")'
    return _through_pillow("Pillow", ("import numpy as np", "from PIL import Image, ImageOps"), opened, pinned)


def _opencv(pinned: Preprocessing) -> Fix:
    flags = "cv2.IMREAD_COLOR"
    if pinned.decode.exif_orientation == "ignored":
        flags += " | cv2.IMREAD_IGNORE_ORIENTATION"
    read = f"cv2.imread(path, {flags})"
    geometry = pinned.geometry
    if geometry.resizer != "opencv" or geometry.fit != "squash":
        opened = f"Image.fromarray({read}[..., ::-1])"
        imports = ("import cv2", "import numpy as np", "from PIL import Image, ImageOps")
        fix = _through_pillow("OpenCV", imports, opened, pinned)
        decoder = "" if pinned.decode.decoder == "opencv" else "OpenCV's JPEG decoder may differ by one level"
        return Fix(fix.library, fix.imports, fix.lines, "; ".join(filter(None, [fix.differs, decoder])))
    flag = "INTER_NEAREST_EXACT" if _centred_nearest(pinned) else _CV2[geometry.interpolation]
    image = f"{read}[..., ::-1]"
    if geometry.rounding == "none":
        image = f"{image}.astype(np.float32)"
    resized = f"cv2.resize(np.ascontiguousarray({image}), ({geometry.width}, {geometry.height}), "
    resized += f"interpolation=cv2.{flag})"
    if geometry.rounding != "none":
        resized += ".astype(np.float32)"
    differs = "" if pinned.decode.decoder == "opencv" else "OpenCV's JPEG decoder may differ by one level"
    return Fix("OpenCV", ("import cv2", "import numpy as np"), (f"x = {_valued(resized, pinned.values)}",), differs)


def _keras(pinned: Preprocessing) -> Fix:
    geometry = pinned.geometry
    imports: tuple[str, ...] = ("import keras", "import numpy as np")
    size = f"({geometry.height}, {geometry.width})"
    if geometry.resizer == "pillow" and geometry.fit != "pad" and pinned.decode.exif_orientation == "ignored":
        arguments = f'path, target_size={size}, interpolation="{geometry.interpolation}"'
        if geometry.fit == "crop":
            arguments += ", keep_aspect_ratio=True"
        array = f"keras.utils.img_to_array(keras.utils.load_img({arguments}))"
        differs = _decoder_differs(pinned, "pillow")
        if geometry.fit == "crop" and geometry.box_rounding != "floor":
            differs = "; ".join(filter(None, [differs, "load_img crops whole pixels, the pinned crop is exact"]))
        return Fix("Keras", imports, (f"x = {_valued(array, pinned.values)}",), differs)
    inner = _tf_data(pinned) if geometry.resizer == "tensorflow" else _pillow(pinned)
    return Fix("Keras", inner.imports, inner.lines, inner.differs)


def _tf_data(pinned: Preprocessing) -> Fix:
    """tf.image where it is the pinned resizer; else the lines of Pillow or OpenCV inside of tf.numpy_function."""
    geometry = pinned.geometry
    if geometry.resizer != "tensorflow" or pinned.decode.exif_orientation != "ignored" or geometry.fit != "squash":
        inner = _opencv(pinned) if geometry.resizer == "opencv" else _pillow(pinned)
        shape = (geometry.height, geometry.width, 3)
        lines = (
            "def prepare_file(path):",
            "    path = path.decode()",
            *(f"    {line}" for line in inner.lines),
            "    return np.ascontiguousarray(x, np.float32)",
            f"prepare = lambda path: tf.ensure_shape(tf.numpy_function(prepare_file, [path], tf.float32), {shape})",
            "x = next(iter(tf.data.Dataset.from_tensors(path).map(prepare))).numpy()",
        )
        return Fix("tf.data", (*inner.imports, "import tensorflow as tf"), lines, inner.differs)
    method = f'method="{geometry.interpolation}", antialias={geometry.antialias}'
    dct = ', dct_method="INTEGER_ACCURATE"' if pinned.decode.dct_method == "accurate" else ""
    decoded = (
        f"tf.io.decode_jpeg(tf.io.read_file(path), channels=3{dct})"
        if dct
        else "tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)"
    )
    resized = f"tf.image.resize({decoded}, ({geometry.height}, {geometry.width}), {method})"
    rounded = {
        "none": f"tf.cast({resized}, tf.float32)",
        "round": f"tf.round(tf.clip_by_value(tf.cast({resized}, tf.float32), 0, 255))",
        "truncate": f"tf.floor(tf.clip_by_value(tf.cast({resized}, tf.float32), 0, 255))",
    }[geometry.rounding]
    lines = (
        f"prepare = lambda path: {_valued(rounded, pinned.values)}",
        "x = next(iter(tf.data.Dataset.from_tensors(path).map(prepare))).numpy()",
    )
    return Fix("tf.data", ("import tensorflow as tf",), lines, _decoder_differs(pinned, "tensorflow"))


def _through_pillow(library: str, imports: tuple[str, ...], opened: str, pinned: Preprocessing) -> Fix:
    """From an expression for the opened image to the tensor, with Pillow's resize or what comes closest."""
    geometry = pinned.geometry
    differs = [_decoder_differs(pinned, "pillow")] if library == "Pillow" else []
    if geometry.resizer == "opencv":
        inner = _centred_nearest(pinned)
        flag = "INTER_NEAREST_EXACT" if inner else _CV2[geometry.interpolation]
        if geometry.fit == "squash":
            resized = (
                f"cv2.resize(np.asarray({opened}), ({geometry.width}, {geometry.height}), interpolation=cv2.{flag})"
            )
            valued = _valued(f"{resized}.astype(np.float32)", pinned.values)
            if geometry.rounding == "none":
                differs.append("the resize is rounded to whole levels")
            return Fix(library, _with(imports, "import cv2"), (f"x = {valued}",), "; ".join(filter(None, differs)))
    if geometry.resizer == "tensorflow" and geometry.fit == "squash":
        method = f'method="{geometry.interpolation}", antialias={geometry.antialias}'
        resized = f"tf.image.resize(np.asarray({opened}), ({geometry.height}, {geometry.width}), {method}).numpy()"
        if geometry.rounding != "none":
            step = "np.rint" if geometry.rounding == "round" else "np.trunc"
            resized = f"{step}({resized}).clip(0, 255)"
        valued = _valued(f"{resized}.astype(np.float32)", pinned.values)
        imports = _with(imports, "import tensorflow as tf")
        return Fix(library, imports, (f"x = {valued}",), "; ".join(filter(None, differs)))
    if geometry.resizer != "pillow":
        differs.append(f"Pillow resizes in place of {geometry.resizer}")
    name = geometry.interpolation.upper()
    filter_ = f"Image.Resampling.{name if name in _PILLOW_FILTERS else 'BILINEAR'}"
    size = f"({geometry.width}, {geometry.height})"
    if geometry.fit == "squash":
        resized = f"{opened}.resize({size}, {filter_})"
    elif geometry.fit == "crop":
        resized = f"ImageOps.fit({opened}, {size}, {filter_})"
        if geometry.box_rounding != "exact":
            differs.append("ImageOps.fit crops fractions of pixels, the pinned crop whole ones")
    else:
        colour = (geometry.pad_value,) * 3
        resized = f"ImageOps.pad({opened}, {size}, {filter_}, color={colour})"
        if geometry.box_rounding != "round":
            differs.append("ImageOps.pad rounds the frame in another way")
    valued = _valued(f"np.asarray({resized}, np.float32)", pinned.values)
    return Fix(library, imports, (f"x = {valued}",), "; ".join(filter(None, differs)))


_PILLOW_FILTERS: Final = ("NEAREST", "BILINEAR", "BICUBIC", "HAMMING", "BOX", "LANCZOS")


def _opened(pinned: Preprocessing) -> str:
    opened = "Image.open(path)"
    return f"ImageOps.exif_transpose({opened})" if pinned.decode.exif_orientation == "applied" else opened


def _decoder_differs(pinned: Preprocessing, own: str) -> str:
    decode = pinned.decode
    if decode.decoder == own:
        return ""
    if own == "pillow" and decode.dct_method == "accurate":
        return f"Pillow's JPEG decoder stands for that of {decode.decoder}: at most one level apart"
    return f"the JPEG decoder is that of {own}, not of {decode.decoder}"


def _centred_nearest(pinned: Preprocessing) -> bool:
    return pinned.geometry.interpolation == "nearest" and pinned.geometry.sampling_grid == "half_pixel"


def _with(imports: tuple[str, ...], one: str) -> tuple[str, ...]:
    return imports if one in imports else (one, *imports)


def _valued(array: str, values: Values) -> str:
    """`array`, an expression of 0 … 255 in float32, with the steps of tasks.values behind it."""
    text = array
    if values.channel_order == "bgr":
        text += "[..., ::-1]"
    for sign, number, neutral in (
        ("*", values.rescale, 1.0),
        ("/", values.divide_by, 1.0),
        ("-", values.mean, 0.0),
        ("/", values.std, 1.0),
        ("*", values.rescale_after, 1.0),
    ):
        numbers = number if isinstance(number, tuple) else (number,) * 3
        if all(one == neutral for one in numbers):
            continue
        if sign != "-" and " - " in text and not text.startswith("("):
            text = f"({text})"
        if len(set(numbers)) == 1:
            text += f" {sign} {numbers[0]:.17g}" if numbers[0] >= 0 else f" {sign} ({numbers[0]:.17g})"
        elif "tf." in array and ".numpy()" not in array:
            text += f" {sign} tf.constant({numbers!r}, tf.float32)"
        else:
            text += f" {sign} np.array({numbers!r}, np.float32)"
    return text
