"""Knows the files that say which class each output stands for."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from darkroom.errors import WrongUse

_NAMES: Final = tuple(
    f"{name}.{suffix}"
    for name in ("labels", "label", "class_names", "classes", "class_indices", "label_map", "labelmap")
    for suffix in ("txt", "json")
)
_METADATA: Final = "metadata.json"  # of Teachable Machine: {"labels": […], "tmVersion": …}
_NUMBERED: Final = re.compile(r"\s*(\d+)[\s:,.]+(\S.*)")
_KNOWN: Final = "one class a line, Teachable Machine's '0 plastic', a JSON list, {index: name} or {name: index}"


def labels_beside(path: Path) -> Path | None:
    """A labels file in a model's folder; of a SavedModel, in it or beside it."""
    folders = [path, path.parent] if path.is_dir() else [path.parent]
    for folder in folders:
        for name in _NAMES:
            if (folder / name).is_file():
                return folder / name
        metadata = folder / _METADATA
        if metadata.is_file() and b'"labels"' in metadata.read_bytes():
            return metadata
    return None


def read_labels(path: Path, classes: int | None = None) -> tuple[str, ...]:
    """Class names in the order of the model's outputs. `classes`: how many there must be.

    Raises: WrongUse for a file that cannot be understood, another number of names, and a name that comes twice.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUse(
            "The labels cannot be read.", file=path, expected=f"UTF-8: {_KNOWN}", found=str(error)
        ) from error
    names = _from_json(content, path) if content.lstrip()[:1] in ("[", "{") else _from_lines(content)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise WrongUse(
            "A class is named twice in the labels.",
            file=path,
            expected="one name a class",
            found=", ".join(repr(name) for name in twice),
            todo="give every output a name of its own",
        )
    if not names or any(not name for name in names):
        raise WrongUse("The labels have no name for a class.", file=path, expected=_KNOWN, found=f"{list(names)}")
    if classes is not None and len(names) != classes:
        raise WrongUse(
            "The labels and the model do not have the same number of classes.",
            file=path,
            expected=f"{classes} names, one for each output of the model, in their order",
            found=f"{len(names)}: {', '.join(names[:12])}{' …' if len(names) > 12 else ''}",
            todo="use the labels that were exported with this very model",
        )
    return names


def _from_lines(content: str) -> tuple[str, ...]:
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    # Classes may be called '10 mm' and '2 mm': numbers are indices only where they count all lines.
    pairs = [(int(match[1]), match[2].strip()) for match in numbered if match]
    if sorted(index for index, _ in pairs) == list(range(len(lines))):
        return tuple(name for _, name in sorted(pairs))
    return tuple(lines)


def _from_json(content: str, path: Path) -> tuple[str, ...]:
    try:
        value: Any = json.loads(content)
    except ValueError as error:
        raise WrongUse("The labels are no valid JSON.", file=path, expected=_KNOWN, found=str(error)) from error
    if isinstance(value, Mapping) and isinstance(value.get("labels"), list):
        value = value["labels"]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(name.strip() for name in value)
    if isinstance(value, Mapping):
        by_index = _by_index(value)
        if by_index is not None:
            return by_index
    raise WrongUse(
        "The labels do not say which class is which output.",
        file=path,
        expected=f"{_KNOWN}, with the indices 0, 1, 2 …",
        found=content.strip()[:120],
    )


def _by_index(value: Mapping[str, Any]) -> tuple[str, ...] | None:
    """{index: name} or {name: index}, whichever has the indices 0 … n − 1."""
    whole = list(range(len(value)))
    if all(isinstance(index, int) and not isinstance(index, bool) for index in value.values()):
        pairs = [(int(index), str(name)) for name, index in value.items()]
    elif all(key.strip().isdecimal() for key in value) and all(isinstance(name, str) for name in value.values()):
        pairs = [(int(index), name) for index, name in value.items()]
    else:
        return None
    pairs.sort()
    return tuple(name.strip() for _, name in pairs) if [index for index, _ in pairs] == whole else None
