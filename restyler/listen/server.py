"""The HTTP of a listening test: who may ask for what, how large and how slow, and what the answer tells.

Imported by `restyler.listen.serve_command` alone: it needs the extra `listen`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import hmac
import http
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from restyler.listen import headphones, results, storage
from restyler.listen.flow import ACTIONS, Flow
from restyler.listen.plan import ListeningTest
from restyler.listen.sessions import RefusedError
from restyler.listen.sounds import disguised, noise_seed, path_of, size_bytes, wav_bytes
from restyler.listen.webmushra_post import posted_session, resolved
from restyler.listen.writer import StorageError, Writer

PAGE = Path(__file__).with_name("page")
MEDIA_TYPES = {".svg": "image/svg+xml", ".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
LIMIT_BYTES = 64 * 1024
SESSION_LIMIT_BYTES = 1024 * 1024  # a whole test of webMUSHRA in one post
BODY_S = 10.0  # for a body to come in
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
    " object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # addresses hold tokens
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def token_digest(token: str) -> str:
    """What the plan keeps of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def listener_of(plan: ListeningTest, token: str) -> int:
    """Whose token it is; compared with every listener's in constant time. RefusedError (404) where nobody's."""
    digest = token_digest(token)
    matches = [hmac.compare_digest(digest, known) for known in plan.listener_tokens_sha256]
    if not any(matches):
        raise RefusedError(404, "not found")
    return matches.index(True)


def application(
    folder: Path, plan: ListeningTest, flow: Flow, writer: Writer, *, webmushra: bool = False, body_s: float = BODY_S
) -> FastAPI:
    """The application of one test.

    webmushra: takes webMUSHRA's posts too, which carry no token. body_s: seconds that a browser has to send a message.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(_Headers)
    files = {path.name: (path.read_bytes(), MEDIA_TYPES[path.suffix]) for path in sorted(PAGE.iterdir())}

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return JSONResponse({"error": error.line}, error.status)

    @app.exception_handler(StorageError)
    async def not_stored(_: Request, __: StorageError) -> Response:
        return JSONResponse({"error": "not saved: the server cannot store anything now"}, 507)

    async def no_route(_: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        return JSONResponse({"error": http.HTTPStatus(status).phrase.lower()}, status)

    for status in (400, 404, 405):
        app.add_exception_handler(status, no_route)

    @app.get("/l/{token}")
    async def page(token: str) -> Response:
        listener_of(plan, token)
        return Response(files["index.html"][0], media_type="text/html")

    @app.get("/page/{name}")
    async def page_file(name: str) -> Response:
        if name not in files or name == "index.html":
            raise RefusedError(404, "not found")
        return Response(files[name][0], media_type=files[name][1])

    @app.get("/l/{token}/state")
    async def state(token: str) -> Response:
        listener = listener_of(plan, token)
        return JSONResponse(await writer.run(lambda connection: flow.state(connection, listener)))

    @app.get("/l/{token}/sound/{name}")
    async def sound(token: str, name: str) -> Response:
        listener = listener_of(plan, token)
        where, question, stimulus = await writer.run(lambda connection: flow.sound(connection, listener, name))
        seed = noise_seed(flow.secret, listener, where, question)
        if stimulus is None:
            data = await asyncio.to_thread(_check_sound, flow, listener, where, question, seed)
            return _wav(iter([data]), len(data))
        path = path_of(folder, stimulus)
        return _wav(disguised(path, seed), await asyncio.to_thread(size_bytes, path))

    @app.post("/l/{token}/{action}")
    async def act(token: str, action: str, request: Request) -> Response:
        listener = listener_of(plan, token)
        if action not in ACTIONS:
            raise RefusedError(404, "not found")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise RefusedError(415, "application/json is needed")
        body = await _body(request, LIMIT_BYTES, body_s)
        return JSONResponse(await writer.run(lambda connection: flow.act(connection, listener, action, body)))

    @app.get("/owner/results.{form}")
    async def owner(form: str, request: Request) -> Response:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(token_digest(token.strip()), plan.owner_token_sha256):
            return JSONResponse(
                {"error": "the owner's token is needed: Authorization: Bearer TOKEN"},
                401,
                headers={"WWW-Authenticate": "Bearer"},
            )
        if form not in ("csv", "json"):
            raise RefusedError(404, "not found")
        answers = await asyncio.to_thread(storage.answers, folder)
        if form == "csv":
            return Response(results.as_csv(answers), media_type="text/csv")
        listeners = await asyncio.to_thread(storage.listeners, folder)
        return JSONResponse({"answers": [dataclasses.asdict(answer) for answer in answers], "listeners": listeners})

    async def write_php(request: Request) -> Response:
        """webMUSHRA takes any other answer than 200 and nothing for a failure."""
        session, text = posted_session(await _body(request, SESSION_LIMIT_BYTES, body_s))
        pages = resolved(plan, session)
        kept = await writer.run(
            lambda connection: storage.add_session(connection, session.uuid, text, pages, flow.now_s())
        )
        if not kept:
            raise RefusedError(409, f"another session has the uuid {session.uuid}")
        return Response(b"", 200, headers={"Access-Control-Allow-Origin": "*"})  # its pages may lie elsewhere

    if webmushra:
        app.add_api_route("/service/write.php", write_php, methods=["POST"])
    return app


def _check_sound(flow: Flow, listener: int, stage: str, question: int, seed: int) -> bytes:
    rate_hz = flow.plan.sample_rate_hz
    if stage == "level":
        return wav_bytes(headphones.level_noise(rate_hz, flow.loudness_lufs), rate_hz, seed)
    order = headphones.orders(flow.plan.seed, listener)[question]
    return wav_bytes(headphones.tones(order, rate_hz, flow.loudness_lufs), rate_hz, seed)


def _wav(pieces: Iterator[bytes], size: int) -> Response:
    return StreamingResponse(pieces, media_type="audio/wav", headers={"Content-Length": str(size)})


async def _body(request: Request, limit_bytes: int, within_s: float) -> bytes:
    """The body of a request.

    RefusedError (413, 408, 400) where it is too large or too slow, before more of it is read, or breaks off.
    """
    too_large = RefusedError(413, f"at most {limit_bytes} bytes are taken")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limit_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(400, "the message broke off")
                body += message.get("body", b"")
                if len(body) > limit_bytes:
                    raise too_large
                if not message.get("more_body", False):
                    break
    except TimeoutError as error:
        raise RefusedError(408, f"the message did not come in within {within_s:g} s") from error
    return bytes(body)


class _Headers:
    """Sends HEADERS with every answer, and closes the connection after a refusal whose body may be half read."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_more(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                more: Iterable[tuple[str, str]] = HEADERS.items()
                if message["status"] in (408, 413):
                    more = [*more, ("Connection", "close")]
                message["headers"] = [*message["headers"], *((k.lower().encode(), v.encode()) for k, v in more)]
            await send(message)

        await self._app(scope, receive, send_more if scope["type"] == "http" else send)
