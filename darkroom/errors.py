"""What can go wrong, and what a person can do about it.

DarkroomError
├── WrongUse                a parameter, a path or a folder that cannot be meant      exit code 2
│   ├── DataFolderError     the training folder cannot be trained on
│   ├── InboxMissing        no folder where the images of the night should lie
│   └── UnsupportedModel    not a classifier that darkroom can adopt or score
├── GateClosed              darkroom works, and says no                               exit code 1
│   ├── BundleTampered      a digest, or two statements of the bundle, do not agree
│   ├── BundleUntrusted     signatures are required, and no trusted key has signed the bundle
│   └── GoldenMismatch      the preparation or the model is not the sealed one
└── Failed                  darkroom could not do its work                            exit code 3
    ├── BundleUnreadable    no bundle, half a bundle, or one of a newer schema
    ├── StorageError        the disk or the object store refused
    ├── CommitConflict      somebody else took the number; the caller tries again
    ├── TrainingFailed      the training ended without a model worth sealing
    ├── OrchestratorError   no Prefect server or Dask cluster, or one that does not answer
    └── WorkersLost         worker processes end before they finish a shard, again and again

Every error names what happened, which parameter or file, what was expected and found, and what to do; all survive
pickling, because they travel between processes.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from darkroom.names import without_credentials

# What was expected and found may quote a file that somebody else wrote: a cell of megabytes is no sentence.
_LONGEST: Final = 1000


class DarkroomError(Exception):
    """Base of everything that darkroom raises on purpose."""

    exit_code: ClassVar[int] = 3

    def __init__(
        self,
        what: str,
        *,
        file: object = None,
        expected: object = None,
        found: object = None,
        todo: str | None = None,
        parameter: str | None = None,
    ) -> None:
        what = without_credentials(what)
        super().__init__(what)
        self.what = what
        self.parameter = parameter
        self.file = None if file is None else without_credentials(str(file))
        self.expected = _quoted(expected)
        self.found = _quoted(found)
        self.todo = todo

    def __str__(self) -> str:
        lines = [self.what]
        for label, value in self._details():
            lines.append(f"  {label}: {value}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.what, self.file, self.expected, self.found, self.todo, self.parameter))

    def _details(self) -> list[tuple[str, str]]:
        pairs = [
            ("parameter", self.parameter),
            ("file", self.file),
            ("expected", self.expected),
            ("found", self.found),
            ("what to do", self.todo),
        ]
        return [(label, value) for label, value in pairs if value is not None]

    def as_dict(self) -> dict[str, str | None]:
        """The error for programs (`--json`)."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "parameter": self.parameter,
            "file": self.file,
            "expected": self.expected,
            "found": self.found,
            "todo": self.todo,
        }


def _quoted(value: object) -> str | None:
    text = None if value is None else without_credentials(str(value))
    return text if text is None or len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _rebuild(
    kind: type[DarkroomError],
    what: str,
    file: object,
    expected: object,
    found: object,
    todo: str | None,
    parameter: str | None,
) -> DarkroomError:
    return kind(what, file=file, expected=expected, found=found, todo=todo, parameter=parameter)


class WrongUse(DarkroomError):
    """A parameter, a path or a folder that cannot be meant.

    To do: mend the parameter or the setting that the message names.
    """

    exit_code = 2


class DataFolderError(WrongUse):
    """The training folder cannot be trained on.

    To do: the message says what is wrong with it: no folder a class, too few images, another folder than before.
    """


class InboxMissing(WrongUse):
    """No folder where the images of the night should lie: nobody delivered, or the path is mistyped.

    To do: look at the path and at the mount; where nobody delivered, ask who should have.
    """


class UnsupportedModel(WrongUse):
    """Not a classifier that darkroom can adopt or score.

    To do: bring the model as the message says; most often saved whole, by `model.save`.
    """


class GateClosed(DarkroomError):
    """darkroom works, and says no.

    To do: read which gate says no; nothing is broken.
    """

    exit_code = 1


class BundleTampered(GateClosed):
    """A digest does not hold, or two statements of the bundle contradict each other.

    To do: restore the bundle from a backup, or put the other version into use knowingly: `darkroom promote`.
    """


class BundleUntrusted(GateClosed):
    """Signatures are required, and no key that is trusted has signed the bundle.

    To do: have it signed: `darkroom sign`; or put the public key of who has signed it among the trusted ones.
    """


class GoldenMismatch(GateClosed):
    """A golden image gives other pixels, another tensor or other probabilities than when the bundle was sealed.

    To do: go back to the libraries that the bundle was sealed with, or see what has moved: `darkroom reseal`.
    """


class Failed(DarkroomError):
    """darkroom could not do its work.

    To do: do what the message says, and run again.
    """

    exit_code = 3


class BundleUnreadable(Failed):
    """No bundle, half a bundle, or one of a newer schema.

    To do: name a bundle, or `models/NAME` with a version in use; restore half a bundle from a backup.
    """


class StorageError(Failed):
    """The disk or the object store refused.

    To do: look at space, rights and the mount, and run again: what was finished is kept.
    """


class CommitConflict(Failed):
    """Somebody else took the commit number.

    To do: nothing: the run takes the next number; where it gives up, run again.
    """


class TrainingFailed(Failed):
    """The training ended without a model worth sealing.

    To do: the message says what to change in the recipe, or in the folder.
    """


class OrchestratorError(Failed):
    """No Prefect server or Dask cluster, or one that does not answer.

    To do: start the server that PREFECT_API_URL names, or unset it; start the scheduler that dask_address names.
    """


class WorkersLost(Failed):
    """Worker processes end before they finish a shard, again and again.

    To do: give them more memory, or start fewer of them, and run again: what was finished is kept.
    """
