"""Where runs report: the server that the user named, or one of our own that comes and goes with the run."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus

from darkroom.errors import DarkroomError, OrchestratorError
from darkroom.orchestrator.server import Server

# Marks the address of a server of our own, for this process and for those that it starts.
_PRIVATE = "DARKROOM_PRIVATE_API"

_lock = threading.RLock()
_address: str | None = None


@contextlib.contextmanager
def api() -> Iterator[str]:
    """Everything inside runs its flows against a Prefect API; yields its address.

    With PREFECT_API_URL, in the environment or in the active profile, that server is used. Otherwise a quiet server of
    our own starts; it needs some seconds, and calls wait for it, so import what is slow inside. It dies with this
    process, however that ends. Prefect's log lines stay out of the terminal unless PREFECT_LOGGING_LEVEL is set: what
    fails reaches the caller as an exception.

    Raises: OrchestratorError, if the server does not answer.
    """
    global _address
    with _lock:
        outer = _address
    if outer is not None:
        yield outer
        return
    with contextlib.ExitStack() as stack:
        address, server = _connect(stack)
        stack.enter_context(_quiet())
        with _lock:
            _address = address
        try:
            yield address
        except DarkroomError:
            raise
        except Exception as error:
            gone = _gone(address, server, error)
            if gone is None:
                raise
            raise gone from error
        finally:
            with _lock:
                _address = None
            send_what_waits()


def _connect(stack: contextlib.ExitStack) -> tuple[str, Server | None]:
    from prefect.settings import PREFECT_API_URL

    named = PREFECT_API_URL.value()
    if named:
        check_answer(str(named))
        return str(named), None
    server = stack.enter_context(Server.private())
    address = f"http://127.0.0.1:{server.port}/api"
    # The first call may have to wait until the server is up.
    stack.enter_context(reporting_to(address, PREFECT_API_REQUEST_TIMEOUT="180", **{_PRIVATE: address}))
    return address, server


def reports_to_a_private_server() -> bool:
    """Whether runs report to a server of our own, which nobody looks at and which ends with them."""
    address = os.environ.get("PREFECT_API_URL")
    return address is not None and address == os.environ.get(_PRIVATE)


@contextlib.contextmanager
def reporting_to(address: str, **settings: str) -> Iterator[None]:
    """Make `address` the API of this process, its threads and the processes that it starts."""
    from prefect.context import refresh_global_settings_context

    around = [host for host in (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1") if host]
    changes = {"PREFECT_API_URL": address, "NO_PROXY": ",".join(around), "no_proxy": ",".join(around), **settings}
    try:
        with environment_of(changes):
            refresh_global_settings_context()
            yield
    finally:
        refresh_global_settings_context()


@contextlib.contextmanager
def environment_of(changes: Mapping[str, str]) -> Iterator[None]:
    """Variables of this process, and of those that are started inside; afterwards as they were before."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def check_answer(address: str) -> None:
    """Raises OrchestratorError where the Prefect server at `address`, that of the settings, does not serve us."""
    problem = _problem_with_api()
    if _wants_a_password(problem):
        raise OrchestratorError(
            f"The Prefect server at {address} wants a password, or another one.",
            found=problem,
            todo="PREFECT_API_AUTH_STRING=user:password, as the server was started with",
        )
    if problem is not None:
        raise OrchestratorError(
            f"The Prefect server at {address} does not answer.",
            found=problem,
            todo="start it, or unset PREFECT_API_URL (in the environment and in the Prefect profile): "
            "then darkroom starts a server of its own for the run",
        )


def _problem_with_api() -> Exception | None:
    from prefect.client.orchestration import get_client

    try:
        with get_client(httpx_settings={"timeout": 30}, sync_client=True) as client:
            problem = client.api_healthcheck()
            if problem is None:
                client.api_version()  # health is told to everybody
            return problem
    except Exception as error:
        return error


def _wants_a_password(problem: Exception | None) -> bool:
    answer = getattr(problem, "response", None)
    return getattr(answer, "status_code", None) == HTTPStatus.UNAUTHORIZED


def _gone(address: str, server: Server | None, error: Exception) -> OrchestratorError | None:
    """The reason behind an error that the run ended with, if the server is no longer there."""
    if server is not None and not server.alive:
        return OrchestratorError("The Prefect server that darkroom started has died.", found=server.last_words())
    if server is None and type(error).__module__.partition(".")[0] in ("httpx", "httpcore", "prefect"):
        problem = _problem_with_api()
        if problem is not None:
            return OrchestratorError(f"The Prefect server at {address} no longer answers.", found=problem)
    return None


def send_what_waits() -> None:
    """Log lines and events are sent in the background: without this they would meet a server that has gone.

    For the end of a process or of its server. Prefect never forgets what it has ended here, some megabytes each time.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    def send() -> None:
        for worker in (APILogWorker, EventsWorker):
            worker.drain_all(timeout=10)

    # In a thread without an event loop: called from one, Prefect would hand back something to await.
    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    sending.join(timeout=20)


def until_events_are_sent(seconds: float = 20.0) -> None:
    """Return when the events of this process are on their way to the server, or when it does not answer.

    What sends them goes on, and sends again what a connection that broke had not confirmed.
    """
    from prefect.events.worker import EventsWorker

    sender = EventsWorker.instance()
    end = time.monotonic() + seconds
    # Prefect's own wait has no end where the connection never came up.
    while sender._queue.unfinished_tasks and not sender._stopped and time.monotonic() < end:
        time.sleep(0.02)


def console_is_quiet() -> bool:
    """Whether Prefect's lines are kept out of the terminal: the processes of a run should keep theirs out, too."""
    with _lock:
        return _address is not None and not _lines_are_wanted()


def _lines_are_wanted() -> bool:
    from prefect.settings import get_current_settings

    stated = get_current_settings().to_environment_variables(exclude_unset=True)
    return "PREFECT_LOGGING_LEVEL" in stated or "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL" in os.environ


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Prefect's own lines and tracebacks out of the terminal: the caller gets the exception itself."""
    if _lines_are_wanted():
        yield
        return
    import prefect.main  # noqa: F401  sets the handlers up
    from prefect.logging.handlers import PrefectConsoleHandler

    loggers = [logging.getLogger(name) for name in (None, "prefect", "prefect._internal")]
    handlers = [handler for logger in loggers for handler in logger.handlers]
    ours = [h for h in handlers if isinstance(h, PrefectConsoleHandler) or type(h).__module__.startswith("prefect.")]
    before = [(handler, handler.level) for handler in ours]
    for handler in ours:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in before:
            handler.setLevel(level)
