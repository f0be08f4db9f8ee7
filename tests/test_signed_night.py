"""A night where signatures are required: what is sealed is refused, signed by a person, and then scored."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom import demo_world
from darkroom.results import commits
from darkroom.trust import TRUSTED_KEYS
from tasks.bundle import Bundle

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
NIGHT = ["--night", "2026-03-02", "--settle-seconds", "0", "--no-thumbnails"]


@pytest.fixture
def project(bundle: Bundle, tmp_path: Path) -> Path:
    """A folder with a bundle that nobody has signed, images, a key, and a policy that says so."""
    shutil.copytree(bundle.path.parent, tmp_path / "models" / "parts")
    demo_world.draw_night(tmp_path / "inbox", "good", images=12, seed=5)
    (tmp_path / "keys").mkdir()
    for command in ("genpkey -algorithm ed25519 -out private.pem", "pkey -in private.pem -pubout -out keys/ada.pem"):
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "darkroom.toml").write_text('trusted_keys = "keys"\n')
    return tmp_path


def darkroom(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != TRUSTED_KEYS}
    command = [sys.executable, "-m", "darkroom.cli", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_a_night_runs_once_the_bundle_is_signed_and_not_before(project: Path, bundle: Bundle) -> None:
    refused = darkroom(project, "score", "models/parts", "inbox", *NIGHT)
    assert refused.returncode == 1, refused.stderr
    assert "one of the trusted keys has signed" in refused.stderr
    assert "darkroom sign" in refused.stderr
    assert not list((project / "results").rglob("*.parquet"))
    version = f"models/parts/{bundle.manifest.version}"
    signed = darkroom(project, "sign", version, "--key", "private.pem")
    assert signed.returncode == 0, signed.stderr
    done = darkroom(project, "score", "models/parts", "inbox", *NIGHT)
    assert done.returncode == 0, done.stdout + done.stderr
    (commit,) = commits(project / "results", bundle.id)
    assert commit.counts.scored == 12
