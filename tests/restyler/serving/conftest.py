"""The service as a process of its own, as `restyler serve` starts it, with the small model."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import soundfile
import uvicorn

from audio.waveform import Waveform
from restyler.serving import Limits, LocalExecutor, Service, app
from restyler.serving.keys import add as add_key
from restyler.serving.keys import fresh_key
from restyler.serving.storage import Storage
from restyler.web_server import address_of, listening

COMMAND = [sys.executable, "-c", "import sys; from restyler.cli import main; sys.exit(main())"]
START_S = 400.0  # importing takes seconds on an idle machine, minutes on one that many share
GENEROUS = ("--limit-requests-a-minute=1000000", "--limit-in-flight=1000", "--limit-queue=1000")


@dataclass
class RealService:
    """key: of the local page."""

    process: subprocess.Popen[str]
    url: str
    key: str
    data: Path
    log: Path

    @functools.cached_property
    def keys(self) -> list[str]:
        """Of two other owners, made as `restyler keys` makes them, beside the running service."""
        with contextlib.closing(Storage(self.data, time.time)) as storage:
            return [add_key(storage, name) for name in ("ada", "bob")]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 80)

    def rss_bytes(self) -> int:
        """What the process holds in memory, without its workers."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

    def workers(self) -> list[int]:
        """Process ids of what it started, and of what that started."""
        parents = dict[int, int]()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(") ")[2].split()[1])
        found = [self.pid]
        for pid in found:  # which grows meanwhile
            found += [child for child, parent in parents.items() if parent == pid]
        return found[1:]

    def raw(self, request: bytes, *, timeout_s: float = 20.0) -> bytes:
        """What comes back for these bytes until the other side closes or says nothing more."""
        with socket.create_connection(self.address, timeout=timeout_s) as connection:
            with contextlib.suppress(OSError):  # it may close before it has read all
                connection.sendall(request)
            received = b""
            with contextlib.suppress(OSError):
                while piece := connection.recv(65536):
                    received += piece
        return received


@pytest.fixture(scope="session")
def start_service(model: Path) -> Callable[..., contextlib.AbstractContextManager[RealService]]:
    """start_service(data, *options): a context manager with the service, ended at its end if it still lives."""

    @contextlib.contextmanager
    def start(data: Path, *options: str) -> Iterator[RealService]:
        log = data.with_name(f"{data.name} {time.monotonic_ns()}.log")
        arguments = ["serve", "--model", str(model), "--data", str(data), "--device=cpu", "--port=0", "--grace=0"]
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*COMMAND, *arguments, *options],
                stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        try:
            assert process.stdout is not None
            link = process.stdout.readline().strip()
            assert "/#key=" in link, log.read_text()
            url, _, key = link.partition("/#key=")
            yield RealService(process, url, key, data, log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait(30)

    return start


@pytest.fixture(scope="session")
def real_service(
    start_service: Callable[..., contextlib.AbstractContextManager[RealService]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RealService]:
    """One for all tests that don't end or fill it, ready for jobs, with limits that tests don't reach by accident."""
    data = tmp_path_factory.mktemp("service") / "data"
    with start_service(data, *GENEROUS) as service:
        deadline = time.monotonic() + START_S
        # Without HTTPS no certificates are wanted: reading them takes 50 ms of a processor, for every client.
        while httpx.get(f"{service.url}/readyz", verify=False).status_code != 200:
            assert time.monotonic() < deadline, service.log.read_text()
            time.sleep(0.1)
        yield service
        assert service.process.poll() is None, f"the service has ended: {service.log.read_text()}"


@dataclass
class LiveService:
    """The service in this process, behind a real socket, with real workers."""

    service: Service
    url: str
    keys: dict[str, str]

    def client(self, owner: str = "local") -> httpx.Client:
        """With the key of an owner, made where there is none."""
        if owner not in self.keys:
            self.keys[owner] = add_key(self.service.storage, owner)
        bearer = {"Authorization": f"Bearer {self.keys[owner]}"}
        return httpx.Client(base_url=self.url, headers=bearer, timeout=60, verify=False)


@pytest.fixture(scope="session")
def serve_live(model: Path) -> Callable[..., contextlib.AbstractContextManager[LiveService]]:
    """serve_live(data, limits=Limits(), works=True): a context manager; without workers, jobs wait."""

    @contextlib.contextmanager
    def serve(data: Path, limits: Limits | None = None, *, works: bool = True) -> Iterator[LiveService]:
        executor = LocalExecutor(model, "cpu")
        limits = limits or Limits(requests_a_minute=100_000)  # tests ask often whether something has ended
        service = Service(data, executor, model=model, limits=limits, machine=("--device=cpu",))
        with contextlib.ExitStack() as stack:
            if works:
                stack.enter_context(service.running())
            connections = stack.enter_context(listening("127.0.0.1", 0))
            key = fresh_key()
            config = uvicorn.Config(app(service, local_key=key), log_level="warning", access_log=False)
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [connections]})
            thread.start()
            try:
                yield LiveService(service, address_of("127.0.0.1", connections), {"local": key})
            finally:
                service.drain()
                server.should_exit = True
                thread.join()
                if not works:
                    service.stop()

    return serve


@pytest.fixture(scope="module")
def live(
    serve_live: Callable[..., contextlib.AbstractContextManager[LiveService]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveService]:
    """With workers."""
    with serve_live(tmp_path_factory.mktemp("live") / "data") as service:
        yield service


@pytest.fixture
def queueing(
    serve_live: Callable[..., contextlib.AbstractContextManager[LiveService]], tmp_path: Path
) -> Iterator[LiveService]:
    """Without workers: jobs wait."""
    with serve_live(tmp_path / "data", works=False) as service:
        yield service


@pytest.fixture(scope="session")
def take_bytes(vocal: Callable[..., Waveform]) -> bytes:
    """A mono WAV of 1 s."""
    file = io.BytesIO()
    soundfile.write(file, vocal(1.0, 48_000).samples.numpy().T, 48_000, format="WAV", subtype="PCM_24")
    return file.getvalue()
