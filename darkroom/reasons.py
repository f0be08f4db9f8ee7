"""Why an image was not scored, or not trusted: one enum each, and nothing else decides what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final


class FileStatus(StrEnum):
    """What became of a path. Every path seen has exactly one."""

    SCORED = "scored"
    SCORED_BEFORE = "scored_before"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    DEFERRED = "deferred"
    NOT_AN_IMAGE = "not_an_image"


class Reason(StrEnum):
    """Why a file went to quarantine, or was deferred to the next night."""

    EMPTY_FILE = "empty_file"
    UNKNOWN_FORMAT = "unknown_format"
    FORMAT_NOT_ALLOWED = "format_not_allowed"
    BROKEN_DATA = "broken_data"
    TRUNCATED = "truncated"
    MODE_NOT_SUPPORTED = "mode_not_supported"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_LARGE_FILE = "too_large_file"
    DECODER_CRASHED = "decoder_crashed"
    DECODE_TIMEOUT = "decode_timeout"
    OUT_OF_MEMORY = "out_of_memory"
    LINK_OUT_OF_FOLDER = "link_out_of_folder"
    NOT_A_REGULAR_FILE = "not_a_regular_file"
    READ_ERROR = "read_error"
    PERMISSION_DENIED = "permission_denied"
    VANISHED = "vanished"
    CHANGED_WHILE_READING = "changed_while_reading"
    STILL_GROWING = "still_growing"

    @property
    def retryable(self) -> bool:
        """Whether the same path may well succeed on another night."""
        return self in _RETRYABLE

    @property
    def sentence(self) -> str:
        """For a person."""
        return _SENTENCES[self]


_RETRYABLE = frozenset(
    {
        Reason.DECODE_TIMEOUT,
        Reason.READ_ERROR,
        Reason.PERMISSION_DENIED,
        Reason.VANISHED,
        Reason.CHANGED_WHILE_READING,
        Reason.STILL_GROWING,
    }
)

_SENTENCES = {
    Reason.EMPTY_FILE: "the file has no bytes",
    Reason.UNKNOWN_FORMAT: "no image format begins like this file",
    Reason.FORMAT_NOT_ALLOWED: "the format is not among those this bundle allows",
    Reason.BROKEN_DATA: "the decoder found broken data",
    Reason.TRUNCATED: "the file ends before the image does",
    Reason.MODE_NOT_SUPPORTED: "the pixel format cannot become RGB",
    Reason.TOO_MANY_PIXELS: "more pixels than the limit allows",
    Reason.TOO_LARGE_FILE: "more bytes than the limit allows",
    Reason.DECODER_CRASHED: "the decoding process died on this file",
    Reason.DECODE_TIMEOUT: "decoding took longer than the limit",
    Reason.OUT_OF_MEMORY: "decoding needed more memory than the limit",
    Reason.LINK_OUT_OF_FOLDER: "a link that leads out of the folder",
    Reason.NOT_A_REGULAR_FILE: "a device, socket or pipe, not a file",
    Reason.READ_ERROR: "the file could not be read",
    Reason.PERMISSION_DENIED: "no permission to read the file",
    Reason.VANISHED: "the file was gone when it was read",
    Reason.CHANGED_WHILE_READING: "the file's content changed during the run",
    Reason.STILL_GROWING: "the file was still being written",
}


class Verdict(StrEnum):
    """Whether to trust an image's prediction."""

    TRUSTED = "trusted"
    SUSPECT = "suspect"
    QUARANTINED = "quarantined"


class NightVerdict(StrEnum):
    """What a night was, from best to worst; `empty` stands apart."""

    OK = "ok"
    WARN = "warn"
    ALARM = "alarm"
    EMPTY = "empty"


class Suspicion(StrEnum):
    """Why a scored image is suspect. A failed expectation is written `expectation:<column>:<what>`."""

    UNUSUAL_PROPERTY = "unusual_property"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    LOW_CONFIDENCE = "low_confidence"
    EXPECTATION = "expectation"


class FileMistake(StrEnum):
    """What another program did to the images before it handed over the files."""

    BLACK = "black"
    COLOURLESS = "colourless"
    SIZED = "sized"
    TURNED = "turned"
    NEGATIVE = "negative"
    SWAPPED = "swapped"


class NightCause(StrEnum):
    """Why a night differs, or does not."""

    PREPARATION = "preparation"
    NOISE = "noise and broken files"
    SHIFT = "property shift"
    NEW_CLASS = "new class"
    CLASS_MIX = "class mix"
    VALIDATION = "overfit or dishonest validation"
    NOTHING = "nothing"


class Grade(StrEnum):
    """How sure a cause is: the values are exact; nothing else explains the night as well; it may play a part."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


# What each word means, for whoever reads results: docs/reference/reasons.md is made of it.
MEANINGS: Final[Mapping[type[StrEnum], Mapping[Any, str]]] = {
    FileStatus: {
        FileStatus.SCORED: "it has a row in `predictions`",
        FileStatus.SCORED_BEFORE: "this bundle scored the same content, tonight or on an earlier night",
        FileStatus.DUPLICATE: "another path of this run has the same content",
        FileStatus.QUARANTINED: "it cannot or must not be scored",
        FileStatus.DEFERRED: "it is still being written, and comes back with the next run",
        FileStatus.NOT_AN_IMAGE: "neither its name nor its first bytes say image, or it is hidden",
    },
    Reason: _SENTENCES,
    Verdict: {
        Verdict.TRUSTED: "nothing speaks against the prediction",
        Verdict.SUSPECT: "the reasons say why not to trust it",
        Verdict.QUARANTINED: "there is no prediction",
    },
    NightVerdict: {
        NightVerdict.OK: "nothing beyond what chance explains",
        NightVerdict.WARN: "a warning expectation failed, or drift at the warning level",
        NightVerdict.ALARM: "a critical expectation failed, drift at the alarm level, or far fewer images than usual",
        NightVerdict.EMPTY: "nothing to score, and no earlier run of this night scored anything",
    },
    Suspicion: {
        Suspicion.UNUSUAL_PROPERTY: "a property of the image is unlike those of the held-out images",
        Suspicion.OUT_OF_DISTRIBUTION: "its embedding is further from training than those of the held-out images",
        Suspicion.LOW_CONFIDENCE: "held-out images of so little confidence were wrong at least as often as right",
        Suspicion.EXPECTATION: "it fails an expectation, which is named behind the colon",
    },
    FileMistake: {
        FileMistake.BLACK: "images are black, as pixels of 0 … 1 that were saved as bytes, or taken without light",
        FileMistake.COLOURLESS: "images are without colour, where training has colour",
        FileMistake.SIZED: "images were resized to the model's own size",
        FileMistake.TURNED: "width and height are swapped: images were turned by a quarter",
        FileMistake.NEGATIVE: "light is dark and dark is light",
        FileMistake.SWAPPED: "red and blue are exchanged",
    },
    NightCause: {
        NightCause.PREPARATION: "the files were prepared otherwise before they came to the inbox",
        NightCause.NOISE: "images are noisy, blurred, blocky or broken",
        NightCause.SHIFT: "a property, such as the light, is another one on all images",
        NightCause.NEW_CLASS: "there are images of something that the model has not learned",
        NightCause.CLASS_MIX: "the known classes come in other shares",
        NightCause.VALIDATION: "the accuracy on validation was never true of new images",
        NightCause.NOTHING: "no difference needs a cause",
    },
    Grade: {
        Grade.CERTAIN: "the values are exact",
        Grade.LIKELY: "nothing else explains the night as well",
        Grade.POSSIBLE: "it may play a part",
    },
}
