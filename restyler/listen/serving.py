"""One test under one uvicorn process."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import uvicorn

from restyler.listen import storage
from restyler.listen.flow import Flow
from restyler.listen.plan import read_plan
from restyler.listen.server import application
from restyler.listen.sounds import check_sounds
from restyler.listen.writer import Writer
from restyler.web_server import address_of, allow_files, alone, configured, listening

LOCK = "server.lock"


def serve(folder: Path, *, host: str, port: int, webmushra: bool, ready: Callable[[str], None]) -> None:
    """Serves until a signal ends it. webmushra: also takes its posts, which have no token. ready: told the address
    once connections are taken.

    Raises InputError for a folder that is no test or that another server runs, sounds that are missing or unequal, or
    an address not to be had.
    """
    plan = read_plan(folder)
    check_sounds(folder, plan)
    with (
        alone(folder, LOCK, "runs this test"),
        contextlib.closing(storage.connect(folder, plan)) as connection,
        listening(host, port) as connections,
    ):
        allow_files()
        flow = Flow(plan, storage.secret(connection, secrets.token_hex(32)), time.time)
        writer = Writer(connection)
        try:
            server = uvicorn.Server(configured(application(folder, plan, flow, writer, webmushra=webmushra)))
            ready(address_of(host, connections))
            server.run(sockets=[connections])
        finally:
            writer.close()
