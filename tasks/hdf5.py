"""Knows what of an HDF5 file lies in other files, and how large its arrays say that they are; no array is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def arrays(file: Any) -> Iterator[Any]:
    """Every dataset of an open h5py.File, each once for each of its names."""
    import h5py

    for entry in _entries(file):
        if isinstance(entry, h5py.Dataset):
            yield entry


def outside(file: Any) -> list[str]:
    """What an open h5py.File would read from other files, in words: a model would take it for its weights."""
    import h5py

    found = []
    for entry in _entries(file):
        if isinstance(entry, tuple):
            found.append(f"{entry[0]} → {entry[1]}")
        elif isinstance(entry, h5py.Dataset) and entry.external:
            found.append(f"{entry.name} → {entry.external[0][0]}")
        elif isinstance(entry, h5py.Dataset) and entry.is_virtual:
            found += [f"{entry.name} → {source.file_name}" for source in entry.virtual_sources()]
    return found


def _entries(file: Any) -> Iterator[Any]:
    """Groups and datasets below a group, each group once; of an external link (its name, its file)."""
    import h5py

    waiting, seen = [file], set()
    while waiting:
        group = waiting.pop()
        if group.id in seen:  # a hard link may lead back to where it came from
            continue
        seen.add(group.id)
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"{group.name}/{name}", link.filename
            elif isinstance(link, h5py.HardLink):
                entry = group[name]
                yield entry
                if isinstance(entry, h5py.Group):
                    waiting.append(entry)
