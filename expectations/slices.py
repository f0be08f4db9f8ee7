"""Whether one sub-folder or one camera differs where the night as a whole does not: sketches of slices, and the worst.

A slice may be a single session, one camera or one class, and each of these differs from training on every unchanged
night: it is held against how much sessions, cameras and classes differ in training, not against how much images do.
Memory is that of a bounded number of sketches, the largest slices'; the rest is counted, not compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from darkroom.names import as_detail
from darkroom.schemas import DRIFT, metric_in_words
from darkroom.summary import Finding, Severity
from expectations.budget import A_YEAR, FEWEST, Budget, share_of_slice
from expectations.drift import judge, statistic_name
from expectations.packed import pack, unpack
from expectations.reference import DriftReference
from expectations.sketch import Sketch

# Sketches kept while a night is added up, and slices compared in the end.
KEPT: Final = 64
COMPARED: Final = 20
# Slices that are told apart by name when those left out are counted; what is beyond is "or more".
COUNTED: Final = 1000
# A slice with more of the night is the night.
_NEARLY_ALL: Final = 0.9
_IMAGES: Final = 6
_NAME: Final = 120


@dataclass(frozen=True)
class Slice:
    """`folder=…` or `camera=…`, the sketch of its rows, and (content id, path) of a few, drawn by content id."""

    name: str
    sketch: Sketch
    images: tuple[tuple[str, str], ...]

    def merge(self, other: Slice) -> Slice:
        """Of the rows of both."""
        images = tuple(sorted({*self.images, *other.images}))[:_IMAGES]
        return Slice(self.name, self.sketch.merge(other.sketch), images)


@dataclass(frozen=True)
class Slices:
    """The largest slices of some rows. `marks` stand for the names of all slices, at most COUNTED: a slice that was too
    small to keep in several shards is one.
    """

    found: tuple[Slice, ...] = ()
    marks: frozenset[str] = frozenset()

    @property
    def left_out(self) -> int:
        """How many more were too small to keep; at least so many where there are COUNTED marks."""
        return len(self.marks) - len(self.found)

    @classmethod
    def of(cls, rows: pd.DataFrame, reference: DriftReference, whole: Sketch | None = None) -> Slices:
        """Of some rows of the predictions schema; `whole` is the sketch of all of them, where it was made already."""
        names = names_of(rows)
        sizes = pd.concat(list(names.values())).value_counts() if names else pd.Series(dtype=int)
        kept = _largest([(str(name), int(size)) for name, size in sizes.items()])
        found = []
        for column in names.values():
            for name in column[column.isin(kept)].unique():
                some = rows[(column == name).to_numpy()]
                few = sorted(zip(some["content_id"], some["path"], strict=True))[:_IMAGES]
                sketch = whole if len(some) == len(rows) else None
                sketch = sketch or reference.sketch(some.reset_index(drop=True))
                found.append(Slice(str(name), sketch, tuple(few)))
        return cls(tuple(found), _marks(str(name) for name in sizes.index))

    def merge(self, other: Slices) -> Slices:
        """Of the rows of both."""
        both = {one.name: one for one in self.found}
        for one in other.found:
            both[one.name] = both[one.name].merge(one) if one.name in both else one
        kept = _largest([(one.name, one.sketch.rows) for one in both.values()])
        found = tuple(both[name] for name in sorted(kept))
        return Slices(found, _fewest(self.marks | other.marks))

    def compared(self, images: int) -> list[Slice]:
        """Those that are large enough to be compared and are not the whole night of so many images; largest first."""
        fit = [one for one in self.found if FEWEST <= one.sketch.rows < _NEARLY_ALL * images]
        return sorted(fit, key=lambda one: (-one.sketch.rows, one.name))[:COMPARED]

    def to_bytes(self) -> bytes:
        """For the shard's part in staging."""
        told = {
            "names": [one.name for one in self.found],
            "images": [one.images for one in self.found],
            "rows": [one.sketch.rows for one in self.found],
            "marks": sorted(self.marks),
        }
        sketches = [one.sketch.arrays for one in self.found]
        names = sketches[0] if sketches else ()
        return pack(told, {name: np.stack([arrays[name] for arrays in sketches]) for name in names})

    @classmethod
    def from_bytes(cls, data: bytes) -> Slices:
        """The other way."""
        told, arrays = unpack(data)
        found = [
            Slice(
                name,
                Sketch(**{key: array[place] for key, array in arrays.items()}, rows=told["rows"][place]),
                tuple((content, path) for content, path in told["images"][place]),
            )
            for place, name in enumerate(told["names"])
        ]
        return cls(tuple(found), frozenset(told["marks"]))


NO_SLICES: Final = Slices()


@dataclass(frozen=True)
class SliceDrift:
    """`rows` of darkroom.schemas.DRIFT: of each compared slice what moved, or else its most extreme metric. `worst` is
    the slice that the findings name first, with (content id, path) of some of its images. `left_out`: how many are too
    small, or too many, to be compared; `or_more`: so many at least.
    """

    rows: pd.DataFrame
    findings: tuple[Finding, ...] = ()
    worst: str | None = None
    images: tuple[tuple[str, str], ...] = ()
    compared: int = 0
    left_out: int = 0
    or_more: bool = False


def names_of(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Kind → the slice of each row, missing where it is in none: its first sub-folder, its camera."""
    if rows.empty:
        return {}
    first = [path.partition("/")[0] if "/" in path else None for path in rows["path"]]
    folder = pd.Series(first, index=rows.index, dtype="object")
    kinds = {"folder": folder, "camera": rows["camera"]} if "camera" in rows else {"folder": folder}
    return {
        # What a camera writes of itself is anybody's text, and goes into logs and sentences.
        kind: (f"{kind}=" + column.astype("object").map(as_detail, na_action="ignore").str[:_NAME]).where(
            column.notna()
        )
        for kind, column in kinds.items()
        if column.notna().any()
    }


def slice_drift(
    reference: DriftReference,
    slices: Slices,
    images: int,
    budget: Budget = A_YEAR,
    *,
    told_already: Collection[tuple[str, str]] = (),
) -> SliceDrift:
    """Compare the slices of a night of so many images with training. A metric (family, name) that is an alarm of the
    whole night, `told_already`, is no finding of its slices.

    A bundle that knows no sessions does not know how much folders differ on unchanged nights: there a slice is a
    warning at most.
    """
    compared = slices.compared(images)
    whole = sum(one.sketch.rows >= _NEARLY_ALL * images for one in slices.found)
    counted = SliceDrift(
        pd.DataFrame(columns=DRIFT.names),
        compared=len(compared),
        left_out=len(slices.found) - whole - len(compared) + slices.left_out,
        or_more=len(slices.marks) == COUNTED,
    )
    if not compared:
        return counted
    sketches = [one.sketch for one in compared]
    counts, clipped, present = (
        np.stack([vars(one)[name] for one in sketches]) for name in ("counts", "clipped", "present")
    )
    judged = judge(reference, counts, clipped, present, one_session=True)
    share = share_of_slice(len(compared))
    corrected = judged.corrected(reference, share)
    warns = judged.warns(reference, budget, share)
    alarms = judged.alarms(reference, budget, share) & reference.knows_sessions
    rows, gravest = [], []
    for k, one in enumerate(compared):
        moved = np.flatnonzero(warns[k] | alarms[k])
        told = moved if len(moved) else [int(corrected[k].argmin())]
        for m in told:
            known, n = reference.metrics[m], int(present[k, m])
            numeric = known.metric.numeric
            verdict = "alarm" if alarms[k, m] else "warn" if warns[k, m] else "ok" if n >= FEWEST else "too_few"
            rows.append(
                {
                    "family": known.metric.family,
                    "metric": known.metric.name,
                    "slice": one.name,
                    "statistic_name": statistic_name(known, bool(judged.spread[k, m])),
                    "statistic": float(judged.statistic[k, m]),
                    "effect": float(judged.effect[k, m]),
                    "p_value": float(judged.p[k, m]),
                    "p_corrected": float(corrected[k, m]),
                    "n": n,
                    "n_reference": known.n,
                    "reference_value": known.mean if numeric else None,
                    "night_value": float(one.sketch.sums[m]) / max(n, 1) if numeric else None,
                    "verdict": verdict,
                }
            )
        moved = np.array([m for m in moved if _key(reference, int(m)) not in told_already], np.int64)
        if len(moved):
            most = int(moved[np.lexsort((-judged.effect[k, moved], corrected[k, moved], ~alarms[k, moved]))[0]])
            gravest.append((not alarms[k, most], float(corrected[k, most]), -float(judged.effect[k, most]), k, most))
    frame = pd.DataFrame(rows, columns=DRIFT.names).astype({"n": "int64", "n_reference": "int64"})
    if not gravest:
        return replace(counted, rows=frame)
    found = tuple(_finding(reference, compared[k], m, frame, alarm=not quiet) for quiet, _, _, k, m in sorted(gravest))
    worst = compared[sorted(gravest)[0][3]]
    return replace(counted, rows=frame, findings=found, worst=worst.name, images=worst.images)


def _key(reference: DriftReference, m: int) -> tuple[str, str]:
    metric = reference.metrics[m].metric
    return metric.family, metric.name


def _finding(reference: DriftReference, one: Slice, m: int, frame: pd.DataFrame, *, alarm: bool) -> Finding:
    metric = reference.metrics[m].metric
    moved = frame[(frame["slice"] == one.name) & frame["verdict"].isin(["alarm", "warn"])]
    row = moved[(moved["family"] == metric.family) & (moved["metric"] == metric.name)].iloc[0]
    kind, _, name = one.name.partition("=")
    others = len(moved) - 1
    more = f" (and {others} other measure{'s' if others > 1 else ''})" if others else ""
    what = metric_in_words(metric.family, metric.name)
    direction = f" from {row['reference_value']:.3g} to {row['night_value']:.3g}" if metric.numeric else ""
    shown = ", ".join(path for _, path in one.images)
    return Finding(
        severity=Severity.CRITICAL if alarm else Severity.WARNING,
        source="drift",
        what=f"In the {kind} {name} ({one.sketch.rows:,} images), {what} differs from training{direction}{more}.",
        evidence=f"effect {row['effect']:.2f}, corrected p {row['p_corrected']:.2g}; some of its images: {shown}",
    )


def _marks(names: Iterable[str]) -> frozenset[str]:
    return _fewest({hashlib.sha256(name.encode()).hexdigest()[:16] for name in names})


def _fewest(marks: Collection[str]) -> frozenset[str]:
    """The first COUNTED: whichever shards come first, the same ones stay."""
    return frozenset(sorted(marks)[:COUNTED])


def _largest(sizes: Sequence[tuple[str, int]]) -> set[str]:
    return {name for name, _ in sorted(sizes, key=lambda one: (-one[1], one[0]))[:KEPT]}
