"""Knows what could change a number: the libraries that decode and compute, and the kind of processor."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final


def import_tensorflow() -> Any:
    """TensorFlow, imported without the lines that it writes on start-up: they come from static initialisers, before
    any log level is heard, and help nobody who runs a flow. What it says when it fails is passed on.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        sys.stderr.flush()
        terminal = os.dup(2)
        with tempfile.TemporaryFile() as said:
            os.dup2(said.fileno(), 2)
            try:
                import tensorflow
            except BaseException:
                said.seek(0)
                os.write(terminal, said.read())
                raise
            finally:
                os.dup2(terminal, 2)
                os.close(terminal)
    import tensorflow

    return tensorflow


# How many cores a process may use that is one of several workers of a machine.
SHARE: Final = "DARKROOM_CORES"


def share() -> int | None:
    """Cores that this process was given; None: nobody has limited it."""
    given = os.environ.get(SHARE, "")
    return max(1, int(given)) if given.isdecimal() else None


def cores() -> int:
    """Cores that this process may use: its share of those that there are."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(share() or there, there)


def may_have_gpu() -> bool:
    """Whether TensorFlow is worth asking for one: a device of NVIDIA, of AMD or of WSL, or a system that shows none."""
    return sys.platform != "linux" or any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


@lru_cache
def machine_type() -> str:
    """System, processor family and widest vector instructions, such as `Linux-x86_64-avx512`.

    Kernels are chosen by these, and each sums in another order: equal machine types have the tighter tolerance.
    """
    family = f"{platform.system()}-{platform.machine()}"
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return family
    widest = next((name for flag, name in _VECTORS if flag in flags), None)
    return family if widest is None else f"{family}-{widest}"


_VECTORS = (("avx512f", "avx512"), ("avx2", "avx2"), ("avx", "avx"), ("sve", "sve"), ("asimd", "neon"))


@lru_cache
def libraries() -> dict[str, str]:
    """Versions of what turns bytes into probabilities. Imports neither TensorFlow nor Keras where it need not."""
    import numpy
    import PIL
    from PIL import features

    # zlib is left out: whichever library was loaded first answers for it, and inflating has one result only.
    codecs = {"libjpeg-turbo": features.version("libjpeg_turbo"), "webp": features.version("webp")}
    return {
        **_own(),
        "python": platform.python_version(),
        "pillow": PIL.__version__,
        **{name: str(version) for name, version in codecs.items() if version},
        "numpy": numpy.__version__,
        "tensorflow": _version("tensorflow") or str(import_tensorflow().__version__),  # as tensorflow-cpu has it
        "keras": _version("keras") or "",
    }


def _own() -> dict[str, str]:
    version = _version("darkroom")
    return {"darkroom": version} if version else {}  # none: a checkout that was never installed


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
