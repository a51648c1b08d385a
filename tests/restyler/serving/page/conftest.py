"""The service's page, open in Chromium."""

from __future__ import annotations

import functools
import http.server
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import restyler.serving
from restyler.model_folder import BUNDLED


class Files(http.server.SimpleHTTPRequestHandler):
    """The page's files, and an empty page to try its modules in."""

    def do_GET(self) -> None:
        if self.path != "/":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>modules</title>")
        return None

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def page_files() -> Iterator[str]:
    folder = Path(restyler.serving.__path__[0])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def service(start_service: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`restyler serve` with the bundled model, one job at a time, ready for it."""
    data = tmp_path_factory.mktemp("page") / "data"
    limits = ("--limit-in-flight=1", "--limit-bytes=5000000", "--limit-requests-a-minute=100000")
    with start_service(data, "--model", str(BUNDLED), *limits) as started:
        deadline = time.monotonic() + 120
        while httpx.get(f"{started.url}/readyz", verify=False).status_code != 200:
            assert time.monotonic() < deadline, started.log.read_text()
            time.sleep(0.1)
        yield started


@pytest.fixture(scope="module")
def api(service: Any) -> Iterator[httpx.Client]:
    """What the page's owner sees without the page."""
    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=f"{service.url}/v1", headers=headers, timeout=60, verify=False) as client:
        yield client


DESKTOP = {"width": 1280, "height": 900}
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@pytest.fixture
def open_page(browser: Any, service: Any) -> Iterator[Callable[..., Any]]:
    """open_page(viewport=…, script="", rest="", **context): the page, with its key, ready. What it complains
    about, what its policy stopped, and what it asks of anybody else fails the test at its end.

    script runs before the page's own; rest: more of the address; context: of Playwright's new_context.
    """
    pages: list[Any] = []
    contexts: list[Any] = []
    complaints: list[str] = []

    def opened(viewport: dict[str, int] = DESKTOP, script: str = "", rest: str = "", **more: Any) -> Any:
        context = browser.new_context(viewport=viewport, accept_downloads=True, **more)
        contexts.append(context)
        page = context.new_page()
        pages.append(page)
        page.set_default_timeout(60_000)
        ours = (service.url, "blob:", "data:")
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.on("request", lambda asked: None if asked.url.startswith(ours) else complaints.append(asked.url))
        page.add_init_script(WATCH + script)
        page.goto(f"{service.url}/#key={service.key}{rest}")
        page.wait_for_selector("body[data-ready]")
        assert service.key not in page.url
        return page

    yield opened
    stopped = [violation for page in pages for violation in page.evaluate("window.violations")]
    for context in contexts:
        context.close()
    assert (complaints, stopped) == ([], [])


@pytest.fixture
def shot(tmp_path: Path) -> Callable[[Any, str], None]:
    """shot(page, name): a screenshot into the folder of artefacts."""
    folder = Path(os.environ.get("VOCAL_RESTYLER_ARTIFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=folder / f"service-{name}.png", full_page=True)
