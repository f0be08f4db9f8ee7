from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkroom.errors import CommitConflict, StorageError
from darkroom.storage import LocalStorage, Storage, storage_at


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "results")


def files_below(storage: LocalStorage) -> set[str]:
    return {str(path.relative_to(storage.root)) for path in storage.root.rglob("*") if path.is_file()}


def test_a_folder_is_a_storage_and_a_storage_is_itself(tmp_path: Path, storage: LocalStorage) -> None:
    assert storage_at(storage) is storage
    assert isinstance(storage_at(tmp_path), Storage)
    assert pickle.loads(pickle.dumps(storage)) == storage


def test_writing_replaces_the_whole_content_and_leaves_nothing_else(storage: LocalStorage) -> None:
    storage.write("a/b.json", b"long, long ago")
    storage.write("a/b.json", iter([b"new", b"er"]))
    assert storage.read("a/b.json") == b"newer"
    assert files_below(storage) == {"a/b.json"}


def test_a_new_file_is_refused_where_one_is_and_the_first_content_stays(storage: LocalStorage) -> None:
    storage.write_new("commits/1.json", b"mine")
    with pytest.raises(CommitConflict):
        storage.write_new("commits/1.json", b"yours")
    assert storage.read("commits/1.json") == b"mine"
    assert files_below(storage) == {"commits/1.json"}


def test_a_removed_file_is_gone_and_nothing_else_and_it_may_be_gone_already(storage: LocalStorage) -> None:
    storage.write("a/1.json", b"")
    storage.write("a/2.json", b"")
    for _ in range(2):
        storage.remove("a/1.json")
    assert files_below(storage) == {"a/2.json"}
    with pytest.raises(StorageError, match="could not be removed"):
        storage.remove("a")


def test_of_many_writers_of_one_new_file_one_wins(storage: LocalStorage) -> None:
    won: list[int] = []
    start = threading.Barrier(8)

    def writer(number: int) -> None:
        start.wait()
        try:
            storage.write_new("commits/1.json", str(number).encode())
            won.append(number)
        except CommitConflict:
            pass

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read("commits/1.json") == str(won[0]).encode()


@pytest.mark.parametrize("write", ["write", "write_new"])
def test_content_is_synced_before_its_name_appears_and_the_folder_after(
    storage: LocalStorage, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write("a/first", b"")
    calls: list[str] = []
    for name in ("fsync", "rename", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, real=real, name=name: (calls.append(name), real(*args))[1])
    getattr(storage, write)("a/b", b"content")
    assert calls == ["fsync", "rename" if write == "write" else "link", "fsync"]


@pytest.mark.parametrize("write", ["write", "write_new"])
def test_a_full_disk_says_what_to_do_and_leaves_the_old_content(
    storage: LocalStorage, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write("a/old", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        getattr(storage, write)("a/old" if write == "write" else "a/new", b"new")
    assert "free some space" in str(caught.value)
    assert str(storage.root / "a") in str(caught.value)
    assert storage.read("a/old") == b"old"
    assert files_below(storage) == {"a/old"}


def test_a_writer_whose_source_fails_leaves_nothing(storage: LocalStorage) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError):
        storage.write("a/b", blocks())
    assert not storage.exists("a/b")
    assert files_below(storage) == set()


def test_a_folder_is_moved_whole_and_a_second_time_is_no_error(storage: LocalStorage) -> None:
    storage.write("staging/x/part", b"1")
    storage.move_folder("staging/x", "predictions/run=1")
    storage.move_folder("staging/x", "predictions/run=1")
    assert files_below(storage) == {"predictions/run=1/part"}


def test_a_removed_folder_is_gone_and_a_missing_one_is_no_error(storage: LocalStorage) -> None:
    storage.write("staging/x/part", b"1")
    storage.remove_folder("staging/x")
    storage.remove_folder("staging/x")
    assert files_below(storage) == set()


def test_a_copy_outlives_the_folder_it_came_from(storage: LocalStorage) -> None:
    storage.write("shards/one", b"1")
    storage.copy("shards/one", "publish/one")
    storage.remove_folder("shards")
    assert storage.read("publish/one") == b"1"


def test_listing_shows_names_in_order_and_no_hidden_ones(storage: LocalStorage) -> None:
    for key in ("a/2", "a/1", "a/.hidden", "a/b/3"):
        storage.write(key, b"")
    assert storage.list("a") == ["1", "2", "b"]
    assert storage.list("nowhere") == []


def test_what_is_not_there_is_none_or_an_error_that_names_it(storage: LocalStorage) -> None:
    assert storage.peek("a/b") is None
    with pytest.raises(StorageError, match=r"a/b"):
        storage.read("a/b")


@pytest.mark.parametrize("key", ["../outside", "a/../../b", "/etc/passwd", ""])
def test_no_key_leads_out_of_the_storage(storage: LocalStorage, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        storage.read(key)


def test_what_dead_writers_left_is_tidied_and_the_living_are_left_alone(storage: LocalStorage) -> None:
    folder = storage.root / ".tmp"
    (folder / "removed-1" / "deep").mkdir(parents=True)
    (folder / "write-old").write_bytes(b"")
    (folder / "write-new").write_bytes(b"")
    os.utime(folder / "write-old", (0, 0))
    storage.tidy(older_than_seconds=60)
    assert sorted(path.name for path in folder.iterdir()) == ["write-new"]


def test_a_lock_is_held_by_one_until_released(storage: LocalStorage) -> None:
    first = storage.try_lock("run-1")
    assert first is not None
    assert storage.try_lock("run-1") is None
    assert storage.try_lock("run-2") is not None
    first.release(forget=True)
    again = storage.try_lock("run-1")
    assert again is not None
    again.release()


def test_waiting_for_a_lock_ends_when_it_is_free(storage: LocalStorage) -> None:
    first = storage.try_lock("bundle")
    assert first is not None
    threading.Timer(0.2, first.release).start()
    begun = time.monotonic()
    second = storage.try_lock("bundle", patience=10)
    assert second is not None
    assert time.monotonic() - begun < 5
    second.release()


def test_a_lock_dies_with_its_process_however_it_dies(storage: LocalStorage) -> None:
    program = (
        "import sys, time; from pathlib import Path; from darkroom.storage import LocalStorage\n"
        "lock = LocalStorage(Path(sys.argv[1])).try_lock('run-1'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(storage.root)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert storage.try_lock("run-1") is None
        holder.send_signal(signal.SIGKILL)
    lock = storage.try_lock("run-1")
    assert lock is not None
    lock.release()
