"""The questions of docs/questions.md: every snippet runs on scored nights, and pandas and DuckDB answer the same."""

from __future__ import annotations

import ast
import re
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from PIL import Image, ImageFilter

import darkroom
from darkroom import demo_world
from darkroom.settings import IntakeOptions, NightOptions, RunOptions
from tasks.bundle import Bundle

PAGE = (Path(__file__).parent.parent / "docs" / "questions.md").read_text()
READING, *QUESTIONS = PAGE.split("\n## ")
LINES: dict[date, dict[str, demo_world.NightKind]] = {
    date(2026, 11, 21): {"line-1": "good"},
    date(2026, 11, 22): {"line-1": "dim"},
    date(2026, 11, 23): {"line-1": "good", "line-2": "dim"},
}


@pytest.fixture(scope="module")
def nights(bundle: Bundle, prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `results`: a good night, a dim one, and one that is dim on one of two lines."""
    from flows.score import score

    folder = tmp_path_factory.mktemp("questions")
    for night, lines in LINES.items():
        for line, kind in lines.items():
            demo_world.draw_night(folder / f"{night}" / line, kind, images=40, seed=night.day)
            if line == "line-2":
                unfocus(folder / f"{night}" / line)
        score(
            bundle=bundle.path,
            inbox=str(folder / "{night}"),
            results=folder / "results",
            night=NightOptions(night=night),
            intake=IntakeOptions(settle_seconds=0),
            run=RunOptions(thumbnails=False),
        )
    return folder


@pytest.fixture
def asked(nights: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], duckdb.DuckDBPyConnection]:
    """Both sides, as the first part of the page sets them up."""
    monkeypatch.chdir(nights)
    names: dict[str, Any] = {}
    by_pandas(READING, names)
    connection = duckdb.connect()
    connection.execute(snippet(READING, "sql"))
    return names, connection


def unfocus(folder: Path) -> None:
    for path in [*folder.rglob("*.jpg"), *folder.rglob("*.png")]:
        with Image.open(path) as image:
            image.convert("RGB").filter(ImageFilter.GaussianBlur(3)).save(path, quality=85, exif=image.getexif())


def snippet(section: str, language: str) -> str:
    (code,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(code)


def by_pandas(section: str, names: dict[str, Any]) -> Any:
    """Runs the snippet; the value of its last line, as a notebook shows it."""
    *body, last = ast.parse(snippet(section, "python")).body
    exec(compile(ast.Module(body, []), "questions.md", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "questions.md", "eval"), names)
    exec(compile(ast.Module([last], []), "questions.md", "exec"), names)
    return None


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda section: section.splitlines()[0])
def test_pandas_and_duckdb_answer_the_same(
    question: str, asked: tuple[dict[str, Any], duckdb.DuckDBPyConnection]
) -> None:
    names, connection = asked
    told = by_pandas(question, names)
    answer = connection.execute(snippet(question, "sql")).df()
    assert len(told)
    # What is null in every row has no type in DuckDB's frame.
    pd.testing.assert_frame_equal(told.reset_index(drop=True), answer.astype(told.dtypes.to_dict()), rtol=1e-9)


def test_the_answers_are_what_happened_on_these_nights(
    asked: tuple[dict[str, Any], duckdb.DuckDBPyConnection],
) -> None:
    names, _ = asked
    moved, since, _, slices, often, cost = (by_pandas(question, names) for question in QUESTIONS)
    assert "sharpness" in set(moved["metric"])
    assert since.loc[since["still"], "night"].min() == pd.Timestamp(2026, 11, 22)
    assert set(slices["slice"]) >= {"folder=line-2"}
    assert "folder=line-1" not in set(slices["slice"])
    assert often.set_index("metric").loc["sharpness", ["month", "alarms", "nights"]].tolist() == ["2026-11", 2, 3]
    assert set(cost["night"]) <= {pd.Timestamp(2026, 11, 22), pd.Timestamp(2026, 11, 23)}


def test_what_was_committed_is_what_a_plain_reader_sees(
    asked: tuple[dict[str, Any], duckdb.DuckDBPyConnection],
) -> None:
    names, _ = asked
    keys = ["night", "run", "family", "metric", "slice"]
    committed = darkroom.read("results", "drift").sort_values(keys, ignore_index=True)
    plain = names["drift"].sort_values(keys, ignore_index=True)[committed.columns]
    pd.testing.assert_frame_equal(plain, committed, check_dtype=False, check_categorical=False)
