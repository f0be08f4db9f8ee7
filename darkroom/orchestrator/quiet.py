"""What Prefect and its neighbours log that tells a person nothing: these exact lines are left out, and no others."""

from __future__ import annotations

import logging
import re
from typing import Final

from darkroom.orchestrator.deployments import DEPLOYMENTS

# Logger → the lines, in full. What fails, crashes, is retried or paused has other words, and stays.
_OF_OUR_RUNS: Final = {
    "prefect.flow_runs": re.compile(
        r"Beginning (sub)?flow run '.*' for flow '.*'|Finished in state Completed\(.*\)", re.DOTALL
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


def hide_noise() -> None:
    """Set the filters up in this process, once; a user's own flows in it keep all of their lines."""
    ours = frozenset(entry.name for entry in DEPLOYMENTS)
    for lines, flows in ((_OF_OUR_RUNS, ours), (_OF_ANYBODY, None)):
        for name, line in lines.items():
            logger = logging.getLogger(name)
            if not any(isinstance(one, _Noise) for one in logger.filters):
                logger.addFilter(_Noise(line, flows))
