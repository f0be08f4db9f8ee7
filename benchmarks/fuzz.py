"""Bytes that look for what no door expects, guided by the code that they reach: Atheris, and tests.mutations beside it.

`python -m benchmarks.fuzz DOOR FOLDER [SECONDS] [SEED]` goes on from the corpus in the folder, and writes down there,
once each, what broke the law: `findings/` holds the bytes and where they led, `native-*` what the process ended by.
"""

from __future__ import annotations

import hashlib
import random
import re
import resource
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Final

from benchmarks.harness import Measured
from tests.mutations import mutated

DOORS: Final = ("image", "inbox", "bundle", "model", "suite", "predictions", "labels")
SECONDS: Final = 60
SEED: Final = 11
# What an input may take: a decoding process has as long, and headroom of as many bytes.
LIMIT_SECONDS: Final = 20
LIMIT_MEMORY: Final = 2 * 1024**3
_LONGEST: Final = 16_384
_INSTRUMENTED: Final = ["darkroom", "tasks", "expectations", "PIL", "zipfile"]
_OURS: Final = tuple(str(Path(__file__).parents[1] / name) for name in ("darkroom", "tasks", "expectations", "tests"))


@dataclass(frozen=True)
class Fuzzed:
    """A door after its time: inputs that went in, those that were kept for reaching new code, the slowest (seconds),
    and what broke the law, in a line each.
    """

    door: str
    executions: int
    corpus: int
    slowest: int
    findings: list[str]


def fuzz() -> Mapping[str, Measured]:
    """Every door for a minute; there may be no finding."""
    folder = Path(mkdtemp(prefix="darkroom-fuzz-"))
    told = [look(door, folder / door, SECONDS, SEED) for door in DOORS]
    found = [f"{one.door}: {finding}" for one in told for finding in one.findings]
    if not found:
        rmtree(folder)
    fewest = min(told, key=lambda one: one.executions)
    slowest = max(told, key=lambda one: one.slowest)
    per_door = ", ".join(f"{one.door} {one.executions:,} ({one.corpus:,} kept)" for one in told)
    return {
        "fuzz_findings": Measured(len(found), "; ".join(found) or per_door, [vars(one) for one in told], [SEED]),
        "fuzz_doors": Measured(len(told)),
        "fuzz_inputs": Measured(
            sum(one.executions for one in told), f"the fewest, {fewest.executions:,}: {fewest.door}"
        ),
        "fuzz_slowest_seconds": Measured(slowest.slowest, f"{slowest.door}; whole seconds"),
    }


def look(door: str, folder: Path, seconds: int, seed: int) -> Fuzzed:
    """One door, in a process of its own: its death is a finding."""
    command = [sys.executable, "-m", "benchmarks.fuzz", door, str(folder), str(seconds), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    said = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
    findings = [path.read_text().splitlines()[0] for path in sorted(folder.glob("findings/*.txt"))]
    findings += [f"{path.name}, in {folder}" for path in sorted(folder.glob("native-*"))]
    if not findings and (done.returncode or "number_of_executed_units" not in said):
        findings.append(f"ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    corpus = sum(1 for _ in folder.glob("corpus/*"))
    executed, slowest = (int(said.get(name, 0)) for name in ("number_of_executed_units", "slowest_unit_time_sec"))
    return Fuzzed(door, executed, corpus, slowest, findings)


def main(door: str, folder: Path, seconds: int = SECONDS, seed: int = SEED) -> None:
    """Knock until the time is over. What Python raises is written down, and the next input tried."""
    try:
        import atheris
    except ImportError:
        sys.exit("Atheris is not installed: pip install -c constraints.txt -e '.[fuzz]'")
    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests import doors
    known = doors.DOORS[door]
    for name in ("corpus", "findings", "seeds"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    seeds = known.seeds()
    for number, data in enumerate(seeds):
        (folder / "seeds" / f"{number:03d}").write_bytes(data)
        doors.knock(known, data)  # whatever a door loads, it has loaded by then
    _limit_memory()

    def enter(data: bytes) -> None:
        try:
            doors.knock(known, data)
        except Exception as problem:
            _write_down(folder / "findings", problem, data)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        draw = random.Random(number)
        if draw.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        # The first byte chooses, and is left alone.
        return data[:1] + mutated(data[1:], draw.choice(seeds)[1:], draw)[1][: most - 1]

    options = {
        "max_total_time": seconds,
        "seed": seed,
        "timeout": LIMIT_SECONDS,
        "report_slow_units": LIMIT_SECONDS,
        "rss_limit_mb": 0,  # the limit of addresses is one of every single input
        "max_len": max(_LONGEST, *map(len, seeds)),
        "artifact_prefix": f"{folder}/native-",
        "print_final_stats": 1,
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([door, *arguments, str(folder / "corpus"), str(folder / "seeds")], enter, custom_mutator=mutate)
    atheris.Fuzz()


def _limit_memory() -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + LIMIT_MEMORY, resource.RLIM_INFINITY))


def _write_down(folder: Path, problem: Exception, data: bytes) -> None:
    """One file for each kind of error at each place of ours."""
    place = _innermost(problem.__traceback__)
    name = hashlib.sha256(f"{type(problem).__name__} {place}".encode()).hexdigest()[:12]
    if not (folder / f"{name}.txt").exists():
        (folder / name).write_bytes(data)
        told = "".join(traceback.format_exception(problem))
        (folder / f"{name}.txt").write_text(f"{type(problem).__name__} at {place}: {str(problem)[:200]!r}\n{told}")


def _innermost(at: TracebackType | None) -> str:
    frames = [frame for frame in traceback.extract_tb(at) if frame.filename.startswith(_OURS)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"


if __name__ == "__main__":
    given: list[Any] = sys.argv[1:]
    main(given[0], Path(given[1]), *map(int, given[2:]))
