"""Object storage against a real server over HTTP: what it shares with a disk, and what goes wrong on the way."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darkroom import leases, object_storage
from darkroom.errors import CommitConflict, StorageError
from darkroom.object_storage import ObjectStorage
from darkroom.storage import LocalStorage, Storage, address_of, storage_at
from tests.plugins.object_store import ObjectServer

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=["disk", "objects"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """The same promises, wherever results lie."""
    if request.param == "disk":
        return LocalStorage(tmp_path / "results")
    return ObjectStorage(request.getfixturevalue("object_server").folder())


@pytest.fixture
def objects(object_server: ObjectServer) -> ObjectStorage:
    return ObjectStorage(object_server.folder())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Requests are repeated for two seconds only."""
    object_storage._store.cache_clear()
    monkeypatch.setattr(object_storage, "RETRIED_FOR", timedelta(seconds=2))
    yield
    object_storage._store.cache_clear()


# -- what a disk and an object store have in common


def test_a_storage_can_be_pickled_and_is_itself(storage: Storage) -> None:
    assert storage_at(storage) is storage
    assert isinstance(storage, Storage)
    assert pickle.loads(pickle.dumps(storage)) == storage


def test_writing_replaces_the_whole_content(storage: Storage) -> None:
    storage.write("a/b.json", b"long, long ago")
    storage.write("a/b.json", iter([b"new", b"er"]))
    assert storage.read("a/b.json") == storage.peek("a/b.json") == b"newer"
    assert storage.size("a/b.json") == 5
    assert storage.list("a") == ["b.json"]


def test_a_large_content_arrives_whole(storage: Storage) -> None:
    blocks = [bytes([number]) * 1_000_003 for number in range(12)]
    storage.write("a/large", iter(blocks))
    storage.write("a/as-bytes", b"".join(blocks))
    assert storage.read("a/large") == storage.read("a/as-bytes") == b"".join(blocks)


def test_a_new_file_is_refused_where_one_is_and_the_first_content_stays(storage: Storage) -> None:
    storage.write_new("commits/1.json", b"same")
    for content in (b"same", b"another"):
        with pytest.raises(CommitConflict, match="Somebody else") as caught:
            storage.write_new("commits/1.json", content)
        assert "commits/1.json" in str(caught.value.file)
    assert storage.read("commits/1.json") == b"same"


def test_of_many_writers_of_one_new_file_one_wins(storage: Storage) -> None:
    for round_ in range(5):
        won: list[int] = []
        start = threading.Barrier(8)

        def writer(number: int, key: str, won: list[int], start: threading.Barrier) -> None:
            start.wait()
            try:
                storage.write_new(key, str(number).encode())
                won.append(number)
            except CommitConflict:
                pass

        key = f"commits/{round_}.json"
        threads = [threading.Thread(target=writer, args=(number, key, won, start)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert storage.read(key) == str(won[0]).encode()


def test_a_writer_whose_source_fails_leaves_the_old_content(storage: Storage) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the source failed")

    storage.write("a/old", b"old")
    for key in ("a/old", "a/new"):
        with pytest.raises(RuntimeError, match="the source failed"):
            storage.write(key, blocks())
    assert storage.list("a") == ["old"]
    assert storage.read("a/old") == b"old"


def test_a_copy_outlives_what_it_came_from(storage: Storage) -> None:
    storage.write("shards/one", b"1")
    storage.copy("shards/one", "publish/one")
    storage.remove_folder("shards")
    assert storage.read("publish/one") == b"1"


def test_a_folder_is_moved_whole_and_a_second_time_is_no_error(storage: Storage) -> None:
    storage.write("staging/x/part", b"1")
    storage.write("staging/x/deep/er", b"2")
    storage.write("staging/xy", b"a name that only begins alike")
    for _ in range(2):
        storage.move_folder("staging/x", "predictions/run=1")
    assert storage.list("predictions/run=1") == ["deep", "part"]
    assert storage.read("predictions/run=1/deep/er") == b"2"
    assert storage.list("staging") == ["xy"]


def test_a_folder_that_is_nowhere_cannot_be_moved(storage: Storage) -> None:
    with pytest.raises(StorageError, match="moved into place"):
        storage.move_folder("staging/x", "predictions/run=1")


def test_what_is_removed_is_gone_and_nothing_else_and_it_may_be_gone_already(storage: Storage) -> None:
    for key in ("a/1", "a/2", "b/x/1", "b/x/y/2", "b/xy"):
        storage.write(key, b"")
    for _ in range(2):
        storage.remove("a/1")
        storage.remove_folder("b/x")
    assert storage.list("a") == ["2"]
    assert storage.list("b") == ["xy"]


def test_listing_shows_names_in_order_and_no_hidden_ones(storage: Storage) -> None:
    for key in ("a/2", "a/1", "a/.hidden", "a/b/3", "a/night=2026-03-01/x", "a/ü +%.json"):
        storage.write(key, b"")
    assert storage.list("a") == ["1", "2", "b", "night=2026-03-01", "ü +%.json"]
    assert storage.list("nowhere") == []
    assert storage.read("a/ü +%.json") == b""
    assert [storage.exists(key) for key in ("a", "a/1", "a/b", "a/b/3", "nowhere", "a/b/4")] == [
        True, True, True, True, False, False]  # fmt: skip


def test_what_is_not_there_is_none_or_an_error_that_names_it(storage: Storage) -> None:
    assert storage.peek("a/b") is None
    for ask in (storage.read, storage.size):
        with pytest.raises(StorageError, match=r"a/b"):
            ask("a/b")
    with pytest.raises(FileNotFoundError):
        storage.open("a/b")


@pytest.mark.parametrize("key", ["../outside", "a/../../b", "/etc/passwd", ""])
def test_no_key_leads_out_of_the_storage(storage: Storage, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        storage.read(key)


def test_a_parquet_file_is_read_by_column_and_row_group(storage: Storage) -> None:
    table = pa.table({"number": range(5000), "text": [f"{number:050d}" for number in range(5000)]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=1000)
    storage.write("a/rows.parquet", sink.getvalue().to_pybytes())
    with storage.open("a/rows.parquet") as source, pq.ParquetFile(source) as file:
        assert file.read_row_group(3) == table.slice(3000, 1000)
        assert file.read(columns=["number"]) == table.select(["number"])


def test_a_lock_is_held_by_one_until_released(storage: Storage) -> None:
    first = storage.try_lock("run-1")
    assert first is not None
    assert storage.try_lock("run-1") is None
    other = storage.try_lock("run-2")
    assert other is not None
    for forget in (False, True):
        first.release(forget=forget)
        first = storage.try_lock("run-1")
        assert first is not None
    first.release()
    other.release()


def test_waiting_for_a_lock_ends_when_it_is_free(storage: Storage) -> None:
    first = storage.try_lock("bundle")
    assert first is not None
    threading.Timer(0.2, first.release).start()
    second = storage.try_lock("bundle", patience=60)
    assert second is not None
    second.release()


def test_a_lock_dies_with_its_process_however_it_dies(storage: Storage) -> None:
    program = (
        "import pickle, sys, time\n"
        "lock = pickle.loads(bytes.fromhex(sys.argv[1])).try_lock('run-1'); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, pickle.dumps(storage).hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert storage.try_lock("run-1") is None
        holder.kill()
    lock = storage.try_lock("run-1")
    assert lock is not None
    lock.release()
