from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.errors import InboxMissing, StorageError, WrongUse
from darkroom.names import from_text, to_text
from darkroom.storage import LocalStorage
from tasks import intake
from tasks.formats import sniff
from tasks.intake import Manifest, nothing_delivered, take_in
from tasks.ledger import Ledger, open_ledger
from tests import made_up

PNG = b"\x89PNG\r\n\x1a\n"
FORMATS = ("JPEG", "PNG")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def empty_ledger(folder: Path) -> Ledger:
    return open_ledger(LocalStorage(folder / "no-results"), made_up.BUNDLE)


def taken(inbox: Path, **options: object) -> Manifest:
    given_ = {"formats": FORMATS, "ledger": empty_ledger(inbox.parent), "settle_seconds": 0, **options}
    return take_in(inbox, **given_)  # type: ignore[arg-type]


def outcome(manifest: Manifest) -> dict[str, str]:
    """Path → status, or status:reason."""
    rows = manifest.files.select(["path", "status", "reason"]).to_pylist()
    return {row["path"]: ":".join(filter(None, (row["status"], row["reason"]))) for row in rows}


# -- what a file is


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param("a.png", PNG + b"x", "scored", id="an image"),
        pytest.param("a.PNG", PNG + b"x", "scored", id="in capitals"),
        pytest.param("a.jpg", PNG + b"x", "scored", id="the bytes decide, not the extension"),
        pytest.param("a", PNG + b"x", "scored", id="no extension"),
        pytest.param("a.txt", PNG + b"x", "scored", id="an image called text"),
        pytest.param("a.png", b"<html>not found", "quarantined:unknown_format", id="no image called one"),
        pytest.param("a.png", b"", "quarantined:empty_file", id="no bytes"),
        pytest.param("a.gif", b"GIF89a...", "quarantined:format_not_allowed", id="a format not allowed"),
        pytest.param("a.heic", b"\0\0\0\x18ftypheic", "quarantined:format_not_allowed", id="a format never allowed"),
        pytest.param("a.txt", b"hello", "not_an_image", id="a text"),
        pytest.param("a", b"", "not_an_image", id="nothing called nothing"),
        pytest.param(".hidden.png", PNG + b"x", "not_an_image", id="a hidden file"),
        pytest.param("a.png.part", PNG + b"x", "deferred:still_growing", id="an unfinished download"),
        pytest.param("a.png.crdownload", PNG, "deferred:still_growing", id="of a browser"),
    ],
)
def test_what_becomes_of_a_file(inbox: Path, name: str, content: bytes, expected: str) -> None:
    (inbox / name).write_bytes(content)
    assert outcome(taken(inbox)) == {name: expected}


def test_what_is_to_be_scored_has_the_sha256_of_its_bytes(inbox: Path) -> None:
    data = made_up.draw(inbox / "deep" / "er" / "a.png", 1)
    assert taken(inbox).to_score.to_pylist() == [
        {"path": "deep/er/a.png", "content_id": hashlib.sha256(data).hexdigest(), "size": len(data)}
    ]


def test_a_quarantined_file_that_was_read_is_known_by_its_content_too(inbox: Path) -> None:
    (inbox / "a.png").write_bytes(b"no image")
    assert taken(inbox).files["content_id"].to_pylist() == [hashlib.sha256(b"no image").hexdigest()]


def test_a_huge_file_is_refused_unread(inbox: Path) -> None:
    with (inbox / "a.png").open("wb") as file:
        file.write(PNG)
        file.truncate(10 * 2**30)
    manifest = taken(inbox)
    assert outcome(manifest) == {"a.png": "quarantined:too_large_file"}
    assert manifest.files["content_id"].null_count == 1


def test_hidden_folders_and_excluded_ones_are_one_path_each(inbox: Path) -> None:
    made_up.draw(inbox / ".trash" / "a.png", 1)
    made_up.draw(inbox / "results" / "b.png", 2)
    made_up.draw(inbox / "c.png", 3)
    found = outcome(taken(inbox, exclude=[inbox / "results"]))
    assert found == {".trash": "not_an_image", "results": "not_an_image", "c.png": "scored"}


def test_the_first_path_of_a_content_is_scored_and_the_others_are_duplicates(inbox: Path) -> None:
    for name in ("b/1.png", "a/2.png", "a/1.png"):
        made_up.draw(inbox / name, 7)
    assert outcome(taken(inbox)) == {"a/1.png": "scored", "a/2.png": "duplicate", "b/1.png": "duplicate"}


# -- links, devices, names, rights


def test_links_are_looked_through_but_never_out_of_the_folder(inbox: Path, tmp_path: Path) -> None:
    made_up.draw(tmp_path / "secret" / "a.png", 1)
    made_up.draw(tmp_path / "inbox-of-another" / "a.png", 2)
    made_up.draw(inbox / "z" / "real.png", 3)
    links = {
        "a-link.png": "z/real.png",
        "chain.png": "a-link.png",
        "out.png": tmp_path / "secret" / "a.png",
        "out-folder": tmp_path / "secret",
        "same-beginning.png": tmp_path / "inbox-of-another" / "a.png",
        "up.png": "../secret/a.png",
        "folder": "z",
        "loop-to-inbox": ".",
        "circle-1.png": "circle-2.png",
        "circle-2.png": "circle-1.png",
        "nothing.png": "z/gone.png",
    }
    for name, target in links.items():
        (inbox / name).symlink_to(target)
    assert outcome(taken(inbox)) == {
        "z/real.png": "scored",
        "a-link.png": "duplicate",
        "chain.png": "duplicate",
        "out.png": "quarantined:link_out_of_folder",
        "out-folder": "quarantined:link_out_of_folder",
        "same-beginning.png": "quarantined:link_out_of_folder",
        "up.png": "quarantined:link_out_of_folder",
        "folder": "not_an_image",
        "loop-to-inbox": "not_an_image",
        "circle-1.png": "quarantined:not_a_regular_file",
        "circle-2.png": "quarantined:not_a_regular_file",
        "nothing.png": "deferred:vanished",
    }


def test_a_link_to_what_is_only_reached_by_it_is_scored(inbox: Path) -> None:
    made_up.draw(inbox / ".store" / "blob", 3)
    (inbox / "a.png").symlink_to(".store/blob")
    assert outcome(taken(inbox)) == {".store": "not_an_image", "a.png": "scored"}


def test_an_inbox_may_itself_be_a_link(inbox: Path, tmp_path: Path) -> None:
    made_up.draw(inbox / "a.png", 3)
    (tmp_path / "today").symlink_to(inbox)
    assert outcome(taken(tmp_path / "today")) == {"a.png": "scored"}


def test_pipes_and_sockets_are_never_opened(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(inbox / "pipe.png")
    monkeypatch.chdir(inbox)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        found = outcome(taken(inbox))
    assert set(found.values()) == {"quarantined:not_a_regular_file"}
    assert len(found) == 2


def test_a_file_that_became_a_pipe_does_not_hang_the_intake(inbox: Path) -> None:
    made_up.draw(inbox / "a.png", 3)

    def swap(_: float) -> None:
        (inbox / "a.png").unlink()
        os.mkfifo(inbox / "a.png")

    assert outcome(taken(inbox, settle_seconds=60, sleep=swap)) == {"a.png": "deferred:still_growing"}


@pytest.mark.parametrize(
    "name",
    [
        b"new\nline.png",
        b"not utf-8 \xff\xfe.png",
        b"colon:comma,plus+quote'\".png",
        b"back\\slash\\x0a.png",
        "über 图.png".encode(),
        "right-to-left \u202egnp.exe".encode(),
        b"-rf *.png",
        b" .png",
    ],
)
def test_any_name_is_taken_and_can_be_opened_again(inbox: Path, name: bytes) -> None:
    data = made_up.draw(inbox / "plain.png", 3)
    (inbox / "plain.png").rename(inbox / os.fsdecode(name))
    row = taken(inbox).to_score.to_pylist()[0]
    row["path"].encode("utf-8")
    assert (inbox / from_text(row["path"])).read_bytes() == data


def test_very_deep_folders_are_accounted_for(inbox: Path) -> None:
    folder = os.open(inbox, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=folder)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    found = list(outcome(taken(inbox)).values())
    assert found == ["quarantined:read_error"]


@pytest.fixture
def somebody_else() -> Iterator[Path]:
    """A folder that is seen without root's rights, which nothing can be forbidden."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_what_may_not_be_read_is_quarantined_to_be_tried_again(somebody_else: Path) -> None:
    inbox = somebody_else / "inbox"
    for name in ("a.png", "b.png", "shut/c.png"):
        made_up.draw(inbox / name, 1)
    (inbox / "b.png").chmod(0)
    (inbox / "shut").chmod(0)
    try:
        found = outcome(taken(inbox))
    finally:
        (inbox / "shut").chmod(0o700)
    assert found == {
        "a.png": "scored",
        "b.png": "quarantined:permission_denied",
        "shut": "quarantined:permission_denied",
    }


# -- files that are not finished


def test_young_files_are_looked_at_again_after_one_wait_for_all(inbox: Path) -> None:
    for number in range(5):
        made_up.draw(inbox / f"{number}.png", number)
    for number in range(3):
        os.utime(inbox / f"{number}.png", (0, 0))
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        with (inbox / "3.png").open("ab") as file:
            file.write(b"more")
        (inbox / "2.png").unlink()

    found = outcome(taken(inbox, settle_seconds=30, sleep=wait))
    assert waits == [30]
    assert found == {
        "0.png": "scored",
        "1.png": "scored",
        "2.png": "deferred:vanished",
        "3.png": "deferred:still_growing",
        "4.png": "scored",
    }


def test_nobody_waits_where_no_file_is_young(inbox: Path) -> None:
    made_up.draw(inbox / "a.png", 1)
    os.utime(inbox / "a.png", (0, 0))

    def wait(_: float) -> None:
        raise AssertionError("waited")

    assert outcome(taken(inbox, settle_seconds=30, sleep=wait)) == {"a.png": "scored"}


def test_a_file_dated_in_the_future_is_looked_at_twice_and_taken(inbox: Path) -> None:
    made_up.draw(inbox / "a.png", 1)
    os.utime(inbox / "a.png", (2**32, 2**32))
    waits: list[float] = []
    assert outcome(taken(inbox, settle_seconds=30, sleep=waits.append)) == {"a.png": "scored"}
    assert waits == [30]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda path: path.write_bytes(PNG + b"longer"), "deferred:changed_while_reading", id="rewritten"),
        pytest.param(lambda path: path.unlink(), "scored", id="unlinked after it was opened"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_deferred(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], expected: str
) -> None:
    (inbox / "a.png").write_bytes(PNG)
    real = intake.content_id

    def slow(descriptor: int, size: int) -> str:
        change(inbox / "a.png")
        return real(descriptor, size)

    monkeypatch.setattr(intake, "content_id", slow)
    assert outcome(taken(inbox)) == {"a.png": expected}


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Of files of that size nothing comes until the test is over: a server of files that has gone."""
    over = threading.Event()
    real = intake.content_id
    sizes: set[int] = set()

    def read(descriptor: int, size: int) -> str:
        if size in sizes:
            over.wait(60)
        return real(descriptor, size)

    monkeypatch.setattr(intake, "content_id", read)
    yield sizes.add
    over.set()


def test_a_file_of_which_nothing_comes_is_told_and_all_others_are_scored(
    inbox: Path, silent: Callable[[int], None]
) -> None:
    for number in range(70):
        (inbox / f"{number:02}.png").write_bytes(PNG + bytes([number]) * (10 if number == 17 else 5))
    silent(len(PNG) + 10)
    found = outcome(taken(inbox, patience_seconds=3))
    assert found.pop("17.png") == "quarantined:read_error"
    assert set(found.values()) == {"scored"}
    assert len(found) == 69


def test_an_inbox_that_does_not_answer_ends_the_run_with_a_word(inbox: Path, silent: Callable[[int], None]) -> None:
    for number in range(70):
        (inbox / f"{number:02}.png").write_bytes(PNG + bytes([number]))
    silent(len(PNG) + 1)
    with pytest.raises(StorageError) as told:
        taken(inbox, threads=2, patience_seconds=0.3)
    assert str(inbox) in told.value.what


def test_what_fails_in_a_thread_of_the_intake_is_not_swallowed(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, size: int) -> str:
        raise MemoryError

    (inbox / "a.png").write_bytes(PNG)
    monkeypatch.setattr(intake, "content_id", broken)
    with pytest.raises(MemoryError):
        taken(inbox)


# -- what is known already


def changed_in_secret(path: Path, content: bytes) -> None:
    """Another content of the same length, time and inode."""
    before = path.stat()
    assert len(content) == before.st_size
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(("rehash", "expected"), [(False, "scored_before"), (True, "scored")])
def test_what_did_not_change_by_size_time_and_inode_is_read_again_only_with_rehash(
    inbox: Path, tmp_path: Path, rehash: bool, expected: str
) -> None:
    (inbox / "a.png").write_bytes(PNG + b"one")
    os.utime(inbox / "a.png", (10**9, 10**9))
    made_up.score(tmp_path / "results", inbox)
    changed_in_secret(inbox / "a.png", PNG + b"two")
    ledger = open_ledger(tmp_path / "results", made_up.BUNDLE)
    assert outcome(taken(inbox, ledger=ledger, rehash=rehash)) == {"a.png": expected}


def test_what_was_written_shortly_before_the_last_intake_is_read_again(inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.png").write_bytes(PNG + b"one")
    made_up.score(tmp_path / "results", inbox)
    changed_in_secret(inbox / "a.png", PNG + b"two")
    ledger = open_ledger(tmp_path / "results", made_up.BUNDLE)
    assert outcome(taken(inbox, ledger=ledger)) == {"a.png": "scored"}


def test_an_inbox_that_did_not_change_is_not_opened_again(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up.draw_inbox(inbox, broken=0)
    for path in inbox.rglob("*"):
        os.utime(path, (10**9, 10**9))
    made_up.score(tmp_path / "results", inbox)
    made_up.draw(inbox / "new.png", 99)
    opened = []
    monkeypatch.setattr(intake, "sniff", lambda first: (opened.append(first), sniff(first))[1])
    found = outcome(taken(inbox, ledger=open_ledger(tmp_path / "results", made_up.BUNDLE)))
    assert len(opened) == 1
    assert found.pop("new.png") == "scored"
    assert found.pop("notes.txt") == "not_an_image"
    assert set(found.values()) == {"scored_before"}


def test_a_renamed_copied_or_linked_content_is_still_the_same(inbox: Path, tmp_path: Path) -> None:
    made_up.draw(inbox / "a.png", 1)
    made_up.draw(inbox / "b.png", 2)
    made_up.score(tmp_path / "results", inbox)
    (inbox / "a.png").rename(inbox / "renamed.png")
    shutil.copy(inbox / "b.png", inbox / "copied.png")
    (inbox / "linked.png").symlink_to("b.png")
    found = outcome(taken(inbox, ledger=open_ledger(tmp_path / "results", made_up.BUNDLE)))
    assert set(found.values()) == {"scored_before"}


def test_paths_that_cannot_be_told_apart_by_their_hashes_are_told_apart(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up.draw_inbox(inbox, images=5)
    for path in inbox.rglob("*"):
        os.utime(path, (10**9, 10**9))
    made_up.score(tmp_path / "results", inbox)
    made_up.draw(inbox / "new.png", 99)
    ledger = open_ledger(tmp_path / "results", made_up.BUNDLE)
    told_apart = taken(inbox, ledger=ledger).files
    monkeypatch.setattr(intake, "path_keys", lambda texts: np.zeros(len(texts), np.int64))
    assert taken(inbox, ledger=ledger).files.equals(told_apart)


def test_of_an_inbox_that_was_emptied_nothing_is_known(inbox: Path, tmp_path: Path) -> None:
    made_up.draw(inbox / "a.png", 1)
    os.utime(inbox / "a.png", (10**9, 10**9))
    made_up.score(tmp_path / "results", inbox)
    (inbox / "a.png").unlink()
    assert outcome(taken(inbox, ledger=open_ledger(tmp_path / "results", made_up.BUNDLE))) == {}


# -- the folder itself


def test_a_missing_inbox_and_a_file_as_inbox_are_told_apart(inbox: Path) -> None:
    with pytest.raises(InboxMissing, match="nowhere"):
        taken(inbox / "nowhere")
    (inbox / "file").write_bytes(b"")
    with pytest.raises(WrongUse, match="folder"):
        taken(inbox / "file")


def test_an_empty_inbox_is_an_empty_manifest(inbox: Path) -> None:
    for manifest in (taken(inbox), nothing_delivered(inbox / "nowhere", empty_ledger(inbox.parent))):
        assert len(manifest.files) == 0
        assert len(manifest.to_score) == 0
        assert manifest.counts.balanced


@pytest.mark.real_data
def test_every_odd_file_is_accounted_for(data: Path) -> None:
    odd = data / "images" / "odd"
    manifest = take_in(odd, formats=("JPEG", "PNG"), ledger=empty_ledger(Path("/nowhere")), settle_seconds=0)
    assert sorted(manifest.files["path"].to_pylist()) == sorted(to_text(path.name) for path in odd.iterdir())
    assert manifest.counts.balanced
    assert manifest.counts.scored > 20


KINDS = {
    "image": lambda path, seed: made_up.draw(path.with_suffix(".png"), seed),
    "broken": lambda path, seed: path.with_suffix(".png").write_bytes(PNG + made_up.BROKEN + bytes([seed])),
    "text": lambda path, seed: path.with_suffix(".txt").write_text(str(seed)),
    "empty": lambda path, seed: path.with_suffix(".jpg").touch(),
    "gif": lambda path, seed: path.with_suffix(".gif").write_bytes(b"GIF89a" + bytes([seed])),
    "part": lambda path, seed: path.with_suffix(".part").write_bytes(PNG),
    "dangling": lambda path, seed: path.with_suffix(".png").symlink_to("nowhere"),
    "out": lambda path, seed: path.with_suffix(".png").symlink_to("/etc/hostname"),
    "pipe": lambda path, seed: os.mkfifo(path.with_suffix(".png")),
}


@settings(max_examples=15, deadline=None)
@given(
    nights=st.lists(
        st.lists(
            st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 4), st.sampled_from(["", "a", "a/b"])), max_size=8
        ),
        min_size=1,
        max_size=3,
    ),
    gone=st.integers(0, 3),
)
def test_every_path_seen_is_accounted_for_whatever_lies_there(
    nights: list[list[tuple[str, int, str]]], gone: int
) -> None:
    """Seen = scored + scored before + duplicate + quarantined + deferred + not an image; each content once."""
    with tempfile.TemporaryDirectory() as name:
        inbox, results = Path(name) / "inbox", Path(name) / "results"
        for night, files in enumerate(nights):
            for number, (kind, seed, folder) in enumerate(files):
                (inbox / folder).mkdir(parents=True, exist_ok=True)
                KINDS[kind](inbox / folder / f"{night}-{number}", seed)
            inbox.mkdir(exist_ok=True)
            paths = [Path(folder) / file for folder, _, found in os.walk(inbox) for file in found]
            images = sorted(
                path for path in paths if path.suffix == ".png" and path.is_file() and not path.is_symlink()
            )
            after = images[:gone] if night else []
            commit = made_up.score(results, inbox, before_shards=lambda _, after=after: [p.unlink() for p in after])
            assert commit.counts.seen == len(paths)
        assert made_up.balanced(results)
        contents = [content for content, *_ in made_up.rows_of(results)]
        assert len(contents) == len(set(contents))
        if not gone:
            good = [path.read_bytes() for path in images if made_up.BROKEN not in path.read_bytes()]
            assert {hashlib.sha256(data).hexdigest() for data in good if data} <= set(contents)


def test_the_rows_of_a_manifest_have_no_word_of_their_own(inbox: Path) -> None:
    made_up.draw_inbox(inbox)
    assert isinstance(taken(inbox).files, pa.Table)
    assert taken(inbox).files.schema.equals(intake.MANIFEST)
