"""A listening test made by hand, and real servers that run it."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from restyler.listen.plan import STIMULI, ListeningTest, Stimulus, Trial, write_plan
from restyler.listen.serve_command import main

RATE_HZ = 48_000
OWNER = "the-owner's-token"


def token_of(listener: int) -> str:
    return f"token-of-listener-{listener}"


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def sawtooth(number: int, duration_s: float) -> np.ndarray:
    """A sound [samples 2] whose every sample tells which one it is and where: 0.05 · number + a ramp from 0 to 0.04."""
    count = round(duration_s * RATE_HZ)
    return np.repeat((0.05 * number + 0.04 * np.arange(count) / count)[:, None], 2, axis=1)


@dataclasses.dataclass(frozen=True)
class MadeTest:
    folder: Path
    plan: ListeningTest


def stimulus(folder: Path, condition: str, number: int, duration_s: float, name: str) -> Stimulus:
    role: Any = condition if condition in ("reference", "anchor35", "anchor70", "raw", "mix") else "system"
    soundfile.write(folder / STIMULI / name, sawtooth(number, duration_s), RATE_HZ, subtype="PCM_24")
    return Stimulus(condition=condition, role=role, file=name, source=f"{condition}.wav", gain_db=0, loudness_lufs=-23)


def make_trial(folder: Path, kind: str, name: str, conditions: list[str], duration_s: float, **more: Any) -> Trial:
    sounds = [
        stimulus(folder, condition, number, duration_s, f"{name}-{number}.wav")
        for number, condition in enumerate(conditions, 1)
    ]
    reference = None
    if kind == "mushra":
        number = conditions.index("reference") + 1
        reference = stimulus(folder, "reference", number, duration_s, f"{name}-open.wav")
    settings = {"item": f"item of {name}", "question": f"What about {kind}?", "start_s": 0.0} | more
    return Trial(id=name, kind=kind, reference=reference, stimuli=tuple(sounds), **settings)  # type: ignore[arg-type]


PAGES: dict[str, tuple[str, list[str]]] = {
    "mushra": ("mushra", ["reference", "ours", "anchor35"]),
    "abx": ("abx", ["ours", "theirs"]),
    "ab": ("ab", ["ours", "theirs"]),
    "rating": ("rating", ["mix", "ours", "raw"]),
    "acr": ("acr", ["ours"]),
    "ccr": ("ccr", ["theirs", "ours"]),
}


@pytest.fixture(scope="session")
def make_test(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., MadeTest]:
    """make_test("mushra", "abx", …, listeners=…, headphone_check=…, training=…, duration_s=…)."""

    def made(
        *kinds: str,
        listeners: int = 3,
        headphone_check: bool = False,
        training: bool = False,
        duration_s: float = 0.6,
        sounds: int | None = None,
    ) -> MadeTest:
        folder = tmp_path_factory.mktemp("listen")
        (folder / STIMULI).mkdir()
        trials = []
        if training:
            kind, conditions = PAGES[kinds[0]]
            trials.append(make_trial(folder, kind, "training", conditions, duration_s, training=True))
        for number, name in enumerate(kinds):
            kind, conditions = PAGES[name]
            if kind in ("mushra", "rating") and sounds:
                conditions = conditions + [f"system {n}" for n in range(sounds - len(conditions))]
            ties = {"ties": True} if kind == "ab" else {}
            trials.append(make_trial(folder, kind, f"{name}-{number}", conditions, duration_s, **ties))
        plan = ListeningTest(
            format=1,
            name="a test",
            seed=5,
            consent="We store what you answer.\n\nYou may stop at any time.",
            instructions="Listen to all sounds.",
            finish="That was all.",
            headphone_check=headphone_check,
            sample_rate_hz=RATE_HZ,
            duration_s=duration_s,
            listeners=listeners,
            owner_token_sha256=digest(OWNER),
            listener_tokens_sha256=tuple(digest(token_of(listener)) for listener in range(listeners)),
            power=(),
            trials=tuple(trials),
        )
        write_plan(folder, plan)
        return MadeTest(folder, plan)

    return made


@dataclasses.dataclass
class Server:
    """A server process; `start` after `kill` is a new one at the same address."""

    made: MadeTest
    port: int
    options: tuple[str, ...] = ()
    process: BaseProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def page(self, listener: int) -> str:
        return f"{self.url}/l/{token_of(listener)}"

    def start(self) -> None:
        context = multiprocessing.get_context("forkserver")  # imports what is slow once, for all servers of a run
        context.set_forkserver_preload(["restyler.listen.serving"])
        arguments = [str(self.made.folder), "--port", str(self.port), *self.options]
        self.process = context.Process(target=main, args=(arguments,), daemon=True)
        self.process.start()
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.is_alive(), "the server has ended"
                time.sleep(0.05)
        raise AssertionError("the server does not take connections")

    def kill(self) -> None:
        """As `kill -9` does."""
        assert self.process
        self.process.kill()
        self.process.join(20)

    def terminate(self) -> int | None:
        assert self.process
        self.process.terminate()
        self.process.join(20)
        return self.process.exitcode


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., Server]]:
    """serve(made_test, options of the command …): a running server; all end with the module."""
    servers: list[Server] = []

    def started(made: MadeTest, *options: str) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        servers.append(Server(made, port, options))
        servers[-1].start()
        return servers[-1]

    yield started
    for server in servers:
        if server.process and server.process.is_alive():
            server.terminate()


@dataclasses.dataclass
class Client:
    """One listener's browser without a page."""

    http: httpx.Client
    base: str
    sequence: int = 0

    def state(self) -> dict[str, Any]:
        answer = self.http.get(f"{self.base}/state")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def post(self, action: str, **body: Any) -> httpx.Response:
        return self.http.post(f"{self.base}/{action}", json=body)

    def rate(self, page: int, field: str, value: Any) -> httpx.Response:
        self.sequence += 1
        return self.post("rating", page=page, field=field, value=value, sequence=self.sequence)

    def begin(self) -> dict[str, Any]:
        """Past consent, level and headphones."""
        assert self.post("consent", agree=True).status_code == 200
        assert self.post("level").status_code == 200
        while (state := self.state())["stage"] == "headphones":
            assert self.post("check", number=state["number"], answer=1).status_code == 200
        return state

    def hear_all(self, state: dict[str, Any]) -> None:
        for sound in state["sounds"]:
            assert self.post("heard", page=state["page"], slot=sound["slot"]).status_code == 200


@pytest.fixture
def client_of() -> Iterator[Callable[[Server, int], Client]]:
    clients: list[httpx.Client] = []

    def made(server: Server, listener: int) -> Client:
        clients.append(httpx.Client(timeout=20, verify=False))  # no HTTPS here, whose certificates take long to read
        return Client(clients[-1], server.page(listener))

    yield made
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """Of nobody in particular."""
    with httpx.Client(timeout=20, verify=False) as client:
        yield client


ARTIFACTS = "VOCAL_RESTYLER_ARTIFACTS"
DESKTOP = {"width": 1000, "height": 800}


@pytest.fixture
def shot(tmp_path: Path) -> Callable[[Any, str], None]:
    """shot(page, name): a screenshot into the folder of artefacts."""
    folder = Path(os.environ.get(ARTIFACTS) or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=folder / f"listen-{name}.png", full_page=True)


@pytest.fixture
def page_of(browser: Any) -> Iterator[Callable]:
    """page_of(server, listener, viewport, script): an open page; what it complains about fails the test at its end.

    script: runs before the page's own, and has the policy that forbids it lifted.
    """
    contexts: list[Any] = []
    complaints: list[str] = []

    def opened(server: Any, listener: int, viewport: dict[str, int] = DESKTOP, script: str = "") -> Any:
        ours = (server.url, "blob:")
        context = browser.new_context(viewport=viewport, bypass_csp=bool(script))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.on("request", lambda asked: None if asked.url.startswith(ours) else complaints.append(asked.url))
        if script:
            page.add_init_script(script)
        page.goto(server.page(listener))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []  # no error, nothing that the policy stopped, no request to anybody else
