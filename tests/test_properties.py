"""Image properties: known values, laws, and what they must not be fooled by."""

from __future__ import annotations

import io
import math
import struct
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFilter

from darkroom.schemas import (
    CATEGORICAL_PROPERTIES,
    DESCRIPTIVE_PROPERTIES,
    NULLABLE_PROPERTIES,
    NUMERIC_PROPERTIES,
)
from tasks.decode import Header
from tasks.properties import icc_class, measure

Pixels = NDArray[np.uint8]

PLAIN = Header(
    format="JPEG",
    mode="RGB",
    width=320,
    height=240,
    frames=1,
    bit_depth=8,
    channels=3,
    exif_orientation=0,
    icc=None,
    jpeg_quality=90.0,
    camera=None,
    captured_at=None,
    size=30_000,
)


def header_for(pixels: Pixels) -> Header:
    return replace(PLAIN, width=pixels.shape[1], height=pixels.shape[0])


def numbers(pixels: Pixels) -> dict[str, float]:
    measured = measure(header_for(pixels), pixels)
    return {name: float(value) for name in NUMERIC_PROPERTIES if (value := measured[name]) is not None}


def plain(colour: tuple[int, int, int], height: int = 240, width: int = 320) -> Pixels:
    return np.full((height, width, 3), colour, np.uint8)


def halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> Pixels:
    picture = plain(left)
    picture[:, 160:] = right
    return picture


def scene(height: int = 480, width: int = 640, seed: int = 7) -> Pixels:
    """Soft shapes with hard edges on a gradient: detail at every scale, no noise, no block grid."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width)
    tone = 90 + 60 * x
    for _ in range(25):
        cx, cy, radius, step = chance.uniform(0, 1), chance.uniform(0, 0.75), chance.uniform(0.03, 0.15), 40
        tone = tone + np.where((x - cx) ** 2 + (y - cy) ** 2 < radius**2, chance.uniform(-step, step), 0)
    return np.repeat(np.clip(tone, 20, 235).astype(np.uint8)[..., None], 3, axis=2)


def as_jpeg(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def blurred(pixels: Pixels, radius: float) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def noisy(pixels: Pixels, sigma: float, seed: int = 1) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


pictures = st.builds(
    lambda height, width, seed, low, high: np.random.default_rng(seed).integers(
        min(low, high), max(low, high) + 1, (height, width, 3), np.uint8
    ),
    st.integers(1, 420),
    st.integers(1, 420),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.integers(0, 255),
)


class TestNames:
    def test_every_property_of_the_schema_is_measured_in_its_order(self) -> None:
        measured = measure(PLAIN, plain((10, 20, 30)))
        assert tuple(measured) == NUMERIC_PROPERTIES + CATEGORICAL_PROPERTIES + DESCRIPTIVE_PROPERTIES

    def test_only_the_nullable_properties_are_ever_null(self) -> None:
        measured = measure(replace(PLAIN, jpeg_quality=None), plain((10, 20, 30)))
        assert {name for name, value in measured.items() if value is None} == NULLABLE_PROPERTIES

    def test_numbers_are_floats_and_categories_are_text(self) -> None:
        measured = measure(PLAIN, scene())
        assert {type(measured[name]) for name in NUMERIC_PROPERTIES} == {float}
        assert {type(measured[name]) for name in CATEGORICAL_PROPERTIES} == {str}


class TestFactsOfTheFile:
    @pytest.mark.parametrize(
        ("change", "name", "expected"),
        [
            pytest.param({"width": 640, "height": 480}, "aspect_ratio", 640 / 480, id="aspect"),
            pytest.param({"size": 76_800 // 4}, "bytes_per_pixel", 0.25, id="bytes a pixel"),
            pytest.param({"bit_depth": 16}, "bit_depth", 16.0, id="bit depth"),
            pytest.param({"jpeg_quality": 87.5}, "jpeg_quality", 87.5, id="quality"),
            pytest.param({"mode": "P", "channels": 1}, "channels", "1", id="channels are a category"),
            pytest.param({"exif_orientation": 6}, "exif_orientation", "6", id="orientation is a category"),
            pytest.param({"frames": 1}, "animated", "no", id="still"),
            pytest.param({"frames": 12}, "animated", "yes", id="animated"),
            pytest.param({"camera": "Pocket 8"}, "camera", "Pocket 8", id="camera"),
        ],
    )
    def test_the_header_speaks_for_the_file(self, change: dict[str, object], name: str, expected: object) -> None:
        header = replace(PLAIN, **change)  # type: ignore[arg-type]
        assert measure(header, plain((90, 90, 90)))[name] == expected


class TestKnownValues:
    @pytest.mark.parametrize(
        ("pixels", "expected"),
        [
            pytest.param(
                plain((0, 0, 0)),
                {"luminance_mean": 0, "clipped_black": 1, "clipped_white": 0, "saturation": 0, "red_share": 1 / 3},
                id="black",
            ),
            pytest.param(
                plain((255, 255, 255)),
                {"luminance_mean": 255, "clipped_black": 0, "clipped_white": 1, "saturation": 0, "contrast": 0},
                id="white",
            ),
            pytest.param(
                plain((128, 128, 128)),
                {"luminance_mean": 128, "luminance_std": 0, "entropy": 0, "sharpness": 0, "noise": 0, "blockiness": 0},
                id="flat grey",
            ),
            pytest.param(
                plain((255, 0, 0)),
                {"luminance_mean": 77, "saturation": 1, "red_share": 1, "green_share": 0, "blue_share": 0},
                id="red",
            ),
            pytest.param(plain((0, 255, 0)), {"luminance_mean": 149, "green_share": 1}, id="green"),
            pytest.param(plain((0, 0, 255)), {"luminance_mean": 29, "blue_share": 1}, id="blue"),
            pytest.param(plain((200, 150, 150)), {"saturation": 0.25, "red_share": 0.4}, id="pale red"),
            pytest.param(
                halves((0, 0, 0), (255, 255, 255)),
                {
                    "luminance_mean": 127.5,
                    "luminance_std": 127.5,
                    "luminance_p01": 0,
                    "luminance_p99": 255,
                    "clipped_black": 0.5,
                    "clipped_white": 0.5,
                    "contrast": 127.5 / 128.5,
                    "entropy": 1,
                    "edge_density": 1 / 159,
                },
                id="black and white halves",
            ),
        ],
    )
    def test_a_constructed_picture_has_its_values(self, pixels: Pixels, expected: dict[str, float]) -> None:
        measured = numbers(pixels)
        assert {name: measured[name] for name in expected} == pytest.approx(expected, abs=1e-9)

    def test_every_level_equally_often_is_eight_bits(self) -> None:
        levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None], 3, axis=2)
        assert numbers(levels)["entropy"] == 8

    def test_percentiles_leave_out_one_pixel_in_a_hundred(self) -> None:
        picture = plain((100, 100, 100), 100, 100)
        picture[0] = 5  # exactly one per cent
        picture[-1] = 250
        assert numbers(picture)["luminance_p01"] == 5
        assert numbers(picture)["luminance_p99"] == 100


class TestLaws:
    @given(pictures)
    @settings(max_examples=60, deadline=None)
    def test_every_number_is_finite_and_in_its_range(self, pixels: Pixels) -> None:
        measured = numbers(pixels)
        assert all(math.isfinite(value) and value >= 0 for value in measured.values())
        shares = ("clipped_black", "clipped_white", "saturation", "edge_density", "blockiness", "red_share")
        assert all(measured[name] <= 1 for name in shares)
        assert measured["luminance_p01"] <= measured["luminance_p99"] <= 255
        assert measured["red_share"] + measured["green_share"] + measured["blue_share"] == pytest.approx(1)
        assert measured["entropy"] <= 8

    @pytest.mark.parametrize("value", [0, 1, 128, 255])
    @pytest.mark.parametrize(
        "shape", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (1, 5000), (5000, 1), (16, 17), (9, 700)]
    )
    def test_the_smallest_and_the_thinnest_pictures_have_all_properties(
        self, shape: tuple[int, int], value: int
    ) -> None:
        measured = numbers(np.full((*shape, 3), value, np.uint8))
        assert all(math.isfinite(number) for number in measured.values())
        assert measured["luminance_mean"] == value
        assert measured["luminance_std"] == 0

    @given(pictures)
    @settings(max_examples=25, deadline=None)
    def test_the_same_pixels_have_the_same_properties_however_they_lie_in_memory(self, pixels: Pixels) -> None:
        elsewhere = np.asfortranarray(pixels)
        within = np.zeros((pixels.shape[0] + 3, pixels.shape[1] + 5, 4), np.uint8)
        view = within[1:-2, 2:-3, :3]
        view[...] = pixels
        before = pixels.copy()
        assert numbers(pixels) == numbers(pixels) == numbers(elsewhere) == numbers(view)
        assert (pixels == before).all()

    def test_pixels_that_nobody_may_write_are_measured(self) -> None:
        pixels = scene()
        pixels.flags.writeable = False
        assert numbers(pixels) == numbers(pixels.copy())

    @given(pictures, st.integers(1, 60))
    @settings(max_examples=40, deadline=None)
    def test_more_light_never_lowers_the_brightness(self, pixels: Pixels, step: int) -> None:
        brighter = np.clip(pixels.astype(np.int16) + step, 0, 255).astype(np.uint8)
        before, after = numbers(pixels), numbers(brighter)
        for name in ("luminance_mean", "luminance_p01", "luminance_p99", "clipped_white"):
            assert after[name] >= before[name]
        assert after["clipped_black"] <= before["clipped_black"]

    @given(st.integers(0, 10_000))
    @settings(max_examples=15, deadline=None)
    def test_blur_lowers_sharpness_at_every_step(self, seed: int) -> None:
        picture = scene(300, 400, seed)
        steps = [numbers(blurred(picture, radius))["sharpness"] for radius in (0, 1.5, 3, 6)]
        assert steps == sorted(steps, reverse=True)
        assert steps[0] > 1.5 * steps[2]

    @pytest.mark.parametrize("sigma", [2, 5, 10, 20])
    @pytest.mark.parametrize("shape", [(480, 640), (240, 320), (120, 90)])
    @pytest.mark.parametrize("ground", ["flat", "gradient", "soft scene"])
    def test_added_noise_is_recovered_within_fifteen_per_cent(
        self, ground: str, shape: tuple[int, int], sigma: float
    ) -> None:
        clean = {
            "flat": plain((120, 130, 140), *shape),
            "gradient": np.repeat(np.linspace(70, 180, shape[1], dtype=np.uint8)[None, :, None], shape[0], 0)
            * np.ones((1, 1, 3), np.uint8),
            "soft scene": blurred(scene(*shape), 3),
        }[ground]
        assert numbers(noisy(clean, sigma))["noise"] == pytest.approx(sigma, rel=0.15)


class TestNotFooled:
    @pytest.mark.parametrize("quality", [10, 20])
    @pytest.mark.parametrize("shape", [(480, 640), (241, 323), (1000, 750)])
    def test_strong_compression_shows_as_blocks(self, shape: tuple[int, int], quality: int) -> None:
        picture = noisy(scene(*shape), 3)
        clean, squeezed = numbers(picture)["blockiness"], numbers(as_jpeg(picture, quality))["blockiness"]
        assert clean < 0.05
        assert squeezed > clean + 0.1

    @pytest.mark.parametrize("turn", [0, 1, 2, 3])
    def test_blocks_show_after_a_turn_or_a_crop(self, turn: int) -> None:
        squeezed = as_jpeg(noisy(scene(), 3), 10)
        assert numbers(np.rot90(squeezed, turn)[5:, 3:])["blockiness"] > 0.2

    def test_weaker_compression_has_weaker_blocks(self) -> None:
        picture = noisy(scene(), 3)
        found = [numbers(as_jpeg(picture, quality))["blockiness"] for quality in (8, 30, 95)]
        assert found == sorted(found, reverse=True)

    @pytest.mark.parametrize("scale", [0.5, 1.5, 2, 3])
    def test_the_size_of_a_picture_is_not_its_tone_or_sharpness(self, scale: float) -> None:
        picture = blurred(scene(480, 640), 2)
        size = (round(640 * scale), round(480 * scale))
        resized = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
        before, after = numbers(picture), numbers(resized)
        for name in ("luminance_mean", "luminance_std", "contrast", "entropy"):
            assert after[name] == pytest.approx(before[name], rel=0.03)
        assert after["sharpness"] == pytest.approx(before["sharpness"], rel=0.25)

    def test_a_dim_lamp_is_not_a_soft_lens(self) -> None:
        picture = scene()
        dim = (picture * 0.4).astype(np.uint8)
        sharp = numbers(picture)["sharpness"]
        assert numbers(dim)["sharpness"] == pytest.approx(sharp, rel=0.2)
        assert numbers(blurred(picture, 5))["sharpness"] < 0.6 * sharp

    def test_a_dark_noisy_photo_through_a_soft_lens_is_not_sharp(self) -> None:
        picture = scene()
        night = noisy((blurred(picture, 6) * 0.4).astype(np.uint8), 3)
        assert numbers(night)["sharpness"] < 0.6 * numbers(noisy(picture, 2))["sharpness"]

    def test_a_sharp_picture_is_not_a_noisy_one(self) -> None:
        assert numbers(scene())["noise"] < 1 < numbers(noisy(scene(), 2))["noise"]

    def test_other_arrays_are_refused(self) -> None:
        for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
            with pytest.raises(ValueError, match="uint8"):
                measure(PLAIN, wrong)


def profile(space: bytes, description: str, *, version_2: bool = False) -> bytes:
    """A profile of one tag, laid out as the ICC specification says."""
    if version_2:
        ascii_text = description.encode() + b"\0"
        tag = b"desc" + bytes(4) + struct.pack(">I", len(ascii_text)) + ascii_text + bytes(78)
    else:
        text = description.encode("utf-16-be")
        tag = b"mluc" + bytes(4) + struct.pack(">II", 1, 12) + b"enUS" + struct.pack(">II", len(text), 28) + text
    table = struct.pack(">I", 1) + struct.pack(">4sII", b"desc", 144, len(tag))
    head = bytearray(128)
    head[16:20] = space
    head[36:40] = b"acsp"
    return bytes(head) + table + tag


class TestIccClass:
    @pytest.mark.parametrize(
        ("icc", "expected"),
        [
            pytest.param(None, "none", id="no profile"),
            pytest.param(b"", "none", id="empty"),
            pytest.param(b"not a profile", "broken", id="garbage"),
            pytest.param(profile(b"RGB ", "sRGB")[:100], "broken", id="cut off in its header"),
            pytest.param(profile(b"RGB ", "sRGB")[:140], "broken", id="cut off in its table"),
            pytest.param(profile(b"RGB ", "sRGB")[:150], "broken", id="cut off in its text"),
            pytest.param(profile(b"RGB ", "sRGB IEC61966-2.1", version_2=True), "srgb", id="srgb, version 2"),
            pytest.param(profile(b"RGB ", "sRGB built-in"), "srgb", id="srgb, version 4"),
            pytest.param(profile(b"RGB ", "c2"), "srgb", id="the small srgb of thumbnails"),
            pytest.param(profile(b"RGB ", "Adobe RGB (1998)", version_2=True), "adobe_rgb", id="adobe rgb"),
            pytest.param(profile(b"RGB ", "Display P3"), "display_p3", id="display p3"),
            pytest.param(profile(b"RGB ", "ProPhoto RGB"), "other", id="another rgb"),
            pytest.param(profile(b"GRAY", "Dot Gain 20%"), "grey", id="grey"),
            pytest.param(profile(b"CMYK", "FOGRA39"), "cmyk", id="cmyk"),
            pytest.param(profile(b"Lab ", "Lab"), "other", id="lab"),
        ],
    )
    def test_a_profile_has_its_class(self, icc: bytes | None, expected: str) -> None:
        assert icc_class(icc) == expected
        assert measure(replace(PLAIN, icc=icc), plain((1, 2, 3)))["icc_class"] == expected

    def test_the_profile_that_pillow_writes_is_srgb(self) -> None:
        assert icc_class(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()) == "srgb"

    @given(st.binary(max_size=400), st.integers(0, 255))
    @settings(max_examples=200, deadline=None)
    def test_no_bytes_can_break_it(self, noise: bytes, at: int) -> None:
        whole = bytearray(profile(b"RGB ", "Display P3"))
        whole[at % len(whole) :] = noise
        known = {"none", "srgb", "grey", "adobe_rgb", "display_p3", "cmyk", "other", "broken"}
        assert {icc_class(noise), icc_class(bytes(whole))} <= known


def test_all_properties_of_a_photo_cost_about_half_a_millisecond() -> None:
    pixels = noisy(scene(480, 640), 3)
    header = header_for(pixels)
    fastest = math.inf
    for _ in range(60):
        started = time.perf_counter()
        measure(header, pixels)
        fastest = min(fastest, time.perf_counter() - started)
    assert fastest < 0.002  # a busy machine is allowed four times the budget


@pytest.mark.real_data
def test_real_photos_have_believable_properties(photos: list[Path]) -> None:
    for path in photos[::97]:
        with Image.open(path) as image:
            measured = numbers(np.asarray(image.convert("RGB")))
        assert 40 < measured["luminance_mean"] < 250
        assert measured["luminance_std"] > 5
        assert 3 < measured["entropy"] <= 8
        assert measured["noise"] < 40  # gravel and fabric count
