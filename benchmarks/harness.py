"""How a promise is measured: rows of a table, targets read from a file, raw trials kept."""

from __future__ import annotations

import json
import os
import platform
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
TOPICS = sorted(tomllib.loads((HERE / "targets.toml").read_text()))
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">=": lambda found, target: found >= target,
    "<=": lambda found, target: found <= target,
    "==": lambda found, target: found == target,
}


@dataclass(frozen=True)
class Measured:
    """One figure: the value that is compared with the target, a note for people, the raw trials and seeds."""

    value: float
    note: str = ""
    trials: Sequence[Any] = field(default_factory=list)
    seeds: Sequence[int] = field(default_factory=list)


Row = Callable[[], Mapping[str, Measured]]


def run_topic(topic: str, rows: Mapping[str, Row], only: Sequence[str] = ()) -> int:
    """Measure the rows of a topic, print the table, write the JSON; returns how many targets were missed."""
    targets = tomllib.loads((HERE / "targets.toml").read_text())[topic]
    console = Console()
    table = Table(title=f"benchmarks {topic}", title_justify="left")
    for column in ("figure", "target", "found", "", "note"):
        table.add_column(column)
    kept: dict[str, Any] = {}
    missed = 0
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    path = results / f"{topic}-{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    for name, row in rows.items():
        if only and name not in only:
            continue
        started = time.perf_counter()
        console.print(f"[dim]{topic}: {name} …[/dim]")
        try:
            figures = row()
        except Exception as error:  # the other rows are worth having
            console.print_exception()
            figures = {
                f"{name}: {type(error).__name__}": Measured(float("nan"), (str(error).splitlines() or [""])[0][:200])
            }
        seconds = time.perf_counter() - started
        for figure, measured in figures.items():
            target = targets.get(figure, {"is": "==", "target": "a figure"})
            met = COMPARE[target["is"]](measured.value, target["target"])
            missed += not met
            mark = "[green]met[/green]" if met else "[red]missed[/red]"
            cells = (figure, f"{target['is']} {target['target']}", f"{measured.value:.6g}", mark, measured.note)
            table.add_row(*cells)
            console.print("  " + "  ".join(cells), soft_wrap=True)
            kept[figure] = {
                "target": target,
                "found": measured.value,
                "met": met,
                "note": measured.note,
                "trials": list(measured.trials),
                "seeds": list(measured.seeds),
                "row": name,
                "seconds": round(seconds, 2),
            }
        path.write_text(json.dumps({"topic": topic, "machine": machine(), "figures": kept}, indent=1, default=str))
    console.print(table)
    console.print(f"raw trials: {path.relative_to(HERE.parent)}")
    return missed


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    libraries = ("tensorflow", "keras", "numpy", "pillow", "pyarrow", "prefect", "great-expectations")
    return {
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "system": platform.platform(),
        **{name: version(name) for name in libraries},
    }
