"""Quarantine: what was set aside and why; released for the next run, or its copies deleted, or a person is asked."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from prefect import flow, get_run_logger, pause_flow_run, resume_flow_run, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import NotPausedError
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from darkroom.forms import grouped, titled
from darkroom.reasons import Reason
from darkroom.settings import QuarantineFilter
from flows.naming import named
from flows.parameters import ResultsPath
from flows.quarantined import Choice, QuarantineList, QuarantineTold, done, needs_a_note, rows_of
from tasks.report.untrusted import visible

Action = Literal["list", "ask", "release", "delete"]

_POLL_SECONDS = 3
_MARGIN_SECONDS = 120


class Answer(RunInput):
    """What is to become of these files?"""

    action: Literal["nothing", "release", "delete"] = Field(
        default="nothing",
        description="release: the next run looks at them once more. delete: their copies, and nothing else.",
        json_schema_extra={"position": 0},
    )
    reasons: list[Reason] = Field(
        default_factory=list, description="Only of these reasons. Empty: all above.", json_schema_extra={"position": 1}
    )
    only: list[str] = Field(
        default_factory=list,
        description="Only these: content ids (the first 8 characters will do) or paths. Empty: all above.",
        json_schema_extra={"position": 2},
    )
    note: str = Field(default="", description="Why; kept for good.", json_schema_extra={"position": 3})
    by: str = Field(
        default="", description="Your name. Empty: the user of the worker.", json_schema_extra={"position": 4}
    )


@flow(name="quarantine", flow_run_name=named("{action}", " in {results}"))
def quarantine(
    results: ResultsPath = Path("results"),
    action: Annotated[Action, titled("Action")] = "list",
    reasons: Annotated[tuple[Reason, ...], titled("Reasons")] = (),
    which: Annotated[QuarantineFilter, grouped("Which files")] = QuarantineFilter(),
    note: Annotated[str, titled("Note")] = "",
    by: Annotated[str, titled("Your name")] = "",
    hours: Annotated[float, Field(gt=0, le=168), titled("Hours to wait")] = 8.0,
) -> QuarantineTold:
    """List the files that could not be scored; release them for the next run, or delete their copies.

    Args:
        results: The results folder.
        action: list: a table. ask: the table, then wait for an answer here. release: the next run looks at them once
            more. delete: their copies, and nothing else.
        reasons: Only files that were refused for these reasons. Empty: all.
        which: Only some of them.
        note: Why; kept for good. Needed to release and to delete.
        by: Who decides. Empty: the user of the worker.
        hours: How long to wait for an answer, with the action ask.

    """
    if action in ("release", "delete"):
        needs_a_note(note)
    choice = Choice(reasons=reasons, which=which, note=note, by=by)
    if action == "ask":
        # An answer is about what was asked: what is refused while the question waits is not among it.
        asked = choice.model_copy(update={"among": rows_of(results, choice)})
        return answered(results, asked, show(results, asked), hours)
    told = carry_out(results, choice.model_copy(update={"action": action}))
    publish(told)
    return told


@task(name="list", task_run_name="list", cache_policy=NO_CACHE)
def show(results: Path, choice: Choice) -> QuarantineTold:
    """The table that a person is asked about."""
    told = done(results, choice)
    publish(told)
    return told


@task(name="carry out", task_run_name="carry out", cache_policy=NO_CACHE)
def carry_out(results: Path, choice: Choice) -> QuarantineTold:
    """What was chosen, and a line of it in the log."""
    told = done(results, choice, flow_run.id)
    for line in told.done or (told.listed.sentence,):
        get_run_logger().info(visible(line, 1000))
    return told


def answered(results: Path, choice: Choice, told: QuarantineTold, hours: float) -> QuarantineTold:
    """Wait for a person, and do what they say; nothing where they say so, or nobody answers in time."""
    log = get_run_logger()
    if not told.listed.files and not told.listed.copies:
        log.info("There is nothing to ask about.")
        return told
    log.info("%s Press Resume, in the menu of this run, to say what becomes of them.", told.listed.sentence)
    answer = ask(told.listed, hours)
    if answer is None or answer.action == "nothing":
        said = f"Nobody answered within {hours:g} h" if answer is None else "Nothing is to be done"
        log.info("%s: everything stays as it is.", said)
        return told.model_copy(update={"done": (f"{said}.",)})
    chosen_now = Choice(
        action=answer.action,
        reasons=tuple(answer.reasons),
        which=QuarantineFilter(only=tuple(answer.only)),
        note=answer.note,
        by=answer.by or choice.by,
        among=choice.among,
    )
    after = carry_out(results, chosen_now)
    publish(after)
    return after


def ask(listed: QuarantineList, hours: float) -> Answer | None:
    """The answer from the form behind Resume in the UI, with a reason where one is needed; None: nobody came."""
    end = time.monotonic() + hours * 3600
    problem = ""
    while True:
        asked = "\n\n".join(part for part in (problem, f"**{listed.sentence}**", listed.reasons_table()) if part)
        with nobody_answers_after(end - time.monotonic()) as late:
            # A pause that times out fails the run, whatever it returns then; ours ends a moment before.
            answer = pause_flow_run(
                wait_for_input=Answer.with_initial_data(description=asked),
                timeout=math.ceil(max(0.0, end - time.monotonic())) + _MARGIN_SECONDS,
                poll_interval=_POLL_SECONDS,
            )
        if late.is_set():
            return None
        named = all(one.strip() for one in answer.only)
        if answer.action == "nothing" or (answer.note.strip() and named):
            return answer
        missing = "say why in the field Note" if named else "name each file in the field Only, or leave the list empty"
        problem = f"**Nothing was done yet: to {answer.action}, {missing}.**"
        get_run_logger().warning("To %s, %s: the question is asked again.", answer.action, missing)


@contextmanager
def nobody_answers_after(seconds: float) -> Iterator[threading.Event]:
    """After so many seconds the paused run goes on with an empty answer; the event says that this was why."""
    late = threading.Event()
    run = UUID(flow_run.id)

    def give_up() -> None:
        late.set()  # before the run goes on, which may be at once
        try:
            resume_flow_run(run, run_input=Answer().model_dump())
        except NotPausedError:  # somebody has answered at this very moment
            late.clear()

    timer = threading.Timer(max(1.0, seconds), give_up)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def publish(told: QuarantineTold) -> None:
    """The table in the Prefect UI."""
    create_markdown_artifact(told.as_markdown(), key="quarantine", description=told.listed.sentence)
