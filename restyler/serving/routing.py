"""How routes answer, wherever they are mounted: bodies within limits, refusals as one line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Callable, Coroutine, MutableMapping
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

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
    if error.status in (400, 408, 413, 500):
        more["Connection"] = "close"  # the body may be half read, or the server closes it
    return JSONResponse({"error": error.line, "field": error.field}, error.status, headers=more)


def from_validation(error: RequestValidationError) -> RefusedError:
    """The first thing that is wrong with a request, in one line."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header", "")]
    field = where[0] if where else None
    line = f"{'.'.join(where)}: {first['msg']}" if where else str(first["msg"])
    return RefusedError(422, " ".join(line.split())[:500], field=field, reason="invalid")


class Route(APIRoute):
    """A route of the service; `refused` is told the reason of every refusal."""

    refused: Callable[[str], None]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except RefusedError as error:
                refusal = error
            except RequestValidationError as error:
                refusal = from_validation(error)
            except FileNotFoundError:
                refusal = RefusedError(404, "it has been deleted in the meantime")
            except (InputError, OSError):  # a full disk, or one that fails
                print(traceback.format_exc(), file=sys.stderr, flush=True)
                refusal = RefusedError(507, "the service cannot read or store this now", reason="storage")
            self.refused(refusal.reason)
            return answer(refusal)

        return handled


M = TypeVar("M", bound=BaseModel)


def json_body(model: type[M]) -> Any:
    """For a route's parameter: the JSON of a request as `model`, read when the dependencies before it are content. What
    FastAPI takes for a body it reads before it asks who is there.

    It raises RefusedError (400, 408, 413, 415, 422).
    """

    async def read(request: Request) -> M:
        told = await _json(request)
        try:
            return model.model_validate(told)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error

    return Depends(read)


def said_as_json(model: type[BaseModel]) -> dict[str, Any]:
    """For a route's `openapi_extra`: the body that `json_body(model)` reads."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def whole(node: Any) -> Any:
        if isinstance(node, list):
            return [whole(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            node = {name: value for name, value in node.items() if name != "$ref"} | parts[node["$ref"].split("/")[-1]]
        return {name: whole(value) for name, value in node.items()}

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": whole(schema)}}}}


class SentFile(FileResponse):
    """A file, or a part of it, whose refusals are those of every route."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refused: Response | None = None

        async def unless_refused(message: MutableMapping[str, Any]) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] in (400, 416):
                size = [value.decode() for name, value in message["headers"] if name == b"content-range"]
                refusal = RefusedError(message["status"], "no such range of this file", field="Range")
                refused = answer(refusal, {"Content-Range": size[0]} if size else None)
            if refused is None:
                await send(message)

        if not await asyncio.to_thread(Path(self.path).is_file):
            refused = answer(RefusedError(404, "it has been deleted in the meantime"))
        else:
            await super().__call__(scope, receive, unless_refused)
        if refused is not None:
            await refused(scope, receive, send)


async def _json(request: Request) -> Any:
    """The body. Raises RefusedError (400, 408, 413, 415, 422)."""
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
    return _parsed(bytes(body))


def _parsed(body: bytes) -> Any:
    """Raises RefusedError (422) for what is no JSON, or says one name twice, of which parsers take either."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
            raise RefusedError(422, f"{shown(twice)[:100]} is said twice", field=twice, reason="invalid")
        return found

    try:
        return json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise RefusedError(422, "the body is not JSON", reason="invalid") from error
