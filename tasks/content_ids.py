"""Content ids by the million: 32 bytes each instead of a text of 64 characters, and which of them are among others."""

from __future__ import annotations

import binascii
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkroom.errors import StorageError

BYTES = 32
_TEXT = 2 * BYTES
_ROWS_A_CHUNK = 262_144
Digests = NDArray[np.uint8]


def packed(content_ids: pa.Array | pa.ChunkedArray) -> Digests:
    """Texts, none of them null, as (n, 32) bytes. Raises StorageError where one is not a sha256 in hex."""
    chunks = content_ids.chunks if isinstance(content_ids, pa.ChunkedArray) else [content_ids]
    return np.concatenate([np.empty((0, BYTES), np.uint8), *map(_packed, chunks)])


def as_texts(digests: Digests, known: NDArray[np.bool_]) -> pa.ChunkedArray:
    """The other way; null where a content is not known."""
    chunks = []
    for start in range(0, len(digests), _ROWS_A_CHUNK):
        rows = slice(start, start + _ROWS_A_CHUNK)
        text = binascii.hexlify(digests[rows].data)
        offsets = np.arange(0, len(text) + 1, _TEXT, dtype=np.int32)
        missing = pa.array(known[rows])
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text)]
        texts = pa.Array.from_buffers(pa.string(), len(missing), buffers)
        chunks.append(texts if known[rows].all() else pc.if_else(missing, texts, None))
    return pa.chunked_array(chunks, pa.string())


class Sought:
    """Contents that are looked for among others, of which as many may come as there are."""

    def __init__(self, digests: Digests) -> None:
        self._words = digests.view(np.uint64)
        self._order = np.argsort(self._words[:, 0])
        another = _others_than_before(self._words[self._order, 0])
        if not another.all():  # contents that are looked for twice, or that only begin alike
            self._order = np.lexsort(self._words.T[::-1])
            another = np.logical_or.reduce([_others_than_before(column[self._order]) for column in self._words.T])
        self._kinds = self._order[another]
        self._kind = np.cumsum(another, dtype=np.int32) - 1
        self._first = self._words[self._kinds, 0]
        self._met = np.zeros(len(self._kinds), np.bool_)

    def meet(self, others: Digests) -> None:
        """Remember which of those that are looked for are among these."""
        words = others.view(np.uint64)
        place = np.searchsorted(self._first, words[:, 0])
        # Contents that begin with the same eight bytes are neighbours, and told apart by all of their bytes.
        while len(place):
            near = place < len(self._first)
            near[near] = self._first[place[near]] == words[near, 0]
            words, place = words[near], place[near]
            self._met[place[(self._words[self._kinds[place]] == words).all(axis=1)]] = True
            place = place + 1

    def met(self) -> NDArray[np.bool_]:
        """For each content that is looked for, whether it was met; (n,), in the order given."""
        found = np.empty(len(self._order), np.bool_)
        found[self._order] = self._met[self._kind]
        return found


def _others_than_before(ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.concatenate([np.ones(len(ordered[:1]), np.bool_), ordered[1:] != ordered[:-1]])


def _packed(texts: Any) -> Digests:
    if not len(texts):
        return np.empty((0, BYTES), np.uint8)
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    try:
        if texts.null_count or (np.diff(ends) != _TEXT).any():
            raise ValueError("one of another length")
        digests = binascii.unhexlify(memoryview(data)[ends[0] : ends[-1]])
    except ValueError as error:
        raise StorageError(
            f"These are not the ids of contents: {error}.",
            expected="64 hexadecimal digits each",
            todo="restore the results from a backup: ids are written by darkroom alone",
        ) from error
    return np.frombuffer(digests, np.uint8).reshape(-1, BYTES)
