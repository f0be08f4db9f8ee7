"""Results that hold an image in every place there is: rows, a copy, labels, a decision, pages, an unfinished run.

`python -m tests.remembered FOLDER FIRST STEP [ADDRESS]` kills `forget` at every `step`-th call that changes the disk,
or the object store at the address, looks at what readers see, forgets once more, and prints as one JSON object what
differed from an undisturbed removal.
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

import obstore
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from darkroom import results as committed
from darkroom.decisions import Act, decide
from darkroom.errors import WrongUse
from darkroom.labels import record_labels
from darkroom.object_storage import ObjectStorage
from darkroom.reasons import Grade, NightCause
from darkroom.schemas import DRIFT, LABELS
from darkroom.storage import storage_at, store_address
from darkroom.summary import CauseFound, Finding, Severity
from flows.forget import forget
from tasks.publish import begin_run
from tasks.report.further import SliceShown, SlicesShown
from tasks.report.index_page import write_index
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
    write_index(results)
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
        plain = _plain(results, dataset)
        for reader, frame in (("commits", listed), ("plain", plain)):
            if "content_id" in frame:
                frame = frame[~frame["content_id"].isin(without)]
            names = sorted(set(frame.columns) - set(committed.RUN_COLUMNS))
            found[f"{dataset} by {reader}"] = sorted(map(repr, frame[names].astype(str).itertuples(index=False)))
    return found


def whole(results: Path) -> dict[str, Any]:
    """What is in the folder, without what is drawn by lot, and the time of the record."""
    found: dict[str, Any] = {}
    for name, data in sorted(_files(results).items()):
        if not name.startswith(".locks"):
            found[name] = hashlib.sha256(data).hexdigest()
            if name.startswith("forgotten/"):
                found[name] = {k: v for k, v in json.loads(data).items() if k not in ("removal", "at")}
    return found


def _files(results: Path) -> dict[str, bytes]:
    """Every file in the folder, or every object at the address."""
    storage = storage_at(results)
    if isinstance(storage, ObjectStorage):
        keys = [one["path"] for page in obstore.list(storage.store()) for one in page]
        return {key: storage.read(key) for key in keys}
    return {str(path.relative_to(results)): path.read_bytes() for path in results.rglob("*") if path.is_file()}


def _copy(source: Path, target: Path) -> None:
    if store_address(source) is None:
        shutil.copytree(source, target)
        return
    for name, data in _files(source).items():
        storage_at(target).write(name, data)


def _plain(results: Path, dataset: str) -> pd.DataFrame:
    """What somebody reads who knows nothing of commits."""
    if store_address(results) is None:
        return pd.read_parquet(results / dataset)
    found = sorted((name, data) for name, data in _files(results).items() if name.startswith(f"{dataset}/"))
    return pa.concat_tables([pq.read_table(pa.BufferReader(data)) for _, data in found]).to_pandas()


def _again(night: Callable[[], None]) -> None:
    """Killed behind its last step, there is nothing left to do."""
    with suppress(WrongUse):
        night()


def main(folder: Path, first: int, step: int, address: str | None = None) -> dict[str, Any]:
    """Every `step`-th moment, until `forget` outlives its killer; in an object store where there is an address."""
    from tests.crashing import _killed_at, within_child

    inbox, place = folder / "inbox", folder if address is None else Path(address)
    before, undisturbed = place / "before", place / "undisturbed"

    def told(work: Callable[[], Any]) -> Any:
        """What a fork makes: a client of an object store does not live on in one."""
        report = folder / "told.json"
        within_child(lambda: report.write_text(json.dumps(work())))
        return json.loads(report.read_text())

    ids = frozenset(told(lambda: sorted(remember(before, inbox))))

    def removal(results: Path) -> None:
        forget(results, sorted(ids), why="asked to", by="ada", models=None)

    within_child(lambda: (_copy(before, undisturbed), removal(undisturbed)))
    expected, others = told(lambda: whole(undisturbed)), told(lambda: rows_of(before, ids))
    failures, moment, survived = [], first, False
    while not survived:
        results = place / f"killed-{moment}"
        within_child(lambda to=results: _copy(before, to))  # type: ignore[misc]
        killed = within_child(lambda at=moment, to=results: _killed_at(at, lambda: removal(to)))  # type: ignore[misc]
        survived = killed == 0
        if told(lambda of=results: rows_of(of, ids)) != others:  # type: ignore[misc]
            failures.append({"moment": moment, "what": "readers do not see the other rows, each once"})
        if not survived:
            within_child(lambda of=results: _again(lambda: removal(of)))  # type: ignore[misc]
        if (found := told(lambda of=results: whole(of))) != expected:  # type: ignore[misc]
            differ = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            failures.append({"moment": moment, "what": differ})
        shutil.rmtree(results, ignore_errors=address is not None)
        moment += step
    return {"moments": (moment - first) // step - 1, "failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])))
