"""Bundles sealed from a tiny model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.bundle import Bundle, SealedContents, find_bundle, open_bundle, seal_bundle
from tasks.inference import Engine, load_engine
from tests.tiny import OTHER_FILES, draw_images, sealed_contents, tiny_preprocessing


@pytest.fixture(scope="session")
def tiny_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn images."""
    folder = tmp_path_factory.mktemp("photos")
    draw_images(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_contents(tmp_path_factory: pytest.TempPathFactory, tiny_photos: Path) -> SealedContents:
    """What a training would hand to the seal."""
    model = tmp_path_factory.mktemp("model") / "tiny.keras"
    return replace(sealed_contents(model, tiny_photos, tiny_preprocessing()), files=OTHER_FILES)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory, tiny_contents: SealedContents) -> Path:
    """A models folder with two versions of `tiny`, which were sealed at the same time."""
    models = tmp_path_factory.mktemp("models")
    with ThreadPoolExecutor(2) as pool:
        seals = [pool.submit(seal_bundle, models, "tiny", tiny_contents, by=who) for who in ("ada", "bob")]
    assert sorted(seal.result().manifest.version for seal in seals) == [1, 2]
    return models


@pytest.fixture(scope="session")
def tiny_bundle(tiny_models: Path) -> Bundle:
    """A sealed bundle; nobody may change it."""
    return open_bundle(find_bundle(tiny_models, "tiny"))


@pytest.fixture(scope="session")
def tiny_engine(tiny_bundle: Bundle) -> Engine:
    """The engine of the sealed bundle."""
    return load_engine(tiny_bundle.model_path, tiny_bundle.manifest.embedding_layer)
