"""A file in an object store as pyarrow reads it: what it asks for, and no more."""

from __future__ import annotations

import io
from typing import Any


class RangedFile(io.RawIOBase):
    """Reads by ranges; every failure is an OSError, which readers of files expect."""

    def __init__(self, store: Any, key: str) -> None:
        self._store, self._key = store, key
        self._position = 0
        self._size = int(_told(lambda client: client.head(store, key))["size"])

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
        start = self._position
        data = bytes(_told(lambda client: client.get_range(self._store, self._key, start=start, length=length)))
        self._position += len(data)
        return data


def _told(ask: Any) -> Any:
    import obstore
    from obstore.exceptions import BaseError

    try:
        return ask(obstore)
    except BaseError as error:
        raise OSError(str(error).split("\n")[0]) from error
