"""The tutorials, from the first line to the last, as somebody would who copies them into a terminal."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import darkroom

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

DOCS = Path(__file__).parent.parent / "docs"
_BLOCK = re.compile(r"(?:<!-- (?P<note>[^>]*) -->\n)?```(?P<kind>sh|python)\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of a page, and what the page's source says of it."""

    kind: str
    text: str
    note: str


def blocks(page: str) -> list[Block]:
    found = _BLOCK.finditer((DOCS / f"{page}.md").read_text())
    return [Block(one["kind"], one["text"], one["note"] or "") for one in found]


class Terminal:
    """A folder in which the blocks of a page are run, one after the other, in one shell's environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""
        self.background: list[subprocess.Popen[str]] = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.environment = {
            **ours,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}",
            "PREFECT_HOME": str(folder / "prefect home"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PYTHONPATH": str(DOCS.parent),
        }

    def follow(self, page: str) -> None:
        """Everything that the page says to do."""
        for block in blocks(page):
            if block.note.startswith("not in the tests"):
                continue
            if block.kind == "python":
                name, _, text = block.text.partition("\n")
                (self.folder / name.removeprefix("# ")).write_text(text)
            elif block.note == "in the background":
                self._start(block.text)
            else:
                self._run(block)

    def _here(self, text: str) -> str:
        """The address of the page is taken on this machine, perhaps: another port."""
        return text.replace("darkroom serve", f"darkroom serve --port {self.port}").replace("4200", f"{self.port}")

    def _run(self, block: Block) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._here(block.text)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        self.said += done.stdout
        allowed = {"exit code 1": {1}, "exit code 1 allowed": {0, 1}}.get(block.note, {0})
        assert done.returncode in allowed, f"{block.text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr

    def _start(self, text: str) -> None:
        log = self.folder / "background.log"
        with log.open("w") as told:
            command = ["bash", "-c", self._here(text).replace("darkroom serve", "exec darkroom serve")]
            started = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=told, stderr=subprocess.STDOUT, text=True
            )
        self.background.append(started)
        end = time.monotonic() + 180
        while "Ctrl-C" not in log.read_text():
            assert started.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.5)

    def close(self) -> None:
        for process in self.background:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=90)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def test_a_wrong_model_comes_to_the_cause_that_the_page_names(terminal: Terminal) -> None:
    terminal.follow("wrong")
    assert "Scaling to [0, 1] and RGB are certain" in terminal.said
    named = re.search(
        r"\(decoder=pillow, resizer=pillow_nearest, scaling=identity\): that reproduces (\d+) of \1", terminal.said
    )
    assert named, terminal.said
    right = re.search(r"(\d+)% right", terminal.said)
    assert right
    assert int(right[1]) >= 80, terminal.said


def test_the_first_tutorial_ends_with_a_scored_night(terminal: Terminal) -> None:
    terminal.follow("tutorial")
    results = terminal.folder / "parts" / "results"
    last_night = datetime.now(ZoneInfo("Europe/Berlin")).date() - timedelta(days=1)
    assert len(darkroom.read(results, night=last_night)) > 30
    assert (results / "reports" / "index.html").exists()
