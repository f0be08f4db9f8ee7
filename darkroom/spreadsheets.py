"""Tables for people, as CSV: a cell that a spreadsheet would take for a formula is text, and comes back unchanged.

See OWASP, CSV Injection: a file's name may begin with `=`, and a spreadsheet would carry it out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Final

# Blanks are skipped by some of them; the wide signs are taken for the narrow ones in a Japanese locale.
_FORMULA: Final = re.compile(r"'*\s*[=+\-@\t\r\n＝＋－＠]")


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines that end in a line feed; texts as `in_a_cell`, numbers as they are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([in_a_cell(name) for name in columns])
    writer.writerows([[in_a_cell(value) if isinstance(value, str) else value for value in row] for row in rows])
    return text.getvalue()


def in_a_cell(text: str) -> str:
    """The text, behind a quotation mark where it would be a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def out_of_a_cell(text: str) -> str:
    """What `in_a_cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
