from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.names import as_detail, from_text, some_of_many, to_text

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)


@given(NAMES)
def test_any_name_comes_back_from_its_text(name: bytes) -> None:
    path = os.fsdecode(name)
    text = to_text(path)
    assert from_text(text) == path
    assert os.fsencode(from_text(text)) == name


@given(NAMES)
def test_the_text_of_any_name_is_valid_and_has_no_control_or_direction_characters(name: bytes) -> None:
    text = to_text(os.fsdecode(name))
    text.encode("utf-8")
    assert not any(ord(character) < 32 or character in "\u202e\u2066\u2028" for character in text)


@given(NAMES, NAMES)
def test_two_names_have_two_texts(one: bytes, other: bytes) -> None:
    assert (to_text(os.fsdecode(one)) == to_text(os.fsdecode(other))) == (one == other)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("cam 1/a:b,c+d=é.jpg", "cam 1/a:b,c+d=é.jpg", id="ordinary"),
        pytest.param("a\nb.jpg", r"a\x0ab.jpg", id="newline"),
        pytest.param("a\\x0ab.jpg", r"a\\x0ab.jpg", id="looks escaped"),
        pytest.param("gpj.\u202eexe", r"gpj.\xe2\x80\xaeexe", id="right to left"),
        pytest.param(os.fsdecode(b"\xff.jpg"), r"\xff.jpg", id="not UTF-8"),
        pytest.param("\x1b[31m.jpg", r"\x1b[31m.jpg", id="terminal escape"),
    ],
)
def test_names_that_would_fool_a_reader_are_written_out(name: str, text: str) -> None:
    assert to_text(name) == text


def test_a_detail_is_bounded_and_printable() -> None:
    detail = as_detail("\udcff\n" * 5000)
    assert len(detail) <= 500
    assert detail.isprintable()


def test_of_many_names_a_sentence_has_the_first() -> None:
    assert some_of_many(["a", "b"]) == "a, b"
    assert some_of_many([str(n) for n in range(1_002)], 2) == "0, 1 and 1,000 more"
