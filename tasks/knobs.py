"""Every setting that decides which numbers a model sees for a file: named, valued, stated, and never defaulted.

A knob has one name in all three groups together, so that a preparation that differs is written `knob=value`. The model
admits more values later (another decoder, another resizer): a value is a word of a `Literal`, and what a decoder or a
resizer cannot do is refused where the model is validated, not where the first image breaks.

Knobs that came from somebody's lost week cite it: `repository#number`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from darkroom.errors import WrongUse

Format = Literal["JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "ICO", "AVIF"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
TENSORFLOW_FORMATS: Final[tuple[Format, ...]] = ("JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP")
OPENCV_FORMATS: Final[tuple[Format, ...]] = ("JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")

PILLOW_INTERPOLATIONS: Final = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")
TENSORFLOW_INTERPOLATIONS: Final = (
    "bilinear",
    "nearest",
    "bicubic",
    "area",
    "lanczos3",
    "lanczos5",
    "gaussian",
    "mitchellcubic",
)
OPENCV_INTERPOLATIONS: Final = ("nearest", "bilinear", "bicubic", "area", "lanczos4")
Interpolation = Literal[
    "nearest",
    "bilinear",
    "bicubic",
    "hamming",
    "box",
    "lanczos",
    "area",
    "lanczos3",
    "lanczos4",
    "lanczos5",
    "gaussian",
    "mitchellcubic",
]

Triple = tuple[float, float, float]
_NO_SPREAD: Final[Triple] = (1.0, 1.0, 1.0)
_FINITE = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


class Decode(BaseModel):
    """File bytes → (H, W, 3) uint8, RGB.

    decoder, dct_method
        Pillow and TensorFlow give other pixels for one JPEG; TensorFlow's default is the fast inverse DCT, Pillow's the
        accurate one, and TensorFlow with `accurate` equals Pillow (tensorflow#11623, #24893, #55138). OpenCV's is
        accurate, too.
    exif_orientation
        Pillow, Keras and TensorFlow ignore it, OpenCV applies it (tensorflow#49834), unless it is told
        IMREAD_IGNORE_ORIENTATION. A TIFF is always upright: Pillow turns it as it loads. `clockwise` and
        `anticlockwise` turn every image by a quarter, whatever EXIF says: photos whose EXIF block was lost after they
        were taken on the side (yolov5#405).
    alpha
        Dropped (what lies under transparent pixels shows), or composited (DIGITS#85).
    palette
        `index` takes the palette's index for a grey value: what decoders do that do not know palettes.
    sixteen_bit
        One-channel 16-bit: Pillow saturates to {0 … 255}, TensorFlow keeps the high byte (tensorflow#15681, #2619).
    float_pixels
        Mode F: clipped to 0 … 255 as Pillow does, or refused.
    cmyk
        As the decoder converts, or with inverted inks: Adobe writes them inverted (pytorch/vision#6538).
    icc
        Ignored, as every training library does, or converted to sRGB (perceptual intent; a broken profile is ignored).
    grey
        `luma`: Rec. 601 of RGB, replicated; `decoder`: the JPEG's own Y channel (IMREAD_GRAYSCALE, which with
        decoder=opencv makes its own grey of the other formats).
    frame
        Of an animation or of several pages.
    truncated
        `padded` fills what is missing with grey, as `LOAD_TRUNCATED_IMAGES = True` does (keras#19026).
    jpeg_ratio
        A JPEG decoded at 1/2, 1/4 or 1/8 (Pillow's `draft`, TensorFlow's `ratio`, OpenCV's IMREAD_REDUCED_COLOR_2).
    thumbnail
        0, or the longest side of the thumbnail that stands for the original (Pillow's `thumbnail`, bicubic).
    reencoded
        0, or the JPEG quality that the image is saved with once more before it is used.
    formats
        By content, never by extension (`.jpg` may be WEBP).
    """

    model_config = _FINITE

    decoder: Literal["pillow", "tensorflow", "opencv"]
    dct_method: Literal["accurate", "fast"]
    exif_orientation: Literal["ignored", "applied", "clockwise", "anticlockwise"]
    alpha: Literal["dropped", "on_white", "on_black"]
    palette: Literal["colour", "index"]
    sixteen_bit: Literal["saturate", "high_byte"]
    float_pixels: Literal["clipped", "refused"]
    cmyk: Literal["as_decoder", "inverted", "refused"]
    icc: Literal["ignored", "to_srgb"]
    grey: Literal["no", "luma", "decoder"]
    frame: Literal["first"]
    truncated: Literal["refused", "padded"]
    jpeg_ratio: Literal[1, 2, 4, 8]
    thumbnail: Annotated[int, Field(ge=0, le=4096)]
    reencoded: Annotated[int, Field(ge=0, le=100)]
    formats: Annotated[tuple[Format, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _only_what_the_decoder_can(self) -> Self:
        if self.decoder == "pillow":
            _require(self, "decoder=pillow", dct_method=("accurate",))
        else:
            if self.decoder == "opencv":
                _require(self, "decoder=opencv", dct_method=("accurate",))
            _require(
                self,
                f"decoder={self.decoder}",
                alpha=("dropped",),
                palette=("colour",),
                sixteen_bit=("high_byte",),
                float_pixels=("refused",),
                cmyk=("as_decoder",),
                icc=("ignored",),
                truncated=("refused",),
            )
            readable = TENSORFLOW_FORMATS if self.decoder == "tensorflow" else OPENCV_FORMATS
            beyond = [name for name in self.formats if name not in readable]
            if beyond:
                raise ValueError(f"decoder={self.decoder} cannot read formats={beyond}; it reads {readable}")
        if len(set(self.formats)) != len(self.formats):
            raise ValueError(f"formats names one twice: {self.formats}")
        return self


class Geometry(BaseModel):
    """(H, W, 3) uint8 → (height, width, 3), still 0 … 255.

    fit
        `squash` changes the proportions; `crop` takes the largest centred part of the target's proportions; `pad`
        resizes until it fits and fills the rest with pad_value (keras#9049).
    box_rounding
        How a crop's or a pad's fractional pixels are rounded. `floor`: whole numbers (keras.utils.load_img);
        `float32`: as TensorFlow computes it (smart_resize, resize_with_pad); `round`: Pillow's ImageOps.pad;
        `exact`: a fractional crop (Pillow's ImageOps.fit).
    zoom
        1, or how much closer: the box's sides are divided by it around its centre (FixRes, arXiv 1906.06423).
    interpolation
        `load_img` says nearest by default, datasets bilinear (keras PR#7975): one image in nine changes class.
    antialias
        Pillow always does, except for nearest; tf.image only if told to (tensorflow#6720, pytorch/vision#2950); OpenCV
        never (opencv#25620), but its `area` is a mean over what becomes one pixel.
    sampling_grid
        Where pixel centres lie: `half_pixel` in TensorFlow 2, Pillow and OpenCV; `corner` and `align_corners` in
        TensorFlow 1 (tensorflow#44038). OpenCV's INTER_NEAREST has `corner`, its INTER_NEAREST_EXACT `half_pixel`.
    rounding
        After the resize: `round` and `truncate` give uint8, `none` keeps floats (bicubic then leaves 0 … 255).
        Pillow always rounds; TensorFlow's nearest has nothing to round, and keeps uint8 under each. OpenCV rounds when
        it is given uint8, as it usually is; `none` is an image that became float32 before the resize.
    """

    model_config = _FINITE

    width: Annotated[int, Field(ge=1, le=8192)]
    height: Annotated[int, Field(ge=1, le=8192)]
    fit: Literal["squash", "crop", "pad"]
    box_rounding: Literal["floor", "float32", "round", "exact"]
    zoom: Annotated[float, Field(ge=1, le=16)]
    resizer: Literal["pillow", "tensorflow", "opencv"]
    interpolation: Interpolation
    antialias: bool
    sampling_grid: Literal["half_pixel", "align_corners", "corner"]
    rounding: Literal["none", "round", "truncate"]
    pad_value: Annotated[int, Field(ge=0, le=255)]

    @model_validator(mode="after")
    def _only_what_the_resizer_can(self) -> Self:
        if self.resizer == "pillow":
            _require(
                self,
                "resizer=pillow",
                interpolation=PILLOW_INTERPOLATIONS,
                sampling_grid=("half_pixel",),
                rounding=("round",),
            )
            _require(self, f"resizer=pillow, {self.interpolation}", antialias=(self.interpolation != "nearest",))
        elif self.resizer == "tensorflow":
            _require(self, "resizer=tensorflow", interpolation=TENSORFLOW_INTERPOLATIONS)
        else:
            _require(
                self,
                "resizer=opencv",
                interpolation=OPENCV_INTERPOLATIONS,
                antialias=(False,),
                rounding=("none", "round"),
            )
            grids = ("corner", "half_pixel") if self.interpolation == "nearest" else ("half_pixel",)
            _require(self, f"resizer=opencv, {self.interpolation}", sampling_grid=grids)
        if self.resizer != "pillow" and self.box_rounding == "exact":
            raise ValueError("box_rounding=exact needs resizer=pillow: the others crop whole pixels")
        if self.sampling_grid != "half_pixel":
            grid = f"sampling_grid={self.sampling_grid}"
            _require(self, grid, interpolation=("nearest", "bilinear", "bicubic"), antialias=(False,))
        _require(
            self,
            f"fit={self.fit}",
            box_rounding=("floor", "float32", "round") if self.fit == "pad" else ("floor", "float32", "exact"),
        )
        return self


class Values(BaseModel):
    """(…, height, width, 3) of 0 … 255 → float32, in this order, each step in float32:

        channels reversed (channel_order=bgr) · × rescale · ÷ divide_by · − mean · ÷ std · × rescale_after

    mean and std are in the order of the model's channels. Steps that change nothing (1, 0) are left out, so that each
    preset does exactly the float operations of its library. Modes of `preprocess_input` differ between backbones of one
    package (keras-applications#64), and for some it does nothing because the model scales (keras#16081, #14950).

    rescale, rescale_after
        ImageDataGenerator multiplies after its preprocessing_function, not before (keras PR#7248).
    layout
        `width_first`: rows and columns exchanged, an array (width, height, 3); width and height of the geometry are
        those before the exchange. `channels_first`: an array (3, height, width) that was reshaped to channels last, not
        transposed: its numbers are those of the image, in the wrong places.
    times
        1. 2 is `preprocess_input` called twice, or a Rescaling layer inside the model and `/255` outside (keras#11591);
        0 is a preparation that was forgotten. They are here to be replayed.
    """

    model_config = _FINITE

    layout: Literal["channels_last", "channels_first", "width_first"]
    channel_order: Literal["rgb", "bgr"]
    rescale: float
    divide_by: float
    mean: Triple
    std: Triple
    rescale_after: float
    times: Literal[0, 1, 2]

    @model_validator(mode="after")
    def _no_division_by_zero(self) -> Self:
        if self.divide_by == 0 or 0 in self.std:
            raise ValueError(f"divide_by and std must not be 0, found {self.divide_by} and {self.std}")
        return self

    @property
    def spread(self) -> Triple | None:
        """std, or None where it changes nothing."""
        return None if self.std == _NO_SPREAD else self.std


class Preprocessing(BaseModel):
    """The pinned preparation: file bytes → model input. `preprocessing.json` is this, with every knob stated."""

    model_config = _FINITE

    schema_version: Literal[1]
    decode: Decode
    geometry: Geometry
    values: Values

    @property
    def digest(self) -> str:
        """sha256 (hex) of the canonical JSON: equal knobs, equal digest, whatever the file's spacing."""
        return hashlib.sha256(self._json(indent=None).encode()).hexdigest()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of what the model is given."""
        height, width = self.geometry.height, self.geometry.width
        return (width, height, 3) if self.values.layout == "width_first" else (height, width, 3)

    @property
    def needs_tensorflow(self) -> bool:
        """Whether preparing an image imports TensorFlow."""
        return "tensorflow" in (self.decode.decoder, self.geometry.resizer)

    @property
    def needs_opencv(self) -> bool:
        """Whether preparing an image imports OpenCV."""
        return "opencv" in (self.decode.decoder, self.geometry.resizer)

    def knobs(self) -> dict[str, Any]:
        """Every knob by its name, without its group."""
        return {name: value for group in _GROUPS for name, value in dict(getattr(self, group)).items()}

    def differences(self, other: Preprocessing) -> dict[str, tuple[Any, Any]]:
        """The knobs in which two preparations differ: name → (here, there)."""
        there = other.knobs()
        return {name: (value, there[name]) for name, value in self.knobs().items() if value != there[name]}

    def with_knobs(self, **changes: Any) -> Preprocessing:
        """Another preparation, with some knobs set otherwise. WrongUse: no such knob, no such value."""
        groups = {group: dict(getattr(self, group)) for group in _GROUPS}
        for name, value in changes.items():
            group = next((group for group, knobs in groups.items() if name in knobs), None)
            if group is None:
                raise WrongUse(f"there is no knob {name!r}", expected=", ".join(self.knobs()), found=name)
            groups[group][name] = value
        return Preprocessing.parse({"schema_version": self.schema_version, **groups}, source=None)

    def save(self, path: Path) -> None:
        """Write preprocessing.json."""
        path.write_text(self._json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Preprocessing:
        """Read preprocessing.json. WrongUse: a knob that is missing, unknown, or has a value that it cannot have."""
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise WrongUse("the preprocessing cannot be read", file=path, found=problem) from problem
        return cls.parse(stated, source=path)

    @classmethod
    def parse(cls, stated: object, *, source: Path | None) -> Preprocessing:
        """A preprocessing from plain data, with errors that name the knob."""
        try:
            return cls.model_validate(stated)
        except ValidationError as problem:
            raise _plainly(problem, source) from problem

    def _json(self, indent: int | None) -> str:
        separators = (",", ":") if indent is None else None
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=indent, separators=separators)


_GROUPS: Final = ("decode", "geometry", "values")


def _require(model: BaseModel, because: str, **allowed: tuple[object, ...]) -> None:
    for knob, values in allowed.items():
        found = getattr(model, knob)
        if found not in values:
            raise ValueError(f"{because} needs {knob} to be one of {list(values)}, found {found!r}")


def _plainly(problem: ValidationError, source: Path | None) -> WrongUse:
    """The findings of pydantic in our words, the first as the headline."""
    findings = []
    for error in problem.errors(include_url=False):
        knob = ".".join(str(part) for part in error["loc"]) or "preprocessing"
        if error["type"] == "missing":
            findings.append((f"knob {knob} is missing", "every knob stated", "nothing"))
        elif error["type"] == "extra_forbidden":
            findings.append((f"there is no knob {knob}", "only knobs that darkroom knows", knob))
        else:
            message = error["msg"].removeprefix("Value error, ")
            findings.append((f"knob {knob} has a value that it cannot have", message, repr(error["input"])[:200]))
    what = "; ".join(finding[0] for finding in findings[:5])
    return WrongUse(
        what,
        file=source,
        expected="; ".join(finding[1] for finding in findings[:5]),
        found=findings[0][2],
        todo="state every knob; `tasks.presets` lists complete preparations",
    )
