"""Knows what is kept of a golden: its bytes, digests of its pixels and its tensor, and the model's probabilities."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.preprocessing import array_digest

# An 8 × 8 grid of sampled points beside each digest: a digest says that something differs, the points by how much.
_GRID = 8


@dataclass(frozen=True)
class Golden:
    """A training image chosen to be sealed: a file name, the bytes of the file, and why it was chosen."""

    name: str
    image: bytes
    why: str


@dataclass(frozen=True)
class Fingerprint:
    """An image array (h, w, 3) by its digest, and enough of it to say by how much another one differs."""

    sha256: str
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    sample: tuple[float, ...]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Fingerprint:
        """Of an array (h, w, 3)."""
        return cls(
            sha256=array_digest(array),
            shape=tuple(array.shape),
            mean=tuple(float(mean) for mean in array.mean(axis=(0, 1), dtype=np.float64)),
            sample=tuple(float(value) for value in _sampled(array)),
        )

    def difference(self, other: Fingerprint) -> str:
        """By how much the other one differs, for a person."""
        if self.shape != other.shape:
            return f"{other.size} instead of {self.size}"
        gaps = np.abs(np.subtract(self.sample, other.sample)).reshape(-1, self.shape[-1]).max(axis=1)
        means = f"mean {_triple(self.mean)} → {_triple(other.mean)}"
        if not gaps.any():
            return f"a difference in few places: none of {len(gaps)} sampled points has it; {means}"
        span = max(max(self.sample), max(other.sample)) - min(min(self.sample), min(other.sample))
        how_many = f"{int((gaps > 0).sum())} of {len(gaps)} sampled points differ"
        return f"{how_many}, by up to {gaps.max():.4g} where values span {span:.4g}; {means}"

    @property
    def size(self) -> str:
        """For a person: height×width×channels."""
        return "×".join(map(str, self.shape))


@dataclass(frozen=True)
class SealedGolden:
    """A golden as it lies in a bundle."""

    name: str
    why: str
    image: bytes
    pixels: Fingerprint
    tensor: Fingerprint
    probabilities: NDArray[np.float32]  # (classes,), in the bundle's order


_FINGERPRINT = (
    ("sha256", pa.string()),
    ("shape", pa.list_(pa.int32())),
    ("mean", pa.list_(pa.float64())),
    ("sample", pa.list_(pa.float64())),
)
RECORD = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("why", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        *(
            pa.field(f"{stage}_{part}", kind, nullable=False)
            for stage in ("pixels", "tensor")
            for part, kind in _FINGERPRINT
        ),
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),
    ],
    metadata={b"darkroom_goldens_schema": b"1"},
)


def to_parquet(goldens: Sequence[SealedGolden]) -> bytes:
    """What goldens.parquet holds; the images themselves lie beside it."""
    rows = [
        {
            "name": golden.name,
            "why": golden.why,
            "content_id": hashlib.sha256(golden.image).hexdigest(),
            **_columns("pixels", golden.pixels),
            **_columns("tensor", golden.tensor),
            "probabilities": golden.probabilities.tolist(),
        }
        for golden in goldens
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=RECORD), sink)
    return sink.getvalue()


def from_parquet(record: bytes, images: Mapping[str, bytes]) -> list[SealedGolden]:
    """The goldens of a record; `images` gives the bytes of each by its name."""
    return [
        SealedGolden(
            name=row["name"],
            why=row["why"],
            image=images[row["name"]],
            pixels=_fingerprint("pixels", row),
            tensor=_fingerprint("tensor", row),
            probabilities=np.asarray(row["probabilities"], dtype=np.float32),
        )
        for row in pq.read_table(io.BytesIO(record)).to_pylist()
    ]


def _columns(stage: str, fingerprint: Fingerprint) -> dict[str, Any]:
    return {f"{stage}_{part}": getattr(fingerprint, part) for part, _ in _FINGERPRINT}


def _fingerprint(stage: str, row: Mapping[str, Any]) -> Fingerprint:
    return Fingerprint(
        sha256=row[f"{stage}_sha256"],
        shape=tuple(row[f"{stage}_shape"]),
        mean=tuple(row[f"{stage}_mean"]),
        sample=tuple(row[f"{stage}_sample"]),
    )


def _sampled(array: NDArray[Any]) -> NDArray[Any]:
    rows, columns = (np.linspace(0, length - 1, _GRID).round().astype(int) for length in array.shape[:2])
    points: NDArray[Any] = array[np.ix_(rows, columns)].ravel()
    return points


def _triple(values: Sequence[float]) -> str:
    return "/".join(f"{value:.4g}" for value in values)
