"""One test under one uvicorn process."""

from __future__ import annotations

import contextlib
import fcntl
import resource
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from audio.errors import InputError
from restyler.listen import storage
from restyler.listen.connections import PromptProtocol
from restyler.listen.flow import Flow
from restyler.listen.plan import read_plan
from restyler.listen.server import application
from restyler.listen.sounds import check_sounds
from restyler.listen.writer import Writer

LOCK = "server.lock"
WAITING = 1024  # connections that may wait to be accepted
FILES = 8192  # open at once: browsers keep several connections each
IDLE_S = 75  # before an unused connection is closed: longer than a listener thinks between two ratings
FAREWELL_S = 3  # for requests under way when the server is told to end


def serve(folder: Path, *, host: str, port: int, webmushra: bool, ready: Callable[[str], None]) -> None:
    """Serves until a signal ends it. webmushra: also takes its posts, which have no token. ready: told the address
    once connections are taken.

    Raises InputError for a folder that is no test or that another server runs, sounds that are missing or unequal, or
    an address not to be had.
    """
    plan = read_plan(folder)
    check_sounds(folder, plan)
    with (
        _alone(folder),
        contextlib.closing(storage.connect(folder, plan)) as connection,
        _listening(host, port) as listening,
    ):
        _allow_files()
        flow = Flow(plan, storage.secret(connection, secrets.token_hex(32)), time.time)
        writer = Writer(connection)
        try:
            server = uvicorn.Server(
                uvicorn.Config(
                    application(folder, plan, flow, writer, webmushra=webmushra),
                    http=PromptProtocol,
                    log_level="warning",
                    access_log=False,  # addresses hold tokens
                    server_header=False,
                    timeout_keep_alive=IDLE_S,
                    timeout_graceful_shutdown=FAREWELL_S,
                )
            )
            shown = f"[{host}]" if ":" in host else host
            ready(f"http://{shown}:{listening.getsockname()[1]}")
            server.run(sockets=[listening])
        finally:
            writer.close()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds TEST/server.lock, which the system frees whatever ends the process. InputError where another has it."""
    try:
        handle = (folder / LOCK).open("a")
    except OSError as error:
        raise InputError(f"{folder / LOCK}: cannot be opened: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder}: another server runs this test; one at a time is allowed") from error
        yield


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that takes connections. Raises InputError where the address can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(WAITING)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: cannot be listened at: {error.strerror}") from error
    with listening:
        yield listening


def _allow_files() -> None:
    """Lifts the soft limit of open files as far as the hard one goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
