"""Inboxes and bundles in an object store: what is taken in, and what is refused, is what a disk would give."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from darkroom.errors import BundleTampered, BundleUnreadable, BundleUntrusted, InboxMissing, StorageError, WrongUse
from darkroom.object_storage import Entry, ObjectStorage
from darkroom.reasons import Reason
from darkroom.results import read
from darkroom.trust import TRUSTED_KEYS
from flows.parameters import writable
from tasks.bundle import find_bundle, open_bundle, sign_bundle
from tasks.bundle.manifest import MANIFEST, bundle_id
from tasks.intake import Manifest, take_in
from tasks.ledger import open_ledger
from tasks.object_inbox import _seen, file_at
from tasks.workers import DecodePool, Job, Refused, Wanted
from tests import made_up
from tests.plugins.object_store import ObjectServer
from tests.tiny import tiny_preprocessing


def put(folder: Path, address: str) -> ObjectStorage:
    """Every file below, as objects."""
    storage = ObjectStorage(address)
    for path in folder.rglob("*"):
        if path.is_file():
            storage.write(path.relative_to(folder).as_posix(), path.read_bytes())
    return storage


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    inbox = made_up.draw_inbox(tmp_path / "inbox")
    (inbox / "cam0-b").mkdir()
    made_up.draw(inbox / "cam0-b" / "other.jpg", 50, file_format="JPEG")
    made_up.draw(inbox / "cam0" / "deep" / "ü +%.png", 51)
    made_up.draw(inbox / "cam0.png", 52)
    made_up.draw(inbox / ".trash" / "old.png", 53)
    made_up.draw(inbox / "results" / "quarantine_files" / "x.png", 54)
    made_up.draw(inbox / "unfinished.png.part", 55)
    (inbox / ".hidden.png").write_bytes(b"x")
    (inbox / "empty.png").write_bytes(b"")
    (inbox / "no-image.png").write_bytes(b"no image")
    (inbox / "cam0-b" / "named-as-text.txt").write_bytes((inbox / "cam0.png").read_bytes())
    return inbox


@pytest.fixture
def inbox(on_disk: Path, object_server: ObjectServer) -> ObjectStorage:
    return put(on_disk, object_server.folder())


def taken(inbox: Path, tmp_path: Path, **options: object) -> Manifest:
    ledger = open_ledger(tmp_path / "no-results", made_up.BUNDLE)
    return take_in(
        inbox,
        formats=["PNG"],
        ledger=ledger,
        settle_seconds=0,
        exclude=[inbox / "results"],
        **options,  # type: ignore[arg-type]
    )


COLUMNS = ["path", "status", "content_id", "reason", "size", "detail"]


def test_an_inbox_in_an_object_store_is_taken_in_as_the_same_folder_is(
    on_disk: Path, inbox: ObjectStorage, tmp_path: Path
) -> None:
    found, expected = (taken(place, tmp_path).files.select(COLUMNS) for place in (Path(inbox.url), on_disk))
    assert found.to_pylist() == expected.to_pylist()
    assert "scored" in found["status"].to_pylist()


def test_a_large_object_and_one_without_rights_are_quarantined_and_the_others_scored(
    inbox: ObjectStorage, object_server: ObjectServer, tmp_path: Path
) -> None:
    object_server.misbehave("denied", method="GET", key=r"cam0/image-002\.png", times=100)
    rows = taken(Path(inbox.url), tmp_path, max_bytes=150).files.to_pylist()
    reasons = {row["path"]: row["reason"] for row in rows if row["status"] == "quarantined"}
    assert reasons["cam0/image-002.png"] == Reason.PERMISSION_DENIED
    assert Reason.TOO_LARGE_FILE in reasons.values()


def test_an_inbox_of_several_pages_is_taken_in_whole(
    object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = object_server.folder()
    names = object_server.fill(f"{address}/inbox")
    monkeypatch.setattr("tasks.intake.examine_object", lambda *_, **__: (b"", None))
    assert taken(Path(address) / "inbox", tmp_path).files["path"].to_pylist() == names


def test_an_address_where_nothing_is_has_no_inbox(object_server: ObjectServer, tmp_path: Path) -> None:
    with pytest.raises(InboxMissing, match="nothing at this address"):
        taken(Path(object_server.folder()), tmp_path)
    with pytest.raises(StorageError, match="could not be listed"):
        taken(Path("s3://no-such-bucket/inbox"), tmp_path)


def test_what_is_gone_or_changed_when_it_is_looked_at_is_refused_and_the_rest_decoded(
    inbox: ObjectStorage,
) -> None:
    keys = [f"cam{number % 2}/image-{number:03d}.png" for number in range(9)]
    ids = {key: hashlib.sha256(inbox.read(key)).hexdigest() for key in keys}
    inbox.remove(keys[2])
    inbox.write(keys[5], inbox.read(keys[6]))
    jobs = [Job(key, Path(inbox.url) / key, content_id=ids[key]) for key in keys]
    with DecodePool(tiny_preprocessing(), Wanted(properties=False), processes=1) as pool:
        answers = {answer.key: answer for answer in pool.run(jobs)}
    assert list(answers) == keys
    refused = {key: answer.reason for key, answer in answers.items() if isinstance(answer, Refused)}
    assert refused == {keys[2]: Reason.VANISHED, keys[5]: Reason.CHANGED_WHILE_READING}


def test_what_is_quarantined_is_copied_from_one_store_to_another_and_scored_from_there_when_it_is_released(
    inbox: ObjectStorage, object_server: ObjectServer
) -> None:
    from tasks.decided import release_files
    from tasks.set_aside import set_aside

    results = Path(object_server.folder())
    made_up.score(results, Path(inbox.url))
    broken = {row.content_id for row in set_aside(results) if row.path == "broken-0.png"}
    (content,) = broken
    assert ObjectStorage(f"{results}".replace(":/", "://")).exists(f"quarantine_files/{content}.png")
    assert content in set(read(results, "quarantine")["content_id"])
    release_files(results, [row for row in set_aside(results) if row.content_id == content], why="mended", by="ada")
    inbox.remove("broken-0.png")
    made_up.score(results, Path(inbox.url), mended=True)
    (row,) = [one for one in made_up.rows_of(results) if one[0] == content]
    assert row[1] == f"{results}/quarantine_files/{content}.png".replace(":/", "://", 1)


# -- bundles


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def models(tiny_models: Path, object_server: ObjectServer) -> ObjectStorage:
    return put(tiny_models, object_server.folder())


def test_a_bundle_is_fetched_once_and_opened_as_on_a_disk(
    models: ObjectStorage, tiny_models: Path, object_server: ObjectServer, cache: Path
) -> None:
    expected = open_bundle(find_bundle(tiny_models, "tiny"))
    found = find_bundle(Path(models.url) / "tiny")
    assert open_bundle(found).manifest == expected.manifest
    assert found.is_relative_to(cache)
    object_server.asked()
    assert find_bundle(Path(models.url), "tiny") == found
    assert [asked for asked in object_server.asked() if "model.keras" in asked] == []
    first = open_bundle(find_bundle(Path(models.url) / "tiny" / "1"))
    assert first.manifest.version == 1


def test_a_damaged_copy_is_fetched_anew_and_a_damaged_original_is_refused(models: ObjectStorage, cache: Path) -> None:
    address = Path(models.url) / "tiny" / "1"
    found = find_bundle(address)
    for name in ("suite.json", "bundle.json"):
        (found / name).write_bytes(b"{}")
        assert (open_bundle(find_bundle(address)).path / name).read_bytes() != b"{}"
    shutil.rmtree(cache)
    models.write("tiny/1/suite.json", b"{}")
    with pytest.raises(BundleTampered, match=r"suite\.json"):
        open_bundle(find_bundle(address))


def test_there_is_no_bundle_where_none_is(models: ObjectStorage) -> None:
    with pytest.raises(BundleUnreadable, match="no bundle at this address"):
        find_bundle(Path(models.url) / "another")


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "a/../../../b"])
@pytest.mark.parametrize("field", ["name", "digests"])
def test_a_stranger_s_bundle_writes_nothing_outside_of_its_folder(
    models: ObjectStorage, cache: Path, name: str, field: str
) -> None:
    statements = json.loads(models.read(f"tiny/1/{MANIFEST}"))
    statements[field] = name if field == "name" else {**statements["digests"], name: "0" * 64}
    statements["id"] = bundle_id(statements)
    models.write(f"tiny/1/{MANIFEST}", json.dumps(statements).encode())
    with pytest.raises(BundleTampered, match="names what cannot be part of a bundle"):
        find_bundle(Path(models.url) / "tiny" / "1")
    assert not cache.exists()


def test_a_bundle_that_took_the_place_of_the_one_in_use_is_not_fetched(models: ObjectStorage, cache: Path) -> None:
    current = json.loads(models.read("tiny/current.json"))
    other = 3 - current["version"]
    models.write("tiny/current.json", json.dumps({**current, "version": other}).encode())
    with pytest.raises(BundleTampered, match="replaced by another bundle"):
        find_bundle(Path(models.url) / "tiny")
    assert not cache.exists()


def test_a_newer_bundle_at_an_address_is_told_as_such(models: ObjectStorage, cache: Path) -> None:
    statements = json.loads(models.read(f"tiny/1/{MANIFEST}"))
    models.write(
        f"tiny/1/{MANIFEST}", json.dumps({**statements, "schema_version": 2, "id": "of rules to come"}).encode()
    )
    with pytest.raises(BundleUnreadable, match="update darkroom"):
        find_bundle(Path(models.url) / "tiny" / "1")


def test_where_signatures_are_required_an_unsigned_bundle_is_not_even_fetched(
    tiny_models: Path,
    object_server: ObjectServer,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signed = Path(shutil.copytree(tiny_models, tmp_path / "models"))
    make = "openssl genpkey -algorithm ed25519 -out private.pem && openssl pkey -in private.pem -pubout -out ada.pem"
    subprocess.run(["bash", "-euc", make], cwd=tmp_path, check=True, capture_output=True)
    sign_bundle(signed / "tiny" / "1", tmp_path / "private.pem")
    address = Path(put(signed, object_server.folder()).url) / "tiny"
    assert open_bundle(find_bundle(address / "1")).signed_by is None
    monkeypatch.setenv(TRUSTED_KEYS, str(tmp_path / "ada.pem"))
    object_server.asked()
    with pytest.raises(BundleUntrusted, match="none of the trusted keys"):
        find_bundle(address / "2")
    assert [asked for asked in object_server.asked() if "model.keras" in asked] == []
    found = find_bundle(address / "1")  # what is in the cache already gets its signature
    assert str(open_bundle(found).signed_by).startswith("ada (")


def test_bundles_are_not_sealed_at_an_address() -> None:
    with pytest.raises(WrongUse, match="written to a disk"):
        writable(Path("s3://bucket/models"))


@pytest.mark.parametrize(
    ("listed", "answered"),
    [
        (("2026-03-01T10:00:00.417+00:00", '"5d41"'), ("2026-03-01T10:00:00+00:00", '"5d41"')),
        (("2026-03-01T10:00:00+00:00", "0x8D5"), ("2026-03-01T10:00:00+00:00", '"0x8D5"')),
    ],
    ids=["milliseconds, as Google lists them", "a tag without quotes, as Azure lists it"],
)
def test_a_listing_and_an_answer_that_tell_one_object_in_two_ways_are_of_one_object(
    listed: tuple[str, str], answered: tuple[str, str]
) -> None:
    one, other = (_seen(Entry("a.png", 5, datetime.fromisoformat(time), tag)) for time, tag in (listed, answered))
    assert one == other


def test_a_folder_that_is_named_like_the_beginning_of_an_address_is_a_folder(tmp_path: Path) -> None:
    assert file_at(tmp_path, "s3:/bucket/x.png") == tmp_path / "s3:" / "bucket" / "x.png"
    assert file_at(tmp_path, "s3://bucket/x.png") == Path("s3://bucket/x.png")
