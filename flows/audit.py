"""Audit: whether the validation accuracy of a sealed bundle is true, from its own training photos."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from darkroom.errors import DataFolderError, UnsupportedModel
from darkroom.forms import titled
from darkroom.names import from_text
from darkroom.pages import page_folder, place_of
from darkroom.progress import tell
from darkroom.spreadsheets import as_csv
from expectations.audit import Audit, Photo, audit_validation, mending_groups
from expectations.restated import Restated
from flows.in_the_ui import page_line, show
from flows.naming import named
from flows.parameters import BundlePath, PageFolder, a_folder
from flows.pictures import thumbnails_of
from tasks.bundle import Bundle, find_bundle, open_bundle
from tasks.fingerprints import Fingerprints, fingerprint
from tasks.inference import Engine, load_engine
from tasks.report.audit_page import (
    AuditPage,
    PairShown,
    PhotoShown,
    SessionShown,
    audit_markdown,
    write_audit,
)
from tasks.report.card import Rate
from tasks.training import scan
from tasks.workers import Arrived, DecodePool, Job, Refused, Wanted

_BATCH = 32
_PAIRS, _SUSPECTS, _SESSIONS, _OF_A_SESSION = 36, 36, 4, 3
_POOLING = "pooling"  # of a recipe with a dense layer: what the frozen backbone sees, before labels come in
_SPLITS = ("train", "validation")


class Audited(BaseModel):
    """What came of an audit; `honest` is False where the accuracy is flattered or a session leak is named."""

    model_config = ConfigDict(frozen=True)

    bundle_id: str
    honest: bool
    sentence: str
    findings: tuple[str, ...]
    page: str
    audited: int
    not_audited: dict[str, str]
    audit: dict[str, Any]

    def as_text(self) -> str:
        """For a person."""
        left_out = f"{len(self.not_audited):,} training photos could not be audited, see the page\n"
        told = "".join(f"  {finding}\n" for finding in self.findings)
        return f"{self.sentence}\n\n{told}{left_out if self.not_audited else ''}\nPage  {self.page}"


@dataclass(frozen=True)
class LookedAgain:
    """The training photos that are still there unchanged: rows of the profile, their features (n, e), fingerprints."""

    profile: pd.DataFrame
    features: NDArray[np.float16]
    fingerprints: Fingerprints
    not_audited: dict[str, str]


@flow(name="audit", flow_run_name=named("{bundle}", " on {data}"))
def audit(
    bundle: BundlePath,
    data: Annotated[Path, titled("Photos", a_folder, minLength=1)],
    out: PageFolder = None,
) -> Audited:
    """Look for what flatters a bundle's validation accuracy, and tell it again without.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.
        data: The folder of labelled photos that it was trained on.
        out: Where audit.html and audit.json go. Empty: a folder audit-<bundle id>, beside the pages of the nights where
            those are served.

    """
    sealed = open_bundle(find_bundle(bundle))
    seen = look_again(sealed, data)
    found = examine(sealed, seen)
    page = draw(sealed, seen, found, data)
    written = write(page_folder(out, f"audit-{sealed.id}"), page, found, seen, data)
    report_audit(page, written)
    return Audited(
        bundle_id=sealed.id,
        honest=found.honest,
        sentence=found.sentence(),
        findings=found.findings(),
        page=str(written),
        audited=len(seen.profile),
        not_audited=seen.not_audited,
        audit=json.loads(found.to_json()),
    )


@task(name="look again", task_run_name="look again", cache_policy=NO_CACHE)
def look_again(bundle: Bundle, data: Path) -> LookedAgain:
    """Decode the photos of the profile with the sealed preparation; what is missing or changed is listed, not audited.

    Raises: DataFolderError where most of them are not there: it is another folder.
    """
    profile = bundle.profile()
    engine = _feature_engine(bundle)
    jobs = [Job(key=row, path=data / from_text(path)) for row, path in enumerate(profile["path"])]
    kept: list[int] = []
    not_audited: dict[str, str] = {}
    fingerprints, features = [], []
    with DecodePool(bundle.preprocessing, Wanted(tensor=engine is not None, resized=True, properties=False)) as pool:
        arrivals = pool.run(jobs)
        while batch := list(islice(arrivals, _BATCH)):
            good = [one for one in map(partial(_unchanged, profile, not_audited), batch) if one is not None]
            if good:
                kept += [int(one.key) for one in good]
                fingerprints.append(fingerprint(np.stack([one.resized for one in good if one.resized is not None])))
                if engine is not None:
                    tensors = np.stack([one.tensor for one in good if one.tensor is not None])
                    features.append(engine.run(tensors).embedding.astype(np.float16))
            tell("look again", len(kept) + len(not_audited), len(jobs), "training photos")
    get_run_logger().info("Looked at %s of %s training photos again", f"{len(kept):,}", f"{len(profile):,}")
    rows = profile.iloc[kept].reset_index(drop=True)
    if len(kept) < len(profile) / 2 or set(rows["split"]) != set(_SPLITS):
        first = next(iter(not_audited), "")
        raise DataFolderError(
            "This is not the folder that the bundle was trained on.",
            file=data,
            expected=f"the {len(profile):,} photos of the bundle's profile, unchanged",
            found=f"{len(kept):,} of them; {first}: {not_audited.get(first, '')}",
            todo="name the training folder with --data",
        )
    return LookedAgain(
        profile=rows,
        features=np.concatenate(features) if features else bundle.embeddings()[kept],
        fingerprints=Fingerprints.joined(fingerprints),
        not_audited=not_audited,
    )


@task(name="examine", task_run_name="examine", cache_policy=NO_CACHE)
def examine(bundle: Bundle, seen: LookedAgain) -> Audit:
    """Copies, sessions, labels, shortcuts; the accuracy without them."""
    found = audit_validation(
        seen.profile, seen.features, seen.fingerprints.hashes, seen.fingerprints.pictures, bundle.classes
    )
    get_run_logger().info("%s", found.sentence())
    return found


def draw(bundle: Bundle, seen: LookedAgain, found: Audit, data: Path) -> AuditPage:
    """What the page shows, with pictures of the photos that are named."""
    sessions = _sessions(found, seen.profile)
    named = [photo for pair in found.copies[:_PAIRS] for photo in (pair.first, pair.second)]
    named += [one.photo for one in found.suspects[:_SUSPECTS]]
    named += [photo for _, photos in sessions for photo in photos]
    rows = pd.DataFrame([(one.path, one.content_id) for one in named], columns=["path", "content_id"])
    thumbnails = thumbnails_of(rows.drop_duplicates(), data, bundle.preprocessing)

    def shown(photo: Photo, *lines: str) -> PhotoShown:
        return PhotoShown(photo.path, photo.label, photo.split, lines, thumbnails.get(photo.content_id, b""))

    accuracies = {
        "as validated": found.stated,
        "without copies": found.without_copies,
        "without sessions that were trained on": found.without_sessions,
        "refitted by session": found.refitted,
        "without copies and suspect labels": found.without_suspects,
    }
    return AuditPage(
        bundle_id=bundle.id,
        verdict=found.verdict,
        sentence=found.sentence(),
        findings=found.findings(),
        accuracies={name: _rate(one) for name, one in accuracies.items() if one is not None},
        notes={
            "refitted by session": "" if found.refitted is None else found.refitted.how,
            "without copies and suspect labels": "at best: images that are only hard are suspect too",
        },
        pairs=[PairShown(shown(one.first), shown(one.second), one.sentence()) for one in found.copies[:_PAIRS]],
        more_pairs=max(0, found.copy_pairs["across"] + found.copy_pairs["inside"] - _PAIRS),
        suspects=[shown(one.photo, one.sentence()) for one in found.suspects[:_SUSPECTS]],
        more_suspects=max(0, sum(found.suspect_labels.values()) - _SUSPECTS),
        session_sentences=[one.sentence() for one in found.sessions],
        sessions=[SessionShown(name, tuple(shown(photo) for photo in photos)) for name, photos in sessions],
        shortcut_sentence=found.shortcuts.sentence(),
        shortcuts=[
            (
                one.name.replace("_", " "),
                one.label or "all",
                f"AUC {one.effect:.2f}" if one.label else f"V {one.effect:.2f}",
                "–" if one.p is None else f"{one.p:.2g}",
                _number(one.in_class),
                _number(one.elsewhere),
            )
            for one in found.shortcuts.named
        ],
        not_audited=dict(islice(seen.not_audited.items(), 100)),
    )


@task(name="write the audit", task_run_name="write the audit", cache_policy=NO_CACHE)
def write(out: Path, page: AuditPage, found: Audit, seen: LookedAgain, data: Path) -> Path:
    """The page, audit.json, and groups.csv where that mends a leak."""
    files = {"audit.json": found.to_json().encode()}
    if found.session_leak is not None:
        files["groups.csv"] = _groups(found, seen.profile, data)
    return write_audit(out, page, files)


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def report_audit(page: AuditPage, written: Path) -> None:
    """The audit in the Prefect UI."""
    markdown = audit_markdown(page) + page_line(written)
    key = show("audit", page.bundle_id, markdown, f"{page.bundle_id} {page.verdict}: {page.sentence}")
    get_run_logger().info("Told: the artifact %s, and %s", key, place_of(written))


def _feature_engine(bundle: Bundle) -> Engine | None:
    """What computes the features below the dense layer; None where the sealed embedding is that already."""
    try:
        return load_engine(bundle.model_path, _POOLING, input_shape=bundle.preprocessing.input_shape)
    except UnsupportedModel:
        return None


def _unchanged(profile: pd.DataFrame, not_audited: dict[str, str], one: Arrived | Refused) -> Arrived | None:
    row = profile.iloc[int(one.key)]
    if isinstance(one, Refused):
        not_audited[str(row["path"])] = f"{one.reason.sentence}: {one.detail}"
    elif one.content_id != row["content_id"]:
        not_audited[str(row["path"])] = "changed since the training"
    else:
        return one
    return None


def _sessions(found: Audit, profile: pd.DataFrame) -> Sequence[tuple[str, list[Photo]]]:
    """A few straddling sessions of the clearest leak: some photos of each side."""
    leak = found.session_leak
    if leak is None:
        return []
    rows = profile.assign(session=mending_groups(found, profile))
    both = rows.groupby("session")["split"].nunique()
    chosen = both[both > 1].index[:_SESSIONS]
    shown = []
    for number, session in enumerate(chosen, start=1):
        inside = rows[rows["session"] == session]
        photos = [
            Photo(str(one.path), str(one.content_id), str(one.split), str(one.label))
            for side in _SPLITS
            for one in inside[inside["split"] == side].head(_OF_A_SESSION).itertuples()
        ]
        shown.append((f"Session {number}: {len(inside):,} images", photos))
    return shown


def _groups(found: Audit, profile: pd.DataFrame, data: Path) -> bytes:
    """A CSV for `--group-by column`: every file of the folder, those that were not trained on by themselves."""
    group = dict(zip(profile["path"], mending_groups(found, profile).tolist(), strict=True))
    files = [file.path for file in scan(data).files]
    return as_csv(
        ("path", "group"), [(one, f"session {group[one]}" if one in group else one) for one in files]
    ).encode()


def _rate(one: Restated) -> Rate:
    return Rate(one.accuracy, one.low, one.high, one.n)


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"
