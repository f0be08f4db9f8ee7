"""How text from files is shown: as text, whatever it tries to be. Names, EXIF, labels and details pass through here."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 300  # characters; what is longer is cut in the middle, because names differ at both ends
_MOST_MARKS = 4  # combining marks on one letter; piles of them paint over the lines above and below
_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_MARKDOWN = frozenset("\\`*_[]|~#!$")
_WORD_JOINER = "\u2060"
# What GitHub-flavoured renderers turn into links after the escapes are resolved: only a character between stops them.
_LINKS = re.compile(r"(?<=www)(?=\.)|(?<=:)(?=//)|(?<=@)(?=\S)", re.IGNORECASE)


def visible(text: object, longest: int = LONGEST) -> str:
    """One line in which every character can be seen.

    Control characters become their pictures (a newline ␊, escape ␛), characters that only steer the text (bidi
    overrides, zero-width ones), lone surrogates and unassigned code points their number (⟨U+202E⟩), and bytes of a file
    name that are no UTF-8 their value (⟨byte 80⟩).
    """
    seen = _shorten(str(text), longest)
    if seen.isascii() and seen.isprintable():
        return seen
    shown = []
    marks = 0
    for character in seen:
        marks = marks + 1 if unicodedata.combining(character) else 0
        shown.append(_number(character) if marks > _MOST_MARKS else _show(character))
    return "".join(shown)


def in_markdown(text: object, longest: int = LONGEST) -> str:
    """`visible`, for a place inside a line or a cell of Markdown: no HTML, emphasis, link, picture or cell border.

    Prefect's interface renders GitHub-flavoured Markdown with raw HTML in it, so a name must bring neither.
    """
    escaped = "".join(
        _ENTITIES.get(character) or (f"\\{character}" if character in _MARKDOWN else character)
        for character in visible(text, longest)
    )
    return _LINKS.sub(_WORD_JOINER, escaped)


def _shorten(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    head = longest * 2 // 3
    return f"{text[:head]} … {text[len(text) - (longest - head) + 3 :]}"


def _show(character: str) -> str:
    category = unicodedata.category(character)
    if category not in _HIDING:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if 0xDC80 <= code <= 0xDCFF:
        return f"⟨byte {code - 0xDC00:02X}⟩"
    return _number(character)


def _number(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"
