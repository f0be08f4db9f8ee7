"""What `darkroom diagnose` names: mistakes of a real user's model, every variant, pairs, labels, and nothing at all.

Real photos and weights: DARKROOM_DATA. The trashnet bundle is trained once a process, with the recipe of the night.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.adopting import waste_bundle
from benchmarks.harness import Measured, Row
from benchmarks.night import data
from expectations.answers import Answers
from expectations.reproduction import Names, Reproduction, conclude, weigh
from flows.searching import search
from tasks.inference import Engine
from tasks.photos import Photos
from tasks.preprocessing import Preprocessing
from tasks.variants import NotShown, Replay, applied, catalogue

DRAWS, DRAWS_OF_PAIRS, PAIRS, UNRELATED, SEED = 50, 50, 40, 100, 0
SHOWN = 1e-3


@dataclass(frozen=True)
class Setting:
    """Photos, an engine and what every single variant says of them: answers (variants, n, k), the pinned one first."""

    replay: Replay
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    names: tuple[Names, ...]
    answers: NDArray[np.float32]


def mistakes() -> Mapping[str, Measured]:
    """The three files of a real user's model: all rows, then from any five photos."""
    engine, classes, pinned = _waste()
    folder = data() / "adopt" / "waste"
    truth = {
        "a": {"scaling=unit"},
        "b": {"channel_order=bgr"},
        "c": {"fit=squash", "interpolation=nearest"},
    }
    right, notes, figures = 0, [], {}
    for mistake, names in truth.items():
        paths, shares = _table(folder / f"predictions_mistake_{mistake}.csv")
        replay = Replay(engine, Photos(data(), paths), pinned)
        theirs = rounded(shares)
        found = search(replay, theirs, classes).found
        right += set(found.variants) == names
        notes.append(f"{mistake}: {', '.join(found.variants)} {found.best.share:.3f}")
        rng = np.random.default_rng(SEED)
        whole = partly = 0
        draws = DRAWS if mistake != "c" else DRAWS_OF_PAIRS
        trials = []
        for _ in range(draws):
            rows = np.sort(rng.permutation(len(paths))[:5])
            few = Replay(engine, Photos(data(), [paths[row] for row in rows]), pinned)
            said = search(few, theirs.rows(rows), classes).found
            named = [set(one) for one in (said.variants, *said.alike)]
            whole += set(said.variants) == names
            partly += any("interpolation=nearest" in one for one in named[:1])
            trials.append([said.level, list(said.variants), [list(one) for one in said.alike[:3]]])
        share = (partly if mistake == "c" else whole) / draws
        figures[f"mistake_{mistake}_five_photos"] = Measured(share, f"both named {whole / draws:.2f}", trials, [SEED])
    return {"mistakes_named_first": Measured(right, "; ".join(notes))} | figures


def variants() -> Mapping[str, Measured]:
    """Every variant that the files can show, from 50 and from 5 photos; labels only from 300."""
    setting = _trashnet(300)
    figures = {}
    for n, draws in ((50, 4), (5, 12)):
        figures[f"variants_named_{n}"] = _named(setting, n, draws)
    figures["labels_named_first"] = _labels(setting)
    return figures


def odd_files() -> Mapping[str, Measured]:
    """The same on odd files (palettes, alpha, 16 bits, EXIF, broken), where nearly all of the catalogue shows."""
    setting = _setting(_bundle(), data() / "images", _odd())
    found = _named(setting, len(setting.paths), 1)
    return {"odd_files_variants_named": found}


def pairs() -> Mapping[str, Measured]:
    """Random pairs of variants that both show, 50 photos: both named."""
    setting = _trashnet(50)
    replay, rng = setting.replay, np.random.default_rng(SEED)
    shown = {names[0] for names in _shown(setting, np.arange(50)) if names}
    known = [one for one in catalogue(replay.pinned) if one.stage != "model" and one.name in shown]
    alone = {names[0]: answer for names, answer in zip(setting.names[1:], setting.answers[1:], strict=True)}
    right, trials, seconds = 0, [], []
    while len(trials) < PAIRS:
        one, other = (known[place] for place in rng.choice(len(known), 2, replace=False))
        made = applied(replay.pinned, [one, other])
        if made is None:
            continue
        shares = replay.probabilities(made)
        if min(np.abs(shares - alone[each.name]).max() for each in (one, other)) < SHOWN:
            continue  # the second does not show beside the first
        started = time.perf_counter()
        found = search(replay, rounded(shares), setting.classes).found
        seconds.append(time.perf_counter() - started)
        good = {one.name, other.name} in [set(names) for names in (found.variants, *found.alike)]
        first = {one.name, other.name} == set(found.variants)
        right += good
        trials.append([one.name, other.name, found.level, list(found.variants), good, first])
    firsts = sum(bool(trial[-1]) for trial in trials)
    note = f"{firsts} first, the others alike; {np.median(seconds):.0f} s a search (median)"
    return {"pairs_both_named": Measured(right / len(trials), note, trials, [SEED])}


def unrelated() -> Mapping[str, Measured]:
    """Another model, noise, permuted rows of another model, and other temperatures of it: nothing may be named."""
    setting = _trashnet(50)
    rng = np.random.default_rng(SEED)
    other = _replayed(_other_bundle(), setting.paths)
    named, trials = 0, []
    for trial in range(UNRELATED):
        shares = _not_ours(trial, other, rng)
        theirs = rounded(shares) if trial % 2 else Answers("labels", None, shares.argmax(axis=1), None)
        found = search(setting.replay, theirs, setting.classes).found
        named += found.explained
        trials.append([trial % 4, theirs.kind, found.level, list(found.variants), found.best.share])
    return {"unrelated_false_names": Measured(named / UNRELATED, "every second as labels only", trials, [SEED])}


def speed() -> Mapping[str, Measured]:
    """All single variants on 50 photos with the 0.35 backbone, everything from the files' bytes; a pair's search."""
    setting = _trashnet(50)
    files = Photos(data() / "trashnet", setting.paths)
    replay = Replay(setting.replay.engine, files, setting.replay.pinned)
    names = [names for names in setting.names if names and names[0].startswith("scaling=unit")]
    shares = setting.answers[setting.names.index(names[0])]
    started = time.perf_counter()
    found = search(replay, rounded(shares), setting.classes)
    seconds = time.perf_counter() - started
    return {"single_variants_seconds": Measured(seconds, f"{found.singles} preparations, {found.found.variants}")}


def rounded(shares: NDArray[np.floating[Any]], digits: int = 6) -> Answers:
    """Probabilities as a CSV holds them."""
    written = np.asarray(shares, np.float64).round(digits)
    return Answers("probabilities", written, written.argmax(axis=1), None, 0.5 * 10.0**-digits)


def _named(setting: Setting, n: int, draws: int) -> Measured:
    """Share of variants that n photos can show and that are named first (or, noted, together with their likes)."""
    rng = np.random.default_rng(SEED)
    first = together = tried = 0
    missed = []
    for _ in range(draws):
        rows = rng.permutation(len(setting.paths))[:n]
        for names in _shown(setting, rows):
            answers = setting.answers[:, rows]
            own = answers[setting.names.index(names)]
            readable = np.isfinite(own).all(axis=1)
            found = _conclude(setting, rounded(own[readable]), answers[:, readable])
            tried += 1
            first += found.variants == names
            together += found.variants == names or names in found.alike
            if found.variants != names:
                missed.append([names, found.level, found.best.names, found.alike[:3]])
    note = f"{tried} trials; named first or alike {together / tried:.4f}"
    return Measured(first / tried, note, missed, [SEED])


def _labels(setting: Setting) -> Measured:
    """Labels only: variants that flip at least 5 % of the photos."""
    pinned = setting.answers[0].argmax(axis=1)
    first = together = tried = 0
    missed = []
    for names, answer in zip(setting.names[1:], setting.answers[1:], strict=True):
        labels = answer.argmax(axis=1)
        if (labels != pinned).mean() < 0.05:
            continue
        found = _conclude(setting, Answers("labels", None, labels, None), setting.answers)
        tried += 1
        first += found.variants == names
        together += found.variants == names or names in found.alike
        if found.variants != names:
            missed.append([names, found.level, found.best.names, found.alike[:3]])
    return Measured(first / tried, f"{tried} variants; first or alike {together / tried:.3f}", missed)


def _conclude(setting: Setting, theirs: Answers, answers: NDArray[np.float32]) -> Reproduction:
    return conclude(weigh(theirs, setting.names, answers), nearly=False)


def _shown(setting: Setting, rows: NDArray[np.intp]) -> list[Names]:
    """Variants that change one probability of these photos by SHOWN, or whether they can be read."""
    answers = setting.answers[:, rows]
    change = np.nan_to_num(np.abs(answers - answers[:1]), nan=1.0).max(axis=(1, 2))
    both = np.isnan(answers).any(axis=2) & np.isnan(answers[:1]).any(axis=2)
    visible = np.where(both, 0.0, np.nan_to_num(np.abs(answers - answers[:1]), nan=1.0).max(axis=2)).max(axis=1)
    return [names for names, far in zip(setting.names, np.minimum(change, visible), strict=True) if far >= SHOWN]


def _not_ours(trial: int, other: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
    n, k = other.shape
    if trial % 4 in (0, 1):  # the other model, surer or less sure than it is
        logits = np.log(other.astype(np.float64).clip(1e-9)) * rng.uniform(0.5, 1.5)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)
    if trial % 4 == 2:
        return rng.dirichlet(np.full(k, rng.uniform(0.1, 2)), n)
    return other[rng.permutation(n)].astype(np.float64)


@cache
def _bundle(seed: int = 0) -> Any:
    """A bundle of the trashnet photos on the 0.35 backbone."""
    from benchmarks.night import trashnet_recipe
    from darkroom.orchestrator import api
    from darkroom.settings import ExaminationOptions
    from flows.train import train
    from tasks.bundle import open_bundle

    place = TemporaryDirectory(prefix="darkroom-diagnose-")
    _kept.append(place)
    recipe = trashnet_recipe().model_copy(update={"seed": seed})
    options = ExaminationOptions(ladder_images=0, sensitivity_images=0, thumbnails=False)
    with api():
        sealed = train(
            folder=data() / "trashnet", models=Path(place.name), name="trashnet", recipe=recipe, examination=options
        )
    return open_bundle(Path(sealed.path))


_kept: list[TemporaryDirectory[str]] = []


def _other_bundle() -> Any:
    return _bundle(seed=7)


def _engine(bundle: Any) -> Engine:
    from tasks.inference import load_engine

    return load_engine(bundle.model_path, bundle.manifest.embedding_layer, input_shape=bundle.preprocessing.input_shape)


def _replayed(bundle: Any, paths: Sequence[str]) -> NDArray[np.float32]:
    replay = Replay(_engine(bundle), Photos(data() / "trashnet", paths), bundle.preprocessing)
    return replay.probabilities(bundle.preprocessing)


@cache
def _trashnet(n: int) -> Setting:
    """Held-out photos first: of others the model is certain."""
    bundle = _bundle()
    profile = bundle.profile()
    rng = np.random.default_rng(SEED)
    held = rng.permutation(profile[profile["split"] == "validation"]["path"].to_numpy())
    rest = rng.permutation(profile[profile["split"] == "train"]["path"].to_numpy())
    paths = tuple(str(path) for path in (*held, *rest)[:n])
    return _setting(bundle, data() / "trashnet", paths)


def _odd() -> tuple[str, ...]:
    folder = data() / "images"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size < 2_000_000]
    return tuple(path.relative_to(folder).as_posix() for path in files if path.suffix != ".csv")


def _setting(bundle: Any, folder: Path, paths: tuple[str, ...]) -> Setting:
    replay = Replay(_engine(bundle), Photos(folder, paths), bundle.preprocessing)
    names: list[Names] = [()]
    answers = [replay.probabilities(bundle.preprocessing)]
    for variant in catalogue(bundle.preprocessing):
        try:
            answered = replay.of([variant])
        except NotShown:
            continue
        if answered is not None:
            names.append((variant.name,))
            answers.append(answered)
    return Setting(replay, bundle.classes, paths, tuple(names), np.stack(answers))


@cache
def _waste() -> tuple[Engine, tuple[str, ...], Preprocessing]:
    """The user's own classifier, adopted."""
    from tasks.bundle import open_bundle

    bundle = open_bundle(Path(waste_bundle()["path"]))
    return _engine(bundle), bundle.classes, bundle.preprocessing


def _table(file: Path) -> tuple[list[str], NDArray[np.float64]]:
    import pandas as pd

    frame = pd.read_csv(file)
    return frame["path"].tolist(), frame.drop(columns="path").to_numpy(np.float64)


ROWS: Mapping[str, Row] = {
    "mistakes": mistakes,
    "variants": variants,
    "odd_files": odd_files,
    "pairs": pairs,
    "unrelated": unrelated,
    "speed": speed,
}
