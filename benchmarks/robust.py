"""What is promised of a training: as fast as Keras' own way, taken up again after a kill, memory that does not grow."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.contenders import WAYS
from benchmarks.harness import Measured, Row
from benchmarks.night import _HOME, _peak, data, work
from darkroom import demo_world
from darkroom.settings import AugmentationOptions, FineTuneOptions, HeadOptions, TrainingRecipe

TRIALS = int(os.environ.get("DARKROOM_BENCHMARK_TRIALS", "3"))
FEW, MANY = 2000, 12_000
# Stages of the progress, with the report at which the process dies; steps of the flow, as they begin.
KILLS_FROM_NOTHING = (
    ("decode", 90),
    ("learn", 20),
    ("learn", 28),
    ("predict", 3),
    ("learn what is normal", 1),
    ("choose goldens", 1),
    ("seal", 1),
)
KILLS_FROZEN = (("features", 3), ("features", 9), ("head", 15), ("fine-tune", 12))


def end_to_end() -> Mapping[str, Measured]:
    """A small network from nothing, every pixel augmented, against both forms of Keras' pipeline."""
    recipe = TrainingRecipe(
        backbone="SmallConvNet", weights="none", image_size=128, head=HeadOptions(epochs=5, patience=1000)
    )
    return {"training_end_to_end_ratio": _against_keras(recipe)}


def frozen() -> Mapping[str, Measured]:
    """A frozen backbone without augmentation, ten epochs: features once against features every epoch."""
    recipe = TrainingRecipe(
        weights=str(_weights()),
        image_size=224,
        augmentation=AugmentationOptions.none(),
        head=HeadOptions(epochs=10, patience=1000),
    )
    return {"training_frozen_ratio": _against_keras(recipe)}


def killed() -> Mapping[str, Measured]:
    """`kill -9` in each phase, the same command again; the profile of its bundle against an undisturbed one's."""
    folder = work() / "kill-world"
    demo_world.draw_training(folder, images=320, seed=3)
    head = HeadOptions(dense_units=32, epochs=4)
    nothing = TrainingRecipe(
        backbone="SmallConvNet", weights="none", image_size=64, group_by="sub-folder", validation_share=0.35, head=head
    )
    tuned = FineTuneOptions(layers=20, epochs=3, learning_rate=1e-4)
    weights = TrainingRecipe(
        weights=str(_weights()), group_by="sub-folder", validation_share=0.35, head=head, fine_tune=tuned
    )
    gaps, others = {}, {}
    for recipe, kills in ((nothing, KILLS_FROM_NOTHING), (weights, KILLS_FROZEN)):
        expected = _trained(folder, work() / f"undisturbed-{recipe.backbone}", "none", 1, recipe)
        for phase, moment in kills:
            models = work() / f"killed-{phase.replace(' ', '-')}-{moment}"
            _trained(folder, models, phase, moment, recipe)
            gap, other = _differences(_trained(folder, models, "none", 1, recipe), expected)
            gaps[f"{phase} {moment}"], others[f"{phase} {moment}"] = gap, other
    return {
        "training_kill_phases": Measured(len({name.rpartition(" ")[0] for name in gaps}), ", ".join(gaps)),
        "training_resumed_max_probability_difference": Measured(max(gaps.values()), "profile", [gaps]),
        "training_resumed_other_differences": Measured(
            sum(others.values()), "columns of the profile, names and digests of goldens", [others]
        ),
    }


def memory() -> Mapping[str, Measured]:
    """Largest memory of all processes of a training (proportional set size), by the number of images."""
    head = HeadOptions(dense_units=32, epochs=1)
    recipe = TrainingRecipe(backbone="SmallConvNet", weights="none", image_size=64, head=head)
    peaks = {}
    for images in (FEW, MANY):
        folder = work() / f"train-memory-{images}"
        _draw_classes(folder, images)
        command = [sys.executable, "-m", "benchmarks.contenders", "darkroom", folder, recipe.model_dump_json()]
        quiet = subprocess.DEVNULL
        run = subprocess.Popen([*map(str, command)], cwd=_HOME, stdout=quiet, stderr=quiet, start_new_session=True)
        peaks[images] = _peak(run)
        if run.returncode != 0:
            raise RuntimeError(f"the training of {images} images exited with {run.returncode}")
        shutil.rmtree(folder)
    grown = (peaks[MANY] - peaks[FEW]) / (MANY - FEW)
    pixels = 64 * 64 * 3
    note = ", ".join(f"{images:,}: {peak / 2**20:,.0f} MiB" for images, peak in peaks.items())
    return {
        "training_memory_grown_against_pixels": Measured(
            grown / pixels, f"{grown:,.0f} of {pixels:,} bytes an image; {note}", [peaks]
        ),
    }


ROWS: Mapping[str, Row] = {
    "training_end_to_end": end_to_end,
    "training_frozen": frozen,
    "training_killed": killed,
    "training_memory": memory,
}


def _weights() -> Path:
    return data() / "backbones" / "mobilenet_v2_0.35_224_no_top.keras"


def _against_keras(recipe: TrainingRecipe) -> Measured:
    """Images a second, all ways in turn; the ratio to the faster of Keras' two, of medians."""
    trials: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(TRIALS):
        for way, seen in trials.items():
            command = [
                sys.executable,
                "-m",
                "benchmarks.contenders",
                way,
                data() / "trashnet",
                recipe.model_dump_json(),
            ]
            done = subprocess.run([*map(str, command)], cwd=_HOME, capture_output=True, text=True, check=True)
            seen.append(json.loads(done.stdout.splitlines()[-1]))
    speed = {
        way: statistics.median(one["images"] * one["epochs"] / one["seconds"] for one in seen)
        for way, seen in trials.items()
    }
    ratio = speed["darkroom"] / max(speed[way] for way in speed if way != "darkroom")
    busy = {way: statistics.median(one["cpu_seconds"] for one in seen) for way, seen in trials.items()}
    note = ", ".join(f"{way} {value:.0f}/s in {busy[way]:.0f} s of processor time" for way, value in speed.items())
    return Measured(ratio, f"{note}; medians of {TRIALS}", [trials])


def _trained(folder: Path, models: Path, phase: str, moment: int, recipe: TrainingRecipe) -> Path:
    """The bundle's folder; where a phase is named, the training must be killed there, and there is none."""
    command = [sys.executable, "-m", "tests.interrupted", folder, models, phase, moment, recipe.model_dump_json()]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([*map(str, command)], cwd=_HOME, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != (0 if phase == "none" else -signal.SIGKILL):
        raise RuntimeError(f"{phase} {moment}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return Path(done.stdout.splitlines()[-1]) if phase == "none" else models


def _differences(found: Path, expected: Path) -> tuple[float, int]:
    """Of the probabilities of two profiles; how many other columns, and facts of the goldens, are not equal."""
    profiles = [pd.read_parquet(bundle / "profile.parquet") for bundle in (found, expected)]
    left, right = (np.stack(profile.pop("probabilities").tolist()) for profile in profiles)
    others = sum(not profiles[0][name].equals(profiles[1][name]) for name in profiles[1].columns)
    goldens = [pd.read_parquet(bundle / "goldens" / "goldens.parquet") for bundle in (found, expected)]
    named = ("name", "content_id", "pixels_sha256", "tensor_sha256")
    others += sum(not goldens[0][name].equals(goldens[1][name]) for name in named)
    return float(np.abs(left - right).max()), others


def _draw_classes(folder: Path, images: int) -> None:
    """Two classes of 128 × 96 JPEGs, each of its own noise on a colour."""
    from PIL import Image

    random_numbers = np.random.default_rng(images)
    for number in range(images):
        label = ("dark", "light")[number % 2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        noise = random_numbers.integers(-60, 60, (12, 16, 3)) + (90, 160)[number % 2]
        picture = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).resize((128, 96))
        file = io.BytesIO()
        picture.save(file, "JPEG")
        (folder / label / f"{number:06d}.jpg").write_bytes(file.getvalue())
