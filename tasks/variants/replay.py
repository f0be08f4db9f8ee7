"""The replay of variants: some images under many preparations, each stage computed once and kept while it fits.

In this process, for files that somebody trusts enough to diagnose: limits of pixels and bytes hold, those of time and
memory only in tasks.workers.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any, Final, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from darkroom.progress import Progress
from tasks.decode import ImageRefused, Limits, decode, sniff
from tasks.geometry import to_resized
from tasks.inference import BATCH, Engine
from tasks.knobs import Decode, Geometry, Preprocessing, Values
from tasks.values import to_tensor
from tasks.variants.numerics import Forward, NotShown, copied, why_not_shown
from tasks.variants.variant import Variant, applied

__all__ = ["NotShown", "Replay"]

_MEMORY: Final = 256 * 1024**2
_ANSWERS: Final = 500_000  # rows of probabilities that are kept

Key = TypeVar("Key")
Array = NDArray[Any]
_Key = tuple[bytes, Values]  # of an image before the values knobs, and these


class Replay:
    """Images, a model and its pinned preparation; `memory` bytes of pixels, and as many of resized images, are kept.

    Equal tensors have equal probabilities: an image that a variant does not change is not computed again, so that its
    difference is exactly 0. A file that a decoder refuses has NaN.
    """

    def __init__(
        self,
        engine: Engine,
        images: Sequence[bytes],
        pinned: Preprocessing,
        limits: Limits | None = None,
        *,
        memory: int = _MEMORY,
        seed: int = 0,
    ) -> None:
        self.engine = engine
        self.pinned = pinned
        self._images = images
        self._limits = limits or Limits()
        self._seed = seed
        self._pixels: _Kept[tuple[Decode, int]] = _Kept(memory)
        self._resized: _Kept[tuple[Decode, Geometry, int]] = _Kept(memory)
        self._answers: dict[_Key, NDArray[np.float32]] = {}
        self._copies: dict[Variant, Forward] = {}

    def __len__(self) -> int:
        return len(self._images)

    def only(self, rows: Sequence[int]) -> Replay:
        """Some of the images, in the order of `rows`; what the model has answered is not computed again."""
        some = Replay(self.engine, _Some(self._images, self._checked(rows)), self.pinned, self._limits, seed=self._seed)
        some._answers = self._answers
        return some

    def probabilities(self, preprocessing: Preprocessing, rows: Sequence[int] | None = None) -> NDArray[np.float32]:
        """(len(rows), k) float32, in the order of `rows` (None: all); NaN where that decoder refuses the file."""
        found: NDArray[np.float32] = self.all_probabilities([preprocessing], rows)[0]
        return found

    def all_probabilities(
        self,
        preprocessings: Sequence[Preprocessing],
        rows: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """(preprocessings, rows, k) float32; a few dozen images at a time, under every preparation before the next, so
        that many images need no more memory than those.
        """
        rows = self._checked(rows)
        for preprocessing in preprocessings:
            self._fits(preprocessing)
        out = np.full((len(preprocessings), len(rows), self._classes), np.nan, np.float32)
        done, total = 0, len(preprocessings) * len(rows)
        asked = _Asked(self.engine, self._answers, out)
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            for place, preprocessing in enumerate(preprocessings):
                for column, row in enumerate(part, start=start):
                    resized = self._resize(preprocessing, row)
                    if resized is not None:
                        asked.add((place, column), resized, preprocessing.values)
                done += len(part)
                if progress is not None:
                    progress("replaying variants", done, total, "images")
        asked.answer()
        return out

    def tensors(self, preprocessing: Preprocessing, rows: Sequence[int] | None = None) -> NDArray[np.float32]:
        """(len(rows), height, width, 3) float32: what the model is given; NaN where that decoder refuses the file."""
        self._fits(preprocessing)
        found = [self._resize(preprocessing, row) for row in self._checked(rows)]
        out = np.full((len(found), *preprocessing.input_shape), np.nan, np.float32)
        for place, resized in enumerate(found):
            if resized is not None:
                out[place] = to_tensor(resized, preprocessing.values)
        return out

    def model_variant(
        self, variant: Variant, rows: Sequence[int] | None = None, preprocessing: Preprocessing | None = None
    ) -> NDArray[np.float32]:
        """(len(rows), k) float32 of a variant of stage model, on tensors as pinned or of another preparation.

        Raises: NotShown where this engine or model cannot show it.
        """
        rows = self._checked(rows)
        if variant not in self._copies:
            self._copies[variant] = copied(self.engine, variant, self._seed)
        tensors = self.tensors(preprocessing or self.pinned, rows)
        readable = ~np.isnan(tensors[:, 0, 0, 0])
        out = np.full((len(rows), self._classes), np.nan, np.float32)
        if readable.any():
            out[readable] = self._copies[variant](tensors[readable])
        return out

    def of(self, variants: Sequence[Variant], rows: Sequence[int] | None = None) -> NDArray[np.float32] | None:
        """(len(rows), k) float32 of one variant or two, of whichever stage; None where they cannot be combined.

        Raises: NotShown where this engine or model cannot show it.
        """
        preprocessing = applied(self.pinned, variants)
        if preprocessing is None:
            return None
        of_model = next((variant for variant in variants if variant.stage == "model"), None)
        if of_model is None:
            return self.probabilities(preprocessing, rows)
        return self.model_variant(of_model, rows, preprocessing)

    def not_shown(self, variant: Variant) -> str | None:
        """Why this engine or model cannot show a variant, or None; what files cannot show is in the numbers."""
        return why_not_shown(self.engine, variant)

    def forget(self) -> None:
        """Give back the memory of pixels and copies of the model."""
        self._pixels.clear()
        self._resized.clear()
        self._copies.clear()

    def _resize(self, preprocessing: Preprocessing, row: int) -> Array | None:
        """(h, w, 3) before the values knobs, or None where the decoder refuses the file."""

        def resize() -> Array | None:
            pixels = self._pixels.get((preprocessing.decode, row), lambda: self._decode(preprocessing.decode, row))
            return None if pixels is None else to_resized(pixels, preprocessing.geometry)

        return self._resized.get((preprocessing.decode, preprocessing.geometry, row), resize)

    def _decode(self, knobs: Decode, row: int) -> Array | None:
        data = self._images[row]
        try:
            with nullcontext() if sniff(data[:64]) == "JPEG" else _quiet():
                return decode(data, knobs, self._limits).pixels
        except ImageRefused:
            return None

    @cached_property
    def _classes(self) -> int:
        tensor = np.zeros((1, *self.engine.input_shape), np.float32)
        return int(self.engine.run(tensor).probabilities.shape[1])

    def _fits(self, preprocessing: Preprocessing) -> None:
        if preprocessing.input_shape != self.engine.input_shape:
            raise WrongUse(
                "The preparation makes another size than the model takes.",
                expected=f"(height, width, 3) = {self.engine.input_shape}",
                found=preprocessing.input_shape,
                todo="state the size of the model in width and height",
            )

    def _checked(self, rows: Sequence[int] | None) -> Sequence[int]:
        rows = range(len(self._images)) if rows is None else [int(row) for row in rows]
        outside = [row for row in rows if not 0 <= row < len(self._images)]
        if outside:
            raise WrongUse("no such image", expected=f"rows 0 … {len(self._images) - 1}", found=outside[:5])
        return rows


class _Asked:
    """Images that wait for the model, of whatever preparation: one at a time would take it several times as long."""

    def __init__(self, engine: Engine, answers: dict[_Key, NDArray[np.float32]], out: NDArray[np.float32]) -> None:
        self._engine, self._answers, self._out = engine, answers, out
        self._places: list[tuple[tuple[int, int], _Key]] = []
        self._unseen: dict[_Key, Array] = {}

    def add(self, place: tuple[int, int], resized: Array, values: Values) -> None:
        """One image, whose answer belongs at a place of `out`."""
        key = _digest(resized), values
        self._places.append((place, key))
        if key not in self._answers and key not in self._unseen:
            self._unseen[key] = to_tensor(resized, values)
            if len(self._unseen) == BATCH:
                self.answer()

    def answer(self) -> None:
        """Run the model on what waits, and put every answer in its place."""
        if self._unseen:
            tensors = np.stack(list(self._unseen.values()))
            self._answers.update(zip(self._unseen, self._engine.run(tensors).probabilities, strict=True))
        for place, key in self._places:
            self._out[place] = self._answers[key]
        self._places.clear()
        self._unseen.clear()
        if len(self._answers) > _ANSWERS:
            self._answers.clear()


class _Some(Sequence[bytes]):
    """Some of many files, read when they are asked for."""

    def __init__(self, files: Sequence[bytes], rows: Sequence[int]) -> None:
        self._files, self._rows = files, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[bytes]: ...
    def __getitem__(self, row: int | slice) -> bytes | Sequence[bytes]:
        return _Some(self._files, self._rows[row]) if isinstance(row, slice) else self._files[self._rows[row]]


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on standard error: libtiff and libpng write a line for every odd tag, and no flag stops them."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


class _Kept(Generic[Key]):
    """What was computed, while it fits: what was asked for longest ago goes first. None is kept, too."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._held: OrderedDict[Key, Array | None] = OrderedDict()

    def get(self, key: Key, compute: Callable[[], Array | None]) -> Array | None:
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        made = compute()
        self._held[key] = made
        self._bytes += 0 if made is None else made.nbytes
        while self._bytes > self._most and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            self._bytes -= 0 if oldest is None else oldest.nbytes
        return made

    def clear(self) -> None:
        self._held.clear()
        self._bytes = 0


def _digest(array: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16, person=array.dtype.str.encode()).digest()
