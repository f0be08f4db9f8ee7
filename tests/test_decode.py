"""Bytes → pixels or a reason: every mode, every knob, every broken file, and nothing leaks."""

from __future__ import annotations

import csv
import io
import pickle
import struct
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageOps

from darkroom.reasons import Reason
from tasks.decode import (
    FORMAT_EXTENSIONS,
    ImageRefused,
    Limits,
    decode,
    decoder_libraries,
    read_header,
    sniff,
    thumbnail,
    upright,
)
from tasks.knobs import FORMATS, Decode
from tasks.preprocessing import prepare
from tasks.presets import pillow_decode, preset
from tasks.refusal import refusal

PLAIN = pillow_decode()


def _saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **how)
    return held.getvalue()


def _photo(width: int = 61, height: int = 40) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [127 + 120 * np.sin(x / 9 + y / 7 + shift) for shift in (0, 1, 2)]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))


def _png(array: np.ndarray, **how: Any) -> bytes:
    return _saved(Image.fromarray(array), "PNG", **how)


def _exif(**tags: Any) -> bytes:
    exif = Image.Exif()
    numbers = {"orientation": 0x0112, "make": 0x010F, "model": 0x0110, "changed": 0x0132}
    for name, value in tags.items():
        if name == "captured":
            exif.get_ifd(0x8769)[0x9003] = value
        else:
            exif[numbers[name]] = value
    return exif.tobytes()


def _pixels(data: bytes, **knobs: Any) -> np.ndarray:
    return decode(data, pillow_decode(**knobs)).pixels


def _reason(data: bytes, knobs: Decode = PLAIN, limits: Limits | None = None) -> Reason:
    with pytest.raises(ImageRefused) as refused:
        decode(data, knobs, limits)
    return refused.value.reason


def _transparent(mode: str = "RGBA") -> bytes:
    """Red on the left, fully transparent green on the right."""
    image = Image.new("RGBA", (6, 4), (200, 30, 20, 255))
    image.paste((10, 220, 30, 0), (3, 0, 6, 4))
    return _saved(image.convert(mode), "PNG")


# ---- formats -------------------------------------------------------------------------------------------------------

BEGINNINGS = {
    "JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "PNG": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "GIF": b"GIF89a",
    "BMP": b"BM",
    "WEBP": b"RIFF\x00\x01\x00\x00WEBPVP8 ",
    "TIFF": b"MM\x00*",
    "PPM": b"P6\n# a comment\n",
    "ICO": b"\x00\x00\x01\x00\x01\x00",
    "AVIF": b"\x00\x00\x00\x20ftypavif",
    "HEIF": b"\x00\x00\x00\x18ftypheic",
    "JPEG2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    "JPEGXL": b"\xff\x0a",
    "PSD": b"8BPS\x00\x01",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0",
}


@pytest.mark.parametrize(("name", "beginning"), BEGINNINGS.items(), ids=BEGINNINGS.keys())
def test_a_format_is_known_by_how_it_begins(name: str, beginning: bytes) -> None:
    assert sniff(beginning.ljust(64, b"\0")[:64]) == name
    assert name in FORMAT_EXTENSIONS


@pytest.mark.parametrize(
    "other", [b"", b"\0" * 64, b"<html>", b"%PDF-1.7", b"PK\x03\x04", b"P7 332", b"RIFF\0\0\0\0WAVE"]
)
def test_what_is_no_image_is_not_taken_for_one(other: bytes) -> None:
    assert sniff(other) is None


def test_every_format_that_a_preprocessing_may_allow_has_extensions() -> None:
    assert set(FORMATS) <= set(FORMAT_EXTENSIONS)
    extensions = [extension for group in FORMAT_EXTENSIONS.values() for extension in group]
    assert len(set(extensions)) == len(extensions)
    assert all(extension == extension.lower() and extension[0] == "." for extension in extensions)


WRITABLE = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "ICO", "AVIF"]


@pytest.mark.parametrize("name", WRITABLE)
def test_a_format_is_decoded_if_allowed_and_refused_if_not(name: str) -> None:
    data = _saved(_photo(), name)
    others = [other for other in FORMATS if other not in (name, "MPO")]
    assert sniff(data[:64]) == name
    assert decode(data, PLAIN).header.format == name
    assert _reason(data, pillow_decode(formats=others)) is Reason.FORMAT_NOT_ALLOWED


def test_an_eps_is_never_opened() -> None:
    assert _reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") is Reason.FORMAT_NOT_ALLOWED


def test_a_jpeg_with_more_pictures_in_it_is_an_mpo_and_gives_its_first() -> None:
    first, second = _photo(), ImageOps.mirror(_photo())
    data = _saved(first, "MPO", save_all=True, append_images=[second])
    decoded = decode(data, PLAIN)
    assert (decoded.header.format, decoded.header.frames) == ("MPO", 2)
    assert np.abs(decoded.pixels.astype(int) - np.asarray(first)).mean() < 4
    assert _reason(data, pillow_decode(formats=["JPEG"])) is Reason.FORMAT_NOT_ALLOWED


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
def test_a_tiff_with_pages_gives_its_first(compression: str) -> None:
    first, second = _photo(), ImageOps.mirror(_photo())
    data = _saved(first, "TIFF", save_all=True, append_images=[second], compression=compression)
    prepared = prepare(data, preset("load_img", size=(40, 60)))
    assert prepared.header.frames == 2
    assert np.abs(prepared.pixels.astype(int) - np.asarray(first)).mean() < 4


# ---- header --------------------------------------------------------------------------------------------------------

HEADERS: dict[str, tuple[Callable[[], bytes], dict[str, Any]]] = {
    "colour JPEG": (
        lambda: _saved(_photo(), "JPEG", quality=83),
        {"format": "JPEG", "mode": "RGB", "bit_depth": 8, "channels": 3, "jpeg_quality": 83.0, "frames": 1},
    ),
    "grey JPEG": (
        lambda: _saved(_photo().convert("L"), "JPEG", quality=40),
        {"mode": "L", "channels": 1, "jpeg_quality": 40.0},
    ),
    "phone JPEG": (
        lambda: _saved(
            _photo(),
            "JPEG",
            exif=_exif(orientation=6, make="Acme\0", model="Acme  X1", captured="2024:05:31 17:02:11"),
        ),
        {"exif_orientation": 6, "camera": "Acme X1", "captured_at": "2024-05-31T17:02:11", "width": 61, "height": 40},
    ),
    "impossible Exif": (
        lambda: _saved(_photo(), "JPEG", exif=_exif(orientation=9, make="Acme", changed="0000:00:00 00:00:00")),
        {"exif_orientation": 0, "camera": "Acme", "captured_at": None},
    ),
    "alpha PNG": (_transparent, {"format": "PNG", "mode": "RGBA", "channels": 4, "jpeg_quality": None}),
    "palette PNG": (lambda: _saved(_photo().quantize(16), "PNG", bits=4), {"mode": "P", "bit_depth": 4, "channels": 1}),
    "16-bit PNG": (lambda: _png(np.zeros((3, 5), np.uint16)), {"mode": "I;16", "bit_depth": 16, "width": 5}),
    "1-bit TIFF": (lambda: _saved(_photo().convert("1"), "TIFF"), {"mode": "1", "bit_depth": 1}),
    "animated GIF": (
        lambda: _saved(_photo(), "GIF", save_all=True, append_images=[ImageOps.invert(_photo())]),
        {"format": "GIF", "frames": 2},
    ),
}


@pytest.mark.parametrize(("make", "expected"), HEADERS.values(), ids=HEADERS.keys())
def test_a_header_says_what_the_file_is_with_and_without_its_pixels(
    make: Callable[[], bytes], expected: dict[str, Any]
) -> None:
    data = make()
    header = read_header(data, PLAIN)
    assert {name: getattr(header, name) for name in expected} == expected
    assert header.size == len(data)
    assert decode(data, PLAIN).header == header


@pytest.mark.parametrize("quality", [1, 10, 25, 50, 51, 75, 90, 95, 99, 100])
def test_the_jpeg_quality_is_the_one_it_was_saved_with(quality: int) -> None:
    assert read_header(_saved(_photo(), "JPEG", quality=quality), PLAIN).jpeg_quality == quality


def test_a_broken_exif_block_is_no_exif_block() -> None:
    data = _saved(_photo(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nothing of the kind")
    header = decode(data, PLAIN).header
    assert (header.exif_orientation, header.camera, header.captured_at) == (0, None, None)


# ---- knobs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied_as_pillow_would_or_ignored(orientation: int) -> None:
    data = _saved(_photo(), "PNG", exif=_exif(orientation=orientation))
    as_stored = np.asarray(_photo())
    assert np.array_equal(_pixels(data), as_stored)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(_pixels(data, exif_orientation="applied"), turned)
    assert np.array_equal(upright(as_stored, orientation), turned)


@pytest.mark.real_data
@pytest.mark.parametrize("shape", ["Landscape", "Portrait"])
def test_phone_photos_of_every_orientation_become_the_same_picture(data: Path, shape: str) -> None:
    folder = data / "images" / "orientation"
    seen = [_pixels((folder / f"{shape}_{n}.jpg").read_bytes(), exif_orientation="applied") for n in range(1, 9)]
    assert len({pixels.shape for pixels in seen}) == 1
    assert all(np.abs(pixels.astype(int) - seen[0]).mean() < 12 for pixels in seen)


ALPHA = {"dropped": (10, 220, 30), "on_white": (255, 255, 255), "on_black": (0, 0, 0)}


@pytest.mark.parametrize(("alpha", "right"), ALPHA.items(), ids=ALPHA.keys())
def test_alpha_is_dropped_or_composited(alpha: str, right: tuple[int, int, int]) -> None:
    pixels = _pixels(_transparent(), alpha=alpha)
    assert tuple(pixels[0, 0]) == (200, 30, 20)
    assert tuple(pixels[0, 5]) == right


def test_alpha_of_a_palette_and_of_grey_is_composited_too() -> None:
    palette = Image.new("P", (4, 3), 1)
    palette.putpalette([0, 0, 0, 200, 30, 20])
    palette.paste(0, (2, 0, 4, 3))
    for data in (_saved(palette, "PNG", transparency=0), _saved(palette, "PNG", transparency=b"\0\xff")):
        pixels = _pixels(data, alpha="on_white")
        assert tuple(pixels[0, 0]) == (200, 30, 20)
        assert tuple(pixels[0, 3]) == (255, 255, 255)
    assert tuple(_pixels(_transparent("LA"), alpha="on_white")[0, 5]) == (255, 255, 255)


def test_a_half_transparent_pixel_is_mixed_with_its_canvas() -> None:
    data = _saved(Image.new("RGBA", (2, 1), (100, 100, 100, 128)), "PNG")
    assert abs(int(_pixels(data, alpha="on_white")[0, 0, 0]) - 177) <= 1
    assert abs(int(_pixels(data, alpha="on_black")[0, 0, 0]) - 50) <= 1


def test_a_palette_gives_colours_or_its_indices() -> None:
    image = Image.new("P", (3, 2), 7)
    image.putpalette([value for index in range(256) for value in (255 - index, index, 9)])
    data = _saved(image, "PNG")
    assert tuple(_pixels(data)[0, 0]) == (248, 7, 9)
    assert tuple(_pixels(data, palette="index")[0, 0]) == (7, 7, 7)


@pytest.mark.parametrize(("value", "saturated", "high"), [(0, 0, 0), (200, 200, 0), (300, 255, 1), (65535, 255, 255)])
def test_sixteen_bits_are_saturated_or_their_high_byte_is_kept(value: int, saturated: int, high: int) -> None:
    data = _png(np.full((2, 3), value, np.uint16))
    assert _pixels(data)[0, 0, 0] == saturated
    assert _pixels(data, sixteen_bit="high_byte")[0, 0, 0] == high


def test_floating_pixels_are_clipped_or_refused() -> None:
    data = _saved(Image.fromarray(np.array([[-5.0, 12.7, 900.0]], np.float32)), "TIFF")
    assert _pixels(data)[0, :, 0].tolist() == [0, 12, 255]
    assert _reason(data, pillow_decode(float_pixels="refused")) is Reason.MODE_NOT_SUPPORTED


def test_inks_are_converted_inverted_or_refused() -> None:
    data = _saved(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "TIFF")
    assert _pixels(data)[0, 0].tolist() == [255, 255, 255]
    assert _pixels(data, cmyk="inverted")[0, 0].tolist() == [0, 0, 0]
    assert _reason(data, pillow_decode(cmyk="refused")) is Reason.MODE_NOT_SUPPORTED


def _profile_with_red_and_blue_swapped() -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    entries = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = (
        profile[blue + 4 : blue + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile)


def test_a_profile_is_ignored_or_converted_to_srgb() -> None:
    red = Image.new("RGBA", (3, 2), (250, 0, 0, 255))
    data = _saved(red, "PNG", icc_profile=_profile_with_red_and_blue_swapped())
    assert decode(data, PLAIN).header.icc == _profile_with_red_and_blue_swapped()
    assert _pixels(data)[0, 0].tolist() == [250, 0, 0]
    blueish = _pixels(data, icc="to_srgb")[0, 0]
    assert blueish[2] > 200
    assert blueish[0] < 60


@pytest.mark.parametrize("profile", [b"nonsense", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()])
def test_a_profile_that_is_broken_or_of_another_kind_changes_nothing(profile: bytes) -> None:
    data = _saved(_photo(), "PNG", icc_profile=profile)
    assert np.array_equal(_pixels(data, icc="to_srgb"), np.asarray(_photo()))


def test_grey_is_luma_or_the_decoders_own_and_replicated() -> None:
    data = _saved(_photo(), "JPEG")
    luma = _pixels(data, grey="luma")
    assert np.array_equal(luma[..., 0], np.asarray(Image.open(io.BytesIO(data)).convert("L")))
    own = _pixels(data, grey="decoder")
    for grey in (luma, own):
        assert np.array_equal(grey[..., 0], grey[..., 1])
        assert np.array_equal(grey[..., 0], grey[..., 2])
    assert np.abs(own.astype(int) - luma).max() <= 6
    assert not np.array_equal(own, luma)


def test_a_truncated_file_is_refused_or_padded_and_pillow_is_left_as_it_was() -> None:
    whole = _saved(_photo(200, 160), "JPEG", quality=95)
    half = whole[: len(whole) // 2]
    assert _reason(half) is Reason.TRUNCATED
    padded = _pixels(half, truncated="padded")
    assert padded.shape == (160, 200, 3)
    assert np.array_equal(padded[:16], _pixels(whole)[:16])
    assert padded[-1].std() == 0
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert _reason(half) is Reason.TRUNCATED


@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
def test_a_jpeg_may_be_decoded_reduced(ratio: int) -> None:
    pixels = _pixels(_saved(_photo(201, 163), "JPEG"), jpeg_ratio=ratio)
    assert pixels.shape == (-(-163 // ratio), -(-201 // ratio), 3)
    header = decode(_saved(_photo(201, 163), "JPEG"), pillow_decode(jpeg_ratio=ratio)).header
    assert (header.width, header.height) == (201, 163)


def test_a_thumbnail_or_a_copy_saved_again_may_stand_for_the_original() -> None:
    data = _saved(_photo(200, 100), "PNG")
    assert _pixels(data, thumbnail=50).shape == (25, 50, 3)
    assert np.array_equal(_pixels(data, thumbnail=500), _pixels(data))
    again = _pixels(data, reencoded=60)
    assert np.array_equal(again, np.asarray(Image.open(io.BytesIO(_saved(_photo(200, 100), "JPEG", quality=60)))))
    assert not np.array_equal(again, _pixels(data))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "I", "F", "I;16"]
)
def test_every_mode_that_a_file_can_have_becomes_rgb_of_its_size(mode: str) -> None:
    pixels = _pixels(_saved(Image.new(mode, (7, 5)), "TIFF"))
    assert pixels.shape == (5, 7, 3)
    assert pixels.dtype == np.uint8


def test_pixels_cannot_be_changed_by_whom_they_are_given_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        decode(_saved(_photo(), "PNG"), PLAIN).pixels[0, 0, 0] = 1


# ---- refusals ------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], bytes], Limits, Reason]] = {
    "empty": (lambda: b"", Limits(), Reason.EMPTY_FILE),
    "text": (lambda: b"not an image, just text", Limits(), Reason.UNKNOWN_FORMAT),
    "HEIC": (lambda: b"\x00\x00\x00\x18ftypheic".ljust(64, b"\0"), Limits(), Reason.FORMAT_NOT_ALLOWED),
    "only a beginning": (lambda: b"\xff\xd8\xff", Limits(), Reason.BROKEN_DATA),
    "no pixels": (lambda: _saved(_photo(), "PNG")[:60], Limits(), Reason.TRUNCATED),
    "too many pixels": (lambda: _saved(_photo(), "PNG"), Limits(max_pixels=2439), Reason.TOO_MANY_PIXELS),
    "far too many pixels": (lambda: _saved(_photo(), "PNG"), Limits(max_pixels=100), Reason.TOO_MANY_PIXELS),
    "too many bytes": (lambda: _saved(_photo(), "BMP"), Limits(max_bytes=1000), Reason.TOO_LARGE_FILE),
}


@pytest.mark.parametrize(("make", "limits", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_file_is_refused_with_a_reason(make: Callable[[], bytes], limits: Limits, reason: Reason) -> None:
    assert _reason(make(), limits=limits) is reason


def test_just_as_many_pixels_as_the_limit_are_decoded() -> None:
    assert decode(_saved(_photo(), "PNG"), PLAIN, Limits(max_pixels=61 * 40)).pixels.shape == (40, 61, 3)


def test_a_refusal_survives_pickling_and_is_short() -> None:
    refused = pickle.loads(pickle.dumps(ImageRefused(Reason.BROKEN_DATA, "word\n" * 500)))
    assert refused.reason is Reason.BROKEN_DATA
    assert len(refused.detail) <= 300
    assert "\n" not in refused.detail


SOUND = [
    *(_saved(_photo(), kind) for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP")),
    _saved(_photo().quantize(9), "PNG", transparency=b"\1\2"),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SOUND), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8), st.data())
def test_damaged_bytes_give_pixels_or_a_reason_and_nothing_else(
    sound: bytes, damage: list[tuple[int, int]], more: st.DataObject
) -> None:
    damaged = bytearray(sound)
    for at, value in damage:
        damaged[at % len(damaged)] = value
    cut = more.draw(st.integers(1, len(damaged)))
    knobs = pillow_decode(truncated=more.draw(st.sampled_from(["refused", "padded"])), exif_orientation="applied")
    try:
        decoded = decode(bytes(damaged[:cut]), knobs, Limits(max_pixels=1_000_000))
    except ImageRefused:
        return
    assert decoded.pixels.shape[2] == 3


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([*BEGINNINGS.values(), b""]))
def test_any_bytes_at_all_are_refused_with_a_reason(noise: bytes, beginning: bytes) -> None:
    with pytest.raises(ImageRefused):
        decode(beginning + noise, PLAIN)


@pytest.mark.real_data
def test_every_odd_file_gives_pixels_where_pillow_gives_some_and_else_a_reason(data: Path) -> None:
    with (data / "images" / "odd.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert len(rows) == 124
    before = warnings.filters[:]
    for name, row in rows.items():
        content = (data / "images" / "odd" / name).read_bytes()
        if row["pillow_load"] == "ok":
            decoded = decode(content, PLAIN)
            assert decoded.header.mode == row["mode"], name
            assert decoded.header.format == row["format"], name
        else:
            with pytest.raises(ImageRefused) as refused:
                decode(content, PLAIN)
            said = row["pillow_load"]
            expected = {Reason.BROKEN_DATA, Reason.MODE_NOT_SUPPORTED, Reason.UNKNOWN_FORMAT}
            if "Bomb" in said:
                expected = {Reason.TOO_MANY_PIXELS}
            elif "runcated" in said:
                expected = {Reason.TRUNCATED}
            assert refused.value.reason in expected, (name, said)
            assert not refused.value.reason.retryable
    assert warnings.filters == before


@pytest.mark.real_data
def test_every_odd_file_is_decoded_or_refused_by_tensorflow_too(data: Path) -> None:
    decoded = 0
    for path in sorted((data / "images" / "odd").iterdir()):
        try:
            pixels = decode(path.read_bytes(), TENSORFLOW).pixels
        except ImageRefused:
            continue
        assert pixels.shape[2] == 3
        decoded += 1
    assert decoded >= 40


def test_pillows_switches_are_as_they_were_after_a_success_and_after_a_failure() -> None:
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, warnings.filters[:]
    decode(_saved(_photo(), "PNG"), pillow_decode(truncated="padded"), Limits(max_pixels=5000))
    _reason(_saved(_photo(), "PNG")[:200])
    assert (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, warnings.filters[:]) == before


def test_threads_with_other_knobs_do_not_disturb_each_other() -> None:
    whole = _saved(_photo(200, 160), "JPEG", quality=95)
    half = whole[: len(whole) // 2]

    def padded(_: int) -> bool:
        return decode(half, pillow_decode(truncated="padded")).pixels.shape == (160, 200, 3)

    def refused(_: int) -> bool:
        return _reason(half) is Reason.TRUNCATED

    with ThreadPoolExecutor(4) as threads:
        outcomes = [threads.submit(work, n) for n in range(60) for work in (padded, refused)]
        assert all(outcome.result() for outcome in outcomes)


TENSORFLOW = preset("tf_image_resize", size=(32, 48)).decode


def _by_tensorflow(data: bytes, **knobs: Any) -> np.ndarray:
    return decode(data, TENSORFLOW.model_copy(update=knobs)).pixels


def test_tensorflow_applies_the_knobs_that_it_has_a_way_for() -> None:
    data = _saved(_photo(201, 163), "JPEG", exif=_exif(orientation=6))
    plain = _by_tensorflow(data)
    assert plain.shape == (163, 201, 3)
    assert np.array_equal(_by_tensorflow(data, exif_orientation="applied"), np.rot90(plain, -1))
    assert _by_tensorflow(data, jpeg_ratio=4).shape == (41, 51, 3)
    luma = np.asarray(Image.fromarray(plain).convert("L"))
    for grey in ("luma", "decoder"):
        pixels = _by_tensorflow(data, grey=grey)
        assert np.array_equal(pixels[..., 0], pixels[..., 2])
        assert np.abs(pixels[..., 0].astype(int) - luma).max() <= (0 if grey == "luma" else 6)


@pytest.mark.parametrize("depth", ["L", "RGB"])
def test_tensorflow_keeps_the_high_byte_and_the_first_frame(depth: str) -> None:
    deep = _png(np.full((2, 3), 0x1234, np.uint16))
    assert _by_tensorflow(deep)[0, 0].tolist() == [0x12] * 3
    first = _photo().convert(depth)
    moving = _saved(first, "GIF", save_all=True, append_images=[ImageOps.invert(first)])
    assert np.array_equal(_by_tensorflow(moving), _pixels(moving))


def test_broken_bytes_are_refused_by_tensorflow_with_a_reason() -> None:
    whole = _saved(_photo(200, 160), "PNG")
    for data in (whole[: len(whole) // 2], whole[:300] + b"\0" * 500):
        with pytest.raises(ImageRefused):
            decode(data, TENSORFLOW)


# ---- for people and bundles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["pillow", "tensorflow", "opencv"])
def test_an_image_that_lies_on_its_side_is_turned_whatever_exif_says(decoder: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    held = io.BytesIO()
    Image.linear_gradient("L").resize((48, 32)).convert("RGB").save(held, "JPEG", exif=exif)
    knobs = preset({"pillow": "load_img", "tensorflow": "tf_image_resize"}.get(decoder, decoder), size=(8, 8)).decode
    plain, right, left = (
        decode(held.getvalue(), knobs.model_copy(update={"exif_orientation": how})).pixels
        for how in ("ignored", "clockwise", "anticlockwise")
    )
    assert np.array_equal(right, np.rot90(plain, -1))
    assert np.array_equal(left, np.rot90(plain))


def test_broken_bytes_are_refused_by_opencv_with_a_reason() -> None:
    held = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(held, "PNG")
    with pytest.raises(ImageRefused) as refused:
        decode(held.getvalue()[:-40], preset("opencv", size=(8, 8)).decode)
    assert refused.value.reason is Reason.BROKEN_DATA


def test_a_thumbnail_keeps_the_proportions() -> None:
    small = Image.open(io.BytesIO(thumbnail(np.asarray(_photo(200, 100)), 64)))
    assert (small.format, small.size) == ("JPEG", (64, 32))


def test_the_libraries_that_pixels_depend_on_have_versions() -> None:
    found = decoder_libraries()
    assert {"pillow", "libjpeg_turbo", "zlib", "libtiff", "webp"} <= set(found)
    assert found["pillow"] == Image.__version__


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(MemoryError(), id="Python"),
        # -9 is what Pillow's C code answers when it finds no memory.
        pytest.param(ImageFile._get_oserror(-9, encoder=False), id="Pillow"),
        pytest.param(RuntimeError("OOM when allocating tensor with shape[9000,9000,3]"), id="TensorFlow"),
    ],
)
def test_no_memory_for_a_file_is_no_fault_of_the_file_whoever_says_so(problem: Exception) -> None:
    assert refusal(problem).reason is Reason.OUT_OF_MEMORY
