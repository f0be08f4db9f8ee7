"""Which image a label is about: by its content id, or by a path whole or without the folders before it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import date

import pandas as pd


@dataclass(frozen=True)
class Joined:
    """Labels and what they are about. `rows`: LABELS; `unknown`: paths or ids that no scored image has, `ambiguous`:
    paths that several contents have had.
    """

    rows: pd.DataFrame
    unknown: tuple[str, ...]
    ambiguous: tuple[str, ...]


def find_images(rows: pd.DataFrame, files: pd.DataFrame) -> Joined:
    """The content of each label that has none: by its path, whole or without the folders before it. `files` are all
    paths ever seen. A path that was another content on another night needs the night, or the content id.

    Files are many more than labels: they are only filtered, and Python looks at those that a label may mean.
    """
    seen = files[files["content_id"].notna()]
    stated = rows["content_id"].map(lambda content: isinstance(content, str)).astype(bool)
    known = set(seen["content_id"][seen["content_id"].isin(rows.loc[stated, "content_id"])])
    path_of = _known_paths(set(rows.loc[~stated, "path"].astype(str)), seen["path"])
    contents = _contents_of(seen[seen["path"].isin(path_of.values())])
    found: list[str | None] = []
    unknown: list[str] = []
    ambiguous: list[str] = []
    for content, path, night in zip(rows["content_id"], rows["path"], rows["night"], strict=True):
        if isinstance(content, str):
            found.append(content)
            if content not in known:
                unknown.append(content)
            continue
        there = contents.get(path_of.get(str(path), ""), {})
        fitting = [one for one, when in there.items() if pd.isna(night) or night in when]
        found.append(fitting[0] if len(fitting) == 1 else None)
        if not fitting:
            unknown.append(str(path))
        elif len(fitting) > 1:
            ambiguous.append(str(path))
    filled = rows.assign(content_id=pd.Series(found, index=rows.index, dtype=object))
    return Joined(filled, tuple(unknown), tuple(ambiguous))


def _known_paths(stated: Set[str], seen: pd.Series) -> dict[str, str]:
    """Stated path → the seen one that it means: the longest end of it that was seen; of a bare name the only path that
    ends so. Paths that mean none are left out.
    """
    ends = {path: [path, *_ends(path)] for path in stated}
    there = set(seen[seen.isin({end for own in ends.values() for end in own})])
    meant = {path: next((end for end in own if end in there), None) for path, own in ends.items()}
    bare = {path: ends[path][-1] for path, known in meant.items() if known is None and len(ends[path]) == 2}
    alike: dict[str, set[str]] = defaultdict(set)
    names = set(bare.values())
    for path in seen if names else ():
        name = path.rpartition("/")[2]
        if name in names:
            alike[name].add(path)
    meant |= {path: next(iter(alike[name])) for path, name in bare.items() if len(alike[name]) == 1}
    return {path: known for path, known in meant.items() if known is not None}


def _ends(path: str) -> list[str]:
    parts = path.replace("\\", "/").split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _contents_of(seen: pd.DataFrame) -> Mapping[str, Mapping[str, set[date]]]:
    """Path → content → the nights on which it was that."""
    contents: dict[str, dict[str, set[date]]] = defaultdict(lambda: defaultdict(set))
    distinct = seen[["path", "content_id", "night"]].drop_duplicates()
    for path, content, night in distinct.itertuples(index=False):
        contents[path][content].add(night.date())
    return contents


def not_there(rows: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Without what the record says already: the same file may be brought twice."""
    facts = ["content_id", "path", "label", "source", "stratum"]

    def keys(frame: pd.DataFrame) -> pd.Series:
        if not len(frame):
            return pd.Series(dtype=str)
        # Where nobody said when, the label has the date at which it came, which is another each time.
        given, came = (pd.to_datetime(frame[name], utc=True) for name in ("labelled_at", "received_at"))
        said = given.astype(str).where(given != came, "")
        return frame[facts].fillna("").astype(str).assign(said=said).agg("\x1f".join, axis=1)

    once = rows[~keys(rows).duplicated(keep="last")]
    fresh: pd.DataFrame = once[~keys(once).isin(set(keys(before)))]
    return fresh
