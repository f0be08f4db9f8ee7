"""The inside of a decoding process: instructions once, then a file, an answer, a file, an answer, and so on.

Run by tasks.workers as `python -P -m tasks.worker_main <socket> [<memory>]`; the protocol is written there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import WrongUse
from darkroom.reasons import Reason
from darkroom.roots import check_inside
from tasks.decode import Limits, thumbnail, upright
from tasks.knobs import Preprocessing
from tasks.preprocessing import Prepared, array_digest, prepare
from tasks.refusal import ImageRefused
from tasks.shared_tensors import opened

_READ_REASONS: Final = {
    errno.ENOENT: Reason.VANISHED,
    errno.ENOTDIR: Reason.VANISHED,
    errno.ESTALE: Reason.VANISHED,
    errno.EACCES: Reason.PERMISSION_DENIED,
    errno.EPERM: Reason.PERMISSION_DENIED,
    errno.EISDIR: Reason.NOT_A_REGULAR_FILE,
    errno.ENXIO: Reason.NOT_A_REGULAR_FILE,  # a socket
}
# How much later than its parent's limit a worker ends itself: only when the parent is gone.
_GRACE_SECONDS: Final = 5.0


@dataclass
class _Answer:
    """The line of JSON, and what follows it."""

    line: dict[str, Any]
    resized: NDArray[Any] | None = None
    thumbnail: bytes | None = None


def main(descriptor: int, memory: int | None = None) -> None:
    """Serve until the socket ends: closed by the pool, or by the end of the pool's process, however it ended."""
    connection = Connection(descriptor)
    try:
        instructions = json.loads(connection.recv_bytes())
        answer = _prepared(instructions, memory)
        limits = Limits(**instructions["limits"])
        connection.send_bytes(b"ready")
        _hush()
        while True:
            question = json.loads(connection.recv_bytes())
            data = connection.recv_bytes() if question["path"] is None else None
            # The parent kills a worker that is late. If the parent is gone the alarm does: its default action ends the
            # process even inside a decoder that never returns to Python.
            signal.setitimer(signal.ITIMER_REAL, limits.max_seconds + _GRACE_SECONDS)
            result = answer(question, data)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _send(connection, result)
    except (EOFError, ConnectionError):
        return


def read_file(path: str, max_bytes: int) -> bytes:
    """The bytes of a regular file. ImageRefused: cannot be read, is no regular file, is too large, leads elsewhere."""
    try:
        check_inside(path)  # a folder inside of the roots may hold links that lead out
        # Without O_NONBLOCK a pipe that nobody writes to would hold the worker until it is killed.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ImageRefused(Reason.NOT_A_REGULAR_FILE)
            if found.st_size > max_bytes:
                raise ImageRefused(Reason.TOO_LARGE_FILE, f"{found.st_size:,} bytes, the limit is {max_bytes:,}")
            return file.read(max_bytes + 1)
    except WrongUse as problem:
        raise ImageRefused(Reason.LINK_OUT_OF_FOLDER, problem.found or problem.what) from problem
    except OSError as problem:
        reason = _READ_REASONS.get(problem.errno or 0, Reason.READ_ERROR)
        raise ImageRefused(reason, os.strerror(problem.errno) if problem.errno else str(problem)) from problem
    except ValueError as problem:  # a path with a zero byte
        raise ImageRefused(Reason.READ_ERROR, str(problem)) from problem


def _prepared(instructions: dict[str, Any], memory: int | None) -> Callable[[dict[str, Any], bytes | None], _Answer]:
    """Everything imported and limited before the first stranger's byte is read."""
    preprocessing = Preprocessing.model_validate(instructions["preprocessing"])
    wanted = instructions["wanted"]
    limits = Limits(**instructions["limits"])
    tensors = None if memory is None else opened(memory, (instructions["places"], *preprocessing.input_shape))
    measure: Callable[..., dict[str, Any]] | None = None
    if wanted["properties"]:
        from tasks import properties

        measure = properties.measure
    if preprocessing.needs_tensorflow:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.constant(0).numpy()  # its arenas are taken before memory is limited
    if preprocessing.needs_opencv:
        from tasks.opencv import opencv

        opencv()
    _limit_memory(limits.max_memory)

    def answer(question: dict[str, Any], data: bytes | None) -> _Answer:
        content_id: str | None = None
        try:
            if data is None:
                data = read_file(question["path"], limits.max_bytes)
            content_id = hashlib.sha256(data).hexdigest()
            if question["content_id"] not in (None, content_id):
                raise ImageRefused(Reason.CHANGED_WHILE_READING, f"its sha256 was {question['content_id']}")
            place = None if tensors is None else tensors[question["place"]]
            image = prepare(data, preprocessing, limits, place)
            return _answer(image, content_id, preprocessing, wanted, measure)
        except ImageRefused as refused:
            return _refusal(refused.reason, refused.detail, content_id)
        except MemoryError:
            return _refusal(Reason.OUT_OF_MEMORY, f"more than {limits.max_memory / 1024**2:,.0f} MiB", content_id)
        except Exception as problem:  # of ours, for one file: it must not stop the good ones
            detail = f"darkroom failed on it: {type(problem).__name__}: {problem}"[:300]
            return _refusal(Reason.DECODER_CRASHED, detail, content_id)

    return answer


def _answer(
    image: Prepared,
    content_id: str,
    preprocessing: Preprocessing,
    wanted: dict[str, Any],
    measure: Callable[..., dict[str, Any]] | None,
) -> _Answer:
    digests = wanted["digests"]
    small = None
    if wanted["thumbnail"]:
        turned = preprocessing.decode.exif_orientation != "ignored"
        small = thumbnail(
            image.pixels if turned else upright(image.pixels, image.header.exif_orientation), wanted["thumbnail"]
        )
    resized = image.resized if wanted["resized"] else None
    line = {
        "content_id": content_id,
        "resized": None if resized is None else [resized.shape, resized.dtype.str],
        "properties": None if measure is None else measure(image.header, image.decoded.raster),
        "pixels_sha256": array_digest(image.pixels) if digests else None,
        "tensor_sha256": array_digest(image.tensor) if digests else None,
        "thumbnail": small is not None,
    }
    return _Answer(line, resized, small)


def _refusal(reason: Reason, detail: str, content_id: str | None) -> _Answer:
    return _Answer({"reason": reason.value, "detail": detail, "content_id": content_id})


def _send(connection: Connection, answer: _Answer) -> None:
    connection.send_bytes(json.dumps(answer.line, default=float).encode())
    if answer.resized is not None:
        connection.send_bytes(np.ascontiguousarray(answer.resized).data.cast("B"))
    if answer.thumbnail is not None:
        connection.send_bytes(answer.thumbnail)


def _limit_memory(headroom: int) -> None:
    """Address space: what is taken now, and `headroom` bytes more. Systems without such a limit have the parent's."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            taken = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = taken + headroom if hard == resource.RLIM_INFINITY else min(taken + headroom, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    except (OSError, ValueError):
        return


def _hush() -> None:
    """The C libraries print what they think of broken files; there is nobody to read it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
