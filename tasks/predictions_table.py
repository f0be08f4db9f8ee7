"""CSV, Parquet, JSON or JSON lines as somebody wrote it → named columns, nothing interpreted but where a cell ends."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from darkroom.errors import DarkroomError, WrongUse

_DELIMITERS: Final = (",", ";", "\t", "|")
_LARGEST: Final = 500_000_000  # bytes: a million rows of a hundred classes
_MOST_CELLS: Final = 100_000_000  # that is as many
_INDEX: Final = ""  # how pandas names the column of its index


@dataclass(frozen=True)
class Columns:
    """A table: columns by name, all of one length, cells as they were (text, numbers, lists or None)."""

    cells: Mapping[str, Sequence[Any]]
    decimal_comma: bool
    findings: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(next(iter(self.cells.values()), ()))


def read_columns(file: Path) -> Columns:
    """Read a table by what it is, not by how it is named.

    Raises: WrongUse for a file that is missing, empty, too large, or no table.
    """
    try:
        size = file.stat().st_size
        if size > _LARGEST:
            raise _no_table(file, f"{size:,} bytes, the limit is {_LARGEST:,}")
        data = file.read_bytes()
    except OSError as problem:
        raise _no_table(file, problem.strerror or problem) from problem
    if data.startswith(b"PAR1"):
        found = _parquet(file, data)
    else:
        text, findings = _text(file, data)
        if not text.replace(",", "").replace(";", "").strip():
            raise _no_table(file, "an empty file")
        begins = text.lstrip()[:1]
        found = _json(file, text, findings) if begins in ("{", "[") else _csv(file, text, findings)
    if not found.rows:
        raise _no_table(file, f"columns {', '.join(found.cells) or 'none'}, and no row")
    return found


def _text(file: Path, data: bytes) -> tuple[str, tuple[str, ...]]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16"), ("The file is UTF-16.",)
        except UnicodeDecodeError as problem:
            raise _no_table(file, problem) from problem
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        if b"\x00" in data[:1024]:
            raise _no_table(file, f"a binary file that begins with {data[:8]!r}") from None
        return data.decode("cp1252", "replace"), ("The file is no UTF-8; it was read as Windows-1252.",)


def _csv(file: Path, text: str, findings: tuple[str, ...]) -> Columns:
    first = next(line for line in text.splitlines() if line.strip())
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        # Quotes around "a;b" must not decide: the header is parsed with each, and the most columns win.
        delimiter = max((delimiter, *_DELIMITERS), key=lambda one: len(next(csv.reader([first], delimiter=one), [])))
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True) if any(row)]
    except csv.Error as problem:
        raise _no_table(file, problem) from problem
    if not rows:
        raise _no_table(file, "no cell with anything in it")
    header, body = [name.strip() for name in rows[0]], rows[1:]
    _only_once(file, header)
    uneven = next((number for number, row in enumerate(body, start=2) if len(row) != len(header)), None)
    if uneven is not None:
        raise WrongUse(
            "A row of the predictions has another number of cells than the header.",
            file=file,
            expected=f"{len(header)} cells, separated by {delimiter!r}: {', '.join(header)[:200]}",
            found=f"{len(body[uneven - 2])} cells in row {uneven}: {delimiter.join(body[uneven - 2])[:200]}",
            todo="quote names that hold the separator; with decimal commas separate the columns by semicolons",
        )
    cells = {name: [row[column].strip() for row in body] for column, name in enumerate(header)}
    if delimiter != ",":
        findings += (f"Columns are separated by {delimiter!r}.",)
    return Columns(cells, delimiter != ",", findings)


def _parquet(file: Path, data: bytes) -> Columns:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(io.BytesIO(data)) as parquet:
            said = parquet.metadata
            check_cells(file, said.num_rows, said.num_columns)
            unpacked = sum(said.row_group(group).total_byte_size for group in range(said.num_row_groups))
            if unpacked > _LARGEST:
                raise _no_table(file, f"{unpacked:,} bytes once it is unpacked, the limit is {_LARGEST:,}")
            table = parquet.read()
        cells = [column.to_pylist() for column in table.columns]
    except DarkroomError:
        raise
    except Exception as problem:  # Arrow's own, and what Python makes of values that it cannot hold
        raise _no_table(file, problem) from problem
    _only_once(file, table.column_names)
    return Columns(dict(zip(table.column_names, cells, strict=True)), False, ())


def _json(file: Path, text: str, findings: tuple[str, ...]) -> Columns:
    try:
        try:
            stated = json.loads(text)
        except json.JSONDecodeError:
            stated = [json.loads(line) for line in text.splitlines() if line.strip()]
    except RecursionError as problem:
        raise _no_table(file, "JSON that is nested too deeply") from problem
    except ValueError as problem:  # also a number of thousands of digits
        raise _no_table(file, f"neither JSON nor JSON lines: {problem}") from problem
    return Columns(_from_json(file, stated), False, findings)


def _from_json(file: Path, stated: Any) -> dict[str, list[Any]]:
    """Records, columns, path → record, path → list, or any of these inside an object of one key."""
    if isinstance(stated, list):
        if all(isinstance(record, dict) for record in stated):
            return _from_records(file, stated)
        raise _no_table(file, f"a JSON list of {type(stated[0]).__name__}")
    if isinstance(stated, dict):
        values = list(stated.values())
        if len(values) == 1 and isinstance(values[0], list) and all(isinstance(one, dict) for one in values[0]):
            return _from_records(file, values[0])
        if values and all(isinstance(one, list) for one in values):
            lengths = {len(one) for one in values}
            if any(not isinstance(cell, (int, float)) for cell in values[0]) and len(lengths) == 1:
                return {str(name): list(column) for name, column in stated.items()}
            return {"path": list(stated), "probabilities": values}
        if values and all(isinstance(one, dict) for one in values):
            if "path" in stated or _INDEX in stated:  # pandas' to_json: column → index → cell
                index = list(values[0])
                return {str(name): [column.get(key) for key in index] for name, column in stated.items()}
            return {"path": list(stated), **_from_records(file, values)}
        if values and all(isinstance(one, str) for one in values):
            return {"path": list(stated), "predicted": values}
        if len(stated) > 1 and "path" in stated:  # JSON lines of one line
            return _from_records(file, [stated])
    raise _no_table(file, f"JSON that is no table: {json.dumps(stated)[:200]}")


def _from_records(file: Path, records: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    records = list(records)
    names = dict.fromkeys(str(name) for record in records for name in record)
    check_cells(file, len(records), len(names))
    return {name: [record.get(name) for record in records] for name in names}


def check_cells(file: Path, rows: int, columns: int) -> None:
    """Raises WrongUse for more cells than a file is worth: records that each name columns of their own are their
    square.
    """
    if rows * columns > _MOST_CELLS:
        raise _no_table(file, f"{rows:,} rows of {columns:,} columns, the limit is {_MOST_CELLS:,} cells")


def _only_once(file: Path, names: Sequence[str]) -> None:
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise WrongUse(
            "Two columns of the predictions have one name.",
            file=file,
            expected="a name of its own for every column",
            found=f"{twice[0]!r} more than once" if twice[0] else "several columns without a name",
            todo="name the columns after the classes",
        )


def _no_table(file: Path, found: object) -> WrongUse:
    return WrongUse(
        "The predictions cannot be read.",
        file=file,
        expected="a table: CSV with a header, Parquet, JSON or JSON lines",
        found=found,
        todo="write a column `path` and one column of probabilities for each class",
    )
