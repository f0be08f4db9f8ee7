"""Any file name as text, and back: names are bytes to the system, and UTF-8 in the results."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence

# Control characters, marks that turn the reading direction, bytes that are no UTF-8, line and paragraph separators:
# whoever prints a path must not be fooled by it, and a Parquet string must be valid.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_ESCAPE = re.compile(rb"\\(\\|x[0-9a-f]{2})")
# A name and a password, or a key, in an address; a path of Python keeps one of the two slashes.
_CREDENTIALS = re.compile(r"(?<=:/)(/?)[^/@\s]+@")
# The id of a bundle: name, version, and a digest of everything that it states.
_BUNDLE = re.compile(r"(.+)-(\d+)-[0-9a-f]{12}")


def to_text(path: str | os.PathLike[str]) -> str:
    r"""A path as valid, printable UTF-8 without loss: `\` becomes `\\`, a byte that cannot be shown `\xNN`.

    Nearly every path is its own text. `path` is as Python gives it (undecodable bytes as surrogates).
    """
    name = os.fspath(path)
    if "\\" not in name and name.isprintable():
        return name
    return "".join(map(_escaped, name))


def from_text(text: str) -> str:
    """The path that `to_text` was given, as the functions of `os` take it."""
    if "\\" not in text:
        return text
    data = _ESCAPE.sub(lambda found: _unescaped(found[1]), text.encode())
    return data.decode("utf-8", "surrogateescape")


def as_detail(message: object, limit: int = 500) -> str:
    """A message that may quote a file's name or bytes, as valid, printable text of bounded length."""
    text = "".join(map(_escaped, str(message).encode("utf-8", "backslashreplace").decode()[: 2 * limit]))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def without_credentials(text: str) -> str:
    """The text; of an address, such as s3://NAME:SECRET@bucket, without who asks: to be shown, logged and kept."""
    return _CREDENTIALS.sub(r"\1…@", text) if "@" in text else text


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if unicodedata.category(character) not in _UNSEEN:
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def _unescaped(code: bytes) -> bytes:
    return b"\\" if code == b"\\" else bytes([int(code[1:], 16)])


def some_of_many(names: Sequence[str], most: int = 12) -> str:
    """`a, b, c and 988 more`, for a sentence."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def bundle_name(bundle_id: str) -> str:
    """The name that all versions of a bundle share: `parts` of `parts-3-0123456789ab`."""
    found = _BUNDLE.fullmatch(bundle_id)
    return found[1] if found else bundle_id


def bundle_version(bundle_id: str) -> int | None:
    """Its version; None: the id does not say one."""
    found = _BUNDLE.fullmatch(bundle_id)
    return int(found[2]) if found else None
