"""Why a decoder gave no pixels: what Pillow and TensorFlow raise, as reason codes."""

from __future__ import annotations

from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from darkroom.reasons import Reason

_LONGEST_DETAIL: Final = 300
# How Pillow and TensorFlow say that there was no memory for it.
_MEMORY_HINTS: Final = ("out of memory", "oom when allocating")
# How they say that the file is sound, and its kind of pixel not theirs.
_MODE_HINTS: Final = ("conversion from", "channels attribute", "bmp bitfields", "bmp compression")


class ImageRefused(Exception):
    """A file gives no pixels, for a reason; survives pickling."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        detail = " ".join(detail.split())[:_LONGEST_DETAIL]
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return (ImageRefused, (self.reason, self.detail))


def refusal(problem: BaseException) -> ImageRefused:
    """The reason code of what a decoder raised.

    Pillow raises OSError, UnidentifiedImageError, ValueError, DecompressionBombError, NotImplementedError, SyntaxError,
    struct.error and more for broken files, so whatever is not known better is broken data.
    """
    if isinstance(problem, ImageRefused):
        return problem
    said = f"{type(problem).__name__}: {problem}"
    if isinstance(problem, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ImageRefused(Reason.TOO_MANY_PIXELS, said.partition(" exceeds")[0])  # it names twice the limit
    if isinstance(problem, MemoryError) or any(hint in str(problem).lower() for hint in _MEMORY_HINTS):
        return ImageRefused(Reason.OUT_OF_MEMORY, said)
    if isinstance(problem, UnidentifiedImageError):  # says the buffer's address
        return ImageRefused(Reason.BROKEN_DATA, "begins like its format, and the decoder cannot read it")
    words = said.lower()
    if "truncated" in words or isinstance(problem, EOFError):
        return ImageRefused(Reason.TRUNCATED, said)
    if any(hint in words for hint in _MODE_HINTS):
        return ImageRefused(Reason.MODE_NOT_SUPPORTED, said)
    return ImageRefused(Reason.BROKEN_DATA, said)
