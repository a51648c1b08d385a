"""What servers of this project share: one for a folder, an address, open files, a good end."""

from __future__ import annotations

import contextlib
import fcntl
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio.errors import InputError
from restyler.command import shown

if TYPE_CHECKING:
    import uvicorn

WAITING = 1024  # connections that may wait to be accepted
IDLE_S = 75  # before an unused connection is closed: longer than a listener thinks between two ratings
FAREWELL_S = 3  # for requests under way when the server is told to end
FILES = 8192  # open at once: browsers keep several connections each


@contextlib.contextmanager
def alone(folder: Path, lock: str, does: str) -> Iterator[None]:
    """Holds FOLDER/lock, which the system frees whatever ends the process. InputError where another has it, which
    says what it does there."""
    try:
        handle = (folder / lock).open("a")
    except OSError as error:
        raise InputError(f"{shown(folder / lock)}: cannot be opened: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{shown(folder)}: another server {does}; one at a time is allowed") from error
        yield


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that takes connections. Raises InputError where the address can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(WAITING)
        except BaseException:
            found.close()
            raise
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: cannot be listened at: {error.strerror}") from error
    with found:
        yield found


def address_of(host: str, socket_: socket.socket) -> str:
    """http://HOST:PORT, with the port that was had."""
    return f"http://{f'[{host}]' if ':' in host else host}:{socket_.getsockname()[1]}"


def configured(application: Any) -> uvicorn.Config:
    """How uvicorn serves an application of this project: without a log of addresses, and slow callers end."""
    import uvicorn

    from restyler.listen.connections import PromptProtocol

    return uvicorn.Config(
        application,
        http=PromptProtocol,
        log_level="warning",
        access_log=False,  # addresses hold tokens and ids
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=FAREWELL_S,
    )


def allow_files() -> None:
    """Lifts the soft limit of open files as far as the hard one goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the server in good order, with exit code 0."""

    def leave(_number: int, _frame: Any) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
