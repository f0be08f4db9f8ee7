"""What lies in quarantine, and what was done about it, as values: for the terminal, for programs, for the UI."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from darkroom.errors import WrongUse
from darkroom.reasons import Reason
from darkroom.settings import QuarantineFilter
from tasks.decided import Deleted, Released, delete_copies, release_files
from tasks.report.untrusted import in_markdown, visible
from tasks.set_aside import SetAside, State, chosen, set_aside

NEWEST: Final = 25
_LONGEST: Final = 100  # characters of a path or a detail in a cell


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class ReasonLine(_Frozen):
    """How many contents were refused for one reason; `released` of them wait for the next run."""

    reason: Reason
    files: int
    copies: int
    released: int


class FileLine(_Frozen):
    """One content, or a path that was never read, as it was refused last."""

    path: str
    night: date
    reason: Reason
    detail: str
    copy_kept: bool
    state: State
    content_id: str | None
    bundle: str
    inbox: str
    times: int


class QuarantineList(_Frozen):
    """What lies in quarantine now: by reason, and the newest files; `filtered`: only what was asked for."""

    filtered: bool = False
    files: int
    released: int
    scored_since: int
    copies: int
    reasons: tuple[ReasonLine, ...]
    newest: tuple[FileLine, ...]

    @classmethod
    def of(cls, rows: Sequence[SetAside], *, filtered: bool = False, most: int = NEWEST) -> QuarantineList:
        """From rows in the order in which they are shown; the commonest reason comes first."""
        there = [row for row in rows if row.state is not State.SCORED]
        by_reason: dict[Reason, list[SetAside]] = defaultdict(list)
        for row in there:
            by_reason[row.reason].append(row)
        lines = [
            ReasonLine(
                reason=reason,
                files=len(some),
                copies=sum(row.copy is not None for row in some),
                released=sum(row.state is State.RELEASED for row in some),
            )
            for reason, some in by_reason.items()
        ]
        return cls(
            filtered=filtered,
            files=len(there),
            released=sum(row.state is State.RELEASED for row in there),
            scored_since=len(rows) - len(there),
            copies=len({row.copy for row in rows if row.copy is not None}),
            reasons=tuple(sorted(lines, key=lambda line: (-line.files, line.reason))),
            newest=tuple(_file_line(row) for row in there[:most]),
        )

    @property
    def sentence(self) -> str:
        """For a person."""
        of_these = " of those asked for" if self.filtered else ""
        there = f"{_many(self.files, 'file')}{of_these}" if self.files else f"Nothing{of_these}"
        told = f"{there} {'is' if self.files < 2 else 'are'} in quarantine."
        if self.released:
            told += f" {self.released:,} of them released: the next run looks at them once more."
        if self.scored_since:
            told += f" {self.scored_since:,} more were refused once, and have been scored since."
        return f"{told} {_many(self.copies, 'copy', 'copies')} kept." if self.copies else told

    def as_text(self) -> str:
        """For a terminal."""
        lines = [self.sentence]
        if self.reasons:
            lines += ["", f"{'files':>7}  {'copies':>7}  {'released':>8}  reason"]
        for one in self.reasons:
            lines.append(f"{one.files:>7,}  {one.copies:>7,}  {one.released:>8,}  {one.reason}: {one.reason.sentence}")
        if self.newest:
            lines += ["", f"The newest {len(self.newest):,}:" if len(self.newest) < self.files else "Each of them:"]
        for line in self.newest:
            told = [f"night {line.night}", str(line.reason), "copy" if line.copy_kept else "no copy"]
            told += [str(line.state)] if line.state is not State.REFUSED else []
            told += [line.content_id[:12]] if line.content_id else ["never read"]
            lines.append(f"  {visible(line.path)}  ({', '.join(told)})")
        return "\n".join(lines)

    def as_markdown(self) -> str:
        """For an artifact: names and details are escaped."""
        parts = [f"**{self.sentence}**"]
        if self.reasons:
            parts.append(self.reasons_table())
        if self.newest:
            parts.append("Each of them:" if len(self.newest) == self.files else f"The newest {len(self.newest):,}:")
            rows = ["| file | night | reason | detail | copy | state |", "| --- | --- | --- | --- | --- | --- |"]
            rows += [
                f"| {in_markdown(line.path, _LONGEST)} | {line.night} | {in_markdown(line.reason)} "
                f"| {in_markdown(line.detail, _LONGEST)} | {'yes' if line.copy_kept else 'no'} | {line.state} |"
                for line in self.newest
            ]
            parts.append("\n".join(rows))
        return "\n\n".join(parts) + "\n"

    def reasons_table(self) -> str:
        """The counts by reason, in Markdown."""
        rows = ["| reason | what it means | files | with a copy | released |", "| --- | --- | ---: | ---: | ---: |"]
        rows += [
            f"| {in_markdown(one.reason)} | {one.reason.sentence} | {one.files:,} | {one.copies:,} | {one.released:,} |"
            for one in self.reasons
        ]
        return "\n".join(rows)


class QuarantineTold(_Frozen):
    """What was done, in sentences, and what lies in quarantine after it. `decision`: number of the record, if any."""

    action: str
    done: tuple[str, ...] = ()
    decision: int | None = None
    listed: QuarantineList

    def as_text(self) -> str:
        """For a terminal."""
        return "\n".join([*self.done, *([""] if self.done else []), self.listed.as_text()])

    def as_markdown(self) -> str:
        """For an artifact."""
        return "\n\n".join([*(f"{in_markdown(line, 1000)}" for line in self.done), self.listed.as_markdown()])


class Choice(_Frozen):
    """What is to be done with which files: as a person said it, in a form or at a terminal."""

    action: Literal["list", "release", "delete"] = "list"
    reasons: tuple[Reason, ...] = ()
    which: QuarantineFilter = QuarantineFilter()
    note: str = ""
    by: str = ""
    among: frozenset[tuple[str, str]] | None = Field(
        default=None, description="Only rows that somebody has seen: (run, path). None: all."
    )


def done(results: Path, choice: Choice, run: str | None = None) -> QuarantineTold:
    """Do what was chosen; `run` is the Prefect run that does it. Without Prefect, for the command line too."""
    rows = chosen(set_aside(results), choice.reasons, choice.which)
    if choice.among is not None:
        rows = [row for row in rows if (row.run, row.path) in choice.among]
    if choice.action == "list":
        filtered = bool(choice.reasons) or choice.which != QuarantineFilter()
        return QuarantineTold(action=choice.action, listed=QuarantineList.of(rows, filtered=filtered))
    needs_a_note(choice.note)
    if choice.action == "release":
        released = release_files(results, rows, why=choice.note, by=choice.by, run=run)
        decision, words = released.decision, released_in_words(released)
    else:
        deleted = delete_copies(results, rows, why=choice.note, by=choice.by, run=run)
        decision, words = deleted.decision, deleted_in_words(deleted)
    return QuarantineTold(
        action=choice.action,
        done=words,
        decision=None if decision is None else decision.number,
        listed=QuarantineList.of(set_aside(results)),
    )


def rows_of(results: Path, choice: Choice) -> frozenset[tuple[str, str]]:
    """What a choice is about at this moment: (run, path)."""
    return frozenset((row.run, row.path) for row in chosen(set_aside(results), choice.reasons, choice.which))


def needs_a_note(note: str) -> None:
    """WrongUse without one."""
    if not note.strip():
        raise WrongUse(
            "Nobody says why.",
            parameter="note",
            expected="why these files are released, or their copies deleted: it is kept for good",
            todo="say it in the form, or with --why",
        )


def released_in_words(told: Released) -> tuple[str, ...]:
    """What a release came to."""
    decision = told.decision
    lines = ["Nothing is released."]
    if decision is not None:
        lines = [
            f"Decision {decision.number}: {_many(len(decision.contents), 'file')} released by {decision.by}: "
            f"{decision.why}",
            f"The next run looks at them once more: {told.from_copy:,} can be read from their copies, "
            f"{told.from_place:,} only where they were found. What is refused again comes back, with its reason.",
        ]
    left = [
        (told.already, "released already, and waiting for the next run"),
        (told.scored, "scored since"),
        (told.never_read, "never read, so nobody knows their content: mend the cause, and run their night again"),
        (told.lost, "without a copy, and no longer where they were found"),
    ]
    return (*lines, *(f"{count:,} left out: {why}." for count, why in left if count))


def deleted_in_words(told: Deleted) -> tuple[str, ...]:
    """What a deletion came to."""
    decision = told.decision
    lines = ["No copy is deleted."]
    if decision is not None:
        lines = [
            f"Decision {decision.number}: {_many(told.copies, 'copy', 'copies')} ({told.bytes / 1e6:,.1f} MB) deleted "
            f"by {decision.by}: {decision.why}",
            "Their rows stay, and so do the files in the inboxes; they are not copied again.",
        ]
    left = [
        (told.waiting, "kept: released, and the next run is to read them"),
        (told.without, "had no copy"),
    ]
    return (*lines, *(f"{count:,} {why}." for count, why in left if count))


def _file_line(row: SetAside) -> FileLine:
    return FileLine(
        path=row.path,
        night=row.night,
        reason=row.reason,
        detail=row.detail or "",
        copy_kept=row.copy is not None,
        state=row.state,
        content_id=row.content_id,
        bundle=row.bundle,
        inbox=row.inbox,
        times=row.times,
    )


def _many(count: int, one: str, several: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"
