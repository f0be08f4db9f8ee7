"""The public functions: `darkroom.predict`, `read`, `acknowledge` and `evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pandas as pd

from darkroom.acknowledgements import Acknowledgement
from darkroom.acknowledgements import acknowledge as _acknowledge
from darkroom.errors import WrongUse
from darkroom.results import Dataset
from darkroom.results import read as _read

if TYPE_CHECKING:
    from flows.evaluation_words import Evaluation


def predict(bundle: str | Path, files: Iterable[str | Path], *, processes: int | None = None) -> pd.DataFrame:
    """Predict images, with the same preparation and the same doubts as in the nightly run; nothing is written.

    One image gives the same answer alone, in a batch and in the night. Decoding runs in processes of its own, so that
    a broken file cannot hurt the caller.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.
        files: Image files.
        processes: Decoding processes; one a core, and no more than files, where nothing is said.

    Returns:
        One row a file in the order given: the columns of the predictions dataset (docs/results.md). A file that cannot
        be scored has the verdict `quarantined`, its reason in `reasons`, and no prediction.

    Raises:
        BundleUnreadable, BundleTampered, GoldenMismatch: the bundle is not the sealed one.
        BundleUntrusted: signatures are required, and no trusted key has signed it.

    """
    from flows.looking import predict_files

    return predict_files(Path(bundle), [Path(file) for file in files], processes=processes)


def read(
    results: str | Path,
    dataset: str = "predictions",
    *,
    bundle: str | None = None,
    night: str | date | None = None,
    since: str | date | None = None,
    until: str | date | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Committed rows of a results folder, with the columns bundle, night and run beside those of the dataset.

    Args:
        results: The results folder.
        dataset: predictions, files, quarantine, drift or estimates.
        bundle: Only this bundle's rows.
        night: Only this night's rows.
        since: Only this night and later ones.
        until: Only this night and earlier ones.
        columns: Only these columns.

    Raises:
        WrongUse: the folder holds no results, or the dataset is not one of the five.

    """
    return _read(
        Path(results),
        cast(Dataset, dataset),
        bundle=bundle,
        night=_date(night, "night"),
        since=_date(since, "since"),
        until=_date(until, "until"),
        columns=columns,
    )


def acknowledge(
    results: str | Path, night: str | date, *, reason: str, bundle: str | None = None, by: str | None = None
) -> Acknowledgement:
    """Say that the alarm of a night was dealt with, and why; the sum across nights starts again after it.

    The record is added to the results and never changed.

    Args:
        results: The results folder.
        night: The night whose verdict is alarm, such as 2026-11-23.
        reason: What was found, or done.
        bundle: Id of the bundle; needed where several have an alarm that night.
        by: Who says so; the user of this process where nothing is said.

    Returns:
        The record: number, bundle, night, reason, by, at.

    Raises:
        WrongUse: no committed night of this date is an alarm, several bundles have one, or there is no reason.

    """
    moment = _date(night, "night")
    assert moment is not None
    return _acknowledge(Path(results), moment, reason=reason, bundle=bundle, by=by)


def evaluate(bundle: str | Path, results: str | Path, labels: str | Path | None = None) -> Evaluation:
    """Join labels that arrived after scoring to what was scored, and record them; a Prefect flow.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.
        results: The results folder.
        labels: CSV or Parquet with the columns label, and path or content_id. None: those that are recorded already.

    Returns:
        Accuracy by night with its interval beside the night's estimate, calibration, confusion, and every label that no
        image was found for.

    Raises:
        WrongUse: the file cannot be read, or names a class that the model does not know.

    """
    from flows.evaluate import evaluate as evaluate_flow

    return evaluate_flow(bundle=Path(bundle), results=Path(results), labels=None if labels is None else Path(labels))


def _date(value: str | date | None, name: str) -> date | None:
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise WrongUse(f"{name} is not a date.", expected="such as 2026-11-23", found=value) from error
