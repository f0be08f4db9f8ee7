"""What the packages that requirements.lock pins may be used for: the licence of each, as its own metadata says."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement

from docs.markdown import table

LOCK: Final = Path(__file__).parent.parent / "requirements.lock"

PERMISSIVE: Final = frozenset(
    [
        "0BSD",
        "Apache-2.0",
        "Artistic-1.0-Perl",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "PSF-2.0",
        "Zlib",
    ]
)
# Who changes such a file and hands it on hands on its source; whoever only uses it owes nothing.
WEAK_COPYLEFT: Final = frozenset({"MPL-2.0"})

# Names from before SPDX that leave no doubt which licence is meant.
SPELLINGS: Final = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "BSD 3-Clause": "BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}

# Read in their licence files: their metadata says nothing, or only "BSD".
READ: Final = {
    "altair": "BSD-3-Clause",
    "astunparse": "BSD-3-Clause AND PSF-2.0",
    "colorama": "BSD-3-Clause",
    "contourpy": "BSD-3-Clause",
    "cronsim": "BSD-3-Clause",
    "cycler": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "jinja2-humanize-extension": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "namex": "Apache-2.0",
    "openvino-telemetry": "Apache-2.0",
    "partd": "BSD-3-Clause",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "text-unidecode": "Artistic-1.0-Perl",  # or the GPL, as one likes
    "zict": "BSD-3-Clause",
    # Not installed with every Python, and the page is the same with all.
    "async-timeout": "Apache-2.0",
    "importlib-metadata": "Apache-2.0",
    "lazy-importer": "Apache-2.0",
    "pendulum": "MIT",
    "tzdata": "Apache-2.0",
    "whenever": "MIT",
    "zipp": "MIT",
}


def locked(lock: Path = LOCK) -> list[Requirement]:
    """What a lock file pins, without the digests."""
    lines = (line.removesuffix("\\") for line in lock.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line[:1] not in (" ", "#", "")]


def stated(package: str) -> str | None:
    """The SPDX expression that an installed package's metadata says. None: it says nothing, or nothing exact.

    Raises:
        PackageNotFoundError: it is not installed.

    """
    facts = metadata.metadata(package)
    classifiers = [name for name in facts.get_all("Classifier", []) if name.startswith("License ::")]
    # Whether of several all hold or one is chosen, classifiers do not say.
    only = [name.rpartition(" :: ")[2] for name in classifiers if len(classifiers) == 1]
    for said in (facts.get("License-Expression"), facts.get("License"), *only):
        try:
            return canonicalize_license_expression(SPELLINGS.get(said or "", said or ""))
        except InvalidLicenseExpression:
            continue
    return None


def licence(package: str) -> str:
    """The licence of a package, as an SPDX expression.

    Raises:
        LookupError: nobody knows.

    """
    known = READ.get(package) or stated(package)
    if known is None:
        raise LookupError(f"{package} does not say its licence: read its licence file, and add it to READ")
    return known


def named(expression: str) -> Iterator[str]:
    """Each licence that an expression names."""
    words = expression.replace("(", " ").replace(")", " ").split()
    return (word for word in words if word not in ("AND", "OR"))


def page() -> str:
    """Every package that darkroom runs with, its version and licence."""
    rows = [[one.name, str(one.specifier).removeprefix("=="), licence(one.name)] for one in locked()]
    weak = [name for name, _, under in rows if not WEAK_COPYLEFT.isdisjoint(named(under))]
    return (
        "# Licences\n\n"
        "darkroom is under the MIT licence. These are the packages that it runs with, with all of its extras, as "
        "`requirements.lock` pins them. A test fails for a package whose licence is unknown or not among these:\n\n"
        f"- permissive: {', '.join(sorted(PERMISSIVE))};\n"
        f"- weak copyleft: {', '.join(sorted(WEAK_COPYLEFT))} ({', '.join(weak)}), which binds those who hand on "
        "changed files of the package, and darkroom changes none.\n\n"
        "The licence is that of the package. Its wheel may hold libraries of others, as that of "
        "`opencv-python-headless` holds FFmpeg (LGPL 2.1), and those of `numpy` and `scipy` the run-time library of "
        "GCC (GPL 3 with its exception): whoever hands on wheels or an image of a container finds these licences "
        "inside of the wheels.\n\n" + table(["package", "version", "licence"], rows)
    )
