"""What is promised of a night: one answer, everything once, nothing lost; and a demo in two minutes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd

import darkroom
from benchmarks.harness import Measured, Row
from darkroom import demo_world
from darkroom.errors import BundleTampered, WrongUse
from darkroom.settings import HeadOptions, TrainingRecipe

NIGHT = "2026-03-02"
OF_THE_RUN = ["run", "scored_at"]
KILLS = 12
FOLDS = 5
_HOME = Path(__file__).resolve().parents[1]


@cache
def data() -> Path:
    """The real photos and backbones."""
    named = os.environ.get("DARKROOM_DATA")
    if named is None:
        raise WrongUse("This row needs the real photos.", expected="DARKROOM_DATA, the folder that holds trashnet")
    return Path(named)


@cache
def work() -> Path:
    """A new folder for this run."""
    return Path(mkdtemp(prefix="darkroom-benchmarks-"))


def trashnet_recipe(seed: int = 0) -> TrainingRecipe:
    """A frozen backbone from its file and a plain head; Pillow's Lanczos keeps more of a photo than its bilinear."""
    from tasks.presets import preset

    preprocessing = work() / "preprocessing.json"
    pinned = preset("load_img", size=(224, 224), interpolation="lanczos", values="mobilenet_v2")
    pinned.save(preprocessing)
    return TrainingRecipe(
        weights=str(data() / "backbones" / "mobilenet_v2_0.35_224_no_top.keras"),
        preprocessing=preprocessing,
        validation_share=0.1,
        head=HeadOptions(dense_units=0, dropout=0.2, epochs=150, patience=20),
        seed=seed,
    )


@cache
def bundle() -> Path:
    """Sealed from trashnet by the command line, as a user would."""
    recipe = work() / "recipe.json"
    recipe.write_text(trashnet_recipe().model_dump_json())
    told = _run("train", data() / "trashnet", "--models", work() / "models", "--name", "trash", "--recipe", recipe)
    return Path(told["path"])


@cache
def photos() -> Path:
    """An inbox of 160 real photos, some from every class."""
    inbox = work() / "photos"
    inbox.mkdir()
    files = sorted((data() / "trashnet").rglob("*.jpg"))
    for photo in files[:: len(files) // 160][:160]:
        shutil.copy(photo, inbox / f"{photo.parent.name}-{photo.name}")
    return inbox


def demo() -> Mapping[str, Measured]:
    """The whole demo, from the command to its last line."""
    started = time.perf_counter()
    story = _run("demo", "--folder", work() / "demo")
    seconds = time.perf_counter() - started
    told = ", ".join(f"{night['night']} {night['verdict']} {night['accuracy']:.0%}" for night in story["nights"])
    return {"demo_seconds": Measured(seconds, f"held-out {story['validation_accuracy']:.0%}; {told}")}


def accuracy() -> Mapping[str, Measured]:
    """Five folds of trashnet, every image predicted by a head that has not seen it."""
    from expectations.measures import measure_predictions
    from tasks.training.folds import cross_validate
    from tasks.training.repeats import Repeats

    place = work() / "folds"
    place.mkdir()
    repeats = Repeats(data() / "trashnet", trashnet_recipe(), place, lambda *_: None)
    trials = []
    for seed in range(3):
        folds = cross_validate(repeats, trashnet_recipe(seed), FOLDS)
        measures = measure_predictions(folds.probabilities, repeats.labels, repeats.groups, repeats.classes)
        trials.append((measures.accuracy, *measures.interval))
    found, low, high = trials[0]
    others = ", ".join(f"{trial[0]:.3f}" for trial in trials[1:])
    return {
        "trashnet_accuracy": Measured(
            found,
            f"95 % interval {low:.3f} - {high:.3f}, {FOLDS} folds; other seeds {others}",
            trials,
            [0, 1, 2],
        )
    }


def one_answer() -> Mapping[str, Measured]:
    """32 photos: each alone, all in a batch, in a nightly run, and in a new process."""
    from tasks.bundle import open_bundle
    from tasks.preprocessing import array_digest, prepare
    from tasks.workers import Arrived, DecodePool, Job, Wanted

    results = work() / "one-answer"
    _score(photos(), results)
    paths = sorted(photos().iterdir())[:32]
    preprocessing = open_bundle(bundle()).preprocessing
    here = {str(path): array_digest(prepare(path.read_bytes(), preprocessing).tensor) for path in paths}
    with DecodePool(preprocessing, Wanted(tensor=True)) as pool:
        pooled = {
            str(one.key): array_digest(np.asarray(one.tensor))
            for one in pool.run(Job(path, path) for path in paths)
            if isinstance(one, Arrived)
        }
    tensors = sum(pooled.get(path) != digest for path, digest in here.items())
    code = "import sys, darkroom; darkroom.predict(sys.argv[1], sys.argv[2:]).to_pickle(sys.argv[1] + '.pickle')"
    link = work() / "elsewhere"
    link.symlink_to(bundle())
    subprocess.run([sys.executable, "-c", code, link, *paths], check=True, cwd=_HOME, capture_output=True)
    ways = {
        "alone": pd.concat([darkroom.predict(bundle(), [path]) for path in paths]),
        "batch": darkroom.predict(bundle(), paths),
        "new process": pd.read_pickle(f"{link}.pickle"),
    }
    night = darkroom.read(results).set_index("content_id")
    worst = {}
    for name, rows in ways.items():
        there = night.loc[rows["content_id"]]
        worst[name] = float(np.abs(_matrix(rows["probabilities"]) - _matrix(there["probabilities"])).max())
    return {
        "one_against_many_tensor_differences": Measured(tensors, f"{len(paths)} tensors, in this process and a pool's"),
        "one_against_many_max_probability_difference": Measured(
            max(worst.values()), ", ".join(f"{name} {value:.2g}" for name, value in worst.items()), [worst]
        ),
    }


def presets() -> Mapping[str, Measured]:
    """The tests that hold every preset against its library, on real photos."""
    report = work() / "presets.xml"
    command = [
        "-m",
        "pytest",
        "tests/test_presets.py",
        "-k",
        "on_real_photos",
        "-q",
        "-o",
        "junit_family=xunit1",
        f"--junitxml={report}",
    ]
    subprocess.run([sys.executable, *command], cwd=_HOME, capture_output=True, check=False)
    cases = list(ET.parse(report).iter("testcase"))
    bad = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    files = [int(p.get("value", "0")) for case in cases for p in case.iter("property") if p.get("name") == "files"]
    return {
        "preset_files": Measured(min(files), f"the fewest of {len(cases)} comparisons", files),
        "preset_differences": Measured(len(bad), f"of {len(cases)} comparisons, to the bit", bad),
    }


def wrong_size() -> Mapping[str, Measured]:
    """The seed's first example: a model of 224 and tensors of 256, where pooling would hide it and Flatten not."""
    import keras

    from tasks.inference import load_engine

    refused = []
    for head in (keras.layers.GlobalAveragePooling2D, keras.layers.Flatten):
        inputs = keras.Input((224, 224, 3))
        x = head(name="embedding")(keras.layers.Conv2D(4, 3, strides=8)(inputs))
        path = work() / f"{head.__name__}.keras"
        keras.Model(inputs, keras.layers.Dense(3, "softmax")(x)).save(path)
        engine = load_engine(path, "embedding", input_shape=(224, 224, 3))
        try:
            engine.run(np.zeros((1, 256, 256, 3), np.float32))
        except WrongUse as error:
            refused.append(str(error))
    return {"wrong_size_refused": Measured(len(refused), "global pooling, and Flatten", refused)}


def repeated() -> Mapping[str, Measured]:
    """The same night twice; ten new images; all renamed."""
    inbox, results = work() / "repeated", work() / "repeated-results"
    shutil.copytree(photos(), inbox)
    _score(inbox, results)
    second = _score(inbox, results)
    demo_world.draw_night(work() / "ten", "good", images=10, seed=3)
    shutil.copytree(work() / "ten", inbox / "ten")
    third = _score(inbox, results)
    for number, path in enumerate(sorted(path for path in inbox.rglob("*") if path.is_file())):
        path.rename(path.with_name(f"renamed-{number}{path.suffix}"))
    fourth = _score(inbox, results)
    return {
        "second_run_scored": Measured(second["counts"]["scored"]),
        "ten_new_scored": Measured(third["counts"]["scored"]),
        "all_renamed_scored": Measured(fourth["counts"]["scored"]),
    }


def two_at_once() -> Mapping[str, Measured]:
    """Two runs over one inbox, started together, five times."""
    contents = _contents(photos())
    doubled, lost = [], []
    for trial in range(5):
        results = work() / f"two-{trial}"
        runs = [_start(photos(), results) for _ in range(2)]
        for run in runs:
            run.wait()
        found = darkroom.read(results)["content_id"]
        doubled.append(int(found.duplicated().sum()))
        lost.append(len(contents - set(found)))
    return {
        "two_at_once_doubled": Measured(sum(doubled), "five trials", doubled),
        "two_at_once_lost": Measured(sum(lost), "five trials", lost),
    }


def killed() -> Mapping[str, Measured]:
    """`kill -9` of the whole process group at random moments of a run, then a run to the end, each time anew."""
    undisturbed = _rows(photos(), work() / "undisturbed", kill_after=None)
    started = time.perf_counter()
    _start(photos(), work() / "timed").wait()
    whole = time.perf_counter() - started
    moments = random.Random(1)
    after = [moments.uniform(0.0, 1.0) * whole for _ in range(KILLS)]
    differences = []
    for trial, seconds in enumerate(after):
        rows = _rows(photos(), work() / f"killed-{trial}", kill_after=seconds)
        differences.append(int(not rows.equals(undisturbed)))
    return {
        "kill_moments": Measured(len(after), f"uniform over a run of {whole:.1f} s", after, [1]),
        "kill_row_differences": Measured(sum(differences), f"{len(undisturbed)} rows each", differences, [1]),
    }


def odd() -> Mapping[str, Measured]:
    """The folder of odd and broken files; an empty one; one image."""
    folder = data() / "images" / "odd"
    counts = _score(folder, work() / "odd")["counts"]
    files = darkroom.read(work() / "odd", "files")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    (work() / "empty").mkdir()
    empty = _score(work() / "empty", work() / "empty-results")
    (work() / "one").mkdir()
    shutil.copy(next(photos().iterdir()), work() / "one")
    one = _score(work() / "one", work() / "one-results")
    statuses = files["status"].value_counts().to_dict()
    return {
        "odd_unaccounted": Measured(
            len(there ^ set(files["path"])), f"{len(there)} files: {statuses}; {counts['seen']} seen"
        ),
        "empty_inbox_is_empty": Measured(int(empty["verdict"] == "empty"), empty["headline"]),
        "one_image_scored": Measured(one["counts"]["scored"], one["headline"]),
    }


def tampered() -> Mapping[str, Measured]:
    """A golden, a weight, the class order, a knob: changed by hand in a copy of a sealed bundle."""
    from tasks.bundle import open_bundle

    sealed = bundle()
    messages = {}
    for name, change in _CHANGES.items():
        copy = Path(shutil.copytree(sealed, work() / f"tampered-{name.replace(' ', '-')}"))
        change(copy)
        try:
            open_bundle(copy)
        except BundleTampered as error:
            messages[name] = error.what
    return {
        "tampering_refused_with_own_message": Measured(
            len(set(messages.values())), " / ".join(messages.values()), [messages]
        )
    }


def memory() -> Mapping[str, Measured]:
    """Largest memory of all processes of a run (proportional set size), 10,000 distinct images against 1,000."""
    peaks = {}
    for images in (1000, 10_000):
        inbox = work() / f"memory-{images}"
        _draw_many(inbox, images)
        run = _start(inbox, work() / f"memory-results-{images}")
        peaks[images] = _peak(run)
        if (scored := len(darkroom.read(work() / f"memory-results-{images}"))) != images:
            raise AssertionError(f"{scored} of {images} images were scored")
        shutil.rmtree(inbox)
    note = ", ".join(f"{images:,}: {peak / 2**20:,.0f} MiB" for images, peak in peaks.items())
    return {"memory_ratio": Measured(peaks[10_000] / peaks[1000], note, [peaks])}


ROWS: Mapping[str, Row] = {
    "demo": demo,
    "accuracy": accuracy,
    "one_answer": one_answer,
    "presets": presets,
    "wrong_size": wrong_size,
    "repeated": repeated,
    "two_at_once": two_at_once,
    "killed": killed,
    "odd": odd,
    "tampered": tampered,
    "memory": memory,
}


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "darkroom.cli", *map(str, arguments)]


def _run(*arguments: object) -> dict[str, Any]:
    """Run a command with --json; an alarm is an answer, a failure is not."""
    done = subprocess.run(_command(*arguments, "--json"), cwd=_HOME, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{arguments} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _score_arguments(inbox: Path, results: Path) -> list[object]:
    options = ["--night", NIGHT, "--settle-seconds", 0, "--shard-size", 500 if inbox.name.startswith("memory") else 40]
    return ["score", bundle(), inbox, "--results", results, *options]


def _score(inbox: Path, results: Path) -> dict[str, Any]:
    return _run(*_score_arguments(inbox, results))


def _start(inbox: Path, results: Path) -> subprocess.Popen[bytes]:
    command = _command(*_score_arguments(inbox, results))
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=_HOME, stdout=quiet, stderr=quiet, start_new_session=True)


def _rows(inbox: Path, results: Path, kill_after: float | None) -> pd.DataFrame:
    if kill_after is not None:
        run = _start(inbox, results)
        time.sleep(kill_after)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    _score(inbox, results)
    rows = darkroom.read(results).drop(columns=OF_THE_RUN).sort_values("content_id", ignore_index=True)
    # Lists become tuples, which compare.
    return rows.map(lambda value: tuple(value) if isinstance(value, np.ndarray) else value)


def _contents(folder: Path) -> set[str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _matrix(column: pd.Series) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(row) for row in column])


def _flip_a_byte(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = next(folder.glob(pattern))
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    return change


def _swap_classes(folder: Path) -> None:
    file = folder / "bundle.json"
    statements = json.loads(file.read_text())
    file.write_text(json.dumps(statements | {"classes": statements["classes"][::-1]}))


def _turn_a_knob(folder: Path) -> None:
    file = folder / "preprocessing.json"
    stated = json.loads(file.read_text())
    stated["geometry"]["interpolation"] = "bicubic"
    file.write_text(json.dumps(stated))


_CHANGES: Mapping[str, Callable[[Path], None]] = {
    "golden": _flip_a_byte("goldens/*.jp*g"),
    "weight": _flip_a_byte("model.keras"),
    "class order": _swap_classes,
    "knob": _turn_a_knob,
}


def _draw_many(folder: Path, images: int) -> None:
    """640 × 480 JPEGs, each with noise of its own on a real photo."""
    from PIL import Image

    folder.mkdir()
    random_numbers = np.random.default_rng(images)
    real = [np.asarray(Image.open(path).convert("RGB").resize((640, 480))) for path in sorted(photos().iterdir())[:40]]
    for number in range(images):
        noise = random_numbers.integers(-8, 9, (480, 640, 1), dtype=np.int16)
        file = io.BytesIO()
        Image.fromarray(np.clip(real[number % len(real)] + noise, 0, 255).astype(np.uint8)).save(file, "JPEG")
        (folder / f"{number:05d}.jpg").write_bytes(file.getvalue())


def _peak(run: subprocess.Popen[bytes]) -> int:
    """The largest sum of proportional set sizes of the run's processes, in bytes, looked at ten times a second."""
    largest = 0
    done = threading.Event()
    threading.Thread(target=lambda: (run.wait(), done.set()), daemon=True).start()
    while not done.wait(0.1):
        largest = max(largest, sum(_pss(pid) for pid in _family(run.pid)))
    return largest


def _family(ancestor: int) -> set[int]:
    """A process and all its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    family = {ancestor}
    while found := {child for child, parent in parents.items() if parent in family} - family:
        family |= found
    return family


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
