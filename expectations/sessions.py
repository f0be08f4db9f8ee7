"""Which images were taken together, whether they look alike, and whether such sessions straddle the split."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from expectations.neighbourhood import nearest

_NEIGHBOURS: Final = 5
_SHUFFLES: Final = 499
_MOST_ROWS: Final = 20_000
# Sessions are named where so many more neighbours share one than chance explains, and chance does so 1 time in 100.
_LEAST_EXCESS: Final = 0.05
_P: Final = 0.01
# More sessions an image than this are names, not sessions.
_MOST_SESSIONS: Final = 0.7
# Where so many pairs of a class share a session, it is a kind of image and no session.
_MOST_SHARED: Final = 0.5
# A straddling session in a hundred validation images is no leak worth a sentence.
_LEAST_STRADDLING: Final = 0.05
# Pauses that part sessions, seconds: between a minute (a burst) and a day.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 60.0, 86_400.0

SUB_FOLDER: Final = "sub-folder"
CAPTURE_TIME: Final = "capture time"
NAME_PREFIX: Final = "file-name prefix"


@dataclass(frozen=True)
class SessionEvidence:
    """One way to tell sessions apart, and what speaks for it. Counts are images unless named otherwise.

    `together`: of the nearest neighbours within the class, the share that is of the same session, in the `view` where
    that is clearest; `by_chance`: that share after sessions were dealt anew within each class; `p` of the difference,
    corrected for the number of views.
    """

    grouping: str
    view: str
    sessions: int
    straddling_sessions: int
    validation: int
    straddling_validation: int
    together: float
    by_chance: float
    p: float

    @property
    def alike(self) -> bool:
        """Whether images of one such session really look alike."""
        return self.p <= _P and self.together - self.by_chance >= _LEAST_EXCESS

    @property
    def leaks(self) -> bool:
        """Whether sessions that look alike are on both sides of the split."""
        return self.alike and self.straddling_validation >= max(1.0, _LEAST_STRADDLING * self.validation)

    @property
    def command(self) -> str:
        """What to add to `darkroom train`."""
        return "--group-by sub-folder" if self.grouping == SUB_FOLDER else "--group-by column --groups groups.csv"

    def sentence(self) -> str:
        """The evidence, and what mends it."""
        if not self.leaks:
            return (
                f"Sessions by {self.grouping}: {self.sessions:,}, {self.straddling_sessions:,} of them on both sides "
                "of the split, but their images are not alike, or too few: no leak."
            )
        return (
            f"Session leak, by {self.grouping}: {self.straddling_validation:,} of {self.validation:,} validation "
            f"images have sisters among the training images. By {self.view}, {self.together:.0%} of nearest neighbours "
            f"are of one session, where chance gives {self.by_chance:.0%} (p {self.p:.2g}). "
            f"Train again with {self.command}."
        )


def candidate_sessions(profile: pd.DataFrame) -> Mapping[str, NDArray[Any]]:
    """Ways to tell sessions apart that this data offers: name → a session (n,) for each row of the profile.

    The first folder below the class; pauses between captures of one camera; the file's name without its last number.
    Left out: what parts nothing, what parts everything, and what only says the class or the groups that were used.
    """
    found = {
        SUB_FOLDER: _sub_folders(profile["path"]),
        CAPTURE_TIME: _capture_sessions(profile["camera"], profile["captured_at"]),
        NAME_PREFIX: _prefixes(profile["path"]),
    }
    used = profile["group"].to_numpy(str)
    labels = profile["label"].to_numpy(str)
    kept: dict[str, NDArray[Any]] = {}
    for name, sessions in found.items():
        if sessions is None or not _tells(sessions, labels) or _finer(sessions, used):
            continue
        if not any(_finer(sessions, other) and _finer(other, sessions) for other in kept.values()):
            kept[name] = sessions
    return kept


def joined(*partitions: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) a number for each row, shared by rows that any of the partitions (n,) puts together, directly or by
    others.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(partitions[0])
    edges = [np.unique(one, return_index=True, return_inverse=True)[1:] for one in partitions]
    head = np.concatenate([first[inverse] for first, inverse in edges])
    tail = np.tile(np.arange(n), len(partitions))
    return np.asarray(connected_components(coo_array((np.ones(len(head)), (head, tail)), (n, n)), directed=False)[1])


def examine_sessions(
    name: str,
    sessions: NDArray[Any],
    split: NDArray[Any],
    labels: NDArray[Any],
    views: Mapping[str, NDArray[np.float32]],
    photo: NDArray[np.int64],
    *,
    seed: int = 0,
) -> SessionEvidence:
    """Hold sessions (n,) against the split (n,) and against what the images look like.

    `views`: name → numbers (n, e) by which images are near each other, such as the embedding and the image properties:
    a good network forgets what a session looks like before its last layers. `photo` (n,) is one number for all copies
    of one photo: they say nothing of sessions, and are looked at once.
    """
    _, session = np.unique(sessions, return_inverse=True)
    held = split == "validation"
    both = np.intersect1d(session[held], session[~held])
    once = np.unique(photo, return_index=True)[1]
    if len(once) > _MOST_ROWS:
        once = np.sort(np.random.default_rng(seed).choice(once, _MOST_ROWS, replace=False))
    found = {view: _togetherness(session[once], labels[once], rows[once], seed) for view, rows in views.items()}
    view = max(found, key=lambda one: found[one][0] - found[one][1])
    together, chance, p = found[view]
    return SessionEvidence(
        grouping=name,
        view=view,
        sessions=int(session.max(initial=-1)) + 1,
        straddling_sessions=len(both),
        validation=int(held.sum()),
        straddling_validation=int(np.isin(session[held], both).sum()),
        together=together,
        by_chance=chance,
        p=min(1.0, len(found) * p),
    )


def _togetherness(
    session: NDArray[np.int64], labels: NDArray[Any], rows: NDArray[np.float32], seed: int
) -> tuple[float, float, float]:
    """Share of nearest neighbours in one session, the same after shuffling within classes, and p."""
    rng = np.random.default_rng(seed)
    hits, shuffled, neighbours = 0, np.zeros(_SHUFFLES), 0
    for label in np.unique(labels):
        inside = np.flatnonzero(labels == label)
        around = nearest(rows[inside], _NEIGHBOURS)
        own = session[inside]
        hits += int((own[around] == own[:, None]).sum())
        for shuffle in range(_SHUFFLES):
            dealt = rng.permutation(own)
            shuffled[shuffle] += (dealt[around] == dealt[:, None]).sum()
        neighbours += around.size
    if not neighbours:
        return 0.0, 0.0, 1.0
    p = (1 + int((shuffled >= hits).sum())) / (1 + _SHUFFLES)
    return hits / neighbours, float(shuffled.mean() / neighbours), p


def _sub_folders(paths: pd.Series) -> NDArray[Any] | None:
    parts = [path.split("/") for path in paths]
    if not any(len(part) > 2 for part in parts):
        return None
    return np.array([part[1] if len(part) > 2 else path for part, path in zip(parts, paths, strict=True)])


def _prefixes(paths: pd.Series) -> NDArray[Any]:
    names = [path.rsplit("/", 1)[-1].rsplit(".", 1)[0] for path in paths]
    return np.array([re.sub(r"[\W_]*\d+\D*$", "", name) or name for name in names])


def _capture_sessions(cameras: pd.Series, captured: pd.Series) -> NDArray[Any] | None:
    """A camera's captures, parted at long pauses; a row without a time is alone."""
    times = pd.to_datetime(captured, errors="coerce", utc=True)
    if times.notna().mean() < 0.5:
        return None
    seconds = times.to_numpy("datetime64[ns]").astype(np.int64) / 1e9
    named = cameras.fillna("").astype(str).to_numpy()
    by_camera: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(times.notna().to_numpy()).tolist():
        by_camera[named[row]].append(row)
    ordered = {camera: sorted(rows, key=lambda row: seconds[row]) for camera, rows in by_camera.items()}
    pauses = np.concatenate([np.diff(seconds[rows]) for rows in ordered.values()] or [np.zeros(0)])
    longest = _parting(pauses)
    sessions = np.array([f"image {row}" for row in range(len(captured))], dtype=object)
    for camera, rows in ordered.items():
        number = np.concatenate([[0], np.cumsum(np.diff(seconds[rows]) > longest)])
        sessions[rows] = [f"{camera} {one}" for one in number]
    return sessions.astype(str)


def _parting(pauses: NDArray[np.float64]) -> float:
    """The pause, seconds, that best parts short ones from long ones in their logarithm (Otsu, 1979)."""
    logs = np.sort(np.log(np.maximum(pauses, 1e-3)))
    if len(logs) < 2:
        return _LONGEST_PAUSE
    n = np.arange(1, len(logs))
    below = np.cumsum(logs)[:-1]
    apart = n * (len(logs) - n) * (below / n - (logs.sum() - below) / (len(logs) - n)) ** 2
    cut = int(apart.argmax())
    return float(np.clip(np.exp((logs[cut] + logs[cut + 1]) / 2), _SHORTEST_PAUSE, _LONGEST_PAUSE))


def _tells(sessions: NDArray[Any], labels: NDArray[Any]) -> bool:
    """Whether sessions part the images of a class into more than a few parts, and hold more than one image."""
    names, session = np.unique(sessions, return_inverse=True)
    if not 1 < len(names) <= _MOST_SESSIONS * len(sessions):
        return False
    return sum(_shared(session[labels == one]) for one in np.unique(labels)) <= (
        _MOST_SHARED * sum(_pairs(int((labels == one).sum())) for one in np.unique(labels))
    )


def _shared(session: NDArray[np.int64]) -> float:
    """Pairs of images that are of one session."""
    return float(sum(_pairs(size) for size in np.bincount(session).tolist()))


def _pairs(n: int) -> float:
    return n * (n - 1) / 2


def _finer(sessions: NDArray[Any], used: NDArray[Any]) -> bool:
    """Whether each session lies inside one of the groups that were used: then nothing of it straddles."""
    pairs = set(zip(sessions.tolist(), used.tolist(), strict=True))
    return len(pairs) == len(np.unique(sessions))
