"""What the documents say is what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from darkroom.environment import READ, SET
from darkroom.orchestrator.events import EVENTS
from darkroom.orchestrator.notices import NAMES
from darkroom.reasons import MEANINGS, FileStatus, NightVerdict, Reason, Verdict
from darkroom.schemas import DATASETS, PROPERTY_FIELDS
from docs import generate
from tasks.report.metrics import METRICS

ROOT = Path(__file__).parent.parent
DOCS = {path.stem: path.read_text() for path in (ROOT / "docs").glob("*.md")}


def _command(name: str) -> str:
    readme = (ROOT / "README.md").read_text()
    found = re.search(rf"<!-- {name} command -->\n```sh\n(.*?)\n```\n<!-- end -->", readme, re.DOTALL)
    assert found, f"the README has no {name} command"
    return found[1]


def test_each_of_the_two_commands_of_the_readme_is_one_line_that_sets_up_and_runs() -> None:
    for name, runs in (("demo", "darkroom demo"), ("test", "pytest")):
        command = _command(name)
        assert "\n" not in command
        assert "pip install" in command
        assert "-c constraints.txt" in command
        assert runs in command


def test_ci_runs_the_test_command_of_the_readme_and_not_a_copy_of_it() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert "<!-- test command -->" in script
    assert "-m pytest" not in script


@pytest.mark.parametrize("reason", list(Reason), ids=str)
def test_every_reason_code_is_documented_with_its_sentence(reason: Reason) -> None:
    assert f"| `{reason}` | {'yes' if reason.retryable else 'no'} | {reason.sentence} |" in DOCS["results"]


@pytest.mark.parametrize("name", [field.name for field in PROPERTY_FIELDS])
def test_every_image_property_is_documented(name: str) -> None:
    assert f"| `{name}` |" in DOCS["results"]


@pytest.mark.parametrize(
    ("dataset", "column"),
    [(name, field.name) for name, schema in DATASETS.items() for field in schema if field not in PROPERTY_FIELDS],
)
def test_every_column_is_documented(dataset: str, column: str) -> None:
    section = DOCS["results"].split(f"\n## {dataset}\n")[1].split("\n## ")[0]
    assert f"`{column}`" in section


@pytest.mark.parametrize("word", [*FileStatus, *Verdict, *NightVerdict], ids=str)
def test_every_word_of_a_verdict_is_documented(word: str) -> None:
    assert f"| `{word}` |" in DOCS["scoring"]


@pytest.mark.parametrize(("event", "payload"), EVENTS.items(), ids=EVENTS.keys())
def test_every_event_is_documented_with_its_payload(event: str, payload: type[BaseModel]) -> None:
    (row,) = [
        line for line in DOCS["being-told"].splitlines() if line.startswith("| `darkroom.") and f"`{event}`" in line
    ]
    assert [name for name in payload.model_fields if f"`{name}`" not in row] == []


@pytest.mark.parametrize("name", [*NAMES, *(metric.name for metric in METRICS)])
def test_every_notice_and_every_metric_is_documented(name: str) -> None:
    assert f"`{name}`" in DOCS["being-told"]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_every_link_between_documents_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def _commands() -> dict[str, Any]:
    import typer.main

    from darkroom.cli import app

    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def _documented() -> list[tuple[str, str]]:
    """(page, line) of every darkroom command in a block of shell."""
    found = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                found += [(page.name, part.strip()) for part in line.split("&&") if "darkroom " in part.split("#")[0]]
    return [(page, line) for page, line in found if re.match(r"(\S*/)?darkroom ", line)]


@pytest.mark.parametrize(("page", "line"), _documented(), ids=lambda text: text[:60])
def test_every_command_in_the_documents_is_one_that_the_command_line_takes(page: str, line: str) -> None:
    _, name, *arguments = shlex.split(line, comments=True)
    command = _commands()[name]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.split("=")[0] for word in arguments if word.startswith("--")} <= options, f"{page}: {line}"


def test_every_command_is_in_a_document() -> None:
    told = "\n".join([*DOCS.values(), (ROOT / "README.md").read_text()])
    assert [name for name in _commands() if f"darkroom {name}" not in told] == []


@pytest.mark.filterwarnings("ignore")  # of Prefect's imports
@pytest.mark.parametrize("name", list(generate.PAGES))
def test_the_reference_is_what_the_code_says(name: str) -> None:
    page = generate.FOLDER / f"{name}.md"
    assert page.read_text(encoding="utf-8") == generate.HEAD + generate.PAGES[name](), "run: python -m docs.generate"


def test_every_page_of_the_reference_is_written_from_the_code_and_found_in_the_contents() -> None:
    pages = sorted(page.stem for page in generate.FOLDER.glob("*.md"))
    assert pages == sorted(generate.PAGES)
    contents = (ROOT / "mkdocs.yml").read_text()
    assert [page for page in pages if f"reference/{page}.md" not in contents] == []


def test_every_word_of_the_results_has_a_meaning() -> None:
    import inspect
    from enum import StrEnum

    from darkroom import reasons

    words = [kind for _, kind in inspect.getmembers(reasons, inspect.isclass) if issubclass(kind, StrEnum)]
    assert set(MEANINGS) == set(words) - {StrEnum}
    assert [word for kind in MEANINGS for word in kind if not MEANINGS[kind].get(word)] == []


def test_every_variable_of_the_environment_that_is_looked_at_is_documented() -> None:
    looked_at = set()
    for room in ("darkroom", "flows", "tasks", "expectations"):
        for file in (ROOT / room).rglob("*.py"):
            text = file.read_text()
            looked_at |= set(re.findall(r"environ(?:\.get\(|\.setdefault\(|\[)\s*\"(\w+)\"", text))
            looked_at |= set(re.findall(r"\"(\w+)\" (?:not )?in os\.environ", text))
            looked_at |= set(re.findall(r"\"(DARKROOM_\w+)\"", text))
    told = {*READ, *SET, "no_proxy"}
    # What Prefect and we tell our own processes.
    own = {name for name in looked_at if name.startswith("PREFECT__")} | {"DARKROOM_PRIVATE_API"}
    assert looked_at - own - told == set()
