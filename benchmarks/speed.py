"""How fast a night is: beside its limit, and beside what people would use instead, in one run on one machine.

Images a second are slopes, a larger night less a smaller one, which has a whole shard less: start-up and the fixed cost
of a page and a commit count in neither, what a shard costs does. Every way prepares the same files for the same model;
the others validate, measure and record nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, Literal

import numpy as np
from PIL import Image

from benchmarks import dask_workers, million, shards
from benchmarks.checks import in_workers, processor_seconds, watched
from benchmarks.harness import Measured, Row
from darkroom import demo_world
from darkroom.settings import ExaminationOptions, HeadOptions, IntakeOptions, NightOptions, RunOptions, TrainingRecipe
from tasks.bundle import Bundle, open_bundle

SMALL, LARGE = 1000, 1000 + RunOptions().shard_size
ONE_BY_ONE: Final = 48
FORWARD: Final = 1280
RAY_FEW: Final = 200
TRIALS: Final = 3
SIZE: Final = (640, 480)
FIRST: Final = date(2026, 3, 1)
Preparation = Literal["load_img", "image_dataset_from_directory"]


@dataclass(frozen=True)
class Trial:
    """Images a second of each way, measured one after another."""

    darkroom: float
    decode: float
    forward: float
    one_by_one: float
    dataset: float
    ray: float
    share: Mapping[str, float]  # of processor time, by what it was spent on

    @property
    def limit(self) -> float:
        """Decoding and the network, each alone as fast as both cores go, sharing the two cores."""
        return 1 / (1 / self.decode + 1 / self.forward)


@cache
def work() -> Path:
    """A new folder for this run."""
    return Path(mkdtemp(prefix="darkroom-benchmarks-"))


def draw_photo(seed: int) -> Image.Image:
    """640 × 480 with detail at every scale, as photos have, and grain: a JPEG of it is as large as one of a camera."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    scene = np.zeros((height, width, 3), np.float32)
    for step, strength in ((160, 60.0), (40, 30.0), (10, 12.0)):
        coarse = rng.normal(0, strength, (height // step, width // step, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(coarse[:, :, channel]).resize(SIZE, Image.Resampling.BICUBIC)
            scene[:, :, channel] += np.asarray(layer)
    scene += rng.normal(0, 4, (height, width, 1)).astype(np.float32)
    return Image.fromarray(np.clip(scene + 128, 0, 255).astype(np.uint8))


@cache
def photos() -> list[Path]:
    """Distinct in content: the photos of the large night; the small one has the first of them."""
    for name in ("small", "large"):
        (work() / name / "unsorted").mkdir(parents=True)
    files = [work() / "large" / "unsorted" / f"{number:05d}.jpg" for number in range(LARGE)]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_draw, range(LARGE), files, chunksize=50))
    for file in files[:SMALL]:
        (work() / "small" / "unsorted" / file.name).hardlink_to(file)
    return files


def _draw(number: int, file: Path) -> None:
    draw_photo(number).save(file, quality=90)


@cache
def bundle(alpha: float, preparation: Preparation) -> Bundle:
    """A MobileNetV2 of 224 × 224 with random weights, which are as fast as any."""
    from darkroom.orchestrator import api
    from tasks.presets import preset

    training = work() / "training"
    if not training.exists():
        demo_world.draw_training(training, images=160, seed=3)
    pinned = work() / f"{preparation}.json"
    preset(preparation, size=(224, 224), interpolation="bilinear", values="mobilenet_v2").save(pinned)
    recipe = TrainingRecipe(
        backbone="MobileNetV2",
        backbone_arguments={"alpha": alpha},
        weights="none",
        image_size=224,
        preprocessing=pinned,
        group_by="sub-folder",
        validation_share=0.35,
        head=HeadOptions(dense_units=32, epochs=3),
    )
    with api():
        from flows.engines import prove_parity
        from flows.train import train

        name = f"speed-{preparation}-{alpha:g}".replace(".", "-").replace("_", "-")
        examination = ExaminationOptions(sensitivity_images=12)
        sealed = train(folder=training, models=work() / "models", name=name, recipe=recipe, examination=examination)
    made = open_bundle(Path(sealed.path))
    prove_parity(made, training)
    return made


def seconds_of(what: Callable[[], object]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def nightly(model: Bundle, folder: Path, results: Path, number: int) -> None:
    """The whole flow, as the schedule runs it."""
    from flows.score import score

    score(
        bundle=model.path,
        inbox=str(folder),
        results=results,
        night=NightOptions(night=FIRST + timedelta(days=number)),
        intake=IntakeOptions(settle_seconds=0),
        run=RunOptions(),
    )


def decoded(files: Sequence[Path]) -> None:
    """Pillow alone, a thread a core: from the file to the array that the network takes."""

    def one(file: Path) -> np.ndarray[Any, Any]:
        with Image.open(file) as image:
            small = image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        return np.asarray(small, np.float32) / 127.5 - 1

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(one, files):
            pass


def _alone(what: str, *arguments: str) -> float:
    """Images a second, measured in a process in which nothing was before."""
    code = f"from benchmarks.speed import {what}_speed; import sys; print({what}_speed(*sys.argv[1:]))"
    said = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True).stdout
    return float(said.splitlines()[-1])


def decode_speed(folder: str) -> float:
    """Of the decoder alone, the faster of two times."""
    files = sorted(Path(folder).iterdir())
    return len(files) / min(seconds_of(lambda: decoded(files)) for _ in range(2))


def one_by_one(model: Any, files: Sequence[Path]) -> None:
    """What the question's author does."""
    import keras

    for file in files:
        image = keras.utils.img_to_array(keras.utils.load_img(file, target_size=(224, 224)))
        model.predict(image[None] / 127.5 - 1, verbose=0)


def by_dataset(model: Any, folder: Path) -> None:
    """As the Keras guides write it, with the two lines that make it fast."""
    import keras
    import tensorflow as tf

    dataset = keras.utils.image_dataset_from_directory(
        folder, labels=None, image_size=(224, 224), batch_size=32, shuffle=False, verbose=False
    )
    ready = dataset.map(lambda images: images / 127.5 - 1, num_parallel_calls=tf.data.AUTOTUNE)
    model.predict(ready.prefetch(tf.data.AUTOTUNE), verbose=0)


def by_ray(model: Bundle) -> float:
    """Images a second of Ray Data; not a number where it is not installed."""
    if find_spec("ray") is None:
        return float("nan")
    folders = [str(work() / "few" / "unsorted"), str(work() / "small" / "unsorted")]
    few = work() / "few" / "unsorted"
    if not few.exists():
        few.mkdir(parents=True)
        for file in photos()[:RAY_FEW]:
            (few / file.name).hardlink_to(file)
    command = [sys.executable, "-m", "benchmarks.ray_peer", str(model.model_path), *folders]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    small, large = json.loads(said.splitlines()[-1])
    return (SMALL - RAY_FEW) / (large - small)  # type: ignore[no-any-return]


def night(model: Bundle, folder: Path, results: Path, number: int) -> tuple[float, float, Mapping[str, float]]:
    """Seconds, processor seconds, and those of them that were spent on checks in this process."""
    with watched() as spent:
        processor, started = processor_seconds(), time.perf_counter()
        nightly(model, folder, results, number)
        return time.perf_counter() - started, processor_seconds() - processor, dict(spent.seconds)


def measured(alpha: float, preparation: Preparation) -> list[Trial]:
    """All ways, in turns."""
    import keras

    from darkroom.orchestrator import api
    from flows.looking import prove_model

    files, sealed = photos(), bundle(alpha, preparation)
    engine = prove_model(sealed.path, "auto").engine
    model = keras.saving.load_model(sealed.model_path, compile=False)
    tensors = np.random.default_rng(0).normal(0, 0.5, (FORWARD, 224, 224, 3)).astype(np.float32)
    engine.run(tensors[:64])
    one_by_one(model, files[:2])
    aside = in_workers(files[:256], sealed.preprocessing)
    trials = []
    with api():
        nightly(sealed, work() / "small", work() / f"warm-{sealed.id}", 0)
        for number in range(TRIALS):
            small = night(sealed, work() / "small", work() / f"small-{sealed.id}-{number}", 1)
            large = night(sealed, work() / "large", work() / f"large-{sealed.id}-{number}", 2)
            images = LARGE - SMALL
            processor = (large[1] - small[1]) / images
            checks = {name: (large[2][name] - small[2].get(name, 0.0)) / images for name in large[2]}
            trials.append(
                Trial(
                    darkroom=images / (large[0] - small[0]),
                    decode=_alone("decode", str(work() / "small" / "unsorted")),
                    forward=FORWARD / seconds_of(lambda: engine.run(tensors)),
                    one_by_one=ONE_BY_ONE / seconds_of(lambda: one_by_one(model, files[:ONE_BY_ONE])),
                    dataset=SMALL / seconds_of(lambda: by_dataset(model, work() / "small")),
                    ray=by_ray(sealed) if alpha < 1 and preparation == "load_img" else float("nan"),
                    share={name: seconds / processor for name, seconds in {**checks, **aside}.items()},
                )
            )
    return trials


def ratio(trials: Sequence[Trial], to: str) -> Measured:
    """The median of the trials' own ratios, with their spread."""
    found = [trial.darkroom / getattr(trial, to) for trial in trials]
    speeds = ", ".join(
        f"{name} {statistics.median(getattr(trial, name) for trial in trials):.0f}"
        for name in ("darkroom", "limit", "decode", "forward", "one_by_one", "dataset", "ray")
    )
    spread = f"{min(found):.2f} – {max(found):.2f}; images a second: {speeds}"
    return Measured(statistics.median(found), spread, [vars(trial) for trial in trials], seeds=range(SMALL + LARGE))


def checks_of(trials: Sequence[Trial]) -> Measured:
    """The share of processor time that goes into validation, properties, drift, Parquet and digests."""
    found = [sum(trial.share.values()) for trial in trials]
    parts = ", ".join(
        f"{name} {statistics.median(trial.share.get(name, 0.0) for trial in trials):.1%}" for name in trials[0].share
    )
    return Measured(statistics.median(found), f"{min(found):.3f} – {max(found):.3f}; {parts}", found)


def small_network() -> Mapping[str, Measured]:
    """MobileNetV2-0.35: as fast as decoding and the network allow, beside one by one and Ray Data; what checks cost."""
    trials = measured(0.35, "load_img")
    return {
        "to_the_limit_035": ratio(trials, "limit"),
        "to_one_by_one": ratio(trials, "one_by_one"),
        "to_ray_data": ratio(trials, "ray"),
        "checks_035": checks_of(trials),
    }


def same_preparation() -> Mapping[str, Measured]:
    """The same with TensorFlow's decoder and filter, as image_dataset_from_directory has them."""
    return {"to_dataset": ratio(measured(0.35, "image_dataset_from_directory"), "dataset")}


def large_network() -> Mapping[str, Measured]:
    """MobileNetV2-1.0."""
    trials = measured(1.0, "load_img")
    return {"to_the_limit_100": ratio(trials, "limit"), "checks_100": checks_of(trials)}


def start_up() -> Mapping[str, Measured]:
    """From the start of the process until the first image has passed the network: against a server, and embedded."""
    from darkroom.orchestrator import api

    sealed, inbox = bundle(1.0, "load_img"), work() / "one"
    inbox.mkdir()
    draw_photo(-1 % 2**32).save(inbox / "one.jpg", quality=90)
    moments: dict[str, list[tuple[float, float]]] = {"start_up_with_server": [], "start_up_embedded": []}
    for number in range(TRIALS):
        with ExitStack() as stack:
            for name, found in moments.items():
                address = {"PREFECT_API_URL": stack.enter_context(api())} if name.endswith("server") else {}
                found.append(_first_image(sealed, inbox, work() / f"{name}-{number}", address))
                stack.close()
    size = sealed.model_path.stat().st_size / 1e6
    return {
        name: Measured(
            statistics.median(first for first, _ in found),
            f"model of {size:.0f} MB; until its shard is validated, too: "
            f"{statistics.median(validated for _, validated in found):.1f} s; {TRIALS} trials",
            found,
        )
        for name, found in moments.items()
    }


def _first_image(sealed: Bundle, inbox: Path, results: Path, address: Mapping[str, str]) -> tuple[float, float]:
    """Seconds until the first image has passed the network, and until the shard that it is in is finished."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    mark = results.with_suffix(".mark")
    command = [sys.executable, "-m", "benchmarks.first_image", str(mark), "score", str(sealed.path), str(inbox)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--results", str(results), "--settle-seconds", "0", "--json"],
        env={**plain, **address, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def until(there: Callable[[], bool]) -> float:
        while not there():
            if process.poll() is not None:
                raise RuntimeError(f"the night ended with {process.returncode} before its first image was seen")
            time.sleep(0.01)
        return time.perf_counter() - started

    first, validated = until(mark.exists), until(lambda: any(results.glob("staging/*/shards/*.json")))
    process.wait()
    return first, validated


ROWS: Mapping[str, Row] = {
    "small_network": small_network,
    "same_preparation": same_preparation,
    "large_network": large_network,
    "start_up": start_up,
    **million.ROWS,
    **shards.ROWS,
    **dask_workers.ROWS,
}
