from __future__ import annotations

import hashlib
import io
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from darkroom import demo_world
from darkroom.errors import WrongUse
from darkroom.reasons import FileMistake
from tasks.corruptions import KINDS, LADDER, STRENGTHS, contact_sheet, corrupt, corrupt_batch
from tasks.corruptions.__main__ import main
from tasks.corruptions.table import ladder_table
from tasks.preprocessing import to_tensor
from tasks.presets import preset
from tasks.training.ladder import prepared_wrongly
from tests.tiny import drawn, in_new_process

ROOT = Path(__file__).parent.parent
Pixels = NDArray[np.uint8]

# How much nearer, as a share, a stronger strength may come to the original before it counts as nearer. ImageNet-C's fog
# of strength 4 is no thicker than that of 3 but rougher, and rougher clouds leave fewer places bare or white.
TOLERANCE = {kind: 0.05 if kind == "fog" else 0.01 for kind in KINDS}
# They move pixels, or rest on a mean: an even picture has nothing for them to change.
EVEN_STAYS_EVEN = (
    "gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "rotation", "contrast", "saturate", "desaturate",
    "pixelate", "jpeg_compression",
)  # fmt: skip

# Time is not what these tests are about, and the machine may be busy.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

kinds = st.sampled_from(KINDS)
strengths = st.sampled_from(STRENGTHS)
seeds = st.integers(0, 2**40)


@st.composite
def images(draw: st.DrawFn) -> Pixels:
    """Of any shape, lines and single pixels too; noise, which has every value and every edge."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def drawn_photos(tmp_path_factory: pytest.TempPathFactory) -> list[Pixels]:
    """Colour photos of the drawn world, 320 × 240."""
    folder = tmp_path_factory.mktemp("drawn")
    demo_world.draw_training(folder, images=20, seed=5)
    opened = [opened_photo(path) for path in sorted(folder.rglob("*.jpg"))]
    return [photo for photo in opened if np.ptp(photo, axis=2).any()][:8]


def opened_photo(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def change(photos: list[Pixels], kind: str, strength: int) -> float:
    """Mean absolute difference, grey levels, over pixels and photos."""
    differences = [
        np.abs(corrupt(photo, kind, strength, 3, image=row).astype(int) - photo).mean()
        for row, photo in enumerate(photos)
    ]
    return float(np.mean(differences))


def rises(ladder: list[float], tolerance: float) -> bool:
    return all(after >= before * (1 - tolerance) for before, after in pairwise(ladder))


def reduced(photos: list[Pixels], size: tuple[int, int]) -> list[Pixels]:
    return [np.array(Image.fromarray(one).resize(size, Image.Resampling.BILINEAR)) for one in photos]


class TestEveryCorruption:
    @untimed
    @given(images(), kinds, strengths, seeds)
    def test_keeps_shape_and_type_and_gives_new_contiguous_pixels(
        self, pixels: Pixels, kind: str, strength: int, seed: int
    ) -> None:
        before = pixels.copy()
        corrupted = corrupt(pixels, kind, strength, seed)
        assert corrupted.shape == pixels.shape
        assert corrupted.dtype == np.uint8
        assert corrupted.flags.c_contiguous
        assert corrupted.flags.writeable
        assert not np.shares_memory(corrupted, pixels)
        assert np.array_equal(pixels, before)

    @untimed
    @given(images(), kinds, strengths, seeds)
    def test_gives_the_same_again_whatever_was_done_between(
        self, pixels: Pixels, kind: str, strength: int, seed: int
    ) -> None:
        once = corrupt(pixels, kind, strength, seed)
        for other in KINDS:
            corrupt(pixels, other, 6 - strength, seed + 1)
        assert np.array_equal(corrupt(pixels, kind, strength, seed), once)

    @untimed
    @given(images(), kinds, strengths)
    def test_does_not_care_about_strides_or_a_read_only_input(self, pixels: Pixels, kind: str, strength: int) -> None:
        turned = np.ascontiguousarray(pixels.transpose(1, 0, 2)).transpose(1, 0, 2)
        turned.setflags(write=False)
        assert np.array_equal(corrupt(turned, kind, strength, 1), corrupt(pixels, kind, strength, 1))

    @pytest.mark.parametrize("kind", KINDS)
    def test_changes_a_photo_at_strength_1_already(self, kind: str, drawn_photos: list[Pixels]) -> None:
        for size in ((64, 48), (320, 240)):
            assert all(change([photo], kind, 1) > 0.02 for photo in reduced(drawn_photos[:4], size)), size

    @pytest.mark.parametrize("size", [(85, 64), (320, 240)], ids=str)
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_never_nearer_to_the_original_when_stronger(
        self, kind: str, size: tuple[int, int], drawn_photos: list[Pixels]
    ) -> None:
        photos = reduced(drawn_photos, size)
        ladder = [change(photos, kind, strength) for strength in STRENGTHS]
        assert rises(ladder, TOLERANCE[kind]), ladder
        assert ladder[-1] > 1.1 * ladder[0]

    @pytest.mark.real_data
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_never_nearer_to_the_original_when_stronger_on_real_photos(self, kind: str, photos: list[Path]) -> None:
        opened = reduced([opened_photo(path) for path in photos[::50]], (168, 224))
        ladder = [change(opened, kind, strength) for strength in STRENGTHS]
        assert rises(ladder, TOLERANCE[kind]), ladder
        assert ladder[0] > 0.5

    @pytest.mark.parametrize("kind", EVEN_STAYS_EVEN)
    @pytest.mark.parametrize("level", [0, 100, 255])
    @pytest.mark.parametrize("shape", [(1, 1), (1, 50), (31, 200), (200, 31), (75, 64)], ids=str)
    def test_of_detail_or_colour_leaves_an_even_grey_even(self, kind: str, level: int, shape: tuple[int, int]) -> None:
        pixels = np.full((*shape, 3), level, np.uint8)
        for strength in STRENGTHS:
            for seed in range(3):
                off = np.abs(corrupt(pixels, kind, strength, seed).astype(int) - level)
                # A JPEG rounds the mean of a block to its coarsest step.
                assert off.max() <= (8 if kind == "jpeg_compression" else 1), (strength, seed)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shape", [(1, 30_000), (2_000, 2), (3, 1)], ids=str)
    def test_works_on_lines_and_ribbons(self, kind: str, shape: tuple[int, int]) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        assert corrupt(pixels, kind, 5, 0).shape == (*shape, 3)


class TestABatch:
    @untimed
    @given(kinds, strengths, seeds, st.lists(st.integers(0, 10**12), min_size=1, max_size=5, unique=True), st.data())
    def test_is_its_images_one_by_one_in_any_order(
        self, kind: str, strength: int, seed: int, ids: list[int], data: st.DataObject
    ) -> None:
        batch = np.random.default_rng(ids[0]).integers(0, 256, (len(ids), 17, 23, 3), dtype=np.uint8)
        before = batch.copy()
        corrupted = corrupt_batch(batch, kind, strength, seed, ids=ids)
        order = data.draw(st.permutations(range(len(ids))))
        again = corrupt_batch(batch[order], kind, strength, seed, ids=[ids[i] for i in order])
        assert np.array_equal(again, corrupted[order])
        assert np.array_equal(batch, before)
        assert corrupted.flags.c_contiguous
        for row, image in enumerate(ids):
            assert np.array_equal(corrupted[row], corrupt(batch[row], kind, strength, seed, image=image))

    def test_without_ids_counts_its_images(self) -> None:
        batch = np.stack([np.asarray(drawn(seed)) for seed in range(3)])
        assert np.array_equal(corrupt_batch(batch, "fog", 2, 7), corrupt_batch(batch, "fog", 2, 7, ids=(0, 1, 2)))

    def test_of_none_is_none(self) -> None:
        assert corrupt_batch(np.zeros((0, 5, 7, 3), np.uint8), "fog", 1, 0).shape == (0, 5, 7, 3)

    def test_with_another_number_of_ids_is_refused(self) -> None:
        with pytest.raises(ValueError, match="argument 2 is shorter"):
            corrupt_batch(np.zeros((2, 5, 7, 3), np.uint8), "fog", 1, 0, ids=[4])


class TestChance:
    @pytest.mark.parametrize(
        "kind", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "motion_blur", "fog"]
    )
    def test_is_another_for_another_seed_and_another_image(self, kind: str) -> None:
        pixels = np.asarray(drawn(1))
        first = corrupt(pixels, kind, 3, 0)
        assert not np.array_equal(corrupt(pixels, kind, 3, 1), first)
        assert not np.array_equal(corrupt(pixels, kind, 3, 0, image=1), first)

    @pytest.mark.parametrize("kind", ["rotation", "colour_cast"])
    def test_takes_both_directions_about_equally_often(self, kind: str) -> None:
        pixels = np.asarray(drawn(1))
        outcomes = [corrupt(pixels, kind, 3, 0, image=image).tobytes() for image in range(60)]
        assert len(set(outcomes)) == 2
        assert 15 <= outcomes.count(outcomes[0]) <= 45

    def test_is_the_same_in_another_process_and_another_order(self) -> None:
        output, errors = in_new_process(DIGESTS, *reversed(KINDS)).communicate(timeout=120)
        assert not errors
        here = {kind: hashlib.sha256(corrupt(np.asarray(drawn(2)), kind, 4, 11, image=5)).hexdigest() for kind in KINDS}
        assert dict(line.split() for line in output.splitlines()) == here


DIGESTS = """
import hashlib, sys
import numpy as np
from tasks.corruptions import corrupt
from tests.tiny import drawn
for kind in sys.argv[1:]:
    print(kind, hashlib.sha256(corrupt(np.asarray(drawn(2)), kind, 4, 11, image=5)).hexdigest())
"""


def parameter(kind: str, strength: int) -> float:
    return next(one for one in LADDER if one.name == kind).parameters[strength - 1][0]


def flat(level: int, height: int = 224) -> Pixels:
    return np.full((height, height + 32, 3), level, np.uint8)


def spot(height: int) -> Pixels:
    """One white square on black, of a 28th of the height."""
    pixels = flat(0, height)
    half = height // 56
    middle_row, middle_column = height // 2, (height + 32) // 2
    pixels[middle_row - half : middle_row + half, middle_column - half : middle_column + half] = 255
    return pixels


def spread(pixels: Pixels) -> float:
    """Standard deviation of where the light is, rows and columns together."""
    light = pixels[..., 0].astype(float)
    variance = 0.0
    for axis in (0, 1):
        profile = light.sum(axis=axis)
        places = np.arange(profile.size)
        centre = (places * profile).sum() / profile.sum()
        variance += ((places - centre) ** 2 * profile).sum() / profile.sum()
    return float(np.sqrt(variance))


class TestEachKindDoesWhatItsTableSays:
    @pytest.mark.parametrize("strength", [1, 2])
    def test_gaussian_noise_has_the_stated_deviation(self, strength: int) -> None:
        noisy = corrupt(flat(128), "gaussian_noise", strength, 0)
        assert noisy.std() == pytest.approx(255 * parameter("gaussian_noise", strength), rel=0.03)
        assert noisy.mean() == pytest.approx(128, abs=0.5)

    @pytest.mark.parametrize("level", [60, 120])
    def test_speckle_noise_grows_with_the_value(self, level: int) -> None:
        noisy = corrupt(flat(level), "speckle_noise", 2, 0)
        assert noisy.std() == pytest.approx(level * parameter("speckle_noise", 2), rel=0.03)

    @pytest.mark.parametrize(("level", "strength"), [(60, 1), (120, 1), (120, 2), (40, 3)])
    def test_shot_noise_keeps_the_mean_and_its_variance_is_the_photons(self, level: int, strength: int) -> None:
        noisy = corrupt(flat(level), "shot_noise", strength, 0)
        assert noisy.mean() == pytest.approx(level, rel=0.02)
        assert noisy.var() == pytest.approx(level * 255 / parameter("shot_noise", strength), rel=0.05)

    @pytest.mark.parametrize("strength", STRENGTHS)
    def test_impulse_noise_hits_the_stated_share_half_black_half_white(self, strength: int) -> None:
        noisy = corrupt(flat(128), "impulse_noise", strength, 0)
        share = parameter("impulse_noise", strength)
        assert (noisy == 0).mean() == pytest.approx(share / 2, rel=0.1)
        assert (noisy == 255).mean() == pytest.approx(share / 2, rel=0.1)
        assert ((noisy == 128) | (noisy == 0) | (noisy == 255)).all()

    @pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"])
    def test_noise_is_one_pixel_wide_on_small_images_and_wider_on_large_ones(self, kind: str) -> None:
        def alike(height: int) -> float:
            noisy = corrupt(flat(100, height), kind, 2, 0)[..., 0].astype(float)
            return float(np.corrcoef(noisy[:, :-1].ravel(), noisy[:, 1:].ravel())[0, 1])

        assert abs(alike(224)) < 0.03
        assert alike(448) == pytest.approx(0.5, abs=0.03)  # two pixels a grain: every second neighbour is in it

    @pytest.mark.parametrize("strength", STRENGTHS)
    def test_gaussian_blur_spreads_a_spot_by_the_stated_deviation(self, strength: int) -> None:
        before, after = spread(spot(224)), spread(corrupt(spot(224), "gaussian_blur", strength, 0))
        grown = np.sqrt((after**2 - before**2) / 2)
        assert grown == pytest.approx(parameter("gaussian_blur", strength), rel=0.12)

    @pytest.mark.parametrize("strength", STRENGTHS)
    def test_defocus_blur_spreads_a_spot_over_the_stated_disc(self, strength: int) -> None:
        radius = parameter("defocus_blur", strength)
        before, after = spread(spot(224)), spread(corrupt(spot(224), "defocus_blur", strength, 0))
        assert np.sqrt(2 * (after**2 - before**2)) == pytest.approx(radius, rel=0.06)  # a disc's variance is r² / 2

    @pytest.mark.parametrize("kind", ["gaussian_blur", "defocus_blur", "motion_blur"])
    def test_a_blur_is_as_wide_a_part_of_a_small_image_as_of_a_large_one(self, kind: str) -> None:
        def share(height: int) -> float:
            before, after = spread(spot(height)), spread(corrupt(spot(height), kind, 4, 0))
            return float(np.sqrt(after**2 - before**2) / height)

        assert share(112) == pytest.approx(share(224), rel=0.12)
        assert share(448) == pytest.approx(share(224), rel=0.12)

    @pytest.mark.parametrize("kind", ["gaussian_blur", "defocus_blur", "motion_blur"])
    def test_a_blur_keeps_the_light(self, kind: str) -> None:
        pixels = spot(224)
        for strength in (1, 3):
            assert corrupt(pixels, kind, strength, 0).mean() == pytest.approx(pixels.mean(), rel=0.12)

    def test_motion_blur_has_a_direction_at_most_45_degrees_from_the_horizontal(self) -> None:
        for seed in range(8):
            light = corrupt(spot(224), "motion_blur", 5, seed)[..., 0].astype(float)
            rows, columns = (np.flatnonzero(light.sum(axis=axis)) for axis in (1, 0))
            assert np.ptp(columns) > 1.5 * 8  # the spot itself is 8 wide
            assert np.ptp(rows) <= np.ptp(columns) + 1

    def test_zoom_blur_leaves_the_centre_sharper_than_the_border(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (224, 256, 3), dtype=np.uint8)
        blurred = corrupt(noise, "zoom_blur", 3, 0).astype(float)
        assert blurred[102:122, 118:138].std() > 1.5 * blurred[:20, :20].std()

    @pytest.mark.parametrize("strength", STRENGTHS)
    def test_fog_covers_what_lies_behind_it(self, strength: int) -> None:
        stripes = flat(0)
        stripes[:, ::2] = 255
        foggy = corrupt(stripes, "fog", strength, 0)[..., 0].astype(float)
        assert np.median(np.abs(np.diff(foggy))) == pytest.approx(255 / (1 + parameter("fog", strength)), rel=0.1)
        assert foggy[:, 1::2].std() > 10  # uneven

    def test_fog_is_rougher_the_stronger_it_is(self) -> None:
        def roughness(strength: int) -> float:
            foggy = corrupt(flat(200), "fog", strength, 0)[..., 0].astype(float)
            return float(np.abs(np.diff(foggy)).mean())

        assert roughness(1) < roughness(3) < roughness(4) < roughness(5)

    def test_brightness_keeps_the_proportions_of_the_channels(self) -> None:
        pixels = np.broadcast_to(np.array([100, 50, 20], np.uint8), (30, 40, 3))
        brighter = corrupt(pixels, "brightness", 2, 0)
        assert brighter[0, 0].tolist() == [151, 76, 30]  # 100 + 51, and the others in proportion
        assert corrupt(flat(0), "brightness", 5, 0)[0, 0].tolist() == [128, 128, 128]

    @pytest.mark.parametrize("strength", STRENGTHS)
    def test_darkness_halves_the_light_once_a_stop(self, strength: int) -> None:
        dark = corrupt(flat(220), "darkness", strength, 0).mean()
        assert (dark / 220) ** 2.2 == pytest.approx(2 ** -parameter("darkness", strength), rel=0.03)

    def test_contrast_shrinks_the_distance_from_the_mean(self, drawn_photos: list[Pixels]) -> None:
        for strength in (1, 3):
            before, after = drawn_photos[0], corrupt(drawn_photos[0], "contrast", strength, 0)
            assert after.std(axis=(0, 1)) == pytest.approx(
                before.std(axis=(0, 1)) * parameter("contrast", strength), rel=0.05
            )
            assert after.mean(axis=(0, 1)) == pytest.approx(before.mean(axis=(0, 1)), abs=0.6)

    def test_desaturate_ends_in_grey_and_saturate_leaves_grey_alone(self) -> None:
        grey = corrupt(np.asarray(drawn(3)), "desaturate", 5, 0)
        assert (grey == grey[..., :1]).all()
        assert np.array_equal(corrupt(grey, "saturate", 5, 0), grey)

    def test_colour_cast_moves_red_against_blue_and_leaves_green(self) -> None:
        for image in range(6):
            red, green, blue = corrupt(flat(100), "colour_cast", 3, 0, image=image)[0, 0].astype(float)
            assert green == 100
            assert abs(2.2 * np.log2(red / blue)) == pytest.approx(parameter("colour_cast", 3), abs=0.05)

    def test_pixelate_leaves_blocks_of_the_stated_size(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
        blocks = corrupt(noise, "pixelate", 5, 0).reshape(56, 4, 56, 4, 3)
        assert (blocks == blocks[:, :1, :, :1]).all()
        assert np.abs(blocks[:, 0, :, 0] - noise.reshape(56, 4, 56, 4, 3).mean(axis=(1, 3))).max() <= 1

    def test_jpeg_compression_is_what_an_encoder_of_that_quality_makes(self) -> None:
        buffer = io.BytesIO()
        drawn(4).save(buffer, "JPEG", quality=15)
        assert np.array_equal(corrupt(np.asarray(drawn(4)), "jpeg_compression", 3, 0), np.asarray(Image.open(buffer)))

    def test_rotation_turns_about_the_centre_and_leaves_no_black_corner(self) -> None:
        pixels = np.full((150, 200, 3), 200, np.uint8)
        pixels[70:80, 150:190] = 90  # a mark right of the centre
        for image in range(4):
            turned = corrupt(pixels, "rotation", 5, 0, image=image)
            assert turned.min() >= 90
            rows, columns = np.nonzero(turned[..., 0] < 120)
            angle = np.degrees(np.arctan2(rows.mean() - 74.5, columns.mean() - 99.5))
            assert abs(angle) == pytest.approx(20, abs=1)
            assert np.hypot(rows.mean() - 74.5, columns.mean() - 99.5) == pytest.approx(70, abs=1)


class TestWrongUse:
    @pytest.mark.parametrize(
        ("kind", "strength", "seed", "found", "allowed"),
        [
            pytest.param("frost", 1, 0, "frost", KINDS, id="kind"),
            pytest.param("", 1, 0, "", KINDS, id="no kind"),
            pytest.param("fog", 0, 0, "0", ("1, 2, 3, 4, 5",), id="strength 0"),
            pytest.param("fog", 6, 0, "6", ("1, 2, 3, 4, 5",), id="strength 6"),
            pytest.param("fog", 1, -1, "-1", ("0 or more",), id="seed"),
        ],
    )
    def test_is_refused_with_what_is_allowed(
        self, kind: str, strength: int, seed: int, found: str, allowed: tuple[str, ...]
    ) -> None:
        for refused in (
            lambda: corrupt(flat(9, 20), kind, strength, seed),
            lambda: corrupt_batch(flat(9, 20)[None], kind, strength, seed),
        ):
            with pytest.raises(WrongUse) as raised:
                refused()
            assert raised.value.found == found
            assert all(word in str(raised.value.expected) for word in allowed)

    @pytest.mark.parametrize(
        "pixels",
        [
            pytest.param(np.zeros((5, 7, 3), np.float32), id="float"),
            pytest.param(np.zeros((5, 7), np.uint8), id="grey"),
            pytest.param(np.zeros((5, 7, 4), np.uint8), id="alpha"),
            pytest.param(np.zeros((0, 7, 3), np.uint8), id="empty"),
            pytest.param(np.zeros((1, 65_501, 3), np.uint8), id="longer than a JPEG can be"),
        ],
    )
    def test_arrays_that_are_no_pixels_are_refused_alike_by_every_kind(self, pixels: Pixels) -> None:
        for kind in KINDS:
            with pytest.raises(ValueError, match="pixels must be uint8"):
                corrupt(pixels, kind, 1, 0)


class TestTheDocuments:
    def test_the_ladder_has_at_least_14_kinds_of_five_strengths(self) -> None:
        assert len(set(KINDS)) == len(LADDER) >= 14
        for one in LADDER:
            assert len(one.parameters) == len(STRENGTHS) == 5
            assert len(set(one.parameters)) == 5
            assert len({len(parameters) for parameters in one.parameters}) == 1

    def test_the_table_of_the_document_is_that_of_the_code(self) -> None:
        assert ladder_table() in (ROOT / "docs/corruptions.md").read_text()

    def test_the_command_prints_the_table(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["corruptions"])
        main()
        assert capsys.readouterr().out == ladder_table() + "\n"

    def test_the_picture_of_the_document_is_what_its_command_draws(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        committed = ROOT / "docs/pictures/corruptions.jpg"
        assert committed.stat().st_size <= 200_000
        monkeypatch.setattr(sys, "argv", ["corruptions", "--sheet", str(tmp_path / "sheet.jpg")])
        main()
        with Image.open(committed) as shown, Image.open(tmp_path / "sheet.jpg") as made:
            assert made.size == shown.size
            assert np.abs(np.asarray(made, int) - np.asarray(shown, int)).mean() < 1

    @pytest.mark.parametrize("size", [(90, 160), (160, 90), (1, 300)], ids=str)
    def test_a_contact_sheet_shows_the_original_and_every_strength_of_every_kind(self, size: tuple[int, int]) -> None:
        photo = np.full((*size, 3), (40, 90, 200), np.uint8)
        sheet = np.asarray(contact_sheet(photo))
        originals = (sheet == (40, 90, 200)).all(axis=2)
        assert originals.any(axis=1).sum() >= len(KINDS)
        assert sheet.shape[1] > 6 * 24

    def test_a_photo_of_ones_own_can_be_looked_at(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn(5).save(tmp_path / "photo.png")
        monkeypatch.setattr(
            sys, "argv", ["corruptions", "--sheet", str(tmp_path / "a.jpg"), "--photo", str(tmp_path / "photo.png")]
        )
        main()
        with Image.open(tmp_path / "a.jpg") as sheet:
            assert sheet.format == "JPEG"
            assert sheet.height > len(KINDS) * 60


@pytest.mark.parametrize(
    ("sides", "names"),
    [
        pytest.param((6, 6), {"swapped", "turned", "negative", "colourless"}, id="square"),
        pytest.param((6, 8), {"swapped", "negative", "colourless"}, id="a turned one would not fit"),
    ],
)
def test_images_are_prepared_wrongly_as_other_programs_do_it(sides: tuple[int, int], names: set[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, *sides, 3), np.uint8)
    pinned = preset("load_img", size=sides)
    found = prepared_wrongly(lambda tensors: tensors.reshape(len(tensors), -1), pixels, range(70), pinned)
    assert set(found) == names
    swapped = to_tensor(pixels[..., ::-1].copy(), pinned.values).reshape(70, -1)
    np.testing.assert_array_equal(found[FileMistake.SWAPPED], swapped)
    grey = found[FileMistake.COLOURLESS].reshape(-1, 3)
    assert (grey == grey[:, :1]).all()
