"""Results that hold an image in every place there is: rows, a copy, labels, a decision, pages, an unfinished run.

`python -m tests.remembered FOLDER FIRST STEP` kills `forget` at every `step`-th call that changes the disk, looks at
what readers see, forgets once more, and prints as one JSON object what differed from an undisturbed removal.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from darkroom import results as committed
from darkroom.decisions import Act, decide
from darkroom.errors import WrongUse
from darkroom.labels import record_labels
from darkroom.reasons import Grade, NightCause
from darkroom.schemas import DRIFT, LABELS
from darkroom.storage import storage_at
from darkroom.summary import CauseFound, Finding, Severity
from flows.forget import forget
from tasks.publish import begin_run
from tasks.report.further import SliceShown, SlicesShown
from tasks.report.night_page import NearPhoto, NightPage
from tasks.report.page import write_page
from tasks.report.past import REPORTS, page_key
from tasks.set_aside import set_aside
from tests import made_up
from tests.made_up import NIGHT
from tests.shown import jpeg

OTHER = "parts-2-ffffffffffff"
NEXT = NIGHT + timedelta(days=1)
SEEN, BROKEN = "cam0/image-004.png", "broken-0.png"
PHOTO = NearPhoto("e" * 64, "bolt/training-7.jpg", "bolt", 0.1)
EXAMPLES = "effect 0.90, corrected p 0.001; some of its images: "
EVERY_ROW = ("predictions", "files", "quarantine")


def content_of(inbox: Path, path: str) -> str:
    """The id of a file's content."""
    return hashlib.sha256((inbox / path).read_bytes()).hexdigest()


def remember(results: Path, inbox: Path, *, unfinished: bool = True) -> frozenset[str]:
    """Make them; the ids of the contents that will be forgotten: one was scored, one was set aside."""
    made_up.draw_inbox(inbox, images=7, broken=2)
    (inbox / "twice.png").write_bytes((inbox / SEEN).read_bytes())
    for night, bundle in ((NIGHT, made_up.BUNDLE), (NEXT, made_up.BUNDLE), (NEXT, OTHER)):
        _with_page(results, made_up.score(results, inbox, night=night, bundle=bundle))
    ids = frozenset(content_of(inbox, path) for path in (SEEN, BROKEN))
    about = [row.as_content() for row in set_aside(results) if row.content_id is not None]
    decide(results, Act.RELEASE_FILES, why="the decoder was mended", by="ada", contents=about)
    record_labels(results, pd.DataFrame([label(content_id=one) for one in (*ids, "f" * 64)], columns=LABELS.names))
    named = [label(path=SEEN, night=NEXT), label(path="image-004.png"), label(path="other.png"), label(path=BROKEN)]
    record_labels(results, pd.DataFrame(named, columns=LABELS.names))
    if unfinished:
        with begin_run(results, "third-1-0123456789ab", NEXT, inbox) as run:
            made_up_manifest(run, inbox)
    return ids


def made_up_manifest(run: Any, inbox: Path) -> None:
    """A run that has taken the inbox in, and dies."""
    from tasks.intake import take_in
    from tasks.ledger import open_ledger

    ledger = open_ledger(run.staging.storage, run.bundle)
    run.staging.freeze(take_in(inbox, formats=("PNG",), ledger=ledger, settle_seconds=0), 4)
    made_up.look_at(run.staging, 0, inbox)


def label(**changes: object) -> dict[str, object]:
    """A label that says no content, path or night."""
    moment = datetime(2026, 3, 9, tzinfo=UTC)
    said = {"label": "bolt", "labelled_at": moment, "source": "ada", "received_at": moment}
    return {**dict.fromkeys(LABELS.names), **said, **changes}


def _with_page(results: Path, commit: committed.Commit) -> None:
    """Findings that name images, and a page that shows all of the night's, each with a picture."""
    storage = storage_at(results)
    rows, aside = (
        frame[frame["run"] == commit.run].drop(columns=list(committed.RUN_COLUMNS))
        for frame in (committed.read(results, name, bundle=commit.bundle) for name in ("predictions", "quarantine"))
    )
    shown = tuple(zip(rows["content_id"], rows["path"], strict=True))
    said = EXAMPLES + ", ".join(path for _, path in shown)
    summary = commit.summary.model_copy(
        update={
            "findings": (Finding(severity=Severity.WARNING, source="drift", what="It is dark.", evidence=said),),
            "causes": (
                CauseFound(cause=NightCause.NEW_CLASS, grade=Grade.LIKELY, sentence="It is new.", evidence=(said,)),
            ),
        }
    )
    committed.rewrite_commit(storage, commit.model_copy(update={"summary": summary}))
    shots = {one: picture(one) for one in (*rows["content_id"], *aside["content_id"])}
    dark = SliceShown("folder cam0", 4, "warn", "sharpness", "0.90", examples=shown)
    page = NightPage(
        summary=summary,
        drift=pd.DataFrame(columns=DRIFT.names),
        predictions=rows,
        quarantine=aside,
        thumbnails=shots | {PHOTO.content_id: jpeg(7, (24, 18))},
        near=dict.fromkeys(rows["content_id"], (PHOTO,)),
        slices=SlicesShown((dark,), "1 sub-folder was compared."),
    )
    write_page(storage, f"{REPORTS}/{page_key(commit.night, commit.bundle, commit.run)}", page)


def picture(content_id: str) -> bytes:
    """What pages show of a content."""
    return jpeg(int(content_id[:6], 16), (24, 18))


def pictures(ids: frozenset[str]) -> dict[str, bytes]:
    """The end of each picture, as a page holds it: the beginning is alike in all of them."""
    whole = {one: base64.b64encode(picture(one)) for one in ids}
    return {f"picture {one[:8]}": data[-100:-20] for one, data in whole.items()}


def traces(results: Path, needles: dict[str, bytes]) -> list[str]:
    """Where in the folder a needle lies: in the bytes of a file or of a name; Parquet is decoded."""
    found = []
    for path in sorted(results.rglob("*")):
        data = str(path.relative_to(results)).encode()
        if path.is_file():
            data += path.read_bytes()
            if path.suffix == ".parquet":
                data += json.dumps(pq.read_table(path).to_pylist(), default=str).encode()
        found += [f"{name} in {path.relative_to(results)}" for name, needle in needles.items() if needle in data]
    return found


def rows_of(results: Path, without: frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """Every row of every dataset as text, as the commits and as a plain reader have it; `without` some contents."""
    found = {}
    for dataset in ("predictions", "files", "quarantine", "drift", "estimates"):
        listed = committed.read(results, dataset)
        plain = pd.read_parquet(results / dataset)
        for reader, frame in (("commits", listed), ("plain", plain)):
            if "content_id" in frame:
                frame = frame[~frame["content_id"].isin(without)]
            names = sorted(set(frame.columns) - set(committed.RUN_COLUMNS))
            found[f"{dataset} by {reader}"] = sorted(map(repr, frame[names].astype(str).itertuples(index=False)))
    return found


def whole(results: Path) -> dict[str, Any]:
    """What is in the folder, without what is drawn by lot, and the time of the record."""
    found: dict[str, Any] = {}
    for path in sorted(results.rglob("*")):
        name = str(path.relative_to(results))
        if path.is_file() and not name.startswith(".locks"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            if name.startswith("forgotten/"):
                found[name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("removal", "at")}
    return found


def _again(night: Callable[[], None]) -> None:
    """Killed behind its last step, there is nothing left to do."""
    with suppress(WrongUse):
        night()


def main(folder: Path, first: int, step: int) -> dict[str, Any]:
    """Every `step`-th moment, until `forget` outlives its killer."""
    from tests.crashing import _killed_at, within_child

    inbox, before = folder / "inbox", folder / "before"
    ids = remember(before, inbox)
    shutil.copytree(before, folder / "undisturbed")
    within_child(lambda: forget(folder / "undisturbed", sorted(ids), why="asked to", by="ada", models=None))
    expected, others = whole(folder / "undisturbed"), rows_of(before, ids)
    failures, moment, survived = [], first, False
    while not survived:
        results = folder / "killed"
        shutil.copytree(before, results)

        def night() -> None:
            forget(results, sorted(ids), why="asked to", by="ada", models=None)  # noqa: B023

        survived = within_child(lambda at=moment: _killed_at(at, night)) == 0  # type: ignore[misc]
        if rows_of(results, ids) != others:
            failures.append({"moment": moment, "what": "readers do not see the other rows, each once"})
        if not survived:
            within_child(lambda: _again(night))
        if (found := whole(results)) != expected:
            differ = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            failures.append({"moment": moment, "what": differ})
        shutil.rmtree(results)
        moment += step
    return {"moments": (moment - first) // step - 1, "failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
