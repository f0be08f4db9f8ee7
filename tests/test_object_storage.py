"""Object storage against a real server over HTTP: what it shares with a disk, and what goes wrong on the way."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darkroom import leases, object_storage
from darkroom.errors import CommitConflict, StorageError, WrongUse
from darkroom.leases import Leases
from darkroom.object_storage import ObjectStorage, bucket_and_key
from darkroom.results import commits
from darkroom.storage import LocalStorage, Storage, storage_at, store_address
from tests import made_up
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
    """Requests are repeated for half a second only."""
    object_storage._store.cache_clear()
    monkeypatch.setattr(object_storage, "RETRIED_FOR", timedelta(seconds=0.5))
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


# -- what goes wrong between here and there


@pytest.mark.parametrize("fault", ["error", "slow down", "reset", "lost answer", "wrong answer"])
@pytest.mark.parametrize(
    ("method", "act"),
    [
        pytest.param("GET", lambda s: s.read("a/old"), id="read"),
        pytest.param("GET", lambda s: s.list("a"), id="list"),
        pytest.param("PUT", lambda s: s.write("a/old", b"old"), id="write"),
        pytest.param("PUT", lambda s: s.write_new("a/new", b"new"), id="write_new"),
        pytest.param("PUT", lambda s: s.copy("a/old", "a/copy"), id="copy"),
        pytest.param("PUT", lambda s: s.move_folder("b", "c"), id="move_folder"),
        pytest.param("POST", lambda s: s.remove_folder("b"), id="remove_folder"),
        pytest.param("DELETE|POST", lambda s: s.remove("b/2"), id="remove"),
        pytest.param("ANY", lambda s: s.try_lock("run-1").release(), id="lock"),
    ],
)
def test_a_fault_on_the_way_is_tried_again_and_leaves_nothing_behind(
    objects: ObjectStorage, object_server: ObjectServer, fault: str, method: str, act: Callable[[ObjectStorage], object]
) -> None:
    for storage in (objects, undisturbed := ObjectStorage(object_server.folder())):
        for key in ("a/old", "b/1", "b/2"):
            storage.write(key, b"old")
    act(undisturbed)
    object_server.misbehave(fault, method=method, times=2)
    act(objects)
    assert object_server.behave() > 0
    assert contents(objects) == contents(undisturbed)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda s: s.read("a/old"), id="read"),
        pytest.param(lambda s: s.write("a/old", b"old"), id="write"),
        pytest.param(lambda s: s.write_new("a/new", b"new"), id="write_new"),
    ],
)
def test_what_is_not_answered_in_time_is_asked_again(
    objects: ObjectStorage,
    object_server: ObjectServer,
    act: Callable[[ObjectStorage], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects.write("a/old", b"old")
    monkeypatch.setattr(object_storage, "_TIMEOUT", timedelta(seconds=0.4))
    object_storage._store.cache_clear()
    object_server.misbehave("slow", times=1)
    try:
        act(objects)
        act_again = pytest.raises(CommitConflict) if objects.exists("a/new") else nullcontext()
        with act_again:
            act(objects)
    finally:
        object_storage._store.cache_clear()


def contents(storage: ObjectStorage) -> dict[str, bytes]:
    keys = [one["path"] for page in obstore.list(storage.store()) for one in page]
    return {key: storage.read(key) for key in sorted(keys) if not key.startswith(".locks")}


@pytest.mark.parametrize("remove", [lambda s: s.remove("a/1"), lambda s: s.remove_folder("a")], ids=["one", "all"])
def test_what_a_store_says_is_gone_already_is_gone(
    objects: ObjectStorage, object_server: ObjectServer, remove: Callable[[ObjectStorage], object]
) -> None:
    objects.write("a/1", b"")
    object_server.misbehave("gone", method="DELETE|POST", times=2)
    remove(objects)
    assert not objects.exists("a")


def test_an_address_may_hold_any_character(object_server: ObjectServer) -> None:
    odd = ObjectStorage(f"{object_server.folder()}/a b/ü +%20#?x")
    odd.write("deep/ü +%20#?.json", b"odd")
    bucket, key = bucket_and_key(odd.url)
    assert ObjectStorage(bucket).read(f"{key}/deep/ü +%20#?.json") == b"odd"
    assert odd.list("deep") == ["ü +%20#?.json"]


def test_without_the_library_an_address_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    object_storage._client.cache_clear()
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "obstore", None)
        for act in (lambda s: s.peek("a"), lambda s: s.write("a", b""), lambda s: s.try_lock("a")):
            with pytest.raises(WrongUse, match="not installed") as caught:
                act(ObjectStorage("s3://a-bucket/that-nobody-asked-for"))
            assert "darkroom[cloud]" in str(caught.value.todo)
    object_storage._client.cache_clear()


@pytest.mark.parametrize("fault", ["lost answer", "wrong answer"])
def test_a_conditional_put_whose_answer_was_lost_is_known_as_our_own(
    objects: ObjectStorage, object_server: ObjectServer, fault: str
) -> None:
    objects.write_new("commits/1.json", b"mine")
    object_server.misbehave(fault, method="PUT", key="2.json")
    object_server.asked()
    objects.write_new("commits/2.json", b"mine")
    puts = [asked for asked in object_server.asked() if asked.startswith("PUT")]
    assert len(puts) == 2, "the first was carried out, the second refused"
    with pytest.raises(CommitConflict):
        objects.write_new("commits/2.json", b"mine")


def test_a_conditional_put_that_lost_behind_a_fault_is_a_conflict(
    objects: ObjectStorage, object_server: ObjectServer
) -> None:
    objects.write_new("commits/1.json", b"same")
    object_server.misbehave("error", method="PUT", times=2)
    with pytest.raises(CommitConflict):
        objects.write_new("commits/1.json", b"same")


def test_a_put_that_was_refused_because_another_was_under_way_is_tried_again(
    objects: ObjectStorage, object_server: ObjectServer
) -> None:
    object_server.misbehave("conflict", method="PUT", times=2)
    objects.write_new("commits/1.json", b"mine")
    assert objects.read("commits/1.json") == b"mine"


def test_a_store_that_ignores_the_condition_is_refused(objects: ObjectStorage, object_server: ObjectServer) -> None:
    object_server.misbehave("no conditions", times=100)
    with pytest.raises(StorageError, match="ignores the condition") as caught:
        objects.write_new("commits/1.json", b"mine")
    assert "conditional writes" in str(caught.value.todo)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["error", "slow down", "reset"])
def test_a_store_that_stays_away_is_an_error_that_says_what_to_do(
    objects: ObjectStorage, object_server: ObjectServer, fault: str
) -> None:
    objects.write("a/b", b"old")
    object_server.misbehave(fault, times=1000)
    for act in (lambda: objects.read("a/b"), lambda: objects.write("a/b", b"new"), lambda: objects.list("a")):
        with pytest.raises(StorageError, match="could not be") as caught:
            act()
        assert objects.url in str(caught.value.file)
        assert "run again" in str(caught.value.todo)
    object_server.behave()
    assert objects.read("a/b") == b"old"


def test_missing_rights_and_buckets_are_told_as_such(objects: ObjectStorage, object_server: ObjectServer) -> None:
    nowhere = ObjectStorage("s3://no-such-bucket/results")
    for act in (lambda: nowhere.peek("a"), lambda: nowhere.write("a", b""), lambda: nowhere.try_lock("a")):
        with pytest.raises(StorageError) as caught:
            act()
        assert "make the bucket" in str(caught.value.todo)
    object_server.misbehave("denied", times=1000)
    for act in (lambda: objects.peek("a"), lambda: objects.write_new("a", b""), lambda: objects.list("a")):
        with pytest.raises(StorageError) as caught:
            act()
        assert "give this account the right" in str(caught.value.todo)


def test_a_folder_of_many_pages_is_listed_and_removed_whole(
    objects: ObjectStorage, object_server: ObjectServer
) -> None:
    names = object_server.fill(f"{objects.url}/a")
    objects.write("ab", b"not below")
    object_server.asked()
    assert objects.list("a") == names
    assert len(object_server.asked()) == 5
    objects.remove_folder("a")
    assert objects.list("a") == []
    assert objects.exists("ab")


# -- locks


def test_a_process_elsewhere_that_is_silent_loses_its_lock(
    objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_mark", lambda *_: None)
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.2)
    lock = Leases(objects).take("run-1", 0)
    assert lock is not None
    lock.leases._ended.set()  # its heartbeat stops
    other = Leases(objects)
    assert other.take("run-1", 0) is None
    monkeypatch.setattr(leases, "TAKEN_OVER_AFTER", 1.0)
    taken = other.take("run-1", 30)
    assert taken is not None
    monkeypatch.setattr(leases, "TAKEN_OVER_AFTER", 60.0)
    lock.release()  # it comes back, and finds that this is no longer its own
    assert Leases(objects).take("run-1", 0) is None


def test_a_process_that_was_away_changes_nothing_any_more(
    objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWED_EVERY", 1e6)
    lock = objects.try_lock("run-1")
    assert lock is not None
    objects.write("a/b", b"old")
    now = leases.clock()
    monkeypatch.setattr(leases, "clock", lambda: now + leases.HELD_FOR + 1)
    changes: list[Callable[[], object]] = [
        lambda: objects.write("a/b", b"new"),
        lambda: objects.write_new("a/c", b"new"),
        lambda: objects.copy("a/b", "a/c"),
        lambda: objects.move_folder("a", "b"),
        lambda: objects.remove("a/b"),
        lambda: objects.remove_folder("a"),
    ]
    for change in changes:
        with pytest.raises(StorageError, match="taken over its work"):
            change()
    assert contents(objects) == {"a/b": b"old"}
    monkeypatch.undo()
    lock.release()
    objects.write("a/b", b"new")


def test_heartbeats_go_on_while_something_is_held_and_end_with_it(
    objects: ObjectStorage, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWED_EVERY", 0.05)
    lock = objects.try_lock("run-1")
    assert lock is not None
    beats = 0
    while beats < 3:
        beats += sum(asked.startswith("PUT") and "alive" in asked for asked in object_server.asked())
        time.sleep(0.05)
    assert len(objects.list(f"{leases.LOCKS}/alive")) == 1
    lock.release(forget=True)
    assert objects.list(".locks") == []


def test_old_heartbeats_are_tidied_and_young_ones_are_left_alone(objects: ObjectStorage) -> None:
    objects.write(f"{leases.ALIVE}/dead", b"{}")
    objects.tidy(3600)
    assert objects.list(leases.ALIVE) == ["dead"]
    objects.tidy(-60)
    assert objects.list(leases.ALIVE) == []


# -- addresses


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("s3://bucket/results", "s3://bucket/results"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket", "gs://bucket"),
        (Path("az://container/results"), "az://container/results"),
        (Path("s3://bucket/a") / "b", "s3://bucket/a/b"),
        ("results", None),
        ("/data/s3:/bucket", None),
        (Path("s3"), None),
        ("file:///data/results", None),
        ("https://example.com/results", None),
    ],
)
def test_an_address_is_known_as_text_and_as_a_path(place: Path | str, address: str | None) -> None:
    assert store_address(place) == address
    if address is not None:
        assert storage_at(place) == ObjectStorage(address)


@pytest.mark.parametrize("place", ["s3://user:secret@bucket/a", "s3://bucket/../a", "s3://bucket/a//b", "az://box/./a"])
def test_an_address_with_a_secret_or_without_one_meaning_is_refused_and_not_repeated(place: str) -> None:
    with pytest.raises(WrongUse, match="not the address") as refused:
        store_address(place)
    assert "secret" not in str(refused.value).replace("no name or secret", "")


@pytest.mark.parametrize("place", ["file:///data/my%20results", Path("file:///data/my%20results")])
def test_an_store_address_a_file_is_a_folder_on_this_machine(place: Path | str) -> None:
    assert storage_at(place) == LocalStorage(Path("/data/my results"))


# -- nights


def crashing(folder: Path, address: str, scenario: str, step: int) -> int:
    command = [sys.executable, "-m", "tests.crashing", str(folder), scenario, "0", str(step), address]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
    report = json.loads(done.stdout)
    assert len(report["expected"]["rows"]) == len(report["expected"]["plain"]) == 9
    assert report["failures"] == []
    moments: int = report["moments"]
    return moments


@pytest.mark.parametrize(("scenario", "step"), [("plain", 13), ("contended", 47)])
def test_a_night_killed_at_any_change_of_the_store_is_whole_after_the_next(
    tmp_path: Path, object_server: ObjectServer, scenario: str, step: int
) -> None:
    assert crashing(tmp_path, object_server.folder(), scenario, step) >= 3


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("scenario", "step", "moments"), [("plain", 4, 15), ("contended", 15, 8)])
def test_a_night_killed_at_every_few_changes_of_the_store_is_whole_after_the_next(
    tmp_path: Path, object_server: ObjectServer, scenario: str, step: int, moments: int
) -> None:
    assert crashing(tmp_path, object_server.folder(), scenario, step) >= moments


def test_three_processes_at_once_over_one_inbox_score_each_content_once(
    tmp_path: Path, object_server: ObjectServer
) -> None:
    inbox = made_up.draw_inbox(tmp_path / "inbox", images=30)
    results = object_server.folder()
    command = [sys.executable, "-m", "tests.made_up", results, str(inbox)]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(made_up.rows_of(Path(results))) == 30
    assert sum(done.counts.scored for done in commits(results, made_up.BUNDLE)) == 30
    assert [done.number for done in commits(results, made_up.BUNDLE)] == [1, 2, 3]
    assert storage_at(results).list("staging") == []
    assert made_up.balanced(Path(results))


@pytest.mark.parametrize("fault", ["slow down", "reset", "lost answer"])
def test_a_night_with_a_fault_at_every_few_requests_is_as_undisturbed(
    tmp_path: Path, object_server: ObjectServer, fault: str
) -> None:
    inbox, results = made_up.draw_inbox(tmp_path / "inbox"), object_server.folder()
    object_server.misbehave(fault, every=6, times=1000)
    made_up.score(Path(results), inbox)
    object_server.behave()
    made_up.score(tmp_path / "undisturbed", inbox)
    assert made_up.rows_of(Path(results)) == made_up.rows_of(tmp_path / "undisturbed")
    assert [done.number for done in commits(results, made_up.BUNDLE)] == [1]
    assert storage_at(results).list("staging") == []
    assert made_up.balanced(Path(results))
