"""Decoding in killable processes: order, limits, deaths, and that nothing stays behind."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from darkroom.errors import Failed, WrongUse
from darkroom.reasons import Reason
from tasks.decode import ImageRefused, Limits
from tasks.lent_pool import lent_pool
from tasks.preprocessing import array_digest, prepare
from tasks.presets import preset
from tasks.worker_main import read_file
from tasks.worker_process import Answer, WorkerProcess
from tasks.workers import Arrived, DecodePool, Job, Refused, Wanted

PINNED = preset("load_img", size=(48, 64), interpolation="bilinear", values="mobilenet_v2")
TENSOR = Wanted(properties=False)


def _jpeg(number: int = 0, width: int = 90, height: int = 60, **how: object) -> bytes:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([(x * 3 + number * 11) % 256, (y * 5 + number) % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG", **how)
    return held.getvalue()


def _blank_png(width: int, height: int) -> bytes:
    """A sound PNG of black pixels, a thousandth of their size: what it costs is memory and time."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    squeezed = zlib.compressobj(1)
    row = bytes(1 + 3 * width) * 64
    body = b"".join(squeezed.compress(row) for _ in range(height // 64)) + squeezed.flush()
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0]))
    return start + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _workers() -> list[psutil.Process]:
    """Decoding processes below this one, dead ones that nobody waited for included."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() == psutil.STATUS_ZOMBIE or "tasks.worker_main" in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def _until(true: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    before = {process.pid for process in _workers()}
    threads = threading.active_count()
    yield
    assert [process for process in _workers() if process.pid not in before] == []
    assert threading.active_count() <= threads


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(40):
        (tmp_path / f"{number:02d}.jpg").write_bytes(_jpeg(number, width=60 + number))
    return tmp_path


# ---- what arrives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_images_arrive_in_order_with_the_bits_of_prepare(folder: Path, processes: int) -> None:
    files = sorted(folder.iterdir())
    with DecodePool(PINNED, TENSOR, processes=processes) as pool:
        arrived = list(pool.run(Job(file.name, file) for file in files))
    assert [image.key for image in arrived] == [file.name for file in files]
    for file, image in zip(files, arrived, strict=True):
        assert isinstance(image, Arrived)
        assert image.tensor is not None
        assert image.tensor.tobytes() == prepare(file.read_bytes(), PINNED).tensor.tobytes()
        assert image.content_id == hashlib.sha256(file.read_bytes()).hexdigest()
        assert (image.resized, image.properties, image.thumbnail, image.pixels_sha256) == (None,) * 4


def test_everything_that_is_wanted_arrives() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _jpeg(exif=exif.tobytes())
    wanted = Wanted(tensor=True, resized=True, properties=True, digests=True, thumbnail=30)
    for pinned in (PINNED, PINNED.with_knobs(exif_orientation="applied")):
        with DecodePool(pinned, wanted, processes=1) as pool:
            (image,) = pool.run([Job(7, data=data)])
        here = prepare(data, pinned)
        assert isinstance(image, Arrived)
        assert image.tensor is not None
        assert image.resized is not None
        assert image.thumbnail is not None
        assert image.properties is not None
        assert np.array_equal(image.resized, here.resized)
        assert image.resized.dtype == np.uint8
        assert (image.pixels_sha256, image.tensor_sha256) == (array_digest(here.pixels), array_digest(here.tensor))
        assert (image.properties["width"], image.properties["exif_orientation"]) == (90, "6")
        assert Image.open(io.BytesIO(image.thumbnail)).size == (20, 30)  # upright either way


def test_tensorflow_prepares_in_a_worker_as_it_does_here() -> None:
    pinned = preset("image_dataset_from_directory", size=(48, 64), values="resnet50")
    with DecodePool(pinned, Wanted(resized=True, properties=False), processes=1) as pool:
        (image,) = pool.run([Job(0, data=_jpeg())])
    assert isinstance(image, Arrived)
    assert image.tensor is not None
    assert image.resized is not None
    assert image.resized.dtype == np.float32
    assert image.tensor.tobytes() == prepare(_jpeg(), pinned).tensor.tobytes()


@pytest.mark.real_data
def test_every_odd_file_arrives_or_is_refused(data: Path) -> None:
    files = sorted((data / "images" / "odd").iterdir())
    with DecodePool(PINNED, Wanted(thumbnail=64, digests=True), processes=2) as pool:
        outcomes = list(pool.run(Job(file.name, file) for file in files))
    assert [outcome.key for outcome in outcomes] == [file.name for file in files]
    counted = Counter(type(outcome).__name__ for outcome in outcomes)
    assert counted == {"Arrived": 88, "Refused": 36}
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert not [outcome for outcome in refused if outcome.reason.retryable or outcome.content_id is None]
    assert Reason.DECODER_CRASHED not in {outcome.reason for outcome in refused}


# ---- files that cannot be read -------------------------------------------------------------------------------------


def _unreadable(folder: Path) -> dict[str, tuple[Job, Reason]]:
    (folder / "text.jpg").write_text("hello")
    (folder / "empty.jpg").touch()
    (folder / "large.jpg").write_bytes(_jpeg() + bytes(500_000))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    changed = hashlib.sha256(b"as it was").hexdigest()
    return {
        "gone": (Job(0, folder / "gone.jpg"), Reason.VANISHED),
        "below a file": (Job(0, folder / "00.jpg" / "x.jpg"), Reason.VANISHED),
        "no image": (Job(0, folder / "text.jpg"), Reason.UNKNOWN_FORMAT),
        "empty": (Job(0, folder / "empty.jpg"), Reason.EMPTY_FILE),
        "too large": (Job(0, folder / "large.jpg"), Reason.TOO_LARGE_FILE),
        "a pipe": (Job(0, folder / "pipe.jpg"), Reason.NOT_A_REGULAR_FILE),
        "a folder": (Job(0, folder / "folder.jpg"), Reason.NOT_A_REGULAR_FILE),
        "a device": (Job(0, Path("/dev/null")), Reason.NOT_A_REGULAR_FILE),
        "other content": (Job(0, folder / "00.jpg", content_id=changed), Reason.CHANGED_WHILE_READING),
        "a zero byte": (Job(0, folder / "a\0b.jpg"), Reason.READ_ERROR),
        "too long a name": (Job(0, folder / ("x" * 5000)), Reason.READ_ERROR),
        "other bytes": (Job(0, data=_jpeg(), content_id=changed), Reason.CHANGED_WHILE_READING),
    }


def test_a_file_that_cannot_be_read_says_why_and_the_next_one_arrives(folder: Path) -> None:
    cases = _unreadable(folder)
    sound = Job(1, folder / "01.jpg")
    with DecodePool(PINNED, TENSOR, processes=2, limits=Limits(max_bytes=400_000)) as pool:
        for name, (job, reason) in cases.items():
            bad, good = pool.run([job, sound])
            assert isinstance(bad, Refused), name
            assert bad.reason is reason, (name, bad.detail)
            assert isinstance(good, Arrived), name


ERRORS = {
    errno.EACCES: Reason.PERMISSION_DENIED,
    errno.EPERM: Reason.PERMISSION_DENIED,
    errno.ENOENT: Reason.VANISHED,
    errno.ESTALE: Reason.VANISHED,
    errno.EIO: Reason.READ_ERROR,
    errno.ELOOP: Reason.READ_ERROR,
    errno.EMFILE: Reason.READ_ERROR,
}


@pytest.mark.parametrize(("number", "reason"), ERRORS.items(), ids=[errno.errorcode[number] for number in ERRORS])
def test_what_the_system_says_of_a_file_is_a_reason_that_may_pass(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: Reason
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)  # root, who may read everything, could not be shown it otherwise
    with pytest.raises(ImageRefused) as refused:
        read_file(str(folder / "00.jpg"), 1000)
    assert refused.value.reason is reason
    assert refused.value.reason.retryable
    assert refused.value.detail == os.strerror(number)


@pytest.mark.parametrize("name", ["ümläut, + and : .jpg", "new\nline.jpg", "\udcff\udcfe not UTF-8.jpg"])
def test_names_of_any_bytes_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(_jpeg())
    with DecodePool(PINNED, TENSOR, processes=1) as pool:
        (image,) = pool.run([Job(0, tmp_path / name)])
    assert isinstance(image, Arrived)


# ---- files that kill -----------------------------------------------------------------------------------------------


def test_a_file_that_takes_too_long_costs_itself_alone() -> None:
    slow = _blank_png(9_900, 9_984)
    with DecodePool(PINNED, TENSOR, processes=1, limits=Limits(max_seconds=0.15)) as pool:
        before, late, after = pool.run([Job(0, data=_jpeg()), Job(1, data=slow), Job(2, data=_jpeg(1))])
    assert isinstance(before, Arrived)
    assert isinstance(late, Refused)
    assert (late.reason, late.reason.retryable) == (Reason.DECODE_TIMEOUT, True)
    assert isinstance(after, Arrived)


def test_a_file_that_takes_too_much_memory_costs_itself_alone() -> None:
    swelling = _blank_png(6_000, 6_016)
    with DecodePool(PINNED, TENSOR, processes=1, limits=Limits(max_memory=100 * 1024**2)) as pool:
        before, bad, after = pool.run([Job(0, data=_jpeg()), Job(1, data=swelling), Job(2, data=_jpeg(1))])
    assert isinstance(before, Arrived)
    assert isinstance(bad, Refused)
    assert bad.reason is Reason.OUT_OF_MEMORY
    assert bad.content_id == hashlib.sha256(swelling).hexdigest()
    assert isinstance(after, Arrived)


def test_a_file_that_finds_no_memory_left_is_decoded_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # As those before it may have left it; a process that found none once would refuse all that follow.
    with DecodePool(PINNED, TENSOR, processes=1) as pool:
        (before,) = pool.run([Job(0, data=_jpeg())])
        (starved,) = _workers()
        starved.rlimit(psutil.RLIMIT_AS, (starved.memory_info().vms,) * 2)
        answers = _answers(monkeypatch)
        (image,) = pool.run([Job(1, data=_jpeg(1, 640, 480))])
        assert starved not in _workers()
    assert isinstance(before, Arrived)
    assert isinstance(image, Arrived)
    assert answers == ["out_of_memory", None]


def test_a_file_that_is_too_large_for_a_new_process_is_not_tried_in_another(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = _answers(monkeypatch)
    with DecodePool(PINNED, TENSOR, processes=1, limits=Limits(max_memory=100 * 1024**2)) as pool:
        swelling = [Job(number, data=_blank_png(6_000, 6_016)) for number in range(2)]
        assert [one.reason for one in pool.run(swelling) if isinstance(one, Refused)] == [Reason.OUT_OF_MEMORY] * 2
    assert answers == ["out_of_memory"] * 3, "one, then one in an old process and in a new one"


def _answers(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The reasons that decoding processes answer with from now on; None: an image."""
    answers: list[str | None] = []
    ask = WorkerProcess.ask

    def listening(worker: WorkerProcess, *question: Any) -> Answer:
        answer = ask(worker, *question)
        answers.append(answer.line.get("reason"))
        return answer

    monkeypatch.setattr(WorkerProcess, "ask", listening)
    return answers


def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded() -> None:
    with DecodePool(PINNED, TENSOR, processes=1, limits=Limits(max_seconds=2)) as pool:
        (bad,) = pool.run([Job(0, data=_blank_png(20_000, 20_032))])
    assert isinstance(bad, Refused)
    assert bad.reason is Reason.TOO_MANY_PIXELS


SLOW = _blank_png(9_900, 9_984)
LONG = PINNED.with_knobs(reencoded=95)  # seconds, so that a test can find a worker at it
ROOMY = Limits(max_memory=6 * 1024**3, max_seconds=120)


def _busy(but: set[int]) -> psutil.Process:
    """A worker that has been decoding for a while."""

    def found() -> list[psutil.Process]:
        return [
            process
            for process in _workers()
            if process.pid not in but and process.status() == psutil.STATUS_RUNNING
            and process.memory_info().rss > 150 * 1024**2
        ]  # fmt: skip

    _until(found)
    return found()[0]


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT], ids=lambda how: how.name)
def test_a_file_whose_process_dies_twice_is_refused_and_the_next_one_arrives(how: signal.Signals) -> None:
    killed: set[int] = set()

    def kill_twice() -> None:
        for _ in range(2):
            process = _busy(killed)
            killed.add(process.pid)
            process.send_signal(how)

    killer = threading.Thread(target=kill_twice)
    with DecodePool(LONG, TENSOR, processes=1, limits=ROOMY) as pool:
        outcomes = pool.run([Job(0, data=_jpeg()), Job(1, data=SLOW), Job(2, data=_jpeg(2))])
        assert isinstance(next(outcomes), Arrived)
        killer.start()
        bad, after = outcomes
        killer.join()
    assert isinstance(bad, Refused)
    assert bad.reason is Reason.DECODER_CRASHED
    assert how.name in bad.detail
    assert isinstance(after, Arrived)
    assert len(killed) == 2


def test_a_process_that_is_killed_from_outside_costs_no_file() -> None:
    with DecodePool(LONG, TENSOR, processes=1, limits=ROOMY) as pool:
        outcomes = pool.run([Job(0, data=SLOW), Job(1, data=_jpeg())])
        killer = threading.Thread(target=lambda: _busy(set()).kill())
        killer.start()
        assert [type(outcome) for outcome in outcomes] == [Arrived, Arrived]
        killer.join()


def test_a_worker_killed_between_two_files_is_replaced() -> None:
    with DecodePool(PINNED, TENSOR, processes=1) as pool:
        for number in range(3):
            (image,) = pool.run([Job(number, data=_jpeg(number))])
            assert isinstance(image, Arrived)
            (worker,) = _workers()
            worker.kill()
            _until(lambda worker=worker: worker.status() == psutil.STATUS_ZOMBIE)


# ---- the pool ------------------------------------------------------------------------------------------------------


def test_ten_thousand_jobs_are_taken_as_they_are_needed() -> None:
    taken = 0

    def jobs() -> Iterator[Job]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield Job(number, data=_jpeg(number % 3))

    with DecodePool(PINNED, TENSOR, processes=2) as pool:
        outcomes = pool.run(jobs())
        assert taken == 0  # nothing is done before the first is asked for
        for number in range(200):
            assert next(outcomes).key == number
            assert taken <= number + 33
        outcomes.close()  # type: ignore[attr-defined]


def test_large_tensors_are_decoded_less_far_ahead() -> None:
    taken = []
    jobs = (taken.append(number) or Job(number, data=_jpeg()) for number in range(50))  # type: ignore[func-returns-value]
    large = PINNED.with_knobs(width=2000, height=1000)
    with DecodePool(large, TENSOR, processes=2) as pool:
        next(pool.run(jobs))
    assert len(taken) <= 5


def test_jobs_are_taken_by_the_callers_own_thread() -> None:
    def jobs() -> Iterator[Job]:
        for number in range(20):
            assert threading.current_thread() is threading.main_thread()
            yield Job(number, data=_jpeg())

    with DecodePool(PINNED, TENSOR, processes=2) as pool:
        assert len(list(pool.run(jobs()))) == 20


def test_a_slow_consumer_does_not_make_its_files_late() -> None:
    with DecodePool(PINNED, TENSOR, processes=1, limits=Limits(max_seconds=0.5)) as pool:
        outcomes = pool.run(Job(number, data=_jpeg(number)) for number in range(6))
        seen = [next(outcomes)]
        time.sleep(1.0)
        seen += outcomes
    assert [type(outcome) for outcome in seen] == [Arrived] * 6


def test_no_worker_starts_before_the_first_job_and_few_jobs_start_few() -> None:
    with DecodePool(PINNED, TENSOR, processes=4) as pool:
        assert _workers() == []
        for number in range(5):
            list(pool.run([Job(number, data=_jpeg())]))
        assert len(_workers()) == 1
        assert list(pool.run([])) == []


def test_a_pool_runs_again_after_a_run_that_was_given_up() -> None:
    with DecodePool(PINNED, TENSOR, processes=2) as pool:
        first = pool.run(Job(number, data=_jpeg(number)) for number in range(100))
        next(first)
        first.close()  # type: ignore[attr-defined]
        assert [outcome.key for outcome in pool.run(Job(n, data=_jpeg(n)) for n in range(10))] == list(range(10))


@pytest.mark.parametrize("count", [1, 31, 32, 33, 200])
def test_batches_hold_the_tensors_of_prepare_whatever_is_refused_among_them(count: int) -> None:
    bad = {number for number in range(count) if number % 7 == 3 or 40 <= number < 75}
    jobs = (Job(number, data=b"no image" if number in bad else _jpeg(number)) for number in range(count))
    arrived, refused = [], []
    with DecodePool(PINNED, TENSOR, processes=2) as pool:
        for batch in pool.batches(jobs):
            assert len(batch.arrived) == len(batch.tensors)
            for image, tensor in zip(batch.arrived, batch.tensors, strict=True):
                assert tensor.tobytes() == prepare(_jpeg(int(image.key)), PINNED).tensor.tobytes()
            arrived += [image.key for image in batch.arrived]
            refused += [one.key for one in batch.refused]
    assert (arrived, refused) == ([number for number in range(count) if number not in bad], sorted(bad))


def test_a_batch_of_a_run_that_was_given_up_does_not_come_into_the_next_run() -> None:
    with DecodePool(PINNED, TENSOR, processes=2) as pool:
        for _ in range(5):
            first = pool.batches(Job(number, data=_jpeg(number + 50)) for number in range(100))
            next(first)
            first.close()  # type: ignore[attr-defined]
            for batch in pool.batches(Job(number, data=_jpeg(number)) for number in range(40)):
                for image, tensor in zip(batch.arrived, batch.tensors, strict=True):
                    assert tensor.tobytes() == prepare(_jpeg(int(image.key)), PINNED).tensor.tobytes()


def test_batches_are_of_tensors() -> None:
    with DecodePool(PINNED, Wanted(tensor=False), processes=1) as pool, pytest.raises(WrongUse, match="tensors"):
        next(pool.batches([Job(0, data=_jpeg())]))


class _Thrown(Exception):
    pass


# ---- the pool that is lent -----------------------------------------------------------------------------------------


def test_the_pool_of_a_process_is_lent_to_one_at_a_time_and_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.lent_pool.LINGER_SECONDS", 0.5)
    pools, has, most = set(), 0, 0
    threads_before = threading.active_count()

    def look(start: int) -> list[object]:
        nonlocal has, most
        with lent_pool(PINNED, TENSOR, 2) as pool:
            has += 1
            most = max(most, has)
            pools.add(pool)
            keys = [one.key for one in pool.run(Job(start + n, data=_jpeg(n)) for n in range(20))]
            has -= 1
            return keys

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(look, range(0, 60, 20)))
    assert found == [list(range(start, start + 20)) for start in range(0, 60, 20)]
    assert (len(pools), most) == (1, 1)
    _until(lambda: not _workers() and threading.active_count() <= threads_before)  # it ends by itself


def test_a_pool_that_was_lent_to_one_who_failed_is_not_lent_again() -> None:
    with pytest.raises(_Thrown), lent_pool(PINNED, TENSOR, 1) as first:  # noqa: PT012
        list(first.run([Job(0, data=_jpeg())]))
        raise _Thrown
    assert _workers() == []


@pytest.mark.parametrize("where", ["consumer", "jobs"])
def test_an_exception_anywhere_leaves_no_process(where: str) -> None:
    def jobs() -> Iterator[Job]:
        for number in range(50):
            if where == "jobs" and number == 40:
                raise _Thrown
            yield Job(number, data=SLOW if number == 20 else _jpeg(number))

    with pytest.raises(_Thrown), DecodePool(PINNED, TENSOR, processes=2) as pool:  # noqa: PT012
        for outcome in pool.run(jobs()):
            if where == "consumer" and outcome.key == 3:
                raise _Thrown


def test_closing_does_not_wait_for_a_slow_file() -> None:
    started = time.monotonic()
    with DecodePool(LONG, TENSOR, processes=1, limits=ROOMY) as pool:
        outcomes = pool.run(Job(n, data=_jpeg() if n == 0 else SLOW) for n in range(4))
        next(outcomes)
        _busy(set())
        del outcomes
    assert time.monotonic() - started < 10
    pool.close()  # again
    with pytest.raises(WrongUse, match="closed"):
        next(pool.run([Job(0, data=_jpeg())]))


def test_workers_that_cannot_start_are_an_error_that_says_what_they_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Failed, match="did not start"), DecodePool(PINNED, TENSOR, processes=1) as pool:
        list(pool.run([Job(0, data=_jpeg())]))


@pytest.mark.parametrize("job", [{}, {"path": Path("x"), "data": b"x"}], ids=["neither", "both"])
def test_a_job_is_a_path_or_bytes(job: dict[str, object]) -> None:
    with pytest.raises(WrongUse):
        Job(0, **job)  # type: ignore[arg-type]


def test_a_pool_of_no_processes_is_refused() -> None:
    with pytest.raises(WrongUse):
        DecodePool(PINNED, processes=0)


# ---- from a user's script ------------------------------------------------------------------------------------------

SCRIPT = """
    import signal, sys, time
    from pathlib import Path
    from tasks.presets import preset
    from tasks.workers import DecodePool, Job, Wanted
    # Where the tests were started in the background Ctrl-C is ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("the script runs", flush=True)
    pool = DecodePool(preset("load_img", size=(48, 64)), Wanted(properties=False), processes=2)
    data = Path(sys.argv[1]).read_bytes()
    print(sum(1 for _ in pool.run(Job(n, data=data) for n in range(9))), flush=True)
    if sys.argv[2:]:
        time.sleep(60)
    pool.close()
"""


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    """An unguarded script in a folder with a module that must not be taken for numpy."""
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "photo.jpg").write_bytes(_jpeg())
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    return [sys.executable, "-P", str(tmp_path / "script.py"), str(tmp_path / "photo.jpg")]


def _ours() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def test_an_unguarded_script_runs_once(script: list[str], tmp_path: Path) -> None:
    done = subprocess.run(script, capture_output=True, text=True, env=_ours(), cwd=tmp_path, check=False)
    assert done.stdout.split("\n") == ["the script runs", "9", ""], done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_workers_end_with_a_process_that_is_killed(script: list[str], tmp_path: Path, how: signal.Signals) -> None:
    process = subprocess.Popen(
        [*script, "stay"], env=_ours(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"the script runs\n", b"9\n"]
        workers = _workers()
        assert len(workers) == 2
        process.send_signal(how)
        process.wait(20)
    _until(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers))


def test_ctrl_c_at_the_terminal_reaches_the_caller_alone() -> None:
    with DecodePool(PINNED, TENSOR, processes=1) as pool:
        list(pool.run([Job(0, data=_jpeg())]))
        (worker,) = _workers()
        assert os.getpgid(worker.pid) != os.getpgid(0)


def test_limits_are_stated_and_can_be_changed_one_by_one() -> None:
    assert Limits() == Limits(max_pixels=100_000_000, max_bytes=200_000_000, max_seconds=20.0, max_memory=2 * 1024**3)
    assert replace(Limits(), max_seconds=1).max_pixels == Limits().max_pixels
