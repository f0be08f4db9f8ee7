"""Suspects: the rows of a night that are most worth a label, as a CSV that a person fills in and `evaluate` reads."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd

from darkroom.errors import StorageError, WrongUse
from darkroom.results import history, read
from darkroom.spreadsheets import as_csv
from expectations.labelling import choice_name, worth_labelling

COLUMNS = (
    "path",
    "label",
    "predicted_class",
    "confidence",
    "reasons",
    "stratum",
    "stratum_rows",
    "weight",
    "night",
    "content_id",
)


def suspects(
    results: Path, bundle: str, out: Path, *, night: date | None = None, count: int, by_lot: float, seed: int
) -> pd.DataFrame:
    """Write `count` rows of a night (None: the newest with images) to `out`; the column `label` is empty.

    Raises: WrongUse where nothing was scored that night, or the file is there already; StorageError where it cannot be
    written.
    """
    if night is None:
        nights = history(results, bundle)
        scored = nights.loc[nights["scored"] > 0, "night"].tolist()
        night = scored[-1] if scored else None
    columns = ["content_id", "path", "predicted_class", "confidence", "verdict", "reasons"]
    rows = (
        pd.DataFrame(columns=columns) if night is None else read(results, bundle=bundle, night=night, columns=columns)
    )
    if rows.empty:
        raise WrongUse(
            "There is nothing to label: no image of this bundle was scored.",
            file=results,
            expected="a night with scored images",
            found="none" if night is None else str(night),
        )
    chosen = worth_labelling(rows, count, by_lot, seed)
    choice = choice_name(f"{night}-{bundle}-{count}-{by_lot:g}-{seed}", len(rows))
    chosen = chosen.assign(
        label="",
        stratum=[f"{choice}/{name}" for name in chosen["stratum"]],
        reasons=["; ".join(reasons) for reasons in chosen["reasons"]],
        night=str(night),
    )[list(COLUMNS)]
    try:
        with out.open("x", encoding="utf-8") as there:
            there.write(as_csv(COLUMNS, chosen.itertuples(index=False)))
    except FileExistsError as error:
        raise WrongUse(
            "A file of this name is there, and somebody may have filled it in.",
            file=out,
            todo="name another one with --out, or remove it",
        ) from error
    except OSError as error:
        raise StorageError("The file of suspects cannot be written.", file=out, found=error.strerror) from error
    return chosen
