from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pytest

from darkroom import results as committed
from darkroom.names import to_text
from darkroom.reasons import FileStatus, Reason
from darkroom.storage import LocalStorage
from tasks.quarantine import COPIES, Copies, Refusal, keep_copies, refusals_table, status_of
from tests import made_up

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "results")


def rows(*named: tuple[str, bytes], reason: Reason = Reason.BROKEN_DATA) -> pa.Table:
    refusals = [Refusal(name, hashlib.sha256(data).hexdigest(), reason, None, len(data)) for name, data in named]
    return refusals_table(refusals)


def put(inbox: Path, name: str, data: bytes) -> tuple[str, bytes]:
    (inbox / name).write_bytes(data)
    return to_text(name), data


def test_every_reason_quarantines_or_defers_and_what_is_deferred_comes_back() -> None:
    for reason in Reason:
        assert status_of(reason) in (FileStatus.QUARANTINED, FileStatus.DEFERRED)
        if status_of(reason) is FileStatus.DEFERRED:
            assert reason.retryable


def test_a_copy_bears_the_content_as_name_and_what_it_is_as_suffix(inbox: Path, storage: LocalStorage) -> None:
    first = put(inbox, "a.exe", PNG + b"1")
    second = put(inbox, os.fsdecode(b"\xff\n.jpg"), b"who knows")
    assert keep_copies(storage, inbox, rows(first, second)) == Copies(kept=2, new=2)
    copies = {path.name: path.read_bytes() for path in (storage.root / COPIES).iterdir()}
    assert copies == {
        hashlib.sha256(first[1]).hexdigest() + ".png": first[1],
        hashlib.sha256(second[1]).hexdigest() + ".bin": second[1],
    }


def test_a_content_is_copied_once_for_ever(inbox: Path, storage: LocalStorage) -> None:
    first = put(inbox, "a.png", PNG + b"1")
    same = put(inbox, "b.png", PNG + b"1")
    assert keep_copies(storage, inbox, rows(first, same)) == Copies(kept=2, new=1)
    assert keep_copies(storage, inbox, rows(same)) == Copies(kept=1, new=0)


def test_what_may_come_back_and_what_was_never_read_is_not_copied(inbox: Path, storage: LocalStorage) -> None:
    again = put(inbox, "a.png", PNG)
    nothing = put(inbox, "b.png", b"")
    assert keep_copies(storage, inbox, rows(again, reason=Reason.DECODE_TIMEOUT)) == Copies()
    assert keep_copies(storage, inbox, rows(nothing, reason=Reason.EMPTY_FILE)) == Copies()
    unread = refusals_table([Refusal("a.png", None, Reason.TOO_LARGE_FILE, size=10)])
    assert keep_copies(storage, inbox, unread) == Copies()
    assert not storage.exists(COPIES)


def test_copies_are_bounded_a_file_and_in_all(inbox: Path, storage: LocalStorage) -> None:
    files = [put(inbox, f"{number}.png", PNG + bytes(92) + bytes([number])) for number in range(4)]
    assert keep_copies(storage, inbox, rows(*files), max_bytes=100) == Copies(beyond_limit=4)
    assert keep_copies(storage, inbox, rows(*files), max_total_bytes=250) == Copies(2, 2, 0, 2)


@pytest.mark.parametrize("change", ["gone", "other content", "longer", "a link out", "a pipe"])
def test_a_file_that_is_no_longer_what_was_quarantined_is_not_copied(
    inbox: Path, storage: LocalStorage, tmp_path: Path, change: str
) -> None:
    row = rows(put(inbox, "a.png", PNG + b"old"))
    path = inbox / "a.png"
    (tmp_path / "secret").write_bytes(PNG + b"old")
    path.unlink()
    match change:
        case "other content":
            path.write_bytes(PNG + b"new")
        case "longer":
            path.write_bytes(PNG + b"new and longer")
        case "a link out":
            path.symlink_to(tmp_path / "secret")
        case "a pipe":
            os.mkfifo(path)
    assert keep_copies(storage, inbox, row) == Copies(refused=1)
    assert storage.list(COPIES) == []


def test_what_is_quarantined_for_good_is_recorded_every_night_and_copied_once(tmp_path: Path) -> None:
    inbox = made_up.draw_inbox(tmp_path / "inbox", images=1, broken=2)
    for _ in range(2):
        made_up.score(tmp_path / "results", inbox)
    frame = committed.read(tmp_path / "results", "quarantine")
    assert frame.groupby("run").size().tolist() == [2, 2]
    assert set(frame["reason"]) == {"broken_data"}
    assert len(list((tmp_path / "results" / COPIES).iterdir())) == 2


def test_a_detail_is_recorded_as_printable_text() -> None:
    table = refusals_table([Refusal("a", None, Reason.READ_ERROR, "bad \udcff\nname" * 1000)])
    detail = table["detail"][0].as_py()
    assert detail.isprintable()
    assert len(detail) <= 500
