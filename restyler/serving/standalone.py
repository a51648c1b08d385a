"""The service as an application of its own: the page, keys, health, metrics, headers and a log."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from restyler.serving import metrics
from restyler.serving.keys import by_key
from restyler.serving.logs import log, owner_digest
from restyler.serving.refusals import RefusedError
from restyler.serving.routes import router
from restyler.serving.routing import answer
from restyler.serving.service import Service

PAGE = Path(__file__).with_name("page")
MEDIA_TYPES = {".svg": "image/svg+xml", ".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src blob: 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SENT = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Range")
SHOWN = ("Content-Disposition", "Content-Range", "Retry-After")


def app(
    service: Service,
    *,
    local_key: str | None = None,
    hosts: Sequence[str] | None = None,
    origins: Sequence[str] = (),
    lifespan: Callable[..., Any] | None = None,
) -> FastAPI:
    """local_key: that of the local page, whose owner is "local". hosts: the Host headers that are answered; None: all.
    origins: of other sites, whose pages may ask. lifespan: service.lifespan, where nobody else starts the service.
    """
    found = FastAPI(
        title="vocal-restyler",
        version="1",
        description="A raw vocal take in, several finished mixes out.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # they would lead to whatever host the request named
        lifespan=lifespan,
    )
    found.include_router(router(service, owner=by_key(service.storage, local_key)))
    if origins:
        found.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=list(SENT),
            expose_headers=list(SHOWN),
        )
    found.add_middleware(_Rim, service=service, hosts=hosts)

    @found.get("/healthz", response_class=PlainTextResponse)
    def healthz() -> str:
        """The process lives."""
        return "ok\n"

    @found.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "not yet, or no more"}})
    def readyz() -> Response:
        """A worker has its model, and jobs are taken."""
        return PlainTextResponse("ready\n" if service.ready else "not ready\n", 200 if service.ready else 503)

    @found.get("/metrics", response_class=PlainTextResponse)
    def prometheus() -> Response:
        """For Prometheus."""
        return Response(service.metrics_text(), media_type=metrics.CONTENT_TYPE)

    def page_file(name: str) -> Response:
        files = {path.name: path for path in PAGE.iterdir() if path.suffix in MEDIA_TYPES} if PAGE.is_dir() else {}
        if name not in files:
            return answer(RefusedError(404, "not found"))
        headers = {"Cache-Control": "no-cache"}
        return FileResponse(files[name], media_type=MEDIA_TYPES[files[name].suffix], headers=headers)

    @found.get("/", include_in_schema=False)
    def page() -> Response:
        return page_file("index.html")

    @found.get("/page/{name}", include_in_schema=False)
    def page_part(name: str) -> Response:
        return page_file(name)

    async def no_route(_: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        line = {404: "not found", 405: "this method is not allowed here"}.get(status, str(getattr(error, "detail", "")))
        refused = answer(RefusedError(status, line or "refused"))
        refused.headers.update(getattr(error, "headers", None) or {})
        return refused

    found.add_exception_handler(HTTPException, no_route)
    return found


class _Rim:
    """Around every request: which host it names, headers, one line of the log, one count."""

    def __init__(
        self, app: Callable[..., Awaitable[None]], *, service: Service, hosts: Sequence[str] | None = None
    ) -> None:
        self._app, self._service = app, service
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, status = time.monotonic(), 0

        async def send_more(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        try:
            if self._foreign(scope):
                self._service.metrics.add("refused", reason="host")
                await answer(RefusedError(403, "not under this host name"))(scope, receive, send_more)
            else:
                await self._app(scope, receive, send_more)
        except Exception:
            if not status:  # nothing has been answered yet
                broken = RefusedError(500, "an error of the service; its log says more")
                await answer(broken)(scope, receive, send_more)
            raise  # the server logs it
        finally:
            route = getattr(scope.get("route"), "path", None)
            method = scope["method"] if route else "other"
            self._service.metrics.add("requests", route=route or "none", method=method, status=str(status))
            log(
                "request",
                method=method,
                route=route,
                status=status,
                ms=round(1000 * (time.monotonic() - started_s)),
                owner=owner_digest(scope.get("restyler.owner")),
            )

    def _foreign(self, scope: Any) -> bool:
        """A page elsewhere may have made its own name lead here, to ask in the browser's name (DNS rebinding)."""
        if self._hosts is None:
            return False
        named = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        return len(named) != 1 or named[0] not in self._hosts
