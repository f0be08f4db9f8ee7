"""What the log of a run does not show: lines that tell a person nothing, and characters that would steer a terminal.

What Prefect and its neighbours say about what went well is left out, in these exact lines, and no others.

An expected error, one of darkroom.errors, is told once and in its own words; Prefect would tell it three times, each
with its own insides. What nobody expected keeps its traceback, and at PREFECT_LOGGING_LEVEL=DEBUG everything does.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from pathlib import PurePath
from typing import Final

from darkroom.errors import DarkroomError
from darkroom.names import without_credentials
from darkroom.orchestrator.deployments import DEPLOYMENTS

# Logger → the lines, in full. What fails, crashes, is retried or paused has other words, and stays.
_OF_OUR_RUNS: Final = {
    "prefect.flow_runs": re.compile(
        r"Beginning (sub)?flow run '.*' for flow '.*'|Finished in state Completed\(.*\)|"
        r"Running hook '.*' in response to entering state '.*'|Hook '.*' finished running successfully",
        re.DOTALL,
    ),
    "prefect.task_runs": re.compile(r"Finished in state Completed\(.*\)", re.DOTALL),
}
_OF_ANYBODY: Final = {
    # Two lines with an id and a made-up name, before the run has its own.
    "prefect.flow_runs.worker": re.compile(
        r"Worker '.*' submitting flow run '.*'|Flow run '.*' submitted to infrastructure", re.DOTALL
    ),
    "great_expectations.data_context.types.base": re.compile(
        r"Created temporary directory '.*' for ephemeral docs site", re.DOTALL
    ),
}
# What a line of Prefect's engine has for the name of its flow.
_ENGINE: Final = "<unknown>"
_FORMATTER: Final = logging.Formatter()


class _Noise(logging.Filter):
    """Drops lines below WARNING that match; `flows`: only those that runs of these flows have logged."""

    def __init__(self, line: re.Pattern[str], flows: frozenset[str] | None) -> None:
        super().__init__()
        self._line = line
        self._flows = flows

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True
        if self._flows is not None and getattr(record, "flow_name", None) not in self._flows:
            return True
        return self._line.fullmatch(record.getMessage()) is None


class _Errors(logging.Filter):
    """Puts an expected error's own words in the place of its first traceback, and drops its repetitions in a run."""

    def __init__(self, flows: frozenset[str]) -> None:
        super().__init__()
        self._flows = flows | {_ENGINE}

    def filter(self, record: logging.LogRecord) -> bool:
        ours = getattr(record, "flow_name", None) in self._flows
        if not ours or logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
            return True
        run = getattr(record, "flow_run_id", None)
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, DarkroomError):
            if (run, str(error)) in _told:
                return False
            _told.append((run, str(error)))
            record.msg, record.args = f"{type(error).__name__}: {error}", ()
            record.exc_info = record.exc_text = None
            return True
        line = record.getMessage()
        repeats = (text.splitlines()[0] in line for known, text in _told if known == run)
        return not (line.startswith("Finished in state Failed(") and any(repeats))


class _Visible(logging.Filter):
    """Shows every character of what a run logs: it may quote names of files and classes, and what was typed in a form.

    A text that is put into a line (`%s`) stays in that line; only the lines of the message itself, and of an error, are
    lines of the log.
    """

    def __init__(self, flows: frozenset[str]) -> None:
        super().__init__()
        self._flows = flows | {_ENGINE}

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "flow_name", None) in self._flows:
            if isinstance(record.args, tuple):
                record.args = tuple(_quoted(one) if isinstance(one, str | PurePath) else one for one in record.args)
            record.msg, record.args = _in_sight(record.getMessage()), ()
            if isinstance(record.exc_info, tuple):  # what a formatter would write of it
                record.exc_text = _in_sight(_FORMATTER.formatException(record.exc_info))
        return True


def _quoted(text: str | PurePath) -> str:
    from tasks.report.untrusted import visible

    return visible(without_credentials(str(text)), longest=4096)


def _in_sight(text: str) -> str:
    return "\n".join(map(_quoted, text.split("\n")))


# Run and text of the last errors that were told; task and flow of one run log to two loggers.
_told: deque[tuple[object, str]] = deque(maxlen=64)


def hide_noise() -> None:
    """Set the filters up in this process, once; a user's own flows in it keep all of their lines."""
    ours = frozenset(entry.name for entry in DEPLOYMENTS)
    for lines, flows in ((_OF_OUR_RUNS, ours), (_OF_ANYBODY, None)):
        for name, line in lines.items():
            logger = logging.getLogger(name)
            if any(isinstance(one, _Noise) for one in logger.filters):
                continue
            logger.addFilter(_Noise(line, flows))
            if flows is not None:
                logger.addFilter(_Errors(flows))
                logger.addFilter(_Visible(flows))
