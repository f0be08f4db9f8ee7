"""Running suites through Great Expectations: which rows of a shard fail, and how a night went."""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from darkroom.summary import ExpectationResult, Severity
from expectations.suite import LearnedSuite, mostly_parameter

# All failing positions, and no values: 0.3 s for 2,000 rows × 45 expectations.
_ALL_ROWS = {
    "result_format": "COMPLETE",
    "return_unexpected_index_query": False,
    "exclude_unexpected_values": True,
}


@dataclass(frozen=True)
class Tally:
    """One row expectation over some rows. `error` says why it could not be evaluated."""

    sentence: str
    column: str | None
    level: str
    severity: str
    evaluated: int
    unexpected: int
    mostly: float | None = None
    error: str = ""
    observed: str = ""
    otherwise: str = ""

    def merge(self, other: Tally) -> Tally:
        """Both sets of rows together."""
        return Tally(
            self.sentence,
            self.column,
            self.level,
            self.severity,
            self.evaluated + other.evaluated,
            self.unexpected + other.unexpected,
            self.mostly,
            self.error or other.error,
            otherwise=self.otherwise,
        )


@dataclass(frozen=True)
class RowOutcome:
    """How row expectations went: a tally by id, and for the rows of this shard which of them each row fails."""

    tallies: Mapping[str, Tally] = field(default_factory=dict)
    failing: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def merge(self, other: RowOutcome) -> RowOutcome:
        """Tallies of both; positions mean nothing beyond one shard and are left behind."""
        both = dict(self.tallies)
        for identity, tally in other.tallies.items():
            both[identity] = both[identity].merge(tally) if identity in both else tally
        return RowOutcome(both)

    def beside(self, other: RowOutcome) -> RowOutcome:
        """Of the same rows, by other expectations."""
        return RowOutcome({**self.tallies, **other.tallies}, {**self.failing, **other.failing})

    def reasons(self, n: int) -> list[list[str]]:
        """`expectation:<id>` for each of n rows."""
        found: list[list[str]] = [[] for _ in range(n)]
        for identity, positions in self.failing.items():
            for position in positions.tolist():
                found[position].append(f"expectation:{identity}")
        return found

    def to_json(self) -> Any:
        """Tallies only."""
        return {identity: vars(tally) for identity, tally in self.tallies.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> RowOutcome:
        """The other way."""
        return cls({identity: Tally(**values) for identity, values in stored.items()})


def run_rows(learned: LearnedSuite, frame: pd.DataFrame) -> RowOutcome:
    """Run the learned row expectations on the rows of a shard."""
    if frame.empty:
        return RowOutcome()
    rows = [one for one in learned.suite["expectations"] if one["meta"]["level"] == "row"]
    shares = learned.mostly_at(len(frame))
    parameters = {mostly_parameter(identity): share for identity, share in shares.items()}
    return _run(rows, frame, parameters)


def finish_rows(learned: LearnedSuite, outcome: RowOutcome) -> list[ExpectationResult]:
    """Judge merged tallies: the learned ones at the size of the whole night, a team's with its own `mostly`."""
    return [_judged(identity, tally, learned.mostly_at(tally.evaluated)) for identity, tally in outcome.tallies.items()]


def run_night(learned: LearnedSuite, metrics: pd.DataFrame, parameters: Mapping[str, float]) -> list[ExpectationResult]:
    """Run the learned table expectations on the night's frame of metrics."""
    table = [one for one in learned.suite["expectations"] if one["meta"]["level"] == "table"]
    outcome = _run(table, metrics, parameters)
    return [_judged(identity, tally, {}) for identity, tally in outcome.tallies.items()]


@dataclass(frozen=True)
class TeamSuite:
    """A suite that a team wrote itself: Great Expectations JSON; `level` of its meta is row (default) or table."""

    name: str
    expectations: Sequence[Mapping[str, Any]]

    @classmethod
    def parse(cls, name: str, text: str) -> TeamSuite:
        """From the JSON that Great Expectations writes. Raises WrongUse for what is no suite."""
        try:
            stored = json.loads(text)
            found = stored["expectations"]
            whole = []
            for number, one in enumerate(found):
                meta = dict(one.get("meta") or {})
                meta.setdefault("level", "row" if one["type"].startswith("expect_column_values") else "table")
                meta.setdefault(
                    "sentence", f"{one['type'].removeprefix('expect_').replace('_', ' ')} {_short(one['kwargs'])}"
                )
                meta["id"] = f"{name}:{number}"
                severity = one.get("severity") or "warning"
                whole.append({"type": one["type"], "kwargs": one["kwargs"], "meta": meta, "severity": severity})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WrongUse(
                f"The suite {name!r} cannot be read.",
                expected="JSON as Great Expectations writes it: {'expectations': [{'type': …, 'kwargs': {…}}]}",
                found=f"{type(error).__name__}: {error}",
            ) from error
        return cls(name, whole)

    def run(self, frame: pd.DataFrame, level: str) -> RowOutcome:
        """Run its expectations of one level: `row` on the rows of a shard, `table` on the night's metrics."""
        chosen = [one for one in self.expectations if one["meta"]["level"] == level]
        return RowOutcome() if frame.empty or not chosen else _run(chosen, frame, {})


def _short(kwargs: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in kwargs.items())[:200]


def _judged(identity: str, tally: Tally, shares: Mapping[str, float]) -> ExpectationResult:
    mostly = shares.get(identity, 1.0 if tally.mostly is None else tally.mostly)
    holding = 1 - tally.unexpected / tally.evaluated if tally.evaluated else 1.0
    met = "passed" if holding >= mostly - 1e-9 else "failed"
    return ExpectationResult(
        expectation=tally.sentence
        if mostly >= 1 or tally.level == "table"
        else f"{tally.sentence} in {mostly:.1%} of images",
        column=tally.column,
        level="team" if ":" in identity and identity.rsplit(":", 1)[-1].isdigit() else tally.level,
        severity=Severity(tally.severity),
        status="errored" if tally.error else met,
        evaluated=tally.evaluated,
        unexpected=tally.unexpected,
        observed=tally.error or tally.observed,
        otherwise=tally.otherwise,
    )


# Its context is one a process, and two threads must not validate in it at once (two shards may come to that).
_TURN = threading.Lock()


def _run(expectations: Sequence[Mapping[str, Any]], frame: pd.DataFrame, parameters: Mapping[str, Any]) -> RowOutcome:
    with _TURN, _quiet():
        import great_expectations as gx

        suite = gx.ExpectationSuite(name="suite", expectations=[dict(one) for one in expectations])
        batch = _batches().get_batch({"dataframe": frame.reset_index(drop=True)})
        run = batch.validate(suite, result_format=_ALL_ROWS, expectation_parameters=dict(parameters))
    tallies, failing = {}, {}
    for one in run.results:
        # Results do not come in the suite's order: each is known by its id.
        config = one.expectation_config
        identity = config.meta["id"]
        result = one.result or {}
        error = _error(one.exception_info)
        positions = np.asarray(result.get("unexpected_index_list") or [], np.int64)
        kwargs = config.kwargs
        mostly = kwargs.get("mostly")
        whole = "unexpected_count" not in result and not error
        tallies[identity] = Tally(
            sentence=config.meta["sentence"],
            column=kwargs.get("column"),
            level=config.meta["level"],
            severity=str(getattr(config.severity, "value", config.severity)),
            evaluated=int(result.get("element_count", 1 if whole else 0)),
            unexpected=int(result.get("unexpected_count", 0 if one.success else 1) if not error else 0),
            mostly=float(mostly) if isinstance(mostly, int | float) else None,
            error=error,
            observed=_observed(result, frame, kwargs) if config.meta["level"] == "table" else "",
            otherwise=config.meta.get("otherwise", ""),
        )
        if len(positions) and config.meta["level"] == "row":
            failing[identity] = positions
    return RowOutcome(tallies, failing)


def _observed(result: Mapping[str, Any], frame: pd.DataFrame, kwargs: Mapping[str, Any]) -> str:
    """What a table expectation saw, and what it was held against."""
    if "observed_value" in result:
        return str(result["observed_value"])
    column, most = kwargs.get("column"), kwargs.get("max_value")
    if column not in frame:
        return ""
    form = ".1%" if str(column).startswith("share_") else ".4g"
    told = f"{column} is {frame[column].iloc[0]:{form}}"
    return f"{told}, at most {most:{form}} is usual" if isinstance(most, int | float) else told


def _error(info: Mapping[str, Any]) -> str:
    """Errored is not failed: Great Expectations puts one exception, or one for each metric, where nothing should be."""
    found: Iterable[Any] = [info] if "raised_exception" in info else list(info.values())
    for one in found:
        if one and one.get("raised_exception"):
            return str(one.get("exception_message") or "could not be evaluated").strip().splitlines()[0][:300]
    return ""


@cache
def _batches() -> Any:
    """One ephemeral context a process: nothing is written, nothing is sent."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("darkroom").add_dataframe_asset("rows")
    return asset.add_batch_definition_whole_dataframe("rows")


@contextmanager
def _quiet() -> Any:
    """Great Expectations neither counts its users over the network nor tells its inner life."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
