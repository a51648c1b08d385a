"""How routes answer, wherever they are mounted: bodies within limits, refusals as one line of JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from audio.errors import InputError
from restyler.command import shown
from restyler.serving.refusals import RefusedError
from restyler.serving.requests import Problem

BODY_BYTES = 64 * 1024  # of JSON
BODY_S = 10.0


Responses = dict[int | str, dict[str, Any]]


def sent(*media_types: str, ranges: bool = False) -> Responses:
    """For a route's `responses`: files of these types."""
    content = {name: {"schema": {"type": "string", "format": "binary"}} for name in media_types}
    whole: Responses = {200: {"content": content}}
    return whole | ({206: {"content": content, "description": "a range of it"}} if ranges else {})


def refusals(*statuses: int) -> Responses:
    """For a route's `responses`: these, and those that every route has."""
    said = {
        400: "the request breaks off, or is no request",
        401: "a key is needed",
        403: "not under this host name",
        404: "there is no such thing of this caller's",
        408: "too slow",
        409: "not now",
        413: "too large",
        415: "another content type is needed",
        416: "no such range",
        422: "what is asked for can't be had",
        429: "too much at once: see Retry-After",
        503: "not now: see Retry-After",
        507: "no room",
    }
    return {
        status: {"model": Problem, "description": said[status]} for status in sorted({401, 403, 429, 507, *statuses})
    }


def answer(error: RefusedError, headers: dict[str, str] | None = None) -> JSONResponse:
    more = dict(headers or {})
    if error.retry_after_s is not None:
        more["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        more["WWW-Authenticate"] = "Bearer"
    if error.status in (400, 408, 413):
        more["Connection"] = "close"  # the body may be half read
    return JSONResponse({"error": error.line, "field": error.field}, error.status, headers=more)


def from_validation(error: RequestValidationError) -> RefusedError:
    """The first thing that is wrong with a request, in one line."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    field = where[0] if where else None
    line = f"{'.'.join(where)}: {first['msg']}" if where else str(first["msg"])
    if first["type"] == "json_invalid":
        field, line = None, "the body is not JSON"
    return RefusedError(422, " ".join(line.split())[:500], field=field, reason="invalid")


class Route(APIRoute):
    """A route of the service; `refused` is told the reason of every refusal."""

    refused: Callable[[str], None]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                if self.body_field is not None:
                    request = await _with_body(request)
                return await handle(request)
            except RefusedError as error:
                refusal = error
            except RequestValidationError as error:
                refusal = from_validation(error)
            except InputError as error:
                refusal = RefusedError(507, str(error), reason="storage")
            self.refused(refusal.reason)
            return answer(refusal)

        return handled


async def _with_body(request: Request) -> Request:
    """The request with its body read. Raises RefusedError (400, 408, 413, 415)."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "application/json is needed")
    length = request.headers.get("content-length", "0")
    too_large = RefusedError(413, f"a body of up to {BODY_BYTES} bytes is taken", reason="too_large")
    if not length.isdecimal() or int(length) > BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(400, "the request broke off", reason="broken_off")
                body += message.get("body", b"")
                if len(body) > BODY_BYTES:
                    raise too_large
                if not message.get("more_body", False):
                    break
    except TimeoutError as error:
        raise RefusedError(408, f"the body did not come in within {BODY_S:g} s", reason="too_slow") from error
    _require_plain(bytes(body))
    whole = Request(request.scope, request.receive)
    whole._body = bytes(body)
    return whole


def _require_plain(body: bytes) -> None:
    """Raises RefusedError (422) for what is no JSON, or says one name twice, of which parsers take either."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
            raise RefusedError(422, f"{shown(twice)[:100]} is said twice", field=twice, reason="invalid")
        return found

    try:
        json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise RefusedError(422, "the body is not JSON", reason="invalid") from error
