"""What is installed beside darkroom, what it may be used for, and what darkroom itself is installed from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from darkroom import __version__, demo_world
from docs.licences import LOCK, PERMISSIVE, READ, WEAK_COPYLEFT, licence, locked, named, stated
from tasks.bundle import Bundle

ROOT = Path(__file__).parent.parent
LOCKS = (LOCK, ROOT / "requirements-build.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("darkroom", "flows", "tasks", "expectations")
EXTRAS_OF_THE_LOCK = ("cloud", "dask", "legacy", "openvino")


def constraints() -> dict[str, str]:
    pins = (line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    return {canonicalize_name(name): version for name, version in pins}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_what_the_constraints_pin(lock: Path) -> None:
    pinned = {canonicalize_name(one.name): str(one.specifier) for one in locked(lock)}
    assert pinned
    assert pinned.items() <= {name: f"=={version}" for name, version in constraints().items()}.items()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_has_pins_with_digests_and_nothing_else(lock: Path) -> None:
    text = re.sub(r"^ *#.*\n", "", lock.read_text(), flags=re.MULTILINE)
    entry = r"[\w.-]+(\[[\w, -]+\])?==[\w.]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    assert re.fullmatch(f"({entry})+", text)


def needed(requirements: Iterable[Requirement]) -> set[str]:
    """What these need on this machine, and what that needs, by what is installed."""
    seen: set[tuple[str, str]] = set()
    todo = [(one, "") for one in requirements]
    while todo:
        one, asked_for = todo.pop()
        if one.marker and not one.marker.evaluate({"extra": asked_for}):
            continue
        name = canonicalize_name(one.name)
        for extra in {"", *one.extras} - {extra for package, extra in seen if package == name}:
            seen.add((name, extra))
            todo += [(Requirement(text), extra) for text in metadata.requires(name) or []]
    return {name for name, _ in seen}


def test_the_lock_is_all_that_darkroom_and_its_extras_need_and_no_more() -> None:
    stated = [*PROJECT["project"]["dependencies"]]
    for extra in EXTRAS_OF_THE_LOCK:
        stated += PROJECT["project"]["optional-dependencies"][extra]
    here = {canonicalize_name(one.name) for one in locked() if one.marker is None or one.marker.evaluate()}
    assert here == needed(map(Requirement, stated))


def test_every_extra_that_runs_somewhere_is_in_the_lock() -> None:
    assert {*PROJECT["project"]["optional-dependencies"]} == {*EXTRAS_OF_THE_LOCK, "test", "dev", "fuzz"}


def test_what_builds_the_wheel_is_pinned_where_it_is_built() -> None:
    assert PROJECT["build-system"]["requires"] == [f"hatchling=={constraints()['hatchling']}"]
    assert {canonicalize_name(one.name) for one in locked(LOCKS[1])} == needed([Requirement("hatchling")])


@pytest.mark.parametrize("package", [one.name for one in locked()])
def test_every_package_has_a_licence_that_is_allowed(package: str) -> None:
    assert set(named(licence(package))) <= PERMISSIVE | WEAK_COPYLEFT


OSI = "Classifier: License :: OSI Approved ::"
SAID = {
    "an expression": ("License-Expression: MIT or mpl-2.0\nLicense: Apache-2.0", "MIT OR MPL-2.0"),
    "a name from before SPDX": ("License: Apache 2.0", "Apache-2.0"),
    "a classifier beside a whole text": (f"License: Copyright me\n{OSI} MIT License", "MIT"),
    "nothing": ("", None),
    "a family of licences": (f"License: BSD\n{OSI} BSD License", None),
    "several, which may mean all or any": (f"{OSI} MIT License\n{OSI} Apache Software License", None),
}


@pytest.mark.parametrize(("says", "means"), SAID.values(), ids=SAID.keys())
def test_a_licence_is_what_the_metadata_says_exactly_and_never_a_guess(
    says: str, means: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somebodys-1.dist-info").mkdir()
    (tmp_path / "somebodys-1.dist-info/METADATA").write_text(f"Name: somebodys\nVersion: 1\n{says}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert stated("somebodys") == means
    if means is None:
        with pytest.raises(LookupError, match="somebodys does not say its licence"):
            licence("somebodys")


def test_a_licence_that_was_read_is_of_a_package_of_the_lock_and_not_against_its_metadata() -> None:
    here = {one.name for one in locked() if one.marker is None or one.marker.evaluate()}
    assert READ.keys() <= {one.name for one in locked()}
    assert {name: READ[name] for name in READ if name in here and stated(name) not in (None, READ[name])} == {}


class Built(NamedTuple):
    """What a build leaves."""

    wheel: Path
    sdist: Path


def build(source: Path, into: Path) -> Built:
    """By the command of docs/releasing.md."""
    found = re.search(r"<!-- build -->\n```sh\n(.*)\n```", (ROOT / "docs/releasing.md").read_text())
    assert found
    bin_folder = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = f"{found[1]} --directory '{into}'"
    subprocess.run(command, shell=True, check=True, cwd=source, env={**os.environ, "PATH": bin_folder})
    (wheel,), (sdist,) = into.glob("*.whl"), into.glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(ROOT, tmp_path_factory.mktemp("built"))


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_wheel_is_the_four_packages_with_everything_in_them(built: Built) -> None:
    inside = {name for name in zipfile.ZipFile(built.wheel).namelist() if ".dist-info/" not in name}
    files = {file for room in PACKAGES for file in (ROOT / room).rglob("*") if file.is_file()}
    assert inside == {file.relative_to(ROOT).as_posix() for file in files if file.parent.name != "__pycache__"}


def test_the_sdist_elsewhere_and_later_builds_the_same_wheel_and_the_same_sdist(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as packed:
        packed.extractall(tmp_path / "elsewhere", filter="data")
    (source,) = (tmp_path / "elsewhere").iterdir()
    for file in source.rglob("*"):
        file.chmod(file.stat().st_mode & 0o700)  # of somebody with another umask
        os.utime(file)
    time.sleep(2)  # the least that the clock of a zip archive tells
    again = build(source, tmp_path / "again")
    assert (digest(again.wheel), digest(again.sdist)) == (digest(built.wheel), digest(built.sdist))


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and of the environment of the tests only the libraries."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(built.wheel)], check=True)
    # A folder that a .pth names is no site: the .pth in there, which names the checkout, is not read.
    packages = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    (Path(packages) / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return home / "bin"


def run(command: list[object], cwd: Path) -> str:
    """In a folder that is not the checkout, with nothing that points there."""
    of_the_tests = ("PREFECT_", "PYTHON", "DARKROOM_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(of_the_tests)}
    environment = {**own, "PREFECT_HOME": str(cwd / "prefect")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_wheel_away_from_the_checkout_begins_a_project_and_scores_a_night(
    installed: Path, bundle: Bundle, tmp_path: Path
) -> None:
    imports = f"import {', '.join(PACKAGES)}; print(*(room.__file__ for room in ({', '.join(PACKAGES)})), sep='\\n')"
    homes = run([installed / "python", "-c", imports], tmp_path).split()
    assert all(Path(home).is_relative_to(installed.parent) for home in homes), homes
    assert run([installed / "darkroom", "--version"], tmp_path).strip() == f"darkroom {__version__}"

    run([installed / "darkroom", "init", "project", "--json"], tmp_path)
    assert str(installed / "darkroom") in (tmp_path / "project/darkroom.service").read_text()

    demo_world.draw_night(tmp_path / "inbox", "good", images=24, seed=5)
    night = ["--settle-seconds", 0, "--results", "results", "--json"]
    told = json.loads(run([installed / "darkroom", "score", bundle.path, "inbox", *night], tmp_path))
    assert told["counts"]["scored"] == 24
    (of_the_night,) = (tmp_path / "results/reports").glob("*/*/*/index.html")
    for page in (of_the_night, tmp_path / "results/reports/index.html"):
        assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
