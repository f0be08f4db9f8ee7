"""Near-duplicates: what a fingerprint holds, what alignment undoes, and how high the bar is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from expectations.alignment import aligned_correlation
from expectations.leakage import find_duplicates, one_photo
from expectations.neighbourhood import alike_by_hash, compact, cosines, nearest
from tasks.fingerprints import SIDE, fingerprint
from tests.tiny import drawn, encoded

FRAME = (72, 96)  # height, width: never square only


def scene(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """A light ground with a few shapes, (width, height): photos of one class resemble one another as these do."""
    rng = np.random.default_rng(seed)
    ground = np.asarray(drawn(seed % 7, size)).astype(float) * 0.15 + 150
    y, x = np.mgrid[: size[1], : size[0]]
    for _ in range(5):
        cx, cy = rng.uniform(0.15, 0.85, 2) * size
        a, b = rng.uniform(0.05, 0.2, 2) * size
        ground[((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1] = rng.uniform(20, 240, 3)
    return Image.fromarray(np.clip(ground + rng.normal(0, 2, ground.shape), 0, 255).astype(np.uint8))


def resized(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((FRAME[1], FRAME[0]), Image.Resampling.BILINEAR))


def reencoded(image: Image.Image, quality: int = 60) -> Image.Image:
    import io

    return Image.open(io.BytesIO(encoded(image, quality=quality)))


def cropped(image: Image.Image, left: float = 0.04, top: float = 0.01) -> Image.Image:
    width, height = image.size
    box = (left * width, top * height, (left + 0.95) * width, (top + 0.95) * height)
    return reencoded(image.crop(tuple(round(edge) for edge in box)))


COPIES = {
    "re-encoded": reencoded,
    "smaller": lambda image: reencoded(image.resize((144, 108))),
    "larger": lambda image: reencoded(image.resize((360, 270))),
    "cropped": cropped,
    "brighter": lambda image: image.point(lambda value: min(255, round(value * 1.08))),
}


@pytest.fixture(scope="module")
def scenes() -> np.ndarray:
    return np.stack([resized(scene(seed)) for seed in range(160)])


def features_of(pictures: np.ndarray) -> np.ndarray:
    """Coarse colours and their contrasts, as a stand-in for an embedding."""
    n, height, width, _ = pictures.shape
    blocks = pictures.reshape(n, 6, height // 6, 8, width // 8, 3).mean((2, 4)).reshape(n, -1)
    return (blocks - blocks.mean(axis=0)).astype(np.float32)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_fingerprint_holds_a_hash_and_a_grey_picture_whatever_the_frame(kind: type) -> None:
    found = fingerprint(np.stack([resized(scene(seed)) for seed in range(3)]).astype(kind))
    assert found.hashes.shape == (3,)
    assert found.hashes.dtype == np.uint64
    assert found.pictures.shape == (3, SIDE, SIDE)
    assert found.pictures.dtype == np.uint8


def test_the_grey_picture_is_the_mean_of_what_lies_under_each_part() -> None:
    half = np.zeros((1, 50, 90, 3), np.uint8)
    half[:, :, 45:] = 200
    picture = fingerprint(half).pictures[0]
    assert (picture[:, : SIDE // 2] == 0).all()
    assert (picture[:, SIDE // 2 :] == 200).all()
    tiny = fingerprint(np.full((1, 5, 7, 3), 90, np.uint8)).pictures
    assert (tiny == 90).all()


def test_fingerprints_do_not_depend_on_how_many_come_at_once(scenes: np.ndarray) -> None:
    whole = fingerprint(scenes)
    alone = fingerprint(scenes[131:132])
    assert whole.hashes[131] == alone.hashes[0]
    assert np.array_equal(whole.pictures[131], alone.pictures[0])


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES.keys())
def test_a_copy_correlates_better_once_aligned_than_any_other_scene(change, scenes: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    copy = fingerprint(resized(change(scene(11)))[None]).pictures
    known = fingerprint(scenes).pictures
    found = aligned_correlation(known, copy, np.stack([np.arange(len(known)), np.zeros(len(known), int)], 1))
    assert found.argmax() == 11
    assert found[11] > 0.98
    assert np.delete(found, 11).max() < found[11] - 0.02


def test_a_picture_of_one_grey_correlates_with_nothing() -> None:
    flat = np.full((1, SIDE, SIDE), 128, np.uint8)
    noisy = fingerprint(resized(scene(1))[None]).pictures
    pair = np.zeros((1, 2), int)
    assert aligned_correlation(flat, noisy, pair)[0] < 0.2
    assert aligned_correlation(flat, flat, pair)[0] < 0.2


def test_planted_copies_are_found_and_different_scenes_are_not(scenes: np.ndarray) -> None:
    sources = np.arange(0, 40, 2)
    changes = list(COPIES.values())
    copies = np.stack([resized(changes[n % len(changes)](scene(seed))) for n, seed in enumerate(sources)])
    both = np.concatenate([scenes, copies])
    prints = fingerprint(both)
    labels = np.arange(len(both)) % 2
    labels[len(scenes) :] = labels[sources]
    found = find_duplicates(prints.hashes, prints.pictures, features_of(both), labels)
    planted = {(int(source), len(scenes) + n) for n, source in enumerate(sources)}
    pairs = {(int(first), int(second)) for first, second in found.pairs}
    assert len(planted & pairs) >= 0.9 * len(planted)
    assert len(pairs - planted) <= 1
    assert (np.diff(found.score) <= 0).all()
    photo = one_photo(found, len(both))
    assert all(photo[first] == photo[second] for first, second in pairs)


def test_without_copies_hardly_anything_is_called_one(scenes: np.ndarray) -> None:
    prints = fingerprint(scenes)
    found = find_duplicates(prints.hashes, prints.pictures, features_of(scenes), np.arange(len(scenes)) % 3)
    assert len(found.pairs) <= 1
    assert found.bar.pairs > 50
    assert found.bar.threshold is not None


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_images_to_learn_from_give_no_copies(n: int, scenes: np.ndarray) -> None:
    prints = fingerprint(scenes[:n])
    features = np.arange(n * 5, dtype=np.float32).reshape(n, 5)
    found = find_duplicates(prints.hashes, prints.pictures, features, np.arange(n))
    assert len(found.pairs) == 0
    assert found.bar.threshold is None


@settings(deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 700), bits=st.integers(0, 20))
def test_hash_pairs_are_those_that_brute_force_finds(seed: int, n: int, bits: int) -> None:
    hashes = np.random.default_rng(seed).integers(0, 2**12, n, dtype=np.uint64)
    found = {tuple(pair) for pair in alike_by_hash(hashes, bits // 4, n).tolist()}
    away = np.bitwise_count(hashes[:, None] ^ hashes)
    first, second = np.nonzero(np.triu(away <= bits // 4, 1))
    assert found == set(zip(first.tolist(), second.tolist(), strict=True))


def test_a_thousand_equal_hashes_do_not_give_half_a_million_pairs() -> None:
    assert len(alike_by_hash(np.zeros(1000, np.uint64), 6, 5)) <= 5000


def test_nearest_are_the_nearest_by_cosine() -> None:
    rows = np.random.default_rng(3).standard_normal((300, 9)).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    assert np.array_equal(nearest(rows, 4), np.argsort(-cosine, axis=1, kind="stable")[:, :4])
    pairs = np.array([[0, 7], [200, 3]])
    assert cosines(rows, pairs) == pytest.approx([cosine[0, 7], cosine[200, 3]], abs=1e-5)


def test_compact_features_keep_most_of_what_varies_and_do_not_divide_by_nothing() -> None:
    rng = np.random.default_rng(0)
    low = rng.standard_normal((400, 6)) @ rng.standard_normal((6, 300))
    features = np.concatenate([low, np.full((400, 2), 7.0)], axis=1).astype(np.float16)
    found = compact(features, 8)
    assert found.shape == (400, 8)
    assert np.isfinite(found).all()
    assert np.square(found).sum(axis=1).mean() == pytest.approx(1, rel=1e-3)
    assert np.square(found[:, :6]).sum() > 0.99 * np.square(found).sum()


@pytest.mark.real_data
def test_copies_of_real_photos_are_found(photos: list[Path]) -> None:
    chosen = photos[::8]
    images = [Image.open(path).convert("RGB") for path in chosen]
    changes = [reencoded, cropped, lambda image: image.resize((307, 410))]
    copies = [changes[n % 3](image) for n, image in enumerate(images[:30])]
    pixels = np.stack([resized(image) for image in [*images, *copies]])
    prints = fingerprint(pixels)
    labels = np.array([path.parent.name for path in [*chosen, *chosen[:30]]])
    found = find_duplicates(prints.hashes, prints.pictures, features_of(pixels), labels)
    planted = {(n, len(images) + n) for n in range(30)}
    pairs = {(int(first), int(second)) for first, second in found.pairs}
    assert len(planted & pairs) >= 27
    assert len(pairs - planted) <= 2
