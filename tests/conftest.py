"""What all tests share: real data where it is named, one drawn world, one sealed bundle, one Prefect server."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

from tasks.bundle import Bundle

STRICT = os.environ.get("DARKROOM_STRICT") == "1"
DATA = os.environ.get("DARKROOM_DATA")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

# A test that a busy machine makes fail says nothing of the code.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

pytest_plugins = ["tests.plugins.object_store", "tests.plugins.prefect_server", "tests.plugins.tiny_bundle"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without the real data its tests do not exist; with it none may skip."""
    if DATA is None:
        without = [item for item in items if "real_data" in item.keywords]
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if "real_data" not in item.keywords]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """A skip is a failure under DARKROOM_STRICT=1: a test that did not run has proved nothing."""
    outcome = yield
    report = outcome.get_result()
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and DARKROOM_STRICT=1 allows no skips: {report.longrepr}"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real photos."""
    assert DATA is not None
    return Path(DATA)


@pytest.fixture(scope="session")
def photos(data: Path) -> list[Path]:
    """Real photos, none of them square, from all classes."""
    return sorted((data / "trashnet").rglob("*.jpg"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of the tests; pytest-xdist's workers have one together."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def alone(shared: Path, name: str) -> Iterator[Path]:
    """A folder that one worker makes while the others wait for it; who comes later finds it there."""
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield shared / name


@pytest.fixture(scope="session")
def world(shared: Path) -> Path:
    """Training photos of the drawn world: a folder a class, a sub-folder a session."""
    from darkroom import demo_world

    with alone(shared, "training") as folder:
        if not folder.exists():
            demo_world.draw_training(folder, images=320, seed=3)
    return folder


@pytest.fixture(scope="session")
def bundle(world: Path, shared: Path, prefect_api: str) -> Bundle:
    """A bundle as a user's: trained on the drawn world by the flow, with whole sessions held out."""
    from darkroom.settings import ExaminationOptions, HeadOptions, TrainingRecipe
    from flows.train import train
    from tasks.bundle import find_bundle, open_bundle

    recipe = TrainingRecipe(
        backbone="SmallConvNet",
        weights="none",
        image_size=64,
        group_by="sub-folder",
        validation_share=0.35,
        head=HeadOptions(dense_units=32, dropout=0.2, epochs=6),
    )
    quick = ExaminationOptions(sensitivity_images=12)
    with alone(shared, "models") as models:
        if not (models / "parts" / "current.json").exists():
            train(folder=world, models=models, name="parts", recipe=recipe, examination=quick)
    return open_bundle(find_bundle(models, "parts"))
