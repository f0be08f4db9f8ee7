"""Errors say what happened, which file, what was expected and found, what to do; and travel between processes."""

from __future__ import annotations

import inspect
import pickle

import pytest

from darkroom import errors
from darkroom.errors import DarkroomError
from darkroom.reasons import Reason

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DarkroomError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_whole(kind: type[DarkroomError]) -> None:
    error = kind("It broke.", file="a/b.jpg", expected="224", found=256, todo="resize it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.as_dict() == error.as_dict()


def test_a_message_names_file_expectation_finding_and_remedy() -> None:
    error = DarkroomError("It broke.", file="a/b.jpg", expected="224", found=256, todo="resize it")
    assert str(error).splitlines() == [
        "It broke.",
        "  file: a/b.jpg",
        "  expected: 224",
        "  found: 256",
        "  what to do: resize it",
    ]


def test_what_somebody_else_wrote_is_quoted_in_a_few_words() -> None:
    error = DarkroomError("It broke.", expected="y" * 10**6, found="x" * 10**6)
    assert len(str(error)) < 2500
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_documented_exit_code_and_stands_in_the_tree(kind: type[DarkroomError]) -> None:
    assert kind.exit_code in (1, 2, 3)
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("reason", list(Reason), ids=str)
def test_every_reason_has_a_sentence_and_says_whether_to_try_again(reason: Reason) -> None:
    assert len(reason.sentence) > 10
    assert reason.retryable in (True, False)
