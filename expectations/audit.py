"""Whether a validation accuracy is true: copies, sessions, labels, shortcuts; and the accuracy told again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter

from expectations.labels import LabelSuspects, suspect_labels
from expectations.leakage import Bar, Duplicates, find_duplicates, one_photo
from expectations.linear_head import foldable
from expectations.neighbourhood import compact
from expectations.restated import FEWEST_SESSIONS, Restated, refit_by_session, restate
from expectations.sessions import SessionEvidence, candidate_sessions, examine_sessions, joined
from expectations.shortcuts import Shortcuts, find_shortcuts, property_numbers

# What is kept by name; counts are of all.
MOST_PAIRS: Final = 300
MOST_SUSPECTS: Final = 200


@dataclass(frozen=True)
class Photo:
    """An image of the profile."""

    path: str
    content_id: str
    split: str
    label: str


@dataclass(frozen=True)
class CopyPair:
    """One photo twice; correlation of the aligned grey pictures, cosine of the embeddings."""

    first: Photo
    second: Photo
    correlation: float
    cosine: float

    @property
    def across(self) -> bool:
        """Whether the split is between them."""
        return self.first.split != self.second.split

    @property
    def contradictory(self) -> bool:
        """Whether one photo has two labels: one of them is wrong."""
        return self.first.label != self.second.label

    def sentence(self) -> str:
        """For a person."""
        where = "on both sides of the split" if self.across else f"both in {self.first.split}"
        labels = f"; labelled {self.first.label} and {self.second.label}: one is wrong" if self.contradictory else ""
        return f"{where}{labels}; correlation {self.correlation:.3f}, cosine {self.cosine:.2f}"


@dataclass(frozen=True)
class LabelSuspect:
    """An image whose label is to be looked at: the label's out-of-sample probability, and the likeliest other class."""

    photo: Photo
    probability: float
    instead: str

    def sentence(self) -> str:
        """For a person."""
        return f"{self.instead}? {self.photo.label} has a probability of {self.probability:.1%}"


@dataclass(frozen=True)
class Audit:
    """What an audit of a training found. `copies` and `suspects` hold the surest; the counts are of all.

    `leaked`: validation images that are copies of training images. `refitted` is an estimate, only made where sessions
    leak and too few images are left without them.
    """

    classes: tuple[str, ...]
    images: dict[str, int]
    stated: Restated
    without_copies: Restated | None
    without_sessions: Restated | None
    refitted: Restated | None
    without_suspects: Restated | None
    copies: tuple[CopyPair, ...]
    copy_pairs: dict[str, int]
    leaked: int
    bar: Bar
    sessions: tuple[SessionEvidence, ...]
    suspects: tuple[LabelSuspect, ...]
    suspect_labels: dict[str, int]
    shortcuts: Shortcuts
    seed: int

    @property
    def session_leak(self) -> SessionEvidence | None:
        """The clearest session leak, if there is one."""
        leaks = [one for one in self.sessions if one.leaks]
        return max(leaks, key=lambda one: one.together - one.by_chance, default=None)

    @property
    def restated(self) -> Restated:
        """The accuracy to believe."""
        return self.without_sessions or self.refitted or self.without_copies or self.stated

    @property
    def flattered(self) -> bool:
        """Whether the restated accuracy lies below the stated one's interval."""
        return self.restated.accuracy < self.stated.low

    @property
    def honest(self) -> bool:
        """Whether nothing says that the stated accuracy flatters."""
        return not self.flattered and self.session_leak is None

    @property
    def verdict(self) -> str:
        """`stands`, `flattered` (restated below the stated interval), or `in doubt` (a session leak is named)."""
        if self.honest:
            return "stands"
        return "flattered" if self.flattered else "in doubt"

    def sentence(self) -> str:
        """The audit in one sentence or two."""
        leak, told = self.session_leak, self.restated
        reasons = []
        if self.leaked:
            reasons.append(
                f"{self.leaked:,} of {self.stated.n:,} validation images {_are(self.leaked, 'a copy', 'copies')} of "
                "training images"
            )
        if leak is not None:
            reasons.append(f"sessions (by {leak.grouping}) are on both sides of the split; {leak.command}")
        if not reasons:
            return (
                f"Your {self.stated.accuracy:.2f} stands ({self.stated.low:.2f} – {self.stated.high:.2f}): neither "
                "copies nor sessions that look alike were found on both sides of the split."
            )
        is_now = "is in doubt, and told again" if self.verdict == "in doubt" else "is"
        became = f"Your {self.stated.accuracy:.2f} {is_now} {told.accuracy:.2f} ± {(told.high - told.low) / 2:.2f}"
        return f"{became}: {'; '.join(reasons)}." + (f" The figure is {told.how}." if told is self.refitted else "")

    def findings(self) -> tuple[str, ...]:
        """All that was found, a sentence each."""
        across, inside = self.copy_pairs["across"], self.copy_pairs["inside"]
        told = [
            f"Copies: {across:,} pairs across the split, {inside:,} inside one side of it."
            if across + inside
            else "Copies: none was found."
        ]
        if self.copy_pairs["contradictory"]:
            told.append(
                f"One photo, two labels: {self.copy_pairs['contradictory']:,} pairs of copies are labelled differently."
            )
        told += [one.sentence() for one in self.sessions]
        if not self.sessions:
            told.append("Sessions: folders, capture times and names tell of none beyond the groups that were used.")
        total = sum(self.suspect_labels.values())
        suspects = f"Labels: {total:,} of {sum(self.images.values()):,} are worth a look"
        if self.without_suspects is not None and self.suspect_labels.get("validation"):
            suspects += (
                f"; without those among the validation images the accuracy would be {self.without_suspects}, at best: "
                "hard images are suspect too"
            )
        return (*told, f"{suspects}.", self.shortcuts.sentence())

    def to_json(self) -> str:
        """For the bundle."""
        return _ADAPTER.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Audit:
        """The other way."""
        return _ADAPTER.validate_json(text)


_ADAPTER: Final = TypeAdapter(Audit)


def audit_validation(
    profile: pd.DataFrame,
    features: NDArray[np.floating[Any]],
    hashes: NDArray[np.uint64],
    pictures: NDArray[np.uint8],
    classes: Sequence[str],
    *,
    seed: int = 0,
) -> Audit:
    """Audit a split, from n rows alike: profile (darkroom.schemas.PROFILE), features or embeddings (n, e), hashes
    (n,) and grey pictures (n, s, s) of the resized images; `classes` is the order of the probabilities.

    Features of a frozen backbone, before any layer that the labels have trained, say more of labels and sessions than
    the embedding. Memory grows with n, not with its square; 1,000 images take seconds.
    """
    names = tuple(classes)
    labels = np.array([names.index(label) for label in profile["label"]])
    split = profile["split"].to_numpy(str)
    held = split == "validation"
    right = (profile["predicted_class"] == profile["label"]).to_numpy()
    used = profile["group"].to_numpy(str)
    duplicates = find_duplicates(hashes, pictures, features, labels, seed=seed)
    photo = one_photo(duplicates, len(profile))
    leaked = held & np.isin(photo, photo[~held])
    views = {
        "embedding": compact(features),
        "image properties": compact(property_numbers(profile)),
        "small pictures": compact(pictures.reshape(len(pictures), -1)),
    }
    candidates = candidate_sessions(profile)
    evidence = {
        name: examine_sessions(name, sessions, split, labels, views, photo, seed=seed)
        for name, sessions in candidates.items()
    }
    leaks = [candidates[name] for name, one in evidence.items() if one.leaks]
    apart = joined(used, *leaks)
    together = _for_folds(labels, photo, used, *leaks)
    suspects = suspect_labels(views["embedding"], labels, together, len(names), seed=seed)
    stated = restate(right[held], used[held], np.ones(int(held.sum()), np.bool_), "as the training stated it")
    assert stated is not None  # a split has validation images
    without_sessions, refitted = None, None
    if leaks:
        without_sessions = _without_sessions(right, apart, held, leaked)
        if without_sessions is None:
            refitted = refit_by_session(views["embedding"], labels, apart, held, ~leaked, right, len(names), seed=seed)
    return Audit(
        classes=names,
        images={side: int((split == side).sum()) for side in ("train", "validation")},
        stated=stated,
        without_copies=restate(right[held], used[held], ~leaked[held], "without copies of training images"),
        without_sessions=without_sessions,
        refitted=refitted,
        without_suspects=restate(
            right[held],
            used[held],
            ~(leaked | suspects.suspect)[held],
            "without copies of training images and without images whose label is suspect",
        ),
        copies=_copies(duplicates, profile),
        copy_pairs=_count_pairs(duplicates, split, labels),
        leaked=int(leaked.sum()),
        bar=duplicates.bar,
        sessions=tuple(evidence.values()),
        suspects=_suspects(suspects, profile, names),
        suspect_labels={side: int(suspects.suspect[split == side].sum()) for side in ("train", "validation")},
        shortcuts=find_shortcuts(profile, labels, names, together, seed=seed),
        seed=seed,
    )


def mending_groups(found: Audit, profile: pd.DataFrame) -> NDArray[np.int64]:
    """(n,) groups that no leak named in the audit would straddle: those that were used, joined with its sessions."""
    candidates = candidate_sessions(profile)
    leaks = [candidates[one.grouping] for one in found.sessions if one.leaks and one.grouping in candidates]
    return joined(profile["group"].to_numpy(str), *leaks)


def _for_folds(labels: NDArray[np.int64], photo: NDArray[np.int64], *partitions: NDArray[Any]) -> NDArray[np.int64]:
    """What must not be parted where images are predicted by a head that has not seen them: copies, and of the groups
    and sessions as many as leave every class something to learn from.
    """
    kept = photo
    for one in partitions:
        wider = joined(kept, one)
        if foldable(wider, labels):
            kept = wider
    return kept


def _without_sessions(
    right: NDArray[np.bool_], sessions: NDArray[np.int64], held: NDArray[np.bool_], leaked: NDArray[np.bool_]
) -> Restated | None:
    kept = held & ~leaked & ~np.isin(sessions, sessions[~held])
    if len(np.unique(sessions[kept])) < FEWEST_SESSIONS:
        return None
    return restate(right[held], sessions[held], kept[held], "without images of sessions that were trained on")


def _copies(duplicates: Duplicates, profile: pd.DataFrame) -> tuple[CopyPair, ...]:
    """Those across the split first, then the surest."""
    split = profile["split"].to_numpy(str)
    inside = split[duplicates.pairs[:, 0]] == split[duplicates.pairs[:, 1]]
    order = np.argsort(inside, kind="stable")[:MOST_PAIRS]
    return tuple(
        CopyPair(
            _photo(profile, int(duplicates.pairs[at, 0])),
            _photo(profile, int(duplicates.pairs[at, 1])),
            float(duplicates.correlation[at]),
            float(duplicates.cosine[at]),
        )
        for at in order
    )


def _count_pairs(duplicates: Duplicates, split: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, int]:
    first, second = duplicates.pairs.T
    return {
        "across": int((split[first] != split[second]).sum()),
        "inside": int((split[first] == split[second]).sum()),
        "contradictory": int((labels[first] != labels[second]).sum()),
    }


def _suspects(found: LabelSuspects, profile: pd.DataFrame, classes: tuple[str, ...]) -> tuple[LabelSuspect, ...]:
    kept = [row for row in found.order.tolist() if found.suspect[row]][:MOST_SUSPECTS]
    return tuple(
        LabelSuspect(_photo(profile, row), float(found.probability[row]), classes[found.instead[row]]) for row in kept
    )


def _photo(profile: pd.DataFrame, row: int) -> Photo:
    one = profile.iloc[row]
    return Photo(str(one["path"]), str(one["content_id"]), str(one["split"]), str(one["label"]))


def _are(n: int, one: str, many: str) -> str:
    return f"is {one}" if n == 1 else f"are {many}"
