"""A file in an object store as pyarrow reads it: what it asks for, and no more."""

from __future__ import annotations

import io
from typing import Any


class RangedFile(io.RawIOBase):
    """Reads by ranges; every failure is an OSError, which readers of files expect.

    An object that is replaced meanwhile is such a failure: no reader sees the half of one and the half of another.
    """

    def __init__(self, store: Any, key: str) -> None:
        self._store, self._key = store, key
        self._position = 0
        found = _told(lambda client: client.head(store, key))
        self._size = int(found["size"])
        self._same: dict[str, Any] = {"if_match": found["e_tag"]} if found.get("e_tag") else {}

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Asks for nothing."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """One get of exactly these bytes."""
        left = max(0, self._size - self._position)
        length = left if size is None or size < 0 else min(size, left)
        if not length:
            return b""
        options = {"range": (self._position, self._position + length), **self._same}
        data = bytes(_told(lambda client: client.get(self._store, self._key, options=options).bytes()))
        self._position += len(data)
        return data


def _told(ask: Any) -> Any:
    import obstore
    from obstore.exceptions import BaseError

    try:
        return ask(obstore)
    except BaseError as error:
        raise OSError(str(error).split("\n")[0]) from error
